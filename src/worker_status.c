/*
 * worker_status.c
 *	  The background workers of a database, for the operator.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "utils/builtins.h"

#include "worker_slots.h"

/* Columns of the row; scripts of other releases may have more or fewer. */
#define MAX_COLUMNS 64

/* A row under construction. */
typedef struct StatusRow
{
	Datum values[MAX_COLUMNS];
	bool nulls[MAX_COLUMNS];
	int n;
} StatusRow;

/* Add a column. */
static void
add(StatusRow *row, Datum value, bool null)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = null;
}

/* Add a time; 0 is none. */
static void
add_time(StatusRow *row, TimestampTz at)
{
	add(row, TimestampTzGetDatum(at), at == 0);
}

/* Add a text; an empty one is none. */
static void
add_text(StatusRow *row, const char *string)
{
	add(row, CStringGetTextDatum(string), string[0] == '\0');
}

/* Add a count. */
static void
add_count(StatusRow *row, int64 count)
{
	add(row, Int64GetDatum(count), false);
}

/* Add where a lane's worker stands and which process it has. */
static void
add_lane(StatusRow *row, int number, WorkerLaneName name, const WorkerLane *lane)
{
	char detail[WORKER_TEXT_SIZE];

	add_text(row, worker_state_name(worker_slot_state(number, name, detail)));
	add_text(row, detail);
	add_text(row, lane->role);
	add(row, Int32GetDatum(lane->pid), lane->pid == 0);
	add_time(row, lane->started_at);
	add_count(row, lane->starts);
}

/* Add an error with its time and its code. */
static void
add_error(StatusRow *row, const WorkerError *error)
{
	bool null = error->at == 0;

	add(row, CStringGetTextDatum(error->message), null);
	add(row, CStringGetTextDatum(null ? "" : unpack_sql_state(error->sqlstate)), null);
	add_time(row, error->at);
}

/* The error that came last, of whatever task. */
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
fill_row(StatusRow *row, int number, const WorkerSlot *slot)
{
	const WorkerError *last = last_error(slot);

	add_text(row, slot->database);
	add_lane(row, number, LANE_METADATA, &slot->lanes[LANE_METADATA]);
	add_text(row, last->at == 0 ? "" : last->message);
	add_time(row, last->at);
	add_count(row, slot->passes);
	add_count(row, slot->failed_passes);
	add_time(row, slot->last_pass_at);
	/* from 0.2 on */
	add_lane(row, number, LANE_PASSES, &slot->lanes[LANE_PASSES]);
	add_count(row, slot->folds);
	add_count(row, slot->failed_folds);
	add_time(row, slot->last_fold_at);
	for (int task = 0; task < WORKER_TASKS; task++)
		add_error(row, &slot->errors[task]);
}

PG_FUNCTION_INFO_V1(prebuild_worker_status_read);

/*
 * SQL: the row under the view prebuild_worker_status; NULL where the database has no worker. The
 * row has the columns of the type that is installed: of more than there are the last are NULL.
 */
Datum
prebuild_worker_status_read(PG_FUNCTION_ARGS)
{
	int number = worker_slots_count() > 0 ? worker_slot_here() : NO_SLOT;
	StatusRow row = { .n = 0 };
	WorkerSlot *slot;
	WorkerSlot *copy;
	TupleDesc columns;

	if (number == NO_SLOT)
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE ||
		columns->natts > MAX_COLUMNS)
		elog(ERROR, "return type is no row of at most %d columns", MAX_COLUMNS);
	worker_slots_look_after_all();
	slot = worker_slot(number);
	copy = palloc_object(WorkerSlot);
	LWLockAcquire(&slot->lock, LW_SHARED);
	*copy = *slot;
	LWLockRelease(&slot->lock);
	fill_row(&row, number, copy);
	while (row.n < columns->natts)
		add(&row, (Datum) 0, true);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), row.values, row.nulls));
}
