/*
 * policies.c
 *	  The policies. Pure.
 *
 * What is slow to change is learnt once a week, on Monday at midnight UTC, from the history before:
 * lead times, the pattern of the week, a schedule. What is fast is looked up at each question: the
 * demand of the last day and of the last minutes.
 */
#include "demand/policies.h"

#include <string.h>

#include "demand/stock_level.h"

/* The last day's demand moves the rate up and down, that of the last minutes only up. */
#define RECENT_DAY DEMAND_DAY
#define RECENT_MINUTES (30 * DEMAND_MINUTE)
/* Demands' worth of evidence that these minutes must bring: what a burst is, and what is chance. */
#define MINUTES_TRUST 10

/* Round a time down to a multiple of a unit. */
static int64_t
round_down(int64_t at, int64_t unit)
{
	int64_t rest = at % unit;

	return at - (rest < 0 ? rest + unit : rest);
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* What is configured at the time. */
static void
answer_configured(const DemandHistory *past, int64_t at, PolicyReason reason, PolicyAnswer *answer)
{
	answer->target = (int) demand_step_value(past->configured, past->nconfigured, at, 0);
	answer->reason = reason;
	/* a policy does not know coming changes, so ask often: schedules change at full hours */
	answer->until = round_down(at, RATE_CELL) + RATE_CELL;
}

/*
 * Has the demand stopped? Answers the least then. It is asked before anything is fitted, because the
 * weeks of a fit would remember the demand for months.
 */
static bool
answer_silence(const DemandHistory *past, int64_t at, PolicyAnswer *answer)
{
	if (past->ndemands < POLICY_DEMANDS_MIN ||
		at - past->demands[past->ndemands - 1] < POLICY_SILENCE)
		return false;
	answer->target = 0;
	answer->reason = POLICY_SILENT;
	return true;
}

/* Learn the pattern or the schedule of the weeks before, if this is the first question of a week. */
static void
learn(const Policy *policy, const PolicySettings *settings, const DemandHistory *past, int64_t at,
	  PolicyMemo *memo)
{
	int64_t monday = round_down(at - DEMAND_FIRST_MONDAY, DEMAND_WEEK) + DEMAND_FIRST_MONDAY;
	int64_t weeks = (monday - past->began) / DEMAND_WEEK;
	DemandHistory known;

	if (memo->valid && memo->learnt_at == monday)
		return;
	memo->valid = true;
	memo->learnt_at = monday;
	known = demand_history_before(past, monday);
	demand_lead(&known, monday, settings->default_lead, &memo->lead);
	if (policy->kind == POLICY_FORECAST)
	{
		demand_rates(&known, monday, memo->lead.mean + settings->pass_interval / 2, &memo->rates);
		return;
	}
	memo->needs.demands = 0;
	if (weeks < RATE_WEEKS_MIN)
		return;
	weeks = earlier(weeks, RATE_WEEKS);
	week_needs(&known, monday - weeks * DEMAND_WEEK, monday, memo->lead.mean, &memo->needs);
	if (memo->needs.demands >= POLICY_DEMANDS_MIN)
		week_schedule_fit(&memo->needs, WEEK_PIECED, policy->aim, &memo->week);
}

/* Return how many demands came since a time. */
static int
demands_since(const DemandHistory *past, int64_t from)
{
	return past->ndemands - demand_count_before(past->demands, past->ndemands, from);
}

/*
 * Return by how much the demand of now differs from the pattern: the level of the last weeks, moved
 * by how the last day went, and raised by the last minutes. Each is what was seen over what was
 * expected, with trust in the expectation.
 */
static double
recent_factor(const DemandRates *rates, const DemandHistory *past, int64_t at)
{
	double factor = rates->level;
	double expected;
	double minutes;

	expected = factor * demand_expected(rates, past, at - RECENT_DAY, at);
	factor *=
		(demands_since(past, at - RECENT_DAY) + rates->day_trust) / (expected + rates->day_trust);
	expected = factor * demand_expected(rates, past, at - RECENT_MINUTES, at);
	minutes =
		(demands_since(past, at - RECENT_MINUTES) + MINUTES_TRUST) / (expected + MINUTES_TRUST);
	return minutes > 1 ? factor * minutes : factor;
}

/*
 * Return the highest rate from now until what is ordered now is there; and of the time before that
 * the scale-in delay keeps. Sets *until to when this may change.
 */
static double
rate_ahead(const PolicySettings *settings, const PolicyMemo *memo, const DemandHistory *past,
		   int64_t at, int64_t *until)
{
	int64_t into = demand_time_of_week(past, at) + DEMAND_WEEK;
	int64_t first = into - earlier(settings->scale_in_delay, DEMAND_DAY);
	int64_t last = into + earlier(memo->lead.p90 + settings->pass_interval, DEMAND_DAY);
	double most = 0;

	for (int64_t cell = first / RATE_CELL; cell <= last / RATE_CELL; cell++)
		if (memo->rates.cells[cell % RATE_CELLS] > most)
			most = memo->rates.cells[cell % RATE_CELLS];
	*until = at + earlier(RATE_CELL - first % RATE_CELL, RATE_CELL - last % RATE_CELL);
	return most;
}

static void
answer_forecast(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
				int64_t at, PolicyMemo *memo, PolicyAnswer *answer)
{
	int64_t lead;
	StockQuestion question;
	StockAnswer stock;

	learn(policy, settings, past, at, memo);
	if (memo->rates.weeks == 0 || memo->rates.demands < POLICY_DEMANDS_MIN)
	{
		answer_configured(past, at, POLICY_TOO_LITTLE, answer);
		return;
	}
	lead = memo->lead.mean + settings->pass_interval / 2;
	answer->lead = memo->lead.mean;
	answer->factor = recent_factor(&memo->rates, past, at);
	answer->rate = answer->factor * rate_ahead(settings, memo, past, at, &answer->until);
	question = (StockQuestion){ .rate = answer->rate,
								.lead = (double) lead / DEMAND_HOUR,
								.bursts = memo->rates.bursts,
								.price = policy->price,
								.most = settings->max_instances };
	stock_level(&question, &stock);
	answer->target = stock.level;
	answer->hit_rate = stock.hit_rate;
}

static void
answer_schedule(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
				int64_t at, PolicyMemo *memo, PolicyAnswer *answer)
{
	learn(policy, settings, past, at, memo);
	if (memo->needs.demands < POLICY_DEMANDS_MIN)
		answer_configured(past, at, POLICY_TOO_LITTLE, answer);
	else
		answer->target = week_schedule_level(&memo->week, past, at, &answer->until);
}

/*
 * Answer how many prebuilds a policy wants at a time, from min_instances to max_instances. past must
 * have been cut there by demand_history_before(). Takes microseconds, and for the first question of
 * a week time by the demands of the weeks before.
 */
void
policy_target(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
			  int64_t at, PolicyMemo *memo, PolicyAnswer *answer)
{
	*answer = (PolicyAnswer){ .until = at + DEMAND_DAY, .reason = POLICY_SAYS, .factor = 1 };
	switch (policy->kind)
	{
		case POLICY_CONFIGURED:
			answer_configured(past, at, POLICY_SAYS, answer);
			return; /* the bounds are the policies' */
		case POLICY_FIXED:
			answer->target = policy->level;
			break;
		case POLICY_WEEK:
			answer->target = week_schedule_level(policy->week, past, at, &answer->until);
			break;
		case POLICY_SCHEDULE:
			if (!answer_silence(past, at, answer))
				answer_schedule(policy, settings, past, at, memo, answer);
			break;
		case POLICY_FORECAST:
			if (!answer_silence(past, at, answer))
				answer_forecast(policy, settings, past, at, memo, answer);
			break;
	}
	/* silence begins between the steps of an answer */
	if (past->ndemands > 0 && past->demands[past->ndemands - 1] + POLICY_SILENCE > at)
		answer->until = earlier(answer->until, past->demands[past->ndemands - 1] + POLICY_SILENCE);
	if (answer->target < settings->min_instances)
		answer->target = settings->min_instances;
	if (answer->target > settings->max_instances)
		answer->target = settings->max_instances;
}
