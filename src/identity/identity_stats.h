/*
 * identity_stats.h
 *	  Statistics of the identity cache.
 */
#ifndef PREBUILD_IDENTITY_STATS_H
#define PREBUILD_IDENTITY_STATS_H

#include "postgres.h"

/* The events that are counted. */
typedef enum IdentityEvent
{
	IDENTITY_HIT,		  /* answered from the cache */
	IDENTITY_MISS,		  /* answered by the query */
	IDENTITY_INVALIDATION /* an entry removed because its rows may have changed */
} IdentityEvent;

#define IDENTITY_EVENTS (IDENTITY_INVALIDATION + 1)

extern void identity_stats_init(void);
extern void identity_stats_count(IdentityEvent event, uint64 amount);

#endif /* PREBUILD_IDENTITY_STATS_H */
