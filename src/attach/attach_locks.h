/*
 * attach_locks.h
 *	  Create, replace and drop the extension's triggers on the control plane's tables, under
 *	  locks.
 */
#ifndef PREBUILD_ATTACH_LOCKS_H
#define PREBUILD_ATTACH_LOCKS_H

#include "attach/attached_triggers.h"

extern bool attach_apply(uint32 options);
extern bool attach_mend(void);

#endif /* PREBUILD_ATTACH_LOCKS_H */
