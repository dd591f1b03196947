/*
 * replay.c
 *	  Play traces of demand against the policies, as bench/replay says.
 *
 * The last 13 weeks of a trace are played, or half of a short one; what is before them is history. In them the policy is
 * chosen anew every week by a backtest over the 90 days before, as mode auto does.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "demand/choice.h"
#include "handmade.h"
#include "oracle.h"
#include "traces.h"

#define MOST_DEMANDS 4000000
#define MOST_INSTANCES 1000
#define BACKTEST (90 * DEMAND_DAY)
#define RECHOICE DEMAND_WEEK
/* Seconds from 1970 to 2000. */
#define EPOCHS 946684800LL
#define LEAD_BUILDS 200
#define PATTERNS 32
#define SYNTHETIC_WEEKS 29

/* The policy of mode auto: chosen anew as time goes by. */
typedef struct Auto
{
	ChoiceSettings *settings;
	ChoiceRoom *room; /* of the choice, which simulates within the simulation */
	PolicyMemo *memo;
	ChoiceResult result;
	Policy policy;
	int64_t next_choice;
	int changes;
} Auto;

static int64_t times[MOST_DEMANDS];
static int64_t ready[2][MOST_INSTANCES];
static SimulatorBuild builds[2][MOST_INSTANCES];
static ChoiceRoom rooms[2];
static PolicyPattern patterns[2][PATTERNS];
static DemandBuild lead_builds[LEAD_BUILDS];
static const char *const kind_names[] = { "configured", "fixed", "week", "schedule", "forecast" };

static double service_level = 0.99;
static double lead_minutes = 5;
static int configured = 0;
static int64_t scale_in = 15 * DEMAND_MINUTE;
static bool weekend_block;
static bool oracle;
static double true_rates[SYNTHETIC_WEEKS * TRACE_MINUTES_OF_WEEK];
/* of the weeks that are played, and a piece of one */
static double near_rates[14 * TRACE_MINUTES_OF_WEEK];

/* Who is compared to the best hand-made schedule. */
typedef enum Rival
{
	RIVAL_CHOSEN,
	RIVAL_TRUE_RATES,
	RIVAL_NEAR_RATES,
	RIVAL_BOUND
} Rival;
#define RIVALS 4
static const char *const rival_names[] = { "chosen", "the true rates", "rates of both sides", "bound" };
static double sum_log[2][RIVALS];
static int sum_count[2][RIVALS];

static double
hours(int64_t span)
{
	return (double) span / DEMAND_HOUR;
}

static int
auto_target(void *argument, const DemandHistory *past, int64_t at, int64_t *until)
{
	Auto *state = argument;
	PolicyAnswer answer;

	if (at >= state->next_choice)
	{
		Policy before = state->policy;

		state->settings->from = at - BACKTEST;
		state->settings->to = at;
		state->settings->split = at;
		choice_make(past, state->settings, state->room, &state->result);
		state->policy = state->result.candidates[state->result.chosen].policy;
		state->changes += memcmp(&before, &state->policy, sizeof(before)) != 0;
		policy_memo_next(state->memo);
		state->next_choice = at + RECHOICE;
	}
	policy_target(&state->policy, &state->settings->policy, past, at, state->memo, &answer);
	*until = policy_until(&state->policy, &state->settings->policy, past, at, state->memo, &answer);
	if (*until > state->next_choice)
		*until = state->next_choice;
	return answer.target;
}

static void
print_row(const char *what, const SimulatorFigures *figures, const char *note)
{
	printf("  %-29s %7d %8.4f %9.0f %8d %7d  %s\n", what, figures->demands,
		   simulator_hit_rate(figures), hours(figures->idle), figures->created, figures->peak,
		   note);
}

