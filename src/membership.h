/*
 * membership.h
 *	  The system user's place in the organizations.
 */
#ifndef PREBUILD_MEMBERSHIP_H
#define PREBUILD_MEMBERSHIP_H

#include "decision.h"

extern void membership_ensure(const PoolSnapshot *pool, int64_t at);

#endif /* PREBUILD_MEMBERSHIP_H */
