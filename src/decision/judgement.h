/*
 * judgement.h
 *	  What a pass at a given time would do: read, judged, checked and settled. The one path that
 *	  prebuild_state(), prebuild_plan() and prebuild_reconcile() share.
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
	BuildInputs **inputs; /* parallel to the presets: NULL where building was not looked into */
	Mark **invalid;		/* parallel: the mark that the stored validation_failed is ours, or NULL */
	Mark **unsupported; /* parallel: the mark that the preset is unsupported, or NULL */
	Mark **failed;		/* parallel: the mark that the preset failed in a pass, or NULL */
} Judgement;

extern Judgement *judgement_make(TimestampTz at);

#endif /* PREBUILD_JUDGEMENT_H */
