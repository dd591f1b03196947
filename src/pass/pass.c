/*
 * pass.c
 *	  The steps of a pass: carry out a judgement.
 *
 *	  A pass waits for locks of other sessions at most PASS_PATIENCE_MS in total (see patience.c),
 *	  because it holds the reconcilers' lock meanwhile. A lock that the pass cannot get is not a
 *	  fault. The pass leaves what needs the lock to the next pass, and one WARNING names the lock
 *	  and its holder. After a wait for a row, the pass halves the presets without patience, so that
 *	  it still writes the presets that do not need the row. After a wait for a whole table it gives
 *	  up at once.
 *
 *	  Faults: the pass writes all presets in one subtransaction. If that fails, it halves the
 *	  presets until a faulty one is alone, rolls back that one and reports it. An error that is not
 *	  the fault of a preset (a cancel, a deadlock, a missing right) rolls back the whole pass.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/patience.h"
#include "base/plans.h"
#include "base/subtransaction.h"
#include "catalog/constraints.h"
#include "decision/past_failures.h"
#include "demand/demand_log.h"
#include "demand/preset_counts.h"
#include "pass/choosing.h"
#include "pass/membership.h"
#include "pass/pass.h"
#include "pass/pass_stats.h"
#include "pass/pause.h"
#include "pass/promotion.h"
#include "pass/pruning.h"
#include "pass/status.h"
#include "pass/wakeup.h"
#include "pool/pool_state.h"
#include "pool/pool_trust.h"

/*
 * True if one preset (or organization) may have caused the error: bad values, constraints, whatever
 * triggers raise, a row that another session holds for too long. Every other error concerns the
 * session or the whole database, and aborts the pass.
 */
static bool
is_items_fault(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return false;
		default:
			return error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE;
	}
}

/* Is there no point in trying fewer items, because they all need the same unavailable lock? */
static bool
gives_up(const ErrorData *error)
{
	return patience_lose(error) && patience_is_over();
}

/*
 * Choose the tables whose deferred constraints each try checks: those that a pass writes, except
 * those that the caller's transaction already violates, because it may still repair that.
 */
static void
choose_checked_tables(Pass *pass)
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
	/* the caller's deferred triggers, too, look for the control plane by bare names */
	int guc_level = plans_control_plane_path();

	pass->checked = palloc_array(const char *, lengthof(written));
	for (size_t i = 0; i < lengthof(written); i++)
		if (constraints_hold(written[i], is_items_fault))
			pass->checked[pass->nchecked++] = written[i];
	AtEOXact_GUC(true, guc_level);
}

/* Begin to write some items. Returns the GUC nest level, which end_try() ends. */
static int
begin_try(void)
{
	int guc_level = plans_control_plane_path();

	patience_arm();
	return guc_level;
}

/* End a try: check the deferred constraints of what it wrote. Raises what violates them. */
static void
end_try(const Pass *pass, int guc_level)
{
	constraints_check(pass->checked, pass->nchecked);
	AtEOXact_GUC(true, guc_level);
}

/* Write n of the presets with something to do, from number first on. */
static void
write_presets(void *argument, int first, int n)
{
	Pass *pass = argument;
	Preset **presets = pass->presets + first;
	int guc_level = begin_try();
	PassTotals totals;

	/* forget the jobs of a try that was undone */
	pass->jobs->n = pass->totals.waiting;
	totals = provision_presets(pass->judgement, presets, n, &pass->clock, pass->jobs);
	status_write(pass->judgement, presets, n);
	end_try(pass, guc_level);
	pass->totals.created += totals.created;
	pass->totals.deleted += totals.deleted;
	pass->totals.canceled += totals.canceled;
	pass->totals.waiting += totals.waiting;
}

/* Note what a lock of another session leaves to the next pass. */
static void
leave(Pass *pass, const char *what)
{
	appendStringInfo(&pass->left, "%s%s", pass->left.len > 0 ? ", " : "", what);
}

/*
 * Run a part of the pass in a subtransaction. If a lock of another session stops it, note it as
 * left to the next pass and return false. Raises all other errors.
 */
static bool
attempt(Pass *pass, const char *what, SubtransactionWork work, void *argument)
{
	ErrorData *error;

	patience_arm();
	error = subtransaction_run(work, argument);
	if (error == NULL)
		return true;
	if (!patience_lose(error))
		ReThrowError(error);
	leave(pass, what);
	return false;
}

/* A preset that failed. */
typedef struct FailedPreset
{
	const Preset *preset;
	const ErrorData *error;
	TimestampTz at; /* of the pass */
} FailedPreset;

static bool
record_failure(void *argument)
{
	const FailedPreset *failed = argument;

	status_write_failure(failed->preset, failed->error, failed->at);
	return true;
}

/* Report a preset whose changes were rolled back. */
static void
report_preset(void *argument, int item, const ErrorData *error)
{
	Pass *pass = argument;
	const Preset *preset = pass->presets[item];
	FailedPreset failed = { preset, error, pass->at };

	if (patience_lose(error))
	{
		pass->locked_out++;
		return;
	}
	pass->failed++;
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("skipping preset \"%s\" of template \"%s\": %s", preset->details->name,
							 preset->details->template_name, error->message),
					  error->detail ? errdetail("%s", error->detail) : 0));
	attempt(pass, "the event of a preset that failed", record_failure, &failed);
}

