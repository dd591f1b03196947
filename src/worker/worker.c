/*
 * worker.c
 *	  The processes of the background workers. Each database in prebuild.databases has two workers.
 *	  The metadata worker writes buffered agent metadata. The pass worker folds the log of the kept
 *	  pool and, if prebuild.reconcile_interval is not 0, runs passes. See README.md.
 *
 * A process can connect only once, to one database, as one role. Therefore the metadata worker is a
 * chain of processes. Each process does one step, has the next one started, and exits:
 *
 *	  STEP_FIND_DATABASE	Connects to no database. Waits until the database exists and, if
 *							prebuild.worker_role names a role, until that role can log in.
 *	  STEP_FIND_ROLE		Only if prebuild.worker_role is empty. Connects as the bootstrap
 *							superuser, because a worker can do so without knowing any role. Reads
 *							the owner of the control plane's workspaces from the system caches. Runs
 *							no SQL at all, so it never runs a user's code as superuser.
 *	  STEP_SERVE			Connects as the role that it found.
 *
 * A process that ends in any other way leaves the first step to the next process. So a dropped
 * database, another role or a changed owner need no code of their own. After an error, the next
 * process waits RESTART_PAUSE_MS before it begins.
 *
 * The pass worker follows the metadata worker. It waits without a connection until the metadata
 * worker serves, and then connects as the same role. When the metadata worker can no longer serve,
 * or serves as another role, the pass worker exits and its next process waits again.
 *
 * The postmaster starts a worker again by itself only if its process exits with 1, and logs that as
 * if it were a fault. So a process that ends as planned registers a new worker for its lane, and
 * exits with 0 once the postmaster has started that one. Until then, and whenever that fails, it
 * exits with 1. So a lane never loses its last process, but may for a moment have a second one,
 * which finds the lane taken and exits with 0. README.md has the proof.
 */
#include "compat.h"

#include <signal.h>

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgworker_internals.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "metadata/metadata_batcher.h"
#include "settings.h"
#include "worker/worker.h"
#include "worker/worker_lookup.h"
#include "worker/worker_serve.h"
#include "slots/worker_slots.h"

/* How long the next process waits after an error. */
#define RESTART_PAUSE_MS 5000

/* How often a worker that cannot serve looks again for its database or role. */
#define LOOK_AGAIN_MS 2000

/* How often a waiting pass worker checks that the metadata worker has a process. */
#define FOLLOW_MS 500

/* Whether SIGTERM also cancels the running statement. */
static volatile sig_atomic_t cancel_on_shutdown = false;

/* How long a process waits until the postmaster has started the next one. */
#define SUCCESSOR_LIMIT_MS 1000

/* How long it tries to get room for it before. */
#define ROOM_LIMIT_MS 200

/* Describe a worker of a lane to the postmaster. */
static BackgroundWorker
describe_worker(int number, WorkerLaneName lane)
{
	BackgroundWorker worker = { 0 };

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	/* restart at once, because the worker itself pauses after an error */
	worker.bgw_restart_time = 0;
	worker.bgw_main_arg = Int32GetDatum(number * WORKER_LANES + lane);
	strlcpy(worker.bgw_library_name, "prebuild_ext", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "prebuild_worker_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, lane == LANE_METADATA ? "prebuild worker" : "prebuild pass worker",
			BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for %s", worker.bgw_type, worker_slot_name(number));
	return worker;
}

/*
 * Register the worker of a lane. Returns whether max_worker_processes had room for it. If not, the
 * postmaster only logs that, so compare the head of its list, where it puts each new worker.
 */
static bool
register_worker(int number, WorkerLaneName lane)
{
	BackgroundWorker worker = describe_worker(number, lane);
	const void *newest = BackgroundWorkerList.head.next;

	RegisterBackgroundWorker(&worker);
	return BackgroundWorkerList.head.next != newest;
}

/*
 * Register the workers. Register those for metadata first, because they can also run passes if
 * there is no room for more. Called while the library is preloaded. Warns of each worker for which
 * max_worker_processes has no room.
 */
void
worker_init(void)
{
	/* a child that loads the library again finds the postmaster's result in shared memory */
	if (IsUnderPostmaster || !IsPostmasterEnvironment)
		return;
	for (int lane = 0; lane < WORKER_LANES; lane++)
	{
		for (int i = 0; i < worker_slots_count(); i++)
		{
			if (register_worker(i, lane))
				worker_slots_registered(i, lane);
			else
				ereport(
					WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg(lane == LANE_METADATA
								? "there is no background worker for database \"%s\""
								: "database \"%s\" has one background worker for both agent "
								  "metadata and passes",
							worker_slot_name(i)),
					 errhint("Increase max_worker_processes, which is %d. prebuild.databases needs "
							 "two background workers for each database.",
							 max_worker_processes)));
		}
	}
}

/* SIGTERM: request shutdown, and cancel the running statement if the task allows it. */
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

