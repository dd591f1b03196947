/*
 * test_policies.c
 *	  What each policy must answer; that none can see what comes; that the memo changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "assert_between.h"
#include "demand/policies.h"
#include "office_history.h"

#define WEEKS 12

static PolicyMemo memo;
static PolicyMemo fresh;
static PolicyPattern patterns[4];
static PolicyPattern fresh_patterns[1];
static const PolicySettings settings = { 0, 100, 15 * DEMAND_MINUTE, DEMAND_MINUTE,
										 5 * DEMAND_MINUTE };

static PolicyAnswer
ask(const Policy *policy, const DemandHistory *history, int64_t at)
{
	DemandHistory past = demand_history_before(history, at);
	PolicyAnswer answer;

	policy_memo_init(&fresh, fresh_patterns, 1);
	policy_target(policy, &settings, &past, at, &fresh, &answer);
	return answer;
}

/* Play a policy over weeks, and keep its answers at some times. */
static void
play(const Policy *policy, const DemandHistory *history, const int64_t *at, int count,
	 PolicyAnswer *answers)
{
	policy_memo_init(&memo, patterns, 4);
	for (int i = 0; i < count; i++)
	{
		DemandHistory past = demand_history_before(history, at[i]);

		policy_target(policy, &settings, &past, at[i], &memo, &answers[i]);
	}
}

/*
 * Look-ahead: with another future, shuffled or none at all, every answer up to then is the same. The
 * arrays without a future end where the past does, so that the sanitizer sees a reach beyond it.
 */
static void
test_future_changes_nothing(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	static int64_t shuffled[OFFICE_ROOM];
	int64_t at[60];
	PolicyAnswer before[60], after[60];

	(void) state;
	for (int round = 0; round < 20; round++)
	{
		int64_t now = began + (int64_t) random_below(WEEKS * 7 * 24 * 60) * DEMAND_MINUTE;
		int past = demand_count_before(times, history.ndemands, now);
		int future = history.ndemands - past;
		DemandHistory other = history;
		DemandHistory cut = demand_history_before(&history, now);
		int64_t *demands = malloc(sizeof(int64_t) * (size_t) (past + 1));
		DemandBuild *builds = malloc(sizeof(DemandBuild) * (size_t) (cut.nbuilds + 1));

		random_times(at, 60, began, now, DEMAND_SECOND);
		at[59] = now;
		memcpy(shuffled, times, sizeof(times));
		if (future > 0)
			random_times(shuffled + past, future, now, now + (1 + round) * DEMAND_WEEK,
						 DEMAND_SECOND);
		other.demands = shuffled;
		memcpy(demands + 1, times, sizeof(int64_t) * (size_t) past);
		memcpy(builds + 1, measured, sizeof(DemandBuild) * (size_t) cut.nbuilds);
		cut.demands = demands + 1;
		cut.builds = builds + 1;
		for (int p = 0; p < NPOLICIES; p++)
		{
			play(&policies[p], &history, at, 60, before);
			play(&policies[p], &other, at, 60, after);
			assert_memory_equal(before, after, sizeof(before));
			play(&policies[p], &cut, at, 60, after);
			assert_memory_equal(before, after, sizeof(before));
		}
		free(demands);
		free(builds);
	}
}

/* A build that began before and ends after the question is of the future too. */
static void
test_unfinished_build_is_unknown(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int64_t at = began + 10 * DEMAND_WEEK;
	PolicyAnswer before = ask(&policies[3], &history, at);

	(void) state;
	for (int i = 0; i < 300; i++)
		if (measured[i].created < at && measured[i].created + measured[i].took >= at)
			fail_msg("a build is under way already");
	for (int i = 0; i < 300; i++)
		if (measured[i].created >= at)
		{
			measured[i].created = at - DEMAND_SECOND;
			measured[i].took = 5 * DEMAND_HOUR;
			break;
		}
	assert_int_equal(ask(&policies[3], &history, at).target, before.target);
	assert_int_equal(ask(&policies[3], &history, at).lead, before.lead);
}

static void
test_memo_changes_nothing(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int64_t at[300];
	PolicyAnswer answers[300];

	(void) state;
	random_times(at, 300, began, began + WEEKS * DEMAND_WEEK, DEMAND_SECOND);
	for (int p = 0; p < NPOLICIES; p++)
	{
		play(&policies[p], &history, at, 300, answers);
		for (int i = 0; i < 300; i++)
		{
			PolicyAnswer alone = ask(&policies[p], &history, at[i]);

			assert_memory_equal(&alone, &answers[i], sizeof(alone));
		}
	}
}