/* Make the system user join n of its organizations, from number first on. */
static void
join_organizations(void *argument, int first, int n)
{
	const Pass *pass = argument;
	int guc_level = begin_try();

	membership_ensure(pass->organizations + first, n, pass->at);
	end_try(pass, guc_level);
}

/* Report an organization that the system user could not join. */
static void
report_organization(void *argument, int item, const ErrorData *error)
{
	Pass *pass = argument;
	char *id;

	if (patience_lose(error))
	{
		pass->left_places++;
		return;
	}
	id = DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(&pass->organizations[item])));
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not add the system user to organization %s: %s", id, error->message)));
}

/* Promote and end n of the stages with something to do, from number first on. */
static void
write_stages(void *argument, int first, int n)
{
	const Pass *pass = argument;
	int guc_level = begin_try();

	promotion_write(pass->stages + first, n, pass->at);
	end_try(pass, guc_level);
}

/* Report a stage that the pass could neither promote nor end. The next pass tries again. */
static void
report_stage(void *argument, int item, const ErrorData *error)
{
	Pass *pass = argument;
	const Stage *stage = pass->stages[item];
	const char *name = stage->template_name != NULL ? stage->template_name : "?";

	if (patience_lose(error))
		leave(pass, psprintf("the staged version of template \"%s\"", name));
	else
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not promote or end the staged version of template \"%s\": %s", name,
						error->message),
				 error->detail ? errdetail("%s", error->detail) : 0));
}

/* Collect the presets for which the pass has something to write. */
static void
collect_presets(Pass *pass)
{
	const PoolSnapshot *pool = pass->judgement->pool;

	pass->presets = palloc_array(Preset *, pool->npresets + 1);
	for (int i = 0; i < pool->npresets; i++)
	{
		Preset *preset = &pool->presets[i];

		pass->backing_off += preset->backing_off;
		if (preset->nactions > 0 || preset->create > 0 || status_has_changed(preset))
			pass->presets[pass->npresets++] = preset;
	}
}

/*
 * Run a part whose faults must not fail the pass, in a subtransaction. Its own faults become
 * WARNINGs. what: names the part if a lock leaves it to the next pass; undone, hint: text of the
 * WARNING. Returns whether the part ended well.
 */
static bool
do_aside(Pass *pass, SubtransactionWork work, const char *what, const char *undone,
		 const char *hint)
{
	ErrorData *error;

	patience_arm();
	error = subtransaction_run(work, pass);
	if (error == NULL)
		return true;
	if (patience_lose(error))
	{
		leave(pass, what);
		return false;
	}
	if (!is_items_fault(error))
		ReThrowError(error);
	ereport(WARNING, (errcode(error->sqlerrcode), errmsg("%s: %s", undone, error->message),
					  hint ? errhint("%s", hint) : 0));
	return false;
}

static bool
fold_pool(void *argument)
{
	Pass *pass = argument;

	pass->folded = pool_state_fold_for_pass(&pass->view);
	return true;
}

/*
 * Bring the stored pool up to date, and take the snapshot of the pass. This makes this pass, and
 * all readers until the next one, fast. Without it they read the tables. If possible, the pass goes
 * on in the snapshot of the fold, whose view of the stored pool needs no further look.
 */
void
pass_refresh_pool(Pass *pass)
{
	if (do_aside(pass, fold_pool, "the stored pool", "could not update the stored pool",
				 "prebuild_rebuild() rebuilds it.") &&
		pass->folded)
	{
		/* let it see what the fold has written */
		UpdateActiveSnapshotCommandId();
		pool_view_keep(&pass->view);
	}
	else
		PushActiveSnapshot(GetTransactionSnapshot());
}

static bool
prune_marks(void *argument)
{
	static const char *const written[] = { "template_version_presets" };
	const Pass *pass = argument;
	int guc_level = plans_control_plane_path();

	pruning_marks(pass->judgement);
	past_failures_prune(pass->judgement->pool, &pass->judgement->settings);
	constraints_check(written, lengthof(written));
	AtEOXact_GUC(true, guc_level);
	return true;
}

static bool
prune_old(void *argument)
{
	const Pass *pass = argument;

	pruning_old(pass->at);
	return true;
}

static bool
update_demand(void *argument)
{
	const Pass *pass = argument;
	const PoolSnapshot *pool = pass->judgement->pool;
	DemandUpdate update = demand_log_update(pass->at);
	PresetCounts eligible = preset_counts_new();
	const PresetCounts none = preset_counts_new();

	for (int i = 0; i < pool->npresets; i++)
		if (pool->presets[i].eligible > 0)
			preset_counts_add(&eligible, &pool->presets[i].template_id,
							  pool->presets[i].details->name, COUNT_IDLE,
							  pool->presets[i].eligible);
	if (update.idle_until != 0)
		preset_idle_write(&eligible, update.idle_until, update.first);
	if (update.counts_wait)
		preset_counts_keep(&none);
	return true;
}

