/*
 * policy_learnt.c
 *	  What a policy has learnt, as numbers and back. Pure.
 *
 * To answer, FORECAST needs the pattern of the week and the demand of the last day; SCHEDULE needs its
 * schedule; both need to know whether the demand has stopped. So whoever keeps these numbers asks a
 * policy without months of history, and gets the same answers. The numbers are exact: a double holds
 * each.
 */
#include "demand/policy_learnt.h"

/* More of anything than there can be. A number beyond it was not written by policy_learnt(). */
#define SANE_MOST 1e15

/* The numbers in front, for FORECAST. SCHEDULE has its count of demands alone there. */
enum
{
	LEARNT_DEMANDS,
	LEARNT_WEEKS,
	LEARNT_BURSTS,
	LEARNT_LEVEL,
	LEARNT_DAY_TRUST,
	LEARNT_LEAD_MEAN,
	LEARNT_LEAD_P90
};

/* Does a policy learn from the weeks before? */
bool
policy_learns(const Policy *policy)
{
	return policy->kind == POLICY_SCHEDULE || policy->kind == POLICY_FORECAST;
}

static int
pattern_numbers(const PolicyPattern *pattern, double *numbers)
{
	const DemandRates *rates = &pattern->rates;

	numbers[LEARNT_WEEKS] = rates->weeks;
	numbers[LEARNT_LEAD_MEAN] = (double) pattern->lead.mean;
	numbers[LEARNT_LEAD_P90] = (double) pattern->lead.p90;
	/* too little history: there is nothing else */
	if (rates->weeks == 0)
		return POLICY_LEARNT_HEAD;
	numbers[LEARNT_DEMANDS] = rates->demands;
	numbers[LEARNT_BURSTS] = rates->bursts;
	numbers[LEARNT_LEVEL] = rates->level;
	numbers[LEARNT_DAY_TRUST] = rates->day_trust;
	for (int i = 0; i < RATE_CELLS; i++)
		numbers[POLICY_LEARNT_HEAD + i] = rates->cells[i];
	return POLICY_LEARNT_HEAD + RATE_CELLS;
}

/*
 * Have a policy learn what it needs at a time, and put that into numbers, of which there is room for
 * POLICY_LEARNT_MOST. past: cut at the time. Returns how many there are, 0 if it does not learn.
 */
int
policy_learnt(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
			  int64_t at, PolicyMemo *memo, double *numbers)
{
	if (!policy_learns(policy))
		return 0;
	for (int i = 0; i < POLICY_LEARNT_HEAD; i++)
		numbers[i] = 0;
	if (policy->kind == POLICY_FORECAST)
		return pattern_numbers(policy_learn_pattern(settings, past, at, memo), numbers);
	policy_learn_schedule(policy, settings, past, at, memo);
	numbers[LEARNT_DEMANDS] = memo->needs.demands;
	if (memo->needs.demands < POLICY_DEMANDS_MIN)
		return POLICY_LEARNT_HEAD;
	for (int hour = 0; hour < WEEK_HOURS; hour++)
		numbers[POLICY_LEARNT_HEAD + hour] = memo->schedule.levels[hour];
	return POLICY_LEARNT_HEAD + WEEK_HOURS;
}

static void
recall_pattern(const double *numbers, int n, PolicyPattern *pattern)
{
	DemandRates *rates = &pattern->rates;

	pattern->lead = (DemandLead){ .mean = (int64_t) numbers[LEARNT_LEAD_MEAN],
								  .p90 = (int64_t) numbers[LEARNT_LEAD_P90] };
	/* whether there were enough is all that an answer needs of these two */
	rates->weeks = n > POLICY_LEARNT_HEAD && numbers[LEARNT_WEEKS] > 0 ? RATE_WEEKS_MIN : 0;
	if (rates->weeks == 0)
		return;
	rates->demands = numbers[LEARNT_DEMANDS] < POLICY_DEMANDS_MIN ? 0 : POLICY_DEMANDS_MIN;
	rates->bursts = numbers[LEARNT_BURSTS];
	rates->level = numbers[LEARNT_LEVEL];
	rates->day_trust = numbers[LEARNT_DAY_TRUST];
	for (int i = 0; i < RATE_CELLS; i++)
		rates->cells[i] = numbers[POLICY_LEARNT_HEAD + i];
	demand_rates_sum(rates);
}

/* Are the numbers as many as they should be, and each one that there can be? */
static bool
are_sane(const Policy *policy, const double *numbers, int n)
{
	int all =
		POLICY_LEARNT_HEAD + (policy->kind == POLICY_FORECAST ? RATE_CELLS : (int) WEEK_HOURS);

	if (n != POLICY_LEARNT_HEAD && n != all)
		return false;
	for (int i = 0; i < n; i++)
		/* written so that NaN is not sane, either */
		if (!(numbers[i] >= 0 && numbers[i] <= SANE_MOST))
			return false;
	if (policy->kind == POLICY_SCHEDULE)
		for (int i = POLICY_LEARNT_HEAD; i < n; i++)
			if (numbers[i] > WEEK_LEVELS)
				return false;
	return true;
}

/* Return how much of a PolicyRecalled a policy needs: the pattern is 20 times all else. */
size_t
policy_recalled_size(const Policy *policy)
{
	if (!policy_learns(policy))
		return 0;
	return policy->kind == POLICY_FORECAST ? sizeof(PolicyRecalled)
										   : offsetof(PolicyRecalled, pattern);
}

/*
 * Make of these numbers what the policy has learnt. recalled: room of policy_recalled_size(). Returns
 * false if policy_learnt() cannot have given the numbers; recalled is undefined then.
 */
bool
policy_recall(const Policy *policy, const double *numbers, int n, PolicyRecalled *recalled)
{
	if (!policy_learns(policy))
		return true;
	if (!are_sane(policy, numbers, n))
		return false;
	recalled->demands = n == POLICY_LEARNT_HEAD ? 0 : POLICY_DEMANDS_MIN;
	if (policy->kind == POLICY_FORECAST)
		recall_pattern(numbers, n, &recalled->pattern);
	for (int hour = 0;
		 policy->kind == POLICY_SCHEDULE && hour < WEEK_HOURS && n > POLICY_LEARNT_HEAD; hour++)
		recalled->schedule.levels[hour] = (int16_t) numbers[POLICY_LEARNT_HEAD + hour];
	return true;
}

/*
 * Have a memo remember what the policy has learnt, for a time, so that policy_target() then asks the
 * past for the last day only. recalled: what policy_recall() has made; the memo points to it until
 * the next call for another policy. NULL for a policy that does not learn.
 */
void
policy_remember(const Policy *policy, PolicyRecalled *recalled, int64_t at, PolicyMemo *memo)
{
	if (!policy_learns(policy))
		return;
	if (policy->kind == POLICY_FORECAST)
	{
		memo->patterns = &recalled->pattern;
		memo->npatterns = 1;
		recalled->pattern.valid = true;
		recalled->pattern.learnt_at = policy_learns_at(at);
		return;
	}
	memo->schedule_valid = true;
	memo->schedule_at = policy_learns_at(at);
	memo->needs.demands = recalled->demands;
	memo->schedule = recalled->schedule;
}
