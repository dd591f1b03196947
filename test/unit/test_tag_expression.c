/*
 * test_tag_expression.c
 *	  Tables of tag values, and random ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decision/tag_expression.h"

typedef struct Case
{
	const char *source;
	TagExpressionKind kind;
	const char *value;
} Case;

static const Case literals[] = {
	{ "\"\"", TAG_LITERAL, "" },
	{ "\"eu-west\"", TAG_LITERAL, "eu-west" },
	{ " \t\n\r\n\"eu\"\r\n\n ", TAG_LITERAL, "eu" },
	{ "\"a b\tc\"", TAG_LITERAL, "a b\tc" },
	{ "\"\\n\\r\\t\\\"\\\\\"", TAG_LITERAL, "\n\r\t\"\\" },
	{ "\"\\u0041\\u00e9\\u00E9\\u20ac\"", TAG_LITERAL, "A\xc3\xa9\xc3\xa9\xe2\x82\xac" },
	{ "\"\\U0001F600\\U00000041\"", TAG_LITERAL,
	  "\xf0\x9f\x98\x80"
	  "A" },
	{ "\"\\U0010FFFF\"", TAG_LITERAL, "\xf4\x8f\xbf\xbf" },
	{ "\"\\u07ff\\u0800\\uffff\\U00010000\"", TAG_LITERAL,
	  "\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80" },
	{ "\"gr\xc3\xbc\xc3\x9f\"", TAG_LITERAL, "gr\xc3\xbc\xc3\x9f" },
	{ "\"$${a} %%{b}\"", TAG_LITERAL, "${a} %{b}" },
	{ "\"$${\"", TAG_LITERAL, "${" },
	{ "\"$ $$ $$$ % %% 100%\"", TAG_LITERAL, "$ $$ $$$ % %% 100%" },
	{ "\"$%{\"", TAG_OTHER, "" },
	{ "\"%${\"", TAG_OTHER, "" },
	{ "\"{a}\"", TAG_LITERAL, "{a}" },
	{ "\"# no comment // /* */\"", TAG_LITERAL, "# no comment // /* */" },
	{ "\"var.x\"", TAG_LITERAL, "var.x" },
};

static const Case references[] = {
	{ "data.coder_parameter.region.value", TAG_PARAMETER, "region" },
	{ "  data.coder_parameter.region.value\n", TAG_PARAMETER, "region" },
	{ "data . coder_parameter\n.region . value", TAG_PARAMETER, "region" },
	{ "data.coder_parameter.a-b_9.value", TAG_PARAMETER, "a-b_9" },
	{ "data.coder_parameter._.value", TAG_PARAMETER, "_" },
	{ "data.coder_parameter.gr\xc3\xb6\xc3\x9f"
	  "e.value",
	  TAG_PARAMETER,
	  "gr\xc3\xb6\xc3\x9f"
	  "e" },
	{ "data.coder_parameter[\"region\"].value", TAG_PARAMETER, "region" },
	{ "data.coder_parameter[ \"a \\\"b\\\"\" ] .value", TAG_PARAMETER, "a \"b\"" },
	{ "data.coder_parameter.value.value", TAG_PARAMETER, "value" },
	{ "data.coder_parameter.data.value", TAG_PARAMETER, "data" },
	{ "var.zone", TAG_VARIABLE, "zone" },
	{ "\tvar . zone ", TAG_VARIABLE, "zone" },
	{ "var.data", TAG_VARIABLE, "data" },
};

