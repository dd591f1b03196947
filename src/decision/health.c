/*
 * health.c
 *	  What keeps a pool healthy: which members are sick, which ones that are left of failures go,
 *	  and how many expired ones have to stay until their replacements are ready.
 *
 *	  Rolling replacement follows the Deployment controller of Kubernetes (maxUnavailable rounds
 *	  down, maxSurge rounds up; one of the two is at least 1): delete what may go at once, build
 *	  what there is room for, and repeat.
 *
 *	  Pure: no server, no clock, no allocation.
 */
#include <stdlib.h>

#include "decision/decision_parts.h"

/* No retry of a delete build waits longer than a day. */
#define LONGEST_DELETE_DELAY (INT64_C(24) * 3600 * DECISION_USECS_PER_SEC)

/* True if a policy tells sick members from healthy ones. */
static bool
keeps_health(const HealthPolicy *policy)
{
	return policy->unready_grace > 0 || policy->disconnected_grace > 0;
}

/* True if sick members of the preset are replaced. Then the reader has to find out about them. */
bool
decision_keeps_health(const Preset *preset)
{
	return keeps_health(&preset->policy);
}

/*
 * True if expired members may have to stay until their replacements are ready. Then they count as
 * eligible, and claims take them.
 */
bool
decision_rolls(const HealthPolicy *policy)
{
	return !(policy->max_unavailable.percent && policy->max_unavailable.value >= 100);
}

/* True if a member's agent, seen last at its "seen_at", has been silent for longer than the grace. */
static bool
is_silent(const PoolMember *member, const HealthPolicy *policy, int64_t at)
{
	return policy->disconnected_grace > 0 && member->seen_at != INT64_MAX &&
		   age_of(member->seen_at, at) > (uint64_t) policy->disconnected_grace;
}

/*
 * True if the caller has to find out when a member's agents were seen last, and "seen_at" is only a
 * lower bound of that. If the bound lies within the grace, so does every later time, and the member
 * is not sick by either.
 */
bool
decision_needs_seen_at(const PoolSnapshot *snapshot, const PoolMember *member, int64_t at)
{
	return is_running(member) && member->current_preset >= 0 &&
		   is_silent(member, &snapshot->presets[member->current_preset].policy, at);
}

/* Why a running member is sick at a time, by a policy. */
Sickness
health_sickness(const PoolMember *member, const HealthPolicy *policy, int64_t at)
{
	if (!keeps_health(policy))
		return SICK_NOT;
	if (member->unwell)
		return SICK_STATE;
	if (policy->unready_grace > 0 && !member->ready &&
		age_of(member->completed_at, at) > (uint64_t) policy->unready_grace)
		return SICK_UNREADY;
	if (is_silent(member, policy, at))
		return SICK_DISCONNECTED;
	return SICK_NOT;
}

/* ---- what is left of failures ---- */

/* The preset whose policy says what becomes of a member that does not run, or -1. */
static int
preset_of_rest(const PoolMember *member)
{
	return member->current_preset >= 0 ? member->current_preset : member->build_preset;
}

/* True for a member that a failure left behind: nobody uses it, and nothing happens to it. */
static bool
is_left(const PoolMember *member)
{
	if (member->transition == TRANSITION_DELETE)
		return false;
	return member->job_status == JOB_FAILED || member->job_status == JOB_CANCELED ||
		   (member->transition == TRANSITION_STOP && member->job_status == JOB_SUCCEEDED);
}

/* True for a member that a delete build should have taken away. */
static bool
is_undeleted(const PoolMember *member)
{
	return member->transition == TRANSITION_DELETE &&
		   (member->job_status == JOB_FAILED || member->job_status == JOB_CANCELED);
}

/*
 * True if the caller has to find out how often a member's delete build was tried: if the last one
 * failed, and the policy tries it again.
 */
bool
decision_needs_attempts(const PoolSnapshot *snapshot, const PoolMember *member)
{
	int preset = preset_of_rest(member);

	return is_undeleted(member) && preset >= 0 &&
		   snapshot->presets[preset].policy.delete_retries > 0;
}

/* Decide about a member whose delete build failed. Each retry waits twice as long as the last. */
static void
judge_undeleted(PoolMember *member, const HealthPolicy *policy, const DecisionSettings *settings)
{
	int64_t delay = settings->backoff_interval;

	for (int i = 1; i < member->delete_attempts && delay < LONGEST_DELETE_DELAY; i++)
		delay *= 2;
	if (delay > LONGEST_DELETE_DELAY)
		delay = LONGEST_DELETE_DELAY;
	if (member->delete_attempts > policy->delete_retries)
		member->deletes_given_up = true;
	else if (age_of(member->build_created_at, settings->at) >= (uint64_t) delay)
		member->verdict = VERDICT_DELETE_AGAIN;
}

