/*
 * state.c
 *	  States of the model: what holds in them by the words of the specification, and their normal
 *	  form.
 *
 *	  Pure: no server.
 */
#include <stdio.h>
#include <string.h>

#include "model.h"

/* The version that a preset is of. */
int
state_version(const Config *config, int preset)
{
	return config->two_versions ? preset : 0;
}

bool
state_is_kept(const Config *config, const State *state, int preset, bool coder)
{
	return state_version(config, preset) == state->active || (state->staged && !coder);
}

/* The instances wanted of a kept preset. */
int
state_target(const Config *config, const State *state, int preset)
{
	int target = state->low ? config->low_target[preset] : config->target[preset];
	int share = 0;

	if (state_version(config, preset) == state->active)
		return target;
	while (share < target * config->share)
		share++;
	return share;
}

bool
state_is_expired(const Config *config, const Entry *entry)
{
	return IS(entry, UP) &&
		   (entry->invalidated || (config->lifetime > 0 && entry->age >= config->lifetime));
}

bool
state_is_sick(const Config *config, const Entry *entry)
{
	const HealthPolicy *policy = &config->policy;

	if (policy->unready_grace == 0 && policy->disconnected_grace == 0)
		return false;
	return entry->kind == KIND_UNWELL ||
		   (entry->kind == KIND_STARTING && entry->since > 0 && policy->unready_grace > 0) ||
		   (entry->kind == KIND_LOST && entry->since > 0 && policy->disconnected_grace > 0);
}

/* How many entries of a preset are of these kinds. */
int
state_count(const State *state, int preset, unsigned kinds)
{
	int n = 0;

	for (int i = 0; i < state->n; i++)
		n += state->entries[i].preset == preset && IS(&state->entries[i], kinds);
	return n;
}

/* The age from which on an entry's age does not matter, but for the order. */
static int
longest_age(const Config *config, const Entry *entry)
{
	if (IS(entry, BIT(KIND_FAILED) | BIT(KIND_GONE)))
		return 2;
	if (IS(entry, LEFT))
		return config->policy.failed_retention > 0 || config->policy.hard_limit_retry > 0 ? 2 : 0;
	if (entry->kind == KIND_UNDELETED)
		return config->policy.delete_retries > 0 ? 2 : 0;
	if (entry->kind == KIND_DELETING)
		return 0;
	if (config->lifetime > 0 || config->policy.unready_grace > 0 ||
		config->policy.disconnected_grace > 0)
		return 2;
	return IS(entry, BUILDING | BIT(KIND_CANCELING)) ? 1 : 0;
}

/* Forget what cannot matter any more of an entry by itself. */
static void
normalize_entry(const Config *config, Entry *entry)
{
	const HealthPolicy *policy = &config->policy;
	int longest = longest_age(config, entry);

	entry->handle = 0;
	if (policy->hard_limit_retry > 0 && IS(entry, BIT(KIND_STARTING) | BIT(KIND_UNWELL)))
		entry->since = entry->since > 2 ? 2 : entry->since;
	else if (policy->unready_grace > 0 && entry->kind == KIND_STARTING)
		entry->since = entry->since > 0;
	else if (entry->kind == KIND_LOST && policy->disconnected_grace > 0)
		entry->since = entry->since > 0;
	else
		entry->since = 0;
	if (!IS(entry, UP | BUILDING | BIT(KIND_CANCELING)))
		entry->invalidated = false;
	if (IS(entry, DELETE))
	{
		entry->forgiven = false;
		if (policy->delete_retries == 0)
			entry->attempts = 0;
		else if (entry->attempts > policy->delete_retries + 1)
			entry->attempts = (uint8_t) (policy->delete_retries + 1);
	}
	else
		entry->attempts = 0;
	if (IS(entry, DELETE) && entry->age > longest)
		entry->age = (uint8_t) longest;
}

/* Order by preset, delete builds first (their order does not matter), the others as they are. */
static int
compare_entries(const Entry *a, const Entry *b)
{
	bool delete_a = IS(a, DELETE);
	bool delete_b = IS(b, DELETE);

	if (a->preset != b->preset)
		return a->preset - b->preset;
	if (delete_a != delete_b)
		return delete_a ? -1 : 1;
	return delete_a ? memcmp(a, b, sizeof(Entry)) : 0;
}

/*
 * Bring the ages of one preset's entries (to - from of them, not deleting) into normal form, from
 * the newest to the oldest: no older than matters, no younger than the next, and failures that are
 * old at a distance of at most one tick. Marks past failures that do not matter any more by
 * KIND_NONE: three failures that are newer decide (the hard limit of the configurations is at most
 * 2, and one more doubles the delay of probes to its maximum).
 */
