/*
 * pool_seen.h
 *	  Folds renew when the agents of the stored members were seen.
 */
#ifndef PREBUILD_POOL_SEEN_H
#define PREBUILD_POOL_SEEN_H

#include "postgres.h"

extern void pool_seen_renew(Oid control_plane);

#endif /* PREBUILD_POOL_SEEN_H */
