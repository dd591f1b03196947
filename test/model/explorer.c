/*
 * explorer.c
 *	  Explores small pools: every state that passes and an environment can bring about, breadth
 *	  first, over decision.c itself, and checks the properties of section 11 in each.
 *
 *	  A step is one of the environment (a worker takes a job, a job ends well or not, agents get
 *	  ready, break or disconnect, somebody claims, cancels, stops, invalidates, forgives, stages,
 *	  promotes, the clock advances), or a pass, of this extension or by Coder's rules, with at most
 *	  one step of the environment between its judgement and its writes. A pass that is killed before
 *	  it commits changes nothing, and is no step.
 *
 *	  Safety is checked with each pass (properties.c). Stability is checked from each state: when
 *	  all goes well from then on, at once or slowly, with passes of this extension alone or of both,
 *	  passes find their goal after a bounded number of rounds, and then do nothing, whatever the
 *	  time. The clock advances in a round only if there was nothing to do.
 *
 *	  What is not explored, and counted: states with more members than the configuration's bound,
 *	  and what comes after the first MODEL_STATES states of a configuration.
 *
 *	  What the model leaves out: builds that are older than matters look as if they were younger
 *	  (state_normalize()); of past failures the three newest of a preset are known; a member has one
 *	  preset for all its builds, all by the system user; a delete build is on its way or over;
 *	  daemons live, and the checks of section 5a know their answer; max_creates_per_pass. A pool with
 *	  a broken agent that no grace makes sick reaches no goal: Coder's way, too.
 *
 *	  usage: explorer [CONFIGURATION...]		(parts of names; all by default)
 *	  environment: MODEL_STATES (default 300000), MODEL_FIRST (end with the first fault)
 *
 *	  files: model.h, state.c (states), environment.c (steps), pass.c (passes), properties.c (what
 *	  must hold), configurations.c (what is explored)
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define DEFAULT_STATES 300000
#define MOST_ROUNDS 100

/* A state that was reached, and how. */
typedef struct Node
{
	State state;
	uint32_t parent;
	Step step;
	uint8_t stable[2]; /* rounds to the goal + 1, by speed; 0 = not known */
} Node;

static struct
{
	const Config *config;
	uint32_t limit;
	uint32_t n;
	uint32_t size; /* of the table, a power of two */
	Node *nodes;
	uint32_t *table; /* indexes + 1, by hash */
	uint64_t steps;
	uint64_t beyond; /* steps to states beyond the bound */
	uint32_t unexplored;
	int rounds; /* the most that stability took */
} model;

static uint64_t
hash(const State *state)
{
	const unsigned char *bytes = (const unsigned char *) state;
	size_t size = offsetof(State, entries) + state->n * sizeof(Entry);
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < size; i++)
		h = (h ^ bytes[i]) * UINT64_C(1099511628211);
	return h ^ h >> 29;
}

/* The place of a state in the table: it is there, or could be. */
static uint32_t *
find_place(const State *state)
{
	uint32_t at = (uint32_t) hash(state) & (model.size - 1);

	while (model.table[at] != 0 &&
		   memcmp(&model.nodes[model.table[at] - 1].state, state, sizeof(State)) != 0)
		at = (at + 1) & (model.size - 1);
	return &model.table[at];
}

static Node *
find_node(const State *state)
{
	uint32_t found = *find_place(state);

	return found == 0 ? NULL : &model.nodes[found - 1];
}

/* ---- traces ---- */

static void
print_path(uint32_t number)
{
	const Node *node = &model.nodes[number];

	if (node->step.actor != ACTOR_START)
		print_path(node->parent);
	step_print(&node->step);
	state_print(&node->state);
}

/* Show what a pass would do. */
static void
print_pass(const Pass *pass)
{
	for (int p = 0; p < pass->config->npresets; p++)
	{
		const Preset *preset = &pass->presets[p];

		printf(
			"      preset %d: desired %d, eligible %d, valid %d, starting %d, serving %d, "
			"create %d of %d%s%s%s\n",
			p, preset->desired, preset->eligible, preset->valid, preset->starting, preset->serving,
			preset->create, preset->shortfall, preset->backing_off ? ", backs off" : "",
			preset->hard_limited ? ", hard-limited" : "", preset->probe_due ? ", probe due" : "");
		for (int i = 0; i < preset->nactions; i++)
		{
			const PoolMember *member = pass->order[preset->first_action + i];

			printf("        %s %d\n", member->verdict == VERDICT_CANCEL ? "cancel" : "delete",
				   pass->entry_of[member - pass->members]);
		}
	}
}

