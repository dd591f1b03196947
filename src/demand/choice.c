/*
 * choice.c
 *	  Backtest and choice. Pure.
 *
 * The range is cut in two. On its earlier part the parameters of each kind of policy are found and
 * the policy is chosen; the later part, which had no say in that, tells what to expect. In both parts
 * every policy sees only what was before each question: the simulator gives it no more.
 */
#include "demand/choice.h"

#include <string.h>

/*
 * Prices of POLICY_FORECAST that are thought of: each is the one before times the ratio. The last is
 * what CHOICE_WORTH says.
 */
#define FIRST_PRICE 4.0
#define PRICE_RATIO 0.8
#define PRICES 35
/* POLICY_SCHEDULE aims at missing these shares of what may be missed: past weeks fit too well. */
#define AIMS 3
static const double aims[AIMS] = { 1, 0.5, 0.2 };
/* Levels of POLICY_FIXED that are tried: where counting says, and above. */
#define FIXED_TRIED 3
/* Within this share of the idle time two policies are as good as each other. */
#define NEAR 0.05
/* The parts of the range: of three. */
#define EARLIER_THIRDS 2
/* Tries for the bound to reach the level, each with a higher aim. */
#define BOUND_TRIES 12

typedef struct PolicyCall
{
	const Policy *policy;
	const PolicySettings *settings;
	PolicyMemo *memo;
	void (*pause)(void);
} PolicyCall;

/* Return the share of the demands that were served warm; 1 without demands. */
double
simulator_hit_rate(const SimulatorFigures *figures)
{
	return figures->demands > 0 ? (double) figures->warm / figures->demands : 1;
}

/* Ask a policy, as the simulator does. */
static int
ask_policy(void *argument, const DemandHistory *past, int64_t at, int64_t *until)
{
	PolicyCall *call = argument;
	PolicyAnswer answer;

	if (call->pause != NULL)
		call->pause();
	policy_target(call->policy, call->settings, past, at, call->memo, &answer);
	*until = policy_until(call->policy, call->settings, past, at, call->memo, &answer);
	return answer.target;
}

/*
 * Simulate one policy from a time to settings->to, with figures before and after the split; or, with
 * give_up_at above 0, until so many demands were cold in the first part. Returns whether it came to
 * the end.
 */
static bool
simulate_policy(const DemandHistory *history, const ChoiceSettings *settings, int64_t from,
				int64_t split, const Policy *policy, int give_up_at, ChoiceRoom *room,
				SimulatorResult *result)
{
	PolicyCall call = { policy, &settings->policy, &room->memo, settings->pause };
	SimulatorSettings simulator = { .from = from,
									.split = split,
									.to = settings->to,
									.pass_interval = settings->policy.pass_interval,
									.prompt = settings->prompt,
									.expire_after = settings->expire_after,
									.max_creates = settings->max_creates,
									.max_building = settings->max_building,
									.default_lead = settings->policy.default_lead,
									.give_up_at = give_up_at,
									.series = settings->series };

	policy_memo_next(&room->memo);
	return simulate(history, &simulator, ask_policy, &call, &room->pool, result);
}

/*
 * Simulate one policy from a time to settings->to, with figures before and after the split. The
 * room's memo must be ready for this preset: policy_memo_init().
 */
void
choice_simulate(const DemandHistory *history, const ChoiceSettings *settings, int64_t from,
				int64_t split, const Policy *policy, ChoiceRoom *room, SimulatorResult *result)
{
	(void) simulate_policy(history, settings, from, split, policy, 0, room, result);
}

static bool
is_enough(int warm, int demands, double service_level)
{
	return warm >= service_level * demands;
}

static bool
reaches(const SimulatorFigures *figures, double service_level)
{
	return is_enough(figures->warm, figures->demands, service_level);
}

