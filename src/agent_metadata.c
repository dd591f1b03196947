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
 * all the reports that follow.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "mb/pg_wchar.h"
#include "executor/tuptable.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/queryenvironment.h"
#include "utils/resowner.h"

#include "agent_metadata.h"
#include "arguments.h"
#include "control_plane_catalog.h"
#include "fanout.h"
#include "plans.h"
#include "settings.h"
#include "subtransaction.h"
#include "sql_arrays.h"

#define SAME_ROW "m.workspace_agent_id {=} b.agent_id AND m.key {=} b.key"

/* "batch" is not a table: the statements read the tuplestore of that name, see register_batch(). */
static char batch_name[] = "batch";

static const char lock_agents[] = "SELECT a.id FROM {cp}workspace_agents a "
								  "WHERE a.id {=} ANY ($1) ORDER BY a.id FOR KEY SHARE OF a";

static const char lock_rows[] =
	"SELECT FROM batch b JOIN {cp}workspace_agent_metadata m ON " SAME_ROW
	" ORDER BY b.number FOR NO KEY UPDATE OF m";

static const char update_rows[] =
	"UPDATE {cp}workspace_agent_metadata m "
	"SET value = b.value, error = b.error, collected_at = b.collected_at FROM batch b "
	"WHERE " SAME_ROW " AND m.collected_at {<=} b.collected_at RETURNING b.number";

static const char find_missing[] =
	"SELECT FROM batch b WHERE NOT EXISTS "
	"(SELECT FROM {cp}workspace_agent_metadata m WHERE " SAME_ROW ") LIMIT 1";

static const char upsert_rows[] =
	"INSERT INTO {cp}workspace_agent_metadata AS m (workspace_agent_id, key, display_name, "
	"script, timeout, \"interval\", value, error, collected_at) "
	"SELECT b.agent_id, b.key, b.key, ''::pg_catalog.text, 0, 0, b.value, b.error, "
	"b.collected_at FROM batch b ORDER BY b.number "
	"ON CONFLICT (workspace_agent_id, key) DO UPDATE "
	"SET value = excluded.value, error = excluded.error, collected_at = excluded.collected_at "
	"WHERE m.collected_at {<=} excluded.collected_at "
	"RETURNING m.workspace_agent_id, m.key::pg_catalog.text, m.xmax {=} '0'::pg_catalog.xid";

/* How many characters the columns take (0: any number). */
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

/* Order rows by agent id and key: the order in which they are written. */
static int
compare_places(const MetadataRow *left, const MetadataRow *right)
{
	text *left_key = (text *) DatumGetPointer(left->key);
	text *right_key = (text *) DatumGetPointer(right->key);
	int left_length = VARSIZE_ANY_EXHDR(left_key);
	int right_length = VARSIZE_ANY_EXHDR(right_key);
	int order = memcmp(&left->agent, &right->agent, UUID_LEN);

	if (order == 0)
		order =
			memcmp(VARDATA_ANY(left_key), VARDATA_ANY(right_key), Min(left_length, right_length));
	return order != 0 ? order : left_length - right_length;
}

/* Order rows by place, and those of one place with the one that wins first. */
static int
compare_rows(const void *a, const void *b)
{
	const MetadataRow *left = *(MetadataRow *const *) a;
	const MetadataRow *right = *(MetadataRow *const *) b;
	int order = compare_places(left, right);

	if (order == 0)
		order =
			(left->collected_at < right->collected_at) - (left->collected_at > right->collected_at);
	/* rows of a batch are one array: the later element is the one with the higher address */
	return order != 0 ? order : (left < right) - (left > right);
}

/*
 * The rows that can be written, sorted and without duplicates. *kept receives their number.
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
		/* the display name takes as many characters as the key */
		if (fits(rows[i].key, limits.key) && fits(rows[i].value, limits.value) &&
			fits(rows[i].error, limits.error))
			sorted[fitting++] = &rows[i];
	}
	qsort(sorted, fitting, sizeof(MetadataRow *), compare_rows);

	*kept = 0;
	for (int i = 0; i < fitting; i++)
		if (*kept == 0 || compare_places(sorted[*kept - 1], sorted[i]) != 0)
			sorted[(*kept)++] = sorted[i];
	return sorted;
}

/*
 * Make the rows readable for the statements of this SPI connection, as a relation named "batch":
 * a tuplestore costs a third of unnest() over five arrays.
 */
