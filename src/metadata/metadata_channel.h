/*
 * metadata_channel.h
 *	  Publishing which agents' metadata changed.
 */
#ifndef PREBUILD_FANOUT_H
#define PREBUILD_FANOUT_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* One metadata row that changed. key is not terminated and stays the caller's. */
typedef struct FanoutChange
{
	pg_uuid_t agent;
	const char *key;
	int key_length;
	TimestampTz collected_at;
} FanoutChange;

extern int fanout_publish(FanoutChange *changes, int n);
extern int fanout_publish_ids(pg_uuid_t *ids, int n);
extern bool fanout_suppress(bool suppress);
extern bool fanout_is_suppressed(void);

#endif /* PREBUILD_FANOUT_H */
