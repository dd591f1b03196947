/*
 * pool_lock.h
 *	  Holds pool members still: lock, then look again.
 */
#ifndef PREBUILD_POOL_LOCK_H
#define PREBUILD_POOL_LOCK_H

#include "postgres.h"

#include "pool/pool_member.h"

extern int pool_lock(PoolMember **members, int n);
extern int pool_lock_first(PoolMember *const *members, int n, bool *unchanged);

#endif /* PREBUILD_POOL_LOCK_H */
