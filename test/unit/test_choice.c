/*
 * test_choice.c
 *	  What is chosen when, and that the later part has no say in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "assert_between.h"
#include "demand/choice.h"
#include "demand_random.h"

#define ROOM 60000
#define SIZE 200
#define WEEKS 26

static const int64_t began = DEMAND_FIRST_MONDAY + 1000 * DEMAND_WEEK;
static int64_t times[ROOM];
static int64_t ready[SIZE];
static SimulatorBuild builds[SIZE];
static PolicyPattern patterns[CHOICE_PATTERNS];
static ChoiceRoom room = { .memo = { .patterns = patterns, .npatterns = CHOICE_PATTERNS },
						   .pool = { SIZE, ready, builds } };
static DemandStep configured = { INT64_MIN, 5 };
static ChoiceResult result;

static DemandHistory
make_history(int weeks, int a_day)
{
	DemandHistory history = {
		.began = began, .demands = times, .configured = &configured, .nconfigured = 1
	};

	for (int day = 0; day < 7 * weeks; day++)
	{
		int64_t midnight = began + day * DEMAND_DAY;
		int count = day % 7 < 5 ? a_day : 0;

		random_times(times + history.ndemands, count, midnight + 8 * DEMAND_HOUR,
					 midnight + 18 * DEMAND_HOUR, DEMAND_SECOND);
		history.ndemands += count;
	}
	return history;
}

static void
choose_within(const DemandHistory *history, int64_t from, int64_t to, int least, int most)
{
	ChoiceSettings settings = { .from = from,
								.to = to,
								.service_level = 0.99,
								.prompt = true,
								.policy = { .min_instances = least,
											.max_instances = most,
											.scale_in_delay = 15 * DEMAND_MINUTE,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };

	choice_make(history, &settings, &room, &result);
}

static void
choose(const DemandHistory *history, int64_t from, int64_t to, int instances)
{
	configured.value = instances;
	choose_within(history, from, to, 0, 100);
}

/* Return the candidate of a kind with a number, or NULL. */
static const ChoiceCandidate *
candidate_of(PolicyKind kind, int number)
{
	for (int i = 0; i < result.ncandidates; i++)
		if (result.candidates[i].policy.kind == kind && number-- == 0)
			return &result.candidates[i];
	return NULL;
}

static void
test_wasteful_number_is_replaced(void **state)
{
	DemandHistory history = make_history(WEEKS, 60);
	const ChoiceCandidate *chosen;

	(void) state;
	choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 15);
	chosen = &result.candidates[result.chosen];
	assert_int_equal(result.note, CHOICE_MADE);
	assert_true(chosen->reached);
	assert_true(simulator_hit_rate(&chosen->later) > 0.98);
	assert_true(chosen->later.idle * 4 < result.candidates[0].later.idle);
	assert_true(result.bound.reached);
	assert_true(result.bound.later.idle < chosen->later.idle);
	assert_true(simulator_hit_rate(&result.advice.later) > 0.98);
	assert_between(result.ncandidates, 4, CHOICE_CANDIDATES);
	assert_int_equal(result.candidates[0].policy.kind, POLICY_CONFIGURED);
	for (int i = 1; i < result.ncandidates; i++)
		assert_true(result.candidates[i].policy.kind >= result.candidates[i - 1].policy.kind);
}

/* One prebuild at all hours is right for a demand that comes at all hours, one at a time. */
static void
test_right_number_stays(void **state)
{
	DemandHistory history = {
		.began = began, .demands = times, .configured = &configured, .nconfigured = 1
	};

	(void) state;
	for (int i = 0; i < WEEKS * 7 * 3; i++)
		times[history.ndemands++] =
			began + i * 8 * DEMAND_HOUR + random_below(8 * 3600 - 900) * DEMAND_SECOND;
	choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 1);
	assert_int_equal(result.note, CHOICE_KEPT);
	assert_int_equal(result.chosen, 0);
}