/* The least idle time of a family, with any of its parameters, at a share served. */
static SimulatorFigures
best_of_family(const DemandHistory *history, const ChoiceSettings *settings, PolicyKind kind,
			   double share, ChoiceRoom *room)
{
	SimulatorFigures best = { .idle = INT64_MAX };
	Policy policy = { .kind = kind, .price = 4, .aim = 0.8 };
	SimulatorResult figures;

	for (int i = 0; i < 40; i++)
	{
		choice_simulate(history, settings, settings->from, settings->from, &policy, room, &figures);
		if (simulator_hit_rate(&figures.after) >= share && figures.after.idle < best.idle)
			best = figures.after;
		policy.level++;
		policy.price *= 0.8;
		policy.aim = 1 - (1 - policy.aim) * 0.85;
	}
	return best;
}

/* What a person would configure without looking: the level that 99 % of the busiest hours need. */
static int
guess_level(const DemandHistory *history, int64_t from, int64_t to)
{
	static WeekNeeds needs;
	int served = 0;
	int level = 0;

	week_needs(history, from, to, (int64_t) (lead_minutes * DEMAND_MINUTE), &needs);
	while (level < WEEK_LEVELS && served < 0.99 * needs.demands)
	{
		level++;
		for (int hour = 0; hour < WEEK_HOURS; hour++)
			served += needs.needed[hour][level];
	}
	return level + 1;
}

/* What is the same for all rows of a trace. */
typedef struct Trace
{
	DemandHistory history;
	DemandStep configured;
	int64_t from; /* what is played */
	int64_t end;
	ChoiceSettings settings;
	SimulatorSettings simulator;
} Trace;

/* Lead times spread around the given one, each as likely as the others. */
static void
make_builds(int64_t began, int64_t end)
{
	for (int i = 0; i < LEAD_BUILDS; i++)
		lead_builds[i] = (DemandBuild){
			began + (end - began) / LEAD_BUILDS * i,
			(int64_t) (lead_minutes * (0.7 + 0.6 * (i * 37 % 100) / 99) * DEMAND_MINUTE), false
		};
}

static void
make_trace(Trace *trace, const int64_t *demands, int count, int64_t began, int64_t end)
{
	int64_t span = (end - began) / 2 < 13 * DEMAND_WEEK ? (end - began) / 2 : 13 * DEMAND_WEEK;

	make_builds(began, end);
	*trace = (Trace){ .history = { .began = began,
								   .demands = demands,
								   .ndemands = count,
								   .builds = lead_builds,
								   .nbuilds = LEAD_BUILDS,
								   .configured = &trace->configured,
								   .nconfigured = 1 },
					  .configured = { INT64_MIN, configured },
					  .from = end - span,
					  .end = end,
					  .settings = { .from = end - span,
									.to = end,
									.service_level = service_level,
									.prompt = true,
									.policy = { .max_instances = MOST_INSTANCES,
												.scale_in_delay = scale_in,
												.pass_interval = DEMAND_MINUTE,
												.default_lead = 5 * DEMAND_MINUTE } },
					  .simulator = { .from = end - span,
									 .split = end - span,
									 .to = end,
									 .pass_interval = DEMAND_MINUTE,
									 .prompt = true,
									 .default_lead = 5 * DEMAND_MINUTE } };
	if (configured == 0)
		trace->configured.value = guess_level(&trace->history, began, trace->from);
}

static SimulatorFigures
play_policy(const Trace *trace, const Policy *policy)
{
	SimulatorResult figures;

	choice_simulate(&trace->history, &trace->settings, trace->from, trace->from, policy, &rooms[0],
					&figures);
	return figures.after;
}

/* Play what mode auto does, and print it. */
static SimulatorFigures
play_chosen(const Trace *trace)
{
	static Auto state;
	ChoiceSettings settings = trace->settings;
	SimulatorResult figures;
	char note[100];

	memset(&state, 0, sizeof(state));
	state.settings = &settings;
	state.room = &rooms[0];
	state.memo = &rooms[1].memo;
	state.next_choice = trace->from;
	policy_memo_init(state.memo, patterns[1], PATTERNS);
	simulate(&trace->history, &trace->simulator, auto_target, &state, &rooms[1].pool, &figures);
	snprintf(note, sizeof(note), "%s at the end, %d changes", kind_names[state.policy.kind],
			 state.changes - 1);
	print_row("chosen", &figures.after, note);
	return figures.after;
}

