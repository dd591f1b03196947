/*
 * properties.c
 *	  What must hold, by the words of the specification and not by the core's own numbers.
 *
 *	  Each function returns NULL, or a sentence that says what is wrong.
 *
 *	  Pure: no server.
 */
#include <stddef.h>

#include "model.h"

#define READY (BIT(KIND_READY) | BIT(KIND_LOST))

static const HealthPolicy *
policy_of(const Pass *pass)
{
	return &pass->presets[0].policy;
}

/* The member of an entry in a pass. */
static const PoolMember *
member_of(const Pass *pass, int entry)
{
	for (int i = 0; i < pass->snapshot.nmembers; i++)
		if (pass->entry_of[i] == entry)
			return &pass->members[i];
	return NULL;
}

static bool
stays(const Pass *pass, int entry)
{
	const PoolMember *member = member_of(pass, entry);

	return member != NULL && member->verdict == VERDICT_LEAVE;
}

static bool
is_kept(const Pass *pass, int preset)
{
	return state_is_kept(pass->config, &pass->state, preset, pass->coder);
}

static bool
is_sick(const Pass *pass, const Entry *entry)
{
	return !pass->coder && state_is_sick(pass->config, entry);
}

/* An amount of a target, rounded down or up. */
static int
amount_of(Amount amount, int target, bool up)
{
	int part = 0;

	if (!amount.percent)
		return amount.value;
	while (part * 100 < target * amount.value)
		part++;
	return !up && part * 100 > target * amount.value ? part - 1 : part;
}

static int
max_unavailable(const Pass *pass, int target)
{
	return amount_of(policy_of(pass)->max_unavailable, target, false);
}

static int
max_surge(const Pass *pass, int target)
{
	int surge = amount_of(policy_of(pass)->max_surge, target, true);

	return surge == 0 && max_unavailable(pass, target) == 0 ? 1 : surge;
}

/* True for an eligible entry, by 11.1 and 11.4. */
static bool
is_eligible(const Pass *pass, const Entry *entry)
{
	const Amount *amount = &policy_of(pass)->max_unavailable;
	bool rolls = !amount->percent || amount->value < 100;

	return IS(entry, READY) && is_kept(pass, entry->preset) && !is_sick(pass, entry) &&
		   (rolls || !state_is_expired(pass->config, entry));
}

/* True for a failure that counts. */
static bool
is_failure(const Pass *pass, const Entry *entry)
{
	if (pass->coder)
		return entry->kind == KIND_FAILED;
	return !entry->forgiven &&
		   (IS(entry, BIT(KIND_FAILED) | BIT(KIND_GONE)) || is_sick(pass, entry));
}

/* True if what a failure left must stay: as evidence, or as it is not old enough. */
static bool
is_evidence(const Pass *pass, int entry)
{
	const State *state = &pass->state;
	int newer = 0;

	for (int i = entry + 1; i < state->n; i++)
		newer += state->entries[i].preset == state->entries[entry].preset &&
				 IS(&state->entries[i], LEFT);
	return newer < policy_of(pass)->failed_keep ||
		   state->entries[entry].age * TICK < policy_of(pass)->failed_retention;
}

/* What pass_apply() would act on must be allowed at all, and appear once. */
static const char *
check_actions(const Pass *pass)
{
	const HealthPolicy *policy = policy_of(pass);
	int actions = 0;
	int verdicts = 0;

	for (int p = 0; p < pass->config->npresets; p++)
		for (int i = 0; i < pass->presets[p].nactions; i++)
		{
			int at = pass->presets[p].first_action + i;

			actions++;
			for (int k = 0; k < at; k++)
				if (pass->order[k] == pass->order[at])
					return "a member is acted on twice";
		}
	for (int i = 0; i < pass->snapshot.nmembers; i++)
	{
		const PoolMember *member = &pass->members[i];
		const Entry *entry = &pass->state.entries[pass->entry_of[i]];
		unsigned allowed = UP;

		if (member->verdict == VERDICT_LEAVE)
			continue;
		verdicts++;
		if (policy->failed_retention > 0)
			allowed |= LEFT;
		if (policy->delete_retries > 0 && entry->attempts <= policy->delete_retries)
			allowed |= BIT(KIND_UNDELETED);
		if (member->verdict == VERDICT_CANCEL)
			allowed = is_kept(pass, entry->preset) ? 0 : BIT(KIND_PENDING);
		if (!IS(entry, allowed))
			return "a member is acted on that must be left alone";
		if (IS(entry, LEFT) && is_evidence(pass, pass->entry_of[i]))
			return "evidence is deleted";
	}
	return actions == verdicts ? NULL : "not every verdict is an action";
}