/* Until an answer says that it may change, and nobody asks, no pass gets another one. */
static void
test_until_holds(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int passes = 0;
	int moved = 0;

	(void) state;
	for (int i = 0; i < 2000; i++)
	{
		const Policy *policy = &policies[random_below(NPOLICIES)];
		int64_t at = began + (int64_t) random_below((WEEKS + 2) * 7 * 24 * 3600) * DEMAND_SECOND;
		PolicyAnswer answer = ask(policy, &history, at);
		int next = demand_count_before(times, history.ndemands, at);
		DemandHistory past = demand_history_before(&history, at);
		int64_t until = policy_until(policy, &settings, &past, at, &fresh, &answer);

		assert_true(until > at);
		assert_true(until <= answer.until);
		if (next < history.ndemands && times[next] < until)
			until = times[next] + 1;
		assert_int_equal(ask(policy, &history, at + (until - at) / 2).target, answer.target);
		assert_int_equal(ask(policy, &history, until - 1).target, answer.target);
		/* passes come at whole minutes */
		for (int64_t pass = at + DEMAND_MINUTE - at % DEMAND_MINUTE; pass < until;
			 pass += DEMAND_MINUTE, passes++)
			assert_int_equal(ask(policy, &history, pass).target, answer.target);
		if (policy->kind == POLICY_FORECAST && until > at + 1)
			moved += ask(policy, &history, until).rate != answer.rate;
	}
	assert_true(passes > 2000);
	assert_true(moved > 200);
}

/*
 * FORECAST's answer holds until the first demand leaves the last minutes or the last day, to the
 * microsecond: those that came just so long ago still count. Questions come shortly before, where nobody
 * asks for a workspace in between.
 */
static void
test_until_the_demand_is_old(void **state)
{
	static const int64_t spans[] = { 30 * DEMAND_MINUTE, DEMAND_DAY };
	DemandHistory history = office_history(WEEKS, 40, WEEKS);

	(void) state;
	for (int s = 0; s < 2; s++)
	{
		int ends = 0;
		int falls = 0;

		policy_memo_init(&memo, patterns, 4);
		for (int i = 0; i < history.ndemands; i++)
		{
			const Policy *policy = &policies[3 + i % 2];
			int64_t counts = times[i] + spans[s];
			int64_t at = counts - (int64_t) (90 + random_below(300)) * DEMAND_SECOND;
			DemandHistory past = demand_history_before(&history, at);
			PolicyAnswer first, last, later;
			int64_t until;

			if (at < began + 3 * DEMAND_WEEK ||
				demand_history_before(&history, counts + 2).ndemands > past.ndemands)
				continue;
			policy_target(policy, &settings, &past, at, &memo, &first);
			until = policy_until(policy, &settings, &past, at, &memo, &first);
			policy_target(policy, &settings, &past, counts, &memo, &last);
			policy_target(policy, &settings, &past, counts + 1, &memo, &later);
			if (until > counts)
				assert_int_equal(last.target, first.target);
			if (until > counts + 1)
				assert_int_equal(later.target, first.target);
			ends += until == counts + 1;
			falls += until == counts + 1 && later.target < first.target;
		}
		assert_true(ends > 100);
		assert_true(falls > 10);
	}
}

/* What is behind the last demand says nothing, whatever it is: how long an answer holds, too. */
static void
test_until_sees_no_future(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int long_ones = 0;

	(void) state;
	policy_memo_init(&memo, patterns, 4);
	for (int round = 0; round < 500; round++)
	{
		/* at night the last minutes have no demand; after a day without, the last day has none */
		int64_t at =
			began + 3 * DEMAND_WEEK + (int64_t) random_below(9 * 7 * 24 * 60) * DEMAND_MINUTE;
		DemandHistory past = demand_history_before(&history, at);
		int64_t behind;
		int64_t until[3];

		if (round % 2 > 0)
			past.ndemands = demand_count_before(times, past.ndemands, at - 2 * DEMAND_DAY);
		behind = times[past.ndemands];
		for (int i = 0; i < 3; i++)
		{
			static const int64_t ages[] = { 0, 30 * DEMAND_MINUTE, DEMAND_DAY };
			PolicyAnswer answer;

			times[past.ndemands] = at - ages[i] + 2 * DEMAND_SECOND;
			policy_target(&policies[4], &settings, &past, at, &memo, &answer);
			until[i] = policy_until(&policies[4], &settings, &past, at, &memo, &answer);
			assert_int_equal(until[i], until[0]);
		}
		times[past.ndemands] = behind;
		long_ones += until[0] > at + DEMAND_MINUTE;
	}
	assert_true(long_ones > 100);
}

