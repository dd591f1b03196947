/*
 * demand_marker.h
 *	  How far passes have read the builds of the control plane. See demand_log.c.
 */
#ifndef PREBUILD_DEMAND_MARKER_H
#define PREBUILD_DEMAND_MARKER_H

#include "postgres.h"

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "storage/block.h"

typedef struct DemandMarker
{
	/* of the table workspace_builds, as it is now */
	Oid table;
	Oid filenode;
	bool readable_by_block; /* it is a plain table */
	BlockNumber blocks;
	/* what passes have read */
	bool stored; /* there was a pass */
	bool done;	 /* all rows from before done_from were read */
	FullTransactionId done_from;
	FullTransactionId round_from; /* if next_block > 0: the same of the blocks before it */
	BlockNumber next_block;
	TimestampTz looked_at; /* time of the last pass */
	TimestampTz
		idle_until;	  /* until when prebuilds of the last pass have waited; it never goes back */
	Datum open;		  /* uuid[]: prebuilds whose lead time is not known yet */
	bool uncounted;	  /* claims have logged demands that passes have not counted */
	bool counts_wait; /* in the log of preset_counts.c */
} DemandMarker;

extern bool demand_log_exists(void);
extern bool demand_log_is_complete(void);
extern bool demand_marker_read(DemandMarker *marker);
extern void demand_marker_write(const DemandMarker *marker);
extern FullTransactionId demand_snapshot_from(void);
extern int32 demand_age(FullTransactionId from);

#endif /* PREBUILD_DEMAND_MARKER_H */