static const Case others[] = {
	{ "", TAG_OTHER, "" },
	{ " ", TAG_OTHER, "" },
	/* strings that are wrong or need an evaluator */
	{ "\"", TAG_OTHER, "" },
	{ "\"a", TAG_OTHER, "" },
	{ "\"a\\\"", TAG_OTHER, "" },
	{ "\"a\" \"b\"", TAG_OTHER, "" },
	{ "\"a\"b", TAG_OTHER, "" },
	{ "\"a\" # comment", TAG_OTHER, "" },
	{ "\"a\nb\"", TAG_OTHER, "" },
	{ "\"a\rb\"", TAG_OTHER, "" },
	{ "\"${x}\"", TAG_OTHER, "" },
	{ "\"a${var.x}b\"", TAG_OTHER, "" },
	{ "\"%{if true}a%{endif}\"", TAG_OTHER, "" },
	{ "\"$$${x}\"", TAG_OTHER, "" },
	{ "\"\\${x}\"", TAG_OTHER, "" },
	{ "\"\\x41\"", TAG_OTHER, "" },
	{ "\"\\'\"", TAG_OTHER, "" },
	{ "\"\\u004\"", TAG_OTHER, "" },
	{ "\"\\u004g\"", TAG_OTHER, "" },
	{ "\"\\U0000004\"", TAG_OTHER, "" },
	{ "\"\\u0000\"", TAG_OTHER, "" },
	{ "\"\\ud83d\\ude00\"", TAG_OTHER, "" },
	{ "\"\\U00110000\"", TAG_OTHER, "" },
	{ "\"\\UFFFFFFFF\"", TAG_OTHER, "" },
	{ "'a'", TAG_OTHER, "" },
	{ "<<EOT\na\nEOT\n", TAG_OTHER, "" },
	/* references to something else */
	{ "data", TAG_OTHER, "" },
	{ "data.coder_parameter", TAG_OTHER, "" },
	{ "data.coder_parameter.region", TAG_OTHER, "" },
	{ "data.coder_parameter.region.name", TAG_OTHER, "" },
	{ "data.coder_parameter.region.value.x", TAG_OTHER, "" },
	{ "data.coder_parameter.region.values", TAG_OTHER, "" },
	{ "data.coder_parameter.region[\"value\"]", TAG_OTHER, "" },
	{ "data.coder_parameter.region.value[0]", TAG_OTHER, "" },
	{ "data.coder_parameter.0.value", TAG_OTHER, "" },
	{ "data.coder_parameter.-a.value", TAG_OTHER, "" },
	{ "data.coder_parameter..value", TAG_OTHER, "" },
	{ "data.coder_parameter[0].value", TAG_OTHER, "" },
	{ "data.coder_parameter[region].value", TAG_OTHER, "" },
	{ "data.coder_parameter[\"${x}\"].value", TAG_OTHER, "" },
	{ "data.coder_parameter[\"a\".value", TAG_OTHER, "" },
	{ "data.coder_parameter[\"a\"]", TAG_OTHER, "" },
	{ "data.coder_parameters.a.value", TAG_OTHER, "" },
	{ "data.coder_workspace_owner.me.name", TAG_OTHER, "" },
	{ "database.coder_parameter.a.value", TAG_OTHER, "" },
	{ "var", TAG_OTHER, "" },
	{ "var.", TAG_OTHER, "" },
	{ "var.9", TAG_OTHER, "" },
	{ "var.a.b", TAG_OTHER, "" },
	{ "var.a[0]", TAG_OTHER, "" },
	{ "var[\"a\"]", TAG_OTHER, "" },
	{ "variable.a", TAG_OTHER, "" },
	{ "local.zone", TAG_OTHER, "" },
	{ ".a", TAG_OTHER, "" },
	/* expressions */
	{ "1", TAG_OTHER, "" },
	{ "true", TAG_OTHER, "" },
	{ "null", TAG_OTHER, "" },
	{ "(\"a\")", TAG_OTHER, "" },
	{ "lower(var.a)", TAG_OTHER, "" },
	{ "var.a == \"b\" ? \"c\" : \"d\"", TAG_OTHER, "" },
	{ "\"a\" == \"b\"", TAG_OTHER, "" },
	{ "[\"a\"]", TAG_OTHER, "" },
	{ "{}", TAG_OTHER, "" },
	{ "var.a\r", TAG_OTHER, "" },
};

