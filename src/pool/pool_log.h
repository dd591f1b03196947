/*
 * pool_log.h
 *	  The columns that the triggers of the pool's log watch: all that pool_sql.h reads, in the order
 *	  of each table's trigger. The id to log comes first; in "workspaces" the owner follows.
 *
 *	  pool_sql.h does not read "name" of workspace_agents: coderd has a BEFORE trigger on updates of
 *	  it, which might change other columns, and ours has to fire whenever such a trigger does (see
 *	  IS_UNSEEN in pool_trust.c). Where a BEFORE trigger fires on other columns, prebuild_attach()
 *	  puts ours on every update and passes the columns as arguments.
 */
#ifndef PREBUILD_POOL_LOG_H
#define PREBUILD_POOL_LOG_H

#define POOL_LOG_TRIGGER "prebuild_pool_log"
#define POOL_TRUNCATE_TRIGGER "prebuild_pool_truncated"

/* Log only rows that are or were in the pool. */
#define POOL_LOG_WORKSPACES "id, owner_id, deleted, name, template_id, created_at"
#define POOL_LOG_BUILDS                                                                            \
	"workspace_id, id, build_number, transition, template_version_id, template_version_preset_id," \
	" job_id, initiator_id, created_at"
#define POOL_LOG_JOBS "id, job_status, worker_id, started_at, canceled_at, completed_at"
#define POOL_LOG_RESOURCES "job_id, id"
#define POOL_LOG_AGENTS "resource_id, lifecycle_state, deleted, parent_id, name"

#endif /* PREBUILD_POOL_LOG_H */
