/*
 * decision.c
 *	  Desired against actual, in three steps, each over the whole snapshot:
 *
 *	  decision_judge()	 counts members, finds backoff and hard limit, decides which members go
 *						 whatever the number desired, and how many are too many or missing
 *	  (the caller)		 finds out whether the presets that miss some can be built, and which
 *						 members are sick, of the presets that have too many
 *	  decision_settle()	 decides which of too many go, what to create now, what to withhold and
 *						 why, and shares the caps
 *
 *	  failures.c knows what failed builds mean, health.c what is sick, left behind or has to stay,
 *	  caps.c how presets share what may be built at a time.
 *
 *	  Pure: no server, no clock, no allocation.
 */
#include <stdlib.h>

#include "decision/decision_parts.h"

/*
 * The expiry limit: a running prebuild of the preset that was created before this time is expired.
 */
int64_t
decision_expires_before(const Preset *preset, int64_t at)
{
	int64_t limit = INT64_MIN;

	if (preset->invalidate_after_secs > 0)
		limit = at - preset->invalidate_after_secs * DECISION_USECS_PER_SEC;
	if (preset->has_last_invalidated_at && preset->last_invalidated_at > limit)
		limit = preset->last_invalidated_at;
	return limit;
}

/* True for a preset whose prebuilds a claim may take. */
bool
decision_is_active(const Preset *preset)
{
	return ids_equal(&preset->template_version_id, &preset->active_version_id) &&
		   !preset->template_deleted && !preset->template_deprecated;
}

/* The instances wanted of a staged preset: its share of the target, rounded up. */
static int32_t
staged_target(const Preset *preset)
{
	double share = preset->scheduled * preset->staged_share;
	int32_t whole = (int32_t) share;

	return whole < share ? whole + 1 : whole;
}

/* Reset everything except what the reader filled in. */
static void
reset_preset(Preset *preset)
{
	preset->active = decision_is_active(preset);
	preset->kept = preset->active || (preset->staged_share > 0 && !preset->template_deleted &&
									  !preset->template_deprecated);
	if (preset->active)
		preset->desired = preset->scheduled;
	else
		preset->desired = preset->kept ? staged_target(preset) : 0;
	preset->actual = preset->expired = preset->eligible = preset->extraneous = 0;
	preset->sick = preset->valid = preset->serving = preset->waiting = 0;
	preset->probe_due = preset->forgive = false;
	preset->next_probe = preset->forgive_until = 0;
	preset->starting = preset->stopping = preset->deleting = preset->pending_stale = 0;
	preset->num_failed = 0;
	preset->has_backoff_until = preset->backing_off = preset->hard_limited = false;
	preset->backoff_until = 0;
	preset->shortfall = 0;
	preset->check = BUILD_POSSIBLE;
	preset->check_reason = NULL;
	preset->withheld = WITHHELD_NOT;
	preset->create = preset->capped = 0;
	preset->capped_by = NULL;
	preset->new_status = preset->status;
	preset->remaining = 0;
	preset->first_action = preset->nactions = 0;
}

/* Count a running member for its current preset. */
static void
count_running(PoolMember *member, Preset *preset, int64_t at)
{
	bool expired = member->created_at < decision_expires_before(preset, at);

	member->sickness = health_sickness(member, &preset->policy, at);
	preset->actual++;
	preset->expired += expired;
	preset->sick += member->sickness != SICK_NOT;
	if (!preset->kept)
		member->verdict = VERDICT_DELETE_INACTIVE;
	else if (expired)
		member->verdict = VERDICT_DELETE_EXPIRED;
	else if (member->sickness != SICK_NOT)
		member->verdict = VERDICT_DELETE_SICK;
	else
		preset->valid++;
	if (preset->kept && member->ready && member->sickness == SICK_NOT &&
		(!expired || decision_rolls(&preset->policy)))
		preset->eligible++;
}

