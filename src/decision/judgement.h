/*
 * judgement.h
 *	  What a pass at a given time would do: read, judge, check and settle. prebuild_state(),
 *	  prebuild_plan(), prebuild_reconcile() and the metrics share this one path.
 */
#ifndef PREBUILD_JUDGEMENT_H
#define PREBUILD_JUDGEMENT_H

#include "decision/auto_sizing.h"
#include "decision/control_plane.h"
#include "decision/decision.h"
#include "decision/stages.h"

typedef struct Judgement
{
	PoolSnapshot *pool; /* settled; each preset has its details */
	DecisionSettings settings;
	Stages stages;
	AutoSizing sizing;
} Judgement;

extern Judgement *judgement_make(TimestampTz at);
extern void judgement_warn(const Judgement *judgement);

#endif /* PREBUILD_JUDGEMENT_H */
