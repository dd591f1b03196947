/*
 * pool_forget.h
 *	  Removes what is stored of the pool, and bounds its log.
 */
#ifndef PREBUILD_POOL_FORGET_H
#define PREBUILD_POOL_FORGET_H

#include "postgres.h"

#include "pool/pool_trust.h"

/*
 * Most entries that one call takes off the log, so that a fold ends within a second however long
 * the log has become.
 */
#define POOL_TRIM_ENTRIES 100000

extern int64 pool_forget_log(Oid control_plane, bool bounded);
extern void pool_forget_members(Oid control_plane);
extern void pool_forget_marker(Oid control_plane);
extern void pool_forget_all(Oid control_plane);
extern void pool_forget_long_logs(Oid but_control_plane);
extern void pool_give_up(const PoolTrust *trust);
extern void pool_say_given_up(Oid control_plane);

#endif /* PREBUILD_POOL_FORGET_H */
