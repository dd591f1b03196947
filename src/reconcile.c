/*
 * reconcile.c
 *	  The pass: make a judgement true in one transaction.
 *
 *	  Locks: advisory lock 7 of the database, transaction-wide, which every reconciler of the
 *	  control plane takes; never waited for. The snapshot of the pass is taken after it, so that
 *	  the pass sees all that the previous holder has committed.
 *
 *	  Waits for rows that others hold end after LOCK_PATIENCE, unless the session has a
 *	  lock_timeout of its own: a pass that waited would hold the reconcilers' lock meanwhile.
 *
 *	  Faults: all presets are written in one subtransaction. When that fails, the presets are
 *	  halved until the faulty one alone is rolled back and reported. What is not the fault of a
 *	  preset (a cancel, a deadlock, a missing right) ends the whole pass without a trace.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "control_plane_catalog.h"
#include "judgement.h"
#include "membership.h"
#include "pass_stats.h"
#include "pause.h"
#include "plans.h"
#include "pool_state.h"
#include "provision.h"
#include "pruning.h"
#include "result_row.h"
#include "rows.h"
#include "status.h"
#include "subtransaction.h"
#include "wakeup.h"

/* The reconcilers' lock, the same for all of them. */
#define RECONCILE_LOCK INT64CONST(7)

#define LOCK_PATIENCE "2s"

PG_FUNCTION_INFO_V1(prebuild_reconcile);

/* A pass under way. */
typedef struct Pass
{
	Judgement *judgement;
	int64_t clock; /* time of the next new row */
	MemoryContext context;
	int npresets; /* presets with something to do */
	PassTotals totals;
	int reconciled;
	int backing_off;
	int failed;
	bool paused;
	TimestampTz at;
	TimestampTz began; /* by the real clock */
	Id *organizations;
	ArrayParameter *jobs; /* new ones: those that totals.waiting counts, then what was undone */
} Pass;

/* Do something for some of the pass's presets or organizations, which are numbered. */
typedef void (*Work)(Pass *pass, const int *items, int n);

/* Say that it could not be done for one of them. */
typedef void (*Failure)(Pass *pass, int item, const ErrorData *error);

/* True in a pass: the lock does not keep a trigger of the control plane from running another. */
static bool in_pass = false;

/*
 * True for an error that may be the fault of one preset (or organization): bad values,
 * constraints, whatever triggers raise, a row that somebody holds for too long. The others are nobody's fault, or everybody's: they end the pass.
 */
static bool
may_be_the_items_fault(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return false;
		default:
			return sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE;
	}
}

/* Items of a pass, and what is to be done about them. */
typedef struct Items
{
	Pass *pass;
	Work work;
	Failure failure;
	const int *items;
	PassTotals totals; /* of what was done */
} Items;

/* Do the work for some of the items, in a subtransaction. */
static void
work_on_items(void *argument, int first, int n)
{
	static const char *const written[] = { "workspaces",
										   "provisioner_jobs",
										   "workspace_builds",
										   "workspace_build_parameters",
										   "workspace_agents",
										   "template_version_presets",
										   "groups",
										   "group_members",
										   "organization_members" };
	Items *items = argument;
	int guc_level = plans_control_plane_path();

	/* what a try before has counted was undone */
	items->pass->totals = items->totals;
	items->work(items->pass, items->items + first, n);
	subtransaction_check_constraints(written, lengthof(written));
	AtEOXact_GUC(true, guc_level);
	items->totals = items->pass->totals;
}

/* Say that it could not be done for one of the items. */
static void
leave_out_item(void *argument, int item, const ErrorData *error)
{
	Items *items = argument;

	items->failure(items->pass, items->items[item], error);
}

/* May the error be the fault of one of the items? */
static bool
is_items_fault(const ErrorData *error)
{
	return may_be_the_items_fault(error->sqlerrcode);
}

/* Do some work for all items but those for which it fails. Returns for how many it was done. */
static int
halve_work(Pass *pass, Work work, Failure failure, const int *items, int n)
{
	Items all = { pass, work, failure, items, pass->totals };
	Halving halving = { &all, work_on_items, is_items_fault, leave_out_item };
	int done = subtransaction_halve(&halving, 0, n);

	pass->totals = all.totals;
	return done;
}

