/*
 * agent_metadata.c
 *	  Writing a batch of agent metadata, in a number of statements that does not depend on its
 *	  size: lock the agents, update, insert where rows are missing and wanted, publish.
 *
 * Locking contract: agents are locked FOR KEY SHARE in the order of their ids, then rows are
 * locked and written in one go in the order of (agent id, key's bytes). So two batches never
 * deadlock, and neither do a batch and the deletion of an agent, whose cascade would otherwise
 * take the rows in an order of its own. An update that is followed by inserts would be two goes:
 * where a row turns out to be missing, the update is rolled back with its locks, and the whole
 * batch is upserted instead. This happens once per new key; the plain update is the fast way for
 * all the reports that follow. A batch of which rows are refused is halved and becomes several
 * goes, which ascend in the same order and were rolled back where they failed.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "metadata/agent_metadata.h"
#include "base/arguments.h"
#include "catalog/control_plane_catalog.h"
#include "metadata/metadata_channel.h"
#include "metadata/metadata_faults.h"
#include "metadata/metadata_statements.h"
#include "base/plans.h"
#include "metadata/report_limits.h"
#include "base/result_row.h"
#include "base/sql_arrays.h"
#include "base/subtransaction.h"

/* How many characters are taken (0: any number). */
typedef struct ColumnLimits
{
	int key;
	int value;
	int error;
} ColumnLimits;

/* How many characters a column of type varchar takes; 0: any number. */
static int
column_limit(Oid table, const char *name)
{
	Oid type;
	int32 typmod;
	Oid collation;

	get_atttypetypmodcoll(table, control_plane_column(table, name), &type, &typmod, &collation);
	return type == VARCHAROID && typmod >= VARHDRSZ ? typmod - VARHDRSZ : 0;
}

/* Read the columns' limits, and make sure that the tables and their columns are there. */
static ColumnLimits
read_column_limits(void)
{
	Oid table = control_plane_table("workspace_agent_metadata", false);
	ColumnLimits limits;

	control_plane_require_table("workspace_agent_metadata");
	control_plane_require_table("workspace_agents");
	limits.key = column_limit(table, "key");
	if (limits.key == 0 || limits.key > REPORT_KEY_CHARS)
		limits.key = REPORT_KEY_CHARS;
	limits.value = column_limit(table, "value");
	limits.error = column_limit(table, "error");
	return limits;
}

/* Has the text at most so many characters? */
static bool
fits(Datum value, int limit)
{
	text *string = (text *) DatumGetPointer(value);
	int bytes = VARSIZE_ANY_EXHDR(string);

	return limit == 0 || bytes <= limit ||
		   pg_mbstrlen_with_len(VARDATA_ANY(string), bytes) <= limit;
}

/* The rows that can be written, in that order and without duplicates. *kept receives their number. */
static MetadataRow **
sort_rows(MetadataRow *rows, int n, int *kept)
{
	ColumnLimits limits = read_column_limits();
	MetadataRow **sorted = palloc_array(MetadataRow *, n + 1);
	int fitting = 0;

	for (int i = 0; i < n; i++)
	{
		rows[i].written = false;
		rows[i].refused = false;
		/* the display name takes as many characters as the key */
		if (fits(rows[i].key, limits.key) && fits(rows[i].value, limits.value) &&
			fits(rows[i].error, limits.error))
			sorted[fitting++] = &rows[i];
	}
	*kept = metadata_rows_sort(sorted, fitting);
	return sorted;
}

/* Publish the rows that were written. Returns the number of messages. */
static int
publish_written(MetadataRow **rows, int n)
{
	FanoutChange *changes = palloc_array(FanoutChange, n + 1);
	int nchanges = 0;
	int messages;

	for (int i = 0; i < n; i++)
	{
		text *key = (text *) DatumGetPointer(rows[i]->key);

		if (rows[i]->written)
			changes[nchanges++] = (FanoutChange){ .agent = rows[i]->agent,
												  .key = VARDATA_ANY(key),
												  .key_length = VARSIZE_ANY_EXHDR(key),
												  .collected_at = rows[i]->collected_at };
	}
	messages = fanout_publish(changes, nchanges);
	pfree(changes);
	return messages;
}

/* Write and publish rows that are sorted and unique. */
static void
write_sorted(MetadataRow **rows, int n, MetadataCounts *counts)
{
	EphemeralNamedRelation batch;

	n = metadata_lock_agents(rows, n);
	if (n == 0)
		return;
	batch = metadata_rows_register(rows, n);
	metadata_update_or_upsert(rows, n, counts);
	metadata_rows_unregister(batch);
	counts->notified = publish_written(rows, n);
}

/*
 * write_sorted() under the statements' settings, with the fan-out trigger silenced. check: have all
 * that is deferred checked now, which is for a transaction of our own.
 */
static pg_noinline void
write_silently(MetadataRow **rows, int n, bool check, MetadataCounts *counts)
{
	int nest_level = metadata_settings();
	bool suppressed = fanout_suppress(true);

	PG_TRY();
	{
		write_sorted(rows, n, counts);
		if (check)
			SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);
	}
	PG_FINALLY();
	{
		fanout_suppress(suppressed);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nest_level);
}

