/*
 * plans.c
 *	  Kept SPI plans. The text of a statement is its identity. Each call expands the text
 *	  (microseconds) and prepares another plan if the text is new. It is new if the settings, the
 *	  control plane's optional columns or the extension's schema have changed. The plan cache
 *	  handles what changes below an unchanged text (somebody drops a table and creates it again,
 *	  say), because it revalidates plans by itself.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "executor/tstoreReceiver.h"
#include "lib/stringinfo.h"
#include "nodes/params.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/injected_fault.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "settings.h"
#include "base/versions.h"

/* Schema and owner of the function entered last, which are those of the whole extension. */
static char extension_schema[NAMEDATALEN];
static Oid extension_owner;

/*
 * Begin an SQL-callable function: connect SPI, and note the extension's schema and owner, which
 * are those of the called function. fcinfo: the call.
 */
void
plans_enter(FunctionCallInfo fcinfo)
{
	HeapTuple function = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	char *schema;

	if (!HeapTupleIsValid(function))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	schema = get_namespace_name(((Form_pg_proc) GETSTRUCT(function))->pronamespace);
	if (schema == NULL)
		elog(ERROR, "function %u has no schema", fcinfo->flinfo->fn_oid);
	strlcpy(extension_schema, schema, NAMEDATALEN);
	extension_owner = ((Form_pg_proc) GETSTRUCT(function))->proowner;
	ReleaseSysCache(function);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* End an SQL-callable function. This frees everything in SPI's contexts. */
void
plans_leave(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/* Return the oid of the extension's schema. */
Oid
plans_extension_schema(void)
{
	return get_namespace_oid(extension_schema, false);
}

/*
 * Put the control plane's schema on the search_path, behind pg_catalog. Our own statements name
 * every schema and do not need it. But our writes fire the triggers of the control plane's
 * tables, which expect a session that finds these tables by their bare names. Returns the GUC
 * nest level, which the caller ends with AtEOXact_GUC(true, level); an error ends it too.
 */
int
plans_control_plane_path(void)
{
	int guc_level = NewGUCNestLevel();
	char *path =
		psprintf("pg_catalog, %s, pg_temp", quote_identifier(setting_control_plane_schema));

	set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
	return guc_level;
}

/*
 * Expand the placeholders of a template. Leaves other braces (of JSON, of arrays) as they are.
 * The result is palloc'd in the current context.
 */
char *
plan_expand(const char *sql_template)
{
	StringInfoData sql;
	const char *rest = sql_template;
	const char *open;

	initStringInfo(&sql);
	while ((open = strchr(rest, '{')) != NULL)
	{
		const char *name = open + 1;
		size_t operator_length = strspn(name, "+-*/<>=~!@#%^&|`?");

		appendBinaryStringInfo(&sql, rest, open - rest);
		if (strncmp(name, "cp}", 3) == 0)
		{
			appendStringInfo(&sql, "%s.", quote_identifier(setting_control_plane_schema));
			rest = name + 3;
		}
		else if (strncmp(name, "ext}", 4) == 0)
		{
			appendStringInfo(&sql, "%s.", quote_identifier(extension_schema));
			rest = name + 4;
		}
		else if (strncmp(name, "unnest ", 7) == 0)
		{
			int narrays = strtol(name + 7, NULL, 10);

			appendStringInfoString(&sql, "ROWS FROM (pg_catalog.unnest($1)");
			for (int i = 2; i <= narrays; i++)
				appendStringInfo(&sql, ", pg_catalog.unnest($%d)", i);
			appendStringInfoChar(&sql, ')');
			rest = strchr(name, '}') + 1;
		}
		else if (operator_length > 0 && name[operator_length] == '}')
		{
			appendStringInfo(&sql, "OPERATOR(pg_catalog.%.*s)", (int) operator_length, name);
			rest = name + operator_length + 1;
		}
		else
		{
			appendStringInfoChar(&sql, '{');
			rest = name;
		}
	}
	appendStringInfoString(&sql, rest);
	return sql.data;
}

/* Was a plan prepared from this text, with parameters of these types? */
static bool
is_plan_of(const KeptPlan *entry, const char *text, int nargs, const Oid *argtypes)
{
	return entry->plan != NULL && strcmp(entry->text, text) == 0 &&
		   (nargs == 0 || memcmp(entry->argtypes, argtypes, nargs * sizeof(Oid)) == 0);
}

#ifdef USE_ASSERT_CHECKING
/* Return the number of the last parameter that a statement names. */
static int
last_parameter(const char *text)
{
	int last = 0;

	while ((text = strchr(text, '$')) != NULL)
	{
		int number = (int) strtol(++text, NULL, 10);

		last = Max(last, number);
	}
	return last;
}
#endif

/*
 * Return the plan of a template. Prepares it on first use, and again whenever its expanded text
 * or the type of a parameter has changed (one of the extension's own types, after somebody
 * created it anew). SPI must be connected. argtypes: nargs type oids. nargs must always be the
 * same for a template.
 */
SPIPlanPtr
plan_get(KeptPlan *kept, const char *sql_template, int nargs, const Oid *argtypes)
{
	char *text = plan_expand(sql_template);
	KeptPlan *entry = kept;
	SPIPlanPtr plan;

	while (!is_plan_of(entry, text, nargs, argtypes) && entry->next != NULL)
		entry = entry->next;
	if (is_plan_of(entry, text, nargs, argtypes))
	{
		pfree(text);
		return entry->plan;
	}

	/* a caller that says more would have the server read behind its arrays */
	Assert(last_parameter(text) == nargs);
	plan = SPI_prepare_cursor(text, nargs, (Oid *) argtypes,
							  kept->generic ? CURSOR_OPT_GENERIC_PLAN : 0);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare_cursor failed: %s", SPI_result_code_string(SPI_result));
	if (entry->plan != NULL)
		entry = entry->next = MemoryContextAllocZero(TopMemoryContext, sizeof(KeptPlan));
	entry->text = MemoryContextStrdup(TopMemoryContext, text);
	entry->argtypes = MemoryContextAlloc(TopMemoryContext, (nargs + 1) * sizeof(Oid));
	if (nargs > 0)
		memcpy(entry->argtypes, argtypes, nargs * sizeof(Oid));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
	return entry->plan = plan;
}

/*
 * Error context callback. Adds a hint to an error that comes from objects of the extension that
 * are missing, or that are not as this library knows them. argument: the template of the
 * statement.
 */
static void
explain_versions(void *argument)
{
	ErrorContextCallback *inner = error_context_stack;

	/* leave an error of a nested statement to that statement's own callback */
	while (inner->callback != explain_versions)
		inner = inner->previous;
	if (inner->arg != argument || strstr(argument, "{ext}") == NULL)
		return;
	switch (geterrcode())
	{
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_COLUMN:
		case ERRCODE_UNDEFINED_FUNCTION:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_DATATYPE_MISMATCH:
		case ERRCODE_CANNOT_COERCE:
		case ERRCODE_INVALID_COLUMN_REFERENCE:
		case ERRCODE_WRONG_OBJECT_TYPE:
			errhint(VERSIONS_HINT);
			break;
		default:
			break;
	}
}

/*
 * Have explain_versions() explain errors of a template until the caller takes the callback off
 * error_context_stack.
 */
static void
watch_versions(ErrorContextCallback *callback, const char *sql_template)
{
	callback->callback = explain_versions;
	callback->arg = unconstify(char *, sql_template);
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

/* Whose rights a statement runs with. An error resets them with its (sub)transaction. */
typedef struct Rights
{
	Oid user;
	int security_context;
} Rights;

/* Take on the rights of a mode. Returns the previous ones. */
static Rights
take_rights(PlanMode mode)
{
	Rights before;

	GetUserIdAndSecContext(&before.user, &before.security_context);
	if (mode == PLAN_READ_OWN || mode == PLAN_FRESH_OWN || mode == PLAN_ACTIVE_OWN ||
		mode == PLAN_LATEST_OWN)
		SetUserIdAndSecContext(extension_owner,
							   before.security_context | SECURITY_LOCAL_USERID_CHANGE);
	return before;
}

/*
 * Execute a template. SPI must be connected. Leaves the rows in SPI_tuptable and returns
 * SPI_processed. nulls: as for SPI_execute_plan, or NULL.
 */
uint64
plan_execute(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
			 const Oid *argtypes, Datum *values, const char *nulls)
{
	bool latest = mode == PLAN_READ_LATEST;
	bool read_only = latest || mode == PLAN_READ || mode == PLAN_READ_OWN;
	Snapshot snapshot = mode == PLAN_ACTIVE_OWN ? GetActiveSnapshot() : InvalidSnapshot;
	ErrorContextCallback fault;
	SPIPlanPtr plan;
	Rights before;
	int result;

	injected_fault_point();
	watch_versions(&fault, sql_template);
	before = take_rights(mode);
	plan = plan_get(kept, sql_template, nargs, argtypes);
	if (latest)
	{
		CommandCounterIncrement();
		PushActiveSnapshot(GetLatestSnapshot());
	}
	/* SPI copies it */
	if (mode == PLAN_LATEST_OWN)
		snapshot = GetLatestSnapshot();
	result =
		SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, read_only, true, 0);
	if (latest)
		PopActiveSnapshot();
	SetUserIdAndSecContext(before.user, before.security_context);
	error_context_stack = fault.previous;
	if (result < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

/* Bind values to a parameter list, as SPI_execute_plan does for its own callers. */
static ParamListInfo
bind_parameters(int nargs, const Oid *argtypes, Datum *values, const char *nulls)
{
	ParamListInfo params = makeParamList(nargs);

	for (int i = 0; i < nargs; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = nulls != NULL && nulls[i] == 'n';
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = argtypes[i];
	}
	return params;
}

/* A receiver of rows that puts them into a set if they fit its type. */
typedef struct SetReceiver
{
	DestReceiver receiver;
	DestReceiver *store;
	TupleDesc columns; /* of the set */
} SetReceiver;

static void
set_receiver_start(DestReceiver *self, int operation, TupleDesc columns)
{
	SetReceiver *set = (SetReceiver *) self;

	result_columns_require(set->columns, columns);
	set->store->rStartup(set->store, operation, columns);
}

static bool
set_receiver_receive(TupleTableSlot *slot, DestReceiver *self)
{
	DestReceiver *store = ((SetReceiver *) self)->store;

	return store->receiveSlot(slot, store);
}

static void
set_receiver_stop(DestReceiver *self)
{
	DestReceiver *store = ((SetReceiver *) self)->store;

	store->rShutdown(store);
}

/* SPI_finish() frees the memory. */
static void
set_receiver_destroy(DestReceiver *self)
{
}

/*
 * Execute a reading template in the active snapshot, and have a receiver take the rows without a copy
 * in between. mode: PLAN_READ or PLAN_READ_OWN. SPI must be connected.
 */
static void
execute_into(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
			 const Oid *argtypes, Datum *values, const char *nulls, DestReceiver *receiver)
{
	SPIExecuteOptions options = { 0 };
	ErrorContextCallback fault;
	Rights before;
	int result;

	injected_fault_point();
	options.params = bind_parameters(nargs, argtypes, values, nulls);
	options.read_only = true;
	options.dest = receiver;
	watch_versions(&fault, sql_template);
	before = take_rights(mode);
	result = SPI_execute_plan_extended(plan_get(kept, sql_template, nargs, argtypes), &options);
	SetUserIdAndSecContext(before.user, before.security_context);
	error_context_stack = fault.previous;
	if (result < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
}

/*
 * As execute_into(), straight into a function's result set. The columns must fit those of the set: see
 * result_columns_require().
 */
void
plan_into_set(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
			  const Oid *argtypes, Datum *values, const char *nulls, ReturnSetInfo *set)
{
	SetReceiver receiver = { .receiver = { .receiveSlot = set_receiver_receive,
										   .rStartup = set_receiver_start,
										   .rShutdown = set_receiver_stop,
										   .rDestroy = set_receiver_destroy,
										   .mydest = DestTuplestore },
							 .store = CreateTuplestoreDestReceiver(),
							 .columns = set->setDesc };

	SetTuplestoreDestReceiverParams(receiver.store, set->setResult,
									set->econtext->ecxt_per_query_memory, false, NULL, NULL);
	execute_into(kept, sql_template, mode, nargs, argtypes, values, nulls, &receiver.receiver);
}

/* A receiver of rows that gives each to a function. */
typedef struct RowReceiver
{
	DestReceiver receiver;
	PlanRowTaker take;
	void *context;
} RowReceiver;

static bool
row_receiver_receive(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *rows = (RowReceiver *) self;

	rows->take(slot, rows->context);
	return true;
}

static void
row_receiver_start(DestReceiver *self, int operation, TupleDesc columns)
{
}

static void
row_receiver_end(DestReceiver *self)
{
}

/*
 * Execute a reading template in the active snapshot, and call a function for each row while the scan
 * stands at it: thousands of rows of which little is kept need no copies. mode: PLAN_READ or
 * PLAN_READ_OWN. SPI must be connected.
 */
void
plan_each(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs, const Oid *argtypes,
		  Datum *values, const char *nulls, PlanRowTaker take, void *context)
{
	RowReceiver receiver = { .receiver = { .receiveSlot = row_receiver_receive,
										   .rStartup = row_receiver_start,
										   .rShutdown = row_receiver_end,
										   .rDestroy = row_receiver_end,
										   /* SPI takes DestSPI and DestNone for its own */
										   .mydest = DestTuplestore },
							 .take = take,
							 .context = context };

	execute_into(kept, sql_template, mode, nargs, argtypes, values, nulls, &receiver.receiver);
}