static void
normalize_ages(const Config *config, Entry *entries, int from, int to)
{
	int floor = 0;
	int failure = -1; /* the age of the next newer failure */
	int failures = 0;

	for (int i = to - 1; i >= from; i--)
	{
		Entry *entry = &entries[i];
		int longest = longest_age(config, entry);

		if (IS(entry, BIT(KIND_FAILED) | BIT(KIND_GONE)) && !entry->forgiven)
		{
			if (failure >= 0 && failure + 1 > longest)
				longest = failure + 1;
			if (entry->kind == KIND_GONE && failures >= 3)
				entry->kind = KIND_NONE;
			failures++;
		}
		if (entry->age > longest)
			entry->age = (uint8_t) longest;
		if (entry->age < floor)
			entry->age = (uint8_t) floor;
		if (entry->kind == KIND_GONE && entry->forgiven)
			entry->kind = KIND_NONE;
		if (entry->kind == KIND_NONE)
			continue;
		floor = entry->age;
		if (IS(entry, BIT(KIND_FAILED) | BIT(KIND_GONE)) && !entry->forgiven)
			failure = entry->age;
	}
}

/* Bring a state into its normal form: two states with the same future are mostly the same. */
void
state_normalize(const Config *config, State *state)
{
	Entry *entries = state->entries;
	int n = 0;

	for (int i = 0; i < state->n; i++)
	{
		Entry entry = entries[i];
		int at;

		if (entry.kind == KIND_NONE)
			continue;
		normalize_entry(config, &entry);
		for (at = n++; at > 0 && compare_entries(&entries[at - 1], &entry) > 0; at--)
			entries[at] = entries[at - 1];
		entries[at] = entry;
	}
	for (int from = 0, to; from < n; from = to)
	{
		int preset = entries[from].preset;

		for (to = from; to < n && entries[to].preset == preset;)
			to++;
		while (from < to && IS(&entries[from], DELETE))
			from++;
		normalize_ages(config, entries, from, to);
	}
	state->n = 0;
	for (int i = 0; i < n; i++)
		if (entries[i].kind != KIND_NONE)
			entries[state->n++] = entries[i];
	memset(&entries[state->n], 0, (MODEL_ENTRIES - state->n) * sizeof(Entry));
}

/* ---- for people ---- */

static const char *const kind_names[] = {
	"none",	  "pending", "running",	 "canceling", "starting", "ready",	   "unwell",	   "lost",
	"failed", "reaped",	 "canceled", "stopped",	  "deleting", "undeleted", "past failure",
};

static const char *const event_names[] = {
	"nothing",
	"the clock advances by a tick",
	"somebody invalidates preset",
	"somebody forgives the failures of preset",
	"somebody promotes the other version",
	"somebody stages the other version",
	"somebody unstages",
	"the target changes",
	"a worker takes the job of entry",
	"the job succeeds of entry",
	"the job fails of entry",
	"the reaper ends the untaken job of entry",
	"somebody cancels the job of entry",
	"the agents get ready of entry",
	"an agent breaks of entry",
	"an agent disconnects of entry",
	"an agent reconnects of entry",
	"somebody stops entry",
	"somebody claims entry",
};

void
state_print(const State *state)
{
	static const char *const statuses[] = { "healthy", "hard-limited", "invalid" };

	printf("    version %d active%s%s, status %s %s", state->active,
		   state->staged ? ", the other staged" : "", state->low ? ", lower target" : "",
		   statuses[state->status[0]], statuses[state->status[1]]);
	for (int i = 0; i < state->n; i++)
	{
		const Entry *entry = &state->entries[i];

		printf("%s%d: preset %d %s", i == 0 ? "\n      " : "; ", i, entry->preset,
			   kind_names[entry->kind]);
		if (entry->age > 0)
			printf(" age %d", entry->age);
		if (entry->since > 0)
			printf(" for %d", entry->since);
		if (entry->attempts > 0)
			printf(" tries %d", entry->attempts);
		if (entry->invalidated)
			printf(" invalidated");
		if (entry->forgiven)
			printf(" forgiven");
	}
	printf("\n");
}

void
step_print(const Step *step)
{
	static const char *const actors[] = { "start", "", "a pass", "a pass of Coder's" };
	const char *between = step->actor == ACTOR_ENVIRONMENT ? "" : ", during which ";

	printf("  %s", actors[step->actor]);
	if (step->event != EVENT_NONE)
	{
		printf("%s%s", between, event_names[step->event]);
		if (step->event >= EVENT_TAKE || step->event == EVENT_INVALIDATE ||
			step->event == EVENT_FORGIVE)
			printf(" %d", step->index);
	}
	printf("\n");
}
