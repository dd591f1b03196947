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
/* Far more than sums of rates err by, relative to a rate. */
#define ROUNDING 1e-7

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

/* Has the demand stopped? */
bool
policy_is_silent(const DemandHistory *past, int64_t at)
{
	return past->ndemands >= POLICY_DEMANDS_MIN &&
		   at - past->demands[past->ndemands - 1] >= POLICY_SILENCE;
}

/*
 * Answer the least if the demand has stopped. It is asked before anything is fitted, because the
 * weeks of a fit would remember the demand for months.
 */
static bool
answer_silence(const DemandHistory *past, int64_t at, PolicyAnswer *answer)
{
	if (!policy_is_silent(past, at))
		return false;
	answer->target = 0;
	answer->reason = POLICY_SILENT;
	return true;
}

/* Get a memo ready for a preset: nothing is learnt yet. */
void
policy_memo_init(PolicyMemo *memo, PolicyPattern *patterns, int npatterns)
{
	memo->patterns = patterns;
	memo->npatterns = npatterns;
	for (int i = 0; i < npatterns; i++)
		patterns[i].valid = false;
	policy_memo_next(memo);
}

/* Get a memo ready for another policy of the same preset: what is learnt of the demand stays. */
void
policy_memo_next(PolicyMemo *memo)
{
	const DemandWeek none = { 0, 0, 0 };

	memo->levels.learnt_at = INT64_MIN;
	memo->schedule_valid = false;
	memo->first_of_day = 0;
	memo->first_of_minutes = 0;
	memo->week = none;
	memo->day_before = none;
}

/* Return the Monday at midnight UTC up to which policies learn for a time. */
int64_t
policy_learns_at(int64_t at)
{
	return round_down(at - DEMAND_FIRST_MONDAY, DEMAND_WEEK) + DEMAND_FIRST_MONDAY;
}

/* Return the pattern of the weeks before, learnt at the first question of a week. */
const PolicyPattern *
policy_learn_pattern(const PolicySettings *settings, const DemandHistory *past, int64_t at,
					 PolicyMemo *memo)
{
	int64_t monday = policy_learns_at(at);
	int64_t slot = (monday / DEMAND_WEEK) % memo->npatterns;
	PolicyPattern *pattern = &memo->patterns[slot < 0 ? slot + memo->npatterns : slot];
	DemandHistory known;

	if (pattern->valid && pattern->learnt_at == monday)
		return pattern;
	known = demand_history_before(past, monday);
	pattern->valid = true;
	pattern->learnt_at = monday;
	demand_lead(&known, monday, settings->default_lead, &pattern->lead);
	demand_rates(&known, monday, pattern->lead.mean + settings->pass_interval / 2, &pattern->rates);
	return pattern;
}

/* Fit the memo's schedule to the weeks before, at the first question of a week. */
void
policy_learn_schedule(const Policy *policy, const PolicySettings *settings,
					  const DemandHistory *past, int64_t at, PolicyMemo *memo)
{
	int64_t monday = policy_learns_at(at);
	int64_t weeks = (monday - past->began) / DEMAND_WEEK;
	DemandHistory known;
	DemandLead lead;

	if (memo->schedule_valid && memo->schedule_at == monday)
		return;
	memo->schedule_valid = true;
	memo->schedule_at = monday;
	memo->needs.demands = 0;
	if (weeks < RATE_WEEKS_MIN)
		return;
	known = demand_history_before(past, monday);
	demand_lead(&known, monday, settings->default_lead, &lead);
	weeks = earlier(weeks, RATE_WEEKS);
	week_needs(&known, monday - weeks * DEMAND_WEEK, monday, lead.mean, &memo->needs);
	if (memo->needs.demands >= POLICY_DEMANDS_MIN)
		week_schedule_fit(&memo->needs, WEEK_PIECED, policy->aim, &memo->schedule);
}

/*
 * Return how many demands came since a time. *first is where the last question found the first of
 * them, and any number is right: the look-up begins there, as questions come in the order of time.
 */
static int
demands_since(const DemandHistory *past, int64_t from, int *first)
{
	int reach = 1;

	if (*first > past->ndemands || (*first > 0 && past->demands[*first - 1] >= from))
		*first = 0;
	while (reach <= past->ndemands - *first && past->demands[*first + reach - 1] < from)
	{
		*first += reach;
		reach *= 2;
	}
	if (reach > past->ndemands - *first)
		reach = past->ndemands - *first;
	*first += demand_count_before(past->demands + *first, reach, from);
	return past->ndemands - *first;
}

/*
 * Return by how much the demand of now differs from the pattern: the level of the last weeks, moved
 * by how the last day went, and raised by the last minutes. Each is what was seen over what was
 * expected, with trust in the expectation. With the same demands the factor falls where more was
 * expected, of the day or of the minutes.
 */