/* Say what is wrong and how it came to that. */
static void
report(uint32_t from, const Step *step, const Pass *pass, const char *broken)
{
	printf("not ok - %s: %s\n", model.config->name, broken);
	print_path(from);
	if (step != NULL)
		step_print(step);
	if (pass != NULL)
		print_pass(pass);
	fflush(stdout);
}

/* ---- stability ---- */

/* One round in which all goes well. True if something happened but for the clock. */
static bool
calm_round(State *state, Pass *pass, bool slowly)
{
	const Config *config = model.config;
	bool any = environment_calm(state, slowly);

	state_normalize(config, state);
	if ((config->powers & MAY_RECONCILE) && !(config->powers & MAY_STAGE))
	{
		pass_judge(pass, config, state, true);
		any |= !pass_is_idle(pass);
		*state = pass->state;
		pass_apply(pass, state);
		state_normalize(config, state);
	}
	pass_judge(pass, config, state, false);
	any |= !pass_is_idle(pass);
	*state = pass->state;
	pass_apply(pass, state);
	state_normalize(config, state);
	if (!any)
	{
		environment_step(config, state, EVENT_TICK, 0);
		state_normalize(config, state);
	}
	return any;
}

/*
 * Follow the rounds from a state to the goal, or to a state from which it is known to be reached.
 * Returns NULL, or what the goal misses in the end.
 */
static const char *
check_stability(uint32_t number, bool slowly)
{
	static Pass pass;
	static Node *path[MOST_ROUNDS];
	State state = model.nodes[number].state;
	const char *missed = NULL;
	int known = 0;
	int n;

	for (n = 0; n < MOST_ROUNDS; n++)
	{
		State before = state;
		Node *node = find_node(&state);
		bool any;

		path[n] = node;
		if (node != NULL && node->stable[slowly] > 0)
		{
			known = node->stable[slowly];
			break;
		}
		any = calm_round(&state, &pass, slowly);
		missed = goal_missed(&pass);
		if (!any && missed == NULL)
		{
			known = 1;
			/* then it stays, but for members that expire by their age */
			if (model.config->lifetime == 0 && memcmp(&before, &state, sizeof(State)) != 0)
				continue;
			n++;
			break;
		}
	}
	if (known == 0)
		return missed != NULL ? missed : "passes never end";
	for (int i = 0; i < n; i++)
	{
		int rounds = known + n - i;

		if (rounds > model.rounds)
			model.rounds = rounds;
		if (path[i] != NULL)
			path[i]->stable[slowly] = (uint8_t) (rounds < 255 ? rounds : 255);
	}
	return NULL;
}

/* Show the rounds that do not lead to the goal. */
static void
report_instability(uint32_t number, bool slowly, const char *missed)
{
	static Pass pass;
	State state = model.nodes[number].state;

	report(number, NULL, NULL, missed);
	printf("  from here everything ends well%s:\n", slowly ? ", slowly" : "");
	for (int i = 0; i < 12; i++)
	{
		calm_round(&state, &pass, slowly);
		print_pass(&pass);
		state_print(&state);
	}
	fflush(stdout);
}

/* ---- exploration ---- */

static int
count_members(const State *state)
{
	int n = 0;

	for (int i = 0; i < state->n; i++)
		n += state->entries[i].kind != KIND_GONE;
	return n;
}

/* Note a state that a step leads to, unless it is known. */
static void
reach(State *state, uint32_t parent, const Step *step)
{
	uint32_t *place;

	model.steps++;
	state_normalize(model.config, state);
	if (count_members(state) > model.config->bound)
	{
		model.beyond++;
		return;
	}
	place = find_place(state);
	if (*place != 0)
		return;
	if (model.n == model.limit)
	{
		model.unexplored++;
		return;
	}
	model.nodes[model.n] = (Node){ .state = *state, .parent = parent, .step = *step };
	*place = ++model.n;
}

/* Takes a state that a step of the environment led to. False if something is wrong. */
typedef bool (*StepFunction)(uint32_t number, State *state, const Step *step);

/* Call a function for each step of the environment that may happen in a state. */
static bool
each_event(uint32_t number, const State *from, uint8_t actor, StepFunction function)
{
	for (int event = EVENT_TICK; event < EVENT_END; event++)
	{
		int n = event >= EVENT_TAKE ? from->n : MODEL_PRESETS;

		for (int i = 0; i < n; i++)
		{
			Step step = { actor, (uint8_t) event, (uint8_t) i };
			State state = *from;

			if (environment_step(model.config, &state, (Event) event, i) &&
				!function(number, &state, &step))
				return false;
		}
	}
	return true;
}

