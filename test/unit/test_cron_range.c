/*
 * test_cron_range.c
 *	  Tables of expressions, and random ones against a second reading of the rules that shares
 *	  nothing with the first: it keeps what was generated, not bitmaps, and asks day by day.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cron/cron_range.h"

/* ---- random numbers, the same in every run ---- */

static uint64_t random_state = 88172645463325252u;

static int
random_below(int limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (int) (random_state % (uint64_t) limit);
}

/* ---- helpers ---- */

static CronRange
parsed(const char *text)
{
	CronRange range;
	char error[CRON_RANGE_ERROR_SIZE] = "";

	if (!cron_range_parse(text, &range, error, sizeof(error)))
		fail_msg("%s: %s", text, error);
	return range;
}

static int
month_length(int year, int month)
{
	static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return lengths[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Every day from 1 January 2000, a Saturday, for 400 years. */
#define DAYS_OF_CYCLE 146097
static CronLocalTime calendar[DAYS_OF_CYCLE];

static int
fill_calendar(void **state)
{
	CronLocalTime day = { 2000, 1, 1, 0, 0, 0, 6 };

	(void) state;
	for (int i = 0; i < DAYS_OF_CYCLE; i++)
	{
		calendar[i] = day;
		day.weekday = (day.weekday + 1) % 7;
		if (++day.day > month_length(day.year, day.month))
		{
			day.day = 1;
			if (++day.month > 12)
			{
				day.month = 1;
				day.year++;
			}
		}
	}
	return day.year == 2400 && day.month == 1 && day.day == 1 && day.weekday == 6 ? 0 : -1;
}

/* ---- tables ---- */

#define ALL_HOURS UINT32_C(0x00ffffff)
#define ALL_DAYS UINT32_C(0xfffffffe)
#define ALL_MONTHS UINT32_C(0x1ffe)
#define ALL_WEEKDAYS UINT32_C(0x7f)
#define BIT(n) (UINT32_C(1) << (n))

static void
test_accepted(void **state)
{
	static const struct
	{
		const char *text;
		CronRange range;
	} cases[] = {
		{ "* * * * *", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ "* ? ? ? ?", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ " \t*  *\n*\v* \f\r * ", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ "* 9-18 * * 1-5", { 0x7fe00, ALL_DAYS, ALL_MONTHS, 0x3e, true, false } },
		{ "* 0 1 1 0", { BIT(0), BIT(1), BIT(1), BIT(0), false, false } },
		{ "* 23 31 12 6", { BIT(23), BIT(31), BIT(12), BIT(6), false, false } },
		{ "* 09 007 * *", { BIT(9), BIT(7), ALL_MONTHS, ALL_WEEKDAYS, false, true } },
		{ "* 1,3,5-7 * * *",
		  { BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7), ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true,
			true } },
		{ "* */8 */10 */6 */3",
		  { BIT(0) | BIT(8) | BIT(16), BIT(1) | BIT(11) | BIT(21) | BIT(31), BIT(1) | BIT(7),
			BIT(0) | BIT(3) | BIT(6), false, false } },
		{ "* ?/8 ?/30 * ?/6",
		  { BIT(0) | BIT(8) | BIT(16), BIT(1) | BIT(31), ALL_MONTHS, BIT(0) | BIT(6), false,
			false } },
		{ "* 20/2 25/5 10/1 4/1",
		  { BIT(20) | BIT(22), BIT(25) | BIT(30), BIT(10) | BIT(11) | BIT(12),
			BIT(4) | BIT(5) | BIT(6), false, false } },
		{ "* 8-18/5 * * *",
		  { BIT(8) | BIT(13) | BIT(18), ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ "* 5-5/3 * * *", { BIT(5), ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ "* */24 */9223372036854775807 * 2/1000",
		  { BIT(0), BIT(1), ALL_MONTHS, BIT(2), false, false } },
		{ "* * * jan,Feb-APR,dEC *",
		  { ALL_HOURS, ALL_DAYS, BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(12), ALL_WEEKDAYS, true,
			true } },
		{ "* * * may-8/2 SUN,tue-Thu,sat",
		  { ALL_HOURS, ALL_DAYS, BIT(5) | BIT(7), 0x5d, true, false } },
		{ "* * * * mon/2", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, 0x2a, true, false } },
		/* a star without a step above one frees the field, wherever it stands */
		{ "* * */1 * */1", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ "* * *,5 * 1,?", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		{ "* * */2,* * *", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, true, true } },
		/* a complete range does not */
		{ "* * 1-31 * 0-6", { ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false } },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CronRange range = parsed(cases[i].text);

		assert_int_equal(range.hours, cases[i].range.hours);
		assert_int_equal(range.days, cases[i].range.days);
		assert_int_equal(range.months, cases[i].range.months);
		assert_int_equal(range.weekdays, cases[i].range.weekdays);
		assert_int_equal(range.any_day, cases[i].range.any_day);
		assert_int_equal(range.any_weekday, cases[i].range.any_weekday);
	}
}

static void
test_refused(void **state)
{
	static const char *const fields = "5 fields are needed (minute, hour, day of month, month, "
									  "weekday), but there are ";
	static const struct
	{
		const char *text;
		const char *error; /* a number alone: how many fields there are */
	} cases[] = {
		{ "", "0" },
		{ "   ", "0" },
		{ "* * * *", "4" },
		{ "* * * * * *", "6" },
		{ "@hourly", "\"@hourly\" is a descriptor, but the expression must have five fields" },
		{ " @every 1h", "\"@every\" is a descriptor, but the expression must have five fields" },
		{ "TZ=UTC * * * * *", "\"TZ=UTC\" is a time zone, which the expression must not contain" },
		{ "CRON_TZ=Europe/Paris * 9 * * *",
		  "\"CRON_TZ=Europe/Paris\" is a time zone, which the expression must not contain" },
		{ "0 * * * *", "minute field: \"0\" must be \"*\"" },
		{ "? * * * *", "minute field: \"?\" must be \"*\"" },
		{ "*/1 * * * *", "minute field: \"*/1\" must be \"*\"" },
		{ "0-59 * * * *", "minute field: \"0-59\" must be \"*\"" },
		{ "** * * * *", "minute field: \"**\" must be \"*\"" },
		{ "* 24 * * *", "hour field: \"24\" is not between 0 and 23" },
		{ "* 5-24 * * *", "hour field: \"24\" is not between 0 and 23" },
		{ "* * 0 * *", "day of month field: \"0\" is not between 1 and 31" },
		{ "* * 32 * *", "day of month field: \"32\" is not between 1 and 31" },
		{ "* * * 0 *", "month field: \"0\" is not between 1 and 12" },
		{ "* * * 13 *", "month field: \"13\" is not between 1 and 12" },
		{ "* * * * 7", "weekday field: \"7\" is not between 0 and 6" },
		{ "* * * * 5-7", "weekday field: \"7\" is not between 0 and 6" },
		{ "* 18-9 * * *", "hour field: \"18-9\" is a range that starts above its end" },
		{ "* * * * fri-mon", "weekday field: \"fri-mon\" is a range that starts above its "
							 "end" },
		{ "* */0 * * *", "hour field: \"*/0\" has a step that is not a positive number" },
		{ "* 1/00 * * *", "hour field: \"1/00\" has a step that is not a positive number" },
		{ "* */ * * *", "hour field: \"*/\" has a step that is not a positive number" },
		{ "* */-2 * * *", "hour field: \"*/-2\" has a step that is not a positive number" },
		{ "* */2/3 * * *", "hour field: \"*/2/3\" has a step that is not a positive number" },
		{ "* * * */feb *", "month field: \"*/feb\" has a step that is not a positive number" },
		{ "* */9223372036854775808 * * *",
		  "hour field: \"*/9223372036854775808\" has a step that is not a positive number" },
		{ "* 1,,2 * * *", "hour field: \"1,,2\" has an empty list member" },
		{ "* ,1 * * *", "hour field: \",1\" has an empty list member" },
		{ "* * 1, * *", "day of month field: \"1,\" has an empty list member" },
		{ "* , * * *", "hour field: \",\" has an empty list member" },
		{ "* /2 * * *", "hour field: \"\" is not a number" },
		{ "* -1 * * *", "hour field: \"\" is not a number" },
		{ "* 1- * * *", "hour field: \"\" is not a number" },
		{ "* 1-2-3 * * *", "hour field: \"2-3\" is not a number" },
		{ "* +5 * * *", "hour field: \"+5\" is not a number" },
		{ "* 5.5 * * *", "hour field: \"5.5\" is not a number" },
		{ "* 0x5 * * *", "hour field: \"0x5\" is not a number" },
		{ "* *-5 * * *", "hour field: \"*\" is not a number" },
		{ "* 5-* * * *", "hour field: \"*\" is not a number" },
		{ "* *5 * * *", "hour field: \"*5\" is not a number" },
		{ "* mon * * *", "hour field: \"mon\" is not a number" },
		{ "* * * mon *", "month field: \"mon\" is not a number or a name" },
		{ "* * * january *", "month field: \"january\" is not a number or a name" },
		{ "* * * * jan", "weekday field: \"jan\" is not a number or a name" },
		{ "* * * * sunday", "weekday field: \"sunday\" is not a number or a name" },
		{ "* 18446744073709551617 * * *", "hour field: \"18446744073709551617\" is not a number" },
		{ "* 4294967297 * * *", "hour field: \"4294967297\" is not between 0 and 23" },
		{ "* * L * *", "day of month field: \"L\" is not a number" },
		{ "* * 15W * *", "day of month field: \"15W\" is not a number" },
		{ "* * * * 5#2", "weekday field: \"5#2\" is not a number or a name" },
		{ "* \xc3\xa9 * * *", "hour field: \"\xc3\xa9\" is not a number" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CronRange range;
		char error[CRON_RANGE_ERROR_SIZE] = "";
		char expected[CRON_RANGE_ERROR_SIZE];

		snprintf(expected, sizeof(expected), "%s%s", strlen(cases[i].error) == 1 ? fields : "",
				 cases[i].error);
		if (cron_range_parse(cases[i].text, &range, error, sizeof(error)))
			fail_msg("accepted: %s", cases[i].text);
		assert_string_equal(error, expected);
	}
}

/* Text of any length is read in one pass, and a message repeats a bounded part of it. */
static void
test_long_text(void **state)
{
	size_t size = 4 * 1024 * 1024;
	char *text = malloc(size + 1);
	char error[CRON_RANGE_ERROR_SIZE];
	char tiny[8];
	CronRange range;

	(void) state;
	assert_non_null(text);
	memset(text, '9', size);
	text[size] = '\0';
	memcpy(text, "* ", 2);
	memcpy(text + size - 6, " * * *", 6);
	assert_false(cron_range_parse(text, &range, error, sizeof(error)));
	assert_int_equal(strlen(error), strlen("hour field: \"...\" is not a number") + 64);
	assert_false(cron_range_parse(text, &range, tiny, sizeof(tiny)));
	assert_string_equal(tiny, "hour fi");

	/* a cut never falls within a character */
	for (size_t i = 2; i < size - 6; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	memcpy(text + 2, "abc", 3);
	assert_false(cron_range_parse(text, &range, error, sizeof(error)));
	assert_string_equal(error, "hour field: \"abc...\" is not a number");

	/* a long list is fine */
	for (size_t i = 2; i < size - 6; i += 2)
		memcpy(text + i, i % 4 == 0 ? "3," : "4,", 2);
	text[size - 7] = '5';
	text[size - 8] = '1';
	assert_true(cron_range_parse(text, &range, error, sizeof(error)));
	assert_int_equal(range.hours, BIT(3) | BIT(4) | BIT(15));

	memset(text, ' ', size);
	assert_false(cron_range_parse(text, &range, error, sizeof(error)));
	for (size_t i = 0; i < size; i += 2)
		text[i] = '*';
	assert_false(cron_range_parse(text, &range, error, sizeof(error)));
	assert_non_null(strstr(error, "there are 2097152"));
	free(text);
}

static void
test_matches(void **state)
{
	static const struct
	{
		const char *text;
		CronLocalTime local;
		bool matches;
	} cases[] = {
		/* 2 June 2025 is a Monday */
		{ "* 9-18 * * 1-5", { 2025, 6, 2, 8, 59, 59, 1 }, false },
		{ "* 9-18 * * 1-5", { 2025, 6, 2, 9, 0, 0, 1 }, true },
		{ "* 9-18 * * 1-5", { 2025, 6, 2, 18, 59, 59, 1 }, true },
		{ "* 9-18 * * 1-5", { 2025, 6, 2, 19, 0, 0, 1 }, false },
		{ "* 9-18 * * 1-5", { 2025, 6, 1, 12, 0, 0, 0 }, false },
		/* both restricted: one is enough */
		{ "* * 13 * 5", { 2025, 6, 13, 12, 0, 0, 5 }, true },
		{ "* * 13 * 5", { 2025, 7, 13, 12, 0, 0, 0 }, true },
		{ "* * 13 * 5", { 2025, 7, 11, 12, 0, 0, 5 }, true },
		{ "* * 13 * 5", { 2025, 7, 12, 12, 0, 0, 6 }, false },
		{ "* * 13 6 5", { 2025, 7, 13, 12, 0, 0, 0 }, false },
		/* a star or question mark on one side: both are needed */
		{ "* * 13 * *", { 2025, 7, 11, 12, 0, 0, 5 }, false },
		{ "* * ? * 5", { 2025, 7, 13, 12, 0, 0, 0 }, false },
		{ "* * 13 * *,5", { 2025, 7, 11, 12, 0, 0, 5 }, false },
		{ "* * 13 * */1", { 2025, 7, 11, 12, 0, 0, 5 }, false },
		/* a step above one restricts */
		{ "* * */2 * 5", { 2025, 7, 12, 12, 0, 0, 6 }, false },
		{ "* * */2 * 5", { 2025, 7, 13, 12, 0, 0, 0 }, true },
		{ "* * */2 * 6", { 2025, 7, 12, 12, 0, 0, 6 }, true },
		/* a complete range restricts, so everything matches */
		{ "* * 1-31 * 5", { 2025, 7, 12, 12, 0, 0, 6 }, true },
		{ "* * 13 * 0-6", { 2025, 7, 12, 12, 0, 0, 6 }, true },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CronRange range = parsed(cases[i].text);

		if (cron_range_matches(&range, &cases[i].local) != cases[i].matches)
			fail_msg("case %zu: %s", i, cases[i].text);
	}
}

static void
test_overlap_cases(void **state)
{
	static const struct
	{
		const char *a;
		const char *b;
		bool overlap;
	} cases[] = {
		{ "* 2-4 * * 1-5", "* 6-8 * * 1-5", false },
		{ "* 2-4 * * 1-5", "* 4-8 * * 1-5", true },
		{ "* 9 * * 1-5", "* 9 * * 0,6", false },
		{ "* 9 * * 1-5", "* 9 * * 5,6", true },
		{ "* 9 * 1-6 *", "* 9 * 7-12 *", false },
		{ "* 9 1-15 * *", "* 9 16-31 * *", false },
		/* a date falls on every weekday some year */
		{ "* 9 13 * *", "* 9 * * 5", true },
		{ "* 9 29 2 *", "* 9 * 2 1", true },
		/* days that do not exist in a shared month */
		{ "* 9 31 * *", "* 9 31 2,4,6,9,11 *", false },
		{ "* 9 30 1-2 *", "* 9 30 2-3 *", false },
		{ "* 9 29 1-2 *", "* 9 29 2-3 *", true },
		{ "* 9 31 1-4 *", "* 9 31 4-5 *", false },
		/* never matches at all, not even with itself */
		{ "* 9 30,31 2 *", "* 9 30,31 2 *", false },
		/* either of two restricted fields is enough */
		{ "* 9 1 * 1", "* 9 2 * 2", true },
		{ "* 9 1 * 1", "* 9 2 * *", true },
		{ "* 9 1 * 1", "* 9 * * 2", true },
		{ "* 9 1-31 * 1", "* 9 15 * *", true },
		{ "* 9 31 2 1", "* 9 30 2 1", true },
		{ "* 9 31 2 1", "* 9 30 2 2", false },
		/* impossible day of month: the weekday alone decides, 31 February never comes */
		{ "* 9 31 2 1", "* 9 * 2 2", false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CronRange a = parsed(cases[i].a);
		CronRange b = parsed(cases[i].b);

		if (cron_ranges_overlap(&a, &b) != cases[i].overlap ||
			cron_ranges_overlap(&b, &a) != cases[i].overlap)
			fail_msg("%s against %s", cases[i].a, cases[i].b);
	}
}

/* ---- random expressions and a second opinion ---- */

typedef struct Member
{
	int low;
	int high;
	int step;
	bool star;
} Member;

typedef struct Field
{
	int min;
	int max;
	int count;
	Member members[4];
} Field;

typedef struct Expression
{
	char text[400];
	Field hour, day, month, weekday;
} Expression;

static void
append(char *text, size_t size, const char *format, ...)
{
	size_t length = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(text + length, size - length, format, args);
	va_end(args);
}

/* Write a value as a number, or as a name in random case where the field has names. */
static void
append_value(Expression *expression, const char *const *names, int value)
{
	char name[4];

	if (names == NULL || random_below(2) == 0)
	{
		append(expression->text, sizeof(expression->text), random_below(8) == 0 ? "0%d" : "%d",
			   value);
		return;
	}
	strcpy(name, names[value]);
	for (int i = 0; i < 3; i++)
		if (random_below(2) == 0)
			name[i] = (char) (name[i] - 'a' + 'A');
	append(expression->text, sizeof(expression->text), "%s", name);
}

static void
append_member(Expression *expression, Field *field, const char *const *names)
{
	Member *member = &field->members[field->count++];
	int width = field->max - field->min + 1;
	bool range = false;

	member->star = random_below(4) == 0;
	member->low = field->min;
	member->high = field->max;
	member->step = 1;
	if (member->star)
		append(expression->text, sizeof(expression->text), random_below(2) == 0 ? "*" : "?");
	else
	{
		member->low += random_below(width);
		append_value(expression, names, member->low);
		range = random_below(2) == 0;
		if (range)
		{
			member->high = member->low + random_below(field->max - member->low + 1);
			append(expression->text, sizeof(expression->text), "-");
			append_value(expression, names, member->high);
		}
	}
	if (random_below(3) == 0)
	{
		member->step = 1 + random_below(random_below(2) == 0 ? 3 : 40);
		append(expression->text, sizeof(expression->text), "/%d", member->step);
	}
	else if (!member->star && !range)
		member->high = member->low;
}

static void
append_field(Expression *expression, Field *field, int min, int max, const char *const *names)
{
	static const char *const blanks[] = { " ", "  ", "\t", " \n " };
	int members = random_below(3) == 0 ? 1 + random_below(4) : 1;

	field->min = min;
	field->max = max;
	field->count = 0;
	append(expression->text, sizeof(expression->text), "%s", blanks[random_below(4)]);
	/* plenty of bare stars, as people write them */
	if (random_below(3) == 0)
	{
		field->members[field->count++] = (Member){ min, max, 1, true };
		append(expression->text, sizeof(expression->text), "*");
		return;
	}
	for (int i = 0; i < members; i++)
	{
		if (i > 0)
			append(expression->text, sizeof(expression->text), ",");
		append_member(expression, field, names);
	}
}

static void
random_expression(Expression *expression)
{
	static const char *const months[] = { "",	 "jan", "feb", "mar", "apr", "may", "jun",
										  "jul", "aug", "sep", "oct", "nov", "dec" };
	static const char *const weekdays[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

	strcpy(expression->text, random_below(2) == 0 ? "*" : "  *");
	append_field(expression, &expression->hour, 0, 23, NULL);
	append_field(expression, &expression->day, 1, 31, NULL);
	append_field(expression, &expression->month, 1, 12, months);
	append_field(expression, &expression->weekday, 0, 6, weekdays);
}

static bool
field_holds(const Field *field, int value)
{
	for (int i = 0; i < field->count; i++)
	{
		const Member *member = &field->members[i];

		if (value >= member->low && value <= member->high &&
			(value - member->low) % member->step == 0)
			return true;
	}
	return false;
}

static bool
field_restricted(const Field *field)
{
	for (int i = 0; i < field->count; i++)
		if (field->members[i].star && field->members[i].step == 1)
			return false;
	return true;
}

static bool
day_matches(const Expression *expression, const CronLocalTime *local)
{
	bool day = field_holds(&expression->day, local->day);
	bool weekday = field_holds(&expression->weekday, local->weekday);

	if (!field_holds(&expression->month, local->month))
		return false;
	if (field_restricted(&expression->day) && field_restricted(&expression->weekday))
		return day || weekday;
	return day && weekday;
}

static void
test_random_matches(void **state)
{
	Expression expression;

	(void) state;
	for (int round = 0; round < 3000; round++)
	{
		CronRange range;

		random_expression(&expression);
		range = parsed(expression.text);
		for (int i = 0; i < 300; i++)
		{
			CronLocalTime local = calendar[random_below(DAYS_OF_CYCLE)];
			bool expected;

			local.hour = random_below(24);
			local.minute = random_below(60);
			local.second = random_below(60);
			expected = day_matches(&expression, &local);
			assert_int_equal(cron_range_matches_day(&range, &local), expected);
			expected = expected && field_holds(&expression.hour, local.hour);
			if (cron_range_matches(&range, &local) != expected)
				fail_msg("%s at %d-%d-%d %d:%d weekday %d", expression.text, local.year,
						 local.month, local.day, local.hour, local.minute, local.weekday);
		}
	}
}

/* Minute by minute over two years, one of them a leap year. */
static void
test_random_minutes(void **state)
{
	Expression expression;

	(void) state;
	for (int round = 0; round < 10; round++)
	{
		CronRange range;

		random_expression(&expression);
		range = parsed(expression.text);
		for (int i = 0; i < 731; i++)
			for (int minute = 0; minute < 1440; minute++)
			{
				CronLocalTime local = calendar[i];

				local.hour = minute / 60;
				local.minute = minute % 60;
				if (cron_range_matches(&range, &local) !=
					(day_matches(&expression, &local) && field_holds(&expression.hour, local.hour)))
					fail_msg("%s on day %d, minute %d", expression.text, i, minute);
			}
	}
}

/* Do two expressions share a minute, by looking at every day of 400 years? */
static bool
share_a_minute(const Expression *a, const Expression *b)
{
	bool hours = false;

	for (int hour = 0; hour < 24; hour++)
		hours |= field_holds(&a->hour, hour) && field_holds(&b->hour, hour);
	for (int i = 0; hours && i < DAYS_OF_CYCLE; i++)
		if (day_matches(a, &calendar[i]) && day_matches(b, &calendar[i]))
			return true;
	return false;
}

/* A single value instead of what a field was, so that ranges often miss each other. */
static void
narrow(Field *field, int value)
{
	field->count = 1;
	field->members[0] = (Member){ value, value, 1, false };
}

static void
test_random_overlap(void **state)
{
	Expression a, b;
	int found = 0;
	int rounds = 4000;

	(void) state;
	for (int round = 0; round < rounds; round++)
	{
		CronRange range_a, range_b;
		bool expected;

		random_expression(&a);
		random_expression(&b);
		range_a = parsed(a.text);
		range_b = parsed(b.text);
		if (random_below(2) == 0)
		{
			/* dates around the ends of months */
			int day_a = 28 + random_below(4);
			int day_b = random_below(2) == 0 ? day_a : 28 + random_below(4);

			narrow(&a.day, day_a);
			narrow(&b.day, day_b);
			range_a.days = BIT(day_a);
			range_b.days = BIT(day_b);
			range_a.any_day = range_b.any_day = false;
		}
		expected = share_a_minute(&a, &b);
		found += expected;
		if (cron_ranges_overlap(&range_a, &range_b) != expected ||
			cron_ranges_overlap(&range_b, &range_a) != expected)
			fail_msg("%s against %s", a.text, b.text);
	}
	/* both answers must occur often for this to mean anything */
	assert_true(found >= rounds / 10 && found <= rounds * 9 / 10);
}

/*
 * Random bytes, strings of the characters that matter, and valid expressions with a few characters
 * changed never crash; they are refused with a reason or make a range of possible values.
 */
static void
test_random_garbage(void **state)
{
	static const char alphabet[] = "**?0123456789,,--// \t janfebsunMON@TZ=\xff\x80";
	Expression expression;
	int rounds = 300000;
	int accepted = 0;

	(void) state;
	for (int round = 0; round < rounds; round++)
	{
		char *text = expression.text;
		int length;
		int changes;
		CronRange range;
		char error[CRON_RANGE_ERROR_SIZE] = "";

		random_expression(&expression);
		length = (int) strlen(text);
		changes = round % 3 == 0 ? length : 1 + random_below(3);
		for (int i = 0; i < changes; i++)
			text[random_below(length)] = random_below(3) == 0
											 ? (char) random_below(256)
											 : alphabet[random_below((int) sizeof(alphabet) - 1)];
		if (cron_range_parse(text, &range, error, sizeof(error)))
		{
			accepted++;
			assert_true(range.hours != 0 && (range.hours & ~ALL_HOURS) == 0);
			assert_true(range.days != 0 && (range.days & ~ALL_DAYS) == 0);
			assert_true(range.months != 0 && (range.months & ~ALL_MONTHS) == 0);
			assert_true(range.weekdays != 0 && (range.weekdays & ~ALL_WEEKDAYS) == 0);
		}
		else
			assert_true(error[0] != '\0' && strlen(error) < sizeof(error) - 1);
	}
	assert_true(accepted >= rounds / 100 && accepted <= rounds / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),	   cmocka_unit_test(test_refused),
		cmocka_unit_test(test_long_text),	   cmocka_unit_test(test_matches),
		cmocka_unit_test(test_overlap_cases),  cmocka_unit_test(test_random_matches),
		cmocka_unit_test(test_random_minutes), cmocka_unit_test(test_random_overlap),
		cmocka_unit_test(test_random_garbage),
	};

	return cmocka_run_group_tests(tests, fill_calendar, NULL);
}
