/*
 * worker_serve.c
 *	  What a worker does once it is connected as its role: flush at the interval, at capacity and
 *	  on request, run passes, and flush once more before it exits.
 *
 * A task that fails is logged, noted and tried again; it does not end the process.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "metadata_flush.h"
#include "plans.h"
#include "settings.h"
#include "worker.h"
#include "worker_lookup.h"
#include "worker_serve.h"

/* No statement of ours waits longer for a lock: the next task is due. */
#define LOCK_TIMEOUT "5s"

/* How long the last flush may take. */
#define SHUTDOWN_LIMIT_MS 15000

/* How often the worker makes sure that the extension is still there and its role is the right. */
#define CHECK_INTERVAL_MS 2000

/* How often a worker that holds back looks at the buffer. */
#define HOLD_CHECK_MS 50

/* How often the stored pool is brought up to date where no pass does it. */
#define FOLD_INTERVAL_MS 60000

/* Bounds of the pause after a failed flush, which otherwise is the flush interval. */
#define MIN_RETRY_MS 1000
#define MAX_RETRY_MS 10000

typedef struct Worker
{
	int number;
	WorkerSlot *slot;
	BatcherDatabase *database;
	bool serving;
	char *error; /* of the task that failed last, in the loop's context */
	TimestampTz next_check;
	TimestampTz next_flush;
	TimestampTz hold_capacity; /* no flush for capacity before this: see flush_for_capacity() */
	bool failed;			   /* the last flush */
	TimestampTz last_pass;
	TimestampTz next_fold;
} Worker;

typedef void (*Task)(void *argument);

/* A time in the future. */
static TimestampTz
after_ms(int64 milliseconds)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
}

/*
 * Run a task, which makes its own transactions. On an error, log it, keep its message in
 * worker->error and return false.
 */
