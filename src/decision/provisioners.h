/*
 * provisioners.h
 *	  The provisioner daemons that live: how many there are, and what they could build.
 */
#ifndef PREBUILD_PROVISIONERS_H
#define PREBUILD_PROVISIONERS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decision/decision.h"

extern int64 provisioners_alive(TimestampTz at);
extern void provisioners_check(PoolSnapshot *pool, TimestampTz at);

#endif /* PREBUILD_PROVISIONERS_H */
