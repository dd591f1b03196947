/*
 * test_policy_learnt.c
 *	  With what a policy has learnt and the demand of a day it answers as with the whole history; and
 *	  what nobody can have learnt is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "demand/policy_learnt.h"
#include "office_history.h"

#define WEEKS 20

static PolicyMemo memo;
static PolicyPattern patterns[1];
static double numbers[POLICY_LEARNT_MOST];
static PolicyRecalled recalled;
static const PolicySettings settings = { 1, 100, 15 * DEMAND_MINUTE, DEMAND_MINUTE,
										 5 * DEMAND_MINUTE };
/* summer time begins in week 15, in which an hour is missing, and ends in week 18 */
static const DemandStep offsets[] = {
	{ INT64_MIN, DEMAND_HOUR },
	{ began + 15 * DEMAND_WEEK + 6 * DEMAND_DAY + DEMAND_HOUR, 2 * DEMAND_HOUR },
	{ began + 18 * DEMAND_WEEK + 6 * DEMAND_DAY + DEMAND_HOUR, DEMAND_HOUR }
};

/* Weeks of office hours, and from some week on nobody. */
static DemandHistory
make_history(int a_day, int weeks)
{
	DemandHistory history = office_history(weeks, a_day, WEEKS);

	history.offsets = offsets;
	history.noffsets = 3;
	return history;
}

/* Leave of a past the last day, and before it as many demands as tell that there were some. */
static DemandHistory
shorten(const DemandHistory *past, int64_t at, int64_t *demands)
{
	DemandHistory shorter = { .configured = past->configured,
							  .nconfigured = past->nconfigured,
							  .offsets = past->offsets,
							  .noffsets = past->noffsets,
							  .demands = demands };
	int first = demand_count_before(past->demands, past->ndemands, at - DEMAND_DAY);
	int recent = past->ndemands - first;

	for (int i = 0; i < POLICY_DEMANDS_MIN; i++)
		demands[i] = first > 0 ? past->demands[first - 1] : at - 60 * DEMAND_DAY;
	memcpy(demands + POLICY_DEMANDS_MIN, past->demands + first, sizeof(int64_t) * (size_t) recent);
	shorter.ndemands = POLICY_DEMANDS_MIN + recent;
	return shorter;
}

/* At any time of the week the answer is the same, whenever in the week the policy has learnt. */
static void
test_same_answers(void **state)
{
	static int64_t demands[OFFICE_ROOM + POLICY_DEMANDS_MIN];
	int silent = 0;
	int policys = 0;

	(void) state;
	for (int round = 0; round < 12; round++)
	{
		DemandHistory history = make_history(1 + round * 5, 17 + random_below(3));

		for (int question = 0; question < 40; question++)
		{
			int64_t at = began + 8 * DEMAND_WEEK +
						 (int64_t) random_below(12 * 7 * 24 * 3600) * DEMAND_SECOND;
			int64_t monday = policy_learns_at(at);
			int64_t learnt = monday + (at - monday) / 1000 * (int64_t) random_below(1000);
			DemandHistory past = demand_history_before(&history, at);
			DemandHistory known = demand_history_before(&history, learnt);
			DemandHistory shorter = shorten(&past, at, demands);

			for (int p = 0; p < NPOLICIES; p++)
			{
				PolicyAnswer whole, kept;
				int n;

				/* a choice needs as many */
				if (known.ndemands < POLICY_DEMANDS_MIN)
					continue;
				policy_memo_init(&memo, patterns, 1);
				policy_target(&policies[p], &settings, &past, at, &memo, &whole);
				policy_memo_init(&memo, patterns, 1);
				n = policy_learnt(&policies[p], &settings, &known, learnt, &memo, numbers);
				assert_int_equal(n > 0, policy_learns(&policies[p]));
				policy_memo_init(&memo, patterns, 1);
				assert_true(policy_recall(&policies[p], numbers, n, &recalled));
				policy_remember(&policies[p], &recalled, at, &memo);
				policy_target(&policies[p], &settings, &shorter, at, &memo, &kept);
				assert_int_equal(kept.target, whole.target);
				assert_int_equal(kept.reason, whole.reason);
				assert_true(kept.rate == whole.rate && kept.factor == whole.factor);
				assert_int_equal(kept.until, whole.until);
				silent += kept.reason == POLICY_SILENT;
				policys += kept.reason == POLICY_SAYS && policy_learns(&policies[p]);
			}
		}
	}
	assert_true(silent > 50);
	assert_true(policys > 500);
}

