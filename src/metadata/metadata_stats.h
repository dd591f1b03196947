/*
 * metadata_stats.h
 *	  Statistics of the buffer and its flushes for the operator.
 */
#ifndef PREBUILD_METADATA_STATS_H
#define PREBUILD_METADATA_STATS_H

#include "postgres.h"

#include "metadata/agent_metadata.h"
#include "metadata/metadata_batcher.h"

/* Whether reports find room in the buffer. */
typedef struct BufferRoom
{
	bool half_full;		 /* of all databases together */
	TimestampTz full_at; /* when this database last warned that it dropped reports; 0 = never */
} BufferRoom;

extern BufferRoom metadata_stats_room(void);
extern bool metadata_stats_buffer(double *used, int64 *waiting);
extern void metadata_stats_batch(int slot, FlushReason reason, const BatcherCopy *copies,
								 int ncopies, const MetadataCounts *counts, TimestampTz start);
extern void metadata_stats_refused(int slot, int64 n, const char *message);
extern void metadata_stats_failure(int slot, bool publishing, const char *message);

#endif /* PREBUILD_METADATA_STATS_H */