/* Say how long somebody waited, relative to the best hand-made schedule, and add it to the means. */
static void
compare(const Trace *trace, Rival rival, const SimulatorFigures *figures,
		const SimulatorFigures *hand, char *note, size_t size)
{
	double ratio = (double) figures->idle / (double) hand->idle;
	bool sparse = hand->demands < 10 * (trace->end - trace->from) / DEMAND_DAY;

	snprintf(note, size, "%s / hand-made: %.2f", rival_names[rival], ratio);
	sum_log[sparse][rival] += log(ratio);
	sum_count[sparse][rival]++;
}

/* Print the best hand-made schedule of the time that is played, and of as long before it. */
static bool
play_handmade(const Trace *trace, const SimulatorFigures *chosen, double share,
			  SimulatorFigures *hand)
{
	SimulatorSettings before = trace->simulator;
	WeekSchedule schedule;
	SimulatorFigures figures;
	char note[100];
	bool found = handmade_best(&trace->history, &trace->simulator, &rooms[0].pool, share,
							   weekend_block, &schedule, hand);

	if (found)
	{
		compare(trace, RIVAL_CHOSEN, chosen, hand, note, sizeof(note));
		print_row("best hand-made, hindsight", hand, note);
	}
	else
		printf("  no hand-made schedule serves so many\n");

	before.from = before.split = 2 * trace->from - trace->end;
	before.to = trace->from;
	if (before.from >= trace->history.began &&
		handmade_best(&trace->history, &before, &rooms[0].pool, share, weekend_block, &schedule,
					  &figures))
	{
		Policy policy = { .kind = POLICY_WEEK, .week = &schedule };
		SimulatorFigures played = play_policy(trace, &policy);

		print_row("hand-made by the weeks before", &played, "what a person could have known");
	}
	return found;
}

/* Print what base-stock levels would give for rates that somebody knows. */
static void
play_known_rates(const Trace *trace, Rival rival, const char *what, const OracleRates *known,
				 const SimulatorFigures *hand, double share)
{
	SimulatorFigures figures;
	char note[100];

	if (!oracle_best(&trace->history, &trace->simulator, &rooms[0].pool, share, known, &figures))
	{
		printf("  %s: no price serves so many\n", what);
		return;
	}
	compare(trace, rival, &figures, hand, note, sizeof(note));
	print_row(what, &figures, note);
}

/* Print what better estimates could give. truth: NULL if nobody knows it. */
static void
play_oracles(const Trace *trace, const OracleRates *truth, const SimulatorFigures *hand,
			 double share)
{
	OracleRates near = { trace->from, (int) ((trace->end - trace->from) / DEMAND_MINUTE),
						 near_rates };

	if (truth != NULL)
		play_known_rates(trace, RIVAL_TRUE_RATES, "the true rates known", truth, hand, share);
	oracle_from_both_sides(&trace->history, &trace->simulator, near_rates);
	play_known_rates(trace, RIVAL_NEAR_RATES, "rates of weeks on both sides", &near, hand, share);
}

static void
play_best_family(const Trace *trace, const SimulatorFigures *chosen, double share)
{
	static const PolicyKind families[] = { POLICY_FIXED, POLICY_SCHEDULE, POLICY_FORECAST };
	SimulatorFigures best = { .idle = INT64_MAX };
	PolicyKind family = POLICY_FIXED;
	char note[100];

	for (int i = 0; i < 3; i++)
	{
		SimulatorFigures figures =
			best_of_family(&trace->history, &trace->settings, families[i], share, &rooms[0]);

		if (figures.idle < best.idle)
		{
			best = figures;
			family = families[i];
		}
	}
	snprintf(note, sizeof(note), "%s; chosen / this: %.2f", kind_names[family],
			 (double) chosen->idle / (double) best.idle);
	print_row("best family, hindsight", &best, note);
}

