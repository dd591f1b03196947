/*
 * identity_cache.h
 *	  The identity cache of this backend.
 */
#ifndef PREBUILD_IDENTITY_CACHE_H
#define PREBUILD_IDENTITY_CACHE_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/uuid.h"

/* The rows that an identity is made of. */
typedef enum IdentityPart
{
	IDENTITY_AGENT,
	IDENTITY_WORKSPACE,
	IDENTITY_OWNER,
	IDENTITY_TEMPLATE
} IdentityPart;

#define IDENTITY_PARTS (IDENTITY_TEMPLATE + 1)

/* The moment before the query. */
typedef struct IdentityMoment
{
	int64 at;	  /* microseconds of a monotonic clock */
	uint64 ended; /* identity_changes_ended() */
} IdentityMoment;

extern IdentityMoment identity_moment(void);
extern HeapTupleHeader identity_cache_find(const pg_uuid_t *agent, int64 at);
extern void identity_cache_store(const IdentityMoment *before,
								 const pg_uuid_t *const parts[IDENTITY_PARTS], HeapTupleHeader row);
extern void identity_cache_reset(void);

#endif /* PREBUILD_IDENTITY_CACHE_H */
