/*
 * member_columns.h
 *	  What the pool knows of a member: the one list of its columns, and the columns of the control
 *	  plane from which they come. Pure: no server.
 *
 *	  To add a column, add a line to MEMBER_COLUMNS. If the line is KEPT, add the column to the type
 *	  prebuild_pool_member too, in the same place. If one of both is missing, no reader uses the
 *	  kept pool, and the test pool_state fails. If the column needs another column of the control
 *	  plane, add that to its list below: statements on the pool reach the tables only through these
 *	  lists (pool_sql.h), so a column that the triggers do not watch is an error in every statement.
 */
#ifndef PREBUILD_MEMBER_COLUMNS_H
#define PREBUILD_MEMBER_COLUMNS_H

#include "base/id.h"

/*
 * What statements on the pool read of each table, as FIRST(column) NEXT(column) ... The log's
 * triggers watch these columns in this order. The id to log comes first; in WORKSPACE_COLUMNS the
 * owner follows.
 */
#define WORKSPACE_COLUMNS(FIRST, NEXT)                                                             \
	FIRST(id)                                                                                      \
	NEXT(owner_id)                                                                                 \
	NEXT(deleted)                                                                                  \
	NEXT(name)                                                                                     \
	NEXT(template_id)                                                                              \
	NEXT(created_at)
#define BUILD_COLUMNS(FIRST, NEXT)                                                                 \
	FIRST(workspace_id)                                                                            \
	NEXT(id)                                                                                       \
	NEXT(build_number)                                                                             \
	NEXT(transition)                                                                               \
	NEXT(template_version_id)                                                                      \
	NEXT(template_version_preset_id)                                                               \
	NEXT(job_id)                                                                                   \
	NEXT(initiator_id)                                                                             \
	NEXT(created_at)
#define JOB_COLUMNS(FIRST, NEXT)                                                                   \
	FIRST(id)                                                                                      \
	NEXT(job_status)                                                                               \
	NEXT(worker_id)                                                                                \
	NEXT(started_at)                                                                               \
	NEXT(canceled_at)                                                                              \
	NEXT(completed_at)
#define RESOURCE_COLUMNS(FIRST, NEXT) FIRST(job_id) NEXT(id)
#define AGENT_COLUMNS(FIRST, NEXT)                                                                 \
	AGENT_OTHERS(FIRST, NEXT)                                                                      \
	AGENT_TIMES(NEXT)
#define AGENT_OTHERS(FIRST, NEXT)                                                                  \
	FIRST(resource_id)                                                                             \
	NEXT(lifecycle_state)                                                                          \
	NEXT(deleted)                                                                                  \
	NEXT(parent_id)

/*
 * When an agent was connected: see AGENT_SEEN_AT in pool_sql.h. An agent moves these with every
 * heartbeat, so the trigger logs a row only if the agent has been seen less lately than before.
 */
#define AGENT_TIMES(NEXT)                                                                          \
	NEXT(first_connected_at)                                                                       \
	NEXT(last_connected_at)                                                                        \
	NEXT(disconnected_at)
#define NUMBER_OF_AGENT_TIMES 3

/* The columns of such a list as a text for SQL. */
#define FIRST_NAME(column) #column
#define NEXT_NAME(column) ", " #column
#define COLUMN_NAMES(COLUMNS) COLUMNS(FIRST_NAME, NEXT_NAME)

/*
 * The tables from which the pool is computed, as FIRST(table, kind, columns) NEXT(table, kind,
 * columns) ... kind: the argument of the table's log trigger, see prebuild_pool_touched(). columns:
 * those that the trigger watches.
 *
 * No statement reads "name" of workspace_agents. But coderd has a BEFORE trigger on updates of it,
 * which might change other columns, and ours has to fire whenever such a trigger does (see
 * IS_UNSEEN in pool_trust.c). Where a BEFORE trigger fires on other columns, prebuild_attach() puts
 * ours on every update and passes the columns as arguments.
 */
#define POOL_TABLES(FIRST, NEXT)                                                                   \
	FIRST("workspaces", "pool", COLUMN_NAMES(WORKSPACE_COLUMNS))                                   \
	NEXT("workspace_builds", "workspace", COLUMN_NAMES(BUILD_COLUMNS))                             \
	NEXT("provisioner_jobs", "job", COLUMN_NAMES(JOB_COLUMNS))                                     \
	NEXT("workspace_resources", "job", COLUMN_NAMES(RESOURCE_COLUMNS))                             \
	NEXT("workspace_agents", KIND_OF_AGENT, AGENT_NAMES)
