/*
 * control_plane.h
 *	  The control plane's tables: what the loop needs to know from them.
 */
#ifndef PREBUILD_CONTROL_PLANE_H
#define PREBUILD_CONTROL_PLANE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "base/events.h"
#include "decision/build_inputs.h"
#include "decision/decision.h"
#include "decision/stages.h"
#include "demand/auto_target.h"
#include "demand/sized_preset.h"

/* What is known of a preset besides what the decision needs. */
typedef struct PresetDetails
{
	/* control_plane_snapshot() fills these */
	char *name;
	char *template_name;
	char *organization_name;
	char *timezone; /* of its schedules; "" for none */
	char *stored_status;
	char *cron_expression; /* the schedule that decided the desired instances, or NULL */
	char *schedules_fault; /* a sentence that says why its schedules are ignored, or NULL */
	bool organization_deleted;
	SizingRules sizing;
	bool can_want;	  /* at some time, by its desired instances or by a schedule, or in mode auto */
	bool has_members; /* pool members whose latest build carries it or that belong to it now */

	/* judgement_make() fills these */
	const AutoPreset *sized; /* how many it wants in mode auto; NULL in other modes */
	BuildInputs *inputs;	 /* NULL if nobody checked the build */
	Mark *invalid;			 /* the mark that the extension wrote validation_failed, or NULL */
	Mark *unsupported;		 /* the mark that the preset is unsupported, or NULL */
	Mark *failed;			 /* the mark that the preset failed in a pass, or NULL */
} PresetDetails;

/*
 * True for a preset "p" that wants prebuilds at some time, by its own number or by a schedule. A
 * schedule counts only if the preset has a number. Scans the schedules once for all presets,
 * because their table has no index on the preset.
 */
#define PRESET_CAN_WANT                                                                            \
	"(p.desired_instances IS NOT NULL AND (p.desired_instances {>} 0 OR p.id {=} ANY ("            \
	"  SELECT s.preset_id FROM {cp}template_version_preset_prebuild_schedules s"                   \
	"  WHERE s.desired_instances {>} 0)))"

extern Preset *control_plane_find_preset(const PoolSnapshot *pool, const Id *id);
extern PoolSnapshot *control_plane_snapshot(TimestampTz at, Stages *stages);

#endif /* PREBUILD_CONTROL_PLANE_H */
