/*
 * notify.h
 *	  NOTIFY that never makes a transaction fail.
 */
#ifndef PREBUILD_NOTIFY_H
#define PREBUILD_NOTIFY_H

#include "postgres.h"

extern bool notify_possible(void);
extern bool notify_send(const char *channel, const char *payload);

#endif /* PREBUILD_NOTIFY_H */
