/*
 * metadata_flush.c
 *	  Flush the buffer in batches, each in a transaction of its own. After the commit, the buffer
 *	  forgets the rows that were written, and those that a constraint or a trigger refused for good.
 *
 * PostgreSQL wakes every session that listens for every commit with a message. With many listeners
 * that costs more than the writing. So a batch takes all that waits, up to GATHERED times
 * prebuild.metadata_batch_size entries. A flush for capacity takes whole multiples of it, and leaves
 * the rest to the next one.
 *
 * One refused row must not keep all other metadata out of the table. On the other hand, a table
 * that takes no rows for a while (because a right is missing, say) must not cost any metadata. If
 * an error's code does not tell the two apart (metadata_faults.c), the batch fails and the worker
 * tries it again, because most such errors pass. After PATIENCE such failures in a row, the flush
 * takes a sample. It writes some agents from all over the buffer, leaves out each row that fails
 * alone, and leaves those rows in the buffer. If some rows of the sample go in, refusals are the
 * rows' own fault, whatever their code. Then the flush continues, and drops and counts refused
 * rows. If none goes in, the flush fails and drops nothing. As an agent will likely report a
 * refused row again, each flush of the next ALERT_INTERVAL takes a sample without waiting for
 * failures.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "metadata/agent_metadata.h"
#include "base/extension_lock.h"
#include "metadata/metadata_blob.h"
#include "metadata/metadata_faults.h"
#include "metadata/metadata_flush.h"
#include "metadata/metadata_stats.h"
#include "base/patience.h"
#include "settings.h"

/* How many times prebuild.metadata_batch_size entries a batch takes at most. */
#define GATHERED 10

/* How long a flush waits for other sessions' locks in all, in milliseconds. */
#define FLUSH_PATIENCE_MS 5000

/* The shortest time between two warnings about refused entries, in microseconds. */
#define WARNING_INTERVAL (10 * USECS_PER_SEC)

/* After so many failures in doubt in a row, a flush takes a sample. */
#define PATIENCE 3

/* How long after a refusal in doubt each flush takes a sample, in microseconds. */
#define ALERT_INTERVAL (10 * USECS_PER_MINUTE)

/* How many agents a sample has. */
#define SAMPLE_AGENTS 16

/* What this process knows about errors in doubt. It serves one database. */
static struct
{
	int failures; /* in a row */
	TimestampTz alert_until;
	uint32 samples; /* taken so far, so that each one is different */
} doubts;

/* What a flush does with rows that fail alone. */
typedef enum Refusing
{
	DROP_BY_CODE, /* drop them if the error's code blames the row; otherwise fail the batch */
	DROP_ANY,	  /* drop them */
	KEEP_ANY,	  /* leave them in the buffer */
} Refusing;

/* The agents of a batch, and their entries. */
typedef struct Batch
{
	BatcherCopy *copies;
	int ncopies;
	MetadataRow *rows;
	int nrows;
} Batch;

/* Return how many entries a flush takes: for capacity, the full batches that wait now. */
static uint64
entries_to_take(const MetadataFlush *flush)
{
	uint64 waiting = pg_atomic_read_u64(&batcher_database(flush->slot)->waiting);

	return flush->reason == FLUSH_CAPACITY ? waiting - waiting % setting_metadata_batch_size
										   : PG_UINT64_MAX;
}

/*
 * Copy agents until the batch is full, but at least one. Skips agents that no longer wait. Returns
 * how many of the n agents it looked at.
 */
static int
fill_batch(const MetadataFlush *flush, const BatcherAgent *agents, int n, Batch *batch)
{
	int most = (int) Min(flush->left, GATHERED * (uint64) setting_metadata_batch_size);
	int looked = 0;

	batch->copies = palloc_array(BatcherCopy, n);
	batch->ncopies = 0;
	batch->nrows = 0;
	for (; looked < n && batch->nrows < most; looked++)
	{
		BatcherCopy *copy = &batch->copies[batch->ncopies];

		CHECK_FOR_INTERRUPTS();
		if (!batcher_copy(flush->slot, &agents[looked].agent, copy))
			continue;
		if (batch->nrows > 0 && batch->nrows + copy->nkeys > most)
			break;
		batch->nrows += copy->nkeys;
		batch->ncopies++;
	}
	return looked;
}