static void
test_too_little(void **state)
{
	DemandHistory history = make_history(WEEKS, 60);

	(void) state;
	/* 13 days */
	choose(&history, began + 13 * DEMAND_WEEK, began + 15 * DEMAND_WEEK - DEMAND_DAY, 15);
	assert_int_equal(result.note, CHOICE_TOO_SHORT);
	assert_int_equal(result.chosen, 0);
	assert_int_equal(result.ncandidates, 1);
	/* the range is long, the history in it is not */
	choose(&history, began - 13 * DEMAND_WEEK, began + 13 * DEMAND_DAY, 15);
	assert_int_equal(result.note, CHOICE_TOO_SHORT);
	choose(&history, began + 13 * DEMAND_WEEK, began + 15 * DEMAND_WEEK, 15);
	assert_int_equal(result.note, CHOICE_MADE);
	/* 19 demands, and 20 */
	history.ndemands = 19;
	choose(&history, began, began + 13 * DEMAND_WEEK, 15);
	assert_int_equal(result.note, CHOICE_TOO_FEW);
	assert_int_equal(result.candidates[0].earlier.demands + result.candidates[0].later.demands, 0);
	history.ndemands = 20;
	choose(&history, began, began + 13 * DEMAND_WEEK, 15);
	assert_int_not_equal(result.note, CHOICE_TOO_FEW);
	choose(&history, began, began + 13 * DEMAND_DAY, 15);
	assert_int_equal(result.note, CHOICE_TOO_SHORT);
	history.ndemands = 0;
	choose(&history, began, began + 13 * DEMAND_WEEK, 15);
	assert_int_equal(result.note, CHOICE_TOO_FEW);
}

/* One rush of 60 in a quarter is 2 % of the demands. To serve it would take 60 that always wait. */
static void
test_one_rush_is_not_worth_its_price(void **state)
{
	DemandHistory history = make_history(WEEKS, 30);
	int64_t rush = began + 18 * DEMAND_WEEK + 3 * DEMAND_HOUR;
	int place = demand_count_before(times, history.ndemands, rush);

	(void) state;
	memmove(times + place + 60, times + place,
			sizeof(int64_t) * (size_t) (history.ndemands - place));
	for (int i = 0; i < 60; i++)
		times[place + i] = rush + i * DEMAND_SECOND;
	history.ndemands += 60;
	choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 3);
	assert_int_equal(result.note, CHOICE_BEST_EFFORT);
	assert_true(result.candidates[result.chosen].earlier.peak < 60);
	assert_true(simulator_hit_rate(&result.candidates[result.chosen].later) > 0.97);
}

/* What is chosen, and with what parameters, does not depend on the later part. */
static void
test_later_part_has_no_say(void **state)
{
	static const int a_day[] = { 3, 15, 60 };

	(void) state;
	for (size_t i = 0; i < sizeof(a_day) / sizeof(a_day[0]); i++)
	{
		DemandHistory history = make_history(WEEKS, a_day[i]);
		static ChoiceResult before;
		int first;

		choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 6);
		before = result;
		first = demand_count_before(times, history.ndemands, result.split);
		random_times(times + first, history.ndemands - first, result.split,
					 began + WEEKS * DEMAND_WEEK, DEMAND_SECOND);
		choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 6);
		assert_int_equal(result.note, before.note);
		assert_int_equal(result.chosen, before.chosen);
		assert_int_equal(result.ncandidates, before.ncandidates);
		for (int c = 0; c < result.ncandidates; c++)
		{
			assert_memory_equal(&result.candidates[c].policy, &before.candidates[c].policy,
								sizeof(Policy));
			assert_memory_equal(&result.candidates[c].earlier, &before.candidates[c].earlier,
								sizeof(SimulatorFigures));
		}
		assert_memory_equal(&result.advice.week, &before.advice.week, sizeof(WeekSchedule));
	}
}