static bool
run_task(Worker *worker, const char *activity, Task task, void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	pgstat_report_activity(STATE_RUNNING, activity);
	worker_cancel_on_shutdown(!ShutdownRequestPending);
	PG_TRY();
	{
		task(argument);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		worker_cancel_on_shutdown(false);
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
		LWLockReleaseAll();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		worker->error = error->message ? error->message : "unknown error";
		worker_slot_note_error(worker->number, worker->error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	worker_cancel_on_shutdown(false);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return done;
}

/* What check_database() looks at. */
typedef struct DatabaseCheck
{
	int number;
	bool installed;
	bool role_changed;
} DatabaseCheck;

/* Task: is the extension there, and is this still the right role? */
static void
check_database(void *argument)
{
	DatabaseCheck *check = argument;
	LookupResult lookup = { STEP_FIND_DATABASE, "", "" };

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	check->installed = OidIsValid(get_extension_oid("prebuild_ext", true));
	if (setting_worker_role[0] != '\0')
		check->role_changed = strcmp(setting_worker_role, worker_slot(check->number)->role) != 0;
	else
		check->role_changed =
			check->installed && (!worker_find_role(check->number, &lookup) ||
								 strcmp(lookup.role, worker_slot(check->number)->role) != 0);
	CommitTransactionCommand();
}

/* Make sure that the worker can serve, or say why not; exits when its role should be another. */
static void
check_serving(Worker *worker)
{
	DatabaseCheck check = { .number = worker->number };

	if (!run_task(worker, "prebuild: looking for the extension", check_database, &check))
		return;
	if (check.role_changed)
		worker_exit(worker->number, STEP_FIND_DATABASE, NULL);
	worker->serving = check.installed;
	worker_slot_set_state(worker->number, check.installed ? WORKER_SERVING : WORKER_UNABLE,
						  check.installed ? NULL : "extension prebuild_ext is not installed");
	/* without the extension there is nobody to whom what waits could matter */
	if (!check.installed)
		batcher_forget_all(worker->number);
}

/* Task: a flush. */
static void
flush_task(void *argument)
{
	metadata_flush(argument);
}

/* Flush for a reason. Returns whether it succeeded; *written receives the number of entries. */
static bool
flush(Worker *worker, FlushReason reason, TimestampTz deadline, int64 *written)
{
	MetadataFlush flush = { .slot = worker->number, .reason = reason, .deadline = deadline };
	bool done;

	done = run_task(worker, "prebuild: writing agent metadata", flush_task, &flush);
	worker->failed = !done;
	*written = flush.written;
	if (!done)
	{
		int pause = Max(MIN_RETRY_MS, Min(MAX_RETRY_MS, setting_metadata_flush_interval));

		metadata_flush_failed(&flush, worker->error);
		worker->hold_capacity = worker->next_flush = after_ms(pause);
	}
	return done;
}

/* Do as many entries wait as make a full batch? */
static bool
full_batch_waits(const Worker *worker)
{
	return pg_atomic_read_u64(&worker->database->waiting) >= (uint64) setting_metadata_batch_size;
}

/* Serve the sessions that wait for a flush, if any. */
static void
flush_on_request(Worker *worker)
{
	WorkerSlot *slot = worker->slot;
	uint64 requested;
	bool waiting;
	bool done;
	int64 written;

	LWLockAcquire(&slot->lock, LW_SHARED);
	requested = slot->flush_requested;
	waiting = requested > slot->flush_served;
	LWLockRelease(&slot->lock);
	if (!waiting)
		return;
	done = flush(worker, FLUSH_MANUAL, 0, &written);
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->flush_served = requested;
	slot->flush_failed = !done;
	slot->flush_written = written;
	LWLockRelease(&slot->lock);
	ConditionVariableBroadcast(&slot->flush_done);
}

/*
 * Flush when a full batch waits. When reports come faster than that, three quarters of the time
 * are left to them: what comes meanwhile is merged, which is cheaper than to write every version.
 * A buffer that fills up, and no failure to write it, ends that patience.
 */
static void
flush_for_capacity(Worker *worker)
{
	TimestampTz start = GetCurrentTimestamp();
	int64 written;

	if (start < worker->hold_capacity && (worker->failed || !batcher_half_full()))
		return;
	pg_atomic_write_u32(&worker->database->worker_woken, 0);
	if (!full_batch_waits(worker))
		return;
	if (flush(worker, FLUSH_CAPACITY, 0, &written))
	{
		TimestampTz end = GetCurrentTimestamp();

		worker->hold_capacity = end + 3 * (end - start);
	}
}

/* Do the flushes that are due. */
static void
flush_when_due(Worker *worker)
{
	int64 written;

	flush_on_request(worker);
	if (GetCurrentTimestamp() >= worker->next_flush)
	{
		worker->next_flush = after_ms(setting_metadata_flush_interval);
		if (pg_atomic_read_u64(&worker->database->waiting) > 0)
			flush(worker, FLUSH_SCHEDULED, 0, &written);
	}
	flush_for_capacity(worker);
}

/* A function of the extension to call. */
typedef struct Call
{
	const char *function;  /* with its arguments */
	const char *if_may_do; /* as a signature: nothing happens without the right to call it */
} Call;

/* Task: call a function of the extension. */
static void
call_task(void *argument)
{
	static const char find[] =
		"SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e "
		"JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace "
		"WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext' AND ($1 IS NULL OR "
		"pg_catalog.has_function_privilege("
		"pg_catalog.quote_ident(n.nspname) OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) $1, "
		"'EXECUTE'))";
	const Call *call = argument;
	Oid argtypes[] = { TEXTOID };
	Datum values[1];

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	values[0] = call->if_may_do ? CStringGetTextDatum(call->if_may_do) : (Datum) 0;
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute_with_args(find, 1, argtypes, values, call->if_may_do ? " " : "n", true, 1) !=
			SPI_OK_SELECT)
		elog(ERROR, "could not look for the extension's schema");
	if (SPI_processed == 1)
		SPI_execute(psprintf("SELECT * FROM %s.%s",
							 SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1),
							 call->function),
					false, 0);
	SPI_finish();
	/* deferred triggers of the control plane run at the commit, and find it by bare names */
	plans_control_plane_path_until_commit();
	PopActiveSnapshot();
	CommitTransactionCommand();
	compat_notify_committed();
}

/* When the next pass is due; TIMESTAMP_INFINITY for never. */
static TimestampTz
next_pass(const Worker *worker)
{
	if (setting_reconcile_interval == 0)
		return DT_NOEND;
	/* a pass that was asked for waits a second at most, and never follows the last one at once */
	if (pg_atomic_read_u32(&worker->slot->pass_requested) != 0)
		return TimestampTzPlusMilliseconds(worker->last_pass, 1000);
	return TimestampTzPlusMilliseconds(worker->last_pass,
									   (int64) setting_reconcile_interval * 1000);
}

