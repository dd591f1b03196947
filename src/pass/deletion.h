/*
 * deletion.h
 *	  Write delete builds.
 */
#ifndef PREBUILD_DELETION_H
#define PREBUILD_DELETION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/rows.h"
#include "decision/decision.h"
#include "pass/provision.h"
#include "pool/pool_member.h"

extern void deletion_write(PoolMember *const *members, int n, TimestampTz at, int64_t *clock,
						   PassTotals *totals, ArrayParameter *jobs);
extern void deletion_count(const PoolSnapshot *pool, PoolMember *const *members, int n);

#endif /* PREBUILD_DELETION_H */
