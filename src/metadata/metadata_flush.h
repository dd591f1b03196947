/*
 * metadata_flush.h
 *	  Writing what the buffer holds.
 */
#ifndef PREBUILD_METADATA_FLUSH_H
#define PREBUILD_METADATA_FLUSH_H

#include "postgres.h"

#include "metadata/metadata_batcher.h"

/* A flush: what is asked for, and what came of it. */
typedef struct MetadataFlush
{
	int slot;
	FlushReason reason;
	TimestampTz deadline; /* begin no further batch after this; 0 = none */
	int64 written;		  /* entries that left the buffer */
	bool publishing;	  /* the statements are through, the commit is not */
} MetadataFlush;

extern void metadata_flush(MetadataFlush *flush);
extern void metadata_flush_failed(MetadataFlush *flush, const char *message);

#endif /* PREBUILD_METADATA_FLUSH_H */