static EphemeralNamedRelation
register_batch(MetadataRow **rows, int n)
{
	EphemeralNamedRelation batch = palloc0(sizeof(EphemeralNamedRelationData));
	TupleDesc columns = CreateTemplateTupleDesc(6);
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	bool nulls[6] = { false };

	TupleDescInitEntry(columns, 1, "agent_id", UUIDOID, -1, 0);
	TupleDescInitEntry(columns, 2, "key", TEXTOID, -1, 0);
	TupleDescInitEntry(columns, 3, "value", TEXTOID, -1, 0);
	TupleDescInitEntry(columns, 4, "error", TEXTOID, -1, 0);
	TupleDescInitEntry(columns, 5, "collected_at", TIMESTAMPTZOID, -1, 0);
	TupleDescInitEntry(columns, 6, "number", INT4OID, -1, 0);
	for (int i = 0; i < n; i++)
	{
		Datum values[6] = { UUIDPGetDatum(&rows[i]->agent),
							rows[i]->key,
							rows[i]->value,
							rows[i]->error,
							TimestampTzGetDatum(rows[i]->collected_at),
							Int32GetDatum(i) };

		tuplestore_putvalues(store, columns, values, nulls);
	}
	batch->md.name = batch_name;
	batch->md.reliddesc = InvalidOid;
	batch->md.tupdesc = columns;
	batch->md.enrtype = ENR_NAMED_TUPLESTORE;
	batch->md.enrtuples = n;
	batch->reldata = store;
	if (SPI_register_relation(batch) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\"", batch_name);
	return batch;
}

/* Undo register_batch(). */
static void
unregister_batch(EphemeralNamedRelation batch)
{
	if (SPI_unregister_relation(batch_name) != SPI_OK_REL_UNREGISTER)
		elog(ERROR, "could not unregister relation \"%s\"", batch_name);
	tuplestore_end(batch->reldata);
}

/*
 * Keep the rows whose agents exist, and lock these. Returns how many of the n remain.
 */