/*
 * True for a pending build that a pass would delete as soon as it runs, because neither the preset
 * nor the build itself is active. The build's own version counts, not the preset's: if a version
 * becomes active while a pass creates its first prebuilds, builds of the active version carry a
 * preset of the one before.
 */
static bool
is_stale(const PoolMember *member, const Preset *preset)
{
	return !preset->kept &&
		   (preset->template_deleted || preset->template_deprecated ||
			!is_kept_version(&member->template_version_id, preset)) &&
		   member->build_number == 1 && member->transition == TRANSITION_START &&
		   member->job_status == JOB_PENDING && member->job_unclaimed;
}

/* Count a member whose latest build is in progress, for the preset that the build carries. */
static void
count_building(PoolMember *member, Preset *preset)
{
	if (!member->by_system_user)
		return;
	if (is_stale(member, preset))
	{
		preset->pending_stale++;
		member->verdict = VERDICT_CANCEL;
	}
	else if (is_kept_version(&member->template_version_id, preset))
	{
		preset->starting += member->transition == TRANSITION_START;
		preset->stopping += member->transition == TRANSITION_STOP;
		preset->deleting += member->transition == TRANSITION_DELETE;
	}
}

/* Order the oldest workspace first, ties by its id. */
int
decision_compare_age(const PoolMember *a, const PoolMember *b)
{
	if (a->created_at != b->created_at)
		return compare_int64(a->created_at, b->created_at);
	return memcmp(a->id.bytes, b->id.bytes, sizeof(a->id.bytes));
}

/* Order the least valuable first: sick members, then those not ready, then the oldest. */
static int
compare_by_worth(const PoolMember *a, const PoolMember *b)
{
	if (a->unwell != b->unwell)
		return a->unwell ? -1 : 1;
	if (a->ready != b->ready)
		return a->ready ? 1 : -1;
	return decision_compare_age(a, b);
}

/* Order by current preset, then the least valuable first. */
static int
compare_by_preset_and_worth(const void *left, const void *right)
{
	const PoolMember *a = *(PoolMember *const *) left;
	const PoolMember *b = *(PoolMember *const *) right;

	if (a->current_preset != b->current_preset)
		return a->current_preset < b->current_preset ? -1 : 1;
	return compare_by_worth(a, b);
}

/* Find out how many members of a preset are too many, or missing and with what room to build them. */
static void
count_missing(Preset *preset)
{
	int32_t room;

	if (preset->valid > preset->desired)
		preset->extraneous = preset->valid - preset->desired;
	else if (preset->desired - preset->valid > preset->starting)
		preset->shortfall = preset->desired - preset->valid - preset->starting;
	room = health_room(preset, preset->valid + preset->starting);
	if (preset->shortfall > room)
		preset->waiting = preset->shortfall - room;
}

/*
 * Compute each preset's state, and each member's verdict except which of too many go. Fills the
 * state part of the presets and the members' verdict. Reads only what the reader filled in.
 */
void
decision_judge(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	for (int i = 0; i < snapshot->npresets; i++)
		reset_preset(&snapshot->presets[i]);

	for (int i = 0; i < snapshot->nmembers; i++)
	{
		PoolMember *member = &snapshot->members[i];

		member->verdict = VERDICT_LEAVE;
		member->sickness = SICK_NOT;
		member->is_failure = member->deletes_given_up = false;
		if (member->current_preset < 0 ||
			!decision_keeps_health(&snapshot->presets[member->current_preset]))
			member->unwell = false;
		if (is_running(member) && member->current_preset >= 0)
			count_running(member, &snapshot->presets[member->current_preset], settings->at);
		else if (is_building(member) && member->build_preset >= 0)
			count_building(member, &snapshot->presets[member->build_preset]);
	}

	health_judge_leaks(snapshot, settings);
	health_roll(snapshot);
	failures_judge(snapshot, settings);
	for (int i = 0; i < snapshot->npresets; i++)
		if (snapshot->presets[i].kept)
			count_missing(&snapshot->presets[i]);
}

