/*
 * worker_metadata.h
 *	  The flushes of the metadata worker: when and why.
 */
#ifndef PREBUILD_WORKER_METADATA_H
#define PREBUILD_WORKER_METADATA_H

#include "postgres.h"

#include "metadata/metadata_batcher.h"

typedef struct MetadataWork
{
	int number;
	BatcherDatabase *database;
	TimestampTz next_flush;
	TimestampTz hold_capacity; /* no flush for capacity before this, see flush_for_capacity() */
	bool failed;			   /* the last flush failed */
} MetadataWork;

extern void metadata_work_init(MetadataWork *work, int number);
extern void metadata_work_settings(MetadataWork *work);
extern void metadata_work_do(MetadataWork *work);
extern TimestampTz metadata_work_next(const MetadataWork *work);
extern void metadata_work_stand_aside(MetadataWork *work, const char *detail);
extern void metadata_work_finish(MetadataWork *work, int limit_ms);

#endif /* PREBUILD_WORKER_METADATA_H */
