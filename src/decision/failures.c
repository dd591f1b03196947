/*
 * failures.c
 *	  Backoff, hard limit and probes: what failed builds mean for their preset.
 *
 *	  The builds that count are the latest builds of the pool's members, if they are start builds of
 *	  a kept version, and those that failed and whose member is gone (PastFailure). A build counts
 *	  as failed if its job failed in the hands of a worker, or if its member is sick by the preset's
 *	  policy. A job that ended without a worker says nothing about the template and does not count.
 *
 *	  Pure: no server, no clock, no allocation.
 */
#include <stdlib.h>

#include "decision/decision_parts.h"

/* A backoff ends at most a century after the last failure. */
#define LONGEST_BACKOFF (INT64_C(100) * 365 * 24 * 3600 * DECISION_USECS_PER_SEC)

/* Probes of a hard-limited preset are at most a day apart. */
#define LONGEST_PROBE_DELAY (INT64_C(24) * 3600 * DECISION_USECS_PER_SEC)

/* Order by preset, then the newest build first, ties by the build's id. */
static int
compare_by_newest_build(const void *left, const void *right)
{
	const Attempt *a = left;
	const Attempt *b = right;

	if (a->preset != b->preset)
		return a->preset < b->preset ? -1 : 1;
	if (a->created_at != b->created_at)
		return compare_int64(b->created_at, a->created_at);
	return memcmp(a->build_id.bytes, b->build_id.bytes, sizeof(a->build_id.bytes));
}

/* Linear delay: num_failed times the interval, without overflow, at most backoff_max. */
static int64_t
backoff_delay(int32_t num_failed, const DecisionSettings *settings)
{
	int64_t longest = LONGEST_BACKOFF;

	if (settings->backoff_max > 0 && settings->backoff_max < longest)
		longest = settings->backoff_max;
	if (settings->backoff_interval > longest / num_failed)
		return longest;
	return settings->backoff_interval * num_failed;
}

/*
 * Find the backoff of one preset from its n builds, newest first. What a probe forgives, which
 * judge_hard_limit() finds, does not count.
 */
static void
judge_backoff(Preset *preset, const Attempt *builds, int n, const DecisionSettings *settings)
{
	int64_t since = settings->at - settings->backoff_lookback;
	int window = preset->desired > 1 ? preset->desired : 1;
	const Attempt *last_failed = NULL;

	for (int i = 0; i < n; i++)
	{
		bool forgiven = preset->forgive && builds[i].created_at <= preset->forgive_until;
		bool counts = builds[i].failed && !forgiven && builds[i].created_at >= since;

		preset->num_failed += counts;
		if (counts && i < window && last_failed == NULL)
			last_failed = &builds[i];
	}
	if (last_failed != NULL)
	{
		int64_t last = last_failed->created_at;
		int64_t delay = backoff_delay(preset->num_failed, settings);

		preset->has_backoff_until = true;
		preset->backoff_until = last > INT64_MAX - delay ? INT64_MAX : last + delay;
		preset->backing_off = preset->kept && settings->at <= preset->backoff_until;
	}
}

/*
 * The delay before the next probe, from the failures in a row, newest first. It doubles with each
 * probe that failed. A failure beyond the limit was a probe if it came at least as long after the
 * one before as the policy demands; the others are of the same pass as the one that reached the
 * limit.
 */
static int64_t
probe_delay(const Attempt *const *failures, int n, int limit, int64_t first_delay)
{
	int64_t delay = first_delay;

	for (int i = 0; i < n - limit && delay < LONGEST_PROBE_DELAY; i++)
		if (age_of(failures[i + 1]->created_at, failures[i]->created_at) >= (uint64_t) first_delay)
			delay *= 2;
	return delay < LONGEST_PROBE_DELAY ? delay : LONGEST_PROBE_DELAY;
}

/* The longest run of failures that matters: then the delay is the longest, too. */
#define LONGEST_RUN 64

/* The newest builds of a preset, up to one that became ready. */
typedef struct Run
{
	int length;							/* of failed ones */
	const Attempt *failed[LONGEST_RUN]; /* the newest of these */
	bool building;						/* a build newer than they waits or runs */
	int64_t tried_at;					/* when the newest one without an answer was over */
	int end;							/* where the run ends among the builds */
} Run;

/*
 * Find the run of failures from a position on among n builds, newest first. Without probes, any
 * build that did not fail ends it. With probes, one that is not ready (yet) does not, because it may
 * be the probe.
 */
static void
find_run(Run *run, const Attempt *builds, int from, int n, bool probes)
{
	run->length = 0;
	run->building = false;
	run->tried_at = INT64_MIN;
	for (run->end = from; run->end < n; run->end++)
	{
		const Attempt *build = &builds[run->end];

		if (build->failed)
		{
			if (run->length < LONGEST_RUN)
				run->failed[run->length] = build;
			run->length++;
		}
		else if (!probes || build->ready)
			return;
		else if (run->length == 0)
		{
			run->building = run->building || build->building;
			if (run->tried_at < build->over_at)
				run->tried_at = build->over_at;
		}
	}
}

