/*
 * worker_task.c
 *	  The tasks of a background worker. An error in a task does not end the process. The worker logs
 *	  it, and the slot keeps the last error of each task for the operator.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/lwlock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "base/extension_lock.h"
#include "worker/worker.h"
#include "slots/worker_slots.h"
#include "worker/worker_task.h"

/* Return the time in so many milliseconds. */
TimestampTz
worker_after_ms(int64 milliseconds)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
}

/*
 * Run a task, which starts and commits its own transactions. number: the slot that keeps an error,
 * under its lock; task: its WorkerTask. activity: for pg_stat_activity. Returns NULL on success.
 * After an error, logs it and returns its message, palloc'd in the current context. Holds no lock
 * afterwards, even after an error. SIGTERM cancels the task, unless it came before.
 */
char *
worker_run_task(int number, int task, const char *activity, TaskFunction function, void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	char *volatile message = NULL;
	bool last = ShutdownRequestPending;

	pgstat_report_activity(STATE_RUNNING, activity);
	worker_cancel_on_shutdown(!last);
	/* a signal that came in between has not canceled anything */
	if (!last && ShutdownRequestPending)
		InterruptPending = QueryCancelPending = true;
	PG_TRY();
	{
		function(argument);
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
		message = error->message ? error->message : "unknown error";
		/* a task that the shutdown canceled has not failed */
		if (last || !ShutdownRequestPending || error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			worker_slot_note_error(number, task, error->sqlerrcode, message);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	worker_cancel_on_shutdown(false);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return message;
}

/* May the current user call the function in that schema? False also if there is none. */
static bool
may_call(const WorkerCall *call, Oid schema)
{
	oidvector *types = buildoidvector(&call->argtype, call->nargs);
	Oid function =
		GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(call->function),
						PointerGetDatum(types), ObjectIdGetDatum(schema));

	return OidIsValid(function) && compat_may_use_schema(schema, GetUserId()) &&
		   compat_may_execute(function, GetUserId());
}

/*
 * Task: make a WorkerCall in a transaction of its own. Looks up schema and rights in the catalogs
 * before it plans the statement, so the result does not depend on the order of evaluation.
 */
void
worker_call(void *argument)
{
	WorkerCall *call = argument;
	Oid schema;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	schema = extension_hold();
	PushActiveSnapshot(GetTransactionSnapshot());
	call->called = OidIsValid(schema) && (!call->if_permitted || may_call(call, schema));
	if (call->called)
	{
		char *statement =
			psprintf("SELECT * FROM %s.%s(%s)", quote_identifier(get_namespace_name(schema)),
					 quote_identifier(call->function), call->arguments);

		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		SPI_execute(statement, false, 0);
		SPI_finish();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	compat_notify_committed();
}