/* Deletions of one preset: 11.4 and 11.1. */
static const char *
check_deletions(const Pass *pass, int preset)
{
	const State *state = &pass->state;
	int target = state_target(pass->config, state, preset);
	int before = 0, after = 0, protected;

	for (int i = 0; i < state->n; i++)
	{
		const Entry *entry = &state->entries[i];

		if (entry->preset != preset)
			continue;
		before += is_eligible(pass, entry);
		after += is_eligible(pass, entry) && stays(pass, i);
		if (IS(entry, UP) && stays(pass, i) && is_sick(pass, entry))
			return "a sick member stays";
		if (IS(entry, UP) && stays(pass, i) && state_is_expired(pass->config, entry) &&
			!is_eligible(pass, entry))
			return "an expired member stays that does not serve";
		if (IS(entry, UP) && stays(pass, i) && !is_kept(pass, preset))
			return "a member stays whose preset is neither active nor staged";
	}
	protected = target - max_unavailable(pass, target);
	if (!is_kept(pass, preset) || protected < 0)
	protected = 0;
	if (protected > before)
	protected = before;
	return after < protected ? "the pass deletes eligible members that max_unavailable protects"
							 : NULL;
}

/* What the newest builds of a preset say about its hard limit. */
typedef struct Limit
{
	bool limited;
	bool failed_now; /* the newest build did, less than a tick ago: the backoff lasts a tick */
	int open;		 /* builds newer than the failures whose answer may still come */
	int newest_age;	 /* of the newest failure */
	int wait;		 /* ticks that must be between it and a probe */
} Limit;

static Limit
limit_of(const Pass *pass, int preset)
{
	const HealthPolicy *policy = policy_of(pass);
	Limit limit = { .wait = (int) (policy->hard_limit_retry / TICK) };
	int builds = 0;
	int failures = 0;
	int next_age = 0; /* of the failure before the newest */

	for (int i = pass->state.n - 1; i >= 0; i--)
	{
		const Entry *entry = &pass->state.entries[i];

		if (entry->preset != preset || IS(entry, DELETE | BIT(KIND_REAPED) | BIT(KIND_STOPPED)) ||
			(pass->coder && entry->kind == KIND_GONE))
			continue;
		if (is_failure(pass, entry))
		{
			if (builds == 0 && entry->age == 0)
				limit.failed_now = true;
			if (failures++ == 0)
				limit.newest_age = entry->age;
			else if (failures == 2)
				next_age = entry->age;
		}
		else if (IS(entry, BIT(KIND_FAILED) | BIT(KIND_GONE)) || is_sick(pass, entry))
			continue; /* forgiven */
		else if (policy->hard_limit_retry == 0 || IS(entry, READY))
			break;
		else if (failures == 0 && stays(pass, i))
			limit.open += IS(entry, BUILDING) ||
						  (IS(entry, UP) && entry->since * TICK < policy->hard_limit_retry);
		builds++;
	}
	limit.limited = pass->config->hard_limit > 0 && failures >= pass->config->hard_limit;
	/* a failure beyond the limit, well after the one before, was a probe */
	if (failures > pass->config->hard_limit && next_age - limit.newest_age >= limit.wait)
		limit.wait = 2 * limit.wait < 2 ? 2 * limit.wait : 2;
	return limit;
}

