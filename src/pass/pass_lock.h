/*
 * pass_lock.h
 *	  The reconcilers' lock, taken by who is not a pass.
 */
#ifndef PREBUILD_PASS_LOCK_H
#define PREBUILD_PASS_LOCK_H

#include "compat.h"

extern void pass_lock_wait(const char *function, const char *otherwise);

/* reconcile.c */
extern bool pass_is_under_way(void);

#endif /* PREBUILD_PASS_LOCK_H */