/* Write some presets. */
static void
write_presets(Pass *pass, const int *presets, int n)
{
	PassTotals totals;

	pass->jobs->n = pass->totals.waiting;
	totals = provision_presets(pass->judgement, presets, n, &pass->clock, pass->jobs);
	status_write(pass->judgement, presets, n);
	pass->totals.created += totals.created;
	pass->totals.deleted += totals.deleted;
	pass->totals.canceled += totals.canceled;
	pass->totals.waiting += totals.waiting;
}

/* Report a preset that was rolled back. */
static void
report_preset(Pass *pass, int preset, const ErrorData *error)
{
	const PresetInfo *info = &pass->judgement->snapshot->info[preset];

	pass->failed++;
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("preset \"%s\" of template \"%s\" failed and was left as it is: %s",
							 info->name, info->template_name, error->message),
					  error->detail ? errdetail("%s", error->detail) : 0));
	status_write_failure(pass->judgement, preset, error);
}

/* Give the system user its place in some organizations. */
static void
join_organizations(Pass *pass, const int *items, int n)
{
	Id *organizations = palloc_array(Id, n);

	for (int i = 0; i < n; i++)
		organizations[i] = pass->organizations[items[i]];
	membership_ensure(organizations, n, pass->at);
}

/* Report an organization in which the system user has no place. */
static void
report_organization(Pass *pass, int item, const ErrorData *error)
{
	char *id = DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(&pass->organizations[item])));

	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("the system user could not be given its place in organization %s: %s",
							 id, error->message)));
}

/* Give the system user its place in the organizations where it needs one. */
static void
ensure_membership(Pass *pass)
{
	const PoolSnapshot *pool = &pass->judgement->snapshot->pool;
	int *items = palloc_array(int, pool->npresets + 1);
	int n;

	pass->organizations = palloc_array(Id, pool->npresets + 1);
	n = membership_organizations(pass->judgement->snapshot, pass->organizations);
	if (n > 0)
		membership_require_system_user();
	for (int i = 0; i < n; i++)
		items[i] = i;
	halve_work(pass, join_organizations, report_organization, items, n);
}

/* The presets for which the pass has something to write; returns their number. */
static int
presets_with_work(Pass *pass, int *presets)
{
	const Judgement *judgement = pass->judgement;
	const PoolSnapshot *pool = &judgement->snapshot->pool;
	int n = 0;

	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];

		pass->backing_off += preset->backing_off;
		if (preset->nactions > 0 || preset->create > 0 || status_has_changed(judgement, i))
			presets[n++] = i;
	}
	return n;
}

/*
 * Do what no fault is worth a pass for, in a subtransaction; a fault of one's own is a warning.
 * what: what was not done then.
 */
static void
do_aside(SubtransactionWork work, void *argument, const char *what, const char *hint)
{
	ErrorData *error = subtransaction_run(work, argument);

	if (error == NULL)
		return;
	if (!may_be_the_items_fault(error->sqlerrcode))
		ReThrowError(error);
	ereport(WARNING, (errcode(error->sqlerrcode), errmsg("%s: %s", what, error->message),
					  hint ? errhint("%s", hint) : 0));
}

static bool
fold_pool(void *argument)
{
	pool_state_fold(false);
	return true;
}

/*
 * Bring the stored pool up to date, which makes the pass, and whoever reads until the next one,
 * fast. Without it everything is answered from the tables.
 */
static void
refresh_pool(void)
{
	do_aside(fold_pool, NULL, "the stored pool was not brought up to date",
			 "prebuild_rebuild() builds it anew.");
}

static bool
prune_marks(void *argument)
{
	static const char *const written[] = { "template_version_presets" };
	int guc_level = plans_control_plane_path();

	pruning_marks(argument);
	subtransaction_check_constraints(written, lengthof(written));
	AtEOXact_GUC(true, guc_level);
	return true;
}

static bool
prune_old(void *argument)
{
	pruning_old(*(TimestampTz *) argument);
	return true;
}

/* Keep the extension's own tables within bounds. */
static void
prune(Pass *pass)
{
	do_aside(prune_marks, pass->judgement, "marks of presets that are not active were not removed",
			 NULL);
	do_aside(prune_old, &pass->at, "old events were not removed", NULL);
}

