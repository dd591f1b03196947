/*
 * pool_members.h
 *	  The reader of the pool.
 */
#ifndef PREBUILD_POOL_MEMBERS_H
#define PREBUILD_POOL_MEMBERS_H

#include "postgres.h"

#include "pool/pool_member.h"

extern PoolMember *pool_members_read(int *n, bool health);

#endif /* PREBUILD_POOL_MEMBERS_H */
