/*
 * handmade.h
 *	  The best schedule that a person could have written, in hindsight.
 */
#ifndef PREBUILD_HANDMADE_H
#define PREBUILD_HANDMADE_H

#include "demand/simulator.h"
#include "demand/week_schedule.h"

/*
 * Of all schedules with one block of hours on weekdays, a level in it and one around it, and a level
 * for the weekend (or a block there too), find the one that waits least and serves the share of the
 * demands between split and to. Returns false if none serves so many.
 */
extern bool handmade_best(const DemandHistory *history, const SimulatorSettings *settings,
						  const SimulatorRoom *room, double share, bool weekend_block,
						  WeekSchedule *schedule, SimulatorFigures *figures);

extern int week_target(void *schedule, const DemandHistory *past, int64_t at, int64_t *until);

#endif
