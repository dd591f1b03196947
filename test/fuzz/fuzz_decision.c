/*
 * fuzz_decision.c
 *	  Any bytes as presets, members and settings: what a pass would do stays within what is there and
 *	  within the caps, counts no preset's members twice, and leaves no member both alone and gone.
 */
#include <stdlib.h>
#include <string.h>

#include "decision/decision.h"

#define PRESETS 5
#define MEMBERS 24
#define FAILURES 8
#define NOW (INT64_C(1000000) * DECISION_USECS_PER_SEC)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input
{
	const uint8_t *data;
	size_t size;
} Input;

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Take a number below a limit from the input; 0 when it is used up. */
static int
take(Input *input, int limit)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++ % limit;
}

/* Few different ids, so that some are the same. */
static Id
take_id(Input *input)
{
	Id id = { { 0 } };

	id.bytes[15] = (uint8_t) take(input, 4);
	return id;
}

/* Times around now, some of them the same, one the least and one the greatest. */
static int64_t
take_time(Input *input)
{
	int ago = take(input, 64);

	if (ago == 63)
		return take(input, 2) ? INT64_MAX : INT64_MIN;
	return NOW - (int64_t) (ago - 8) * 60 * DECISION_USECS_PER_SEC;
}

static Amount
take_amount(Input *input)
{
	Amount amount = { .percent = take(input, 2) != 0 };

	amount.value = amount.percent ? take(input, 6) * 25 : take(input, 4);
	return amount;
}

static int64_t
take_span(Input *input)
{
	return (int64_t) take(input, 8) * 300 * DECISION_USECS_PER_SEC;
}

static void
take_preset(Input *input, Preset *preset)
{
	int kinds = take(input, 256);

	preset->id = take_id(input);
	preset->template_id = take_id(input);
	preset->template_version_id = take_id(input);
	preset->active_version_id = kinds & 1 ? take_id(input) : preset->template_version_id;
	preset->template_deleted = (kinds & 6) == 6;
	preset->template_deprecated = (kinds & 24) == 24;
	preset->scheduled = kinds == 255 ? INT32_MAX : take(input, 6);
	preset->invalidate_after_secs = take(input, 4) * 600;
	preset->has_last_invalidated_at = (kinds & 32) != 0;
	preset->last_invalidated_at = take_time(input);
	preset->status = (PrebuildStatus) take(input, 3);
	preset->marked_invalid_by_us = (kinds & 64) != 0;
	preset->staged_share = take(input, 3) / 2.0;
	preset->has_forgiven_until = (kinds & 128) != 0;
	preset->forgiven_until = take_time(input);
	preset->policy = HEALTH_POLICY_OFF;
	preset->policy.unready_grace = take_span(input);
	preset->policy.disconnected_grace = take_span(input);
	preset->policy.failed_retention = take_span(input);
	preset->policy.failed_keep = take(input, 3);
	preset->policy.delete_retries = take(input, 3);
	preset->policy.hard_limit_retry = take_span(input);
	preset->policy.max_unavailable = take_amount(input);
	preset->policy.max_surge = take_amount(input);
	preset->check = (BuildCheck) take(input, 5);
}

static void
take_member(Input *input, PoolMember *member, int number, int npresets)
{
	int kinds = take(input, 256);

	member->id.bytes[0] = (uint8_t) number;
	member->build_id = take_id(input);
	member->template_version_id = take_id(input);
	member->created_at = take_time(input);
	member->build_created_at = take_time(input);
	member->build_number = 1 + take(input, 3);
	member->transition = (Transition) take(input, 3);
	member->job_status = (JobStatus) take(input, 7);
	member->by_system_user = (kinds & 1) == 0;
	member->job_unclaimed = member->job_status == JOB_PENDING && (kinds & 2) == 0;
	member->ready = (kinds & 4) != 0;
	member->job_never_taken = (kinds & 8) != 0;
	member->unwell = (kinds & 16) != 0;
	member->completed_at = take_time(input);
	member->seen_at = kinds & 32 ? INT64_MAX : take_time(input);
	member->delete_attempts = take(input, 4);
	member->build_preset = take(input, npresets + 1) - 1;
	member->current_preset = kinds & 64 ? member->build_preset : take(input, npresets + 1) - 1;
	member->has_build_preset = member->build_preset >= 0;
	member->has_current_preset = member->current_preset >= 0;
}