/* Return how many cold demands between two times are too many for the service level. */
static int
too_many_cold(const DemandHistory *history, int64_t from, int64_t to, double service_level)
{
	int demands = demand_count_before(history->demands, history->ndemands, to) -
				  demand_count_before(history->demands, history->ndemands, from);
	int low = 1;
	int high = demands + 1;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (is_enough(demands - middle, demands, service_level))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Try a policy, and keep it as a candidate. Returns whether it reached the level. */
static bool
try_policy(const DemandHistory *history, const ChoiceSettings *settings, const Policy *policy,
		   ChoiceRoom *room, ChoiceResult *result)
{
	ChoiceCandidate *candidate = &result->candidates[result->ncandidates++];
	SimulatorResult figures;

	choice_simulate(history, settings, result->from, result->split, policy, room, &figures);
	candidate->policy = *policy;
	candidate->earlier = figures.before;
	candidate->later = figures.after;
	candidate->reached = reaches(&figures.before, settings->service_level);
	return candidate->reached;
}

/* Try fixed levels, from the one that counting says is enough. */
static void
try_fixed(const DemandHistory *history, const ChoiceSettings *settings, ChoiceRoom *room,
		  ChoiceResult *result)
{
	WeekNeeds *needs = &room->memo.needs;
	Policy policy = { .kind = POLICY_FIXED };
	DemandLead lead;
	int served = 0;

	demand_lead(history, result->split, settings->policy.default_lead, &lead);
	week_needs(history, result->from, result->split, lead.mean, needs);
	while (policy.level < WEEK_LEVELS && served < settings->service_level * needs->demands)
	{
		policy.level++;
		for (int hour = 0; hour < WEEK_HOURS; hour++)
			served += needs->needed[hour][policy.level];
	}
	if (policy.level > settings->policy.max_instances)
		policy.level = settings->policy.max_instances;
	for (int i = 0; i < FIXED_TRIED; i++, policy.level++)
		if (try_policy(history, settings, &policy, room, result))
			break;
}

/* Try schedules that aim higher and higher, until one reaches the level. */
static void
try_schedules(const DemandHistory *history, const ChoiceSettings *settings, ChoiceRoom *room,
			  ChoiceResult *result)
{
	Policy policy = { .kind = POLICY_SCHEDULE };

	for (int i = 0; i < AIMS; i++)
	{
		policy.aim = 1 - (1 - settings->service_level) * aims[i];
		if (try_policy(history, settings, &policy, room, result))
			break;
	}
}

/* Return the price with a number: the higher the number, the more prebuilds. */
static double
price_of(int number)
{
	double price = FIRST_PRICE;

	for (int i = 0; i < number; i++)
		price *= PRICE_RATIO;
	return price;
}

/*
 * Find the highest price that reaches the level. Lower prices serve more, so the search halves, and
 * gives a price up once it misses too many. Only the price that it finds becomes a candidate: all
 * prices of one policy would crowd out the others. If none reaches the level it is the lowest.
 */
static void
try_forecasts(const DemandHistory *history, const ChoiceSettings *settings, ChoiceRoom *room,
			  ChoiceResult *result)
{
	Policy policy = { .kind = POLICY_FORECAST };
	ChoiceCandidate *best = &result->candidates[result->ncandidates];
	int too_many = too_many_cold(history, result->from, result->split, settings->service_level);
	int low = 0;
	int high = PRICES;

	best->reached = false;
	while (low < high)
	{
		int middle = low + (high - low) / 2;
		SimulatorResult figures;

		policy.price = price_of(middle);
		if (simulate_policy(history, settings, result->from, result->split, &policy, too_many, room,
							&figures) &&
			reaches(&figures.before, settings->service_level))
		{
			*best = (ChoiceCandidate){ policy, true, false, figures.before, figures.after };
			high = middle;
		}
		else
			low = middle + 1;
	}
	if (best->reached)
		result->ncandidates++;
	else
		(void) try_policy(history, settings, &policy, room, result);
}

/* What serving demands is worth at most, less the idle time that it takes. */
static double
value_of(const SimulatorFigures *figures)
{
	return (double) figures->warm * CHOICE_WORTH - (double) figures->idle;
}

/*
 * Does a candidate reach the level by spending more than that is worth? One burst of dozens in three
 * months must not keep dozens of prebuilds waiting.
 */
static bool
spends_too_much(const ChoiceResult *result, const ChoiceCandidate *candidate)
{
	for (int i = 0; i < result->ncandidates; i++)
		if (result->candidates[i].earlier.warm < candidate->earlier.warm &&
			value_of(&result->candidates[i].earlier) > value_of(&candidate->earlier))
			return true;
	return false;
}

/* Nothing reached the level at its worth: take what gives most for what it takes. */
static void
choose_best_effort(ChoiceResult *result)
{
	result->note = CHOICE_BEST_EFFORT;
	for (int i = 1; i < result->ncandidates; i++)
		if (value_of(&result->candidates[i].earlier) >
			value_of(&result->candidates[result->chosen].earlier))
			result->chosen = i;
}

/*
 * Choose: of those that reached the level the one that waits least, or the simplest of those that
 * wait hardly longer. What is configured stays unless that one is clearly better.
 */
static void
choose(ChoiceResult *result)
{
	ChoiceCandidate *candidates = result->candidates;
	int best = -1;
	int chosen = -1;

	for (int i = 0; i < result->ncandidates; i++)
		if (candidates[i].reached && spends_too_much(result, &candidates[i]))
			candidates[i].too_dear = true;
	for (int i = 0; i < result->ncandidates; i++)
		if (candidates[i].reached && !candidates[i].too_dear &&
			(best < 0 || candidates[i].earlier.idle < candidates[best].earlier.idle))
			best = i;
	if (best < 0)
	{
		choose_best_effort(result);
		return;
	}
	/* candidates are in the order of their kinds, the simplest first */
	for (int i = 0; i < result->ncandidates; i++)
		if (candidates[i].reached && !candidates[i].too_dear &&
			(double) candidates[i].earlier.idle * (1 - NEAR) <=
				(double) candidates[best].earlier.idle &&
			(chosen < 0 || (candidates[i].policy.kind == candidates[chosen].policy.kind &&
							candidates[i].earlier.idle < candidates[chosen].earlier.idle)))
			chosen = i;
	result->chosen = chosen;
	result->note = chosen == 0 ? CHOICE_KEPT : CHOICE_MADE;
}

/* Fit a schedule to the weeks before the split, for people who want to write one down. */
static void
advise_schedule(const DemandHistory *history, const ChoiceSettings *settings, ChoiceRoom *room,
				ChoiceResult *result)
{
	WeekNeeds *needs = &room->memo.needs;
	ChoiceSchedule *advice = &result->advice;
	Policy policy = { .kind = POLICY_WEEK, .week = &advice->week };
	int64_t from = result->split - RATE_WEEKS * DEMAND_WEEK;
	DemandHistory known = demand_history_before(history, result->split);
	DemandLead lead;
	SimulatorResult figures;
	int too_many = too_many_cold(history, result->from, result->split, settings->service_level);

	if (from < history->began)
		from = history->began;
	demand_lead(&known, result->split, settings->policy.default_lead, &lead);
	week_needs(&known, from, result->split, lead.mean, needs);
	for (int i = 0; i < AIMS; i++)
	{
		week_schedule_fit(needs, WEEK_PIECED, 1 - (1 - settings->service_level) * aims[i],
						  &advice->week);
		/* the last one stays, whatever it gives */
		advice->reached = simulate_policy(history, settings, result->from, result->split, &policy,
										  i < AIMS - 1 ? too_many : 0, room, &figures) &&
						  reaches(&figures.before, settings->service_level);
		advice->later = figures.after;
		if (advice->reached)
			break;
	}
}

/*
 * Find the cheapest weekly schedule in hindsight for the demand from a time to settings->to. It knew
 * all, and has a level for every hour of the week: a bound, not a policy. Counting leaves out a little,
 * so this aims higher until the simulator says that it serves enough.
 */
void
choice_bound(const DemandHistory *history, const ChoiceSettings *settings, int64_t from,
			 ChoiceRoom *room, ChoiceSchedule *bound)
{
	WeekNeeds *needs = &room->memo.needs;
	Policy policy = { .kind = POLICY_WEEK, .week = &bound->week };
	double misses = 1 - settings->service_level;
	int too_many = too_many_cold(history, from, settings->to, settings->service_level);
	DemandLead lead;
	SimulatorResult figures;

	bound->reached = false;
	demand_lead(history, settings->to, settings->policy.default_lead, &lead);
	week_needs(history, from, settings->to, lead.mean, needs);
	for (int try = 0; try < BOUND_TRIES && !bound->reached; try++)
	{
		double aim = 1 - misses * (BOUND_TRIES - 1 - try) / (BOUND_TRIES - 1);

		week_schedule_fit(needs, WEEK_FREE, aim, &bound->week);
		/* the last one stays, whatever it gives */
		bound->reached = simulate_policy(history, settings, from, from, &policy,
										 try < BOUND_TRIES - 1 ? too_many : 0, room, &figures) &&
						 reaches(&figures.after, settings->service_level);
		bound->later = figures.after;
	}
}

/* Cut the range: leave out what has no weeks of history before it; then as told, or by thirds. */
static void
cut_range(const DemandHistory *history, const ChoiceSettings *settings, ChoiceResult *result)
{
	int64_t from = history->began + CHOICE_SPAN_MIN;
	int64_t middle = settings->from + (settings->to - settings->from) / 2;

	if (from < settings->from)
		from = settings->from;
	if (from > middle)
		from = middle;
	result->from = from;
	result->split = from + (settings->to - from) / 3 * EARLIER_THIRDS;
	if (settings->split > from && settings->split <= settings->to)
		result->split = settings->split;
}

/*
 * Backtest all policies over a range and choose one. The caller has checked the settings: from is
 * before to, the service level is between 0 and 1, min_instances is at most max_instances, the pass
 * interval is above 0. With too little demand or history the result holds what is configured alone,
 * and no schedules. Takes some ten simulations of the range. Memory: the room's.
 */
void
choice_make(const DemandHistory *history, const ChoiceSettings *settings, ChoiceRoom *room,
			ChoiceResult *result)
{
	Policy configured = { .kind = POLICY_CONFIGURED };
	int64_t known_from = history->began > settings->from ? history->began : settings->from;
	int demands = demand_count_before(history->demands, history->ndemands, settings->to) -
				  demand_count_before(history->demands, history->ndemands, settings->from);

	memset(result, 0, sizeof(*result));
	cut_range(history, settings, result);
	policy_memo_init(&room->memo, room->memo.patterns, room->memo.npatterns);
	try_policy(history, settings, &configured, room, result);
	if (demands < CHOICE_DEMANDS_MIN || settings->to - known_from < CHOICE_SPAN_MIN)
	{
		result->note = demands < CHOICE_DEMANDS_MIN ? CHOICE_TOO_FEW : CHOICE_TOO_SHORT;
		return;
	}
	try_fixed(history, settings, room, result);
	try_schedules(history, settings, room, result);
	try_forecasts(history, settings, room, result);
	choose(result);
	advise_schedule(history, settings, room, result);
	if (result->split < settings->to)
		choice_bound(history, settings, result->split, room, &result->bound);
}
