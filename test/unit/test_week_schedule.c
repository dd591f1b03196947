/*
 * test_week_schedule.c
 *	  Needs counted by hand and naively, fits against all schedules of a small world, pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "demand/week_schedule.h"
#include "demand_random.h"

static WeekNeeds needs;
static WeekNeeds again;

static void
test_needs(void **state)
{
	int64_t demands[300];
	int64_t from = DEMAND_FIRST_MONDAY;
	int64_t lead = 10 * DEMAND_MINUTE;
	DemandHistory history = { .demands = demands, .ndemands = 300 };
	int all = 0;

	(void) state;
	random_times(demands, 300, from - DEMAND_DAY, from + 8 * DEMAND_DAY, DEMAND_MINUTE);
	week_needs(&history, from, from + DEMAND_WEEK, lead, &needs);
	memset(&again, 0, sizeof(again));
	for (int i = 0; i < 300; i++)
	{
		int need = 1;

		if (demands[i] < from || demands[i] >= from + DEMAND_WEEK)
			continue;
		for (int j = 0; j < i; j++)
			if (demands[j] >= from && demands[j] > demands[i] - lead)
				need++;
		again.needed[(demands[i] - lead - from + DEMAND_WEEK) % DEMAND_WEEK / DEMAND_HOUR][need]++;
		all++;
	}
	assert_int_equal(needs.demands, all);
	assert_memory_equal(needs.needed, again.needed, sizeof(needs.needed));
}

/* What a schedule serves and how long it waits, by counting. */
static int
served(const WeekSchedule *schedule)
{
	int count = 0;

	for (int hour = 0; hour < WEEK_HOURS; hour++)
		for (int level = 1; level <= schedule->levels[hour]; level++)
			count += needs.needed[hour][level];
	return count;
}

static double
waits(const WeekSchedule *schedule)
{
	double hours = 0;

	for (int hour = 0; hour < WEEK_HOURS; hour++)
		hours += schedule->levels[hour] * needs.weeks;
	return hours - served(schedule) * needs.lead;
}

/* A pieced fit must not wait longer than any hand-made block that serves as many. */
static void
test_fit_against_all_blocks(void **state)
{
	(void) state;
	for (int round = 0; round < 10; round++)
	{
		WeekSchedule fitted, block;
		double share;

		memset(&needs, 0, sizeof(needs));
		needs.weeks = 4;
		needs.lead = 0.1;
		needs.top = 3;
		for (int i = 0; i < 400; i++)
		{
			int day = random_below(5);
			int hour = day * 24 + 8 + random_below(5) + random_below(5);

			needs.needed[hour][1 + random_below(2) * random_below(3)]++;
			needs.demands++;
		}
		share = week_schedule_fit(&needs, WEEK_PIECED, 0.9, &fitted);
		assert_true(share >= 0.9);
		assert_int_equal((int) (share * needs.demands + 0.5), served(&fitted));
		for (int from = 0; from < 24; from++)
			for (int to = from + 1; to <= 24; to++)
				for (int level = 1; level <= 3; level++)
				{
					memset(&block, 0, sizeof(block));
					for (int hour = 0; hour < 5 * 24; hour++)
						if (hour % 24 >= from && hour % 24 < to)
							block.levels[hour] = (int16_t) level;
					if (served(&block) >= served(&fitted))
						assert_true(waits(&block) >= waits(&fitted) - 1e-6);
				}
		/* more freedom costs no more */
		week_schedule_fit(&needs, WEEK_FREE, 0.9, &block);
		assert_true(served(&block) >= 0.9 * needs.demands);
		assert_true(waits(&block) <= waits(&fitted) * 1.05);
	}
}

static void
test_fit_of_nothing(void **state)
{
	WeekSchedule schedule;

	(void) state;
	memset(&needs, 0, sizeof(needs));
	assert_true(week_schedule_fit(&needs, WEEK_PIECED, 0.99, &schedule) == 1);
	for (int hour = 0; hour < WEEK_HOURS; hour++)
		assert_int_equal(schedule.levels[hour], 0);
}

static void
test_pieces_cover_the_week(void **state)
{
	WeekPiece pieces[WEEK_PIECES_ALL];
	WeekSchedule schedule = { { 0 } };

	(void) state;
	assert_int_equal(week_schedule_pieces(&schedule, pieces), 2);
	for (int hour = 0; hour < WEEK_HOURS; hour++)
	{
		int h = hour % 24;

		schedule.levels[hour] = (int16_t) (hour >= 5 * 24 ? 1 : (h < 7 ? 0 : (h < 19 ? 4 : 2)));
	}
	assert_int_equal(week_schedule_pieces(&schedule, pieces), 4);
	assert_int_equal(pieces[1].first, 7);
	assert_int_equal(pieces[1].end, 19);
	assert_int_equal(pieces[1].level, 4);
	assert_true(pieces[3].weekend);
	assert_int_equal(pieces[3].end, 24);
	/* a Tuesday of its own has no pieces */
	schedule.levels[24 + 10] = 9;
	assert_int_equal(week_schedule_pieces(&schedule, pieces), 0);
	for (int hour = 0; hour < WEEK_HOURS; hour++)
		schedule.levels[hour] = (int16_t) (hour % 2);
	assert_int_equal(week_schedule_pieces(&schedule, pieces), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_needs),
		cmocka_unit_test(test_fit_against_all_blocks),
		cmocka_unit_test(test_fit_of_nothing),
		cmocka_unit_test(test_pieces_cover_the_week),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
