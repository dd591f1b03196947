/*
 * choice.h
 *	  Backtest of the policies over a range of the past, and the choice among them. Pure: no server,
 *	  no clock, no allocation.
 */
#ifndef PREBUILD_CHOICE_H
#define PREBUILD_CHOICE_H

#include "demand/policies.h"
#include "demand/simulator.h"

/* Least demands, and least span of history, for a choice. */
#define CHOICE_DEMANDS_MIN 20
#define CHOICE_SPAN_MIN (14 * DEMAND_DAY)
/* Idle time that serving one more demand may cost, at most, whatever the service level. */
#define CHOICE_WORTH (500 * DEMAND_HOUR)
/* Policies that one choice compares, at most. */
#define CHOICE_CANDIDATES 16

/* Weeks of 90 days, and the ones that begin before. */
#define CHOICE_PATTERNS 16

typedef enum ChoiceNote
{
	CHOICE_MADE,		/* another policy is better than the configuration */
	CHOICE_KEPT,		/* nothing is better by more than 5 % than what is configured */
	CHOICE_BEST_EFFORT, /* nothing reached the level: the one that came nearest */
	CHOICE_TOO_FEW,		/* fewer than 20 demands: no advice, the configuration stays */
	CHOICE_TOO_SHORT,	/* fewer than 14 days of history: likewise */
} ChoiceNote;

typedef struct ChoiceSettings
{
	int64_t from; /* the range; also what the history before it tells is used */
	int64_t to;
	int64_t split;		  /* where the later part begins, at most to; 0: after two thirds */
	double service_level; /* above 0 and below 1 */
	PolicySettings policy;
	bool prompt; /* these as in SimulatorSettings */
	int64_t expire_after;
	int max_creates;
	int max_building;
	void (*pause)(void); /* called between questions to a policy, if not NULL; need not return */
	SimulatorSeries *series; /* as in SimulatorSettings: each simulation writes it */
} ChoiceSettings;

typedef struct ChoiceCandidate
{
	Policy policy;
	bool reached;			  /* the level, in the earlier part */
	bool too_dear;			  /* it reached the level, but at more than CHOICE_WORTH */
	SimulatorFigures earlier; /* what the choice saw */
	SimulatorFigures later;	  /* what it did not see */
} ChoiceCandidate;

/* A weekly schedule with what it gives in the later part. */
typedef struct ChoiceSchedule
{
	bool reached;
	WeekSchedule week;
	SimulatorFigures later;
} ChoiceSchedule;

typedef struct ChoiceResult
{
	ChoiceNote note;
	int64_t from;  /* the earlier part begins */
	int64_t split; /* the later part begins */
	int ncandidates;
	int chosen; /* index of the candidates; 0 is what is configured */
	ChoiceCandidate candidates[CHOICE_CANDIDATES];
	ChoiceSchedule advice; /* fitted before the split, for pasting into a template */
	ChoiceSchedule bound;  /* the cheapest in hindsight of the later part */
} ChoiceResult;

/* Room to work in, which the caller allocates. */
typedef struct ChoiceRoom
{
	PolicyMemo memo;	/* with room for CHOICE_PATTERNS or more, to be quick */
	SimulatorRoom pool; /* its size is at least max_instances, and what is configured */
} ChoiceRoom;

extern void choice_make(const DemandHistory *history, const ChoiceSettings *settings,
						ChoiceRoom *room, ChoiceResult *result);
extern void choice_simulate(const DemandHistory *history, const ChoiceSettings *settings,
							int64_t from, int64_t split, const Policy *policy, ChoiceRoom *room,
							SimulatorResult *result);
extern void choice_bound(const DemandHistory *history, const ChoiceSettings *settings, int64_t from,
						 ChoiceRoom *room, ChoiceSchedule *bound);
extern double simulator_hit_rate(const SimulatorFigures *figures);

#endif /* PREBUILD_CHOICE_H */