static void
test_forecast_follows_the_day(void **state)
{
	DemandHistory history = office_history(WEEKS, 100, WEEKS);
	int64_t wednesday = began + 10 * DEMAND_WEEK + 2 * DEMAND_DAY;
	int noon = ask(&policies[3], &history, wednesday + 12 * DEMAND_HOUR).target;
	int night = ask(&policies[3], &history, wednesday + 3 * DEMAND_HOUR).target;
	int early = ask(&policies[3], &history, wednesday + 8 * DEMAND_HOUR - 5 * DEMAND_MINUTE).target;

	(void) state;
	assert_between(noon, 3, 6);
	assert_int_equal(night, 0);
	/* what is ordered now is there when they come */
	assert_between(early, 2, 6);
}

/* Local noon moves by an hour with the clocks, and the target with it. */
static void
test_daylight_saving(void **state)
{
	DemandHistory history = office_history(WEEKS, 100, WEEKS);
	int64_t wednesday = began + 10 * DEMAND_WEEK + 2 * DEMAND_DAY;
	DemandStep offsets[] = { { INT64_MIN, 0 }, { began + 10 * DEMAND_WEEK, DEMAND_HOUR } };
	int64_t at = wednesday + 7 * DEMAND_HOUR + 30 * DEMAND_MINUTE;

	(void) state;
	assert_between(ask(&policies[3], &history, at).target, 0, 1);
	history.offsets = offsets;
	history.noffsets = 2;
	assert_between(ask(&policies[3], &history, at).target, 3, 6);
}

static void
test_rush_is_answered(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int64_t at = began + 10 * DEMAND_WEEK + 2 * DEMAND_DAY + 12 * DEMAND_HOUR;
	int usual = ask(&policies[3], &history, at).target;
	int past = demand_count_before(times, history.ndemands, at);

	(void) state;
	for (int i = 0; i < 40; i++)
		times[past + i] = at + (i + 1) * 10 * DEMAND_SECOND;
	assert_true(ask(&policies[3], &history, at + 10 * DEMAND_MINUTE).target >= usual + 2);
}

/* A holiday lowers the target within its day; the week after it is as before. */
static void
test_holiday(void **state)
{
	DemandHistory history = office_history(WEEKS, 100, WEEKS);
	int64_t holiday = began + 9 * DEMAND_WEEK;
	int64_t noon = 2 * DEMAND_DAY + 14 * DEMAND_HOUR;
	int usual = ask(&policies[3], &history, holiday + noon).target;
	int from = demand_count_before(times, history.ndemands, holiday);
	int to = demand_count_before(times, history.ndemands, holiday + DEMAND_WEEK);

	(void) state;
	memmove(times + from + 1, times + to, sizeof(int64_t) * (size_t) (history.ndemands - to));
	times[from] = holiday + DEMAND_DAY;
	history.ndemands -= to - from - 1;
	assert_true(ask(&policies[3], &history, holiday + noon).target < usual);
	assert_true(ask(&policies[3], &history, holiday + DEMAND_WEEK + noon).target >= usual - 1);
}

static void
test_demand_that_stops(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int64_t last = times[history.ndemands - 1];

	(void) state;
	for (int p = 2; p < NPOLICIES; p++)
		for (int days = 6; days < 300; days += 7)
		{
			PolicyAnswer answer = ask(&policies[p], &history, last + days * DEMAND_DAY);

			assert_int_equal(answer.target, 0);
			assert_int_equal(answer.reason, POLICY_SILENT);
			assert_true(answer.until > last + days * DEMAND_DAY);
		}
}

