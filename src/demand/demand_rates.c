/*
 * demand_rates.c
 *	  Estimate the rate of demand in every quarter of an hour of the week. Pure.
 *
 * A quarter of an hour has few demands, often none in weeks. So each rate is estimated in steps
 * from coarse to fine, and each step is pulled to the one before: the gamma-Poisson form of
 * empirical Bayes (Robbins 1956; Morris 1983), whose estimate is
 *
 *	   (demands seen + trust) / (time + trust / coarser rate)
 *
 * The trust in the coarser rate comes from the data: it is high where the finer counts differ from
 * it no more than Poisson's noise does (by moments). The steps are
 *
 *	   all > weekdays or weekend > the time of day on these, within 4 hours, 1 hour, half an hour
 *	   > the time of day on this one weekday
 *
 * The same reasoning says how far a week or a day may leave the pattern. The level follows a rise at
 * once, and a fall when it lasts: it is the newest week's, or the median of the last three if that is
 * more. One week of holidays must not empty the pool of the week after.
 */
#include "demand/demand_rates.h"

#include <string.h>

/* Weight of a week relative to the one after it. */
#define WEEK_WEIGHT 0.95
/* Bounds of the trust in a coarser rate, in demands. */
#define TRUST_MIN 1.0
#define TRUST_MAX 1e4
/* A day may be a holiday although none has been seen: this many demands that do not come tell. */
#define DAY_TRUST_MAX 25.0
/* Cells to each side that the steps smooth over, for all days of a kind and for the one weekday. */
#define DAY_STEPS 3
static const int day_reaches[DAY_STEPS] = { 16, 5, 1 };
#define WEEKDAY_REACH 1
/* What the estimate of bursts starts from: as many demands as expected. */
#define BURSTS_PRIOR 5

/* How counts differ from what was expected of them. */
typedef struct Spread
{
	double squares; /* of the differences */
	double expected;
	double expected_squares;
} Spread;

static void
spread_add(Spread *spread, double count, double expected)
{
	spread->squares += (count - expected) * (count - expected);
	spread->expected += expected;
	spread->expected_squares += expected * expected;
}

/* A gamma-Poisson count has variance mean + mean^2 / trust. Solve for the trust. */
static double
spread_trust(const Spread *spread)
{
	double excess = spread->squares - spread->expected;
	double trust;

	if (excess * TRUST_MAX <= spread->expected_squares)
		return TRUST_MAX;
	trust = spread->expected_squares / excess;
	return trust < TRUST_MIN ? TRUST_MIN : trust;
}

/* Is a weekday, counted from Monday, of the weekend? */
static bool
is_weekend(int weekday)
{
	return weekday >= 5;
}

static double
trust_in(const double *counts, const double *coarser, int ncells, double exposure)
{
	Spread spread = { 0, 0, 0 };

	for (int i = 0; i < ncells; i++)
		spread_add(&spread, counts[i], coarser[i] * exposure);
	return spread_trust(&spread);
}

/*
 * Refine the rates of a day: smooth its counts by a triangle that reaches some cells to each side
 * (round midnight), and pull the result to the rates so far. Exposure is in hours a cell.
 */
static void
refine_day(const double *counts, int reach, double exposure, double trust, double *rates)
{
	double weights = (reach + 1.0) * (reach + 1.0);
	double squares = 0;
	double span;
	double refined[RATE_CELLS_OF_DAY];

	for (int k = -reach; k <= reach; k++)
	{
		double weight = (reach + 1 - (k < 0 ? -k : k)) / weights;

		squares += weight * weight;
	}
	span = 1 / squares; /* cells that the triangle is worth */
	for (int i = 0; i < RATE_CELLS_OF_DAY; i++)
	{
		double count = 0;

		for (int k = -reach; k <= reach; k++)
			count += counts[(i + k + RATE_CELLS_OF_DAY) % RATE_CELLS_OF_DAY] *
					 (reach + 1 - (k < 0 ? -k : k));
		count *= span / weights;
		refined[i] = (count + trust) / (exposure * span + trust / rates[i]);
	}
	memcpy(rates, refined, sizeof(refined));
}