static void
check_preset(const PoolSnapshot *snapshot, const Preset *preset)
{
	require(preset->actual >= 0 && preset->actual <= snapshot->nmembers);
	require(preset->eligible >= 0 && preset->eligible <= preset->actual);
	require(preset->expired >= 0 && preset->expired <= preset->actual);
	require(preset->valid >= 0 && preset->valid <= preset->actual);
	require(preset->sick >= 0 && preset->sick <= preset->actual);
	require(preset->starting >= 0 && preset->stopping >= 0 && preset->deleting >= 0);
	require(preset->extraneous >= 0 && preset->extraneous <= preset->actual);
	require(preset->shortfall >= 0 && preset->create >= 0 && preset->capped >= 0);
	require(preset->waiting >= 0 && preset->waiting <= preset->shortfall);
	require((int64_t) preset->create + preset->capped <= preset->shortfall);
	require(preset->remaining >= 0 && preset->remaining <= preset->eligible);
	require(preset->kept || (preset->create == 0 && preset->desired == 0));
	require(preset->withheld == WITHHELD_NOT || preset->create == 0 ||
			preset->withheld == WITHHELD_HARD_LIMITED);
	require(!preset->hard_limited || preset->create <= 1);
	require(preset->capped == 0 || preset->capped_by != NULL);
}

/* Every member that goes is in one preset's slice of the order, and no other member is. */
static void
check_order(const PoolSnapshot *snapshot)
{
	bool seen[MEMBERS] = { false };

	for (int i = 0; i < snapshot->npresets; i++)
	{
		const Preset *preset = &snapshot->presets[i];

		require(preset->nactions >= 0);
		if (preset->nactions == 0)
			continue;
		require(preset->first_action >= 0 &&
				preset->first_action + preset->nactions <= snapshot->nmembers);
		for (int j = 0; j < preset->nactions; j++)
		{
			const PoolMember *member = snapshot->order[preset->first_action + j];

			require(member->verdict != VERDICT_LEAVE && !seen[member - snapshot->members]);
			require(decision_acting_preset(member) == i);
			seen[member - snapshot->members] = true;
		}
	}
	for (int i = 0; i < snapshot->nmembers; i++)
		require(seen[i] == (snapshot->members[i].verdict != VERDICT_LEAVE));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input input = { data, size };
	Preset presets[PRESETS] = { 0 };
	PoolMember members[MEMBERS] = { 0 };
	PastFailure failures[FAILURES] = { 0 };
	Attempt attempts[MEMBERS + FAILURES];
	PoolMember *order[MEMBERS];
	int heap[PRESETS];
	DecisionSettings settings = { .at = NOW };
	PoolSnapshot snapshot = { .presets = presets,
							  .members = members,
							  .failures = failures,
							  .attempts = attempts,
							  .order = order,
							  .heap = heap };
	int64_t creates = 0;

	settings.backoff_interval = take_span(&input);
	settings.backoff_lookback = take_span(&input) * 4;
	settings.backoff_max = take_span(&input);
	settings.failure_hard_limit = take(&input, 4);
	settings.max_creates_per_pass = take(&input, 8);
	settings.max_building = take(&input, 8);
	snapshot.npresets = 1 + take(&input, PRESETS);
	for (int i = 0; i < snapshot.npresets; i++)
		take_preset(&input, &presets[i]);
	for (; input.size > 0 && snapshot.nmembers < MEMBERS; snapshot.nmembers++)
		take_member(&input, &members[snapshot.nmembers], snapshot.nmembers, snapshot.npresets);
	for (; input.size > 0 && snapshot.nfailures < FAILURES; snapshot.nfailures++)
		failures[snapshot.nfailures] =
			(PastFailure){ take(&input, snapshot.npresets), take_id(&input), take_time(&input) };

	decision_judge(&snapshot, &settings);
	for (int i = 0; i < snapshot.npresets; i++)
		if (!decision_needs_check(&presets[i]))
			presets[i].check = BUILD_POSSIBLE;
	decision_settle(&snapshot, &settings);
	for (int i = 0; i < snapshot.npresets; i++)
	{
		check_preset(&snapshot, &presets[i]);
		creates += presets[i].create;
	}
	check_order(&snapshot);
	require(creates <= DECISION_MAX_CREATES);
	require(settings.max_creates_per_pass == 0 || creates <= settings.max_creates_per_pass);
	require(settings.max_building == 0 || creates <= settings.max_building);
	return 0;
}