static void
test_too_little_keeps_what_is_configured(void **state)
{
	DemandHistory history = office_history(WEEKS, 40, WEEKS);
	int64_t noon = 3 * DEMAND_DAY + 12 * DEMAND_HOUR;

	(void) state;
	for (int p = 2; p < NPOLICIES; p++)
	{
		PolicyAnswer answer = ask(&policies[p], &history, began + DEMAND_WEEK + noon);

		assert_int_equal(answer.target, 5);
		assert_int_equal(answer.reason, POLICY_TOO_LITTLE);
		answer = ask(&policies[p], &history, began + 2 * DEMAND_WEEK + noon);
		assert_int_equal(answer.reason, POLICY_SAYS);
	}
	history.ndemands = 0;
	assert_int_equal(ask(&policies[3], &history, began + 5 * DEMAND_WEEK).target, 5);
}

/* Twenty demands are enough to learn from, and to say that the demand has stopped; nineteen are not. */
static void
test_twenty_demands(void **state)
{
	static int64_t demands[POLICY_DEMANDS_MIN];
	static const DemandStep configured = { INT64_MIN, 5 };
	Policy schedule = { .kind = POLICY_SCHEDULE, .aim = 0.99 };
	DemandHistory history = {
		.began = began, .demands = demands, .configured = &configured, .nconfigured = 1
	};
	int64_t at = began + 4 * DEMAND_WEEK + DEMAND_HOUR;

	(void) state;
	for (int i = 0; i < POLICY_DEMANDS_MIN; i++)
		demands[i] = began + (i + 8) * DEMAND_DAY + DEMAND_HOUR;
	for (history.ndemands = POLICY_DEMANDS_MIN; history.ndemands >= POLICY_DEMANDS_MIN - 1;
		 history.ndemands--)
	{
		bool enough = history.ndemands == POLICY_DEMANDS_MIN;

		assert_int_equal(ask(&schedule, &history, at).reason,
						 enough ? POLICY_SAYS : POLICY_TOO_LITTLE);
		assert_int_equal(policy_is_silent(&history, at + POLICY_SILENCE), enough);
	}
}

/* The forecast counts with the demand of the time that a new prebuild takes, before the hours begin, too. */
static void
test_forecast_looks_ahead(void **state)
{
	DemandHistory history = office_history(WEEKS, 200, WEEKS);
	int64_t eight = began + 9 * DEMAND_WEEK + DEMAND_DAY + 8 * DEMAND_HOUR;

	(void) state;
	for (int i = 0; i < OFFICE_BUILDS; i++)
		measured[i].took = 90 * DEMAND_MINUTE;
	assert_true(ask(&policies[4], &history, eight - DEMAND_HOUR).target >= 20);
	assert_true(ask(&policies[4], &history, eight - 4 * DEMAND_HOUR).target < 20);
}

/* Weeks begin on Monday, also before the first one that times count from. */
static void
test_monday(void **state)
{
	int64_t monday = DEMAND_FIRST_MONDAY - 10 * DEMAND_WEEK;

	(void) state;
	assert_int_equal(policy_learns_at(monday), monday);
	assert_int_equal(policy_learns_at(monday + 1), monday);
	assert_int_equal(policy_learns_at(monday - 1), monday - DEMAND_WEEK);
}

static void
test_bounds(void **state)
{
	DemandHistory history = office_history(WEEKS, 100, WEEKS);
	PolicySettings narrow = settings;
	PolicyAnswer answer;

	(void) state;
	narrow.min_instances = 1;
	narrow.max_instances = 2;
	for (int hour = 0; hour < 24; hour++)
	{
		int64_t at = began + 10 * DEMAND_WEEK + hour * DEMAND_HOUR;
		DemandHistory past = demand_history_before(&history, at);

		policy_memo_init(&fresh, fresh_patterns, 1);
		policy_target(&policies[4], &narrow, &past, at, &fresh, &answer);
		assert_between(answer.target, 1, 2);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_future_changes_nothing),
		cmocka_unit_test(test_unfinished_build_is_unknown),
		cmocka_unit_test(test_memo_changes_nothing),
		cmocka_unit_test(test_until_holds),
		cmocka_unit_test(test_until_the_demand_is_old),
		cmocka_unit_test(test_until_sees_no_future),
		cmocka_unit_test(test_forecast_follows_the_day),
		cmocka_unit_test(test_daylight_saving),
		cmocka_unit_test(test_rush_is_answered),
		cmocka_unit_test(test_holiday),
		cmocka_unit_test(test_demand_that_stops),
		cmocka_unit_test(test_too_little_keeps_what_is_configured),
		cmocka_unit_test(test_twenty_demands),
		cmocka_unit_test(test_forecast_looks_ahead),
		cmocka_unit_test(test_monday),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