static bool
choose_policies(void *argument)
{
	const Pass *pass = argument;

	choosing_run(pass->judgement, pass->at);
	return true;
}

static bool
note_given_up(void *argument)
{
	const Pass *pass = argument;

	status_write_given_up(pass->judgement);
	return true;
}

/* Keep the extension's own tables small. */
static void
prune(Pass *pass)
{
	do_aside(pass, prune_marks, "marks of inactive presets",
			 "could not remove marks of inactive presets", NULL);
	do_aside(pass, prune_old, "old events", "could not remove old events", NULL);
}

static bool
post_jobs(void *argument)
{
	const Pass *pass = argument;

	wakeup_provisioners(pass->jobs, pass->at);
	return true;
}

/*
 * Wake the provisioners for all new jobs of the pass. No fault in this fails the pass, not even a
 * missing right, because the provisioners also ask by themselves.
 */
static void
wake_provisioners(Pass *pass)
{
	ErrorData *error;

	patience_arm();
	error = pass->jobs->n > 0 ? subtransaction_run(post_jobs, pass) : NULL;
	if (error == NULL)
		return;
	if (!is_items_fault(error) && error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE)
		ReThrowError(error);
	(void) patience_lose(error);
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("could not wake the provisioners: %s", error->message),
					  patience_report() != NULL ? errdetail("%s", patience_report()) : 0,
					  errhint("They find the new jobs when they poll next.")));
}

/* Find out whether reconciliation is paused, and otherwise what to do. */
static bool
judge(void *argument)
{
	Pass *pass = argument;

	pass->paused = pause_is_on();
	if (pass->paused)
		return true;
	/* else the fold has done this; pass_run() pops the snapshot */
	if (!pass->folded)
	{
		pool_tables_lock();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	pass->judgement = judgement_make(pass->at);
	judgement_warn(pass->judgement);
	pass->organizations = palloc_array(Id, pass->judgement->pool->npresets + 1);
	pass->norganizations = membership_organizations(pass->judgement->pool, pass->organizations);
	if (pass->norganizations > 0)
		membership_require_system_user();
	return true;
}

/* Write the summary event and the statistics of the pass. */
static bool
sum_up(void *argument)
{
	Pass *pass = argument;

	status_write_summary(pass->at, pass->totals.created, pass->totals.deleted,
						 pass->totals.canceled, pass->failed);
	pass_stats_add(GetCurrentTimestamp() - pass->began);
	return true;
}

/* Warn of everything that locks of other sessions left to the next pass. */
static void
report_left(Pass *pass)
{
	if (pass->left_places > 0)
		leave(pass,
			  psprintf("the membership of the system user in %d organizations", pass->left_places));
	if (pass->locked_out > 0)
		leave(pass,
			  psprintf("%d of %d presets that need changes", pass->locked_out, pass->npresets));
	if (pass->left.len == 0)
		return;
	ereport(WARNING, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					  errmsg("skipping work until the next pass because of locks of other "
							 "sessions: %s",
							 pass->left.data),
					  patience_report() != NULL ? errdetail("%s", patience_report()) : 0,
					  errhint("A pass waits %d s for locks in total, or lock_timeout for each "
							  "lock. pg_stat_activity shows what these sessions do.",
							  PASS_PATIENCE_MS / 1000)));
}

/*
 * Run the pass. The caller holds lock 7, has set the patience and has called pass_refresh_pool(),
 * whose active snapshot the caller pops afterwards. Raises errors that are not the fault of a preset.
 */
void
pass_run(Pass *pass)
{
	static const Halving joining = { join_organizations, is_items_fault, gives_up,
									 report_organization };
	static const Halving writing = { write_presets, is_items_fault, gives_up, report_preset };
	static const Halving staging = { write_stages, is_items_fault, gives_up, report_stage };

	if (attempt(pass, "the whole pass", judge, pass) && !pass->paused)
	{
		choose_checked_tables(pass);
		subtransaction_halve(&joining, pass, 0, pass->norganizations);
		collect_presets(pass);
		pass->jobs = array_new(UUIDOID);
		pass->reconciled = subtransaction_halve(&writing, pass, 0, pass->npresets);
		pass->jobs->n = pass->totals.waiting;
		wake_provisioners(pass);
		pass->njudged = pass->judgement->pool->npresets;
		pass->stages = promotion_due(&pass->judgement->stages, &pass->nstages);
		subtransaction_halve(&staging, pass, 0, pass->nstages);
		do_aside(pass, note_given_up, "events of deletes that failed",
				 "events of deletes that failed were not written", NULL);
		prune(pass);
		do_aside(pass, update_demand, "the log of demands", "could not update the log of demands",
				 NULL);
		do_aside(pass, choose_policies, "the choice of policies", "could not choose policies",
				 NULL);
		attempt(pass, "the record of the pass", sum_up, pass);
		if (!pass->folded)
			PopActiveSnapshot();
	}
	report_left(pass);
}