/* Set whether SIGTERM cancels the statements that follow. */
void
worker_cancel_on_shutdown(bool cancel)
{
	cancel_on_shutdown = cancel;
}

/* True while this process connects in order to serve. */
static bool connecting = false;

/* The last error before this process serves. No task records it, so leave_slot() does. */
static int start_sqlstate = 0;
static char start_error[WORKER_TEXT_SIZE];
static emit_log_hook_type log_before = NULL;

/* Log hook until the process serves: keep the error that ends the process. */
static void
keep_start_error(ErrorData *error)
{
	if (error->elevel >= ERROR && error->message != NULL)
	{
		start_sqlstate = error->sqlerrcode;
		strlcpy(start_error, error->message, WORKER_TEXT_SIZE);
	}
	if (log_before)
		log_before(error);
}

/* True while this process has its lane. */
static bool in_lane = false;

/*
 * Exit callback: leave the slot, so that no session sets the latch after another process has got
 * it. Does nothing if this process has no lane (any more). Takes the slot's lock.
 */
static void
leave_slot(int code, Datum argument)
{
	int number = DatumGetInt32(argument) / WORKER_LANES;
	WorkerLaneName name = DatumGetInt32(argument) % WORKER_LANES;
	WorkerSlot *slot = worker_slot(number);
	WorkerLane *lane = &slot->lanes[name];
	TimestampTz now = GetCurrentTimestamp();
	uint32 state;

	if (!in_lane)
		return;
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	in_lane = false;
	lane->latch = NULL;
	lane->pid = 0;
	if (!lane->expected_exit)
		lane->next_start = TimestampTzPlusMilliseconds(now, RESTART_PAUSE_MS);
	state = pg_atomic_read_u32(&lane->state);
	if (state == WORKER_SERVING || state == WORKER_DRAINING)
		pg_atomic_write_u64(&lane->starting_since, (uint64) now);
	/* stay WORKER_DRAINING after the last flush: buffer nothing until the next process serves */
	if (state == WORKER_SERVING)
		pg_atomic_write_u32(&lane->state, WORKER_STARTING);
	LWLockRelease(&slot->lock);
	if (start_sqlstate != 0)
		worker_slot_note_error(number, TASK_START + name, start_sqlstate, start_error);
	/* sessions write their reports directly until a process connects */
	if (connecting)
		worker_slot_set_state(number, name, WORKER_UNABLE,
							  "the worker cannot connect; see the server log");
}

/*
 * Take the lane for this process. Returns the step to do; *next_start receives the time at which to
 * begin it, or 0. Exits if the lane has a process. Takes the slot's lock.
 */
static WorkerStep
enter_slot(int number, WorkerLaneName name, TimestampTz *next_start)
{
	WorkerSlot *slot = worker_slot(number);
	WorkerLane *lane = &slot->lanes[name];
	WorkerStep step;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	if (lane->pid != 0)
	{
		LWLockRelease(&slot->lock);
		proc_exit(0);
	}
	in_lane = true;
	step = lane->step;
	lane->step = STEP_FIND_DATABASE;
	lane->expected_exit = false;
	lane->latch = MyLatch;
	lane->pid = MyProcPid;
	lane->started_at = GetCurrentTimestamp();
	lane->starts++;
	*next_start = lane->next_start;
	lane->next_start = 0;
	LWLockRelease(&slot->lock);
	return step;
}

/* Have the next process of a lane wait pause_ms before it begins. Takes the slot's lock. */
void
worker_pause_next(int number, WorkerLaneName name, int pause_ms)
{
	WorkerSlot *slot = worker_slot(number);
	TimestampTz next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms);

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->lanes[name].next_start = next_start;
	LWLockRelease(&slot->lock);
}

/*
 * Register another worker for a lane that this process has left, and wait until the postmaster has
 * started it. Returns whether this registration is no longer needed.
 */
static bool
start_successor(int number, WorkerLaneName name)
{
	BackgroundWorker worker = describe_worker(number, name);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SUCCESSOR_LIMIT_MS);
	TimestampTz room_deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROOM_LIMIT_MS);
	BackgroundWorkerHandle *handle;
	pid_t pid;

	worker.bgw_notify_pid = MyProcPid;
	/*
	 * This fails if max_worker_processes has no room for one more. When the server shuts down, all
	 * workers come here at the same time, and those that are through make room.
	 */
	while (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		if (GetCurrentTimestamp() >= room_deadline)
			return false;
		worker_wait(ROOM_LIMIT_MS / 10);
	}
	/* it also counts as started if the server shuts down, after which nothing starts */
	while (GetBackgroundWorkerPid(handle, &pid) == BGWH_NOT_YET_STARTED)
	{
		if (GetCurrentTimestamp() >= deadline)
			return false;
		worker_wait(SUCCESSOR_LIMIT_MS / 10);
	}
	return true;
}

