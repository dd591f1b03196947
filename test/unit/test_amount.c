/*
 * test_amount.c
 *	  Tables of amounts, and random ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decision/amount.h"

typedef struct Case
{
	const char *text;
	int32_t value;
	bool percent;
} Case;

static const Case amounts[] = {
	{ "0", 0, false },		 { "1", 1, false },
	{ "10", 10, false },	 { "999999999", 999999999, false },
	{ "0%", 0, true },		 { "1%", 1, true },
	{ "25%", 25, true },	 { "100%", 100, true },
	{ "1000%", 1000, true },
};

static const char *const others[] = {
	"",
	"%",
	"-1",
	"-1%",
	"+1",
	"+1%",
	" 5",
	"5 ",
	"5 %",
	"5% ",
	"\t5",
	"5\n",
	"5%%",
	"%5",
	"5%5",
	"1.5",
	"1.5%",
	"1,5",
	"1e3",
	"0x10",
	"010",
	"00",
	"00%",
	"01%",
	"1000000000",
	"1001%",
	"999999999%",
	"five",
	"5p",
	"5s",
	"5kB",
	"\xd9\xa5",
	"18446744073709551617",
	"18446744073709551617%",
};

/* Every amount is what it says. */
static void
test_amounts(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(amounts) / sizeof(amounts[0]); i++)
	{
		Amount amount = { -1, !amounts[i].percent };

		if (!amount_parse(amounts[i].text, &amount))
			fail_msg("\"%s\" is refused", amounts[i].text);
		if (amount.value != amounts[i].value || amount.percent != amounts[i].percent)
			fail_msg("\"%s\" is %d%s", amounts[i].text, amount.value, amount.percent ? "%" : "");
	}
}

/* Other texts are none, and change nothing. */
static void
test_others(void **state)
{
	Amount amount = { 7, true };

	(void) state;
	assert_false(amount_parse(NULL, &amount));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		if (amount_parse(others[i], &amount))
			fail_msg("\"%s\" is taken for %d%s", others[i], amount.value,
					 amount.percent ? "%" : "");
		assert_int_equal(amount.value, 7);
		assert_true(amount.percent);
	}
}

/* What a random text says, if it says anything, is what it looks like when written again. */
static void
test_random(void **state)
{
	static const char letters[] = "0123456789%% -+.e";
	int parsed = 0;

	(void) state;
	srand(20250602);
	for (int round = 0; round < 200000; round++)
	{
		char text[13];
		char again[16];
		Amount amount;
		int length = rand() % 12;

		for (int i = 0; i < length; i++)
			text[i] = letters[rand() % (rand() % 4 == 0 ? sizeof(letters) - 1 : 11)];
		text[length] = '\0';
		if (!amount_parse(text, &amount))
			continue;
		parsed++;
		snprintf(again, sizeof(again), "%d%s", (int) amount.value, amount.percent ? "%" : "");
		assert_string_equal(again, text);
	}
	assert_true(parsed > 1000);
}

/* Shares are rounded down; nothing overflows. */
static void
test_shares(void **state)
{
	(void) state;
	assert_int_equal(amount_of((Amount){ 3, false }, 100), 3);
	assert_int_equal(amount_of((Amount){ 50, true }, 5), 2);
	assert_int_equal(amount_of((Amount){ 100, true }, 5), 5);
	assert_int_equal(amount_of((Amount){ 1, true }, 99), 0);
	assert_int_equal(amount_of((Amount){ 1000, true }, INT32_MAX), INT32_MAX);
	assert_int_equal(amount_of((Amount){ 1000, true }, INT64_MAX), INT32_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_amounts),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
