/*
 * attached_triggers.c
 *	  The extension's triggers on the control plane's tables: which they are, whether they exist
 *	  as they should, and how to create or drop them. attached_triggers_plan() finds out what to
 *	  do, without locks. The caller of attached_triggers_carry_out() holds the locks
 *	  (attach_locks.c).
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "attach/attached_triggers.h"
#include "catalog/control_plane_catalog.h"
#include "identity/identity_tables.h"
#include "base/injected_fault.h"
#include "base/plans.h"
#include "pool/member_columns.h"
#include "pool/pool_log.h"
#include "settings.h"
#include "base/versions.h"

/* A trigger. To add one, add a line to the table below. */
typedef struct AttachedTrigger
{
	const char *table;	  /* in the control plane's schema */
	const char *name;	  /* of the trigger */
	const char *function; /* as a template, see plans.h, without parentheses */
	const char *timing;	  /* such as AFTER INSERT OR UPDATE */
	const char *columns;  /* of the UPDATE at the end of the timing, or NULL */
	const char *rows;	  /* REFERENCING and FOR EACH */
	const char *argument; /* of the function, or NULL */
	bool always;		  /* also fires in sessions that replay a replication stream */
	const char *by_name;  /* its function on every update: takes the columns as arguments */
	uint32 option;		  /* the ATTACH bit that asks for it */
} AttachedTrigger;

/*
 * The trigger that notes changes of what identities say, for one table. It is on columns and has
 * no condition. An update that sets none of the columns then costs nothing. The server prepares a
 * condition anew for each statement, which costs more than a quarter of a workspace's update.
 * (The trigger misses columns that a BEFORE trigger updates and the statement does not name.)
 * Identities are noted by the first column, an id.
 */
#define IDENTITY_TRIGGER_ON(table, columns)                                                        \
	{                                                                                              \
		table, IDENTITY_TRIGGER, "{ext}prebuild_identity_changed", "AFTER DELETE OR UPDATE",       \
			columns, "FOR EACH ROW", NULL, true, NULL, ATTACH_BASE                                 \
	}

/*
 * The trigger that wakes the worker, for one table. It fires after statements that set the
 * columns that a pass reads.
 */
#define PASS_TRIGGER_ON(table, timing, columns)                                                    \
	{                                                                                              \
		table, "prebuild_pass_wanted", "{ext}prebuild_pass_wanted", timing, columns,               \
			"FOR EACH STATEMENT", NULL, false, NULL, ATTACH_BASE                                   \
	}

/*
 * The trigger that logs what the pool may depend on, for one table. If a BEFORE trigger may
 * update columns that the statement does not name, it is on every update: see
 * may_change_unnamed().
 */
#define POOL_TRIGGER_ON(table, kind, columns)                                                      \
	{ table,                                                                                       \
	  POOL_LOG_TRIGGER,                                                                            \
	  "{ext}prebuild_pool_touched",                                                                \
	  "AFTER INSERT OR DELETE OR UPDATE",                                                          \
	  columns,                                                                                     \
	  "FOR EACH ROW",                                                                              \
	  kind,                                                                                        \
	  true,                                                                                        \
	  "{ext}prebuild_pool_touched_by_name",                                                        \
	  ATTACH_BASE },

/* The trigger that logs a TRUNCATE of the same table. */
#define POOL_TRUNCATE_TRIGGER_ON(table, kind, columns)                                             \
	{ table,                                                                                       \
	  POOL_TRUNCATE_TRIGGER,                                                                       \
	  "{ext}prebuild_pool_touched",                                                                \
	  "AFTER TRUNCATE",                                                                            \
	  NULL,                                                                                        \
	  "FOR EACH STATEMENT",                                                                        \
	  NULL,                                                                                        \
	  true,                                                                                        \
	  NULL,                                                                                        \
	  ATTACH_BASE },