/*
 * Count the demands by cell of the week, newer weeks with more weight, and by week, the newest first.
 * The weights are such that the variance of a count is its mean, as Poisson's is. Returns the weeks
 * that the counts are worth.
 */
static double
count_cells(const DemandHistory *past, int64_t at, DemandRates *rates, double *counts,
			double *of_weeks)
{
	double weight = 1;
	double weights = 0;
	double squares = 0;
	int end = demand_count_before(past->demands, past->ndemands, at);
	DemandWeek near = { 0, 0, 0 };

	memset(counts, 0, sizeof(double) * RATE_CELLS);
	for (int week = 0; week < rates->weeks; week++)
	{
		int64_t from = at - (week + 1) * DEMAND_WEEK;

		of_weeks[week] = 0;
		for (; end > 0 && past->demands[end - 1] >= from; end--)
		{
			counts[demand_time_of_near_week(past, past->demands[end - 1], &near) / RATE_CELL] +=
				weight;
			of_weeks[week]++;
			rates->demands++;
		}
		weights += weight;
		squares += weight * weight;
		weight *= WEEK_WEIGHT;
	}
	for (int i = 0; i < RATE_CELLS; i++)
		counts[i] *= weights / squares;
	return weights * weights / squares;
}

/* Estimate the rates in steps from coarse to fine. Exposure is in hours a cell. */
static void
estimate_cells(const double *counts, double exposure, double *cells)
{
	double all = 0;
	double of_days[2][RATE_CELLS_OF_DAY] = { { 0 } };
	double of_kind[2] = { 0 };
	double trust;

	for (int i = 0; i < RATE_CELLS; i++)
	{
		int kind = is_weekend(i / RATE_CELLS_OF_DAY);

		all += counts[i];
		of_kind[kind] += counts[i];
		of_days[kind][i % RATE_CELLS_OF_DAY] += counts[i];
	}
	all /= exposure * RATE_CELLS;
	for (int day = 0; day < 7; day++)
	{
		int kind = is_weekend(day);
		double *rates = cells + day * RATE_CELLS_OF_DAY;
		double hours = exposure * (kind == 1 ? 2 : 5);
		double rate = (of_kind[kind] + TRUST_MIN) / (hours * RATE_CELLS_OF_DAY + TRUST_MIN / all);

		if (day != 0 && is_weekend(day - 1) == is_weekend(day))
		{
			memcpy(rates, rates - RATE_CELLS_OF_DAY, sizeof(double) * RATE_CELLS_OF_DAY);
			continue;
		}
		for (int i = 0; i < RATE_CELLS_OF_DAY; i++)
			rates[i] = rate;
		for (int step = 0; step < DAY_STEPS; step++)
			refine_day(of_days[kind], day_reaches[step], hours,
					   trust_in(of_days[kind], rates, RATE_CELLS_OF_DAY, hours), rates);
	}
	trust = trust_in(counts, cells, RATE_CELLS, exposure);
	for (int day = 0; day < 7; day++)
		refine_day(counts + day * RATE_CELLS_OF_DAY, WEEKDAY_REACH, exposure, trust,
				   cells + day * RATE_CELLS_OF_DAY);
}

/* Return the newest week's demands, or the median of the last three weeks if that is more. */
static double
lasting_level(const double *of_weeks, int weeks)
{
	double low = of_weeks[0] < of_weeks[1] ? of_weeks[0] : of_weeks[1];
	double high = of_weeks[0] < of_weeks[1] ? of_weeks[1] : of_weeks[0];
	double median = high;

	if (weeks > 2)
		median = of_weeks[2] < low ? low : (of_weeks[2] > high ? high : of_weeks[2]);
	return of_weeks[0] > median ? of_weeks[0] : median;
}

