/*
 * notify.h
 *	  NOTIFY that never makes a transaction fail.
 */
#ifndef PREBUILD_NOTIFY_H
#define PREBUILD_NOTIFY_H

#include "postgres.h"

/*
 * The longest payload that the server accepts, in bytes: one less than NOTIFY_PAYLOAD_MAX_LENGTH,
 * which is private to async.c. 7,999 with blocks of 8 kB.
 */
#define NOTIFY_LONGEST_PAYLOAD (BLCKSZ - NAMEDATALEN - 128 - 1)

extern bool notify_possible(void);
extern bool notify_send(const char *channel, const char *payload);

#endif /* PREBUILD_NOTIFY_H */