/*
 * True if the caller has to find out whether a prebuild of this preset can be built: if one is
 * missing, or if the extension marked the preset invalid earlier and may have to take that back.
 */
bool
decision_needs_check(const Preset *preset)
{
	return preset->kept && (preset->shortfall > preset->waiting || preset->marked_invalid_by_us);
}

/* True for a running member that goes for no other reason, of a preset that has too many. */
static bool
may_be_extraneous(const PoolSnapshot *snapshot, const PoolMember *member)
{
	return is_running(member) && member->verdict == VERDICT_LEAVE && member->current_preset >= 0 &&
		   snapshot->presets[member->current_preset].extraneous > 0;
}

/*
 * True if the caller has to find out whether a member is unwell after decision_judge(): some members
 * of its preset go, it is not ready, and its preset's policy did not ask before. An unwell member is
 * never ready.
 */
bool
decision_needs_health(const PoolSnapshot *snapshot, const PoolMember *member)
{
	return !member->ready && may_be_extraneous(snapshot, member) &&
		   !decision_keeps_health(&snapshot->presets[member->current_preset]);
}

/* Mark the running members that exceed the desired number. */
static void
settle_extraneous(PoolSnapshot *snapshot)
{
	int n = 0;
	int preset = -1;
	int left = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
		if (may_be_extraneous(snapshot, &snapshot->members[i]))
			snapshot->order[n++] = &snapshot->members[i];
	qsort(snapshot->order, n, sizeof(PoolMember *), compare_by_preset_and_worth);
	for (int i = 0; i < n; i++)
	{
		if (snapshot->order[i]->current_preset != preset)
		{
			preset = snapshot->order[i]->current_preset;
			left = snapshot->presets[preset].extraneous;
		}
		if (left-- > 0)
			snapshot->order[i]->verdict = VERDICT_DELETE_EXTRANEOUS;
	}
}

/* Compute what the stored status of a preset should be. */
static PrebuildStatus
settle_status(const Preset *preset)
{
	if (!preset->kept)
		return preset->status == STATUS_HARD_LIMITED ? STATUS_HEALTHY : preset->status;
	/* another reconciler found this; leave it alone */
	if (preset->status == STATUS_VALIDATION_FAILED && !preset->marked_invalid_by_us)
		return STATUS_VALIDATION_FAILED;
	if (preset->hard_limited)
		return STATUS_HARD_LIMITED;
	if (preset->check == BUILD_INVALID)
		return STATUS_VALIDATION_FAILED;
	if (preset->check == BUILD_NOT_YET && preset->status == STATUS_VALIDATION_FAILED)
		return STATUS_VALIDATION_FAILED;
	return STATUS_HEALTHY;
}

/* Decide whether to withhold the missing instances of a preset, and why. */
static Withheld
settle_withheld(const Preset *preset)
{
	if (preset->backing_off)
		return WITHHELD_BACKOFF;
	if (preset->hard_limited && !preset->probe_due)
		return WITHHELD_HARD_LIMITED;
	if (preset->new_status == STATUS_VALIDATION_FAILED || preset->check == BUILD_INVALID)
		return WITHHELD_VALIDATION_FAILED;
	if (preset->check == BUILD_UNSUPPORTED)
		return WITHHELD_UNSUPPORTED;
	if (preset->check == BUILD_NOT_YET)
		return WITHHELD_RETRY;
	if (preset->check == BUILD_NO_PROVISIONER)
		return WITHHELD_NO_PROVISIONER;
	return WITHHELD_NOT;
}

/* The preset for which a pass acts on a member. */
int
decision_acting_preset(const PoolMember *member)
{
	if (member->verdict == VERDICT_CANCEL || member->current_preset < 0)
		return member->build_preset;
	return member->current_preset;
}

/*
 * Order by preset, then in the order of execution, then the oldest first, ties by id. Of too many
 * members, the least valuable come first.
 */
