/*
 * pool_log.h
 *	  What the triggers of the pool's log watch. The columns are all that pool_sql.h reads, those
 *	  of a table in the order of its trigger: first the id that is logged, in "workspaces" then
 *	  the owner.
 *
 *	  "name" of workspace_agents is not read: coderd has a BEFORE trigger on updates of it, which
 *	  might change other columns, and ours has to fire whenever such a trigger does (see IS_UNSEEN
 *	  in pool_trust.c). Where a BEFORE trigger fires on other columns, ours is put on every update
 *	  and has the columns as arguments.
 */
#ifndef PREBUILD_POOL_LOG_H
#define PREBUILD_POOL_LOG_H

#define POOL_LOG_TRIGGER "prebuild_pool_log"
#define POOL_TRUNCATE_TRIGGER "prebuild_pool_truncated"

/* Of these only what is or was in the pool is logged. */
#define POOL_LOG_WORKSPACES "id, owner_id, deleted, name, template_id, created_at"
#define POOL_LOG_BUILDS                                                                            \
	"workspace_id, id, build_number, transition, template_version_id, template_version_preset_id," \
	" job_id, initiator_id, created_at"
#define POOL_LOG_JOBS "id, job_status, worker_id, started_at, canceled_at, completed_at"
#define POOL_LOG_RESOURCES "job_id, id"
#define POOL_LOG_AGENTS "resource_id, lifecycle_state, deleted, parent_id, name"

#endif /* PREBUILD_POOL_LOG_H */
