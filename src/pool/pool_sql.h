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

#include "pool/member_columns.h"

/* A table of which only these columns can be named. The planner pulls up the sub-select. */
#define FIRST_OF_TABLE(column) "o." #column
#define NEXT_OF_TABLE(column) ", o." #column
#define ONLY_COLUMNS(COLUMNS, table)                                                               \
	"(SELECT " COLUMNS(FIRST_OF_TABLE, NEXT_OF_TABLE) " FROM {cp}" table " o)"

#define WORKSPACES ONLY_COLUMNS(WORKSPACE_COLUMNS, "workspaces")
#define BUILDS ONLY_COLUMNS(BUILD_COLUMNS, "workspace_builds")
#define JOBS ONLY_COLUMNS(JOB_COLUMNS, "provisioner_jobs")
#define RESOURCES ONLY_COLUMNS(RESOURCE_COLUMNS, "workspace_resources")
#define AGENTS ONLY_COLUMNS(AGENT_COLUMNS, "workspace_agents")

/* The condition of a pool member. */
#define IS_IN_POOL "(w.owner_id {=} '" SYSTEM_USER "'::pg_catalog.uuid AND NOT w.deleted)"

/* The latest build of "w" with its job, as "b". Only "wb" has an id in it. */
#define FIRST_OF_JOB(column)
#define NEXT_OF_JOB(column) ", j." #column
#define LATEST_BUILD                                                                               \
	" LATERAL ("                                                                                   \
	"   SELECT wb.*" JOB_COLUMNS(                                                                  \
		FIRST_OF_JOB,                                                                              \
		NEXT_OF_JOB) "   FROM " BUILDS " wb JOIN " JOBS " j ON j.id {=} wb.job_id"                 \
					 "   WHERE wb.workspace_id {=} w.id ORDER BY wb.build_number DESC LIMIT 1) b"

/*
 * The whole pool. The LEFT join keeps members without a build; no code of this extension leaves
 * such members behind. "more": what else a statement joins to each.
 */
#define POOL_AND(more)                                                                             \
	" FROM " WORKSPACES " w LEFT JOIN" LATEST_BUILD " ON true" more " WHERE " IS_IN_POOL
#define POOL POOL_AND("")

/* True for a member that runs: its latest build is a start that succeeded. */
#define IS_RUNNING "(b.transition {=} 'start' AND b.job_status {=} 'succeeded')"

/*
 * The preset of the highest-numbered start build that has one. If the latest build is a start and
 * has one, no further look is needed.
 */
#define CURRENT_PRESET                                                                             \
	"(CASE WHEN b.transition {=} 'start' AND b.template_version_preset_id IS NOT NULL"             \
	"  THEN b.template_version_preset_id ELSE ("                                                   \
	"   SELECT pb.template_version_preset_id FROM " BUILDS " pb"                                   \
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
	"COALESCE((SELECT pg_catalog." aggregate "(a.holds) FROM " RESOURCES " r, LATERAL ("           \
	"   SELECT " condition " AS holds FROM " AGENTS " wa"                                          \
	"   WHERE wa.resource_id {=} r.id AND NOT wa.deleted AND wa.parent_id IS NULL OFFSET 0) a"     \
	"  WHERE r.job_id {=} b.job_id), false)"

/* True when the latest build's job has agents and all of them are ready. */
#define IS_READY OF_AGENTS("bool_and", "wa.lifecycle_state {=} 'ready'")

/* The states in which an agent failed to start, is shutting down or is off: it does not get ready. */
#define SICK_STATES                                                                                \
	"'{start_error,start_timeout,shutting_down,shutdown_timeout,shutdown_error,off}'"              \
	"::pg_catalog.text[]"

/* True when an agent is in such a state, so that the member does not get ready. */
#define IS_SICK                                                                                    \
	OF_AGENTS("bool_or", "wa.lifecycle_state::pg_catalog.text {=} ANY (" SICK_STATES ")")

/*
 * The resources of the latest build's job that have agents that count for a member. Ordered, so that
 * equal members are equal rows.
 */
#define RESOURCES_WITH_AGENTS                                                                      \
	"ARRAY(SELECT r.id FROM " RESOURCES " r WHERE r.job_id {=} b.job_id AND EXISTS ("              \
	"   SELECT FROM " AGENTS " wa"                                                                 \
	"   WHERE wa.resource_id {=} r.id AND NOT wa.deleted AND wa.parent_id IS NULL OFFSET 0)"       \
	"  ORDER BY r.id)"

/*
 * When an agent "wa" was seen last; for agents with HAS_BEEN_CONNECTED. An agent that is connected
 * moves last_connected_at with each heartbeat, which the log's triggers do not log. So a stored time
 * is a lower bound. seen_at() in pool_log.c says the same in C.
 */
#define AGENT_SEEN_AT "GREATEST(wa.first_connected_at, wa.last_connected_at, wa.disconnected_at)"
#define HAS_BEEN_CONNECTED "wa.first_connected_at IS NOT NULL"
#define SEEN_AT_IF_EVER "CASE WHEN " HAS_BEEN_CONNECTED " THEN " AGENT_SEEN_AT " END"

