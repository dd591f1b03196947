/*
 * demand_rates.h
 *	  The rate of demand by the time of the week, from the weeks before. Pure: no server, no clock,
 *	  no allocation.
 */
#ifndef PREBUILD_DEMAND_RATES_H
#define PREBUILD_DEMAND_RATES_H

#include "demand/demand_history.h"

/* The week is cut into pieces of a quarter of an hour. */
#define RATE_CELL (15 * DEMAND_MINUTE)
#define RATE_CELLS_OF_HOUR 4
#define RATE_CELLS_OF_DAY 96
#define RATE_CELLS (7 * RATE_CELLS_OF_DAY)

/* Weeks that the rates come from, at most. */
#define RATE_WEEKS 16
/* With less history there are no rates. */
#define RATE_WEEKS_MIN 2

typedef struct DemandRates
{
	int weeks;					 /* whole weeks that the rates come from; 0: too little history */
	int demands;				 /* in these weeks */
	double bursts;				 /* for stock_level() */
	double level;				 /* of the last weeks, relative to the rates */
	double day_trust;			 /* demands' worth of evidence that a day must bring to differ */
	double cells[RATE_CELLS];	 /* demands an hour, from Monday at midnight, local time */
	double sums[RATE_CELLS + 1]; /* demands from the beginning of the week up to a cell */
} DemandRates;

extern void demand_rates(const DemandHistory *past, int64_t at, int64_t lead, DemandRates *rates);
extern void demand_rates_sum(DemandRates *rates);
extern double demand_expected_into(const DemandRates *rates, int64_t into);
extern double demand_expected_between(const DemandRates *rates, double before_first,
									  double before_second);
extern double demand_expected(const DemandRates *rates, const DemandHistory *past, int64_t from,
							  int64_t to);

#endif /* PREBUILD_DEMAND_RATES_H */
