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

/* Find the backoff of one preset from its n builds, newest first. */
static void
judge_backoff(Preset *preset, const Attempt *builds, int n, const DecisionSettings *settings)
{
	int64_t since = settings->at - settings->backoff_lookback;
	int window = preset->desired > 1 ? preset->desired : 1;
	const Attempt *last_failed = NULL;

	for (int i = 0; i < n; i++)
	{
		bool counts = builds[i].failed && builds[i].created_at >= since;

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
		if (failures[i]->created_at - failures[i + 1]->created_at >= first_delay)
			delay *= 2;
	return delay < LONGEST_PROBE_DELAY ? delay : LONGEST_PROBE_DELAY;
}

/* The longest run of failures that matters: then the delay is the longest, too. */
#define LONGEST_RUN 64

/*
 * Find the hard limit of one preset from its n builds, newest first. Without probes, the newest
 * builds must all have failed. With probes, a build that is not over yet does not end the limit,
 * because it may be the probe.
 */
static void
judge_hard_limit(Preset *preset, const Attempt *builds, int n, const DecisionSettings *settings)
{
	bool probes = preset->policy.hard_limit_retry > 0;
	int limit = settings->failure_hard_limit;
	const Attempt *run[LONGEST_RUN];
	int length = 0;
	int open = 0; /* newer builds that are not over */
	int i;

	for (i = 0; i < n && (builds[i].failed || (probes && !builds[i].ready)); i++)
	{
		if (builds[i].failed)
		{
			if (length < LONGEST_RUN)
				run[length] = &builds[i];
			length++;
		}
		else
			open += length == 0;
	}
	preset->hard_limited = preset->kept && limit > 0 && length >= limit;
	if (!probes || !preset->kept)
		return;
	if (preset->hard_limited)
	{
		int64_t delay = probe_delay(run, length < LONGEST_RUN ? length : LONGEST_RUN, limit,
									preset->policy.hard_limit_retry);

		preset->next_probe = run[0]->created_at + delay;
		preset->probe_due = open == 0 && settings->at >= preset->next_probe;
	}
	else if (preset->status == STATUS_HARD_LIMITED && i < n && builds[i].ready)
	{
		/* a claim may take the member before the next pass, which must not see the old failures */
		preset->forgive = true;
		preset->forgive_until = builds[i].created_at;
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
	if (preset->template_deleted || !is_of_kept_version(member, preset))
		return;
	if (member->job_status == JOB_FAILED && member->job_never_taken)
		return;
	attempt->failed = member->job_status == JOB_FAILED || member->sickness != SICK_NOT;
	if (attempt->failed && !counts(preset, member->build_created_at))
		return;
	attempt->preset = member->build_preset;
	attempt->build_id = member->build_id;
	attempt->created_at = member->build_created_at;
	attempt->ready = is_running(member) && member->ready && !attempt->failed;
	member->is_failure = attempt->failed;
	(*n)++;
}

/* Judge the failures of every preset. The members' sickness must be known. */
void
failures_judge(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	int n = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
		add_attempt(snapshot, &snapshot->members[i], &n);
	for (int i = 0; i < snapshot->nfailures; i++)
	{
		const PastFailure *past = &snapshot->failures[i];

		if (counts(&snapshot->presets[past->preset], past->build_created_at))
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
		judge_backoff(preset, &snapshot->attempts[first], end - first, settings);
		judge_hard_limit(preset, &snapshot->attempts[first], end - first, settings);
	}
}
