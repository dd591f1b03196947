/*
 * attach.c
 *	  Putting the extension's triggers on the control plane's tables, and taking them off.
 *
 * Locking contract: what is to do is found out without locks, so that nothing to do takes none.
 * Otherwise all tables concerned are locked in the order of the list below, in a subtransaction
 * with a lock timeout well under deadlock_timeout: a session that waits for one of our locks is
 * never held up for long, and a deadlock resolves itself by our giving up. Then we try again
 * after a pause. What is to do is found out once more under the locks.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "attach.h"
#include "control_plane_catalog.h"
#include "identity_tables.h"
#include "plans.h"
#include "pool_log.h"
#include "pool_state.h"
#include "settings.h"
#include "subtransaction.h"
#include "versions.h"

/* One try for a lock takes at most this, and at most a quarter of deadlock_timeout. */
#define MAX_LOCK_TIMEOUT_MS 100

/* Bounds of the random pause between two tries. */
#define MIN_PAUSE_MS 20
#define MAX_PAUSE_MS 250

static bool
wants_fanout(const AttachOptions *options)
{
	return options->metadata_fanout;
}

static bool
wants_guard(const AttachOptions *options)
{
	return options->guard_claims;
}

/* The cache of identities, and the wish for a pass soon, are for everybody. */
static bool
wants_always(const AttachOptions *options)
{
	return true;
}

/*
 * The trigger that notes changes of what identities say, for one table. By columns instead of by a
 * condition: an update that sets none of them then costs nothing, whereas a condition is made ready
 * again for each statement, which costs more than a quarter of a workspace's update. (An update
 * by a BEFORE trigger of columns that the statement does not name goes unseen by it.) The first
 * column is the id that identities are noted by.
 */
#define IDENTITY_TRIGGER_ON(table, columns)                                                        \
	{                                                                                              \
		table, IDENTITY_TRIGGER, "{ext}prebuild_identity_changed", "AFTER DELETE OR UPDATE",       \
			columns, "FOR EACH ROW", NULL, true, wants_always                                      \
	}

/*
 * The trigger that wakes the worker, for one table: after statements that set the columns that
 * a pass looks at.
 */
#define PASS_TRIGGER_ON(table, timing, columns)                                                    \
	{                                                                                              \
		table, "prebuild_pass_wanted", "{ext}prebuild_pass_wanted", timing, columns,               \
			"FOR EACH STATEMENT", NULL, false, wants_always                                        \
	}

/* The trigger that logs what the pool may depend on, for one table. */
#define POOL_TRIGGER_ON(table, kind, columns)                                                      \
	{                                                                                              \
		table, POOL_LOG_TRIGGER, "{ext}prebuild_pool_touched", "AFTER INSERT OR DELETE OR UPDATE", \
			columns, "FOR EACH ROW", kind, true, wants_always                                      \
	}

/* The trigger that logs a TRUNCATE of the same table. */
#define POOL_TRUNCATE_TRIGGER_ON(table)                                                            \
	{                                                                                              \
		table, POOL_TRUNCATE_TRIGGER, "{ext}prebuild_pool_touched", "AFTER TRUNCATE", NULL,        \
			"FOR EACH STATEMENT", NULL, true, wants_always                                         \
	}

static const AttachedTrigger triggers[] = {
	{ "workspace_agent_metadata", "prebuild_metadata_fanout_insert",
	  "{ext}prebuild_metadata_fanout", "AFTER INSERT", NULL,
	  "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT", NULL, false, wants_fanout },
	{ "workspace_agent_metadata", "prebuild_metadata_fanout_update",
	  "{ext}prebuild_metadata_fanout", "AFTER UPDATE", NULL,
	  "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT", NULL, false, wants_fanout },
	{ "workspace_agent_metadata", "prebuild_metadata_fanout_delete",
	  "{ext}prebuild_metadata_fanout", "AFTER DELETE", NULL,
	  "REFERENCING OLD TABLE AS changed FOR EACH STATEMENT", NULL, false, wants_fanout },
	{ "workspaces", "prebuild_claim_guard", "{ext}prebuild_claim_guard", "BEFORE UPDATE",
	  "owner_id", "FOR EACH ROW", NULL, false, wants_guard },
	IDENTITY_TRIGGER_ON("workspaces", "id, owner_id, organization_id, template_id, name,"
									  " autostart_schedule, deleted"),
	IDENTITY_TRIGGER_ON("users", "id, username"),
	IDENTITY_TRIGGER_ON("templates", "id, name"),
	IDENTITY_TRIGGER_ON("workspace_agents", "id, name, resource_id, deleted"),
	IDENTITY_TRIGGER_ON("workspace_builds", "workspace_id, job_id"),
	POOL_TRIGGER_ON("workspaces", "pool", POOL_LOG_WORKSPACES),
	POOL_TRIGGER_ON("workspace_builds", "workspace", POOL_LOG_BUILDS),
	POOL_TRIGGER_ON("provisioner_jobs", "job", POOL_LOG_JOBS),
	POOL_TRIGGER_ON("workspace_resources", "job", POOL_LOG_RESOURCES),
	POOL_TRIGGER_ON("workspace_agents", "resource", POOL_LOG_AGENTS),
	POOL_TRUNCATE_TRIGGER_ON("workspaces"),
	POOL_TRUNCATE_TRIGGER_ON("workspace_builds"),
	POOL_TRUNCATE_TRIGGER_ON("provisioner_jobs"),
	POOL_TRUNCATE_TRIGGER_ON("workspace_resources"),
	POOL_TRUNCATE_TRIGGER_ON("workspace_agents"),
	PASS_TRIGGER_ON("workspaces", "AFTER UPDATE", "owner_id"),
	PASS_TRIGGER_ON("templates", "AFTER UPDATE", "active_version_id, deleted, deprecated"),
	PASS_TRIGGER_ON("template_version_presets", "AFTER INSERT OR DELETE OR UPDATE",
					"desired_instances, invalidate_after_secs, scheduling_timezone"),
	PASS_TRIGGER_ON("template_version_preset_prebuild_schedules",
					"AFTER INSERT OR DELETE OR UPDATE", NULL),
	PASS_TRIGGER_ON("provisioner_jobs", "AFTER UPDATE", "completed_at"),
};

