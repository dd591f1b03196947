/*
 * worker.c
 *	  The background workers, one per database that prebuild.databases names: they write buffered
 *	  agent metadata and, where prebuild.reconcile_interval says so, run passes.
 *
 * A process can connect once, to one database, as one role; so a worker's life is a chain of
 * processes, each of which does one step and exits for the postmaster to start the next:
 *
 *	  STEP_FIND_DATABASE	connected to no database: wait until the database exists and, where
 *							prebuild.worker_role names a role, until that can log in
 *	  STEP_FIND_ROLE		only where no role is named: connected as the bootstrap superuser, which
 *							a worker can without knowing any role; reads the owner of the control
 *							plane's workspaces from the system caches. It runs no SQL at all, so
 *							that nothing that anybody put into the database is ever run as superuser
 *	  STEP_SERVE			connected as that role
 *
 * However a process ends, the next one begins with the first step: so a dropped database, another
 * role or a changed owner need no case of their own. After an error it waits a while first.
 */
#include "compat.h"

#include <signal.h>

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "metadata_batcher.h"
#include "settings.h"
#include "worker.h"
#include "worker_lookup.h"
#include "worker_serve.h"
#include "worker_slots.h"

/* How long a worker waits before it starts again after an error. */
#define RESTART_PAUSE_MS 5000

/* How often a worker that cannot serve looks again. */
#define LOOK_AGAIN_MS 2000

/* Whether the shutdown signal also cancels the statement that is running. */
static volatile sig_atomic_t cancel_on_shutdown = false;

/* Register a worker for each database. Called while the library is preloaded. */
void
worker_init(void)
{
	for (int i = 0; i < worker_slots_count(); i++)
	{
		BackgroundWorker worker = { 0 };

		worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
		worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
		/* the pause after an error is the worker's own affair */
		worker.bgw_restart_time = 0;
		worker.bgw_main_arg = Int32GetDatum(i);
		strlcpy(worker.bgw_library_name, "prebuild_ext", sizeof(worker.bgw_library_name));
		strlcpy(worker.bgw_function_name, "prebuild_worker_main", sizeof(worker.bgw_function_name));
		snprintf(worker.bgw_name, BGW_MAXLEN, "prebuild worker for %s", worker_slot_name(i));
		strlcpy(worker.bgw_type, "prebuild worker", BGW_MAXLEN);
		RegisterBackgroundWorker(&worker);
	}
}

/* SIGTERM: finish, for which a running statement is canceled where that may be. */
static void
handle_sigterm(SIGNAL_ARGS)
{
	int save_errno = errno;

	ShutdownRequestPending = true;
	if (cancel_on_shutdown)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Let SIGTERM cancel what is run from here on, or not; returns nothing. */
void
worker_cancel_on_shutdown(bool cancel)
{
	cancel_on_shutdown = cancel;
}

/* True while this process is about to connect in order to serve. */
static bool connecting = false;

/* Exit callback: leave the slot, so that nobody sets a latch that is another process's by then. */
static void
leave_slot(int code, Datum argument)
{
	WorkerSlot *slot = worker_slot(DatumGetInt32(argument));
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->latch = NULL;
	slot->pid = 0;
	if (!slot->expected_exit)
	{
		slot->next_start = TimestampTzPlusMilliseconds(now, RESTART_PAUSE_MS);
		if (pg_atomic_read_u32(&slot->state) == WORKER_SERVING)
			pg_atomic_write_u32(&slot->state, WORKER_STARTING);
	}
	LWLockRelease(&slot->lock);
	/* reports are written directly until a process gets in */
	if (connecting)
		worker_slot_set_state(DatumGetInt32(argument), WORKER_UNABLE,
							  "the worker cannot connect, the server's log says why");
}

/* Take the slot for this process. Returns the step to do. */
static WorkerStep
enter_slot(WorkerSlot *slot, TimestampTz *next_start)
{
	WorkerStep step;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	step = slot->step;
	slot->step = STEP_FIND_DATABASE;
	slot->expected_exit = false;
	slot->latch = MyLatch;
	slot->pid = MyProcPid;
	slot->started_at = GetCurrentTimestamp();
	slot->starts++;
	*next_start = slot->next_start;
	slot->next_start = 0;
	LWLockRelease(&slot->lock);
	return step;
}

/*
 * Exit for the postmaster to start the next process, which is to do this step. role: for
 * STEP_SERVE, who it is to connect as.
 */
void
worker_exit(int number, WorkerStep next, const char *role)
{
	WorkerSlot *slot = worker_slot(number);

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->step = next;
	slot->expected_exit = true;
	if (role != NULL)
		strlcpy(slot->role, role, NAMEDATALEN);
	LWLockRelease(&slot->lock);
	/* with 0 the postmaster would not start it again; at shutdown it does not anyway */
	proc_exit(1);
}

/*
 * Wait until the latch is set or the time has passed, and see to what the system asks of a
 * process meanwhile: signals of other processes, new settings. Returns whether settings changed.
 */
bool
worker_wait(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	/* there is no statement that a late cancel could be meant for */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}

/*
 * Do a step that only looks something up, again and again until it says what comes next. what:
 * the name of the step for pg_stat_activity.
 */
static void
look_until_found(int number, WorkerLookup lookup, const char *what)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "prebuild worker", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		LookupResult result = { STEP_FIND_DATABASE, "", "" };
		bool found;

		MemoryContextSwitchTo(context);
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		pgstat_report_activity(STATE_RUNNING, what);
		found = lookup(number, &result);
		CommitTransactionCommand();
		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, NULL);
		if (found || ShutdownRequestPending)
			worker_exit(number, result.next, result.role);

		if (worker_slot_set_state(number, WORKER_UNABLE, result.detail))
			ereport(LOG, (errmsg("prebuild worker for database \"%s\" waits: %s",
								 worker_slot_name(number), result.detail)));
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(context);
		worker_wait(LOOK_AGAIN_MS);
	}
}

/* The entry point of a worker's process. argument: the number of its slot. */
void
prebuild_worker_main(Datum argument)
{
	int number = DatumGetInt32(argument);
	WorkerSlot *slot = worker_slot(number);
	TimestampTz next_start;
	WorkerStep step;

	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	before_shmem_exit(leave_slot, argument);
	step = enter_slot(slot, &next_start);
	BackgroundWorkerUnblockSignals();

	while (GetCurrentTimestamp() < next_start && !ShutdownRequestPending)
		worker_wait(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_start) + 1);
	if (ShutdownRequestPending)
		worker_exit(number, STEP_FIND_DATABASE, NULL);

	switch (step)
	{
		case STEP_FIND_DATABASE:
			BackgroundWorkerInitializeConnection(NULL, NULL, 0);
			look_until_found(number, worker_find_database, "prebuild: looking for the database");
			break;
		case STEP_FIND_ROLE:
			BackgroundWorkerInitializeConnection(slot->database, NULL, 0);
			look_until_found(number, worker_find_role, "prebuild: looking for the owner");
			break;
		case STEP_SERVE:
			connecting = true;
			BackgroundWorkerInitializeConnection(slot->database, slot->role, 0);
			connecting = false;
			worker_serve(number);
			break;
	}
}
