/*
 * judgement.h
 *	  What a pass at a given time would do: read, judge, check and settle. prebuild_state(),
 *	  prebuild_plan() and prebuild_reconcile() share this one path.
 */
#ifndef PREBUILD_JUDGEMENT_H
#define PREBUILD_JUDGEMENT_H

#include "decision/build_inputs.h"
#include "decision/control_plane.h"
#include "decision/decision.h"
#include "base/events.h"

typedef struct Judgement
{
	ControlPlaneSnapshot *snapshot;
	DecisionSettings settings;
	BuildInputs **inputs; /* parallel to the presets: NULL if nobody checked the build */
	Mark **invalid;		/* parallel: the mark that the extension wrote validation_failed, or NULL */
	Mark **unsupported; /* parallel: the mark that the preset is unsupported, or NULL */
	Mark **failed;		/* parallel: the mark that the preset failed in a pass, or NULL */
} Judgement;

extern Judgement *judgement_make(TimestampTz at);

#endif /* PREBUILD_JUDGEMENT_H */