/* Estimate the level of the last weeks, and how much single days differ from it. */
static void
estimate_level(const DemandHistory *past, int64_t at, const double *of_weeks, DemandRates *rates)
{
	double week = rates->sums[RATE_CELLS];
	Spread of_weeks_spread = { 0, 0, 0 };
	Spread of_days = { 0, 0, 0 };
	int end = demand_count_before(past->demands, past->ndemands, at);
	double trust;

	for (int i = 0; i < rates->weeks; i++)
		spread_add(&of_weeks_spread, of_weeks[i], week);
	trust = spread_trust(&of_weeks_spread);
	rates->level = (lasting_level(of_weeks, rates->weeks) + trust) / (week + trust);

	for (int day = 0; day < 7 * rates->weeks; day++)
	{
		int64_t from = at - (day + 1) * DEMAND_DAY;
		int first = demand_count_before(past->demands, end, from);
		double level = (of_weeks[day / 7] + BURSTS_PRIOR) / (week + BURSTS_PRIOR);

		spread_add(&of_days, end - first,
				   level * demand_expected(rates, past, from, from + DEMAND_DAY));
		end = first;
	}
	rates->day_trust = spread_trust(&of_days);
	if (rates->day_trust > DAY_TRUST_MAX)
		rates->day_trust = DAY_TRUST_MAX;
}

/*
 * Estimate how much demand comes in bursts: by how many more demands a demand finds in the lead
 * time before it than the rate says.
 */
static double
estimate_bursts(const DemandHistory *past, int64_t at, int64_t lead, const DemandRates *rates)
{
	int end = demand_count_before(past->demands, past->ndemands, at);
	int first = demand_count_before(past->demands, end, at - rates->weeks * DEMAND_WEEK);
	int oldest = first;
	double found = BURSTS_PRIOR;
	double expected = BURSTS_PRIOR;
	double hours = (double) lead / DEMAND_HOUR;
	DemandWeek near = { 0, 0, 0 };

	for (int i = first; i < end; i++)
	{
		while (past->demands[oldest] < past->demands[i] - lead)
			oldest++;
		found += i - oldest;
		expected +=
			hours *
			rates->cells[demand_time_of_near_week(past, past->demands[i], &near) / RATE_CELL];
	}
	return found > expected ? found / expected - 1 : 0;
}

/* Compute the sums from the cells. */
void
demand_rates_sum(DemandRates *rates)
{
	rates->sums[0] = 0;
	for (int i = 0; i < RATE_CELLS; i++)
		rates->sums[i + 1] = rates->sums[i] + rates->cells[i] / RATE_CELLS_OF_HOUR;
}

/*
 * Estimate the rates from the last whole weeks before a time, which are counted back from it. With
 * fewer than two such weeks, or no demand in them, weeks is 0 and the rest undefined.
 */
void
demand_rates(const DemandHistory *past, int64_t at, int64_t lead, DemandRates *rates)
{
	double counts[RATE_CELLS];
	double of_weeks[RATE_WEEKS];
	int64_t weeks = (at - past->began) / DEMAND_WEEK;
	double worth = 0;

	rates->weeks = (int) (weeks > RATE_WEEKS ? RATE_WEEKS : weeks);
	rates->demands = 0;
	if (rates->weeks >= RATE_WEEKS_MIN)
		worth = count_cells(past, at, rates, counts, of_weeks);
	if (rates->demands == 0)
	{
		rates->weeks = 0;
		return;
	}
	estimate_cells(counts, worth / RATE_CELLS_OF_HOUR, rates->cells);
	demand_rates_sum(rates);
	estimate_level(past, at, of_weeks, rates);
	rates->bursts = estimate_bursts(past, at, lead, rates);
}

/* Return how many demands the rates expect from the beginning of the week. */
double
demand_expected_into(const DemandRates *rates, int64_t into)
{
	int cell = (int) (into / RATE_CELL);

	return rates->sums[cell] + rates->cells[cell] * ((double) (into % RATE_CELL) / DEMAND_HOUR);
}

/*
 * Return how many demands the rates expect between two times of the week: what they expect up to each
 * is given. The second one comes within a week after the first.
 */
double
demand_expected_between(const DemandRates *rates, double before_first, double before_second)
{
	double expected = before_second - before_first;

	return expected < 0 ? expected + rates->sums[RATE_CELLS] : expected;
}

/* Return how many demands the rates expect in a span, which is shorter than a week. */
double
demand_expected(const DemandRates *rates, const DemandHistory *past, int64_t from, int64_t to)
{
	return demand_expected_between(rates,
								   demand_expected_into(rates, demand_time_of_week(past, from)),
								   demand_expected_into(rates, demand_time_of_week(past, to)));
}