/* What is to do about a trigger. */
typedef enum TriggerWork
{
	WORK_NONE,
	WORK_CREATE,
	WORK_DROP,
	WORK_REPLACE
} TriggerWork;

typedef struct AttachPlan
{
	TriggerWork work[lengthof(triggers)];
	Oid tables[lengthof(triggers)]; /* InvalidOid: not there */
	bool any;
} AttachPlan;

/* The oid of the function that a trigger of ours calls; an error where the script has no such. */
static Oid
trigger_function(const AttachedTrigger *trigger)
{
	const char *name = trigger->function + strlen("{ext}");
	char *schema = get_namespace_name(plans_extension_schema());
	Oid function =
		LookupFuncName(list_make2(makeString(schema), makeString(pstrdup(name))), 0, NULL, true);

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s.%s() does not exist", schema, name), errhint(VERSIONS_HINT)));
	return function;
}

/* Is a trigger that is there on the columns that it is to be on, by their present names? */
static bool
is_on_columns(const AttachedTrigger *trigger, Form_pg_trigger form)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < form->tgattr.dim1; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 get_attname(form->tgrelid, form->tgattr.values[i], false));
	return strcmp(names.data, trigger->columns ? trigger->columns : "") == 0;
}

/* Find out what is to do about one trigger of a table. */
static TriggerWork
work_for_trigger(const AttachedTrigger *trigger, Oid table, bool wanted)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	char enabled = trigger->always ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
	TriggerWork work = wanted ? WORK_CREATE : WORK_NONE;
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
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (!wanted)
			work = WORK_DROP;
		else if (form->tgfoid != trigger_function(trigger) || form->tgenabled != enabled ||
				 !is_on_columns(trigger, form))
			work = WORK_REPLACE;
		else
			work = WORK_NONE;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return work;
}

/* Find out what is to do. options NULL: everything off, and tables may be missing. */
static AttachPlan
make_plan(const AttachOptions *options)
{
	AttachPlan plan = { 0 };

	for (size_t i = 0; i < lengthof(triggers); i++)
	{
		const AttachedTrigger *trigger = &triggers[i];
		Oid table = control_plane_table(trigger->table, options == NULL);

		plan.tables[i] = table;
		if (!OidIsValid(table))
			continue;
		if (!compat_owns_table(table, GetUserId()))
			aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, trigger->table);
		plan.work[i] =
			work_for_trigger(trigger, table, options != NULL && trigger->wanted(options));
		plan.any = plan.any || plan.work[i] != WORK_NONE;
	}
	return plan;
}

