/*
 * metadata_flush.h
 *	  Flush the buffer into the table.
 */
#ifndef PREBUILD_METADATA_FLUSH_H
#define PREBUILD_METADATA_FLUSH_H

#include "postgres.h"

#include "metadata/metadata_batcher.h"

/* A flush: its request and its results. */
typedef struct MetadataFlush
{
	int slot;
	FlushReason reason;
	TimestampTz deadline; /* start no batch after this; 0 = none */
	uint64 left;		  /* entries that it still takes; metadata_flush() sets it */
	int64 written;		  /* entries that left the buffer */
	bool publishing;	  /* the statements have run, but the commit has not */
} MetadataFlush;

extern void metadata_flush(MetadataFlush *flush);
extern void metadata_flush_failed(MetadataFlush *flush, const char *message);

#endif /* PREBUILD_METADATA_FLUSH_H */
