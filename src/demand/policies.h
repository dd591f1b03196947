/*
 * policies.h
 *	  How many prebuilds there should be: a function of the past alone. Pure: no server, no clock,
 *	  no allocation.
 */
#ifndef PREBUILD_POLICIES_H
#define PREBUILD_POLICIES_H

#include "demand/demand_history.h"
#include "demand/demand_rates.h"
#include "demand/week_schedule.h"

/* With fewer demands to learn from, a policy keeps what is configured. */
#define POLICY_DEMANDS_MIN 20
/* After so long without demand nobody is expected any more. */
#define POLICY_SILENCE (6 * DEMAND_DAY)

/* The kinds, the simplest first. */
typedef enum PolicyKind
{
	POLICY_CONFIGURED, /* what the preset and its schedules say */
	POLICY_FIXED,	   /* one level */
	POLICY_WEEK,	   /* a weekly schedule that is given */
	POLICY_SCHEDULE,   /* a weekly schedule of few pieces, fitted anew every week */
	POLICY_FORECAST	   /* a base-stock level for the rate that is expected */
} PolicyKind;

typedef struct Policy
{
	PolicyKind kind;
	int level;				  /* FIXED */
	const WeekSchedule *week; /* WEEK */
	double aim;				  /* SCHEDULE: share of the past demands that a fit serves */
	double price;			  /* FORECAST: demands served warm that an idle hour must bring */
} Policy;

typedef struct PolicySettings
{
	int min_instances;
	int max_instances;
	int64_t scale_in_delay; /* how long FORECAST keeps a level that the hour needs no more */
	int64_t pass_interval;	/* how long an order may wait for a pass */
	int64_t default_lead;	/* while too few builds have been measured */
} PolicySettings;

/* Where a target comes from. */
typedef enum PolicyReason
{
	POLICY_SAYS,	   /* the policy */
	POLICY_TOO_LITTLE, /* the configuration: too little history or demand */
	POLICY_SILENT	   /* the least: nobody has asked for days */
} PolicyReason;

typedef struct PolicyAnswer
{
	int target;
	/* the answer holds so long if nobody asks for a workspace before; FORECAST's policy_until() tells */
	int64_t until;
	PolicyReason reason;
	double rate;   /* FORECAST: demands an hour that the target is for */
	double factor; /* FORECAST: that rate over what the weeks before alone would say */
	int64_t lead;  /* FORECAST: mean lead time */
} PolicyAnswer;

/* What FORECAST has learnt of the weeks before a Monday. It does not depend on the policy's price. */
typedef struct PolicyPattern
{
	bool valid;
	int64_t learnt_at;
	DemandLead lead;
	DemandRates rates;
} PolicyPattern;

/* What FORECAST has found of late, at the last question. */
typedef struct PolicyRecent
{
	int64_t day_into;	  /* the times of the week at which the last day begins, */
	int64_t minutes_into; /* at which the last minutes do, */
	int64_t now_into;	  /* and of the question */
	int64_t same_until;	  /* these three go on alike so long: weeks end, clocks change */
	double day;			  /* demands of the last day */
	double minutes;		  /* and of the last minutes */
	double day_expected;
	double minutes_expected; /* both by the rates, before the level of the last weeks */
	double ahead;			 /* the highest rate ahead */
} PolicyRecent;

/* Levels that stock_level() has given: it never gives less for a higher rate. */
#define POLICY_LEVELS_KEPT 32
typedef struct PolicyLevels
{
	int64_t learnt_at;
	double price;
	int last;						  /* the level of the last question */
	double least[POLICY_LEVELS_KEPT]; /* rates that gave a level; least > most: none yet */
	double most[POLICY_LEVELS_KEPT];
} PolicyLevels;

/*
 * What is kept from one question to the next to save time: answers do not depend on it. The caller
 * gives room for one pattern or more, as many as weeks come again. policy_memo_init() makes it
 * ready, for one preset and one PolicySettings; policy_memo_next() for the next policy of these.
 */
typedef struct PolicyMemo
{
	PolicyPattern *patterns;
	int npatterns;
	PolicyLevels levels;
	bool schedule_valid; /* SCHEDULE's */
	int64_t schedule_at;
	WeekSchedule schedule;
	WeekNeeds needs;
	/* where the last question looked: in the demands, and in the week of now and of a day before */
	int first_of_day;
	int first_of_minutes;
	DemandWeek week;
	DemandWeek day_before;
	PolicyRecent recent;
} PolicyMemo;

extern bool policy_is_silent(const DemandHistory *past, int64_t at);
extern int64_t policy_learns_at(int64_t at);
extern const PolicyPattern *policy_learn_pattern(const PolicySettings *settings,
												 const DemandHistory *past, int64_t at,
												 PolicyMemo *memo);
extern void policy_learn_schedule(const Policy *policy, const PolicySettings *settings,
								  const DemandHistory *past, int64_t at, PolicyMemo *memo);
extern void policy_memo_init(PolicyMemo *memo, PolicyPattern *patterns, int npatterns);
extern void policy_memo_next(PolicyMemo *memo);
extern void policy_target(const Policy *policy, const PolicySettings *settings,
						  const DemandHistory *past, int64_t at, PolicyMemo *memo,
						  PolicyAnswer *answer);
extern int64_t policy_until(const Policy *policy, const PolicySettings *settings,
							const DemandHistory *past, int64_t at, PolicyMemo *memo,
							const PolicyAnswer *answer);

#endif /* PREBUILD_POLICIES_H */