/* Run a statement made here. SPI is connected. */
static void
run(const char *statement)
{
	int result = SPI_execute(statement, false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
}

/* A table's name in a statement. */
static char *
table_name(const AttachedTrigger *trigger)
{
	return quote_qualified_identifier(setting_control_plane_schema, trigger->table);
}

/* Lock what the plan concerns, each table once and in the strongest mode that it needs. */
static void
lock_tables(const AttachPlan *plan)
{
	for (size_t i = 0; i < lengthof(triggers); i++)
	{
		LOCKMODE mode = NoLock;
		bool first = true;

		for (size_t j = 0; j < lengthof(triggers); j++)
		{
			if (plan->tables[j] != plan->tables[i] || plan->work[j] == WORK_NONE)
				continue;
			if (j < i)
				first = false;
			mode = Max(mode,
					   plan->work[j] == WORK_CREATE ? ShareRowExclusiveLock : AccessExclusiveLock);
		}
		if (first && mode != NoLock)
			LockRelationOid(plan->tables[i], mode);
	}
}

/* Create a trigger. */
static void
create_trigger(const AttachedTrigger *trigger)
{
	char *columns = trigger->columns ? psprintf(" OF %s", trigger->columns) : "";
	char *argument = trigger->argument ? quote_literal_cstr(trigger->argument) : "";

	run(psprintf("CREATE TRIGGER %s %s%s ON %s %s EXECUTE FUNCTION %s(%s)",
				 quote_identifier(trigger->name), trigger->timing, columns, table_name(trigger),
				 trigger->rows, plan_expand(trigger->function), argument));
	if (trigger->always)
		run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table_name(trigger),
					 quote_identifier(trigger->name)));
}

/* Do what the plan says. The tables are locked. */
static void
carry_out(const AttachPlan *plan)
{
	for (size_t i = 0; i < lengthof(triggers); i++)
	{
		if (plan->work[i] == WORK_DROP || plan->work[i] == WORK_REPLACE)
			run(psprintf("DROP TRIGGER %s ON %s", quote_identifier(triggers[i].name),
						 table_name(&triggers[i])));
		if (plan->work[i] == WORK_CREATE || plan->work[i] == WORK_REPLACE)
			create_trigger(&triggers[i]);
	}
}

/* Lock and do what is to do, with a lock timeout. */
static void
lock_and_carry_out(const AttachOptions *options, const AttachPlan *plan)
{
	int nest_level = NewGUCNestLevel();
	char timeout[32];
	AttachPlan current;

	snprintf(timeout, sizeof(timeout), "%dms",
			 Max(1, Min(MAX_LOCK_TIMEOUT_MS, DeadlockTimeout / 4)));
	set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
	lock_tables(plan);
	/* another session may have attached or detached meanwhile */
	current = make_plan(options);
	lock_tables(&current);
	carry_out(&current);
	AtEOXact_GUC(true, nest_level);
}

/* What one try is about. */
typedef struct Try
{
	const AttachOptions *options;
	const AttachPlan *plan;
} Try;

static bool
try_work(void *argument)
{
	const Try *try = argument;

	lock_and_carry_out(try->options, try->plan);
	return true;
}

/*
 * One try, in a subtransaction: false when a lock was not to be had, with all locks given back.
 */
static bool
try_once(const AttachOptions *options, const AttachPlan *plan)
{
	Try try = { options, plan };
	ErrorData *error = subtransaction_run(try_work, &try);

	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* Wait a random time, so that two sessions that are in each other's way part. */
static void
pause_randomly(void)
{
	uint32 random = 0;

	(void) pg_strong_random(&random, sizeof(random));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 MIN_PAUSE_MS + random % (MAX_PAUSE_MS - MIN_PAUSE_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Bring the triggers into the state that the options ask for (NULL: none). Returns false when there
 * was nothing to do.
 */
static bool
apply(const AttachOptions *options)
{
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), setting_attach_timeout);

	for (;;)
	{
		AttachPlan plan = make_plan(options);

		if (!plan.any)
			return false;
		if (try_once(options, &plan))
			return true;
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
							errmsg("could not lock the control plane's tables within %d ms",
								   setting_attach_timeout),
							errhint("A long transaction holds one of them: see pg_locks, or raise "
									"prebuild.attach_timeout.")));
		pause_randomly();
	}
}

PG_FUNCTION_INFO_V1(prebuild_attach);

/*
 * SQL: prebuild_attach(metadata_fanout boolean, guard_claims boolean). metadata_fanout NULL: not
 * in a Coder database. What is not asked for is taken off.
 */
Datum
prebuild_attach(PG_FUNCTION_ARGS)
{
	AttachOptions options = { 0 };

	plans_enter(fcinfo);
	/* what a trigger would not find has a better name here */
	control_plane_require();
	identity_tables_require();
	options.metadata_fanout = PG_ARGISNULL(0) ? !control_plane_is_coder() : PG_GETARG_BOOL(0);
	options.guard_claims = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	/* in an older snapshot than that of the locks the next pass builds the stored pool */
	if (apply(&options) && !IsolationUsesXactSnapshot())
		pool_state_fold();
	plans_leave();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(prebuild_detach);

/* SQL: prebuild_detach(). */
Datum
prebuild_detach(PG_FUNCTION_ARGS)
{
	plans_enter(fcinfo);
	if (apply(NULL))
		pool_state_forget();
	plans_leave();
	PG_RETURN_VOID();
}