/* What the backtest says of the advised schedule is what that schedule gives when configured. */
static void
test_advice_is_what_it_says(void **state)
{
	DemandHistory history = make_history(WEEKS, 40);
	static DemandStep steps[WEEKS * WEEK_HOURS];
	Policy policy = { .kind = POLICY_CONFIGURED };
	ChoiceSettings settings = { .to = began + WEEKS * DEMAND_WEEK,
								.prompt = true,
								.policy = { .max_instances = 100,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	WeekPiece pieces[WEEK_PIECES_ALL];
	SimulatorResult played;

	(void) state;
	choose(&history, began + 13 * DEMAND_WEEK, settings.to, 6);
	assert_between(week_schedule_pieces(&result.advice.week, pieces), 2, WEEK_PIECES_ALL);
	for (int hour = 0; hour < WEEKS * WEEK_HOURS; hour++)
		steps[hour] = (DemandStep){ began + hour * DEMAND_HOUR,
									result.advice.week.levels[hour % WEEK_HOURS] };
	history.configured = steps;
	history.nconfigured = WEEKS * WEEK_HOURS;
	choice_simulate(&history, &settings, result.from, result.split, &policy, &room, &played);
	assert_memory_equal(&played.after, &result.advice.later, sizeof(SimulatorFigures));
}

/* The advised schedule is fitted to the weeks before the split, to a share of their demands as told. */
static void
test_advice_is_a_fit(void **state)
{
	DemandHistory history = make_history(WEEKS, 40);
	static WeekNeeds needs;
	int alike = 0;

	(void) state;
	choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 6);
	week_needs(&history, result.split - 16 * DEMAND_WEEK, result.split, 5 * DEMAND_MINUTE, &needs);
	for (int i = 0; i < 3; i++)
	{
		static const double misses[] = { 1, 0.5, 0.2 };
		WeekSchedule week;

		week_schedule_fit(&needs, WEEK_PIECED, 1 - (1 - 0.99) * misses[i], &week);
		alike += memcmp(&week, &result.advice.week, sizeof(week)) == 0;
	}
	assert_true(alike > 0);
}

/* Fixed levels are tried from the first one that serves enough by counting. */
static void
test_first_fixed_level(void **state)
{
	DemandHistory history = {
		.began = began, .demands = times, .configured = &configured, .nconfigured = 1
	};

	(void) state;
	/* three at once, each day: the third one needs a level of three */
	for (int i = 0; i < WEEKS * 7 * 3; i++)
		times[history.ndemands++] = began + i / 3 * DEMAND_DAY + DEMAND_HOUR;
	choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 1);
	assert_int_equal(candidate_of(POLICY_FIXED, 0)->policy.level, 3);
	/* one each day, and once two: without the second one it is 60 of 61 */
	for (history.ndemands = 0; history.ndemands < WEEKS * 7; history.ndemands++)
		times[history.ndemands] = began + history.ndemands * DEMAND_DAY + DEMAND_HOUR;
	times[13 * 7 + 5] = times[13 * 7 + 6];
	choose(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 1);
	assert_int_equal(result.candidates[0].earlier.demands, 61);
	assert_int_equal(candidate_of(POLICY_FIXED, 0)->policy.level, 2);
}