static double
factor_of(const DemandRates *rates, const PolicyRecent *recent, double day_expected,
		  double minutes_expected)
{
	double factor = rates->level;
	double expected = factor * day_expected;
	double minutes;

	factor *= (recent->day + rates->day_trust) / (expected + rates->day_trust);
	expected = factor * minutes_expected;
	minutes = (recent->minutes + MINUTES_TRUST) / (expected + MINUTES_TRUST);
	return minutes > 1 ? factor * minutes : factor;
}

/* Find what factor_of() needs at a time. */
static void
find_recent(const DemandRates *rates, const DemandHistory *past, int64_t at, PolicyMemo *memo)
{
	PolicyRecent *recent = &memo->recent;
	double now;

	recent->now_into = demand_time_of_near_week(past, at, &memo->week);
	recent->same_until = memo->week.until;
	recent->day_into = demand_time_of_near_week(past, at - RECENT_DAY, &memo->day_before);
	recent->same_until = earlier(recent->same_until, memo->day_before.until + RECENT_DAY);
	recent->minutes_into = demand_time_of_near_week(past, at - RECENT_MINUTES, &memo->week);
	recent->same_until = earlier(recent->same_until, memo->week.until + RECENT_MINUTES);
	/* what the rates expect in the week before each */
	now = demand_expected_into(rates, recent->now_into);
	recent->day_expected =
		demand_expected_between(rates, demand_expected_into(rates, recent->day_into), now);
	recent->minutes_expected =
		demand_expected_between(rates, demand_expected_into(rates, recent->minutes_into), now);
	recent->day = demands_since(past, at - RECENT_DAY, &memo->first_of_day);
	recent->minutes = demands_since(past, at - RECENT_MINUTES, &memo->first_of_minutes);
}

/*
 * Return the highest rate from now until what is ordered now is there; and of the time before that
 * the scale-in delay keeps. Sets *until to when this may change.
 */
static double
rate_ahead(const PolicySettings *settings, const PolicyPattern *pattern, const DemandHistory *past,
		   int64_t at, PolicyMemo *memo, int64_t *until)
{
	int64_t into = demand_time_of_near_week(past, at, &memo->week) + DEMAND_WEEK;
	int64_t first = into - earlier(settings->scale_in_delay, DEMAND_DAY);
	int64_t last = into + earlier(pattern->lead.p90 + settings->pass_interval, DEMAND_DAY);
	int64_t first_cell = first / RATE_CELL;
	int64_t last_cell = last / RATE_CELL;
	int cell = (int) (first_cell % RATE_CELLS);
	double most = 0;

	for (int64_t left = last_cell - first_cell; left >= 0; left--)
	{
		if (pattern->rates.cells[cell] > most)
			most = pattern->rates.cells[cell];
		cell = cell == RATE_CELLS - 1 ? 0 : cell + 1;
	}
	*until = at + earlier((first_cell + 1) * RATE_CELL - first, (last_cell + 1) * RATE_CELL - last);
	return most;
}

/* Return the level for a rate, from what the memo has seen or else from stock_level(). */
static int
level_for(const Policy *policy, const PolicySettings *settings, const PolicyPattern *pattern,
		  double rate, PolicyLevels *levels)
{
	double lead = (double) (pattern->lead.mean + settings->pass_interval / 2);
	StockQuestion question = { .rate = rate,
							   .lead = lead / DEMAND_HOUR,
							   .bursts = pattern->rates.bursts,
							   .price = policy->price,
							   .most = settings->max_instances };
	StockAnswer stock;

	if (levels->learnt_at != pattern->learnt_at || levels->price != policy->price)
	{
		levels->learnt_at = pattern->learnt_at;
		levels->price = policy->price;
		levels->last = 0;
		for (int i = 0; i < POLICY_LEVELS_KEPT; i++)
		{
			levels->least[i] = 1;
			levels->most[i] = 0;
		}
	}
	if (levels->least[levels->last] <= rate && rate <= levels->most[levels->last])
		return levels->last;
	for (int i = 0; i < POLICY_LEVELS_KEPT; i++)
		if (levels->least[i] <= rate && rate <= levels->most[i])
		{
			levels->last = i;
			return i;
		}
	stock_level(&question, &stock);
	if (stock.level < POLICY_LEVELS_KEPT)
	{
		double *least = &levels->least[stock.level];
		double *most = &levels->most[stock.level];
		bool first = *least > *most;

		if (first || rate < *least)
			*least = rate;
		if (first || rate > *most)
			*most = rate;
	}
	return stock.level;
}

