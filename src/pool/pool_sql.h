/*
 * pool_sql.h
 *	  The pool in SQL. These fragments of statements define once what a latest build, a running
 *	  prebuild, its preset and its readiness are. "w" is a row of workspaces, "b" its latest build
 *	  with the job.
 *
 *	  A statement starts from the pool (the index on workspaces.owner_id) and reaches everything
 *	  else from there by index probes, in sub-selects that the planner cannot turn into joins. So
 *	  its cost follows the size of the pool, whatever the statistics say.
 */
#ifndef PREBUILD_POOL_SQL_H
#define PREBUILD_POOL_SQL_H

#include "base/id.h"

/* The condition of a pool member. */
#define IS_IN_POOL "(w.owner_id {=} '" SYSTEM_USER "'::pg_catalog.uuid AND NOT w.deleted)"

/* The latest build of "w" with its job, as "b". */
#define LATEST_BUILD                                                                               \
	" LATERAL ("                                                                                   \
	"   SELECT wb.id, wb.template_version_id, wb.template_version_preset_id, wb.job_id,"           \
	"     wb.build_number, wb.transition, wb.initiator_id, wb.created_at, j.job_status,"           \
	"     j.worker_id, j.started_at, j.canceled_at, j.completed_at"                                \
	"   FROM {cp}workspace_builds wb JOIN {cp}provisioner_jobs j ON j.id {=} wb.job_id"            \
	"   WHERE wb.workspace_id {=} w.id ORDER BY wb.build_number DESC LIMIT 1) b"

/*
 * The whole pool. A LEFT join keeps members without a build; no code of this extension leaves such
 * members behind.
 */
#define POOL_JOIN_LATEST_BUILD(join)                                                               \
	" FROM {cp}workspaces w " join " JOIN" LATEST_BUILD " ON true WHERE " IS_IN_POOL
#define POOL_WITH_LATEST_BUILD POOL_JOIN_LATEST_BUILD("INNER")

/* True for a member that runs: its latest build is a start that succeeded. */
#define IS_RUNNING "(b.transition {=} 'start' AND b.job_status {=} 'succeeded')"

/*
 * The preset of the highest-numbered start build that has one. If the latest build is a start and
 * has one, no further look is needed.
 */
#define CURRENT_PRESET                                                                             \
	"(CASE WHEN b.transition {=} 'start' AND b.template_version_preset_id IS NOT NULL"             \
	"  THEN b.template_version_preset_id ELSE ("                                                   \
	"   SELECT pb.template_version_preset_id FROM {cp}workspace_builds pb"                         \
	"   WHERE pb.workspace_id {=} w.id AND pb.transition {=} 'start'"                              \
	"     AND pb.template_version_preset_id IS NOT NULL"                                           \
	"   ORDER BY pb.build_number DESC LIMIT 1) END)::pg_catalog.uuid"

/*
 * Whether a condition holds for all (bool_and) or for any (bool_or) of the agents of the latest
 * build's job that count for a member; false if there are none. OFFSET 0 makes the planner join
 * agents to resources by index probes. Without statistics it would otherwise read all agents for
 * each member.
 */
#define OF_AGENTS(aggregate, condition)                                                            \
	"COALESCE((SELECT pg_catalog." aggregate "(a.holds) FROM {cp}workspace_resources r, LATERAL (" \
	"   SELECT " condition " AS holds FROM {cp}workspace_agents wa"                                \
	"   WHERE wa.resource_id {=} r.id AND NOT wa.deleted AND wa.parent_id IS NULL OFFSET 0) a"     \
	"  WHERE r.job_id {=} b.job_id), false)"

/* True when the latest build's job has agents and all of them are ready. */
#define IS_READY OF_AGENTS("bool_and", "wa.lifecycle_state {=} 'ready'")

/*
 * True when an agent failed to start, is shutting down or is off, so that the member does not get
 * ready.
 */
#define IS_SICK                                                                                    \
	OF_AGENTS("bool_or",                                                                           \
			  "wa.lifecycle_state::pg_catalog.text {=} ANY ('{start_error,start_timeout,"          \
			  "shutting_down,shutdown_timeout,shutdown_error,off}'::pg_catalog.text[])")

/* True when nobody has taken the latest build's job. */
#define IS_UNCLAIMED                                                                               \
	"(b.worker_id IS NULL AND b.started_at IS NULL AND b.canceled_at IS NULL"                      \
	" AND b.completed_at IS NULL)"

/* All that is known of a member, as a prebuild_pool_member. $1 is the oid of its schema. */
#define MEMBER                                                                                     \
	"ROW($1, w.id::pg_catalog.uuid, w.name::pg_catalog.text, w.template_id::pg_catalog.uuid,"      \
	" w.created_at::pg_catalog.timestamptz, b.id::pg_catalog.uuid,"                                \
	" b.template_version_id::pg_catalog.uuid, b.build_number::pg_catalog.int4,"                    \
	" b.transition::pg_catalog.text, b.job_status::pg_catalog.text,"                               \
	" b.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid, " IS_UNCLAIMED ","                    \
	" b.job_id::pg_catalog.uuid, b.created_at::pg_catalog.timestamptz,"                            \
	" b.template_version_preset_id::pg_catalog.uuid, " CURRENT_PRESET ", " IS_READY                \
	")::{ext}prebuild_pool_member"

#endif /* PREBUILD_POOL_SQL_H */
