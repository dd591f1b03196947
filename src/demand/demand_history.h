/*
 * demand_history.h
 *	  What is known of one preset: when people asked for a workspace of it, how long its builds took,
 *	  what its configuration wanted, and its time zone. Pure: no server, no clock, no allocation.
 *
 * Times and spans are in microseconds; times count from PostgreSQL's epoch, 2000-01-01 00:00 UTC.
 * A policy gets a history that is cut at the time of its question (demand_history_before()), so
 * that it cannot see what comes later.
 */
#ifndef PREBUILD_DEMAND_HISTORY_H
#define PREBUILD_DEMAND_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define DEMAND_SECOND INT64_C(1000000)
#define DEMAND_MINUTE (60 * DEMAND_SECOND)
#define DEMAND_HOUR (60 * DEMAND_MINUTE)
#define DEMAND_DAY (24 * DEMAND_HOUR)
#define DEMAND_WEEK (7 * DEMAND_DAY)
/* 2000-01-03, from the epoch. Weeks begin there. */
#define DEMAND_FIRST_MONDAY (2 * DEMAND_DAY)

/* Builds that lead times are taken from, at most: the newest. */
#define DEMAND_LEAD_SAMPLES 200
/* Fewer than this, and the default lead time holds. */
#define DEMAND_LEAD_SAMPLES_MIN 5
/* Builds older than this tell nothing of the lead time. */
#define DEMAND_LEAD_WINDOW (14 * DEMAND_DAY)

/* A prebuild's start build that has ended. */
typedef struct DemandBuild
{
	int64_t created;
	int64_t took; /* until its agents were ready, or until it failed */
	bool failed;
} DemandBuild;

/* From a time on a value holds, until the next step. */
typedef struct DemandStep
{
	int64_t from;
	int64_t value;
} DemandStep;

typedef struct DemandHistory
{
	int64_t began;			/* the history is complete from here on */
	const int64_t *demands; /* when each demand came, ascending */
	int ndemands;
	const DemandBuild *builds; /* ascending by created */
	int nbuilds;
	const DemandStep *configured; /* instances that the preset and its schedules want; ascending */
	int nconfigured;
	const DemandStep *offsets; /* local time is UTC plus the value; ascending */
	int noffsets;
} DemandHistory;

/* Times from one to before another one that are in one local week, with one offset. */
typedef struct DemandWeek
{
	int64_t from;
	int64_t until;
	int64_t begins; /* a time is so far into its week as it is after this */
} DemandWeek;

/* How long a prebuild takes from its order to its readiness. */
typedef struct DemandLead
{
	int samples;	/* successful builds that the figures come from; 0: the default */
	int64_t mean;	/* of one order, with the builds in it that fail and are tried again */
	int64_t median; /* of successful builds */
	int64_t p90;
	double failure_rate;
} DemandLead;

extern int demand_count_before(const int64_t *times, int count, int64_t at);
extern DemandHistory demand_history_before(const DemandHistory *history, int64_t at);
extern int64_t demand_step_value(const DemandStep *steps, int count, int64_t at, int64_t otherwise);
extern int64_t demand_step_until(const DemandStep *steps, int count, int64_t at);
extern int64_t demand_local_time(const DemandHistory *history, int64_t at);
extern int64_t demand_time_of_week(const DemandHistory *history, int64_t at);
extern int64_t demand_time_of_near_week(const DemandHistory *history, int64_t at, DemandWeek *near);
extern void demand_lead(const DemandHistory *past, int64_t at, int64_t otherwise, DemandLead *lead);

#endif /* PREBUILD_DEMAND_HISTORY_H */