static void
answer_forecast(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
				int64_t at, PolicyMemo *memo, PolicyAnswer *answer)
{
	const PolicyPattern *pattern = policy_learn_pattern(settings, past, at, memo);

	if (pattern->rates.weeks == 0 || pattern->rates.demands < POLICY_DEMANDS_MIN)
	{
		answer_configured(past, at, POLICY_TOO_LITTLE, answer);
		return;
	}
	answer->lead = pattern->lead.mean;
	find_recent(&pattern->rates, past, at, memo);
	answer->factor = factor_of(&pattern->rates, &memo->recent, memo->recent.day_expected,
							   memo->recent.minutes_expected);
	memo->recent.ahead = rate_ahead(settings, pattern, past, at, memo, &answer->until);
	answer->rate = answer->factor * memo->recent.ahead;
	answer->target = level_for(policy, settings, pattern, answer->rate, &memo->levels);
}

static void
answer_schedule(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
				int64_t at, PolicyMemo *memo, PolicyAnswer *answer)
{
	policy_learn_schedule(policy, settings, past, at, memo);
	if (memo->needs.demands < POLICY_DEMANDS_MIN)
		answer_configured(past, at, POLICY_TOO_LITTLE, answer);
	else
		answer->target = week_schedule_level(&memo->schedule, past, at, &answer->until);
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
			if (!answer_silence(past, at, answer))
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

/* Return the end of the piece of the rates that a time of the week is in, from a time on. */
static int64_t
end_of_cell(int64_t at, int64_t into)
{
	return at + RATE_CELL - into % RATE_CELL;
}

/*
 * Return up to when what FORECAST looks at goes on evenly: no demand leaves the last day or the last
 * minutes, and the rates of now, a day before and the minutes before stay.
 */
static int64_t
even_until(const DemandHistory *past, int64_t at, const PolicyMemo *memo)
{
	const PolicyRecent *recent = &memo->recent;
	int64_t until = earlier(end_of_cell(at, recent->now_into), recent->same_until);

	until = earlier(until, end_of_cell(at, recent->day_into));
	until = earlier(until, end_of_cell(at, recent->minutes_into));
	if (memo->first_of_day < past->ndemands)
		until = earlier(until, past->demands[memo->first_of_day] + RECENT_DAY + 1);
	if (memo->first_of_minutes < past->ndemands)
		until = earlier(until, past->demands[memo->first_of_minutes] + RECENT_MINUTES + 1);
	return until;
}

/*
 * Is the level of FORECAST the same for a span after the question, in which all goes on evenly? Then
 * what was expected of the day changes evenly, and so does what was expected of the minutes. The
 * factor falls with both, and the minutes' expectation counts by the factor of the day; so it is
 * between that of the most and that of the least of both.
 */
static bool
level_holds(const Policy *policy, const PolicySettings *settings, const PolicyPattern *pattern,
			int64_t span, int level, PolicyMemo *memo)
{
	const DemandRates *rates = &pattern->rates;
	const PolicyRecent *recent = &memo->recent;
	double hours = (double) span / DEMAND_HOUR;
	double now = rates->cells[recent->now_into / RATE_CELL];
	double day = hours * (now - rates->cells[recent->day_into / RATE_CELL]);
	double minutes = hours * (now - rates->cells[recent->minutes_into / RATE_CELL]);
	double least = factor_of(rates, recent, recent->day_expected + (day > 0 ? day : 0),
							 recent->minutes_expected + (minutes > 0 ? minutes : 0));
	double most = factor_of(rates, recent, recent->day_expected + (day < 0 ? day : 0),
							recent->minutes_expected + (minutes < 0 ? minutes : 0));

	/* levels never fall with the rate, and beyond the bounds they do not count */
	return (level <= settings->min_instances ||
			level_for(policy, settings, pattern, least * recent->ahead * (1 - ROUNDING),
					  &memo->levels) >= level) &&
		   (level >= settings->max_instances ||
			level_for(policy, settings, pattern, most * recent->ahead * (1 + ROUNDING),
					  &memo->levels) <= level);
}

/*
 * Return how long an answer holds if nobody asks for a workspace before: later than the question. Right
 * after policy_target(), with the same arguments. The answer of FORECAST falls as the demands of the
 * last minutes get old, at any pass. To ask at each would take too long; so this finds a time up to
 * which it cannot change.
 */
int64_t
policy_until(const Policy *policy, const PolicySettings *settings, const DemandHistory *past,
			 int64_t at, PolicyMemo *memo, const PolicyAnswer *answer)
{
	const PolicyPattern *pattern;
	int64_t until;

	if (policy->kind != POLICY_FORECAST || answer->reason != POLICY_SAYS)
		return answer->until;
	pattern = policy_learn_pattern(settings, past, at, memo);
	until = earlier(answer->until, even_until(past, at, memo));
	while (until - at > settings->pass_interval)
	{
		if (level_holds(policy, settings, pattern, until - at, answer->target, memo))
			return until;
		until = at + (until - at) / 2;
	}
	/* the next pass has to ask */
	return at + 1;
}