static int
lock_existing_agents(MetadataRow **rows, int n)
{
	static KeptPlan plan;
	static const Oid type = UUIDARRAYOID;
	XLogRecPtr last_record = XactLastRecEnd;
	Datum *ids = palloc_array(Datum, n + 1);
	int nids = 0;
	int kept = 0;
	uint64 found;
	uint64 next = 0;
	Datum array;

	for (int i = 0; i < n; i++)
		if (nids == 0 ||
			memcmp(DatumGetUUIDP(ids[nids - 1]), &rows[i]->agent, sizeof(pg_uuid_t)) != 0)
			ids[nids++] = UUIDPGetDatum(&rows[i]->agent);
	array = PointerGetDatum(construct_array(ids, nids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	found = plan_execute(&plan, lock_agents, PLAN_WRITE, 1, &type, &array, NULL);
	/* locks do not outlive a crash: the commit of an unlogged table's rows need not wait for them */
	XactLastRecEnd = last_record;

	/* both are in the order of ids */
	for (int i = 0; i < n && next < found; i++)
	{
		int order;

		do
		{
			bool null;
			Datum id = SPI_getbinval(SPI_tuptable->vals[next], SPI_tuptable->tupdesc, 1, &null);

			order = memcmp(DatumGetUUIDP(id), &rows[i]->agent, sizeof(pg_uuid_t));
		} while (order < 0 && ++next < found);
		if (next < found && order == 0)
			rows[kept++] = rows[i];
	}
	SPI_freetuptable(SPI_tuptable);
	pfree(ids);
	return kept;
}

/*
 * Does the update visit the rows in the order of the batch? It does when the batch is at the
 * outside of all joins; a table of a few rows may be planned the other way round.
 */
static bool
keeps_batch_order(SPIPlanPtr plan)
{
	CachedPlan *cached = SPI_plan_get_cached_plan(plan);
	Plan *node;
	bool keeps = false;

	if (cached == NULL)
		return false;
	node = linitial_node(PlannedStmt, cached->stmt_list)->planTree;
	while (node != NULL && !keeps)
	{
		if (!IsA(node, ModifyTable) && !IsA(node, NestLoop) && !IsA(node, Result) &&
			!IsA(node, NamedTuplestoreScan))
			break;
		keeps = IsA(node, NamedTuplestoreScan);
		node = node->lefttree;
	}
	ReleaseCachedPlan(cached, CurrentResourceOwner);
	return keeps;
}

/* Receives the numbers of the rows that an update returns, and marks them as written. */
typedef struct MarkReceiver
{
	DestReceiver receiver;
	MetadataRow **rows;
} MarkReceiver;

/* DestReceiver: mark the row whose number was returned. */
static bool
mark_number(TupleTableSlot *slot, DestReceiver *self)
{
	bool null;
	int number = DatumGetInt32(slot_getattr(slot, 1, &null));

	((MarkReceiver *) self)->rows[number]->written = true;
	return true;
}

/* DestReceiver: nothing to prepare. */
static void
mark_startup(DestReceiver *self, int operation, TupleDesc columns)
{
}

/* DestReceiver: nothing to clean up. */
static void
mark_done(DestReceiver *self)
{
}

/* Update the rows that exist and are not newer; marks them as written. Returns their number. */
static int64
update_existing(MetadataRow **rows)
{
	static KeptPlan update_plan;
	static KeptPlan lock_plan;
	MarkReceiver mark = { { mark_number, mark_startup, mark_done, mark_done, DestNone }, rows };
	SPIExecuteOptions options = { .dest = &mark.receiver };
	SPIPlanPtr plan = plan_get(&update_plan, update_rows, 0, NULL);
	int result;

	if (!keeps_batch_order(plan))
	{
		plan_execute(&lock_plan, lock_rows, PLAN_WRITE, 0, NULL, NULL, NULL);
		SPI_freetuptable(SPI_tuptable);
	}
	result = SPI_execute_plan_extended(plan, &options);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

/* Mark the row of this agent and key, which is among the sorted ones, as written. */
static void
mark_written(MetadataRow **rows, int n, pg_uuid_t *agent, Datum key)
{
	MetadataRow wanted = { .agent = *agent, .key = key };
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (compare_places(rows[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n && compare_places(rows[low], &wanted) == 0)
		rows[low]->written = true;
}

/* Is there no stored row for one of the batch? */
static bool
any_missing(void)
{
	static KeptPlan plan;
	bool missing = plan_execute(&plan, find_missing, PLAN_WRITE, 0, NULL, NULL, NULL) > 0;

	SPI_freetuptable(SPI_tuptable);
	return missing;
}

/* Insert or update all rows, except where a newer one is stored; marks them as written. */
static void
upsert_all(MetadataRow **rows, int n, MetadataCounts *counts)
{
	static KeptPlan plan;
	uint64 stored = plan_execute(&plan, upsert_rows, PLAN_WRITE, 0, NULL, NULL, NULL);

	counts->updated = 0;
	for (int i = 0; i < n; i++)
		rows[i]->written = false;
	for (uint64 i = 0; i < stored; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc columns = SPI_tuptable->tupdesc;
		bool null;

		mark_written(rows, n, DatumGetUUIDP(SPI_getbinval(tuple, columns, 1, &null)),
					 SPI_getbinval(tuple, columns, 2, &null));
		if (DatumGetBool(SPI_getbinval(tuple, columns, 3, &null)))
			counts->inserted++;
		else
			counts->updated++;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Should a key that the agent has no row for get one? */
static bool
inserts_missing(void)
{
	if (setting_metadata_insert_missing == INSERT_MISSING_AUTO)
		return !control_plane_is_coder();
	return setting_metadata_insert_missing == INSERT_MISSING_ON;
}

/* An update that is tried. */
typedef struct Update
{
	MetadataRow **rows;
	int n;
	int64 updated;
	bool complete; /* no row was missing */
} Update;

/* Update what is there; to stay when nothing is missing. */
static bool
try_update(void *argument)
{
	Update *update = argument;

	update->updated = update_existing(update->rows);
	update->complete = update->updated == update->n || !any_missing();
	return update->complete;
}

/* Update, or upsert where rows are missing and wanted. */
static void
update_or_upsert(MetadataRow **rows, int n, MetadataCounts *counts)
{
	Update update = { .rows = rows, .n = n };
	ErrorData *error;

	if (!inserts_missing())
	{
		counts->updated = update_existing(rows);
		return;
	}
	error = subtransaction_run(try_update, &update);
	if (error != NULL)
		ReThrowError(error);
	if (update.complete)
		counts->updated = update.updated;
	else
		upsert_all(rows, n, counts);
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

/* Change a setting until the end of the enclosing nest level. */
static void
set_here(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Keep the planner to the one good shape, whatever the statistics say: an index probe for each
 * row of the batch.
 */
static int
pin_plans(void)
{
	int nest_level = NewGUCNestLevel();

	set_here("enable_seqscan", "off");
	set_here("enable_bitmapscan", "off");
	set_here("enable_hashjoin", "off");
	set_here("enable_mergejoin", "off");
	set_here("enable_material", "off");
	set_here("plan_cache_mode", "force_generic_plan");
	return nest_level;
}

/* Write and publish rows that are sorted and unique. */
static void
write_sorted(MetadataRow **rows, int n, MetadataCounts *counts)
{
	EphemeralNamedRelation batch;

	n = lock_existing_agents(rows, n);
	if (n == 0)
		return;
	batch = register_batch(rows, n);
	update_or_upsert(rows, n, counts);
	unregister_batch(batch);
	counts->notified = publish_written(rows, n);
}

/* write_sorted() with the trigger silenced and the planner pinned. */
static pg_noinline void
write_silently(MetadataRow **rows, int n, MetadataCounts *counts)
{
	int nest_level = pin_plans();
	bool suppressed = fanout_suppress(true);

	PG_TRY();
	{
		write_sorted(rows, n, counts);
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
		write_silently(sorted, kept, &counts);
	counts.skipped = n - counts.updated - counts.inserted;
	pfree(sorted);
	return counts;
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
	TupleDesc result_type;
	Datum values[4];
	bool nulls[4] = { false };

	PreventCommandDuringRecovery("prebuild_agent_metadata_upsert()");
	if (get_call_result_type(fcinfo, NULL, &result_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < UPSERT_ARGUMENTS; i++)
	{
		argument_require(fcinfo, i, names[i]);
		columns[i] = sql_array_elements(PG_GETARG_DATUM(i), types[i], names[i], &lengths[i]);
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

	values[0] = Int64GetDatum(counts.updated);
	values[1] = Int64GetDatum(counts.inserted);
	values[2] = Int64GetDatum(counts.skipped);
	values[3] = Int32GetDatum(counts.notified);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(result_type), values, nulls)));
}
