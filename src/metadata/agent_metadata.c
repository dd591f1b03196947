/*
 * agent_metadata.c
 *	  Write a batch of agent metadata: lock the agents, update, insert missing rows if wanted,
 *	  publish. The number of statements does not depend on the size of the batch.
 *
 * Locking contract: a batch locks agents FOR KEY SHARE in the order of their ids. Then it locks and
 * writes rows in one sweep in the order of (agent id, key's bytes). So two batches never deadlock.
 * Nor does a batch with the deletion of an agent, whose cascade would otherwise lock the rows in an
 * order of its own. An update with inserts after it would be two sweeps. Therefore, if a row is
 * missing, the update rolls back with its locks, and one upsert writes the whole batch. This
 * happens once per new key; the plain update is the fast path for all later reports. A batch with
 * refused rows is halved into several sweeps. They ascend in the same order, and those that failed
 * have rolled back.
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
#include "base/injected_fault.h"
#include "base/plans.h"
#include "metadata/report_limits.h"
#include "base/result_row.h"
#include "base/sql_arrays.h"
#include "base/subtransaction.h"

/* The lengths of the columns, in characters (0: any length). */
typedef struct ColumnLimits
{
	int key;
	int value;
	int error;
} ColumnLimits;

/* Return the length of a column of type varchar, in characters; 0 if it has no limit. */
static int
column_limit(Oid table, const char *name)
{
	Oid type;
	int32 typmod;
	Oid collation;

	get_atttypetypmodcoll(table, control_plane_column(table, name), &type, &typmod, &collation);
	return type == VARCHAROID && typmod >= VARHDRSZ ? typmod - VARHDRSZ : 0;
}

/*
 * Read the lengths of the columns. Raises undefined_table or undefined_column if a table or a
 * column is missing.
 */
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

/* Does the text have at most limit characters? */
static bool
fits(Datum value, int limit)
{
	text *string = (text *) DatumGetPointer(value);
	int bytes = VARSIZE_ANY_EXHDR(string);

	return limit == 0 || bytes <= limit ||
		   pg_mbstrlen_with_len(VARDATA_ANY(string), bytes) <= limit;
}

/*
 * Return the rows that fit their columns, in the order of writing and without duplicates, palloc'd.
 * *kept receives their number.
 */
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
		/* the display name, which is a copy of the key, has the same length in Coder's schema */
		if (fits(rows[i].key, limits.key) && fits(rows[i].value, limits.value) &&
			fits(rows[i].error, limits.error))
			sorted[fitting++] = &rows[i];
	}
	*kept = metadata_rows_sort(sorted, fitting);
	return sorted;
}

/* Publish the written rows. Returns the number of messages. */
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

/* Write and publish rows, which must be sorted and unique. */
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
 * Call write_sorted() under the statements' settings, and suppress the fan-out trigger meanwhile.
 * check: check all deferred constraints now, which suits only a transaction of our own.
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
		{
			injected_fault_point();
			SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);
		}
	}
	PG_FINALLY();
	{
		fanout_suppress(suppressed);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nest_level);
}

/*
 * Write a batch and publish the changes. SPI must be connected. Allocates in the current context.
 * Locks agents and rows as the head of this file says. Raises what the statements raise, and
 * undefined_table or undefined_column if the control plane is missing.
 *
 * The newest row of an (agent, key) wins, in the batch and against the stored row. On a tie, the
 * later element wins, and the batch wins against the stored row. Skips rows of unknown agents and
 * rows too long for their columns, because each retry of the batch would fail on them again.
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

/* A batch that leaves out the rows that the table refuses. */
typedef struct Accepting
{
	MetadataRow **rows; /* sorted */
	MetadataCounts counts;
	MetadataRefusal *refusal;
} Accepting;

/*
 * Write some of the rows in a subtransaction. It has an SPI connection of its own, because the
 * relation "batch" belongs to the connection.
 */
static void
write_some(void *argument, int first, int n)
{
	Accepting *accepting = argument;
	MetadataRow **rows = palloc_array(MetadataRow *, n);
	MetadataCounts counts = { 0 };

	for (int i = 0; i < n; i++)
	{
		rows[i] = accepting->rows[first + i];
		/* an attempt that rolled back may have set it */
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

/* Mark and count a refused row. Keep the first of them, with its error. */
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
 * Like agent_metadata_write(), but leave out the rows that a constraint or a trigger of the table
 * refuses, because no one corrects a buffered batch, and each retry would fail on them again. Call
 * it in a transaction of its own. is_fault says which errors count as a refusal; raises all others.
 * Marks the refused rows; *refusal receives the first of them. SPI need not be connected.
 */
MetadataCounts
agent_metadata_write_accepted(MetadataRow *rows, int n, bool (*is_fault)(const ErrorData *error),
							  MetadataRefusal *refusal)
{
	int kept;
	Accepting accepting = { .rows = sort_rows(rows, n, &kept), .refusal = refusal };
	const Halving halving = { write_some, is_fault, NULL, refuse_row };
	MetadataCounts *counts = &accepting.counts;

	*refusal = (MetadataRefusal){ 0 };
	subtransaction_halve(&halving, &accepting, 0, kept);
	counts->skipped = n - counts->updated - counts->inserted - counts->refused;
	return *counts;
}

#define UPSERT_ARGUMENTS 5

PG_FUNCTION_INFO_V1(prebuild_agent_metadata_upsert);

/*
 * SQL: prebuild_agent_metadata_upsert(agent_ids, keys, metadata_values, metadata_errors,
 * collected_at) → (updated, inserted, skipped, notified). Raises an error for a null argument or
 * element, for arrays of different lengths, and what agent_metadata_write() raises.
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
