/*
 * agent_metadata.h
 *	  Writing a batch of agent metadata and publishing what changed, in the current transaction.
 */
#ifndef PREBUILD_AGENT_METADATA_H
#define PREBUILD_AGENT_METADATA_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* One (agent, key) of a batch; the texts are Datums of type text, the caller's. */
typedef struct MetadataRow
{
	pg_uuid_t agent;
	Datum key;
	Datum value;
	Datum error;
	TimestampTz collected_at;
	bool written; /* set by agent_metadata_write() */
} MetadataRow;

/* updated + inserted + skipped + refused is the number of rows that were given. */
typedef struct MetadataCounts
{
	int64 updated;
	int64 inserted;
	int64 skipped;
	int64 refused;
	int notified; /* messages */
} MetadataCounts;

/* The first row of a batch that the table refused; error is NULL where there is none. */
typedef struct MetadataRefusal
{
	const MetadataRow *row;
	const ErrorData *error;
} MetadataRefusal;

extern MetadataCounts agent_metadata_write(MetadataRow *rows, int n);
extern MetadataCounts agent_metadata_write_accepted(MetadataRow *rows, int n,
													MetadataRefusal *refusal);

#endif /* PREBUILD_AGENT_METADATA_H */