/* From too little nothing is learnt but that, and the answer is the same. */
static void
test_little_history(void **state)
{
	DemandHistory history = make_history(1, WEEKS);
	int64_t at = began + 2 * DEMAND_DAY + 12 * DEMAND_HOUR;
	DemandHistory past = demand_history_before(&history, at);

	(void) state;
	for (int p = 2; p < 4; p++)
	{
		PolicyAnswer whole, kept;

		policy_memo_init(&memo, patterns, 1);
		policy_target(&policies[p], &settings, &past, at, &memo, &whole);
		policy_memo_init(&memo, patterns, 1);
		assert_int_equal(policy_learnt(&policies[p], &settings, &past, at, &memo, numbers),
						 POLICY_LEARNT_HEAD);
		policy_memo_init(&memo, patterns, 1);
		assert_true(policy_recall(&policies[p], numbers, POLICY_LEARNT_HEAD, &recalled));
		policy_remember(&policies[p], &recalled, at, &memo);
		policy_target(&policies[p], &settings, &past, at, &memo, &kept);
		assert_int_equal(whole.reason, POLICY_TOO_LITTLE);
		assert_int_equal(kept.reason, whole.reason);
		assert_int_equal(kept.target, whole.target);
	}
}

/* Numbers that nobody has learnt, as from a damaged row. */
static void
test_insane_numbers(void **state)
{
	DemandHistory history = make_history(30, 17);
	int64_t at = began + 16 * DEMAND_WEEK;
	DemandHistory past = demand_history_before(&history, at);

	(void) state;
	for (int p = 2; p < 4; p++)
	{
		static const double insane[] = { NAN, INFINITY, -INFINITY, -1, 1e16 };
		int n;

		policy_memo_init(&memo, patterns, 1);
		n = policy_learnt(&policies[p], &settings, &past, at, &memo, numbers);
		assert_true(n > POLICY_LEARNT_HEAD);
		assert_true(policy_recall(&policies[p], numbers, n, &recalled));
		assert_false(policy_recall(&policies[p], numbers, n - 1, &recalled));
		assert_false(policy_recall(&policies[p], numbers, 0, &recalled));
		for (int i = 0; i < 50; i++)
		{
			double *number = &numbers[random_below(n)];
			double was = *number;

			*number = insane[i % 5];
			assert_false(policy_recall(&policies[p], numbers, n, &recalled));
			*number = was;
		}
	}
	numbers[POLICY_LEARNT_HEAD] = 0;
	assert_true(policy_recall(&policies[0], NULL, 0, NULL));
	policy_remember(&policies[0], NULL, at, &memo);
}

/* Whatever the policy, nobody waits for people who do not come any more; a number, too. */
static void
test_silence(void **state)
{
	DemandHistory history = make_history(30, 10);
	int64_t last = history.demands[history.ndemands - 1];

	(void) state;
	for (int p = 1; p < NPOLICIES; p++)
	{
		PolicyAnswer answer;

		policy_memo_init(&memo, patterns, 1);
		policy_target(&policies[p], &settings, &history, last + POLICY_SILENCE - 1, &memo, &answer);
		assert_int_equal(answer.reason, POLICY_SAYS);
		policy_target(&policies[p], &settings, &history, last + POLICY_SILENCE, &memo, &answer);
		assert_int_equal(answer.reason, POLICY_SILENT);
		assert_int_equal(answer.target, settings.min_instances);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_answers),
										cmocka_unit_test(test_little_history),
										cmocka_unit_test(test_insane_numbers),
										cmocka_unit_test(test_silence) };

	return cmocka_run_group_tests_name("policy_learnt", tests, NULL, NULL);
}
