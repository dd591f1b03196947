/*
 * log_blocks.h
 *	  The log of demand, block by block.
 */
#ifndef PREBUILD_LOG_BLOCKS_H
#define PREBUILD_LOG_BLOCKS_H

#include "postgres.h"

#include "access/genam.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "storage/block.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "base/id.h"

/* The columns that are read, by their numbers in the table. */
typedef struct LogColumns
{
	AttrNumber control_plane;
	AttrNumber template_id;
	AttrNumber preset_name;
	AttrNumber at;
} LogColumns;

/* A reading of the blocks that have demands of a range. */
typedef struct LogBlocks
{
	Relation log;
	Relation index;
	Snapshot snapshot;
	IndexScanDesc scan;
	LogColumns columns;
	const char *control_plane;
	uint32 control_plane_length;
} LogBlocks;

/* A row that the snapshot sees. The name is in the block, and does not end with a zero. */
typedef struct LogRow
{
	const Id *template_id;
	const char *name;
	uint32 name_length;
	TimestampTz at;
} LogRow;

typedef void (*LogRowTaker)(const LogRow *row, void *context);

extern bool log_blocks_begin(LogBlocks *blocks, TimestampTz since, TimestampTz until);
extern bool log_blocks_next(LogBlocks *blocks, BlockNumber *block);
extern bool log_block_read(const LogBlocks *blocks, BlockNumber block, XLogRecPtr *lsn,
						   bool *settled, LogRowTaker take, void *context);
extern void log_blocks_end(LogBlocks *blocks);

#endif /* PREBUILD_LOG_BLOCKS_H */