static const AttachedTrigger triggers[] = {
	{ "workspace_agent_metadata", "prebuild_metadata_fanout_insert",
	  "{ext}prebuild_metadata_fanout", "AFTER INSERT", NULL,
	  "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT", NULL, false, NULL, ATTACH_FANOUT },
	{ "workspace_agent_metadata", "prebuild_metadata_fanout_update",
	  "{ext}prebuild_metadata_fanout", "AFTER UPDATE", NULL,
	  "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT", NULL, false, NULL, ATTACH_FANOUT },
	{ "workspace_agent_metadata", "prebuild_metadata_fanout_delete",
	  "{ext}prebuild_metadata_fanout", "AFTER DELETE", NULL,
	  "REFERENCING OLD TABLE AS changed FOR EACH STATEMENT", NULL, false, NULL, ATTACH_FANOUT },
	{ "workspaces", "prebuild_claim_guard", "{ext}prebuild_claim_guard", "BEFORE UPDATE",
	  "owner_id", "FOR EACH ROW", NULL, false, NULL, ATTACH_GUARD },
	IDENTITY_TRIGGER_ON("workspaces", "id, owner_id, organization_id, template_id, name,"
									  " autostart_schedule, deleted"),
	IDENTITY_TRIGGER_ON("users", "id, username"),
	IDENTITY_TRIGGER_ON("templates", "id, name"),
	IDENTITY_TRIGGER_ON("workspace_agents", "id, name, resource_id, deleted"),
	IDENTITY_TRIGGER_ON("workspace_builds", "workspace_id, job_id"),
	PASS_TRIGGER_ON("workspaces", "AFTER UPDATE", "owner_id"),
	PASS_TRIGGER_ON("templates", "AFTER UPDATE", "active_version_id, deleted, deprecated"),
	PASS_TRIGGER_ON("template_version_presets", "AFTER INSERT OR DELETE OR UPDATE",
					"desired_instances, invalidate_after_secs, scheduling_timezone"),
	PASS_TRIGGER_ON("template_version_preset_prebuild_schedules",
					"AFTER INSERT OR DELETE OR UPDATE", NULL),
	PASS_TRIGGER_ON("provisioner_jobs", "AFTER UPDATE", "completed_at"),
	POOL_TABLES(POOL_TRIGGER_ON, POOL_TRIGGER_ON)
		POOL_TABLES(POOL_TRUNCATE_TRIGGER_ON, POOL_TRUNCATE_TRIGGER_ON)
};

StaticAssertDecl(lengthof(triggers) <= ATTACHED_TRIGGERS, "more triggers than a plan has room for");

/* Return the oid of a function, "{ext}name", or InvalidOid if the script does not have it. */
static Oid
function_oid(const char *function)
{
	char *schema = get_namespace_name(plans_extension_schema());

	return LookupFuncName(
		list_make2(makeString(schema), makeString(pstrdup(function + strlen("{ext}")))), 0, NULL,
		true);
}

/*
 * Return the oid of the function that a trigger of ours calls. Raises undefined_function if the
 * script does not have it.
 */
static Oid
trigger_function(const char *function)
{
	Oid oid = function_oid(function);

	if (!OidIsValid(oid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("function %s() does not exist", plan_expand(function)),
						errhint(VERSIONS_HINT)));
	return oid;
}

/* Is a column among those of a trigger of ours? */
static bool
is_among(const char *column, const char *columns)
{
	size_t length = strlen(column);

	for (const char *found = columns; (found = strstr(found, column)) != NULL; found += length)
		if ((found == columns || found[-1] == ' ') &&
			(found[length] == ',' || found[length] == '\0'))
			return true;
	return false;
}

/*
 * Can somebody else's BEFORE trigger change a row in an update that names none of our trigger's
 * columns? Then these columns may change although our trigger, which is on them, does not fire.
 */
