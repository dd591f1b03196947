/*
 * metadata_statements.c
 *	  The statements that write a batch of agent metadata. All run in one SPI connection, between
 *	  metadata_settings() and the end of its nest level. agent_metadata.c has the locking contract.
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/plancache.h"
#include "utils/resowner.h"

#include "catalog/control_plane_catalog.h"
#include "metadata/metadata_statements.h"
#include "base/injected_fault.h"
#include "base/plans.h"
#include "settings.h"
#include "base/subtransaction.h"

#define SAME_ROW "m.workspace_agent_id {=} b.agent_id AND m.key {=} b.key"

/* Plain SQL can store a row with "infinity". It counts as no newer than any report. */
#define NOT_NEWER(than) "(m.collected_at {<=} " than " OR NOT pg_catalog.isfinite(m.collected_at))"

/* metadata_rows_register() makes the relation "batch". */
static const char lock_agents[] = "SELECT a.id FROM {cp}workspace_agents a "
								  "WHERE a.id {=} ANY ($1) ORDER BY a.id FOR KEY SHARE OF a";

static const char lock_rows[] =
	"SELECT FROM batch b JOIN {cp}workspace_agent_metadata m ON " SAME_ROW
	" ORDER BY b.number FOR NO KEY UPDATE OF m";

static const char update_rows[] =
	"UPDATE {cp}workspace_agent_metadata m "
	"SET value = b.value, error = b.error, collected_at = b.collected_at FROM batch b "
	"WHERE " SAME_ROW " AND " NOT_NEWER("b.collected_at") " RETURNING b.number";

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
	"WHERE " NOT_NEWER(
		"excluded.collected_at") " "
								 "RETURNING m.workspace_agent_id, m.key::pg_catalog.text, m.xmax {=} '0'::pg_catalog.xid";

/* Set a setting until the end of the current nest level. */
static void
set_here(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Apply the settings of the statements. The search_path lets the control plane's triggers find its
 * tables. The planner settings force the one good plan whatever the statistics say: an index probe
 * for each row of the batch. Returns the nest level of settings whose end undoes them.
 */
int
metadata_settings(void)
{
	int nest_level = plans_control_plane_path();

	set_here("enable_seqscan", "off");
	set_here("enable_bitmapscan", "off");
	set_here("enable_hashjoin", "off");
	set_here("enable_mergejoin", "off");
	set_here("enable_material", "off");
	set_here("plan_cache_mode", "force_generic_plan");
	/* these settings make a trigger's query without an index look expensive enough for JIT */
	set_here("jit", "off");
	return nest_level;
}

/*
 * Lock the agents of sorted rows FOR KEY SHARE, in the order of their ids, and keep only the rows
 * whose agents exist. Returns how many of the n remain.
 */
int
metadata_lock_agents(MetadataRow **rows, int n)
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
	found = plan_execute(&plan, lock_agents, PLAN_FRESH, 1, &type, &array, NULL);
	/*
	 * Row locks need not survive a crash, so a commit of unlogged rows need not wait for WAL. The
	 * wait would take as long again as the batch, see bench/savings.sh.
	 */
	XactLastRecEnd = last_record;

	/* both lists are in the order of ids */
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
 * Does the update visit the rows in the order of the batch? It does if the batch is the outermost
 * relation of the plan. For a table of a few rows, the planner may choose the other order. To lock
 * the rows in any case would take a fifth to a third more time, see bench/savings.sh.
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

/* A receiver for the row numbers that an update returns. It marks these rows as written. */
typedef struct MarkReceiver
{
	DestReceiver receiver;
	MetadataRow **rows;
} MarkReceiver;

/* DestReceiver: mark the row with the returned number. */
static bool
mark_number(TupleTableSlot *slot, DestReceiver *self)
{
	bool null;
	int number = DatumGetInt32(slot_getattr(slot, 1, &null));

	((MarkReceiver *) self)->rows[number]->written = true;
	return true;
}

/* DestReceiver: needs no preparation. */
static void
mark_startup(DestReceiver *self, int operation, TupleDesc columns)
{
}

/* DestReceiver: needs no cleanup. */
static void
mark_done(DestReceiver *self)
{
}

/*
 * Update the stored rows that are not newer, and mark those of the batch as written. Returns their
 * number. Locks rows in the order of the batch, with a statement of its own if the plan of the
 * update has another order.
 */
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
		plan_execute(&lock_plan, lock_rows, PLAN_FRESH, 0, NULL, NULL, NULL);
		SPI_freetuptable(SPI_tuptable);
	}
	injected_fault_point();
	result = SPI_execute_plan_extended(plan, &options);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

/* Does a row of the batch have no stored row? */
static bool
any_missing(void)
{
	static KeptPlan plan;
	bool missing = plan_execute(&plan, find_missing, PLAN_FRESH, 0, NULL, NULL, NULL) > 0;

	SPI_freetuptable(SPI_tuptable);
	return missing;
}

/* Insert or update all rows except those with a newer stored row. Marks and counts them. */
static void
upsert_all(MetadataRow **rows, int n, MetadataCounts *counts)
{
	static KeptPlan plan;
	uint64 stored = plan_execute(&plan, upsert_rows, PLAN_FRESH, 0, NULL, NULL, NULL);

	counts->updated = 0;
	for (int i = 0; i < n; i++)
		rows[i]->written = false;
	for (uint64 i = 0; i < stored; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc columns = SPI_tuptable->tupdesc;
		bool null;

		metadata_rows_mark(rows, n, DatumGetUUIDP(SPI_getbinval(tuple, columns, 1, &null)),
						   SPI_getbinval(tuple, columns, 2, &null));
		if (DatumGetBool(SPI_getbinval(tuple, columns, 3, &null)))
			counts->inserted++;
		else
			counts->updated++;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Does a key without a stored row get one? */
static bool
inserts_missing(void)
{
	if (setting_metadata_insert_missing == INSERT_MISSING_AUTO)
		return !control_plane_is_coder();
	return setting_metadata_insert_missing == INSERT_MISSING_ON;
}

/* An attempt to update all rows. */
typedef struct Update
{
	MetadataRow **rows;
	int n;
	int64 updated;
	bool complete; /* no row was missing */
} Update;

/* Update the stored rows. Returns whether no row was missing; otherwise the caller rolls back. */
static bool
try_update(void *argument)
{
	Update *update = argument;

	update->updated = update_existing(update->rows);
	update->complete = update->updated == update->n || !any_missing();
	return update->complete;
}

/*
 * Update the rows, which must be registered as "batch". If some are missing and wanted, upsert all
 * of them instead. Marks and counts the written rows. Raises what the statements raise.
 */
void
metadata_update_or_upsert(MetadataRow **rows, int n, MetadataCounts *counts)
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
