/*
 * metadata_statements.h
 *	  The statements that write a batch of agent metadata.
 */
#ifndef PREBUILD_METADATA_STATEMENTS_H
#define PREBUILD_METADATA_STATEMENTS_H

#include "postgres.h"

#include "metadata/metadata_rows.h"

extern int metadata_settings(void);
extern int metadata_lock_agents(MetadataRow **rows, int n);
extern void metadata_update_or_upsert(MetadataRow **rows, int n, MetadataCounts *counts);

#endif /* PREBUILD_METADATA_STATEMENTS_H */