/* Creations of one preset: target and surge, backoff, hard limit, validation. */
static const char *
check_creations(const Pass *pass, int preset)
{
	const State *state = &pass->state;
	int target = state_target(pass->config, state, preset);
	int create = pass->presets[preset].create;
	int there = 0;
	int fresh = 0;
	Limit limit = limit_of(pass, preset);

	if (create == 0)
		return NULL;
	if (!is_kept(pass, preset))
		return "prebuilds are created for a preset that is neither active nor staged";
	for (int i = 0; i < state->n; i++)
	{
		const Entry *entry = &state->entries[i];

		if (entry->preset != preset || !IS(entry, BUILDING | UP) || !stays(pass, i))
			continue;
		there++;
		fresh += !state_is_expired(pass->config, entry);
	}
	if (fresh + create > target)
		return "more fresh ones than the target";
	if (there + create > target + max_surge(pass, target))
		return "more than target and surge";
	if (pass->config->invalid[preset])
		return "prebuilds are created that cannot be built";
	if (limit.failed_now)
		return "a preset is built whose newest build has just failed";
	if (limit.limited && policy_of(pass)->hard_limit_retry == 0)
		return "prebuilds are created of a hard-limited preset";
	if (limit.limited && (create > 1 || limit.open > 0))
		return "more than one probe at a time";
	if (limit.limited && limit.newest_age < limit.wait)
		return "a probe comes too soon";
	return NULL;
}

/* What must hold of a judged state. */
const char *
property_broken_by_judgement(const Pass *pass)
{
	const char *broken = check_actions(pass);
	int building = 0;
	int create = 0;

	for (int p = 0; broken == NULL && p < pass->config->npresets; p++)
	{
		create += pass->presets[p].create;
		broken = check_deletions(pass, p);
		if (broken == NULL)
			broken = check_creations(pass, p);
	}
	for (int i = 0; i < pass->state.n; i++)
		building += IS(&pass->state.entries[i], BUILDING) && stays(pass, i);
	if (broken == NULL && pass->settings.max_building > 0 && create > 0 &&
		building + create > pass->settings.max_building)
		broken = "max_building is exceeded";
	return broken;
}

/* True if a version may become active by itself. */
static bool
may_be_promoted(const Pass *pass, int version)
{
	int wanted = 0;

	for (int p = 0; p < pass->config->npresets; p++)
	{
		int eligible = 0;

		if (state_version(pass->config, p) != version)
			continue;
		for (int i = 0; i < pass->state.n; i++)
			eligible += pass->state.entries[i].preset == p &&
						is_eligible(pass, &pass->state.entries[i]) && stays(pass, i);
		if (limit_of(pass, p).limited || pass->config->invalid[p] ||
			eligible < state_target(pass->config, &pass->state, p))
			return false;
		wanted += state_target(pass->config, &pass->state, p);
	}
	return wanted > 0;
}

/*
 * True if the newest answer that a hard-limited preset's probes got is a member that became ready,
 * but the pass leaves failures from before that count. The member may be claimed the next moment.
 */
static bool
forgets_to_forgive(const Pass *pass, int preset, const State *after)
{
	const State *before = &pass->state;
	int newest = before->n - 1;

	if (policy_of(pass)->hard_limit_retry == 0 || !is_kept(pass, preset) ||
		before->status[preset] != STATUS_HARD_LIMITED || limit_of(pass, preset).limited)
		return false;
	while (newest >= 0 &&
		   (before->entries[newest].preset != preset || !IS(&before->entries[newest], READY) ||
			is_sick(pass, &before->entries[newest])))
		newest--;
	for (int i = 0; i < after->n; i++)
		if (after->entries[i].preset == preset && after->entries[i].handle > 0 &&
			after->entries[i].handle <= newest && !after->entries[i].forgiven &&
			IS(&after->entries[i], BIT(KIND_FAILED) | BIT(KIND_GONE)))
			return true;
	return false;
}

