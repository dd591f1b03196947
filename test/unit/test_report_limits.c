/* The limits of an agent's report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metadata/report_limits.h"

static const ReportEncoding utf8 = { true, report_clip_utf8 };

static ReportText
text(const char *string)
{
	return (ReportText){ string, strlen(string) };
}

/* A text of n bytes; to be freed. */
static ReportText
filled(size_t n)
{
	char *data = malloc(n + 1);

	memset(data, 'x', n);
	return (ReportText){ data, n };
}

static void
assert_text(ReportText got, const char *wanted)
{
	assert_int_equal(got.length, strlen(wanted));
	assert_memory_equal(got.data, wanted, got.length);
}

/* White space as Unicode has it goes from both ends, and nothing else. */
static void
trims(void **state)
{
	static const char *const spaces[] = { "\t",			  "\n",			  "\v",
										  "\f",			  "\r",			  " ",
										  "\xC2\x85",	  "\xC2\xA0",	  "\xE1\x9A\x80",
										  "\xE2\x80\x80", "\xE2\x80\x8A", "\xE2\x80\xA8",
										  "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F",
										  "\xE3\x80\x80" };
	static const char *const others[] = { "\xC2\x84",	  "\xE2\x80\x8B",	  "\xE1\xA0\x8E",
										  "\xEF\xBB\xBF", "\xF0\x9F\x98\x80", "\x1F",
										  "\x7F" };
	char padded[64];

	(void) state;
	assert_text(report_trim(text(""), true), "");
	assert_text(report_trim(text("a b"), true), "a b");
	assert_text(report_trim(text(" \t\n"), true), "");
	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
	{
		snprintf(padded, sizeof(padded), "%s%sa%sb%s", spaces[i], spaces[i], spaces[i], spaces[i]);
		char wanted[16];

		snprintf(wanted, sizeof(wanted), "a%sb", spaces[i]);
		assert_text(report_trim(text(padded), true), wanted);
		assert_text(report_trim(text(spaces[i]), true), "");
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		snprintf(padded, sizeof(padded), " %s ", others[i]);
		assert_text(report_trim(text(padded), true), others[i]);
	}
}

/* In other encodings than UTF-8 only ASCII's white space is known. */
static void
trims_other_encodings(void **state)
{
	(void) state;
	assert_text(report_trim(text(" \xC2\xA0 "), false), "\xC2\xA0");
}

/* A value of 2,048 bytes stays; one of 2,049 is cut and its error says so. */
static void
cuts_values(void **state)
{
	ReportText value = filled(2049);
	ReportEntry entry = { text("key"), { value.data, 2048 }, text("why"), .message = "" };

	(void) state;
	report_apply_limits(&entry, &utf8);
	assert_int_equal(entry.value.length, 2048);
	assert_text(entry.error, "why");

	entry.value.length = 2049;
	report_apply_limits(&entry, &utf8);
	assert_int_equal(entry.value.length, 2048);
	assert_text(entry.error, "value of 2049 bytes exceeded 2048 bytes");
	free((char *) value.data);
}

/* An error that is too long wins over both. */
static void
replaces_errors(void **state)
{
	ReportText value = filled(3000);
	ReportText error = filled(2049);
	ReportEntry entry = { text("key"), text("v"), { error.data, 2048 }, .message = "" };

	(void) state;
	report_apply_limits(&entry, &utf8);
	assert_int_equal(entry.error.length, 2048);

	entry.error = error;
	report_apply_limits(&entry, &utf8);
	assert_text(entry.error, "error of 2049 bytes exceeded 2048 bytes");
	assert_text(entry.value, "v");

	entry.value = value;
	entry.error = error;
	report_apply_limits(&entry, &utf8);
	assert_int_equal(entry.value.length, 2048);
	assert_text(entry.error, "error of 2049 bytes exceeded 2048 bytes");
	free((char *) value.data);
	free((char *) error.data);
}

/* Lengths are of what remains after trimming. */
static void
trims_before_it_measures(void **state)
{
	ReportText value = filled(2060);
	ReportEntry entry = { text("key"), value, text(" \n"), .message = "" };

	(void) state;
	memset((char *) value.data, ' ', 6);
	memset((char *) value.data + 2054, '\n', 6);
	report_apply_limits(&entry, &utf8);
	assert_int_equal(entry.value.length, 2048);
	assert_int_equal(entry.error.length, 0);
	free((char *) value.data);
}

