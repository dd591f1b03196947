/*
 * oracle.h
 *	  Policies that know what no policy can know: the rates that the demand is drawn from, or what the
 *	  weeks to come say of them.
 */
#ifndef PREBUILD_ORACLE_H
#define PREBUILD_ORACLE_H

#include "demand/simulator.h"

/* Rates of demand: demands an hour, in each minute from a time on. */
typedef struct OracleRates
{
	int64_t from;
	int minutes;
	const double *rates;
} OracleRates;

/*
 * Of base-stock levels for some rates find those that wait least from settings->from to to and serve
 * the share of the demands there: one price for all of the time, the best in hindsight. The rates
 * reach from settings->from, or before, up to settings->to. Returns false if no price serves
 * so many.
 */
extern bool oracle_best(const DemandHistory *history, const SimulatorSettings *settings,
						const SimulatorRoom *room, double share, const OracleRates *known,
						SimulatorFigures *figures);

/*
 * Estimate the rates of each week of settings->from to to from the 16 weeks that are nearest to it,
 * before and after, as POLICY_FORECAST does from those before. The week itself has no say. rates has
 * room for all minutes.
 */
extern void oracle_from_both_sides(const DemandHistory *history, const SimulatorSettings *settings,
								   double *rates);

#endif
