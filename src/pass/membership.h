/*
 * membership.h
 *	  The system user's membership in organizations.
 */
#ifndef PREBUILD_MEMBERSHIP_H
#define PREBUILD_MEMBERSHIP_H

#include "decision/control_plane.h"

extern void membership_require_system_user(void);
extern int membership_organizations(const PoolSnapshot *pool, Id *organizations);
extern void membership_ensure(const Id *organizations, int n, int64_t at);

#endif /* PREBUILD_MEMBERSHIP_H */
