/*
 * metadata_rows.h
 *	  The rows of a batch of agent metadata.
 */
#ifndef PREBUILD_METADATA_ROWS_H
#define PREBUILD_METADATA_ROWS_H

#include "postgres.h"

#include "utils/queryenvironment.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* One (agent, key) of a batch. The Datums have type text and belong to the caller. */
typedef struct MetadataRow
{
	pg_uuid_t agent;
	Datum key;
	Datum value;
	Datum error;
	TimestampTz collected_at;
	bool written; /* set by agent_metadata_write() */
	bool refused; /* set by agent_metadata_write_accepted() */
} MetadataRow;

/* updated + inserted + skipped + refused is the number of given rows. */
typedef struct MetadataCounts
{
	int64 updated;
	int64 inserted;
	int64 skipped;
	int64 refused;
	int notified; /* messages */
} MetadataCounts;

extern int metadata_rows_sort(MetadataRow **rows, int n);
extern void metadata_rows_mark(MetadataRow **rows, int n, pg_uuid_t *agent, Datum key);
extern EphemeralNamedRelation metadata_rows_register(MetadataRow **rows, int n);
extern void metadata_rows_unregister(EphemeralNamedRelation batch);

#endif /* PREBUILD_METADATA_ROWS_H */