/* Parse a copy without a terminator, so that the sanitizer sees a byte read too many. */
static TagExpressionKind
parse_exactly(const char *source, size_t length, char **value)
{
	char *copy = malloc(length > 0 ? length : 1);
	TagExpressionKind kind;

	*value = malloc(length + 1);
	assert_non_null(copy);
	assert_non_null(*value);
	memcpy(copy, source, length);
	memset(*value, 'x', length + 1);
	kind = tag_expression_parse(copy, length, *value);
	assert_true(memchr(*value, '\0', length + 1) != NULL);
	free(copy);
	return kind;
}

static void
check_cases(const Case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		char *value;
		TagExpressionKind kind = parse_exactly(cases[i].source, strlen(cases[i].source), &value);

		if (kind != cases[i].kind || strcmp(value, cases[i].value) != 0)
			fail_msg("%s gives %d <%s>, not %d <%s>", cases[i].source, (int) kind, value,
					 (int) cases[i].kind, cases[i].value);
		free(value);
	}
}

#define CHECK_CASES(cases) check_cases(cases, sizeof(cases) / sizeof((cases)[0]))

static void
test_literals(void **state)
{
	(void) state;
	CHECK_CASES(literals);
}

static void
test_references(void **state)
{
	(void) state;
	CHECK_CASES(references);
}

static void
test_others(void **state)
{
	(void) state;
	CHECK_CASES(others);
}

static void
test_nul_is_no_text(void **state)
{
	char *value;

	(void) state;
	assert_int_equal(parse_exactly("\"a\0b\"", 5, &value), TAG_OTHER);
	assert_string_equal(value, "");
	free(value);
	assert_int_equal(parse_exactly("var.a\0", 6, &value), TAG_OTHER);
	free(value);
}

/* What is parsed as a reference is written back and parsed again; literals survive quoting. */
static void
test_random_pieces(void **state)
{
	static const char *pieces[] = { "\"",
									"\\",
									"u",
									"U0001F600",
									"0041",
									"$",
									"%",
									"{",
									"}",
									"data",
									"coder_parameter",
									".",
									"[",
									"]",
									"value",
									"var",
									"a",
									"-",
									"\xc3",
									" ",
									"\n",
									"\r",
									"\xe2\x82\xac",
									"n" };
	int seen[4] = { 0 };

	(void) state;
	srand(20240611);
	for (int round = 0; round < 300000; round++)
	{
		char source[256] = "";
		char again[300];
		char *value;
		char *value_again;
		int count = rand() % 9;
		TagExpressionKind kind;

		if (rand() % 4 == 0)
			strcat(source, "data.coder_parameter");
		if (rand() % 4 == 0)
			strcat(source, "var.");
		for (int i = 0; i < count; i++)
			strcat(source, pieces[rand() % (sizeof(pieces) / sizeof(pieces[0]))]);
		if (rand() % 4 == 0)
			strcat(source, ".value");

		kind = parse_exactly(source, strlen(source), &value);
		seen[kind]++;
		assert_true(strlen(value) <= strlen(source));
		if (kind == TAG_VARIABLE)
		{
			snprintf(again, sizeof(again), "var.%s", value);
			assert_int_equal(parse_exactly(again, strlen(again), &value_again), TAG_VARIABLE);
			assert_string_equal(value, value_again);
			free(value_again);
		}
		free(value);
	}
	for (int kind = 0; kind < 4; kind++)
		assert_true(seen[kind] > 0);
}

static void
test_random_bytes(void **state)
{
	(void) state;
	srand(7);
	for (int round = 0; round < 200000; round++)
	{
		char source[24];
		char *value;
		size_t length = rand() % sizeof(source);

		for (size_t i = 0; i < length; i++)
			source[i] = (char) rand();
		if (length > 0 && round % 2 == 0)
			source[0] = '"';
		parse_exactly(source, length, &value);
		free(value);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_literals),	  cmocka_unit_test(test_references),
		cmocka_unit_test(test_others),		  cmocka_unit_test(test_nul_is_no_text),
		cmocka_unit_test(test_random_pieces), cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
