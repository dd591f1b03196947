/*
 * wakeup.h
 *	  Wake the provisioners for new jobs.
 */
#ifndef PREBUILD_WAKEUP_H
#define PREBUILD_WAKEUP_H

#include "base/rows.h"

extern void wakeup_provisioners(const ArrayParameter *jobs, int64_t at);

#endif /* PREBUILD_WAKEUP_H */
