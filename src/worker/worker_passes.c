/*
 * worker_passes.c
 *	  The passes and folds of the pass worker, or of a metadata worker that does both.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "postmaster/interrupt.h"

#include "settings.h"
#include "worker/worker_passes.h"
#include "slots/worker_slots.h"
#include "worker/worker_task.h"

/* Make a pass, if the worker runs passes, and a fold due at once. */
void
pass_work_init(PassWork *work, int number)
{
	memset(work, 0, sizeof(PassWork));
	work->number = number;
}

/* Return when the next pass is due; DT_NOEND means never. */
static TimestampTz
next_pass(const PassWork *work)
{
	if (setting_reconcile_interval == 0)
		return DT_NOEND;
	/* start a requested pass as soon as a second has passed since the last one */
	if (pg_atomic_read_u32(&worker_slot(work->number)->pass_requested) != 0)
		return TimestampTzPlusMilliseconds(work->last_pass, 1000);
	return TimestampTzPlusMilliseconds(work->last_pass, (int64) setting_reconcile_interval * 1000);
}

/* Return when the next fold is due. */
static TimestampTz
next_fold(const PassWork *work)
{
	return TimestampTzPlusMilliseconds(work->last_fold, (int64) setting_fold_interval * 1000);
}

/* Return when the next pass or fold is due. */
TimestampTz
pass_work_next(const PassWork *work)
{
	return Min(next_pass(work), next_fold(work));
}

/* Run a pass, and count it in the slot under its lock. */
static void
run_pass(PassWork *work)
{
	WorkerCall call = { .function = "prebuild_reconcile",
						.nargs = 1,
						.argtype = TIMESTAMPTZOID,
						.arguments = "pg_catalog.now()" };
	WorkerSlot *slot = worker_slot(work->number);
	bool done;

	pg_atomic_write_u32(&slot->pass_requested, 0);
	done = worker_run_task(work->number, TASK_PASS, "prebuild: reconciling", worker_call, &call) ==
		   NULL;
	work->last_pass = GetCurrentTimestamp();
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->passes++;
	slot->failed_passes += done ? 0 : 1;
	slot->last_pass_at = work->last_pass;
	LWLockRelease(&slot->lock);
}

/*
 * Fold the log of the kept pool, if the control plane is attached. If the role may not call the
 * function, do and count nothing, because a role that only writes metadata need not have that
 * right. Takes the slot's lock.
 */
static void
run_fold(PassWork *work)
{
	WorkerCall call = { .function = "prebuild_fold", .arguments = "", .if_permitted = true };
	WorkerSlot *slot = worker_slot(work->number);
	bool done;

	done = worker_run_task(work->number, TASK_FOLD, "prebuild: folding the log of the pool",
						   worker_call, &call) == NULL;
	work->last_fold = GetCurrentTimestamp();
	if (done && !call.called)
		return;
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->folds++;
	slot->failed_folds += done ? 0 : 1;
	slot->last_fold_at = work->last_fold;
	LWLockRelease(&slot->lock);
}

/* Run a pass and a fold, if they are due. */
void
pass_work_do(PassWork *work)
{
	if (GetCurrentTimestamp() >= next_pass(work))
		run_pass(work);
	if (GetCurrentTimestamp() >= next_fold(work) && !ShutdownRequestPending)
		run_fold(work);
}
