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
 *	  Pure: no server, no clock, no allocation.
 */
#include <stdlib.h>
#include <string.h>

#include "decision/decision.h"

/* A backoff ends at most a century after the last failure. */
#define LONGEST_BACKOFF (INT64_C(100) * 365 * 24 * 3600 * DECISION_USECS_PER_SEC)

static bool
ids_equal(const Id *a, const Id *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static int
compare_int64(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

/* True for a pool member that serves, or will serve once its agents are ready. */
static bool
is_running(const PoolMember *member)
{
	return member->transition == TRANSITION_START && member->job_status == JOB_SUCCEEDED;
}

/* True while the latest build's job waits or runs. */
static bool
is_building(const PoolMember *member)
{
	return member->job_status == JOB_PENDING || member->job_status == JOB_RUNNING;
}

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

/* True for a preset whose prebuilds a pass may create and a claim may take. */
bool
decision_is_active(const Preset *preset)
{
	return ids_equal(&preset->template_version_id, &preset->active_version_id) &&
		   !preset->template_deleted && !preset->template_deprecated;
}

/* Reset everything except what the reader filled in. */
static void
reset_preset(Preset *preset)
{
	preset->active = decision_is_active(preset);
	preset->desired = preset->active ? preset->scheduled : 0;
	preset->actual = preset->expired = preset->eligible = preset->extraneous = 0;
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
	preset->first_action = preset->nactions = 0;
}

/* Count a running member for its current preset. */
static void
count_running(PoolMember *member, Preset *preset, int64_t at)
{
	bool expired = member->created_at < decision_expires_before(preset, at);

	preset->actual++;
	preset->expired += expired;
	if (!preset->active)
		member->verdict = VERDICT_DELETE_INACTIVE;
	else if (expired)
		member->verdict = VERDICT_DELETE_EXPIRED;
	else
		preset->eligible += member->ready;
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
	return !preset->active &&
		   (preset->template_deleted || preset->template_deprecated ||
			!ids_equal(&member->template_version_id, &preset->active_version_id)) &&
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
	else if (ids_equal(&member->template_version_id, &preset->active_version_id))
	{
		preset->starting += member->transition == TRANSITION_START;
		preset->stopping += member->transition == TRANSITION_STOP;
		preset->deleting += member->transition == TRANSITION_DELETE;
	}
}

/* Order by preset, then the newest build first, ties by the build's id. */
static int
compare_by_newest_build(const void *left, const void *right)
{
	const PoolMember *a = *(PoolMember *const *) left;
	const PoolMember *b = *(PoolMember *const *) right;

	if (a->build_preset != b->build_preset)
		return a->build_preset < b->build_preset ? -1 : 1;
	if (a->build_created_at != b->build_created_at)
		return compare_int64(b->build_created_at, a->build_created_at);
	return memcmp(a->build_id.bytes, b->build_id.bytes, sizeof(a->build_id.bytes));
}

/* Order the oldest workspace first, ties by its id. */
static int
compare_by_age(const PoolMember *a, const PoolMember *b)
{
	if (a->created_at != b->created_at)
		return compare_int64(a->created_at, b->created_at);
	return memcmp(a->id.bytes, b->id.bytes, sizeof(a->id.bytes));
}

/* Order the least valuable first: sick members, then those not ready, then the oldest. */
static int
compare_by_worth(const PoolMember *a, const PoolMember *b)
{
	if (a->sick != b->sick)
		return a->sick ? -1 : 1;
	if (a->ready != b->ready)
		return a->ready ? 1 : -1;
	return compare_by_age(a, b);
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

/* Find backoff and hard limit of one preset from its n start builds, newest first. */
static void
judge_failures(Preset *preset, PoolMember *const *builds, int n, const DecisionSettings *settings)
{
	int64_t since = settings->at - settings->backoff_lookback;
	int window = preset->desired > 1 ? preset->desired : 1;
	int failed_in_a_row = 0;
	int last_failed = -1;

	for (int i = 0; i < n; i++)
	{
		bool failed = builds[i]->job_status == JOB_FAILED;
		bool recent = builds[i]->build_created_at >= since;

		failed_in_a_row += failed && failed_in_a_row == i;
		preset->num_failed += failed && recent;
		if (failed && recent && i < window && last_failed < 0)
			last_failed = i;
	}

	if (last_failed >= 0)
	{
		int64_t last = builds[last_failed]->build_created_at;
		int64_t delay = backoff_delay(preset->num_failed, settings);

		preset->has_backoff_until = true;
		preset->backoff_until = last > INT64_MAX - delay ? INT64_MAX : last + delay;
		preset->backing_off = preset->active && settings->at <= preset->backoff_until;
	}
	preset->hard_limited = preset->active && settings->failure_hard_limit > 0 &&
						   failed_in_a_row >= settings->failure_hard_limit;
}

/* Group the start builds of active versions by preset, and judge each preset's failures. */
static void
judge_all_failures(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	int n = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
	{
		PoolMember *member = &snapshot->members[i];
		const Preset *preset;

		if (member->build_preset < 0 || member->transition != TRANSITION_START)
			continue;
		preset = &snapshot->presets[member->build_preset];
		if (!preset->template_deleted &&
			ids_equal(&member->template_version_id, &preset->active_version_id))
			snapshot->order[n++] = member;
	}
	qsort(snapshot->order, n, sizeof(PoolMember *), compare_by_newest_build);
	for (int first = 0, end; first < n; first = end)
	{
		int preset = snapshot->order[first]->build_preset;

		for (end = first + 1; end < n && snapshot->order[end]->build_preset == preset;)
			end++;
		judge_failures(&snapshot->presets[preset], &snapshot->order[first], end - first, settings);
	}
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
		member->sick = false;
		if (is_running(member) && member->current_preset >= 0)
			count_running(member, &snapshot->presets[member->current_preset], settings->at);
		else if (is_building(member) && member->build_preset >= 0)
			count_building(member, &snapshot->presets[member->build_preset]);
	}

	judge_all_failures(snapshot, settings);
	for (int i = 0; i < snapshot->npresets; i++)
	{
		Preset *preset = &snapshot->presets[i];
		int32_t valid = preset->actual - preset->expired;

		if (!preset->active)
			continue;
		if (valid > preset->desired)
			preset->extraneous = valid - preset->desired;
		else if (preset->desired - valid > preset->starting)
			preset->shortfall = preset->desired - valid - preset->starting;
	}
}

/*
 * True if the caller has to find out whether a prebuild of this preset can be built: if one is
 * missing, or if the extension marked the preset invalid earlier and may have to take that back.
 */
bool
decision_needs_check(const Preset *preset)
{
	return preset->active && (preset->shortfall > 0 || preset->marked_invalid_by_us);
}

/* True for a running member that goes for no other reason, of a preset that has too many. */
static bool
may_be_extraneous(const PoolSnapshot *snapshot, const PoolMember *member)
{
	return is_running(member) && member->verdict == VERDICT_LEAVE && member->current_preset >= 0 &&
		   snapshot->presets[member->current_preset].extraneous > 0;
}

/*
 * True if the caller has to find out whether a member is sick: some members of its preset go, and
 * it is not ready. A sick member is never ready.
 */
bool
decision_needs_health(const PoolSnapshot *snapshot, const PoolMember *member)
{
	return !member->ready && may_be_extraneous(snapshot, member);
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
	if (!preset->active)
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

/* Decide whether to withhold the missing instances of an active preset, and why. */
static Withheld
settle_withheld(const Preset *preset)
{
	if (preset->backing_off)
		return WITHHELD_BACKOFF;
	if (preset->hard_limited)
		return WITHHELD_HARD_LIMITED;
	if (preset->new_status == STATUS_VALIDATION_FAILED)
		return WITHHELD_VALIDATION_FAILED;
	if (preset->check == BUILD_UNSUPPORTED)
		return WITHHELD_UNSUPPORTED;
	if (preset->check == BUILD_NOT_YET)
		return WITHHELD_RETRY;
	return WITHHELD_NOT;
}

/*
 * True if preset a is emptier than b, relative to their desired instances. The lower index wins
 * ties.
 */
static bool
emptier(const PoolSnapshot *snapshot, int a, int b)
{
	const Preset *pa = &snapshot->presets[a];
	const Preset *pb = &snapshot->presets[b];
	int64_t have_a = pa->desired - pa->shortfall + pa->create;
	int64_t have_b = pb->desired - pb->shortfall + pb->create;
	int64_t left = have_a * pb->desired;
	int64_t right = have_b * pa->desired;

	return left != right ? left < right : a < b;
}

/* Restore the heap below a position. The emptiest preset is on top. */
static void
sift_down(PoolSnapshot *snapshot, int position, int size)
{
	int *heap = snapshot->heap;

	for (;;)
	{
		int child = 2 * position + 1;
		int moved = heap[position];

		if (child >= size)
			return;
		if (child + 1 < size && emptier(snapshot, heap[child + 1], heap[child]))
			child++;
		if (!emptier(snapshot, heap[child], moved))
			return;
		heap[position] = heap[child];
		heap[child] = moved;
		position = child;
	}
}

/*
 * Share a budget of creations among the presets that want some: give each one to the preset that is
 * then the emptiest relative to its target.
 */
static void
share_budget(PoolSnapshot *snapshot, int64_t budget, const char *setting)
{
	int size = 0;

	for (int i = 0; i < snapshot->npresets; i++)
	{
		Preset *preset = &snapshot->presets[i];

		if (preset->create == 0)
			continue;
		preset->capped = preset->create;
		preset->capped_by = setting;
		preset->create = 0;
		snapshot->heap[size++] = i;
	}
	for (int i = size / 2 - 1; i >= 0; i--)
		sift_down(snapshot, i, size);
	while (budget-- > 0 && size > 0)
	{
		Preset *preset = &snapshot->presets[snapshot->heap[0]];

		preset->create++;
		if (--preset->capped == 0)
			snapshot->heap[0] = snapshot->heap[--size];
		sift_down(snapshot, 0, size);
	}
}

/* Apply the caps to creations. A build that this pass cancels frees its place at once. */
static void
apply_caps(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	int64_t wanted = 0;
	int64_t building = 0;
	int64_t budget = DECISION_MAX_CREATES;
	const char *setting = "the built-in limit of a pass";

	for (int i = 0; i < snapshot->npresets; i++)
		wanted += snapshot->presets[i].create;
	for (int i = 0; i < snapshot->nmembers; i++)
		building += is_building(&snapshot->members[i]) &&
					snapshot->members[i].transition == TRANSITION_START &&
					snapshot->members[i].verdict != VERDICT_CANCEL;

	if (settings->max_creates_per_pass > 0 && settings->max_creates_per_pass < budget)
	{
		budget = settings->max_creates_per_pass;
		setting = "prebuild.max_creates_per_pass";
	}
	if (settings->max_building > 0 && settings->max_building - building < budget)
	{
		budget = settings->max_building > building ? settings->max_building - building : 0;
		setting = "prebuild.max_building";
	}
	if (wanted > budget)
		share_budget(snapshot, budget, setting);
}

/* The preset for which a pass acts on a member. */
int
decision_acting_preset(const PoolMember *member)
{
	return member->verdict == VERDICT_CANCEL ? member->build_preset : member->current_preset;
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
	return a->verdict == VERDICT_DELETE_EXTRANEOUS ? compare_by_worth(a, b) : compare_by_age(a, b);
}

/* Collect the members to act on, in order, and give each preset its slice of them. */
static void
line_up_actions(PoolSnapshot *snapshot)
{
	int n = 0;

	for (int i = 0; i < snapshot->nmembers; i++)
		if (snapshot->members[i].verdict != VERDICT_LEAVE)
			snapshot->order[n++] = &snapshot->members[i];
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
		if (!preset->active)
			continue;
		preset->withheld = settle_withheld(preset);
		preset->create = preset->withheld == WITHHELD_NOT ? preset->shortfall : 0;
	}
	apply_caps(snapshot, settings);
	settle_extraneous(snapshot);
	line_up_actions(snapshot);
}
