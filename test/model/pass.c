/*
 * pass.c
 *	  A pass in the model: the judgement of a state by decision.c itself, and what the pass then
 *	  writes, after the checks of section 5.
 *
 *	  Pure: no server.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define NOW (1000 * TICK)

/*
 * A pass runs a moment after all that happened in its tick, and entries differ by microseconds. So
 * what is n ticks old is a little older than n ticks.
 */
#define PASS_AT (NOW + 1000)

static Id
id_of(int space, int number)
{
	Id id = { { 0 } };

	id.bytes[0] = (uint8_t) space;
	id.bytes[15] = (uint8_t) number;
	return id;
}

enum
{
	ID_VERSION = 1,
	ID_PRESET,
	ID_MEMBER,
	ID_BUILD
};

/* What the transition and the job's status are of members of each kind. */
static const struct
{
	Transition transition;
	JobStatus status;
} builds[] = {
	[KIND_PENDING] = { TRANSITION_START, JOB_PENDING },
	[KIND_RUNNING] = { TRANSITION_START, JOB_RUNNING },
	[KIND_CANCELING] = { TRANSITION_START, JOB_CANCELING },
	[KIND_STARTING] = { TRANSITION_START, JOB_SUCCEEDED },
	[KIND_READY] = { TRANSITION_START, JOB_SUCCEEDED },
	[KIND_UNWELL] = { TRANSITION_START, JOB_SUCCEEDED },
	[KIND_LOST] = { TRANSITION_START, JOB_SUCCEEDED },
	[KIND_FAILED] = { TRANSITION_START, JOB_FAILED },
	[KIND_REAPED] = { TRANSITION_START, JOB_FAILED },
	[KIND_CANCELED] = { TRANSITION_START, JOB_CANCELED },
	[KIND_STOPPED] = { TRANSITION_STOP, JOB_SUCCEEDED },
	[KIND_DELETING] = { TRANSITION_DELETE, JOB_PENDING },
	[KIND_UNDELETED] = { TRANSITION_DELETE, JOB_FAILED },
};

static void
add_member(Pass *pass, int i, int64_t built_at)
{
	const Entry *entry = &pass->state.entries[i];
	PoolMember *member = &pass->members[pass->snapshot.nmembers];

	pass->entry_of[pass->snapshot.nmembers++] = i;
	member->id = id_of(ID_MEMBER, i);
	member->created_at = entry->invalidated ? built_at - 500 * TICK : built_at;
	member->template_version_id = id_of(ID_VERSION, state_version(pass->config, entry->preset));
	member->build_id = id_of(ID_BUILD, i);
	member->build_created_at = built_at;
	member->build_number = builds[entry->kind].transition == TRANSITION_START ? 1 : 2;
	member->transition = builds[entry->kind].transition;
	member->job_status = builds[entry->kind].status;
	member->by_system_user = true;
	member->job_unclaimed = entry->kind == KIND_PENDING;
	member->job_never_taken = entry->kind == KIND_REAPED;
	member->completed_at = NOW - entry->since * TICK;
	member->ready = entry->kind == KIND_READY || entry->kind == KIND_LOST;
	member->has_build_preset = member->has_current_preset = true;
	member->build_preset_id = member->current_preset_id = id_of(ID_PRESET, entry->preset);
	member->build_preset = member->current_preset = entry->preset;
	member->unwell = entry->kind == KIND_UNWELL && !pass->coder;
	member->seen_at = entry->kind == KIND_LOST	  ? NOW - entry->since * TICK
					  : entry->kind == KIND_READY ? PASS_AT
												  : INT64_MAX;
	member->delete_attempts = entry->attempts;
}

static void
read_entries(Pass *pass)
{
	for (int i = 0; i < pass->state.n; i++)
	{
		Entry *entry = &pass->state.entries[i];
		Preset *preset = &pass->presets[entry->preset];
		int64_t built_at = NOW - entry->age * TICK + i;

		entry->handle = (uint8_t) (i + 1);
		if (entry->kind == KIND_GONE)
		{
			/* coderd knows only members */
			if (!pass->coder)
				pass->failures[pass->snapshot.nfailures++] =
					(PastFailure){ .preset = entry->preset,
								   .build_id = id_of(ID_BUILD, i),
								   .build_created_at = built_at };
		}
		else
			add_member(pass, i, built_at);
		if (entry->forgiven && !pass->coder)
		{
			preset->has_forgiven_until = true;
			preset->forgiven_until = built_at;
		}
	}
}

static void
read_presets(Pass *pass)
{
	const Config *config = pass->config;
	const State *state = &pass->state;

	for (int i = 0; i < config->npresets; i++)
	{
		Preset *preset = &pass->presets[i];
		int version = state_version(config, i);

		preset->id = id_of(ID_PRESET, i);
		preset->template_version_id = id_of(ID_VERSION, version);
		preset->active_version_id = id_of(ID_VERSION, state->active);
		preset->scheduled = state->low ? config->low_target[i] : config->target[i];
		if (config->lifetime > 0)
			preset->invalidate_after_secs =
				(int32_t) (config->lifetime * TICK / DECISION_USECS_PER_SEC);
		preset->has_last_invalidated_at = true;
		preset->last_invalidated_at = NOW - 250 * TICK;
		preset->status = (PrebuildStatus) state->status[i];
		preset->marked_invalid_by_us = preset->status == STATUS_VALIDATION_FAILED;
		preset->policy = pass->coder ? HEALTH_POLICY_OFF : config->policy;
		if (state->staged && version != state->active && !pass->coder)
			preset->staged_share = config->share;
	}
}