static int
compare_by_action(const void *left, const void *right)
{
	const PoolMember *a = *(PoolMember *const *) left;
	const PoolMember *b = *(PoolMember *const *) right;
	int preset_a = decision_acting_preset(a);
	int preset_b = decision_acting_preset(b);

	if (preset_a != preset_b)
		return preset_a < preset_b ? -1 : 1;
	if (a->verdict != b->verdict)
		return a->verdict < b->verdict ? -1 : 1;
	return a->verdict == VERDICT_DELETE_EXTRANEOUS ? compare_by_worth(a, b)
												   : decision_compare_age(a, b);
}

/* Count an eligible member for its preset, which the pass leaves alone. */
static void
count_remaining(PoolSnapshot *snapshot, const PoolMember *member)
{
	if (is_running(member) && member->ready && member->current_preset >= 0)
		snapshot->presets[member->current_preset].remaining++;
}

/*
 * Collect the members to act on, in order, and give each preset its slice of them. Counts what
 * remains.
 */
static void
line_up_actions(PoolSnapshot *snapshot)
{
	int n = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
		if (snapshot->members[i].verdict != VERDICT_LEAVE)
			snapshot->order[n++] = &snapshot->members[i];
		else
			count_remaining(snapshot, &snapshot->members[i]);
	qsort(snapshot->order, n, sizeof(PoolMember *), compare_by_action);
	for (int i = n - 1; i >= 0; i--)
	{
		Preset *preset = &snapshot->presets[decision_acting_preset(snapshot->order[i])];

		preset->first_action = i;
		preset->nactions++;
	}
}

/*
 * Decide which of too many members go, what to create now and what to withhold, from the state and
 * what the caller found out. Fills the last part of the presets, and the snapshot's order: the
 * members to act on, by preset and then in the order of execution.
 */
void
decision_settle(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	for (int i = 0; i < snapshot->npresets; i++)
	{
		Preset *preset = &snapshot->presets[i];

		preset->new_status = settle_status(preset);
		if (!preset->kept)
			continue;
		preset->withheld = settle_withheld(preset);
		if (preset->withheld == WITHHELD_NOT)
			preset->create = preset->shortfall - preset->waiting;
		if (preset->hard_limited && preset->create > 1)
			preset->create = 1; /* the probe */
	}
	caps_apply(snapshot, settings);
	settle_extraneous(snapshot);
	line_up_actions(snapshot);
}

/* Add one preset of a staged version to the version's state. */
static StageState
stage_state_of_preset(const Preset *preset)
{
	if (preset->hard_limited)
		return STAGE_HARD_LIMITED;
	if (preset->new_status == STATUS_VALIDATION_FAILED)
		return STAGE_VALIDATION_FAILED;
	if (preset->withheld == WITHHELD_UNSUPPORTED)
		return STAGE_UNSUPPORTED;
	return preset->remaining < preset->desired ? STAGE_INCOMPLETE : STAGE_READY;
}

/*
 * Whether a staged version may become active, from a settled snapshot. The numbers receive the sums
 * over its presets.
 */
StageState
decision_stage_state(const PoolSnapshot *snapshot, const Id *version, int32_t *target,
					 int32_t *eligible, int32_t *failed)
{
	StageState state = STAGE_READY;
	bool wanted = false;

	*target = *eligible = *failed = 0;
	for (int i = 0; i < snapshot->npresets; i++)
	{
		const Preset *preset = &snapshot->presets[i];
		StageState of_preset;

		if (!preset->kept || !ids_equal(&preset->template_version_id, version))
			continue;
		wanted = wanted || preset->desired > 0;
		*target += preset->desired;
		*eligible += preset->eligible;
		*failed += preset->num_failed;
		of_preset = stage_state_of_preset(preset);
		if (state == STAGE_READY || (of_preset != STAGE_READY && of_preset < state))
			state = of_preset;
	}
	return wanted ? state : STAGE_EMPTY;
}