/* Return a record's text as a Datum of type text. */
static Datum
text_datum(ReportText string)
{
	return PointerGetDatum(cstring_to_text_with_len(string.data, (int) string.length));
}

/* Turn the batch's copies into rows. */
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

/* Write the rows. If that raises an error in doubt, count it in doubts.failures. */
static MetadataCounts
write_rows(Batch *batch, Refusing refusing, MetadataRefusal *refusal)
{
	MetadataCounts counts;

	PG_TRY();
	{
		counts = agent_metadata_write_accepted(
			batch->rows, batch->nrows,
			refusing == DROP_BY_CODE ? metadata_fault_is_a_rows : metadata_fault_may_be_a_rows,
			refusal);
	}
	PG_CATCH();
	{
		if (metadata_fault_of(geterrcode()) == FAULT_IN_DOUBT)
			doubts.failures++;
		PG_RE_THROW();
	}
	PG_END_TRY();
	return counts;
}

/*
 * Write a batch and commit. *refusal receives the first refused row, if any, in the current
 * context, which must outlive the transaction.
 */
static MetadataCounts
write_batch(MetadataFlush *flush, Batch *batch, Refusing refusing, MetadataRefusal *refusal)
{
	MemoryContext context = CurrentMemoryContext;
	MetadataCounts counts;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) extension_hold();
	/* the refusal must outlive the transaction */
	MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	counts = write_rows(batch, refusing, refusal);
	PopActiveSnapshot();
	flush->publishing = true;
	CommitTransactionCommand();
	compat_notify_committed();
	flush->publishing = false;
	MemoryContextSwitchTo(context);
	return counts;
}

/* Count n refused entries that are dropped. Warn about them, once per WARNING_INTERVAL. */
static void
report_refused(int slot, const MetadataRefusal *refusal, int64 n)
{
	/* a worker serves one database */
	static TimestampTz next_warning = 0;
	TimestampTz now = GetCurrentTimestamp();
	const ErrorData *error = refusal->error;
	Datum agent = DirectFunctionCall1(uuid_out, UUIDPGetDatum(&refusal->row->agent));

	metadata_stats_refused(slot, n, error->message);
	if (refusal->in_doubt)
		doubts.alert_until = now + ALERT_INTERVAL;
	if (now < next_warning)
		return;
	next_warning = now + WARNING_INTERVAL;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("dropping refused metadata key \"%s\" of agent %s: %s",
					TextDatumGetCString(refusal->row->key), DatumGetCString(agent), error->message),
			 errdetail_plural("%lld entry of its batch is dropped.",
							  "%lld entries of its batch are dropped.", (unsigned long) n,
							  (long long) n),
			 errhint("A constraint or a trigger of workspace_agent_metadata refuses the entry. "
					 "Column refused of prebuild_metadata_stats counts all such entries.")));
}

/* Have the buffer forget the batch. keep_refused: except agents with a refused row. */
static void
forget_batch(MetadataFlush *flush, const Batch *batch, bool keep_refused)
{
	const MetadataRow *row = batch->rows;

	for (int i = 0; i < batch->ncopies; i++)
	{
		const BatcherCopy *copy = &batch->copies[i];
		bool refused = false;

		/* the rows are in the order of the copies */
		for (int key = 0; key < copy->nkeys; key++)
			refused |= (row++)->refused;
		if (keep_refused && refused)
			continue;
		batcher_forget(flush->slot, &copy->agent, copy->sequence);
		flush->written += copy->nkeys;
	}
}

/*
 * Write one batch of the waiting agents. Returns how many of them it looked at. *counts and
 * *refusal receive the results, in the current memory context.
 */
