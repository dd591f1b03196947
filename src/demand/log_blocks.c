/*
 * log_blocks.c
 *	  Read the log of demand block by block, below SQL: the index on the time says which blocks have
 *	  demands of a range, and each of them is read as a whole. So the caller can know that a block is
 *	  as it was, and need not read it again (kept_demands.c).
 *
 *	  No row of the range is missed. A version that the snapshot sees has an entry in the index, or the
 *	  first version of its chain has one, which is in the same block. From each block, the rows are
 *	  taken that the snapshot sees, by the server's own check, whichever entry led there.
 *
 *	  A block with the same LSN has the same contents but for hints, as WAL needs it: the server gives a
 *	  block a new LSN with each change, and no LSN comes twice. That holds for what is in WAL, so only
 *	  such a table is read here. A block is settled if all transactions that have written or deleted a
 *	  version in it came before the oldest that was at work for the snapshot (its xmin). These have
 *	  ended. So each snapshot with this xmin or a later one sees the same rows in it while it stays as
 *	  it is. A block without an LSN counts as not settled: with wal_level minimal, a rewrite leaves such.
 *
 *	  What is no plain heap table of the extension, or has no index by time, is left to SQL; so are
 *	  serializable transactions, whose reads the server has to know.
 *
 *	  Locks: AccessShareLock on the table and the index until the transaction ends, as a statement
 *	  takes. A block is share-locked while its versions are checked, and pinned while rows are taken, as
 *	  in a scan of the server.
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/injected_fault.h"
#include "base/plans.h"
#include "demand/log_blocks.h"
#include "settings.h"

/* Columns that the table may have, at most: its own, and those that somebody has dropped. */
#define COLUMNS_MOST 32

/* Find a column by its name. InvalidAttrNumber if there is none of this type. */
static AttrNumber
find_column(Relation log, const char *name, Oid type)
{
	TupleDesc columns = RelationGetDescr(log);

	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!column->attisdropped && column->atttypid == type &&
			strcmp(NameStr(column->attname), name) == 0)
			return column->attnum;
	}
	return InvalidAttrNumber;
}

/* Open the table if it can be read by blocks, else return NULL. */
static Relation
open_log(LogColumns *columns)
{
	Oid table = get_relname_relid("prebuild_demand_log", plans_extension_schema());
	Relation log = OidIsValid(table) ? try_relation_open(table, AccessShareLock) : NULL;

	if (log == NULL)
		return NULL;
	*columns = (LogColumns){ find_column(log, "control_plane", TEXTOID),
							 find_column(log, "template_id", UUIDOID),
							 find_column(log, "preset_name", TEXTOID),
							 find_column(log, "at", TIMESTAMPTZOID) };
	if (log->rd_rel->relkind == RELKIND_RELATION && log->rd_rel->relam == HEAP_TABLE_AM_OID &&
		!log->rd_rel->relhassubclass && !log->rd_rel->relrowsecurity && RelationNeedsWAL(log) &&
		RelationGetDescr(log)->natts <= COLUMNS_MOST && columns->control_plane > 0 &&
		columns->template_id > 0 && columns->preset_name > 0 && columns->at > 0)
		return log;
	relation_close(log, AccessShareLock);
	return NULL;
}

/* Does an index lead to all rows, in the order of the times in this column? */
static bool
is_by_time(Relation index, AttrNumber at)
{
	Form_pg_index form = index->rd_index;
	Oid before;

	if (!form->indisvalid || index->rd_rel->relam != BTREE_AM_OID || form->indkey.values[0] != at ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	/* it was built while versions were changed that this transaction may have to see */
	if (form->indcheckxmin &&
		!TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
							   TransactionXmin))
		return false;
	before = get_opfamily_member(index->rd_opfamily[0], TIMESTAMPTZOID, TIMESTAMPTZOID,
								 BTLessStrategyNumber);
	return OidIsValid(before) && get_opcode(before) == F_TIMESTAMPTZ_LT;
}

/* Open the index by time, or return NULL. */
static Relation
open_index(Relation log, AttrNumber at)
{
	List *indexes = RelationGetIndexList(log);
	Relation found = NULL;
	ListCell *cell;

	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_by_time(index, at))
		{
			found = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

/*
 * Begin to read the blocks that have demands from a time to before another one, in the active snapshot.
 * Returns false, and there is nothing to end, if only SQL can read the log. Allocates in the current
 * context.
 */
bool
log_blocks_begin(LogBlocks *blocks, TimestampTz since, TimestampTz until)
{
	ScanKeyData keys[2];

	injected_fault_point();
	*blocks = (LogBlocks){ .snapshot = GetActiveSnapshot(),
						   .control_plane = setting_control_plane_schema,
						   .control_plane_length = (uint32) strlen(setting_control_plane_schema) };
	if (IsolationIsSerializable() || !IsMVCCSnapshot(blocks->snapshot))
		return false;
	blocks->log = open_log(&blocks->columns);
	if (blocks->log == NULL)
		return false;
	blocks->index = open_index(blocks->log, blocks->columns.at);
	if (blocks->index == NULL)
	{
		relation_close(blocks->log, AccessShareLock);
		return false;
	}
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(since));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT, TimestampTzGetDatum(until));
	blocks->scan = compat_index_beginscan(blocks->log, blocks->index, blocks->snapshot, 2);
	index_rescan(blocks->scan, keys, 2, NULL, 0);
	return true;
}

