/*
 * control_plane.h
 *	  The control plane's tables: what exists, and what the loop needs to know from them.
 */
#ifndef PREBUILD_CONTROL_PLANE_H
#define PREBUILD_CONTROL_PLANE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "utils/uuid.h"

#include "decision.h"

/* The system user that owns prebuilt workspaces. */
#define SYSTEM_USER "c42fdf75-3097-471c-8c33-fb52454d81c0"

/* What a person wants to know of a preset, beside what the decision needs. */
typedef struct PresetInfo
{
	char *name;
	char *template_name;
	char *organization_name;
	char *stored_status;
	char *cron_expression; /* the schedule that decided the desired instances, or NULL */
} PresetInfo;

/* One consistent snapshot of presets (ordered by id) and pool members (ordered by id). */
typedef struct ControlPlaneSnapshot
{
	PoolSnapshot pool;
	PresetInfo *info; /* parallel to pool.presets */
} ControlPlaneSnapshot;

extern void control_plane_running(const Datum *preset_id, ReturnSetInfo *set);
extern void control_plane_pool(ReturnSetInfo *set);
extern int control_plane_find_preset(const PoolSnapshot *pool, const Id *id);
extern ControlPlaneSnapshot *control_plane_snapshot(TimestampTz at);

#endif /* PREBUILD_CONTROL_PLANE_H */