/* True if this pass promotes the staged version. */
static bool
promotes(const Pass *pass)
{
	const State *state = &pass->state;
	Id version = id_of(ID_VERSION, 1 - state->active);
	int32_t target, eligible, failed;

	if (pass->coder || !state->staged || !pass->config->promote)
		return false;
	return decision_stage_state(&pass->snapshot, &version, &target, &eligible, &failed) ==
		   STAGE_READY;
}

/* Judge a state, as this extension does or as coderd. */
void
pass_judge(Pass *pass, const Config *config, const State *state, bool coder)
{
	memset(pass, 0, sizeof(*pass));
	pass->config = config;
	pass->coder = coder;
	pass->state = *state;
	pass->snapshot = (PoolSnapshot){ .npresets = config->npresets,
									 .presets = pass->presets,
									 .members = pass->members,
									 .failures = pass->failures,
									 .attempts = pass->attempts,
									 .order = pass->order,
									 .heap = pass->heap };
	pass->settings = (DecisionSettings){ .at = PASS_AT,
										 .backoff_interval = TICK,
										 .backoff_lookback = 2 * TICK,
										 .backoff_max = 2 * TICK,
										 .failure_hard_limit = config->hard_limit,
										 .max_building = coder ? 0 : config->max_building };
	read_presets(pass);
	read_entries(pass);
	decision_judge(&pass->snapshot, &pass->settings);
	for (int i = 0; i < config->npresets; i++)
		if (decision_needs_check(&pass->presets[i]) && config->invalid[i])
			pass->presets[i].check = BUILD_INVALID;
	for (int i = 0; i < pass->snapshot.nmembers; i++)
		if (decision_needs_health(&pass->snapshot, &pass->members[i]))
			pass->members[i].unwell = state->entries[pass->entry_of[i]].kind == KIND_UNWELL;
	decision_settle(&pass->snapshot, &pass->settings);
	pass->promotes = promotes(pass);
}

/* True if the pass changes nothing. */
bool
pass_is_idle(const Pass *pass)
{
	for (int i = 0; i < pass->config->npresets; i++)
	{
		const Preset *preset = &pass->presets[i];

		if (preset->nactions > 0 || preset->create > 0 || preset->forgive)
			return false;
		/* coderd does not know of past failures, so that the two may write it back and forth */
		if (preset->new_status != preset->status && !(pass->config->powers & MAY_RECONCILE))
			return false;
	}
	return !pass->promotes;
}

static Entry *
find_entry(State *state, int handle)
{
	for (int i = 0; i < state->n; i++)
		if (state->entries[i].handle == handle && state->entries[i].kind != KIND_NONE)
			return &state->entries[i];
	return NULL;
}

static void
append_entry(State *state, Kind kind, int preset, int attempts)
{
	if (state->n == MODEL_ENTRIES)
	{
		printf("the model has no room for so many entries:\n");
		state_print(state);
		exit(2);
	}
	state->entries[state->n++] = (Entry){ .kind = (uint8_t) kind,
										  .preset = (uint8_t) preset,
										  .attempts = (uint8_t) attempts };
}

/* Act on one member, unless it is not what was judged any more. */
static void
act(const Pass *pass, State *state, const PoolMember *member)
{
	int i = pass->entry_of[member - pass->members];
	const Entry *judged = &pass->state.entries[i];
	Entry *entry = find_entry(state, judged->handle);
	int attempts = judged->kind == KIND_UNDELETED ? judged->attempts + 1 : 1;
	int preset;

	if (entry == NULL)
		return; /* claimed */
	if (member->verdict == VERDICT_CANCEL && entry->kind != KIND_PENDING)
		return; /* taken, or over */
	if (entry->kind == KIND_STOPPED && judged->kind != KIND_STOPPED)
		return; /* its latest build is another one */
	preset = entry->preset;
	if (member->is_failure && !pass->coder)
		entry->kind = KIND_GONE;
	else
		entry->kind = KIND_NONE;
	append_entry(state, KIND_DELETING, preset, attempts);
}

/*
 * Write what a pass decided into a state: the one that was judged, with its handles, or what the
 * environment made of it meanwhile. The state is not in normal form afterwards.
 */
void
pass_apply(const Pass *pass, State *state)
{
	for (int p = 0; p < pass->config->npresets; p++)
	{
		const Preset *preset = &pass->presets[p];

		for (int i = 0; i < preset->nactions; i++)
			act(pass, state, pass->order[preset->first_action + i]);
		state->status[p] = (uint8_t) preset->new_status;
		for (int i = 0; preset->forgive && i < pass->state.n; i++)
			if (pass->state.entries[i].preset == p &&
				NOW - pass->state.entries[i].age * TICK + i <= preset->forgive_until)
			{
				Entry *entry = find_entry(state, i + 1);

				if (entry != NULL)
					entry->forgiven = true;
			}
		for (int i = 0; i < preset->create; i++)
			append_entry(state, KIND_PENDING, p, 0);
	}
	/* whoever promoted or unstaged meanwhile was first */
	if (pass->promotes && state->staged && state->active == pass->state.active)
	{
		state->active = 1 - state->active;
		state->staged = false;
	}
}
