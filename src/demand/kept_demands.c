/*
 * kept_demands.c
 *	  Read the demands of a range from the log, and keep in the backend what its blocks say.
 *
 *	  Each pass with presets in mode auto asks for the demands of the last day. Nearly all of them are
 *	  those that the last pass has read. Where they are tens of thousands, to have the server fetch,
 *	  check and hand over each takes a third of the pass. So this file reads the log by blocks, and keeps
 *	  the rows of a block. It asks the index which blocks have demands of the range, and reads those that
 *	  have changed.
 *
 *	  Why the answer is that of the log. A block is kept if it was settled, which log_blocks.c explains:
 *	  while it has the same LSN, each snapshot with the same xmin or a later one sees these rows in it. A
 *	  snapshot with an earlier xmin, of a cursor for example, reads the block. Rows of a transaction that
 *	  has not ended for long, the reader's own among them, are in blocks that are not settled, and these
 *	  are read each time. So it does not matter in which order transactions commit, nor which times their
 *	  demands have. Blocks of another file are forgotten: after a rewrite, or where somebody has dropped
 *	  the table and created it again.
 *
 *	  What is kept does not depend on the reader's transaction: if that fails, the blocks still have
 *	  these rows. On a standby, blocks change by replay, with the LSNs of the primary.
 *
 *	  Memory: the blocks of the last reading, up to KEPT_MOST; 16 bytes for each of their rows. Others
 *	  are read each time. A session that works for two control planes in turn keeps those of the last
 *	  one.
 */
#include "compat.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "demand/demand_marker.h"
#include "demand/kept_demands.h"
#include "demand/log_blocks.h"
#include "demand/preset_key.h"

/* Memory for rows and names, at most. */
#define KEPT_MOST (16 * 1024 * 1024)

/* Demands of a preset that there is room for at first. */
#define FIRST_ROOM 64

/* Blocks that a reading has at hand. */
#define AT_HAND 64

/* A row that is kept. */
typedef struct KeptRow
{
	TimestampTz at;
	uint32 preset; /* its number among those of "presets" */
} KeptRow;

/* A block of the last reading. */
typedef struct KeptBlock
{
	BlockNumber block; /* the key */
	uint64 reading;	   /* the last one that has come to it */
	XLogRecPtr lsn;	   /* invalid if the rows are not kept */
	uint64 from;	   /* the xmin from which on snapshots see these rows, in 64 bits */
	int n;
	KeptRow *rows;
} KeptBlock;

typedef struct KeptPreset
{
	PresetKey key;
	uint32 hash;
	char status;
	uint32 number;
} KeptPreset;

#define SH_PREFIX kept_presets
#define SH_ELEMENT_TYPE KeptPreset
#define SH_KEY_TYPE PresetKey
#define SH_KEY key
#define SH_HASH_KEY(table, key) preset_key_hash(&(key))
#define SH_EQUAL(table, a, b) preset_keys_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* What the backend keeps. All of it is in one context, NULL if there is nothing. */
static MemoryContext kept_context;
static Size kept_size;
static uint64 readings;
static HTAB *kept_blocks;
static kept_presets_hash *presets;
/* of which file and control plane */
static Oid kept_file;
static Oid kept_tablespace;
static const char *kept_control_plane;

/* The demands of a preset in a reading. */
typedef struct Taken
{
	int n;
	int room;
	int64 *times;
} Taken;

typedef struct Reading
{
	LogBlocks blocks;
	TimestampTz since;
	TimestampTz until;
	uint64 from;   /* the xmin of the snapshot, in 64 bits */
	Taken *taken;  /* by the number of the preset */
	uint32 ntaken; /* there is room for */
	/*
	 * Blocks that were taken, by their number. The versions of a row before and after passes have
	 * counted it are beside each other in the index, and in two blocks.
	 */
	BlockNumber at_hand[AT_HAND];
	/* the rows of a block, which may come to be kept */
	int nrows;
	KeptRow rows[MaxHeapTuplesPerPage];
} Reading;

static void
forget_all(void)
{
	if (kept_context != NULL)
		MemoryContextDelete(kept_context);
	kept_context = NULL;
	kept_size = 0;
}

static void
begin_to_keep(const LogBlocks *blocks)
{
	HASHCTL control = { .keysize = sizeof(BlockNumber), .entrysize = sizeof(KeptBlock) };
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "prebuild_ext demands", ALLOCSET_DEFAULT_SIZES);

	control.hcxt = context;
	kept_blocks =
		hash_create("prebuild_ext demands", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	presets = kept_presets_create(context, 256, NULL);
	kept_control_plane = MemoryContextStrdup(context, blocks->control_plane);
	kept_file = blocks->log->rd_rel->relfilenode;
	kept_tablespace = blocks->log->rd_rel->reltablespace;
	MemoryContextSetParent(context, TopMemoryContext);
	kept_context = context;
}

/* Forget what is of another file or control plane, and all where it has become too much. */
static void
check_kept(const LogBlocks *blocks)
{
	if (kept_context != NULL &&
		(kept_size > KEPT_MOST || kept_file != blocks->log->rd_rel->relfilenode ||
		 kept_tablespace != blocks->log->rd_rel->reltablespace ||
		 strcmp(kept_control_plane, blocks->control_plane) != 0))
		forget_all();
	if (kept_context == NULL)
		begin_to_keep(blocks);
}