static void
play_bound(const Trace *trace, const SimulatorFigures *hand, double share)
{
	static ChoiceSchedule bound;
	ChoiceSettings settings = trace->settings;
	char note[100] = "not reached";

	settings.service_level = share;
	choice_bound(&trace->history, &settings, trace->from, &rooms[0], &bound);
	if (bound.reached && hand != NULL)
		compare(trace, RIVAL_BOUND, &bound.later, hand, note, sizeof(note));
	print_row("bound: free week, hindsight", &bound.later, note);
}

/*
 * What a backtest at the beginning says of the policy that it chose, in the part that it did not see;
 * and what this policy, never chosen anew, gives afterwards.
 */
static void
play_prediction(const Trace *trace, const ChoiceResult *predicted)
{
	const ChoiceCandidate *candidate = &predicted->candidates[predicted->chosen];
	SimulatorFigures played = play_policy(trace, &candidate->policy);
	char note[100];

	print_row("backtest's later 30 days", &candidate->later, kind_names[candidate->policy.kind]);
	snprintf(note, sizeof(note), "idle hours a demand: backtest %.2f, played %.2f",
			 hours(candidate->later.idle) / (candidate->later.demands + 1e-9),
			 hours(played.idle) / (played.demands + 1e-9));
	print_row("the same policy, played", &played, note);
}

static void
replay(const char *name, const int64_t *demands, int count, int64_t began, int64_t end,
	   const OracleRates *truth)
{
	static Trace trace;
	static ChoiceResult predicted;
	ChoiceSettings settings;
	SimulatorFigures chosen, hand, as_configured;
	clock_t clock_before = clock();
	char note[100];
	double share;
	bool found;

	make_trace(&trace, demands, count, began, end);
	settings = trace.settings;
	settings.from = trace.from - BACKTEST;
	settings.to = trace.from;
	choice_make(&trace.history, &settings, &rooms[0], &predicted);
	printf("%s: %.1f demands a day, backtest in %.1f ms\n", name,
		   (count - demand_count_before(demands, count, trace.from)) /
			   ((double) (end - trace.from) / DEMAND_DAY),
		   (double) (clock() - clock_before) * 1000 / CLOCKS_PER_SEC);
	printf("  %-29s %7s %8s %9s %8s %7s\n", "", "demands", "hit rate", "idle h", "created", "peak");

	as_configured = play_policy(&trace, &(Policy){ .kind = POLICY_CONFIGURED });
	snprintf(note, sizeof(note), "%d", (int) trace.configured.value);
	print_row("configured", &as_configured, note);
	chosen = play_chosen(&trace);
	share = simulator_hit_rate(&chosen) - 0.002;
	found = play_handmade(&trace, &chosen, share, &hand);
	play_best_family(&trace, &chosen, share);
	if (oracle && found)
		play_oracles(&trace, truth, &hand, share);
	play_bound(&trace, found ? &hand : NULL, share);
	play_prediction(&trace, &predicted);
	fflush(stdout);
}

/* Read Unix times, one a line, in any order. */
static int
compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a;
	int64_t y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

static int
read_times(const char *path)
{
	FILE *file = fopen(path, "r");
	long long seconds;
	int count = 0;

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	while (count < MOST_DEMANDS && fscanf(file, "%lld", &seconds) == 1)
		times[count++] = (seconds - EPOCHS) * DEMAND_SECOND;
	fclose(file);
	qsort(times, (size_t) count, sizeof(times[0]), compare_times);
	return count;
}