#define AGENT_NAMES COLUMN_NAMES(AGENT_OTHERS) ", name" AGENT_TIMES(NEXT_NAME)

/*
 * The kind of workspace_agents: "resource", with AGENT_TIMES as the last columns. It has the first
 * letter of "resource", which is all that the library of 0.1 looks at.
 */
#define KIND_OF_AGENT "resource_seen"

/*
 * The columns of a member after its key, which is the control plane and the workspace's id:
 *
 *	  KEPT(name, type, value, field)	a column of prebuild_pool_member, in the type's order
 *	  AGENTS(name, type, value, field)	the same, of the agents: a statement on the tables that needs
 *										HEALTH, too, gets all from one look at the agents
 *	  HEALTH(name, type, value, field)	the same, but only health needs it and it costs look-ups:
 *										statements on the tables leave it NULL unless health is on
 *	  BOUND(name, type, value, field)	the same, but the stored value is a lower bound of the value:
 *										changes that raise the value are not logged. NULL is infinity
 *	  COMPUTED(name, type, value)		a column that only statements on the tables have
 *
 * type: of pg_catalog. value: in SQL, of the workspace "w" and its latest build "b", with the terms
 * of pool_sql.h. field: of struct PoolMember, as KIND(name), or NONE if no decision needs it. The
 * kinds are in pool_member.h (how the struct declares them) and pool_members.c (how to read them).
 */
#define MEMBER_COLUMNS(KEPT, AGENTS, HEALTH, BOUND, COMPUTED)                                      \
	KEPT(name, text, "w.name", NONE)                                                               \
	KEPT(template_id, uuid, "w.template_id", ID(template_id))                                      \
	KEPT(created_at, timestamptz, "w.created_at", TIME(created_at))                                \
	/* of the latest build, as are all the following */                                            \
	KEPT(build_id, uuid, "b.id", ID(build_id))                                                     \
	KEPT(template_version_id, uuid, "b.template_version_id", ID(template_version_id))              \
	KEPT(build_number, int4, "b.build_number", NUMBER(build_number))                               \
	KEPT(transition, text, "b.transition", TRANSITION(transition))                                 \
	KEPT(job_status, text, "b.job_status", JOB_STATUS(job_status))                                 \
	/* initiated by the system user */                                                             \
	KEPT(by_system_user, bool, "b.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid",            \
		 FLAG(by_system_user))                                                                     \
	/* nobody has taken, started, canceled or completed its job */                                 \
	KEPT(job_unclaimed, bool, IS_UNCLAIMED, FLAG(job_unclaimed))                                   \
	KEPT(job_id, uuid, "b.job_id", ID(job_id))                                                     \
	KEPT(build_created_at, timestamptz, "b.created_at", TIME(build_created_at))                    \
	/* the preset that the latest build carries */                                                 \
	KEPT(build_preset_id, uuid, "b.template_version_preset_id", PRESET(build_preset))              \
	/* the preset of the newest start build that carries one */                                    \
	KEPT(current_preset_id, uuid, CURRENT_PRESET, PRESET(current_preset))                          \
	/* has agents and all are ready; the field says it of running members only */                  \
	AGENTS(ready, bool, IS_READY, FLAG(ready))                                                     \
	/* of the job; the field is the build's creation if the job does not say */                    \
	KEPT(completed_at, timestamptz, "b.completed_at", END_TIME(completed_at))                      \
	/* its job is over, and no worker ever had it */                                               \
	KEPT(job_never_taken, bool, "b.completed_at IS NOT NULL AND b.worker_id IS NULL",              \
		 FLAG(job_never_taken))                                                                    \
	/* an agent is in a state from which it does not get ready; of running members only */         \
	HEALTH(unwell, bool, IS_SICK, KNOWN_FLAG(unwell))                                              \
	/* the resources whose agents count, by which those are found that are disconnected */         \
	HEALTH(resources, _uuid, RESOURCES_WITH_AGENTS, POINTER(resources))                            \
	/* when the agent was seen last that has been silent the longest, of those ever connected */   \
	BOUND(seen_at, timestamptz, SILENT_SINCE, TIME_OR_NEVER(seen_at))                              \
	COMPUTED(started_at, timestamptz, "b.started_at")

/* The kept columns alone. */
#define KEPT_COLUMNS(KEPT) MEMBER_COLUMNS(KEPT, KEPT, KEPT, KEPT, NOT_KEPT)
#define NOT_KEPT(name, type, value)

#endif /* PREBUILD_MEMBER_COLUMNS_H */
