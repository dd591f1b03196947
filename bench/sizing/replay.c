/*
 * replay.c
 *	  Play traces of demand against the policies, as bench/replay says.
 *
 * The last 13 weeks of a trace are played, or half of a short one; what is before them is history. In them the policy is
 * chosen anew every week by a backtest over the 90 days before, as mode auto does.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "demand/choice.h"
#include "handmade.h"
#include "traces.h"

#define MOST_DEMANDS 4000000
#define MOST_INSTANCES 1000
#define BACKTEST (90 * DEMAND_DAY)
#define RECHOICE DEMAND_WEEK
/* Seconds from 1970 to 2000. */
#define EPOCHS 946684800LL

/* The policy of mode auto: chosen anew as time goes by. */
typedef struct Auto
{
	const DemandHistory *history; /* never looked at beyond the past that is given */
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
static PolicyPattern patterns[2][32];
static DemandBuild lead_builds[200];
static const char *const kind_names[] = { "configured", "fixed", "week", "schedule", "forecast" };

static double service_level = 0.99;
static double lead_minutes = 5;
static int configured = 0;
static int64_t scale_in = 15 * DEMAND_MINUTE;
static bool weekend_block;
static double sum_log[2];
static int sum_count[2];

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
	*until = answer.until < state->next_choice ? answer.until : state->next_choice;
	return answer.target;
}