static void
replay_kind(const char *kind, double per_day, uint64_t seed)
{
	int64_t from = DEMAND_FIRST_MONDAY + 1304 * DEMAND_WEEK;
	int weeks = SYNTHETIC_WEEKS;
	int count = trace_make(kind, per_day, seed, from, weeks, times, MOST_DEMANDS, true_rates);
	OracleRates truth = { from, weeks * TRACE_MINUTES_OF_WEEK, true_rates };
	char name[100];

	snprintf(name, sizeof(name), "%s, %g a day, seed %llu", kind, per_day,
			 (unsigned long long) seed);
	replay(name, times, count, from, from + weeks * DEMAND_WEEK, &truth);
}

/* An argument is "all", a kind of synthetic trace, or a file. */
static void
replay_argument(const char *argument, double per_day, uint64_t seed)
{
	bool found = false;
	int count;

	for (int k = 0; trace_kinds[k] != NULL; k++)
	{
		if (strcmp(argument, "all") != 0 && strcmp(argument, trace_kinds[k]) != 0)
			continue;
		found = true;
		replay_kind(trace_kinds[k], per_day > 0 ? per_day : 150, seed);
		if (!(per_day > 0))
			replay_kind(trace_kinds[k], 4.5, seed);
	}
	if (found)
		return;
	count = read_times(argument);
	if (count > 0)
		replay(argument, times, count, times[0], times[count - 1], NULL);
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench/replay [--level SHARE] [--lead MINUTES] [--configured N]\n"
					"           [--per-day N] [--seed N] [--scale-in MINUTES] [--weekend-block]\n"
					"           [--oracle]\n"
					"           [KIND or file of Unix times]...\n"
					"kinds:");
	for (int i = 0; trace_kinds[i] != NULL; i++)
		fprintf(stderr, " %s", trace_kinds[i]);
	fprintf(stderr, "\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = { { "level", required_argument, NULL, 'l' },
											 { "lead", required_argument, NULL, 't' },
											 { "configured", required_argument, NULL, 'c' },
											 { "per-day", required_argument, NULL, 'd' },
											 { "seed", required_argument, NULL, 's' },
											 { "scale-in", required_argument, NULL, 'i' },
											 { "weekend-block", no_argument, NULL, 'w' },
											 { "oracle", no_argument, NULL, 'o' },
											 { NULL, 0, NULL, 0 } };
	double per_day = 0;
	uint64_t seed = 1;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option)
		{
			case 'l':
				service_level = atof(optarg);
				break;
			case 't':
				lead_minutes = atof(optarg);
				break;
			case 'c':
				configured = atoi(optarg);
				break;
			case 'd':
				per_day = atof(optarg);
				break;
			case 's':
				seed = strtoull(optarg, NULL, 10);
				break;
			case 'i':
				scale_in = (int64_t) (atof(optarg) * DEMAND_MINUTE);
				break;
			case 'w':
				weekend_block = true;
				break;
			case 'o':
				oracle = true;
				break;
			default:
				usage();
		}
	if (!(service_level > 0 && service_level < 1) || !(lead_minutes > 0) || per_day < 0 ||
		configured < 0 || scale_in < 0)
		usage();
	for (int i = 0; i < 2; i++)
	{
		rooms[i].pool = (SimulatorRoom){ MOST_INSTANCES, ready[i], builds[i] };
		policy_memo_init(&rooms[i].memo, patterns[i], PATTERNS);
	}
	if (optind == argc)
		replay_argument("all", per_day, seed);
	for (int i = optind; i < argc; i++)
		replay_argument(argv[i], per_day, seed);
	for (int i = 0; i < 2; i++)
		for (int rival = 0; rival < RIVALS; rival++)
			if (sum_count[i][rival] > 0)
				printf("%s: %s / hand-made, geometric mean over %d traces: %.3f\n",
					   i == 0 ? "dense" : "sparse (under 10 a day)", rival_names[rival],
					   sum_count[i][rival], exp(sum_log[i][rival] / sum_count[i][rival]));
	return 0;
}