static bool
may_change_unnamed(const AttachedTrigger *trigger, Oid table, Relation catalog)
{
	static const int16 before_update = TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_UPDATE;
	bool may = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (!may && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if ((form->tgtype & before_update) != before_update || form->tgenabled == TRIGGER_DISABLED)
			continue;
		may = form->tgattr.dim1 == 0;
		for (int i = 0; i < form->tgattr.dim1 && !may; i++)
			may = !is_among(get_attname(table, form->tgattr.values[i], false), trigger->columns);
	}
	systable_endscan(scan);
	return may;
}

/*
 * Must a trigger be on every update? Not with the script of 0.1, because nothing trusts the
 * stored pool then.
 */
static bool
is_for_every_update(const AttachedTrigger *trigger, Oid table, Relation catalog)
{
	return trigger->by_name != NULL && may_change_unnamed(trigger, table, catalog) &&
		   OidIsValid(function_oid(trigger->by_name));
}

/* Return a trigger's arguments as pg_trigger.tgargs has them, each with its final zero byte. */
static StringInfoData
arguments_of(const AttachedTrigger *trigger, bool with_columns)
{
	StringInfoData arguments;

	initStringInfo(&arguments);
	if (trigger->argument != NULL)
		appendBinaryStringInfo(&arguments, trigger->argument, strlen(trigger->argument) + 1);
	for (const char *name = with_columns ? trigger->columns : ""; *name != '\0';)
	{
		size_t length = strcspn(name, ",");

		appendBinaryStringInfo(&arguments, name, length);
		appendStringInfoChar(&arguments, '\0');
		name += length + strspn(name + length, ", ");
	}
	return arguments;
}

/* Is an existing trigger on these columns (NULL: none), by their present names? */
static bool
is_on_columns(Form_pg_trigger form, const char *columns)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < form->tgattr.dim1; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 get_attname(form->tgrelid, form->tgattr.values[i], false));
	return strcmp(names.data, columns ? columns : "") == 0;
}

/* Does DROP EXTENSION drop a trigger too? */
static bool
goes_with_extension(Oid trigger)
{
	return list_member_oid(getAutoExtensionsOfObject(TriggerRelationId, trigger),
						   get_extension_oid("prebuild_ext", true));
}

/* Is an existing trigger as we would create it now? */
static bool
is_as_made(const AttachedTrigger *trigger, HeapTuple tuple, Relation catalog)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	bool on_all = is_for_every_update(trigger, form->tgrelid, catalog);
	StringInfoData arguments = arguments_of(trigger, on_all);
	bool isnull;
	bytea *tgargs = DatumGetByteaPP(
		fastgetattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(catalog), &isnull));

	return form->tgfoid == trigger_function(on_all ? trigger->by_name : trigger->function) &&
		   form->tgenabled == (trigger->always ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN) &&
		   is_on_columns(form, on_all ? NULL : trigger->columns) &&
		   VARSIZE_ANY_EXHDR(tgargs) == (size_t) arguments.len &&
		   memcmp(VARDATA_ANY(tgargs), arguments.data, arguments.len) == 0 &&
		   goes_with_extension(form->oid);
}

/* Find out what to do about an existing trigger. */
static TriggerWork
work_for_present(const AttachedTrigger *trigger, HeapTuple tuple, Relation catalog, uint32 options)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	bool mends = (options & ATTACH_MEND) != 0;

	/* leave off what somebody switched off, until he attaches */
	if (mends &&
		(form->tgenabled == TRIGGER_DISABLED || form->tgenabled == TRIGGER_FIRES_ON_REPLICA))
		return WORK_NONE;
	if (!mends && (options & trigger->option) == 0)
		return WORK_DROP;
	if (is_as_made(trigger, tuple, catalog))
		return WORK_NONE;
	if (OidIsValid(form->tgconstraint) || OidIsValid(form->tgparentid))
		return mends ? WORK_NONE : WORK_RECREATE;
	return WORK_REPLACE;
}

/* Find out what to do about one trigger of a table. */
static TriggerWork
work_for_trigger(const AttachedTrigger *trigger, Oid table, uint32 options)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	TriggerWork work = WORK_NONE;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	ScanKeyInit(&keys[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(trigger->name));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		work = work_for_present(trigger, tuple, catalog, options);
	else if ((options & trigger->option) != 0)
		work = WORK_CREATE;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return work;
}

