/*
 * test_demand_rates.c
 *	  What the rates must find in demands whose law is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "demand/demand_rates.h"
#include "demand_random.h"

#define ROOM 200000

static int64_t times[ROOM];
static const int64_t monday = DEMAND_FIRST_MONDAY + 1000 * DEMAND_WEEK;

/* Weeks of random demands, so many from one hour to another on some days. */
static int
make(int weeks, int first_day, int end_day, int from_hour, int to_hour, int a_day)
{
	int count = 0;

	for (int week = 0; week < weeks; week++)
		for (int day = first_day; day < end_day; day++)
		{
			int64_t midnight = monday - (weeks - week) * DEMAND_WEEK + day * DEMAND_DAY;

			random_times(times + count, a_day, midnight + from_hour * DEMAND_HOUR,
						 midnight + to_hour * DEMAND_HOUR, DEMAND_SECOND);
			count += a_day;
		}
	return count;
}

static DemandRates
learn(int count, int weeks)
{
	DemandHistory past = { .began = monday - weeks * DEMAND_WEEK,
						   .demands = times,
						   .ndemands = count };
	DemandRates rates = { 0 };

	demand_rates(&past, monday, 5 * DEMAND_MINUTE, &rates);
	return rates;
}

static void
test_flat_demand_is_flat(void **state)
{
	DemandRates rates = learn(make(8, 0, 7, 0, 24, 240), 8);

	(void) state;
	assert_int_equal(rates.weeks, 8);
	assert_int_equal(rates.demands, 8 * 7 * 240);
	for (int i = 0; i < RATE_CELLS; i++)
		assert_true(rates.cells[i] > 8 && rates.cells[i] < 12);
	assert_true(rates.bursts < 0.1);
	assert_true(rates.level > 0.99 && rates.level < 1.01);
}

static void
test_office_hours_are_found(void **state)
{
	DemandRates rates = learn(make(8, 0, 5, 9, 17, 80), 8);

	(void) state;
	for (int day = 0; day < 7; day++)
	{
		double noon = rates.cells[day * RATE_CELLS_OF_DAY + 48];
		double night = rates.cells[day * RATE_CELLS_OF_DAY + 8];

		if (day < 5)
			assert_true(noon > 8 && noon < 12);
		else
			assert_true(noon < 0.2);
		assert_true(night < 0.2);
	}
}

static void
test_one_weekday_differs(void **state)
{
	int count = make(12, 0, 1, 9, 10, 60);
	DemandRates rates = learn(count, 12);

	(void) state;
	assert_true(rates.cells[38] > 40);
	for (int day = 1; day < 7; day++)
		assert_true(rates.cells[day * RATE_CELLS_OF_DAY + 38] < 15);
}

/* A fall counts when it lasts, a rise at once. */
static void
test_level(void **state)
{
	static const struct
	{
		int weeks[4]; /* demands a day, the newest last */
		double least, most;
	} cases[] = {
		{ { 100, 100, 100, 10 }, 1.0, 1.4 },
		{ { 100, 100, 10, 10 }, 0.1, 0.3 },
		{ { 100, 10, 100, 100 }, 1.0, 1.4 },
		{ { 50, 50, 50, 100 }, 1.3, 2.0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int count = 0;
		DemandRates rates;

		for (int week = 0; week < 4; week++)
		{
			int64_t from = monday - (4 - week) * DEMAND_WEEK;
			int demands = 7 * cases[i].weeks[week];

			random_times(times + count, demands, from, from + DEMAND_WEEK, DEMAND_SECOND);
			count += demands;
		}
		rates = learn(count, 4);
		assert_true(rates.level >= cases[i].least && rates.level <= cases[i].most);
	}
}

static void
test_bursts_are_seen(void **state)
{
	int count = make(8, 0, 7, 0, 24, 20);
	DemandRates rates;

	/* each demand comes as five */
	(void) state;
	for (int i = count - 1; i >= 0; i--)
		for (int k = 4; k >= 0; k--)
			times[5 * i + k] = times[i] + k;
	rates = learn(5 * count, 8);
	assert_true(rates.bursts > 1);
}

static void
test_too_little(void **state)
{
	(void) state;
	assert_int_equal(learn(make(1, 0, 7, 0, 24, 10), 1).weeks, 0);
	assert_int_equal(learn(0, 8).weeks, 0);
	assert_int_equal(learn(make(2, 0, 7, 0, 24, 1), 2).weeks, 2);
	assert_int_equal(learn(make(40, 0, 7, 0, 24, 1), 40).weeks, RATE_WEEKS);
}

/* The expectation is the sum over the span, across the week's end too. */
static void
test_expected(void **state)
{
	DemandHistory past = { 0 };
	DemandRates rates = learn(make(8, 0, 5, 9, 17, 80), 8);

	(void) state;
	for (int i = 0; i < 500; i++)
	{
		int64_t from = monday + random_below(7 * 24 * 60) * DEMAND_MINUTE;
		int64_t to = from + random_below(7 * 24 * 60 - 1) * DEMAND_MINUTE;
		double sum = 0;
		double expected = demand_expected(&rates, &past, from, to);

		for (int64_t at = from; at < to; at += DEMAND_MINUTE)
			sum += rates.cells[demand_time_of_week(&past, at) / RATE_CELL] / 60;
		assert_true(expected > sum - 1e-6 && expected < sum + 1e-6);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flat_demand_is_flat),
		cmocka_unit_test(test_office_hours_are_found),
		cmocka_unit_test(test_one_weekday_differs),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_bursts_are_seen),
		cmocka_unit_test(test_too_little),
		cmocka_unit_test(test_expected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
