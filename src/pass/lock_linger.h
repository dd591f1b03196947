/*
 * lock_linger.h
 *	  The reconcilers' lock, and how long a pass keeps it after its commit.
 */
#ifndef PREBUILD_LOCK_LINGER_H
#define PREBUILD_LOCK_LINGER_H

#include "postgres.h"

/* The advisory lock that every reconciler takes. */
#define RECONCILE_LOCK INT64CONST(7)

extern void lock_linger_init(void);
extern void lock_linger_after_commit(void);

#endif /* PREBUILD_LOCK_LINGER_H */