/*
 * Find out what to do, without locks. options: ATTACH bits; 0 drops all triggers. Raises
 * undefined_schema or undefined_table for a missing table, unless options are 0 or ATTACH_MEND.
 * Raises insufficient_privilege if the caller does not own a table; ATTACH_MEND skips that table.
 */
AttachPlan
attached_triggers_plan(uint32 options)
{
	AttachPlan plan = { .n = lengthof(triggers) };
	bool mends = (options & ATTACH_MEND) != 0;

	Assert(!mends || options == ATTACH_MEND);
	for (size_t i = 0; i < lengthof(triggers); i++)
	{
		const AttachedTrigger *trigger = &triggers[i];
		Oid table = control_plane_table(trigger->table, options == 0 || mends);
		bool owned = OidIsValid(table) && compat_owns_table(table, GetUserId());

		plan.tables[i] = table;
		if (OidIsValid(table) && !owned && !mends)
			aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, trigger->table);
		if (!owned)
			continue;
		plan.work[i] = work_for_trigger(trigger, table, options);
		plan.any = plan.any || plan.work[i] != WORK_NONE;
	}
	return plan;
}

/* Run a statement that this file made. SPI must be connected. */
static void
run(const char *statement)
{
	int result;

	injected_fault_point();
	result = SPI_execute(statement, false, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
}

/* Return the name of a trigger's table for use in a statement. */
static char *
table_name(const AttachedTrigger *trigger)
{
	return quote_qualified_identifier(setting_control_plane_schema, trigger->table);
}

/*
 * Have DROP EXTENSION drop a trigger too. ALTER TRIGGER … DEPENDS ON EXTENSION does the same, but
 * would lock readers out.
 */
static void
depend_on_extension(Oid table, const char *name)
{
	ObjectAddress trigger;
	ObjectAddress extension;

	ObjectAddressSet(trigger, TriggerRelationId, get_trigger_oid(table, name, false));
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("prebuild_ext", false));
	if (!goes_with_extension(trigger.objectId))
		recordDependencyOn(&trigger, &extension, DEPENDENCY_AUTO_EXTENSION);
}

/* Create a trigger, or replace the one of its name. */
static void
create_trigger(const AttachedTrigger *trigger, Oid table, bool replace)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	bool on_all = is_for_every_update(trigger, table, catalog);
	StringInfoData arguments = arguments_of(trigger, on_all);
	StringInfoData list;

	table_close(catalog, AccessShareLock);
	initStringInfo(&list);
	for (int i = 0; i < arguments.len; i += (int) strlen(arguments.data + i) + 1)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(arguments.data + i));
	run(psprintf(
		"CREATE %sTRIGGER %s %s%s%s ON %s %s EXECUTE FUNCTION %s(%s)", replace ? "OR REPLACE " : "",
		quote_identifier(trigger->name), trigger->timing, trigger->columns && !on_all ? " OF " : "",
		trigger->columns && !on_all ? trigger->columns : "", table_name(trigger), trigger->rows,
		plan_expand(on_all ? trigger->by_name : trigger->function), list.data));
	if (trigger->always)
		run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table_name(trigger),
					 quote_identifier(trigger->name)));
	depend_on_extension(table, trigger->name);
}

/* Carry out a plan. The caller has locked the tables and connected SPI. */
void
attached_triggers_carry_out(const AttachPlan *plan)
{
	for (size_t i = 0; i < lengthof(triggers); i++)
	{
		TriggerWork work = plan->work[i];

		if (work == WORK_DROP || work == WORK_RECREATE)
			run(psprintf("DROP TRIGGER %s ON %s", quote_identifier(triggers[i].name),
						 table_name(&triggers[i])));
		if (work != WORK_NONE && work != WORK_DROP)
			create_trigger(&triggers[i], plan->tables[i], work == WORK_REPLACE);
	}
}