/* Passes come late, so that the first level does not serve what counting says. The next one is above. */
static void
test_next_fixed_level(void **state)
{
	DemandHistory history = make_history(WEEKS, 200);
	ChoiceSettings settings = { .from = began + 13 * DEMAND_WEEK,
								.to = began + WEEKS * DEMAND_WEEK,
								.service_level = 0.99,
								.policy = { .max_instances = 100,
											.pass_interval = 10 * DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	int next = 1;

	(void) state;
	configured.value = 1;
	choice_make(&history, &settings, &room, &result);
	assert_false(candidate_of(POLICY_FIXED, 0)->reached);
	for (; candidate_of(POLICY_FIXED, next) != NULL; next++)
		assert_int_equal(candidate_of(POLICY_FIXED, next)->policy.level,
						 candidate_of(POLICY_FIXED, next - 1)->policy.level + 1);
	assert_between(next, 2, 3);
}

/* The bound is the first fit that serves enough, of twelve that aim from the level up to everything. */
static void
test_bound(void **state)
{
	static WeekNeeds needs;
	static WeekSchedule week;
	static ChoiceSchedule bound;
	ChoiceSettings settings = { .to = began + WEEKS * DEMAND_WEEK,
								.service_level = 0.9,
								.prompt = true,
								.policy = { .max_instances = 100,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	Policy policy = { .kind = POLICY_WEEK, .week = &week };
	double misses = 1 - settings.service_level;
	int between = 0;

	(void) state;
	for (int a_day = 5; a_day <= 160; a_day *= 2)
	{
		DemandHistory history = make_history(WEEKS, a_day);
		SimulatorResult played;
		int try = 0;

		policy_memo_init(&room.memo, patterns, CHOICE_PATTERNS);
		choice_bound(&history, &settings, began, &room, &bound);
		week_needs(&history, began, settings.to, 5 * DEMAND_MINUTE, &needs);
		for (; try < 12; try++)
		{
			week_schedule_fit(&needs, WEEK_FREE, 1 - misses * (11 - try) / 11, &week);
			choice_simulate(&history, &settings, began, began, &policy, &room, &played);
			if (simulator_hit_rate(&played.after) >= settings.service_level)
				break;
		}
		assert_int_equal(bound.reached, try < 12);
		assert_memory_equal(&week, &bound.week, sizeof(week));
		assert_memory_equal(&played.after, &bound.later, sizeof(played.after));
		between += try < 11;
	}
	assert_true(between > 0);
}

/* Where all but what is configured give the same, the first one of them is the best effort. */
static void
test_first_best_effort(void **state)
{
	DemandHistory history = {
		.began = began, .demands = times, .configured = &configured, .nconfigured = 1
	};

	(void) state;
	/* two at once, each day, of whom one finds a prebuild */
	for (int i = 0; i < WEEKS * 7 * 2; i++)
		times[history.ndemands++] = began + i / 2 * DEMAND_DAY + DEMAND_HOUR;
	configured.value = 0;
	choose_within(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 1, 1);
	assert_int_equal(result.note, CHOICE_BEST_EFFORT);
	assert_int_equal(result.chosen, 1);
}

/* The later part begins where the caller says, if the earlier one has some time and the range does not end before. */
static void
test_split(void **state)
{
	DemandHistory history = make_history(WEEKS, 40);
	ChoiceSettings settings = { .from = began + 13 * DEMAND_WEEK,
								.to = began + WEEKS * DEMAND_WEEK,
								.service_level = 0.99,
								.policy = { .max_instances = 9,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	int64_t thirds = settings.from + (settings.to - settings.from) / 3 * 2;
	const struct
	{
		int64_t asked, got;
	} cases[] = { { 0, thirds },
				  { settings.from, thirds },
				  { settings.from + 1, settings.from + 1 },
				  { settings.to, settings.to },
				  { settings.to + 1, thirds } };

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		settings.split = cases[i].asked;
		choice_make(&history, &settings, &room, &result);
		assert_int_equal(result.from, settings.from);
		assert_int_equal(result.split, cases[i].got);
	}
}

/* Schedules that are fitted to the weeks before miss a demand that grows. All aims are tried. */
static void
test_growth(void **state)
{
	static const double aims[] = { 0.99, 0.995, 0.998 };
	DemandHistory history = {
		.began = began, .demands = times, .configured = &configured, .nconfigured = 1
	};

	(void) state;
	for (int day = 0; day < 7 * WEEKS; day++)
	{
		int count = 2 + day * day / 100;
		int64_t midnight = began + day * DEMAND_DAY;

		random_times(times + history.ndemands, count, midnight + 8 * DEMAND_HOUR,
					 midnight + 18 * DEMAND_HOUR, DEMAND_SECOND);
		history.ndemands += count;
	}
	choose(&history, began + 8 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 5);
	for (int i = 0; i < 3; i++)
	{
		const ChoiceCandidate *candidate = candidate_of(POLICY_SCHEDULE, i);

		assert_non_null(candidate);
		assert_true(candidate->policy.aim > aims[i] - 1e-9 &&
					candidate->policy.aim < aims[i] + 1e-9);
		assert_true(i == 2 || !candidate->reached);
	}
	assert_null(candidate_of(POLICY_SCHEDULE, 3));
}

/* The forecast that becomes a candidate is the one with the highest price that reaches the level. */
static void
test_price(void **state)
{
	(void) state;
	for (int round = 0; round < 6; round++)
	{
		DemandHistory history = make_history(10, 10 << round);
		ChoiceSettings settings = { .from = began + 4 * DEMAND_WEEK,
									.to = began + 10 * DEMAND_WEEK,
									.service_level = 0.99,
									.prompt = true,
									.policy = { .max_instances = 100,
												.scale_in_delay = 15 * DEMAND_MINUTE,
												.pass_interval = DEMAND_MINUTE,
												.default_lead = 5 * DEMAND_MINUTE } };
		Policy policy = { .kind = POLICY_FORECAST, .price = 4 };
		const ChoiceCandidate *candidate;

		choice_make(&history, &settings, &room, &result);
		candidate = candidate_of(POLICY_FORECAST, 0);
		assert_non_null(candidate);
		for (int number = 0; number < 35; number++, policy.price *= 0.8)
		{
			SimulatorResult figures;

			choice_simulate(&history, &settings, result.from, result.split, &policy, &room,
							&figures);
			if (simulator_hit_rate(&figures.before) >= settings.service_level)
				break;
		}
		assert_true(candidate->policy.price > policy.price * 0.999 &&
					candidate->policy.price < policy.price * 1.001);
	}
}

/* If every price reaches the level, the highest one is the candidate. */
static void
test_highest_price(void **state)
{
	DemandHistory history = make_history(10, 200);
	ChoiceSettings settings = { .from = began + 4 * DEMAND_WEEK,
								.to = began + 10 * DEMAND_WEEK,
								.policy = { .max_instances = 100,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	const ChoiceCandidate *candidate;

	(void) state;
	choice_make(&history, &settings, &room, &result);
	candidate = candidate_of(POLICY_FORECAST, 0);
	assert_non_null(candidate);
	assert_true(candidate->reached);
	assert_true(candidate->policy.price == 4);
}

/* If no price reaches the level, the lowest one is the candidate: what a warm demand is worth. */
static void
test_lowest_price(void **state)
{
	DemandHistory history = make_history(10, 200);
	ChoiceSettings settings = { .from = began + 4 * DEMAND_WEEK,
								.to = began + 10 * DEMAND_WEEK,
								.service_level = 0.99,
								.policy = { .max_instances = 1,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	const ChoiceCandidate *candidate;
	double price = 4;

	(void) state;
	for (int i = 0; i < 34; i++)
		price *= 0.8;
	choice_make(&history, &settings, &room, &result);
	candidate = candidate_of(POLICY_FORECAST, 0);
	assert_non_null(candidate);
	assert_false(candidate->reached);
	assert_true(candidate->policy.price > price * 0.999 && candidate->policy.price < price * 1.001);
}

/*
 * What is configured has one prebuild ten minutes before each of the demands, and none else. Nothing waits
 * less, so it stays, and it has reached the level.
 */
static void
test_what_waits_least_stays(void **state)
{
	static DemandStep steps[2 * WEEKS * 7 + 1] = { { INT64_MIN, 0 } };
	DemandHistory history = {
		.began = began, .demands = times, .configured = steps, .nconfigured = 1
	};

	(void) state;
	for (int day = 0; day < WEEKS * 7; day++)
	{
		int64_t quarter = began + day * DEMAND_DAY + (1 + random_below(94)) * 15 * DEMAND_MINUTE;
		int64_t comes = quarter + 10 * DEMAND_MINUTE;

		times[history.ndemands++] = comes;
		steps[history.nconfigured++] = (DemandStep){ quarter, 1 };
		steps[history.nconfigured++] = (DemandStep){ comes + 1, 0 };
	}
	choose_within(&history, began + 13 * DEMAND_WEEK, began + WEEKS * DEMAND_WEEK, 0, 100);
	for (int i = 1; i < result.ncandidates; i++)
		assert_true(result.candidates[i].earlier.idle > 2 * result.candidates[0].earlier.idle);
	assert_true(result.candidates[0].reached);
	assert_int_equal(result.note, CHOICE_KEPT);
	assert_int_equal(result.chosen, 0);
}

/*
 * At least seven wait, which is more than people who come are worth. Whether all find one or few do: one
 * of the candidates is chosen, and not what is behind the last one.
 */
static void
test_everything_costs_more_than_its_worth(void **state)
{
	DemandHistory history = {
		.began = began, .demands = times, .configured = &configured, .nconfigured = 1
	};
	int64_t from = began + 13 * DEMAND_WEEK;

	(void) state;
	configured.value = 7;
	/* two come once a week */
	for (int week = 0; week < WEEKS; week++)
		for (int i = 0; i < 2; i++)
			times[history.ndemands++] = began + week * DEMAND_WEEK + 2 * DEMAND_DAY;
	choose_within(&history, from, began + WEEKS * DEMAND_WEEK, 7, 7);
	assert_true(result.candidates[0].reached);
	assert_false(result.candidates[0].too_dear);
	assert_int_equal(result.note, CHOICE_KEPT);
	assert_int_equal(result.chosen, 0);
	/* forty come at once, and nobody else */
	for (history.ndemands = 0; history.ndemands < 40; history.ndemands++)
		times[history.ndemands] = from + DEMAND_WEEK;
	choose_within(&history, from, began + WEEKS * DEMAND_WEEK, 7, 7);
	for (int i = 0; i < result.ncandidates; i++)
		assert_false(result.candidates[i].reached);
	assert_int_equal(result.note, CHOICE_BEST_EFFORT);
	assert_between(result.chosen, 0, result.ncandidates - 1);
}

/* Without demands nothing was missed. */
static void
test_hit_rate(void **state)
{
	SimulatorFigures figures = { 0 };

	(void) state;
	assert_true(simulator_hit_rate(&figures) == 1);
	figures.demands = 4;
	assert_true(simulator_hit_rate(&figures) == 0);
	figures.warm = 3;
	assert_true(simulator_hit_rate(&figures) == 0.75);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wasteful_number_is_replaced),
		cmocka_unit_test(test_right_number_stays),
		cmocka_unit_test(test_too_little),
		cmocka_unit_test(test_one_rush_is_not_worth_its_price),
		cmocka_unit_test(test_later_part_has_no_say),
		cmocka_unit_test(test_advice_is_what_it_says),
		cmocka_unit_test(test_advice_is_a_fit),
		cmocka_unit_test(test_first_fixed_level),
		cmocka_unit_test(test_next_fixed_level),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_first_best_effort),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_price),
		cmocka_unit_test(test_highest_price),
		cmocka_unit_test(test_lowest_price),
		cmocka_unit_test(test_what_waits_least_stays),
		cmocka_unit_test(test_everything_costs_more_than_its_worth),
		cmocka_unit_test(test_hit_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
