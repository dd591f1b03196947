/*
 * oracle.c
 *	  Play base-stock levels for rates that are known. What they cannot do for the true ones, no estimate
 *	  of rates can.
 *
 * A level holds in the minute whose demand it serves; a prebuild for it must have been ordered before.
 * So the target of a minute is the highest level from then until what is ordered then is there.
 */
#include "oracle.h"

#include <stdlib.h>

#include "demand/demand_rates.h"
#include "demand/stock_level.h"

/* Prices in hindsight: each is the one before times the ratio. */
#define FIRST_PRICE 4.0
#define PRICE_RATIO 0.9
#define PRICES 75
/* Lower prices wait longer: beyond this much nothing better comes. */
#define WORSE 1.25

typedef struct Oracle
{
	int64_t from; /* of the first target */
	int minutes;
	int *levels;
	int *targets;
} Oracle;

static int
oracle_target(void *argument, const DemandHistory *past, int64_t at, int64_t *until)
{
	Oracle *oracle = argument;
	int minute = (int) ((at - oracle->from) / DEMAND_MINUTE);
	int next = minute + 1;

	(void) past;
	while (next < oracle->minutes && oracle->targets[next] == oracle->targets[minute])
		next++;
	*until = oracle->from + next * DEMAND_MINUTE;
	return oracle->targets[minute];
}

/*
 * Find the level of each minute, for its rate and what is expected in the lead time before it. The
 * first minutes take the first rate for those before.
 */
static void
find_levels(const double *rates, const DemandLead *lead, int64_t pass_interval, double price,
			int most, Oracle *oracle)
{
	double lead_minutes = (double) (lead->mean + pass_interval / 2) / DEMAND_MINUTE;
	int whole = (int) lead_minutes;
	StockQuestion last = { 0 };
	StockAnswer answer = { 0 };

	for (int minute = 0; minute < oracle->minutes; minute++)
	{
		const double *now = rates + minute;
		StockQuestion question = { .rate = now[0], .price = price, .most = most };
		double expected = (lead_minutes - whole) * now[-(minute < whole ? minute : whole)];

		for (int i = 0; i < whole; i++)
			expected += now[-(minute < i ? minute : i)];
		question.lead = expected / 60 / question.rate;
		if (minute == 0 || question.rate != last.rate || question.lead != last.lead)
			stock_level(&question, &answer);
		last = question;
		oracle->levels[minute] = answer.level;
	}
}

static void
find_targets(const DemandLead *lead, int64_t pass_interval, Oracle *oracle)
{
	int ahead = (int) ((lead->p90 + pass_interval + DEMAND_MINUTE - 1) / DEMAND_MINUTE);

	for (int minute = 0; minute < oracle->minutes; minute++)
	{
		oracle->targets[minute] = 0;
		for (int i = 0; i <= ahead && minute + i < oracle->minutes; i++)
			if (oracle->levels[minute + i] > oracle->targets[minute])
				oracle->targets[minute] = oracle->levels[minute + i];
	}
}

bool
oracle_best(const DemandHistory *history, const SimulatorSettings *settings,
			const SimulatorRoom *room, double share, const OracleRates *known,
			SimulatorFigures *figures)
{
	const double *rates = known->rates + (settings->from - known->from) / DEMAND_MINUTE;
	Oracle oracle = { .from = settings->from,
					  .minutes = (int) ((settings->to - settings->from) / DEMAND_MINUTE) };
	SimulatorSettings until_missed = *settings;
	int demands = demand_count_before(history->demands, history->ndemands, settings->to) -
				  demand_count_before(history->demands, history->ndemands, settings->from);
	double price = FIRST_PRICE;
	bool found = false;
	DemandLead lead;

	until_missed.give_up_at = (int) ((1 - share) * demands + 1e-9) + 1;
	oracle.levels = malloc(sizeof(int) * (size_t) oracle.minutes);
	oracle.targets = malloc(sizeof(int) * (size_t) oracle.minutes);
	demand_lead(history, settings->to, settings->default_lead, &lead);
	for (int i = 0; i < PRICES; i++, price *= PRICE_RATIO)
	{
		SimulatorResult result;

		find_levels(rates, &lead, settings->pass_interval, price, room->size, &oracle);
		find_targets(&lead, settings->pass_interval, &oracle);
		if (!simulate(history, &until_missed, oracle_target, &oracle, room, &result))
			continue;
		if (!found || result.after.idle < figures->idle)
			*figures = result.after;
		else if ((double) result.after.idle > WORSE * (double) figures->idle)
			break;
		found = true;
	}
	free(oracle.levels);
	free(oracle.targets);
	return found;
}

/* Copy the demands of a week to another time. Returns how many there are. */
static int
copy_week(const DemandHistory *history, int64_t from, int64_t to, int64_t *times)
{
	int first = demand_count_before(history->demands, history->ndemands, from);
	int end = demand_count_before(history->demands, history->ndemands, from + DEMAND_WEEK);

	for (int i = first; i < end; i++)
		times[i - first] = history->demands[i] - from + to;
	return end - first;
}

/*
 * Make a history before a week of those that are nearest to it, the nearest one last. times has room
 * for all of them.
 */
static DemandHistory
nearest_weeks(const DemandHistory *history, int64_t end, int64_t week, int64_t *times)
{
	DemandHistory nearest = *history;
	int64_t weeks[RATE_WEEKS];
	int found = 0;

	for (int away = 1; found < RATE_WEEKS && away < 1000; away++)
	{
		if (week + (away + 1) * DEMAND_WEEK <= end)
			weeks[found++] = week + away * DEMAND_WEEK;
		if (found < RATE_WEEKS && week - away * DEMAND_WEEK >= history->began)
			weeks[found++] = week - away * DEMAND_WEEK;
	}
	nearest.demands = times;
	nearest.ndemands = 0;
	nearest.began = week - found * DEMAND_WEEK;
	for (int i = found - 1; i >= 0; i--)
		nearest.ndemands +=
			copy_week(history, weeks[i], week - (i + 1) * DEMAND_WEEK, times + nearest.ndemands);
	return nearest;
}

void
oracle_from_both_sides(const DemandHistory *history, const SimulatorSettings *settings,
					   double *rates)
{
	int64_t *times = malloc(sizeof(int64_t) * ((size_t) history->ndemands + 1));
	DemandRates estimated;
	DemandLead lead;

	demand_lead(history, settings->to, settings->default_lead, &lead);
	for (int64_t week = settings->from; week < settings->to; week += DEMAND_WEEK)
	{
		DemandHistory nearest = nearest_weeks(history, settings->to, week, times);

		demand_rates(&nearest, week, lead.mean, &estimated);
		for (int64_t at = week; at < week + DEMAND_WEEK && at < settings->to; at += DEMAND_MINUTE)
			rates[(at - settings->from) / DEMAND_MINUTE] =
				estimated.weeks == 0
					? 0
					: estimated.level *
						  estimated.cells[demand_time_of_week(history, at) / RATE_CELL];
	}
	free(times);
}
