/*
 * agent_metadata.h
 *	  Write a batch of agent metadata and publish the changes, in the current transaction.
 */
#ifndef PREBUILD_AGENT_METADATA_H
#define PREBUILD_AGENT_METADATA_H

#include "postgres.h"

#include "metadata/metadata_rows.h"

/* The first row of a batch that the table refused; error is NULL if there is none. */
typedef struct MetadataRefusal
{
	const MetadataRow *row;
	const ErrorData *error;
	bool in_doubt; /* the error of some refused row has FAULT_IN_DOUBT, see metadata_faults.h */
} MetadataRefusal;

extern MetadataCounts agent_metadata_write(MetadataRow *rows, int n);
extern MetadataCounts agent_metadata_write_accepted(MetadataRow *rows, int n,
													bool (*is_fault)(const ErrorData *error),
													MetadataRefusal *refusal);

#endif /* PREBUILD_AGENT_METADATA_H */
