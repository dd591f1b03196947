/*
 * extension_lock.h
 *	  Keep the extension from being dropped under a transaction.
 */
#ifndef PREBUILD_EXTENSION_LOCK_H
#define PREBUILD_EXTENSION_LOCK_H

#include "postgres.h"

extern Oid extension_hold(void);

#endif /* PREBUILD_EXTENSION_LOCK_H */
