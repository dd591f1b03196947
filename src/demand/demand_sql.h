/*
 * demand_sql.h
 *	  Demands and lead times in SQL: fragments of statements. "c" is a build that may make its
 *	  workspace a demand, "w" that workspace, "f" its first build.
 *
 *	  Sub-selects with OFFSET 0 reach rows by index probes, whatever the statistics say.
 */
#ifndef PREBUILD_DEMAND_SQL_H
#define PREBUILD_DEMAND_SQL_H

#include "base/id.h"

#define IS_BY_SYSTEM(build) "(" build ".initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid)"

/* A first build of a preset: a demand by itself, or a prebuild that may be one. */
#define IS_FIRST "(c.build_number {=} 1 AND c.template_version_preset_id IS NOT NULL)"

/* A later build by a person, as of a prebuild that the person got. */
#define IS_LATER "(c.build_number {>} 1 AND NOT " IS_BY_SYSTEM("c") ")"

/* What the first build "build" of a workspace says. */
#define FIRST_COLUMNS(build)                                                                       \
	build ".workspace_id, " build ".template_version_preset_id, " build ".created_at, " build      \
		  ".transition, " build ".job_id, " IS_BY_SYSTEM(build) " AS by_system"

/* The first build of the workspace of "c", as "fb", if the condition holds. */
#define FIRST_BUILD(condition)                                                                     \
	"LATERAL (SELECT " FIRST_COLUMNS(                                                              \
		"b") " FROM {cp}workspace_builds b"                                                        \
			 " WHERE b.workspace_id {=} c.workspace_id AND b.build_number {=} 1" condition         \
			 " OFFSET 0) fb"

/* The first builds of the workspaces of "c" (workspace_id), each of which comes once. */
#define FIRST_BUILDS_OF(candidates)                                                                \
	"SELECT fb.* FROM (" candidates ") c CROSS JOIN " FIRST_BUILD("")

/*
 * The first builds "f" (FIRST_COLUMNS) that count: of a person's workspace one that starts it, or of
 * a prebuild. "w" is the workspace of a prebuild, and asked_at when the build of somebody else was
 * created, once it is not the system user's any more: then the prebuild is a demand. A person's
 * workspace is not looked up, as its build says everything.
 */
#define COUNTED_BUILDS(first_builds)                                                               \
	" FROM (" first_builds ") f LEFT JOIN LATERAL (SELECT ww.deleted, (SELECT ob.created_at"       \
	"   FROM {cp}workspace_builds ob WHERE ww.owner_id {<>} '" SYSTEM_USER "'::pg_catalog.uuid"    \
	"   AND ob.workspace_id {=} ww.id AND NOT " IS_BY_SYSTEM(                                      \
		"ob") "   ORDER BY ob.build_number LIMIT 1) AS asked_at FROM {cp}workspaces ww"            \
			  "  WHERE f.by_system AND ww.id {=} f.workspace_id OFFSET 0) w ON true"
#define IS_COUNTED "(f.by_system OR f.transition {=} 'start')"
#define ASKED_AT                                                                                   \
	"CASE WHEN f.by_system THEN w.asked_at ELSE f.created_at END::pg_catalog.timestamptz"

/* The name of a preset, and the template whose version has it. */
#define PRESET_OF(preset_id)                                                                       \
	"LATERAL (SELECT pp.name, pp.template_version_id FROM {cp}template_version_presets pp"         \
	"  WHERE pp.id {=} " preset_id " OFFSET 0) p,"                                                 \
	" LATERAL (SELECT pv.template_id FROM {cp}template_versions pv"                                \
	"  WHERE pv.id {=} p.template_version_id AND pv.template_id IS NOT NULL OFFSET 0) v"

#endif /* PREBUILD_DEMAND_SQL_H */
