/*
 * worker_status.c
 *	  The function under the view prebuild_worker_status, which shows the operator the workers of
 *	  the current database.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/plans.h"
#include "base/result_row.h"
#include "base/subtransaction.h"
#include "pool/pool_view.h"
#include "slots/worker_slots.h"

/* Add a time; 0 becomes null. */
static void
put_time(ResultRow *row, TimestampTz at)
{
	if (at != 0)
		result_put_time(row, at);
	else
		result_put_null(row, TIMESTAMPTZOID);
}

/* Add a text; an empty one becomes null. */
static void
put_text(ResultRow *row, const char *text)
{
	result_put_text(row, text[0] != '\0' ? text : NULL);
}

/* Add a lane's state, its reason, its role and its process. */
static void
put_lane(ResultRow *row, int number, WorkerLaneName name, const WorkerLane *lane)
{
	char detail[WORKER_TEXT_SIZE];

	put_text(row, worker_state_name(worker_slot_state(number, name, detail)));
	put_text(row, detail);
	put_text(row, lane->role);
	if (lane->pid != 0)
		result_put_int4(row, lane->pid);
	else
		result_put_null(row, INT4OID);
	put_time(row, lane->started_at);
	result_put_int8(row, lane->starts);
}

/* Add an error with its code and its time. */
static void
put_error(ResultRow *row, const WorkerError *error)
{
	put_text(row, error->message);
	put_text(row, error->at != 0 ? unpack_sql_state(error->sqlstate) : "");
	put_time(row, error->at);
}

/* Return the latest error of all tasks. */
static const WorkerError *
last_error(const WorkerSlot *slot)
{
	const WorkerError *last = &slot->errors[0];

	for (int task = 1; task < WORKER_TASKS; task++)
		if (slot->errors[task].at > last->at)
			last = &slot->errors[task];
	return last;
}

/* Fill the row from a copy of the slot. */
static void
fill_row(ResultRow *row, int number, const WorkerSlot *slot)
{
	const WorkerError *last = last_error(slot);

	put_text(row, slot->database);
	put_lane(row, number, LANE_METADATA, &slot->lanes[LANE_METADATA]);
	put_text(row, last->message);
	put_time(row, last->at);
	result_put_int8(row, slot->passes);
	result_put_int8(row, slot->failed_passes);
	put_time(row, slot->last_pass_at);
	/* from 0.2 on */
	put_lane(row, number, LANE_PASSES, &slot->lanes[LANE_PASSES]);
	result_put_int8(row, slot->folds);
	result_put_int8(row, slot->failed_folds);
	put_time(row, slot->last_fold_at);
	for (int task = 0; task < WORKER_TASKS; task++)
		put_error(row, &slot->errors[task]);
}

/* Does the function's row type, as the extension's script created it, have more than n columns? */
static bool
has_more_columns(FunctionCallInfo fcinfo, int n)
{
	TupleDesc columns = lookup_rowtype_tupdesc(get_func_rettype(fcinfo->flinfo->fn_oid), -1);
	bool more = columns->natts > n;

	ReleaseTupleDesc(columns);
	return more;
}

/* The call of the status function, and the reason why the pool is not kept. */
typedef struct PoolReason
{
	FunctionCallInfo fcinfo;
	MemoryContext context; /* of the result */
	char *text;			   /* NULL if the pool is kept, or need not be */
} PoolReason;

/*
 * In a subtransaction, find the reason why the pool is not kept. pool->text receives it, in the
 * result's context. Returns true to keep the subtransaction.
 */
static bool
find_pool_reason(void *argument)
{
	PoolReason *pool = argument;
	const char *reason;
	char *hint;

	plans_enter(pool->fcinfo);
	reason = pool_view_distrust_reason(&hint);
	if (reason != NULL)
		pool->text = MemoryContextStrdup(pool->context,
										 hint != NULL ? psprintf("%s (%s)", reason, hint) : reason);
	plans_leave();
	return true;
}

/*
 * Add the reason why the pool is not kept. If an error occurs while we look, add its message,
 * because an operator looks at the status when something is wrong. Raises only what
 * ERRCODE_OPERATOR_INTERVENTION covers, such as a cancel.
 */
static void
put_pool_unused(FunctionCallInfo fcinfo, ResultRow *row)
{
	PoolReason pool = { fcinfo, CurrentMemoryContext, NULL };
	ErrorData *error = subtransaction_run(find_pool_reason, &pool);

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	result_put_text(row, error != NULL ? error->message : pool.text);
}

PG_FUNCTION_INFO_V1(prebuild_worker_status_read);

/*
 * SQL: both lanes in one row, which the view prebuild_worker_status splits into two; NULL if the
 * current database has no slot. Takes the slot's lock.
 */
Datum
prebuild_worker_status_read(PG_FUNCTION_ARGS)
{
	int number = worker_slots_count() > 0 ? worker_slot_here() : NO_SLOT;
	ResultRow row = { .n = 0 };
	WorkerSlot *slot;
	WorkerSlot *copy;

	if (number == NO_SLOT)
		PG_RETURN_NULL();
	worker_slots_look_after_all();
	slot = worker_slot(number);
	copy = palloc_object(WorkerSlot);
	LWLockAcquire(&slot->lock, LW_SHARED);
	*copy = *slot;
	LWLockRelease(&slot->lock);
	fill_row(&row, number, copy);
	/* a script that made this column has also made the tables that we read for it */
	if (has_more_columns(fcinfo, row.n))
		put_pool_unused(fcinfo, &row);
	PG_RETURN_DATUM(result_row_datum(fcinfo, &row));
}

FUNCTION_OF_LONGER_ROW(prebuild_worker_status_read, 0_2);
