/*
 * metadata_flush.c
 *	  Writing what the buffer holds: batches of at most prebuild.metadata_batch_size entries, each
 *	  in a transaction of its own; what was written is forgotten after the commit.
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "agent_metadata.h"
#include "metadata_blob.h"
#include "metadata_flush.h"
#include "metadata_stats.h"
#include "settings.h"

/* Agents that are written together, and their entries. */
typedef struct Batch
{
	BatcherCopy *copies;
	int ncopies;
	MetadataRow *rows;
	int nrows;
} Batch;

/*
 * Copy agents until the batch is full, at least one. Returns how many of the n were looked at;
 * those that have vanished meanwhile are passed over.
 */
static int
fill_batch(int slot, const BatcherAgent *agents, int n, Batch *batch)
{
	int looked = 0;

	batch->copies = palloc_array(BatcherCopy, n);
	batch->ncopies = 0;
	batch->nrows = 0;
	for (; looked < n && batch->nrows < setting_metadata_batch_size; looked++)
	{
		BatcherCopy *copy = &batch->copies[batch->ncopies];

		CHECK_FOR_INTERRUPTS();
		if (!batcher_copy(slot, &agents[looked].agent, copy))
			continue;
		if (batch->nrows > 0 && batch->nrows + copy->nkeys > setting_metadata_batch_size)
			break;
		batch->nrows += copy->nkeys;
		batch->ncopies++;
	}
	return looked;
}

/* A text Datum of a record's text. */
static Datum
text_datum(ReportText string)
{
	return PointerGetDatum(cstring_to_text_with_len(string.data, (int) string.length));
}

/* Turn the copies into rows. */
static void
build_rows(Batch *batch)
{
	int n = 0;

	batch->rows = palloc_array(MetadataRow, batch->nrows + 1);
	for (int i = 0; i < batch->ncopies; i++)
	{
		const BatcherCopy *copy = &batch->copies[i];
		Size position = 0;
		BlobRecord record;

		while (blob_next(copy->blob, copy->size, &position, &record))
		{
			MetadataRow *row = &batch->rows[n++];

			row->agent = copy->agent;
			row->key = text_datum(record.key);
			row->value = text_datum(record.value);
			row->error = text_datum(record.error);
			row->collected_at = record.collected_at;
		}
	}
	Assert(n == batch->nrows);
}

/* Write a batch and commit. */
static MetadataCounts
write_batch(MetadataFlush *flush, Batch *batch)
{
	MetadataCounts counts;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	counts = agent_metadata_write(batch->rows, batch->nrows);
	SPI_finish();
	PopActiveSnapshot();
	flush->publishing = true;
	CommitTransactionCommand();
	compat_notify_committed();
	flush->publishing = false;
	return counts;
}

/* Write one batch of the agents that wait. Returns how many of them are done with. */
static int
flush_batch(MetadataFlush *flush, const BatcherAgent *agents, int n)
{
	TimestampTz start = GetCurrentTimestamp();
	Batch batch;
	int looked = fill_batch(flush->slot, agents, n, &batch);
	MetadataCounts counts;

	if (batch.ncopies == 0)
		return looked;
	build_rows(&batch);
	counts = write_batch(flush, &batch);
	for (int i = 0; i < batch.ncopies; i++)
		batcher_forget(flush->slot, &batch.copies[i].agent, batch.copies[i].sequence);
	flush->written += batch.nrows;
	metadata_stats_batch(flush->slot, flush->reason, batch.copies, batch.ncopies, batch.nrows,
						 counts.skipped, start);
	return looked;
}

/* Does the flush go on with another batch? */
static bool
goes_on(const MetadataFlush *flush)
{
	if (flush->deadline != 0 && GetCurrentTimestamp() >= flush->deadline)
		return false;
	/* what is left of a full batch is not urgent */
	return flush->reason != FLUSH_CAPACITY ||
		   pg_atomic_read_u64(&batcher_database(flush->slot)->waiting) >=
			   (uint64) setting_metadata_batch_size;
}

/*
 * Write what waits now. Called outside of a transaction; raises what the writing raises, with
 * nothing forgotten that was not committed. Memory is taken from the current context.
 */
void
metadata_flush(MetadataFlush *flush)
{
	MemoryContext round = CurrentMemoryContext;
	MemoryContext batch =
		AllocSetContextCreate(round, "agent metadata batch", ALLOCSET_DEFAULT_SIZES);
	BatcherAgent *agents;
	int n = batcher_list(flush->slot, &agents);

	for (int done = 0; done < n && goes_on(flush);)
	{
		MemoryContextSwitchTo(batch);
		done += flush_batch(flush, agents + done, n - done);
		MemoryContextSwitchTo(round);
		MemoryContextReset(batch);
	}
	MemoryContextDelete(batch);
}

/* Count a flush that raised an error. */
void
metadata_flush_failed(MetadataFlush *flush, const char *message)
{
	metadata_stats_failure(flush->slot, flush->publishing, message);
}
