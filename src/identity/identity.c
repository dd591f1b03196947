/*
 * identity.c
 *	  prebuild_agent_identity(): who owns an agent, and where it belongs. Answers from the cache if
 *	  the cache is sure to match the query's result, otherwise runs the query. README.md explains
 *	  the protocol.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "base/id.h"
#include "identity/identity_cache.h"
#include "identity/identity_changes.h"
#include "identity/identity_stats.h"
#include "identity/identity_tables.h"
#include "base/ids.h"
#include "base/injected_fault.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "settings.h"

/*
 * The agents of every build have an identity, not only those of the latest one, because an agent
 * still reports while its workspace is being stopped. The columns are those of
 * prebuild_agent_identity_row.
 */
static const char *const identity_query =
	"SELECT a.id::pg_catalog.uuid, a.name::pg_catalog.text, w.id::pg_catalog.uuid,"
	" w.name::pg_catalog.text, w.owner_id::pg_catalog.uuid, u.username::pg_catalog.text,"
	" w.organization_id::pg_catalog.uuid, w.template_id::pg_catalog.uuid, t.name::pg_catalog.text,"
	" w.autostart_schedule::pg_catalog.text"
	" FROM {cp}workspace_agents a"
	" JOIN {cp}workspace_resources r ON r.id {=} a.resource_id"
	" JOIN {cp}workspace_builds b ON b.job_id {=} r.job_id"
	" JOIN {cp}workspaces w ON w.id {=} b.workspace_id"
	" JOIN {cp}users u ON u.id {=} w.owner_id"
	" JOIN {cp}templates t ON t.id {=} w.template_id"
	" WHERE a.id {=} $1 AND NOT a.deleted AND NOT w.deleted";

/* Columns of the query, counted from 0. */
#define COLUMNS 10
#define COLUMN_AGENT 0
#define COLUMN_WORKSPACE 2
#define COLUMN_OWNER 4
#define COLUMN_TEMPLATE 7

/*
 * Return the query's plan. Look it up again only if the control plane's schema has changed, because
 * the text has no other variable, and expanding it costs a tenth of running it.
 */
static SPIPlanPtr
identity_plan(void)
{
	static const Oid argtypes[] = { UUIDOID };
	static KeptPlan kept;
	static SPIPlanPtr plan = NULL;
	static char schema[NAMEDATALEN];

	if (plan == NULL || strcmp(schema, setting_control_plane_schema) != 0)
	{
		plan = NULL;
		plan = plan_get(&kept, identity_query, lengthof(argtypes), argtypes);
		strlcpy(schema, setting_control_plane_schema, NAMEDATALEN);
	}
	return plan;
}

/*
 * May this call read and fill the cache? function: the OID of the called function. Empties the
 * cache if its size is set to 0, or if the tables have changed.
 */
static bool
may_use_cache(Oid function)
{
	if (setting_identity_cache_size == 0)
		identity_cache_reset();
	if (setting_identity_cache_size == 0 || setting_identity_cache_ttl == 0)
		return false;
	/* an old snapshot, or a standby, sees older rows than the cache may hold */
	if (IsolationUsesXactSnapshot() || RecoveryInProgress())
		return false;
	if (identity_changed_here())
		return false;
	if (!identity_tables_readable(function, GetUserId()))
		return false;
	/* without the triggers, we do not know what this transaction changed */
	return !TransactionIdIsValid(GetTopTransactionIdIfAny()) || identity_tables_watched();
}

/*
 * Put a row of the query into the cache, unless this transaction has written, because it may see
 * its own changes and roll them back later.
 */
static void
keep(const IdentityMoment *before, const Datum *values, HeapTupleHeader row)
{
	const pg_uuid_t *const parts[IDENTITY_PARTS] = {
		[IDENTITY_AGENT] = DatumGetUUIDP(values[COLUMN_AGENT]),
		[IDENTITY_WORKSPACE] = DatumGetUUIDP(values[COLUMN_WORKSPACE]),
		[IDENTITY_OWNER] = DatumGetUUIDP(values[COLUMN_OWNER]),
		[IDENTITY_TEMPLATE] = DatumGetUUIDP(values[COLUMN_TEMPLATE])
	};

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	/* a claim will soon change the owner of a prebuilt workspace */
	if (id_is_system_user(parts[IDENTITY_OWNER]))
		return;
	identity_cache_store(before, parts, row);
}

/*
 * Run the query. Returns the row, palloc'd in the current context, or NULL. before: the moment
 * before the query, to put the row into the cache unless it changed since; NULL to bypass the
 * cache.
 */
static HeapTupleHeader
ask_tables(FunctionCallInfo fcinfo, const pg_uuid_t *agent, const IdentityMoment *before)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Datum argument = UUIDPGetDatum(agent);
	HeapTupleHeader row = NULL;
	int result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	injected_fault_point();
	/* not read-only, so that it takes a new snapshot, which shows this transaction's own changes */
	result = SPI_execute_plan(identity_plan(), &argument, NULL, false, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	if (SPI_processed > 0)
	{
		MemoryContext spi_context = MemoryContextSwitchTo(caller_context);
		ResultRow answer;

		answer.n = COLUMNS;
		heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, answer.values,
						  answer.nulls);
		for (int i = 0; i < COLUMNS; i++)
			answer.types[i] = SPI_gettypeid(SPI_tuptable->tupdesc, i + 1);
		row = DatumGetHeapTupleHeader(result_row_datum(fcinfo, &answer));
		if (before != NULL)
			keep(before, answer.values, row);
		MemoryContextSwitchTo(spi_context);
	}
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	return row;
}

PG_FUNCTION_INFO_V1(prebuild_agent_identity);

/*
 * SQL: prebuild_agent_identity(agent_id uuid). Returns a set of one row or none in a single call,
 * so it needs no state between calls. Raises what the query raises, and names a missing schema,
 * table, column or right.
 */
Datum
prebuild_agent_identity(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *agent = PG_GETARG_UUID_P(0);
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid function = fcinfo->flinfo->fn_oid;
	HeapTupleHeader row = NULL;

	if (set == NULL || !IsA(set, ReturnSetInfo) || !(set->allowedModes & SFRM_ValuePerCall))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("set-valued function called in context that cannot accept a set")));
	if (may_use_cache(function))
	{
		IdentityMoment now = identity_moment();

		row = identity_cache_find(agent, now.at);
		identity_stats_count(row != NULL ? IDENTITY_HIT : IDENTITY_MISS, 1);
		if (row == NULL)
			row = ask_tables(fcinfo, agent, &now);
	}
	else
	{
		identity_stats_count(IDENTITY_MISS, 1);
		identity_tables_require();
		row = ask_tables(fcinfo, agent, NULL);
	}
	if (row == NULL)
	{
		set->isDone = ExprEndResult;
		PG_RETURN_NULL();
	}
	PG_RETURN_HEAPTUPLEHEADER(row);
}