static int
flush_batch(MetadataFlush *flush, const BatcherAgent *agents, int n, Refusing refusing,
			MetadataCounts *counts, MetadataRefusal *refusal)
{
	TimestampTz start = GetCurrentTimestamp();
	Batch batch;
	int looked = fill_batch(flush, agents, n, &batch);

	*counts = (MetadataCounts){ 0 };
	*refusal = (MetadataRefusal){ 0 };
	if (batch.ncopies == 0)
		return looked;
	flush->left -= Min(flush->left, (uint64) batch.nrows);
	build_rows(&batch);
	*counts = write_batch(flush, &batch, refusing, refusal);
	forget_batch(flush, &batch, refusing == KEEP_ANY);
	if (refusing != KEEP_ANY || counts->refused < batch.nrows)
		metadata_stats_batch(flush->slot, flush->reason, batch.copies, batch.ncopies, counts,
							 start);
	if (refusing != KEEP_ANY && counts->refused > 0)
		report_refused(flush->slot, refusal, counts->refused);
	return looked;
}

/*
 * Does the table take rows? Writes a sample of the waiting agents, from all over the buffer and
 * different ones each time. Returns true if a row went in. If none did, raises the error of the
 * first refused row, if any.
 */
static bool
table_takes_rows(MetadataFlush *flush, const BatcherAgent *agents, int n)
{
	MemoryContext round = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(round, "agent metadata sample", ALLOCSET_DEFAULT_SIZES);
	/* by one further each time: any other distance may meet the same agents again, for ever */
	uint64 first = doubts.samples++;
	int step = Max(n / SAMPLE_AGENTS, 1);
	BatcherAgent sample[SAMPLE_AGENTS];
	int nsample = Min(n, SAMPLE_AGENTS);
	int64 accepted = 0;
	const ErrorData *error = NULL;

	flush->left = PG_UINT64_MAX;
	for (int i = 0; i < nsample; i++)
		sample[i] = agents[(first + (uint64) i * step) % n];
	MemoryContextSwitchTo(context);
	for (int done = 0; done < nsample;)
	{
		MetadataCounts counts;
		MetadataRefusal refusal;

		done += flush_batch(flush, sample + done, nsample - done, KEEP_ANY, &counts, &refusal);
		accepted += counts.updated + counts.inserted;
		if (error == NULL)
			error = refusal.error;
	}
	MemoryContextSwitchTo(round);
	if (accepted == 0 && error != NULL)
		ReThrowError(unconstify(ErrorData *, error));
	MemoryContextDelete(context);
	return accepted > 0;
}

/* Does the flush continue with another batch? */
static bool
goes_on(const MetadataFlush *flush)
{
	if (flush->deadline != 0 && GetCurrentTimestamp() >= flush->deadline)
		return false;
	/* a flush for capacity leaves a batch that is not full to a later flush */
	return flush->left >= (uint64) setting_metadata_batch_size;
}

/* Write all agents that wait now, batch by batch. */
static void
flush_batches(MetadataFlush *flush)
{
	MemoryContext round = CurrentMemoryContext;
	MemoryContext batch =
		AllocSetContextCreate(round, "agent metadata batch", ALLOCSET_DEFAULT_SIZES);
	BatcherAgent *agents;
	int n = batcher_list(flush->slot, &agents);
	bool doubtful = doubts.failures >= PATIENCE || GetCurrentTimestamp() < doubts.alert_until;
	Refusing refusing = doubtful && table_takes_rows(flush, agents, n) ? DROP_ANY : DROP_BY_CODE;

	flush->left = entries_to_take(flush);
	for (int done = 0; done < n && goes_on(flush);)
	{
		MetadataCounts counts;
		MetadataRefusal refusal;

		MemoryContextSwitchTo(batch);
		done += flush_batch(flush, agents + done, n - done, refusing, &counts, &refusal);
		MemoryContextSwitchTo(round);
		MemoryContextReset(batch);
	}
	MemoryContextDelete(batch);
	doubts.failures = 0;
}

/*
 * Flush the agents that wait now. Call it outside of a transaction. Raises what the writing raises;
 * even then the buffer forgets only what was committed. Allocates in the current context.
 */
void
metadata_flush(MetadataFlush *flush)
{
	/* one limit for all batches together; the worker's lock_timeout ends a single wait */
	patience_begin(FLUSH_PATIENCE_MS);
	PG_TRY();
	{
		flush_batches(flush);
	}
	PG_FINALLY();
	{
		patience_end();
	}
	PG_END_TRY();
}

/* Count a flush that raised an error. */
void
metadata_flush_failed(MetadataFlush *flush, const char *message)
{
	metadata_stats_failure(flush->slot, flush->publishing, message);
}