/* Run a pass when it is due. */
static void
pass_when_due(Worker *worker)
{
	static Call call = { "prebuild_reconcile(pg_catalog.now())", NULL };
	WorkerSlot *slot = worker->slot;
	bool done;

	if (GetCurrentTimestamp() < next_pass(worker))
		return;
	pg_atomic_write_u32(&slot->pass_requested, 0);
	done = run_task(worker, "prebuild: reconciling", call_task, &call);
	worker->last_pass = GetCurrentTimestamp();
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->passes++;
	slot->failed_passes += done ? 0 : 1;
	slot->last_pass_at = worker->last_pass;
	LWLockRelease(&slot->lock);
}

/* Bring the stored pool up to date when it is time, for control planes that are attached. */
static void
fold_when_due(Worker *worker)
{
	/* a role that only writes metadata needs no right to it */
	static Call call = { "prebuild_fold()", "prebuild_fold()" };

	if (GetCurrentTimestamp() < worker->next_fold)
		return;
	run_task(worker, "prebuild: folding the log of the pool", call_task, &call);
	worker->next_fold = after_ms(FOLD_INTERVAL_MS);
}

/* The time until something is due, in milliseconds. */
static long
time_to_wait(const Worker *worker)
{
	TimestampTz next = worker->next_check;

	if (worker->serving)
		next = Min(Min(next, worker->next_fold), Min(worker->next_flush, next_pass(worker)));
	/* nobody wakes a worker that holds back: look now and then whether the buffer fills up */
	if (worker->serving && full_batch_waits(worker))
		next = Min(next, Min(worker->hold_capacity, after_ms(HOLD_CHECK_MS)));
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next) + 1;
}

/* Pin what the role or the database may have set otherwise. */
static void
pin_settings(void)
{
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_deferrable", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", "prebuild worker", PGC_SUSET, PGC_S_OVERRIDE);
}

/* Task: the last flush, which ends in time even when a statement hangs. */
static void
last_flush_task(void *argument)
{
	enable_timeout_after(STATEMENT_TIMEOUT, SHUTDOWN_LIMIT_MS);
	metadata_flush(argument);
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/* Write what is left, and exit. Reports that come from now on are written by their sessions. */
pg_noreturn static void
shut_down(Worker *worker)
{
	MetadataFlush flush = { .slot = worker->number,
							.reason = FLUSH_SHUTDOWN,
							.deadline = after_ms(SHUTDOWN_LIMIT_MS) };

	if (worker->serving)
	{
		worker_slot_set_state(worker->number, WORKER_DRAINING, NULL);
		batcher_fence();
		if (!run_task(worker, "prebuild: writing agent metadata before shutdown", last_flush_task,
					  &flush))
			metadata_flush_failed(&flush, worker->error);
	}
	worker_exit(worker->number, STEP_FIND_DATABASE, NULL);
}

/* Serve until the server or an operator ends the process, or its role should be another. */
void
worker_serve(int number)
{
	MemoryContext loop =
		AllocSetContextCreate(TopMemoryContext, "prebuild worker", ALLOCSET_DEFAULT_SIZES);
	Worker worker = { .number = number,
					  .slot = worker_slot(number),
					  .database = batcher_database(number) };

	pin_settings();
	ereport(LOG, (errmsg("prebuild worker for database \"%s\" started as role \"%s\"",
						 worker_slot_name(number), worker.slot->role)));
	worker.next_flush = after_ms(setting_metadata_flush_interval);
	while (!ShutdownRequestPending)
	{
		MemoryContextSwitchTo(loop);
		if (GetCurrentTimestamp() >= worker.next_check)
		{
			worker.next_check = after_ms(CHECK_INTERVAL_MS);
			check_serving(&worker);
		}
		if (worker.serving && !ShutdownRequestPending)
			flush_when_due(&worker);
		if (worker.serving && !ShutdownRequestPending)
			pass_when_due(&worker);
		if (worker.serving && !ShutdownRequestPending)
			fold_when_due(&worker);
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(loop);
		if (!ShutdownRequestPending && worker_wait(time_to_wait(&worker)))
		{
			worker.next_check = 0;
			worker.next_flush = Min(worker.next_flush, after_ms(setting_metadata_flush_interval));
		}
	}
	MemoryContextSwitchTo(loop);
	shut_down(&worker);
}