static bool
reach_by_environment(uint32_t number, State *state, const Step *step)
{
	reach(state, number, step);
	return true;
}

static Pass now; /* the judgement of the state at hand */

/* Finish the pass in a state that the environment changed meanwhile. */
static bool
reach_by_pass(uint32_t number, State *state, const Step *step)
{
	const char *broken;

	/* the clock is the pass's own */
	if (step->event == EVENT_TICK)
		return true;
	pass_apply(&now, state);
	broken = property_broken_by_writes(&now, state);
	if (broken != NULL)
	{
		report(number, step, &now, broken);
		return false;
	}
	reach(state, number, step);
	return true;
}

/* Explore the passes of a state, with every step of the environment during them. */
static bool
explore_pass(uint32_t number, uint8_t actor)
{
	static Pass second;
	bool coder = actor == ACTOR_CODER;
	Step step = { actor, EVENT_NONE, 0 };
	const char *broken;
	State state;

	pass_judge(&now, model.config, &model.nodes[number].state, coder);
	broken = property_broken_by_judgement(&now);
	if (broken != NULL)
	{
		report(number, &step, &now, broken);
		return false;
	}
	if (pass_is_idle(&now))
		return true;
	state = now.state;
	pass_apply(&now, &state);
	state_normalize(model.config, &state);
	pass_judge(&second, model.config, &state, coder);
	broken = property_not_idempotent(&now, &second);
	if (broken != NULL)
	{
		report(number, &step, &now, broken);
		print_pass(&second);
		return false;
	}
	state = now.state;
	return reach_by_pass(number, &state, &step) &&
		   each_event(number, &now.state, actor, reach_by_pass);
}

static bool
explore_state(uint32_t number)
{
	State state = model.nodes[number].state;

	return explore_pass(number, ACTOR_PASS) &&
		   (!(model.config->powers & MAY_RECONCILE) || explore_pass(number, ACTOR_CODER)) &&
		   each_event(number, &state, ACTOR_ENVIRONMENT, reach_by_environment);
}

/* Explore a configuration. False if something is wrong. */
static bool
explore(const Config *config, uint32_t limit)
{
	State start = { 0 };
	Step step = { ACTOR_START, EVENT_NONE, 0 };
	bool fine = true;

	memset(&model, 0, sizeof(model));
	model.config = config;
	model.limit = limit;
	for (model.size = 1024; model.size < 2 * limit;)
		model.size *= 2;
	model.nodes = malloc(limit * sizeof(Node));
	model.table = calloc(model.size, sizeof(uint32_t));
	if (model.nodes == NULL || model.table == NULL)
	{
		printf("out of memory\n");
		exit(2);
	}
	reach(&start, 0, &step);
	for (uint32_t i = 0; fine && i < model.n; i++)
		fine = explore_state(i);
	for (uint32_t i = 0; fine && i < model.n; i++)
		for (int slowly = 0; fine && slowly < 2; slowly++)
		{
			const char *missed = check_stability(i, slowly);

			if (missed != NULL)
			{
				report_instability(i, slowly, missed);
				fine = false;
			}
		}
	if (fine)
		printf("ok - %s: %u states, %llu steps, %llu of them beyond %d members%s, stable within %d "
			   "rounds\n",
			   config->name, model.n, (unsigned long long) model.steps,
			   (unsigned long long) model.beyond, config->bound,
			   model.unexplored > 0 ? ", cut at that number of states" : "", model.rounds);
	fflush(stdout);
	free(model.nodes);
	free(model.table);
	return fine;
}

/* True if a configuration is asked for. */
static bool
is_asked_for(const Config *config, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(config->name, argv[i]) != NULL)
			return true;
	return argc == 1;
}

int
main(int argc, char **argv)
{
	const char *given = getenv("MODEL_STATES");
	long limit = given != NULL ? atol(given) : 0;
	uint64_t states = 0;
	bool fine = true;

	if (limit <= 0)
		limit = DEFAULT_STATES;
	for (int i = 0; i < model_nconfigs && (fine || getenv("MODEL_FIRST") == NULL); i++)
	{
		if (!is_asked_for(&model_configs[i], argc, argv))
			continue;
		fine &= explore(&model_configs[i], (uint32_t) limit);
		states += model.n;
	}
	printf("# %llu states in all\n", (unsigned long long) states);
	return fine ? 0 : 1;
}
