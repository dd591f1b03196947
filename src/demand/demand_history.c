/*
 * demand_history.c
 *	  Look things up in a preset's history. Pure.
 */
#include "demand/demand_history.h"

#include <stdlib.h>

/* Return how many of the ascending times are before a time. */
int
demand_count_before(const int64_t *times, int count, int64_t at)
{
	int low = 0;
	int high = count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (times[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Return how many of the steps have begun at a time. */
static int
steps_begun(const DemandStep *steps, int count, int64_t at)
{
	int low = 0;
	int high = count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (steps[middle].from <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Return the history as it was known at a time: without demands and builds from then on, and
 * without configuration that came later. (A build that was created before and ended after is still
 * there; demand_lead() leaves it out.) The arrays are shared with the argument.
 */
DemandHistory
demand_history_before(const DemandHistory *history, int64_t at)
{
	DemandHistory past = *history;
	int low = 0;
	int high = history->nbuilds;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (history->builds[middle].created < at)
			low = middle + 1;
		else
			high = middle;
	}
	past.nbuilds = low;
	past.ndemands = demand_count_before(history->demands, history->ndemands, at);
	past.nconfigured = steps_begun(history->configured, history->nconfigured, at);
	return past;
}

/* Return the value that holds at a time; the other one before the first step. */
int64_t
demand_step_value(const DemandStep *steps, int count, int64_t at, int64_t otherwise)
{
	int begun = steps_begun(steps, count, at);

	return begun > 0 ? steps[begun - 1].value : otherwise;
}

/* Return when the value that holds at a time ends; INT64_MAX if it holds for good. */
int64_t
demand_step_until(const DemandStep *steps, int count, int64_t at)
{
	int begun = steps_begun(steps, count, at);

	return begun < count ? steps[begun].from : INT64_MAX;
}

/* Return the local time, as microseconds since 2000-01-01 00:00 on the wall clock. */
int64_t
demand_local_time(const DemandHistory *history, int64_t at)
{
	return at + demand_step_value(history->offsets, history->noffsets, at, 0);
}

/* Return how far into its local week, which begins on Monday at midnight, a time is. */
int64_t
demand_time_of_week(const DemandHistory *history, int64_t at)
{
	int64_t since = (demand_local_time(history, at) - DEMAND_FIRST_MONDAY) % DEMAND_WEEK;

	return since >= 0 ? since : since + DEMAND_WEEK;
}

/* Return the part of the local week around a time that has that time's offset. */
static DemandWeek
week_of(const DemandHistory *history, int64_t at)
{
	int begun = steps_begun(history->offsets, history->noffsets, at);
	DemandWeek week;

	week.begins = at - demand_time_of_week(history, at);
	week.from = week.begins;
	week.until = week.begins + DEMAND_WEEK;
	if (begun > 0 && history->offsets[begun - 1].from > week.from)
		week.from = history->offsets[begun - 1].from;
	if (begun < history->noffsets && history->offsets[begun].from < week.until)
		week.until = history->offsets[begun].from;
	return week;
}

/*
 * Return what demand_time_of_week() does, sooner: *near is the week of the last question, or none (all
 * 0), and becomes this one's.
 */
int64_t
demand_time_of_near_week(const DemandHistory *history, int64_t at, DemandWeek *near)
{
	if (at < near->from || at >= near->until)
		*near = week_of(history, at);
	return at - near->begins;
}

static int
compare_spans(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a;
	int64_t y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/*
 * Compute the lead time from the builds that ended in the two weeks before a time. With too few
 * successful ones it is what the caller gives: the template's, or the setting.
 */
void
demand_lead(const DemandHistory *past, int64_t at, int64_t otherwise, DemandLead *lead)
{
	int64_t spans[DEMAND_LEAD_SAMPLES];
	int n = 0;
	int failed = 0;
	double all = 0;

	for (int i = past->nbuilds - 1; i >= 0 && n < DEMAND_LEAD_SAMPLES; i--)
	{
		const DemandBuild *build = &past->builds[i];

		if (build->created < at - DEMAND_LEAD_WINDOW)
			break;
		if (build->took >= at - build->created)
			continue;
		all += (double) build->took;
		if (build->failed)
			failed++;
		else
			spans[n++] = build->took;
	}
	if (n < DEMAND_LEAD_SAMPLES_MIN)
	{
		*lead = (DemandLead){ .mean = otherwise, .median = otherwise, .p90 = otherwise };
		return;
	}
	qsort(spans, (size_t) n, sizeof(spans[0]), compare_spans);
	lead->samples = n;
	lead->median = spans[(n - 1) / 2];
	lead->p90 = spans[(n * 9 - 1) / 10];
	lead->mean = (int64_t) (all / n);
	lead->failure_rate = (double) failed / (n + failed);
}
