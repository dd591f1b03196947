/*
 * metadata_flush.c
 *	  Writing what the buffer holds: batches of at most prebuild.metadata_batch_size entries, each
 *	  in a transaction of its own; what was written, or refused by a constraint or a trigger for
 *	  good, is forgotten after the commit.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "agent_metadata.h"
#include "extension_lock.h"
#include "metadata_blob.h"
#include "metadata_flush.h"
#include "metadata_stats.h"
#include "settings.h"

/* The shortest time between two warnings of refused entries, in microseconds. */
#define WARNING_INTERVAL (10 * USECS_PER_SEC)

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

/* Write a batch and commit. *refusal receives the first row that was refused, if any. */
static MetadataCounts
write_batch(MetadataFlush *flush, Batch *batch, MetadataRefusal *refusal)
{
	MemoryContext context = CurrentMemoryContext;
	MetadataCounts counts;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) extension_hold();
	/* the refusal is to outlive the transaction */
	MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	counts = agent_metadata_write_accepted(batch->rows, batch->nrows, refusal);
	PopActiveSnapshot();
	flush->publishing = true;
	CommitTransactionCommand();
	compat_notify_committed();
	flush->publishing = false;
	MemoryContextSwitchTo(context);
	return counts;
}

/* Count entries that were refused and are lost, and warn of it now and then. */
static void
report_refused(int slot, const MetadataRefusal *refusal, int64 n)
{
	/* a worker serves one database */
	static TimestampTz next_warning = 0;
	TimestampTz now = GetCurrentTimestamp();
	const ErrorData *error = refusal->error;
	Datum agent = DirectFunctionCall1(uuid_out, UUIDPGetDatum(&refusal->row->agent));

	metadata_stats_refused(slot, n, error->message);
	if (now < next_warning)
		return;
	next_warning = now + WARNING_INTERVAL;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("agent metadata was refused and is dropped: key \"%s\" of agent %s: %s",
					TextDatumGetCString(refusal->row->key), DatumGetCString(agent), error->message),
			 errdetail_plural("%lld entry of its batch was refused.",
							  "%lld entries of its batch were refused.", (unsigned long) n,
							  (long long) n),
			 errhint("A constraint or a trigger of workspace_agent_metadata refuses it. "
					 "prebuild_metadata_stats counts them all.")));
}

/* Write one batch of the agents that wait. Returns how many of them are done with. */
static int
flush_batch(MetadataFlush *flush, const BatcherAgent *agents, int n)
{
	TimestampTz start = GetCurrentTimestamp();
	Batch batch;
	int looked = fill_batch(flush->slot, agents, n, &batch);
	MetadataRefusal refusal;
	MetadataCounts counts;

	if (batch.ncopies == 0)
		return looked;
	build_rows(&batch);
	counts = write_batch(flush, &batch, &refusal);
	for (int i = 0; i < batch.ncopies; i++)
		batcher_forget(flush->slot, &batch.copies[i].agent, batch.copies[i].sequence);
	flush->written += batch.nrows;
	metadata_stats_batch(flush->slot, flush->reason, batch.copies, batch.ncopies, &counts, start);
	if (counts.refused > 0)
		report_refused(flush->slot, &refusal, counts.refused);
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
