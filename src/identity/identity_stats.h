/*
 * identity_stats.h
 *	  How well the identity cache does.
 */
#ifndef PREBUILD_IDENTITY_STATS_H
#define PREBUILD_IDENTITY_STATS_H

#include "postgres.h"

/* What is counted. */
typedef enum IdentityEvent
{
	IDENTITY_HIT,		  /* answered from the cache */
	IDENTITY_MISS,		  /* answered by the tables */
	IDENTITY_INVALIDATION /* an entry dropped because what it says may have changed */
} IdentityEvent;

#define IDENTITY_EVENTS (IDENTITY_INVALIDATION + 1)

extern void identity_stats_init(void);
extern void identity_stats_count(IdentityEvent event, uint64 amount);

#endif /* PREBUILD_IDENTITY_STATS_H */
