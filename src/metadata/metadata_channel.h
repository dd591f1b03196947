/*
 * metadata_channel.h
 *	  Publish which agents' metadata changed.
 */
#ifndef PREBUILD_METADATA_CHANNEL_H
#define PREBUILD_METADATA_CHANNEL_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* A metadata row that changed. key has no terminator and belongs to the caller. */
typedef struct FanoutChange
{
	pg_uuid_t agent;
	const char *key;
	int key_length;
	TimestampTz collected_at;
} FanoutChange;

extern int fanout_publish(FanoutChange *changes, int n);
extern bool fanout_suppress(bool suppress);
extern bool fanout_is_suppressed(void);

#endif /* PREBUILD_METADATA_CHANNEL_H */
