/*
 * metadata_blob.h
 *	  The buffered metadata of one agent in one piece of memory: a record for each of its keys.
 */
#ifndef PREBUILD_METADATA_BLOB_H
#define PREBUILD_METADATA_BLOB_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "metadata/report_limits.h"

/* The result of blob_merge(). */
typedef struct MergedBlob
{
	char *blob; /* palloc'd */
	Size size;
	int nkeys;
	int taken; /* reported entries that are in it, or whose key has a newer record */
} MergedBlob;

/* A record. Its texts point into the blob. */
typedef struct BlobRecord
{
	ReportText key;
	ReportText value;
	ReportText error;
	TimestampTz collected_at;
} BlobRecord;

extern MergedBlob blob_merge(const char *old, Size old_size, ReportEntry **reported, int n,
							 TimestampTz collected_at, uint64 sequence, bool add);
extern bool blob_next(const char *blob, Size size, Size *position, BlobRecord *record);
extern Size blob_keep_newer(char *blob, Size size, uint64 sequence, int *nkept,
							uint64 *first_sequence);

#endif /* PREBUILD_METADATA_BLOB_H */