/* Return the number of a preset. */
static uint32
number_of(const LogRow *row)
{
	PresetKey key = { .template_id = *row->template_id,
					  .length = row->name_length,
					  .name = row->name };
	KeptPreset *preset = kept_presets_lookup(presets, key);
	char *name;
	bool found;

	if (preset != NULL)
		return preset->number;
	name = MemoryContextAlloc(kept_context, key.length + 1);
	memcpy(name, key.name, key.length);
	name[key.length] = '\0';
	key.name = name;
	preset = kept_presets_insert(presets, key, &found);
	preset->number = presets->members - 1;
	kept_size += sizeof(KeptPreset) + key.length + 1;
	return preset->number;
}

/* Take a demand, if it is in the range. */
static inline void
take(Reading *reading, const KeptRow *row)
{
	Taken *taken;

	if (row->at < reading->since || row->at >= reading->until)
		return;
	if (row->preset >= reading->ntaken)
	{
		uint32 room = presets->members + 64;

		reading->taken = reading->taken == NULL
							 ? palloc_array(Taken, room)
							 : repalloc_huge(reading->taken, sizeof(Taken) * room);
		memset(reading->taken + reading->ntaken, 0, sizeof(Taken) * (room - reading->ntaken));
		reading->ntaken = room;
	}
	taken = &reading->taken[row->preset];
	if (taken->n == taken->room)
	{
		taken->room = taken->room == 0 ? FIRST_ROOM : taken->room * 2;
		taken->times = taken->times == NULL
						   ? palloc_array(int64, taken->room)
						   : repalloc_huge(taken->times, sizeof(int64) * taken->room);
	}
	taken->times[taken->n++] = row->at;
}

/* Note a row of a block. */
static void
note_row(const LogRow *row, void *context)
{
	Reading *reading = context;

	reading->rows[reading->nrows++] = (KeptRow){ row->at, number_of(row) };
}

/* Forget the rows of a block. */
static void
forget_rows(KeptBlock *block)
{
	block->lsn = InvalidXLogRecPtr;
	kept_size -= sizeof(KeptRow) * block->n;
	block->n = 0;
	if (block->rows != NULL)
		pfree(block->rows);
	block->rows = NULL;
}

/* Keep the rows that were noted of a block, if there is room. */
static void
keep_rows(KeptBlock *block, const Reading *reading, XLogRecPtr lsn)
{
	Size size = sizeof(KeptRow) * reading->nrows;

	if (kept_size + size > KEPT_MOST)
		return;
	block->rows = MemoryContextAlloc(kept_context, Max(size, 1));
	memcpy(block->rows, reading->rows, size);
	block->n = reading->nrows;
	block->from = reading->from;
	block->lsn = lsn;
	kept_size += size;
}

/* Take the demands of a block, once in a reading. */
static void
take_block(Reading *reading, BlockNumber number)
{
	bool found;
	KeptBlock *block = hash_search(kept_blocks, &number, HASH_ENTER, &found);
	XLogRecPtr lsn;
	bool settled;

	if (!found)
		*block = (KeptBlock){ .block = number };
	if (block->reading == readings)
		return;
	block->reading = readings;
	lsn = block->from <= reading->from ? block->lsn : InvalidXLogRecPtr;
	reading->nrows = 0;
	if (!log_block_read(&reading->blocks, number, &lsn, &settled, note_row, reading))
	{
		for (int i = 0; i < block->n; i++)
			take(reading, &block->rows[i]);
		return;
	}
	for (int i = 0; i < reading->nrows; i++)
		take(reading, &reading->rows[i]);
	forget_rows(block);
	if (settled)
		keep_rows(block, reading, lsn);
}

/* Forget the blocks to which this reading has not come. */
static void
forget_others(void)
{
	HASH_SEQ_STATUS all;
	KeptBlock *block;

	hash_seq_init(&all, kept_blocks);
	while ((block = hash_seq_search(&all)) != NULL)
		if (block->reading != readings)
		{
			forget_rows(block);
			(void) hash_search(kept_blocks, &block->block, HASH_REMOVE, NULL);
		}
}

/* Put the demands that were taken into a table. */
static void
put_taken(const Reading *reading, DemandTable *table)
{
	kept_presets_iterator iterator;
	KeptPreset *preset;

	kept_presets_start_iterate(presets, &iterator);
	while ((preset = kept_presets_iterate(presets, &iterator)) != NULL)
	{
		uint32 number = preset->number;

		if (number < reading->ntaken && reading->taken[number].n > 0)
			demand_table_put(table, &(PresetDemands){ .template_id = preset->key.template_id,
													  .preset_name = preset->key.name,
													  .n = reading->taken[number].n,
													  .times = reading->taken[number].times });
	}
}

/*
 * Read the demands of the session's control plane from a time to before another one, in the active
 * snapshot, into an empty table. Their times are not sorted. Returns false, and has read nothing, if
 * only SQL can read the log. What the table gets is palloc'd in the current context.
 */
bool
kept_demands_read(TimestampTz since, TimestampTz until, DemandTable *table)
{
	Reading reading = { .since = since, .until = until };
	BlockNumber block;

	if (!log_blocks_begin(&reading.blocks, since, until))
		return false;
	readings++;
	reading.from = U64FromFullTransactionId(demand_snapshot_from());
	check_kept(&reading.blocks);
	for (int i = 0; i < AT_HAND; i++)
		reading.at_hand[i] = InvalidBlockNumber;
	while (log_blocks_next(&reading.blocks, &block))
	{
		if (reading.at_hand[block % AT_HAND] == block)
			continue;
		CHECK_FOR_INTERRUPTS();
		take_block(&reading, block);
		reading.at_hand[block % AT_HAND] = block;
	}
	log_blocks_end(&reading.blocks);
	forget_others();
	put_taken(&reading, table);
	return true;
}