/*
 * Exit, and have the next process of the lane do the step next. role: the role that STEP_SERVE
 * connects as, or NULL to keep the lane's. Takes the slot's lock. Call it outside of a transaction.
 */
void
worker_exit(int number, WorkerLaneName name, WorkerStep next, const char *role)
{
	WorkerSlot *slot = worker_slot(number);
	WorkerLane *lane = &slot->lanes[name];

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	lane->step = next;
	lane->expected_exit = true;
	if (role != NULL)
		strlcpy(lane->role, role, NAMEDATALEN);
	LWLockRelease(&slot->lock);
	leave_slot(0, Int32GetDatum(number * WORKER_LANES + name));
	/* after exit code 0 the postmaster forgets the worker, after 1 it starts it again */
	proc_exit(start_successor(number, name) ? 0 : 1);
}

/*
 * Wait until the latch is set or timeout_ms has passed, then process interrupts and a reload of the
 * configuration. Returns whether the configuration was reloaded. Call it outside of a transaction.
 */
bool
worker_wait(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	/* no statement is running, so drop a cancel that came too late */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}

/*
 * Repeat a look-up every LOOK_AGAIN_MS until it finds the next step, then exit for that step. Runs
 * each look-up in a transaction and a memory context of its own. what: the name of the step for
 * pg_stat_activity. Logs each new reason to wait. Does not return.
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
			worker_exit(number, LANE_METADATA, result.next, result.role);

		if (worker_slot_set_state(number, LANE_METADATA, WORKER_UNABLE, result.detail))
			ereport(LOG, (errmsg("prebuild worker for database \"%s\" is waiting: %s",
								 worker_slot_name(number), result.detail)));
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(context);
		worker_wait(LOOK_AGAIN_MS);
	}
}

/* Connect as the lane's role and serve. Does not return; the process ends if it cannot connect. */
static void
connect_and_serve(int number, WorkerLaneName lane)
{
	WorkerSlot *slot = worker_slot(number);

	connecting = true;
	BackgroundWorkerInitializeConnection(slot->database, slot->lanes[lane].role, 0);
	connecting = false;
	emit_log_hook = log_before;
	worker_serve(number, lane);
}

/*
 * Does the metadata worker serve? If so, copy its role to the pass worker's lane. Otherwise set the
 * pass worker's state to match. Takes the slot's lock.
 */
static bool
other_serves(int number)
{
	WorkerSlot *slot = worker_slot(number);
	char detail[WORKER_TEXT_SIZE];
	WorkerState state = worker_slot_state(number, LANE_METADATA, detail);

	worker_slot_look_after(number, LANE_METADATA);
	if (state != WORKER_SERVING)
	{
		if (state == WORKER_UNABLE)
			worker_slot_set_state(number, LANE_PASSES, WORKER_UNABLE, detail);
		else
			worker_slot_set_state(number, LANE_PASSES, WORKER_STARTING, NULL);
		return false;
	}
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	strlcpy(slot->lanes[LANE_PASSES].role, slot->lanes[LANE_METADATA].role, NAMEDATALEN);
	LWLockRelease(&slot->lock);
	return true;
}

/* Wait until the metadata worker serves, then serve as the same role. Does not return. */
static void
follow(int number)
{
	while (!other_serves(number))
	{
		worker_wait(FOLLOW_MS);
		if (ShutdownRequestPending)
			worker_exit(number, LANE_PASSES, STEP_FIND_DATABASE, NULL);
	}
	connect_and_serve(number, LANE_PASSES);
}

/* The entry point of a worker's process. argument: slot * WORKER_LANES + lane. */
void
prebuild_worker_main(Datum argument)
{
	int number = DatumGetInt32(argument) / WORKER_LANES;
	WorkerLaneName lane = DatumGetInt32(argument) % WORKER_LANES;
	TimestampTz next_start;
	WorkerStep step;

	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	log_before = emit_log_hook;
	emit_log_hook = keep_start_error;
	before_shmem_exit(leave_slot, argument);
	step = enter_slot(number, lane, &next_start);
	BackgroundWorkerUnblockSignals();

	while (GetCurrentTimestamp() < next_start && !ShutdownRequestPending)
		worker_wait(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_start) + 1);
	if (ShutdownRequestPending)
		worker_exit(number, lane, STEP_FIND_DATABASE, NULL);
	if (lane == LANE_PASSES)
		follow(number);

	switch (step)
	{
		case STEP_FIND_DATABASE:
			BackgroundWorkerInitializeConnection(NULL, NULL, 0);
			look_until_found(number, worker_find_database, "prebuild: looking for the database");
			break;
		case STEP_FIND_ROLE:
			BackgroundWorkerInitializeConnection(worker_slot(number)->database, NULL, 0);
			look_until_found(number, worker_find_role, "prebuild: looking for the owner");
			break;
		case STEP_SERVE:
			connect_and_serve(number, LANE_METADATA);
			break;
	}
}