/* A value is cut between characters. */
static void
cuts_between_characters(void **state)
{
	ReportText value = filled(2050);
	ReportEntry entry = { text("key"), value, text(""), .message = "" };

	(void) state;
	memcpy((char *) value.data + 2046, "\xE2\x82\xAC!", 4);
	report_apply_limits(&entry, &utf8);
	assert_int_equal(entry.value.length, 2046);
	assert_text(entry.error, "value of 2050 bytes exceeded 2048 bytes");
	free((char *) value.data);
}

/* Every prefix of UTF-8 text ends between characters, and is the longest that does. */
static void
clips_utf8(void **state)
{
	const char *mixed = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
	static const size_t wanted[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11 };

	(void) state;
	for (size_t limit = 0; limit < sizeof(wanted) / sizeof(wanted[0]); limit++)
		assert_int_equal(report_clip_utf8(mixed, 11, limit), wanted[limit]);
}

/* Bytes that are no UTF-8 are cut at the limit, and nothing beyond them is read. */
static void
clips_other_bytes(void **state)
{
	static const char *const others[] = { "\xE9\xE9\xE9\xE9\xE9", "\x80\x80\x80\x80\x80\x80",
										  "a\xBF\xBF\xBF\xBF", "\xC3\xA9\xA9\xA9\xA9", "ab\xC3zz" };

	(void) state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(report_clip_utf8(others[i], 5, 4), 4);
	for (size_t length = 1; length < 8; length++)
		for (size_t limit = 0; limit <= length; limit++)
		{
			char *bytes = malloc(length);

			memset(bytes, 0x80, length);
			assert_true(report_clip_utf8(bytes, length, limit) <= limit);
			free(bytes);
		}
}

/* What is no text is replaced by an error that says so. */
static void
replaces_what_is_no_text(void **state)
{
	ReportText value = filled(3000);
	ReportFault fault = { "UTF8", 3000, 7 };
	ReportEntry entry = { text("key"), value, text("why"), .value_fault = fault };
	char longest[200];

	(void) state;
	report_apply_limits(&entry, &utf8);
	assert_text(entry.value, "");
	assert_text(entry.error, "value of 3000 bytes is not UTF8 text from byte 7 on");

	/* an error that is none wins over both */
	entry = (ReportEntry){ text("key"), text(" v "), value, .error_fault = fault };
	report_apply_limits(&entry, &utf8);
	assert_text(entry.value, "v");
	assert_text(entry.error, "error of 3000 bytes is not UTF8 text from byte 7 on");

	entry = (ReportEntry){ text("key"), value, value, .value_fault = fault, .error_fault = fault };
	report_apply_limits(&entry, &utf8);
	assert_text(entry.value, "");
	assert_text(entry.error, "error of 3000 bytes is not UTF8 text from byte 7 on");

	/* the longest message there can be */
	entry = (ReportEntry){ text("key"), .value_fault = { "SHIFT_JIS_2004", SIZE_MAX, SIZE_MAX } };
	report_apply_limits(&entry, &utf8);
	snprintf(longest, sizeof(longest),
			 "value of %zu bytes is not SHIFT_JIS_2004 text from byte %zu on", SIZE_MAX, SIZE_MAX);
	assert_text(entry.error, longest);
	free((char *) value.data);
}

/* Keys are taken in order up to 6,144 bytes, and none after the first that exceeds them. */
static void
limits_keys(void **state)
{
	ReportText key = filled(6145);
	ReportEntry entries[4] = { { .key = { key.data, 6000 } },
							   { .key = { key.data, 144 } },
							   { .key = { key.data, 1 } },
							   { .key = { key.data, 0 } } };
	size_t exceeding;

	(void) state;
	assert_int_equal(report_keys_within_limit(entries, 0, &exceeding), 0);
	assert_int_equal(exceeding, 0);
	assert_int_equal(report_keys_within_limit(entries, 2, &exceeding), 2);
	assert_int_equal(exceeding, 0);
	assert_int_equal(report_keys_within_limit(entries, 4, &exceeding), 2);
	assert_int_equal(exceeding, 6145);
	entries[0].key.length = 6145;
	assert_int_equal(report_keys_within_limit(entries, 4, &exceeding), 0);
	assert_int_equal(exceeding, 6145);
	free((char *) key.data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trims),
		cmocka_unit_test(trims_other_encodings),
		cmocka_unit_test(cuts_values),
		cmocka_unit_test(replaces_errors),
		cmocka_unit_test(trims_before_it_measures),
		cmocka_unit_test(cuts_between_characters),
		cmocka_unit_test(clips_utf8),
		cmocka_unit_test(clips_other_bytes),
		cmocka_unit_test(replaces_what_is_no_text),
		cmocka_unit_test(limits_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
