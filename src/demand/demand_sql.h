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
		  ".transition, " IS_BY_SYSTEM(build) " AS by_system"

/* The first build of the workspace of "c", as "fb", if the condition holds. */
#define FIRST_BUILD(condition)                                                                     \
	"LATERAL (SELECT " FIRST_COLUMNS(                                                              \
		"b") " FROM {cp}workspace_builds b"                                                        \
			 " WHERE b.workspace_id {=} c.workspace_id AND b.build_number {=} 1" condition         \
			 " OFFSET 0) fb"

/*
 * The workspaces whose first builds (FIRST_COLUMNS) count, as rows: workspace, template, preset's name,
 * is a prebuild, time of the demand or NULL, time of the first build. The first build of a demand is a
 * start by a person, or a prebuild's. A prebuild is a demand once it is not the system user's any
 * more and somebody else has built it.
 */
#define DEMANDS_OF_FIRST(first_builds)                                                             \
	"SELECT w.id::pg_catalog.uuid, w.template_id::pg_catalog.uuid, p.name::pg_catalog.text,"       \
	" f.by_system::pg_catalog.bool, CASE WHEN f.by_system THEN o.created_at ELSE f.created_at END" \
	"::pg_catalog.timestamptz, f.created_at::pg_catalog.timestamptz FROM (" first_builds ") f"     \
	" CROSS JOIN LATERAL (SELECT pp.name FROM {cp}template_version_presets pp"                     \
	"   WHERE pp.id {=} f.template_version_preset_id OFFSET 0) p"                                  \
	" CROSS JOIN LATERAL (SELECT ww.id, ww.template_id, ww.owner_id FROM {cp}workspaces ww"        \
	"   WHERE ww.id {=} f.workspace_id OFFSET 0) w"                                                \
	" LEFT JOIN LATERAL (SELECT ob.created_at FROM {cp}workspace_builds ob"                        \
	"   WHERE f.by_system AND w.owner_id {<>} '" SYSTEM_USER "'::pg_catalog.uuid"                  \
	"   AND ob.workspace_id {=} w.id AND NOT " IS_BY_SYSTEM(                                       \
		"ob") "   ORDER BY ob.build_number LIMIT 1) o ON true"                                     \
			  " WHERE (f.by_system OR f.transition {=} 'start')"

/* The same of the workspaces of "c" (workspace_id), each of which comes once. */
#define FIRST_BUILDS_OF(candidates)                                                                \
	"SELECT fb.* FROM (" candidates ") c CROSS JOIN " FIRST_BUILD("")
#define DEMANDS_OF(candidates) DEMANDS_OF_FIRST(FIRST_BUILDS_OF(candidates))

/* The columns of DEMANDS_OF. */
enum
{
	DEMAND_WORKSPACE = 1,
	DEMAND_TEMPLATE,
	DEMAND_PRESET,
	DEMAND_BY_SYSTEM,
	DEMAND_AT,
	DEMAND_BUILT_AT
};

#endif /* PREBUILD_DEMAND_SQL_H */
