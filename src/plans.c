/*
 * plans.c
 *	  Kept SPI plans. The text of a statement is its identity: it is expanded at each call
 *	  (microseconds) and another plan is prepared when the text is new, because the settings, the
 *	  control plane's optional columns or the extension's schema are not what they were. What
 *	  changes below an unchanged text (a table dropped and made again, say) is the plan cache's
 *	  affair, which revalidates by itself.
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

#include "plans.h"
#include "settings.h"

/* Schema and owner of the function that was entered last: those of the whole extension. */
static char extension_schema[NAMEDATALEN];
static Oid extension_owner;

/*
 * Begin an SQL-callable function: connect SPI, and note the extension's schema and owner, which
 * are those of the function that was called. fcinfo: the call.
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

/* End an SQL-callable function. Everything in SPI's contexts is gone after this. */
void
plans_leave(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/* The oid of the extension's schema. */
Oid
plans_extension_schema(void)
{
	return get_namespace_oid(extension_schema, false);
}

/*
 * Put the control plane's schema on the search_path, behind pg_catalog. Our own statements name
 * every schema and do not need it; but triggers of the control plane's tables, which run when we
 * write there, were written for a session that finds these tables by their bare names. Returns
 * the GUC nest level that AtEOXact_GUC(true, level) ends; an error ends it too.
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
 * Expand the placeholders of a template; other braces (of JSON, of arrays) stay as they are. The
 * result is palloc'd in the current context.
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

/* Was the plan prepared from this text with parameters of these types? */
static bool
is_plan_of(const KeptPlan *entry, const char *text, int nargs, const Oid *argtypes)
{
	return entry->plan != NULL && strcmp(entry->text, text) == 0 &&
		   (nargs == 0 || memcmp(entry->argtypes, argtypes, nargs * sizeof(Oid)) == 0);
}

/*
 * The plan of a template, prepared on first use and whenever its expanded text or a parameter's
 * type (one of the extension's own, after it was created anew) has changed. SPI must be
 * connected. argtypes: nargs type oids; nargs is always the same for a template.
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

	plan = SPI_prepare(text, nargs, (Oid *) argtypes);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
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

/* Whose rights a statement runs with; an error resets them with its (sub)transaction. */
typedef struct Rights
{
	Oid user;
	int security_context;
} Rights;

/* Take on the rights of a mode. Returns those from before. */
static Rights
take_rights(PlanMode mode)
{
	Rights before;

	GetUserIdAndSecContext(&before.user, &before.security_context);
	if (mode == PLAN_READ_OWN || mode == PLAN_WRITE_OWN || mode == PLAN_WRITE_OWN_ACTIVE)
		SetUserIdAndSecContext(extension_owner,
							   before.security_context | SECURITY_LOCAL_USERID_CHANGE);
	return before;
}

/*
 * Execute a template. Rows are in SPI_tuptable; returns SPI_processed.
 * nulls: as for SPI_execute_plan, or NULL.
 */
uint64
plan_execute(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
			 const Oid *argtypes, Datum *values, const char *nulls)
{
	bool latest = mode == PLAN_READ_LATEST;
	bool read_only = latest || mode == PLAN_READ || mode == PLAN_READ_OWN;
	Snapshot snapshot = mode == PLAN_WRITE_OWN_ACTIVE ? GetActiveSnapshot() : InvalidSnapshot;
	Rights before = take_rights(mode);
	int result;

	if (latest)
	{
		CommandCounterIncrement();
		PushActiveSnapshot(GetLatestSnapshot());
	}
	result = SPI_execute_snapshot(plan_get(kept, sql_template, nargs, argtypes), values, nulls,
								  snapshot, InvalidSnapshot, read_only, true, 0);
	if (latest)
		PopActiveSnapshot();
	SetUserIdAndSecContext(before.user, before.security_context);
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

/*
 * Execute a reading template straight into a tuplestore, without a copy in between, in the
 * active snapshot (mode PLAN_READ or PLAN_READ_OWN). The statement's columns must have the types
 * of the store's row type.
 */
void
plan_into_tuplestore(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
					 const Oid *argtypes, Datum *values, const char *nulls, Tuplestorestate *store,
					 MemoryContext store_context)
{
	SPIExecuteOptions options = { 0 };
	Rights before = take_rights(mode);
	int result;

	options.params = bind_parameters(nargs, argtypes, values, nulls);
	options.read_only = true;
	options.dest = CreateTuplestoreDestReceiver();
	SetTuplestoreDestReceiverParams(options.dest, store, store_context, false, NULL, NULL);
	result = SPI_execute_plan_extended(plan_get(kept, sql_template, nargs, argtypes), &options);
	SetUserIdAndSecContext(before.user, before.security_context);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
}