/* True if one of n builds failed. */
static bool
any_failed(const Attempt *builds, int n)
{
	for (int i = 0; i < n; i++)
		if (builds[i].failed)
			return true;
	return false;
}

/*
 * Find out when a hard-limited preset gets its next probe. One that is over, but neither failed nor
 * became ready (somebody canceled it, or its agents hang), counts for the pace.
 */
static void
judge_probe(Preset *preset, const Run *run, const DecisionSettings *settings)
{
	int known = run->length < LONGEST_RUN ? run->length : LONGEST_RUN;
	int64_t last = run->failed[0]->created_at;
	int64_t delay;

	if (run->tried_at > last)
		last = run->tried_at;
	delay = probe_delay(run->failed, known, settings->failure_hard_limit,
						preset->policy.hard_limit_retry);
	preset->next_probe = last > INT64_MAX - delay ? INT64_MAX : last + delay;
	preset->probe_due = !run->building && settings->at >= preset->next_probe;
}

/*
 * Find the hard limit of one preset from its n builds, newest first. A probe that became ready ends
 * it. A claim may take that member before the next pass: if the preset was hard-limited, or would be
 * without it, the failures before it must be forgotten at once. The stored status is not enough, as
 * coderd may have written it.
 */
static void
judge_hard_limit(Preset *preset, const Attempt *builds, int n, const DecisionSettings *settings)
{
	bool probes = preset->policy.hard_limit_retry > 0;
	int limit = settings->failure_hard_limit;
	Run run, before;

	if (!preset->kept || limit <= 0)
		return;
	find_run(&run, builds, 0, n, probes);
	preset->hard_limited = run.length >= limit;
	if (!probes)
		return;
	if (preset->hard_limited)
		judge_probe(preset, &run, settings);
	else if (run.end < n)
	{
		find_run(&before, builds, run.end + 1, n, true);
		preset->forgive = run.length + before.length >= limit ||
						  (preset->status == STATUS_HARD_LIMITED &&
						   any_failed(&builds[run.end + 1], n - run.end - 1));
		preset->forgive_until = preset->forgive ? builds[run.end].created_at : 0;
	}
}

/* True if failures of builds of this time count for a preset. */
static bool
counts(const Preset *preset, int64_t build_created_at)
{
	return !preset->has_forgiven_until || build_created_at > preset->forgiven_until;
}

/* Add a member's latest build to the attempts if it counts. Says on the member if it failed. */
static void
add_attempt(PoolSnapshot *snapshot, PoolMember *member, int *n)
{
	const Preset *preset;
	Attempt *attempt = &snapshot->attempts[*n];

	if (member->build_preset < 0 || member->transition != TRANSITION_START)
		return;
	preset = &snapshot->presets[member->build_preset];
	if (preset->template_deleted || !is_kept_version(&member->template_version_id, preset))
		return;
	if (member->job_status == JOB_FAILED && member->job_never_taken)
		return;
	attempt->failed = member->job_status == JOB_FAILED || member->sickness != SICK_NOT;
	if (attempt->failed && !counts(preset, member->build_created_at))
		return;
	attempt->ready = is_running(member) && member->ready && !attempt->failed;
	attempt->preset = member->build_preset;
	attempt->build_id = member->build_id;
	attempt->created_at = member->build_created_at;
	if (member->verdict != VERDICT_LEAVE)
	{
		/* what goes without an answer is no probe any more */
		attempt->building = false;
		attempt->over_at = INT64_MIN;
	}
	else
	{
		attempt->building = is_building(member);
		attempt->over_at = is_running(member) ? member->completed_at : member->build_created_at;
	}
	member->is_failure = attempt->failed;
	(*n)++;
}

/*
 * Judge the failures of every preset. Must be known: the members' sickness, and which of them go
 * (too many of them aside).
 */
void
failures_judge(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	int n = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
		add_attempt(snapshot, &snapshot->members[i], &n);
	for (int i = 0; i < snapshot->nfailures; i++)
	{
		const PastFailure *past = &snapshot->failures[i];

		const Preset *preset = &snapshot->presets[past->preset];

		if (!preset->template_deleted && is_kept_version(&preset->template_version_id, preset) &&
			counts(preset, past->build_created_at))
			snapshot->attempts[n++] = (Attempt){ .preset = past->preset,
												 .build_id = past->build_id,
												 .created_at = past->build_created_at,
												 .failed = true };
	}
	qsort(snapshot->attempts, n, sizeof(Attempt), compare_by_newest_build);
	for (int first = 0, end; first < n; first = end)
	{
		Preset *preset = &snapshot->presets[snapshot->attempts[first].preset];

		for (end = first + 1;
			 end < n && snapshot->attempts[end].preset == snapshot->attempts[first].preset;)
			end++;
		judge_hard_limit(preset, &snapshot->attempts[first], end - first, settings);
		judge_backoff(preset, &snapshot->attempts[first], end - first, settings);
	}
}
