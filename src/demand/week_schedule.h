/*
 * week_schedule.h
 *	  Levels for each hour of the week, and the cheapest ones for a demand. Pure: no server, no clock,
 *	  no allocation.
 */
#ifndef PREBUILD_WEEK_SCHEDULE_H
#define PREBUILD_WEEK_SCHEDULE_H

#include "demand/demand_history.h"

#define WEEK_HOURS 168
/* Highest level that a fit thinks of. */
#define WEEK_LEVELS 100
/* Pieces of a weekday and of a day of the weekend, at most, each of one level. */
#define WEEK_PIECES 4
/* Room for the pieces of both. */
#define WEEK_PIECES_ALL (2 * WEEK_PIECES)

typedef struct WeekSchedule
{
	int16_t levels[WEEK_HOURS]; /* from Monday at midnight, local time */
} WeekSchedule;

/* Hours of weekdays, or of days of the weekend, that have one level. */
typedef struct WeekPiece
{
	bool weekend;
	int first; /* hour of the day */
	int end;
	int level;
} WeekPiece;

/* How free a fit is. */
typedef enum WeekShape
{
	WEEK_FREE,	/* each hour of the week has a level: more than anybody could have known */
	WEEK_PIECED /* weekdays are alike, days of the weekend are; each in few pieces */
} WeekShape;

/* Demands of the past by what they needed: the fit's view of them. */
typedef struct WeekNeeds
{
	double weeks; /* how long the time was */
	double lead;  /* hours */
	int top;	  /* highest level that a demand needed */
	int demands;
	int needed[WEEK_HOURS][WEEK_LEVELS + 1]; /* demands that a level, and no lower one, serves */
} WeekNeeds;

extern void week_needs(const DemandHistory *history, int64_t from, int64_t to, int64_t lead,
					   WeekNeeds *needs);
extern double week_schedule_fit(const WeekNeeds *needs, WeekShape shape, double service_level,
								WeekSchedule *schedule);
extern int week_schedule_level(const WeekSchedule *schedule, const DemandHistory *history,
							   int64_t at, int64_t *until);
extern int week_schedule_pieces(const WeekSchedule *schedule, WeekPiece *pieces);

#endif /* PREBUILD_WEEK_SCHEDULE_H */
