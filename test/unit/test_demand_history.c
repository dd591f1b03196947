/*
 * test_demand_history.c
 *	  Cuts, steps, local time and lead times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "demand/demand_history.h"

static void
test_cut_at_a_time(void **state)
{
	int64_t demands[] = { 10, 20, 20, 30 };
	DemandBuild builds[] = { { 5, 1, false }, { 20, 1, false } };
	DemandStep steps[] = { { 0, 1 }, { 20, 2 } };
	DemandHistory history = { 0, demands, 4, builds, 2, steps, 2, NULL, 0 };
	static const struct
	{
		int64_t at;
		int ndemands, nbuilds, nconfigured;
	} cases[] = { { 0, 0, 0, 1 },  { 10, 0, 1, 1 }, { 11, 1, 1, 1 },
				  { 20, 1, 1, 2 }, { 21, 3, 2, 2 }, { 31, 4, 2, 2 } };

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DemandHistory past = demand_history_before(&history, cases[i].at);

		assert_int_equal(past.ndemands, cases[i].ndemands);
		assert_int_equal(past.nbuilds, cases[i].nbuilds);
		assert_int_equal(past.nconfigured, cases[i].nconfigured);
	}
}

static void
test_steps(void **state)
{
	DemandStep steps[] = { { 10, 1 }, { 20, 2 } };

	(void) state;
	assert_int_equal(demand_step_value(steps, 2, 9, 7), 7);
	assert_int_equal(demand_step_value(steps, 2, 10, 7), 1);
	assert_int_equal(demand_step_value(steps, 2, 20, 7), 2);
	assert_int_equal(demand_step_value(NULL, 0, 20, 7), 7);
}

/* The week begins on Monday at midnight on the wall clock, whatever the offset and the century. */
static void
test_time_of_week(void **state)
{
	/* the clocks go forward on Sunday 2024-03-31 at 01:00 UTC, in a zone one hour east */
	int64_t change = 8856 * DEMAND_DAY + DEMAND_HOUR;
	DemandStep offsets[] = { { INT64_MIN, DEMAND_HOUR }, { change, 2 * DEMAND_HOUR } };
	DemandHistory zone = { .offsets = offsets, .noffsets = 2 };
	DemandHistory utc = { 0 };

	(void) state;
	assert_int_equal(demand_time_of_week(&utc, DEMAND_FIRST_MONDAY), 0);
	assert_int_equal(demand_time_of_week(&utc, DEMAND_FIRST_MONDAY - 1), DEMAND_WEEK - 1);
	assert_int_equal(demand_time_of_week(&utc, DEMAND_FIRST_MONDAY - 100 * DEMAND_WEEK), 0);
	assert_int_equal(demand_time_of_week(&zone, change - 1), 6 * DEMAND_DAY + 2 * DEMAND_HOUR - 1);
	assert_int_equal(demand_time_of_week(&zone, change), 6 * DEMAND_DAY + 3 * DEMAND_HOUR);
	assert_int_equal(demand_time_of_week(&zone, change + 21 * DEMAND_HOUR), 0);
}

static void
test_lead(void **state)
{
	DemandBuild builds[12];
	DemandHistory past = { .builds = builds };
	int64_t at = 100 * DEMAND_DAY;
	DemandLead lead;

	(void) state;
	for (int i = 0; i < 12; i++)
		builds[i] =
			(DemandBuild){ at - DEMAND_DAY + i * DEMAND_MINUTE, (i + 1) * DEMAND_MINUTE, i == 5 };
	/* four successes are too few */
	past.nbuilds = 4;
	demand_lead(&past, at, 42, &lead);
	assert_int_equal(lead.samples, 0);
	assert_int_equal(lead.mean, 42);
	assert_int_equal(lead.p90, 42);
	past.nbuilds = 11;
	demand_lead(&past, at, 42, &lead);
	assert_int_equal(lead.samples, 10);
	assert_int_equal(lead.median, 5 * DEMAND_MINUTE);
	assert_int_equal(lead.p90, 10 * DEMAND_MINUTE);
	assert_int_equal(lead.mean, 66 * DEMAND_MINUTE / 10);
	assert_true(lead.failure_rate > 0.0909 && lead.failure_rate < 0.091);
	/* what has not ended yet says nothing, nor what is older than two weeks */
	builds[10].took = 2 * DEMAND_DAY;
	demand_lead(&past, at, 42, &lead);
	assert_int_equal(lead.samples, 9);
	demand_lead(&past, at + 14 * DEMAND_DAY, 42, &lead);
	assert_int_equal(lead.samples, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_a_time),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_time_of_week),
		cmocka_unit_test(test_lead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
