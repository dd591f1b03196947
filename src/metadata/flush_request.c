/*
 * flush_request.c
 *	  Have the background worker flush the buffer, and wait for it.
 */
#include "compat.h"

#include "pgstat.h"

#include "metadata/metadata_batcher.h"
#include "metadata/flush_request.h"
#include "slots/worker_slots.h"

/* How often a waiting session checks whether the worker can still be expected to serve. */
#define FLUSH_LOOK_MS 250

/*
 * Raise the error for a flush that failed. expected: the worker runs and will try again. Takes the
 * slot's lock.
 */
static void
raise_flush_failed(int number, bool expected)
{
	WorkerSlot *slot = worker_slot(number);
	char reason[WORKER_TEXT_SIZE];

	(void) worker_slot_state(number, LANE_METADATA, reason);
	if (expected)
	{
		LWLockAcquire(&slot->lock, LW_SHARED);
		strlcpy(reason, slot->errors[TASK_FLUSH].message, WORKER_TEXT_SIZE);
		LWLockRelease(&slot->lock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the background worker could not write the buffered agent metadata"),
			 reason[0] ? errdetail_internal("%s", reason) : 0,
			 expected ? errhint("It stays in the buffer, and the worker tries again.")
					  : errhint("It stays in the buffer until the worker can write it; if the "
								"server is stopped before that, it is lost.")));
}

/*
 * Have the worker flush everything that is buffered now, and wait for it. Returns the number of
 * entries that it wrote. Raises object_not_in_prerequisite_state if the flush failed, or if the
 * worker cannot serve while entries wait. Waits for a restarting worker as long as it can be
 * expected. Takes the slot's lock.
 */
int64
flush_request(int number)
{
	WorkerSlot *slot = worker_slot(number);
	uint64 ticket;
	bool served = false;
	bool expected = true;
	bool failed = false;
	int64 written = 0;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	ticket = ++slot->flush_requested;
	if (slot->lanes[LANE_METADATA].latch != NULL)
		SetLatch(slot->lanes[LANE_METADATA].latch);
	LWLockRelease(&slot->lock);

	ConditionVariablePrepareToSleep(&slot->flush_done);
	while (!served && expected)
	{
		LWLockAcquire(&slot->lock, LW_SHARED);
		served = slot->flush_served >= ticket;
		failed = slot->flush_failed;
		written = slot->flush_written;
		LWLockRelease(&slot->lock);
		expected = worker_slot_expected(number);
		if (!served && expected)
		{
			worker_slot_look_after(number, LANE_METADATA);
			(void) ConditionVariableTimedSleep(&slot->flush_done, FLUSH_LOOK_MS, PG_WAIT_EXTENSION);
		}
	}
	ConditionVariableCancelSleep();
	/* if the worker cannot serve, sessions write directly, so an empty buffer needs no flush */
	if (!served && pg_atomic_read_u64(&batcher_database(number)->waiting) == 0)
		return 0;
	if (!served || failed)
		raise_flush_failed(number, served);
	return written;
}
