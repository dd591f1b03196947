/*
 * extension_lock.h
 *	  Keep others from dropping the extension under a transaction.
 */
#ifndef PREBUILD_EXTENSION_LOCK_H
#define PREBUILD_EXTENSION_LOCK_H

#include "postgres.h"

extern Oid extension_hold(void);

#endif /* PREBUILD_EXTENSION_LOCK_H */