/*
 * Write a batch and publish what changed. SPI must be connected; memory is taken from the current
 * context. Raises what the statements raise, and undefined_table or undefined_column where the
 * control plane is not there.
 *
 * The newest row of an (agent, key) wins, in the batch and against what is stored; on a tie the
 * later element, and the batch. Rows of unknown agents, and rows too long for their columns, are
 * skipped, as a row that makes its batch fail would make it fail for ever.
 */
MetadataCounts
agent_metadata_write(MetadataRow *rows, int n)
{
	MetadataCounts counts = { 0 };
	int kept;
	MetadataRow **sorted = sort_rows(rows, n, &kept);

	if (kept > 0)
		write_silently(sorted, kept, false, &counts);
	counts.skipped = n - counts.updated - counts.inserted;
	pfree(sorted);
	return counts;
}

/* A batch that is written without those of its rows that the table refuses. */
typedef struct Accepting
{
	MetadataRow **rows; /* sorted */
	MetadataCounts counts;
	MetadataRefusal *refusal;
} Accepting;

/* Write some of the rows, in a subtransaction with an SPI connection, and so a "batch", of its own. */
static void
write_some(void *argument, int first, int n)
{
	Accepting *accepting = argument;
	MetadataRow **rows = palloc_array(MetadataRow *, n);
	MetadataCounts counts = { 0 };

	for (int i = 0; i < n; i++)
	{
		rows[i] = accepting->rows[first + i];
		/* by a try that was rolled back */
		rows[i]->written = false;
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	write_silently(rows, n, true, &counts);
	SPI_finish();
	accepting->counts.updated += counts.updated;
	accepting->counts.inserted += counts.inserted;
	accepting->counts.notified += counts.notified;
}

/* Mark and count a row that was refused. */
static void
refuse_row(void *argument, int item, const ErrorData *error)
{
	Accepting *accepting = argument;
	MetadataRefusal *refusal = accepting->refusal;

	accepting->rows[item]->refused = true;
	if (accepting->counts.refused++ == 0)
	{
		refusal->row = accepting->rows[item];
		refusal->error = error;
	}
	refusal->in_doubt |= !metadata_fault_is_a_rows(error);
}

/*
 * agent_metadata_write() for a batch that nobody corrects, in a transaction of its own: rows that
 * the table refuses, by a constraint or a trigger, are left out, as otherwise they would make their
 * batch fail for ever. is_fault says which errors are taken for such a refusal; all others are
 * raised. Marks the rows that are refused; *refusal receives the first of them. SPI need not be
 * connected.
 */
MetadataCounts
agent_metadata_write_accepted(MetadataRow *rows, int n, bool (*is_fault)(const ErrorData *error),
							  MetadataRefusal *refusal)
{
	int kept;
	Accepting accepting = { .rows = sort_rows(rows, n, &kept), .refusal = refusal };
	Halving halving = { &accepting, write_some, is_fault, refuse_row };
	MetadataCounts *counts = &accepting.counts;

	*refusal = (MetadataRefusal){ 0 };
	subtransaction_halve(&halving, 0, kept);
	counts->skipped = n - counts->updated - counts->inserted - counts->refused;
	return *counts;
}

#define UPSERT_ARGUMENTS 5

PG_FUNCTION_INFO_V1(prebuild_agent_metadata_upsert);

/*
 * SQL: prebuild_agent_metadata_upsert(agent_ids, keys, metadata_values, metadata_errors,
 * collected_at) → (updated, inserted, skipped, notified).
 */
Datum
prebuild_agent_metadata_upsert(PG_FUNCTION_ARGS)
{
	static const char *const names[UPSERT_ARGUMENTS] = { "agent_ids", "keys", "metadata_values",
														 "metadata_errors", "collected_at" };
	static const Oid types[UPSERT_ARGUMENTS] = { UUIDOID, TEXTOID, TEXTOID, TEXTOID,
												 TIMESTAMPTZOID };
	Datum *columns[UPSERT_ARGUMENTS];
	int lengths[UPSERT_ARGUMENTS];
	MetadataRow *rows;
	MetadataCounts counts;
	ResultRow row;

	PreventCommandDuringRecovery("prebuild_agent_metadata_upsert()");
	for (int i = 0; i < UPSERT_ARGUMENTS; i++)
	{
		argument_require(fcinfo, i, names[i]);
		columns[i] = types[i] == TIMESTAMPTZOID
						 ? sql_array_times(PG_GETARG_DATUM(i), names[i], &lengths[i])
						 : sql_array_elements(PG_GETARG_DATUM(i), types[i], names[i], &lengths[i]);
		sql_array_same_length(lengths[i], lengths[0], names[i], names[0]);
	}

	rows = palloc_array(MetadataRow, lengths[0] + 1);
	for (int i = 0; i < lengths[0]; i++)
	{
		rows[i].agent = *DatumGetUUIDP(columns[0][i]);
		rows[i].key = columns[1][i];
		rows[i].value = columns[2][i];
		rows[i].error = columns[3][i];
		rows[i].collected_at = DatumGetTimestampTz(columns[4][i]);
	}
	plans_enter(fcinfo);
	counts = agent_metadata_write(rows, lengths[0]);
	plans_leave();

	row.n = 0;
	result_put_int8(&row, counts.updated);
	result_put_int8(&row, counts.inserted);
	result_put_int8(&row, counts.skipped);
	result_put_int4(&row, counts.notified);
	PG_RETURN_DATUM(result_row_datum(fcinfo, &row));
}
