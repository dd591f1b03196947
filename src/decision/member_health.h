/*
 * member_health.h
 *	  What the decision asks of members beyond the pool's columns.
 */
#ifndef PREBUILD_MEMBER_HEALTH_H
#define PREBUILD_MEMBER_HEALTH_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decision/decision.h"
#include "pool/pool_sql.h"

/*
 * True if an agent of the latest build "b" that counts was connected once, and nobody has seen it
 * since a time.
 */
#define IS_SILENT_SINCE(time)                                                                      \
	"EXISTS (SELECT FROM {cp}workspace_resources r, LATERAL ("                                     \
	"  SELECT FROM {cp}workspace_agents wa WHERE wa.resource_id {=} r.id AND NOT wa.deleted"       \
	"   AND wa.parent_id IS NULL AND " HAS_BEEN_CONNECTED "   AND " AGENT_SEEN_AT " {<} " time     \
	" OFFSET 0) a WHERE r.job_id {=} b.job_id)"

extern void member_health_find_seen(PoolSnapshot *pool, TimestampTz at);
extern void member_health_find_attempts(PoolSnapshot *pool);
extern void member_health_find_unwell(PoolSnapshot *pool);
extern void member_health_find_complaints(PoolSnapshot *pool);

#endif /* PREBUILD_MEMBER_HEALTH_H */