/* Order by the preset that decides, then the newest build first, ties by the build's id. */
static int
compare_rests(const void *left, const void *right)
{
	const PoolMember *a = *(PoolMember *const *) left;
	const PoolMember *b = *(PoolMember *const *) right;
	int preset_a = preset_of_rest(a);
	int preset_b = preset_of_rest(b);

	if (preset_a != preset_b)
		return preset_a < preset_b ? -1 : 1;
	if (a->build_created_at != b->build_created_at)
		return compare_int64(b->build_created_at, a->build_created_at);
	return memcmp(a->build_id.bytes, b->build_id.bytes, sizeof(a->build_id.bytes));
}

/*
 * Decide about the members that failures left behind. Of each preset the newest stay as evidence;
 * the others go once their build is old enough.
 */
void
health_judge_leaks(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	int n = 0;
	int kept = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
	{
		PoolMember *member = &snapshot->members[i];
		int preset = preset_of_rest(member);

		if (preset < 0)
			continue;
		if (decision_needs_attempts(snapshot, member))
			judge_undeleted(member, &snapshot->presets[preset].policy, settings);
		else if (is_left(member) && snapshot->presets[preset].policy.failed_retention > 0)
			snapshot->order[n++] = member;
	}
	qsort(snapshot->order, n, sizeof(PoolMember *), compare_rests);
	for (int i = 0; i < n; i++)
	{
		PoolMember *member = snapshot->order[i];
		int preset = preset_of_rest(member);
		const HealthPolicy *policy = &snapshot->presets[preset].policy;

		if (i == 0 || preset_of_rest(snapshot->order[i - 1]) != preset)
			kept = 0;
		if (kept++ >= policy->failed_keep &&
			age_of(member->build_created_at, settings->at) > (uint64_t) policy->failed_retention)
			member->verdict = VERDICT_DELETE_LEFT;
	}
}

/* ---- rolling replacement ---- */

/* How many of a target's instances may be missing because of deletes of ours, at most all. */
static int32_t
unavailable(const Preset *preset)
{
	Amount amount = preset->policy.max_unavailable;
	int64_t unavailable =
		amount.percent ? (int64_t) preset->desired * amount.value / 100 : amount.value;

	return unavailable > preset->desired ? preset->desired : (int32_t) unavailable;
}

/* How many members there may be beyond the target. */
static int32_t
surge(const Preset *preset)
{
	Amount amount = preset->policy.max_surge;
	int64_t surge =
		amount.percent ? ((int64_t) preset->desired * amount.value + 99) / 100 : amount.value;

	/* without either, nothing could ever be replaced */
	if (surge == 0 && unavailable(preset) == 0)
		surge = 1;
	return surge > INT32_MAX ? INT32_MAX : (int32_t) surge;
}

/* True for an expired member that still serves. */
static bool
may_have_to_stay(const PoolSnapshot *snapshot, const PoolMember *member)
{
	return member->verdict == VERDICT_DELETE_EXPIRED && member->ready &&
		   member->sickness == SICK_NOT &&
		   decision_rolls(&snapshot->presets[member->current_preset].policy);
}

/* Order by preset, then the oldest first. */
static int
compare_by_preset_and_age(const void *left, const void *right)
{
	const PoolMember *a = *(PoolMember *const *) left;
	const PoolMember *b = *(PoolMember *const *) right;

	if (a->current_preset != b->current_preset)
		return a->current_preset < b->current_preset ? -1 : 1;
	return decision_compare_age(a, b);
}

/*
 * Take the verdict back from expired members that have to stay, the newest of them: so many that
 * the eligible ones, after the deletes of this pass, are the target less max_unavailable. Counts
 * them in the preset's "serving". The presets' counts must be known. Of the members that are not
 * expired, decision_settle() deletes those beyond the target, ready ones only if that many are.
 */
void
health_roll(PoolSnapshot *snapshot)
{
	int n = 0;
	int end;

	for (int i = 0; i < snapshot->nmembers; i++)
		if (may_have_to_stay(snapshot, &snapshot->members[i]))
			snapshot->order[n++] = &snapshot->members[i];
	qsort(snapshot->order, n, sizeof(PoolMember *), compare_by_preset_and_age);
	for (int first = 0; first < n; first = end)
	{
		int number = snapshot->order[first]->current_preset;
		Preset *preset = &snapshot->presets[number];
		int32_t fresh; /* ready members that are not expired, after the pass */
		int32_t stay;

		for (end = first + 1; end < n && snapshot->order[end]->current_preset == number;)
			end++;
		fresh = preset->eligible - (end - first);
		stay = preset->desired - unavailable(preset) - fresh;
		for (int i = end - 1; i >= first && stay > 0; i--, stay--)
		{
			snapshot->order[i]->verdict = VERDICT_LEAVE;
			preset->serving++;
		}
	}
}

/*
 * How many prebuilds may be created beside "valid" members that run or are being built and the
 * expired ones that stay: up to the target and the surge, in all.
 */
int32_t
health_room(const Preset *preset, int32_t valid)
{
	int64_t room = (int64_t) preset->desired + surge(preset) - valid - preset->serving;

	if (room < 0)
		return 0;
	return room > INT32_MAX ? INT32_MAX : (int32_t) room;
}
