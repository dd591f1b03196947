/*
 * pool_touched.h
 *	  The members that were touched since the last fold.
 */
#ifndef PREBUILD_POOL_TOUCHED_H
#define PREBUILD_POOL_TOUCHED_H

#include "postgres.h"

#include "pool/pool_trust.h"

/* Beyond this plus half of the members, entries cost a reader more to resolve than they save. */
#define POOL_FEW_ENTRIES 100

/* Workspaces and those of them that are members, as array datums. */
typedef struct Touched
{
	Datum ids;	   /* uuid[] */
	Datum members; /* prebuild_pool_member[]: those of the ids that are in the pool */
	Oid array_type;
	int64 entries; /* of the log that led to them */
} Touched;

extern bool pool_touched_find(const PoolTrust *trust, int64 most, Touched *touched);
extern void pool_touched_all(Oid control_plane, Touched *all);

#endif /* PREBUILD_POOL_TOUCHED_H */
