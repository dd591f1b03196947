/*
 * member_health.h
 *	  What the decision asks of members beyond the pool's columns.
 */
#ifndef PREBUILD_MEMBER_HEALTH_H
#define PREBUILD_MEMBER_HEALTH_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decision/decision.h"

/*
 * When an agent "wa" was seen last, of those that have ever been connected. An agent that is
 * connected moves last_connected_at with each heartbeat.
 */
#define AGENT_SEEN_AT "GREATEST(wa.first_connected_at, wa.last_connected_at, wa.disconnected_at)"

extern void member_health_find_seen(PoolSnapshot *pool, TimestampTz at);
extern void member_health_find_attempts(PoolSnapshot *pool);
extern void member_health_find_unwell(PoolSnapshot *pool);
extern void member_health_find_complaints(PoolSnapshot *pool);

#endif /* PREBUILD_MEMBER_HEALTH_H */
