/*
 * simulator.h
 *	  Play demands and lead times against the targets of a policy, event by event. Pure: no server,
 *	  no clock, no allocation.
 */
#ifndef PREBUILD_SIMULATOR_H
#define PREBUILD_SIMULATOR_H

#include "demand/demand_history.h"

/*
 * Ask for the target at a time. past is the history as it is known then. Sets *until to when the
 * answer may change if nobody asks for a workspace before: later than at.
 */
typedef int (*SimulatorTarget)(void *policy, const DemandHistory *past, int64_t at, int64_t *until);

/*
 * What happened in a part of the time. starts is the caller's, all else the simulator's. target and
 * peak are the highest: the target of those that held for some time.
 */
typedef struct SimulatorBucket
{
	int64_t starts;
	int demands;
	int warm;
	int created;
	int deleted;
	int target;
	int peak;
	int64_t idle;
} SimulatorBucket;

/* Parts of the time, each up to the next: ascending, the first one from settings->from on. */
typedef struct SimulatorSeries
{
	int n; /* at least 1 */
	SimulatorBucket *buckets;
} SimulatorSeries;

typedef struct SimulatorSettings
{
	int64_t from;
	int64_t split; /* figures are kept apart before and from here on; at most to */
	int64_t to;
	int64_t pass_interval; /* passes come at its multiples, when there is something to do */
	bool prompt;		   /* and within a second of a claim and of a build's end */
	int64_t expire_after;  /* age at which a prebuild expires; 0: never */
	int max_creates;	   /* caps of a pass and of builds in progress; 0: none */
	int max_building;
	int64_t default_lead;	 /* while no build has been measured */
	int give_up_at;			 /* cold demands in the part that from is in; 0: never give up */
	SimulatorSeries *series; /* what to record by time, or NULL */
} SimulatorSettings;

typedef struct SimulatorBuild
{
	int64_t ends;
	int64_t created;
	bool fails;
} SimulatorBuild;

/* Room for the prebuilds of the pool, each array as long as the highest target. The caller's. */
typedef struct SimulatorRoom
{
	int size;
	int64_t *ready;			/* when each ready one was created, ascending */
	SimulatorBuild *builds; /* builds in progress, by their end */
} SimulatorRoom;

typedef struct SimulatorFigures
{
	int demands;
	int warm;
	int created;
	int failed;
	int deleted; /* expired ones too */
	int expired;
	int peak;		  /* most prebuilds at a time, those in progress too */
	int64_t idle;	  /* sum of the time that ready prebuilds waited */
	int64_t building; /* sum of the time that builds took */
} SimulatorFigures;

typedef struct SimulatorResult
{
	SimulatorFigures before; /* the split */
	SimulatorFigures after;
} SimulatorResult;

extern bool simulate(const DemandHistory *history, const SimulatorSettings *settings,
					 SimulatorTarget target, void *policy, const SimulatorRoom *room,
					 SimulatorResult *result);

#endif /* PREBUILD_SIMULATOR_H */
