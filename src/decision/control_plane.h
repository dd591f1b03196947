/*
 * control_plane.h
 *	  The control plane's tables: what the loop needs to know from them.
 */
#ifndef PREBUILD_CONTROL_PLANE_H
#define PREBUILD_CONTROL_PLANE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "decision/decision.h"

/* What a person wants to know of a preset, besides what the decision needs. */
typedef struct PresetInfo
{
	char *name;
	char *template_name;
	char *organization_name;
	char *stored_status;
	char *cron_expression; /* the schedule that decided the desired instances, or NULL */
	bool organization_deleted;
	bool can_want; /* at some time, by its desired instances or by a schedule */
} PresetInfo;

/*
 * True for a preset "p" that wants prebuilds at some time, by its own number or by a schedule. A
 * schedule counts only if the preset has a number. Scans the schedules once for all presets,
 * because their table has no index on the preset.
 */
#define PRESET_CAN_WANT                                                                            \
	"(p.desired_instances IS NOT NULL AND (p.desired_instances {>} 0 OR p.id {=} ANY ("            \
	"  SELECT s.preset_id FROM {cp}template_version_preset_prebuild_schedules s"                   \
	"  WHERE s.desired_instances {>} 0)))"

/* One consistent snapshot of presets (ordered by id) and pool members (ordered by id). */
typedef struct ControlPlaneSnapshot
{
	PoolSnapshot pool;
	PresetInfo *info; /* parallel to pool.presets */
	int nstages;
	struct Stage *stages; /* ordered by template */
} ControlPlaneSnapshot;

extern int control_plane_find_preset(const PoolSnapshot *pool, const Id *id);
extern ControlPlaneSnapshot *control_plane_snapshot(TimestampTz at);
extern void control_plane_find_sick(PoolSnapshot *pool);

#endif /* PREBUILD_CONTROL_PLANE_H */