/* Find the next block. One may come more than once. Returns false if there are no more. */
bool
log_blocks_next(LogBlocks *blocks, BlockNumber *block)
{
	ItemPointer entry = index_getnext_tid(blocks->scan, ForwardScanDirection);

	if (entry == NULL)
		return false;
	*block = ItemPointerGetBlockNumber(entry);
	return true;
}

/* End a reading. The locks stay until the transaction ends. */
void
log_blocks_end(LogBlocks *blocks)
{
	index_endscan(blocks->scan);
	index_close(blocks->index, NoLock);
	relation_close(blocks->log, NoLock);
}

/* Have the transactions of a version ended before all that are at work for a snapshot? */
static bool
is_settled(HeapTupleHeader version, TransactionId xmin)
{
	if (version->t_infomask & HEAP_MOVED)
		return false;
	if (!HeapTupleHeaderXminFrozen(version) &&
		!TransactionIdPrecedes(HeapTupleHeaderGetRawXmin(version), xmin))
		return false;
	if (version->t_infomask & HEAP_XMAX_INVALID)
		return true;
	return (version->t_infomask & HEAP_XMAX_IS_MULTI) == 0 &&
		   TransactionIdPrecedes(HeapTupleHeaderGetRawXmax(version), xmin);
}

/* Take row number "offset" of a pinned block, unless it is another control plane's. */
static void
take_row(const LogBlocks *blocks, Page page, OffsetNumber offset, LogRowTaker take, void *context)
{
	ItemId item = PageGetItemId(page, offset);
	HeapTupleData tuple = { .t_len = ItemIdGetLength(item),
							.t_data = (HeapTupleHeader) PageGetItem(page, item) };
	Datum values[COLUMNS_MOST];
	bool nulls[COLUMNS_MOST];
	const LogColumns *columns = &blocks->columns;
	struct varlena *plane;
	struct varlena *name;
	LogRow row;

	heap_deform_tuple(&tuple, RelationGetDescr(blocks->log), values, nulls);
	if (nulls[columns->control_plane - 1] || nulls[columns->template_id - 1] ||
		nulls[columns->preset_name - 1] || nulls[columns->at - 1])
		return;
	plane = PG_DETOAST_DATUM_PACKED(values[columns->control_plane - 1]);
	if (VARSIZE_ANY_EXHDR(plane) != blocks->control_plane_length ||
		memcmp(VARDATA_ANY(plane), blocks->control_plane, blocks->control_plane_length) != 0)
		return;
	name = PG_DETOAST_DATUM_PACKED(values[columns->preset_name - 1]);
	row = (LogRow){ .template_id = (const Id *) DatumGetPointer(values[columns->template_id - 1]),
					.name = VARDATA_ANY(name),
					.name_length = (uint32) VARSIZE_ANY_EXHDR(name),
					.at = DatumGetTimestampTz(values[columns->at - 1]) };
	take(&row, context);
}

/*
 * Read a block, unless it is as it was: *lsn has the LSN that it had, or InvalidXLogRecPtr, and gets
 * the one that it has. Returns false if it is as it was. Else calls a function for each row of the
 * control plane that the snapshot sees, whatever its time, and sets *settled: see above. The row is gone
 * when the function returns.
 */
bool
log_block_read(const LogBlocks *blocks, BlockNumber block, XLogRecPtr *lsn, bool *settled,
			   LogRowTaker take, void *context)
{
	OffsetNumber visible[MaxHeapTuplesPerPage];
	Buffer buffer = ReadBuffer(blocks->log, block);
	Page page = BufferGetPage(buffer);
	OffsetNumber last;
	int n = 0;

	/* as each scan of the server does */
	heap_page_prune_opt(blocks->log, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	compat_test_for_old_snapshot(blocks->snapshot, blocks->log, page);
	if (!XLogRecPtrIsInvalid(*lsn) && PageGetLSN(page) == *lsn)
	{
		UnlockReleaseBuffer(buffer);
		return false;
	}
	*lsn = PageGetLSN(page);
	*settled = !XLogRecPtrIsInvalid(*lsn);
	last = PageGetMaxOffsetNumber(page);
	for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset++)
	{
		ItemId item = PageGetItemId(page, offset);
		HeapTupleData tuple = { .t_tableOid = RelationGetRelid(blocks->log) };

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		ItemPointerSet(&tuple.t_self, block, offset);
		*settled = *settled && is_settled(tuple.t_data, blocks->snapshot->xmin);
		if (HeapTupleSatisfiesVisibility(&tuple, blocks->snapshot, buffer))
			visible[n++] = offset;
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	for (int i = 0; i < n; i++)
		take_row(blocks, page, visible[i], take, context);
	ReleaseBuffer(buffer);
	return true;
}
