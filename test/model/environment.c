/*
 * environment.c
 *	  What happens in the model but for passes: workers, agents, people, the clock.
 *
 *	  Pure: no server.
 */
#include "model.h"

/* Give an entry another kind, if it may be of one of these kinds and is. */
static bool
change(Entry *entry, unsigned from, Kind to, bool may)
{
	if (!may || !IS(entry, from))
		return false;
	entry->kind = (uint8_t) to;
	entry->since = 0;
	return true;
}

/* True if somebody may be given the member: it is eligible by sections 6 and 11. */
static bool
is_claimable(const Config *config, const State *state, const Entry *entry)
{
	return (entry->kind == KIND_READY || entry->kind == KIND_LOST) &&
		   state_version(config, entry->preset) == state->active && !state_is_sick(config, entry) &&
		   (!state_is_expired(config, entry) || decision_rolls(&config->policy));
}

/* A step that concerns one entry. False if it cannot happen. */
static bool
step_of_entry(const Config *config, const State *state, Entry *entry, Event event)
{
	unsigned powers = config->powers;

	switch (event)
	{
		case EVENT_TAKE:
			return change(entry, BIT(KIND_PENDING), KIND_RUNNING, true);
		case EVENT_SUCCEED:
			return change(entry, BIT(KIND_RUNNING), KIND_STARTING, true) ||
				   change(entry, BIT(KIND_CANCELING), KIND_CANCELED, true) ||
				   change(entry, BIT(KIND_DELETING), KIND_NONE, true);
		case EVENT_FAIL:
			return change(entry, BIT(KIND_RUNNING), KIND_FAILED, powers & MAY_FAIL) ||
				   change(entry, BIT(KIND_DELETING), KIND_UNDELETED, powers & MAY_FAIL_DELETES);
		case EVENT_REAP:
			return change(entry, BIT(KIND_PENDING), KIND_REAPED, powers & MAY_REAP);
		case EVENT_CANCEL:
			return change(entry, BIT(KIND_PENDING), KIND_CANCELED, powers & MAY_CANCEL) ||
				   change(entry, BIT(KIND_RUNNING), KIND_CANCELING, powers & MAY_CANCEL);
		case EVENT_GET_READY:
			return change(entry, BIT(KIND_STARTING), KIND_READY, true);
		case EVENT_BREAK:
			return change(entry, BIT(KIND_STARTING) | BIT(KIND_READY), KIND_UNWELL,
						  powers & MAY_BREAK);
		case EVENT_LOSE:
			return change(entry, BIT(KIND_READY), KIND_LOST, powers & MAY_LOSE);
		case EVENT_RECONNECT:
			return change(entry, BIT(KIND_LOST), KIND_READY, true);
		case EVENT_STOP:
			return change(entry, UP, KIND_STOPPED, powers & MAY_STOP);
		case EVENT_CLAIM:
			if (!(powers & MAY_CLAIM) || !is_claimable(config, state, entry))
				return false;
			entry->kind = KIND_NONE;
			return true;
		default:
			return false;
	}
}

static void
advance_clock(State *state)
{
	for (int i = 0; i < state->n; i++)
	{
		state->entries[i].age++;
		state->entries[i].since++;
	}
}

/* Mark the entries of a preset that exist now. */
static void
mark(State *state, int preset, bool invalidated, bool forgiven)
{
	for (int i = 0; i < state->n; i++)
		if (state->entries[i].preset == preset)
		{
			state->entries[i].invalidated |= invalidated;
			state->entries[i].forgiven |= forgiven;
		}
}

/* A step that concerns a preset or everything. False if it cannot happen. */
static bool
step_of_all(const Config *config, State *state, Event event, int index)
{
	unsigned powers = config->powers;

	switch (event)
	{
		case EVENT_TICK:
			advance_clock(state);
			return index == 0;
		case EVENT_INVALIDATE:
		case EVENT_FORGIVE:
			mark(state, index, event == EVENT_INVALIDATE, event == EVENT_FORGIVE);
			return (powers & (event == EVENT_INVALIDATE ? MAY_INVALIDATE : MAY_FORGIVE)) &&
				   index < config->npresets;
		case EVENT_PROMOTE:
			state->active = 1 - state->active;
			state->staged = false;
			return index == 0 && (powers & MAY_PROMOTE);
		case EVENT_STAGE:
		case EVENT_UNSTAGE:
			if (state->staged != (event == EVENT_UNSTAGE) || state->active != 0)
				return false;
			state->staged = event == EVENT_STAGE;
			return index == 0 && (powers & MAY_STAGE);
		case EVENT_RESIZE:
			state->low = !state->low;
			return index == 0 && (powers & MAY_RESIZE);
		default:
			return false;
	}
}

/*
 * Make one step of the environment. False if it cannot happen; the state may be spoiled then. The
 * state is not in normal form afterwards.
 */
bool
environment_step(const Config *config, State *state, Event event, int index)
{
	if (event < EVENT_TAKE)
		return step_of_all(config, state, event, index);
	return index < state->n && step_of_entry(config, state, &state->entries[index], event);
}

/* The kind that an entry is of next when everything goes well. */
static Kind
next_when_well(const Entry *entry)
{
	switch (entry->kind)
	{
		case KIND_PENDING:
			return KIND_RUNNING;
		case KIND_RUNNING:
			return KIND_STARTING;
		case KIND_STARTING:
			return KIND_READY;
		case KIND_CANCELING:
			return KIND_CANCELED;
		case KIND_DELETING:
			return KIND_NONE;
		default:
			return entry->kind;
	}
}

/*
 * Let things go well: all jobs succeed and all agents get ready, at once, or the job of one entry
 * makes one step. False if there is nothing to do.
 */
bool
environment_calm(State *state, bool slowly)
{
	bool any = false;

	for (int i = 0; i < state->n; i++)
	{
		Entry *entry = &state->entries[i];

		while (next_when_well(entry) != (Kind) entry->kind)
		{
			entry->kind = (uint8_t) next_when_well(entry);
			entry->since = 0;
			any = true;
			if (slowly)
				return true;
		}
	}
	return any;
}