/* When the agent was seen last that has been silent the longest; NULL if none has been connected. */
#define SILENT_SINCE                                                                               \
	"(SELECT pg_catalog.min(a.seen_at) FROM " RESOURCES " r, LATERAL ("                            \
	"   SELECT " SEEN_AT_IF_EVER " AS seen_at FROM " AGENTS " wa"                                  \
	"   WHERE wa.resource_id {=} r.id AND NOT wa.deleted AND wa.parent_id IS NULL OFFSET 0) a"     \
	"  WHERE r.job_id {=} b.job_id)"

/*
 * All that health asks of the agents of a member "m", as "g", by one look at them: the columns AGENTS,
 * HEALTH and BOUND, but for the resources.
 */
#define AGENTS_OF_MEMBER                                                                           \
	" LATERAL (SELECT COALESCE(pg_catalog.bool_and(a.ready), false) AS ready,"                     \
	"   COALESCE(pg_catalog.bool_or(a.sick), false) AS unwell,"                                    \
	"   NULL::pg_catalog._uuid AS resources, pg_catalog.min(a.seen_at) AS seen_at"                 \
	"  FROM " RESOURCES " r, LATERAL (SELECT wa.lifecycle_state {=} 'ready' AS ready,"             \
	"    wa.lifecycle_state::pg_catalog.text {=} ANY (" SICK_STATES ") AS sick,"                   \
	"    " SEEN_AT_IF_EVER " AS seen_at FROM " AGENTS " wa"                                        \
	"    WHERE wa.resource_id {=} r.id AND NOT wa.deleted AND wa.parent_id IS NULL OFFSET 0) a"    \
	"  WHERE r.job_id {=} m.job_id) g"

/*
 * What is kept of the agents of the latest build "b", as "g", by one look at them: IS_READY, IS_SICK,
 * RESOURCES_WITH_AGENTS and SILENT_SINCE.
 */
#define AGENTS_OF_BUILD                                                                            \
	" LATERAL (SELECT COALESCE(pg_catalog.bool_and(a.ready), false) AS ready,"                     \
	"   COALESCE(pg_catalog.bool_or(a.sick), false) AS unwell,"                                    \
	"   COALESCE(pg_catalog.array_agg(r.id::pg_catalog.uuid ORDER BY r.id)"                        \
	"    FILTER (WHERE a.ready IS NOT NULL), '{}') AS resources,"                                  \
	"   pg_catalog.min(a.seen_at) AS seen_at"                                                      \
	"  FROM " RESOURCES " r, LATERAL ("                                                            \
	"   SELECT pg_catalog.bool_and(wa.lifecycle_state {=} 'ready') AS ready,"                      \
	"    pg_catalog.bool_or(wa.lifecycle_state::pg_catalog.text {=} ANY (" SICK_STATES             \
	")) AS sick, pg_catalog.min(" SEEN_AT_IF_EVER ") AS seen_at"                                   \
	"   FROM " AGENTS " wa"                                                                        \
	"   WHERE wa.resource_id {=} r.id AND NOT wa.deleted AND wa.parent_id IS NULL) a"              \
	"  WHERE r.job_id {=} b.job_id) g"

/* True when nobody has taken the latest build's job. */
#define IS_UNCLAIMED                                                                               \
	"(b.worker_id IS NULL AND b.started_at IS NULL AND b.canceled_at IS NULL"                      \
	" AND b.completed_at IS NULL)"

/* The columns of MEMBER_COLUMNS, each behind a comma: their values, and these with names. */
#define VALUE_OF_COLUMN(name, type, value, field) ", (" value ")::pg_catalog." #type
#define NAMED_VALUE(name, type, value) ", (" value ")::pg_catalog." #type " AS " #name
#define NAMED_KEPT_VALUE(name, type, value, field) ", (" value ")::pg_catalog." #type " AS " #name

/*
 * All that is kept of a member, as a prebuild_pool_member, where "g" is AGENTS_OF_BUILD. $1 is the oid
 * of its schema.
 */
#define VALUE_IN_G(name, type, value, field) ", g." #name
#define MEMBER                                                                                     \
	"ROW($1, w.id::pg_catalog.uuid" MEMBER_COLUMNS(VALUE_OF_COLUMN, VALUE_IN_G, VALUE_IN_G,        \
												   VALUE_IN_G,                                     \
												   NOT_KEPT) ")::{ext}prebuild_pool_member"

/*
 * The members, "m", as the tables have them: their ids and all of MEMBER_COLUMNS. Includes members
 * without a build, whose columns from build_id on are NULL. The planner computes only the columns
 * that a statement names. For PLAN_READ.
 */
#define TABLE_MEMBERS                                                                              \
	" (SELECT w.id::pg_catalog.uuid AS id" MEMBER_COLUMNS(NAMED_KEPT_VALUE, NAMED_KEPT_VALUE,      \
														  NAMED_KEPT_VALUE, NAMED_KEPT_VALUE,      \
														  NAMED_VALUE) POOL ") m"

/* True for a member "m" that runs, like IS_RUNNING. */
#define MEMBER_IS_RUNNING "(m.transition {=} 'start' AND m.job_status {=} 'succeeded')"

#endif /* PREBUILD_POOL_SQL_H */
