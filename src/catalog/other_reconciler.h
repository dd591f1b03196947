/*
 * other_reconciler.h
 *	  Is another reconciler, such as coderd's own, at work on the control plane?
 */
#ifndef PREBUILD_OTHER_RECONCILER_H
#define PREBUILD_OTHER_RECONCILER_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"

/* It is, if it has made a prebuild in so long. */
#define OTHER_RECONCILER_LOOKBACK USECS_PER_HOUR

extern bool other_reconciler_made(const Id *build_id);
extern void other_reconciler_refuse(const char *hint);

#endif /* PREBUILD_OTHER_RECONCILER_H */