/* What must hold of the state after the writes of a pass, whatever happened during it. */
const char *
property_broken_by_writes(const Pass *pass, const State *after)
{
	const State *before = &pass->state;

	for (int p = 0; p < pass->config->npresets; p++)
	{
		int target = state_target(pass->config, before, p);
		int there = state_count(before, p, BUILDING | UP);
		int most = target + max_surge(pass, target);

		if (!is_kept(pass, p))
			most = 0;
		if (state_count(after, p, BUILDING | UP) > (there > most ? there : most))
			return "more than target and surge after the pass";
		if (forgets_to_forgive(pass, p, after))
			return "a probe became ready, but the failures before still count";
	}
	if (pass->promotes && !may_be_promoted(pass, 1 - before->active))
		return "a staged version becomes active that is not ready";
	return NULL;
}

/*
 * A second pass at the same time must do nothing. But deleting the last success may reveal the hard
 * limit, and what a promotion means is for the next pass.
 */
const char *
property_not_idempotent(const Pass *first, const Pass *second)
{
	if (first->promotes)
		return NULL;
	for (int p = 0; p < second->config->npresets; p++)
	{
		const Preset *preset = &second->presets[p];

		if (preset->nactions > 0)
			return "a second pass acts on members";
		if (preset->create > 0)
			return "a second pass creates";
		if (preset->new_status != preset->status && preset->new_status != STATUS_HARD_LIMITED)
			return "a second pass changes the status";
	}
	return second->promotes ? "a second pass promotes" : NULL;
}

/* True for a preset of which nobody can expect that it gets its pool. */
static bool
cannot_be_built(const Pass *pass, int preset)
{
	return pass->config->invalid[preset] ||
		   (policy_of(pass)->hard_limit_retry == 0 && limit_of(pass, preset).limited);
}

/* What is missing of the goal of one preset. */
static const char *
goal_missed_by(const Pass *pass, int preset)
{
	const State *state = &pass->state;
	const HealthPolicy *policy = policy_of(pass);
	int fresh = 0, up = 0, left = 0;

	for (int i = 0; i < state->n; i++)
	{
		const Entry *entry = &state->entries[i];

		if (entry->preset != preset)
			continue;
		if (IS(entry, BUILDING | BIT(KIND_CANCELING) | BIT(KIND_DELETING)))
			return "builds are in progress";
		if (entry->kind == KIND_UNDELETED && entry->attempts <= policy->delete_retries &&
			policy->delete_retries > 0)
			return "a delete build is not tried again";
		left += IS(entry, LEFT);
		up += IS(entry, UP);
		fresh += is_eligible(pass, entry) && !state_is_expired(pass->config, entry);
		if (is_sick(pass, entry))
			return "a member is sick";
	}
	if (policy->failed_retention > 0 && left > policy->failed_keep)
		return "more is left of failures than the evidence";
	if (!is_kept(pass, preset))
		return up > 0 ? "members of an old version are left" : NULL;
	if (cannot_be_built(pass, preset))
		return NULL;
	/* without a grace, broken agents are nobody's affair, and what they should replace stays */
	if (state_count(state, preset, BIT(KIND_UNWELL)) > 0)
		return NULL;
	if (up != state_target(pass->config, state, preset))
		return "the number of members is not the target";
	return fresh < up ? "members are expired" : NULL;
}

/* What is missing of the goal in a state, by a pass over it, or NULL: the pools are as they should. */
const char *
goal_missed(const Pass *pass)
{
	const State *state = &pass->state;
	bool hopeless = false;

	if (!pass_is_idle(pass))
		return "passes still do something";
	for (int p = 0; p < pass->config->npresets; p++)
	{
		const char *missed = goal_missed_by(pass, p);

		if (missed != NULL)
			return missed;
		if (state_version(pass->config, p) != state->active)
			hopeless |= cannot_be_built(pass, p);
	}
	if (state->staged && pass->config->promote && !hopeless &&
		state_count(state, 1 - state->active, UP) > 0)
		return "the staged version is not active";
	return NULL;
}