static void
print_row(const char *what, const SimulatorFigures *figures, const char *note)
{
	printf("  %-28s %7d %8.4f %9.0f %8d %7d  %s\n", what, figures->demands,
		   simulator_hit_rate(figures), hours(figures->idle), figures->created, figures->peak, note);
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

static void
replay(const char *name, const int64_t *demands, int count, int64_t began, int64_t end)
{
	static Auto state;
	static ChoiceResult predicted;
	int64_t span = (end - began) / 2 < 13 * DEMAND_WEEK ? (end - began) / 2 : 13 * DEMAND_WEEK;
	int64_t from = end - span;
	DemandStep step = { INT64_MIN, configured };
	DemandHistory history = { .began = began,
							  .demands = demands,
							  .ndemands = count,
							  .builds = lead_builds,
							  .nbuilds = 200,
							  .configured = &step,
							  .nconfigured = 1 };
	ChoiceSettings settings = { .service_level = service_level,
								.prompt = true,
								.policy = { .max_instances = MOST_INSTANCES,
											.scale_in_delay = scale_in,
											.pass_interval = DEMAND_MINUTE,
											.default_lead = 5 * DEMAND_MINUTE } };
	ChoiceSettings played = settings;
	SimulatorSettings simulator = { .from = from,
									.split = from,
									.to = end,
									.pass_interval = DEMAND_MINUTE,
									.prompt = true,
									.default_lead = 5 * DEMAND_MINUTE };
	SimulatorResult chosen, as_configured, foreseen;
	SimulatorFigures hand, best = { .idle = INT64_MAX };
	WeekSchedule schedule;
	char note[100];
	double share;
	clock_t clock_before;
	bool sparse;

	for (int i = 0; i < 200; i++)
		lead_builds[i] = (DemandBuild){ began + (end - began) / 200 * i,
										(int64_t) (lead_minutes * (0.7 + 0.6 * (i * 37 % 100) / 99) *
												   DEMAND_MINUTE),
										false };
	if (configured == 0)
		step.value = guess_level(&history, began, from);

	/* what a backtest at the beginning says: of the policy that it chose, in the part it did not see */
	settings.from = from - BACKTEST;
	settings.to = from;
	clock_before = clock();
	choice_make(&history, &settings, &rooms[0], &predicted);
	printf("%s: %.1f demands a day, backtest in %.1f ms\n", name,
		   (count - demand_count_before(demands, count, from)) / ((double) span / DEMAND_DAY),
		   (double) (clock() - clock_before) * 1000 / CLOCKS_PER_SEC);
	printf("  %-28s %7s %8s %9s %8s %7s\n", "", "demands", "hit rate", "idle h", "created", "peak");

	played.from = from;
	played.to = end;
	choice_simulate(&history, &played, from, from, &(Policy){ .kind = POLICY_CONFIGURED },
					&rooms[0], &as_configured);
	snprintf(note, sizeof(note), "%d", (int) step.value);
	print_row("configured", &as_configured.after, note);

	choice_simulate(&history, &played, from, from, &predicted.candidates[predicted.chosen].policy,
					&rooms[0], &foreseen);

	memset(&state, 0, sizeof(state));
	state.history = &history;
	state.settings = &settings;
	state.room = &rooms[0];
	state.memo = &rooms[1].memo;
	policy_memo_init(state.memo, patterns[1], 32);
	state.next_choice = from;
	simulate(&history, &simulator, auto_target, &state, &rooms[1].pool, &chosen);
	snprintf(note, sizeof(note), "%s at the end, %d changes", kind_names[state.policy.kind],
			 state.changes - 1);
	print_row("chosen", &chosen.after, note);

	share = simulator_hit_rate(&chosen.after) - 0.002;
	if (handmade_best(&history, &simulator, &rooms[0].pool, share, weekend_block, &schedule, &hand))
	{
		double ratio = (double) chosen.after.idle / (double) hand.idle;

		sparse = hand.demands < 10 * span / DEMAND_DAY;
		snprintf(note, sizeof(note), "chosen / this: %.2f", ratio);
		print_row("best hand-made, hindsight", &hand, note);
		sum_log[sparse] += __builtin_log(ratio);
		sum_count[sparse]++;
	}
	else
		printf("  no hand-made schedule serves so many\n");
	{
		static const PolicyKind families[] = { POLICY_FIXED, POLICY_SCHEDULE, POLICY_FORECAST };
		PolicyKind family = POLICY_FIXED;

		for (int i = 0; i < 3; i++)
		{
			SimulatorFigures figures =
				best_of_family(&history, &played, families[i], share, &rooms[0]);

			if (figures.idle < best.idle)
			{
				best = figures;
				family = families[i];
			}
		}
		snprintf(note, sizeof(note), "%s; chosen / this: %.2f", kind_names[family],
				 (double) chosen.after.idle / (double) best.idle);
		print_row("best family, hindsight", &best, note);
	}
	played.split = from;
	{
		static ChoiceResult bound;

		played.service_level = share;
		played.split = 0;
		played.from = from;
		choice_bound(&history, &played, from, &rooms[0], &bound.bound);
		print_row("bound: free week, hindsight", &bound.bound.later, "");
	}
	print_row("backtest's later 30 days", &predicted.candidates[predicted.chosen].later,
			  kind_names[predicted.candidates[predicted.chosen].policy.kind]);
	snprintf(note, sizeof(note), "idle a demand: backtest %.2f h, replay %.2f h",
			 hours(predicted.candidates[predicted.chosen].later.idle) /
				 predicted.candidates[predicted.chosen].later.demands,
			 hours(foreseen.after.idle) / foreseen.after.demands);
	print_row("the same policy, played", &foreseen.after, note);
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
	int weeks = 29;
	int count = trace_make(kind, per_day, seed, from, weeks, times, MOST_DEMANDS);
	char name[100];

	snprintf(name, sizeof(name), "%s, %g a day, seed %llu", kind, per_day,
			 (unsigned long long) seed);
	replay(name, times, count, from, from + weeks * DEMAND_WEEK);
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench/replay [--level SHARE] [--lead MINUTES] [--configured N]\n"
					"           [--per-day N] [--seed N] [--scale-in MINUTES] [--weekend-block]\n"
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
			default:
				usage();
		}
	if (!(service_level > 0 && service_level < 1) || !(lead_minutes > 0) || per_day < 0 ||
		configured < 0 || scale_in < 0)
		usage();
	for (int i = 0; i < 2; i++)
	{
		rooms[i].pool = (SimulatorRoom){ MOST_INSTANCES, ready[i], builds[i] };
		policy_memo_init(&rooms[i].memo, patterns[i], 32);
	}
	for (int i = optind; i <= argc; i++)
	{
		bool known = i == argc ? optind == argc : strcmp(argv[i], "all") == 0;
		bool found = false;

		for (int k = 0; trace_kinds[k] != NULL; k++)
			if (known || (i < argc && strcmp(argv[i], trace_kinds[k]) == 0))
			{
				found = true;
				if (per_day > 0)
					replay_kind(trace_kinds[k], per_day, seed);
				else
				{
					replay_kind(trace_kinds[k], 150, seed);
					replay_kind(trace_kinds[k], 4.5, seed);
				}
			}
		if (!found && i < argc)
		{
			int count = read_times(argv[i]);

			if (count > 0)
				replay(argv[i], times, count, times[0], times[count - 1]);
		}
	}
	for (int i = 0; i < 2; i++)
		if (sum_count[i] > 0)
			printf("%s: chosen / hand-made, geometric mean over %d traces: %.3f\n",
				   i == 0 ? "dense" : "sparse (under 10 a day)", sum_count[i],
				   __builtin_exp(sum_log[i] / sum_count[i]));
	return 0;
}