static bool
post_jobs(void *argument)
{
	const Pass *pass = argument;

	wakeup_provisioners(pass->jobs, pass->at);
	return true;
}

/*
 * Wake the provisioners for all new jobs of the pass. No fault there is worth a pass, a right that
 * is missing included: the provisioners ask by themselves, too.
 */
static void
wake_provisioners(Pass *pass)
{
	ErrorData *error = pass->jobs->n > 0 ? subtransaction_run(post_jobs, pass) : NULL;

	if (error == NULL)
		return;
	if (!may_be_the_items_fault(error->sqlerrcode) &&
		error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE)
		ReThrowError(error);
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("the provisioners were not woken: %s", error->message),
					  errhint("They find the new jobs when they ask by themselves.")));
}

/* Run the pass, the lock being held and the active snapshot taken after it. */
static void
run_pass(Pass *pass)
{
	const PoolSnapshot *pool;
	int *presets;
	int npresets;

	pass->paused = pause_is_on();
	if (pass->paused)
		return;
	pass->judgement = judgement_make(pass->at);
	pool = &pass->judgement->snapshot->pool;
	ensure_membership(pass);
	presets = palloc_array(int, pool->npresets + 1);
	npresets = presets_with_work(pass, presets);
	pass->jobs = array_new(UUIDOID);
	pass->reconciled = halve_work(pass, write_presets, report_preset, presets, npresets);
	pass->jobs->n = pass->totals.waiting;
	wake_provisioners(pass);
	pass->npresets = pool->npresets;
	status_write_summary(pass->at, pass->totals.created, pass->totals.deleted,
						 pass->totals.canceled, pass->failed);
	prune(pass);
	pass_stats_add(GetCurrentTimestamp() - pass->began);
}

/* Run the pass with its own snapshot and patience, the lock being held. */
static void
run_locked(FunctionCallInfo fcinfo, Pass *pass)
{
	int guc_level = NewGUCNestLevel();

	if (LockTimeout == 0)
		set_config_option("lock_timeout", LOCK_PATIENCE, PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_SAVE, true, 0, false);
	plans_enter(fcinfo);
	pass->context = CurrentMemoryContext;
	control_plane_require();
	refresh_pool();
	PushActiveSnapshot(GetTransactionSnapshot());
	run_pass(pass);
	/* at the end, as it locks tables; the next pass builds the stored pool */
	pool_state_mend();
	PopActiveSnapshot();
	plans_leave();
	AtEOXact_GUC(true, guc_level);
}

/* The result row of prebuild_reconcile(). */
static Datum
result_row(FunctionCallInfo fcinfo, const Pass *pass, bool locked)
{
	const int counts[] = { pass->npresets,		 pass->reconciled,		pass->totals.created,
						   pass->totals.deleted, pass->totals.canceled, pass->backing_off,
						   pass->failed };
	ResultRow row;

	row.n = 0;
	result_put_bool(&row, locked);
	result_put_bool(&row, pass->paused);
	for (size_t i = 0; i < lengthof(counts); i++)
		result_put_int4(&row, counts[i]);
	result_put(&row, INTERVALOID,
			   DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
								   TimestampTzGetDatum(pass->began)));
	return result_row_datum(fcinfo, &row);
}

/* prebuild_reconcile(at timestamptz): one pass */
Datum
prebuild_reconcile(PG_FUNCTION_ARGS)
{
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	Pass pass = { .at = at, .clock = at, .began = GetCurrentTimestamp() };
	bool locked;

	PreventCommandIfReadOnly("prebuild_reconcile()");
	if (IsolationUsesXactSnapshot())
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("prebuild_reconcile() cannot run in a transaction of isolation level %s",
					XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
			 errhint("A pass has to see what was committed before it took its lock. Run it in a "
					 "READ COMMITTED transaction.")));

	locked = !in_pass && DatumGetBool(DirectFunctionCall1(pg_try_advisory_xact_lock_int8,
														  Int64GetDatum(RECONCILE_LOCK)));
	if (locked)
	{
		in_pass = true;
		PG_TRY();
		{
			run_locked(fcinfo, &pass);
		}
		PG_FINALLY();
		{
			in_pass = false;
		}
		PG_END_TRY();
	}
	return result_row(fcinfo, &pass, locked);
}
