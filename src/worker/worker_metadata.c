/*
 * worker_metadata.c
 *	  The flushes of the metadata worker: at the interval, when a full batch waits, when a session
 *	  requests one, and at shutdown.
 */
#include "compat.h"

#include "utils/timeout.h"

#include "metadata/metadata_flush.h"
#include "settings.h"
#include "worker/worker_metadata.h"
#include "slots/worker_slots.h"
#include "worker/worker_task.h"

/*
 * Flushes for full batches begin at least this part of the flush interval after the last one, or this
 * many milliseconds, whichever is less. It bounds how often listeners are woken (metadata_flush.c).
 */
#define FLUSHES_PER_INTERVAL 10
#define MAX_PAUSE_MS 500

/* How often a worker that postpones a full batch looks at the buffer. */
#define HOLD_CHECK_MS 50

/* After a failed flush, the worker pauses for the flush interval, but within these bounds. */
#define MIN_RETRY_MS 1000
#define MAX_RETRY_MS 10000

/* Set the first flush to one interval from now. */
void
metadata_work_init(MetadataWork *work, int number)
{
	memset(work, 0, sizeof(MetadataWork));
	work->number = number;
	work->database = batcher_database(number);
	work->next_flush = worker_after_ms(setting_metadata_flush_interval);
}

/* After a reload, apply a shorter flush interval to the next flush. */
void
metadata_work_settings(MetadataWork *work)
{
	work->next_flush = Min(work->next_flush, worker_after_ms(setting_metadata_flush_interval));
}

/* Task: a flush. */
static void
flush_task(void *argument)
{
	metadata_flush(argument);
}

/*
 * Flush for a reason. Returns whether it succeeded; *written receives the number of entries that
 * left the buffer. After a failure, postpones the next flushes.
 */
static bool
flush(MetadataWork *work, FlushReason reason, int64 *written)
{
	MetadataFlush flush = { .slot = work->number, .reason = reason };
	char *error = worker_run_task(work->number, TASK_FLUSH, "prebuild: writing agent metadata",
								  flush_task, &flush);

	work->failed = error != NULL;
	*written = flush.written;
	if (error != NULL)
	{
		int pause = Max(MIN_RETRY_MS, Min(MAX_RETRY_MS, setting_metadata_flush_interval));

		metadata_flush_failed(&flush, error);
		work->hold_capacity = work->next_flush = worker_after_ms(pause);
	}
	return error == NULL;
}

/* Are there enough entries in the buffer for a full batch? */
static bool
full_batch_waits(const MetadataWork *work)
{
	return pg_atomic_read_u64(&work->database->waiting) >= (uint64) setting_metadata_batch_size;
}

/* Flush for the sessions that wait for it, if any, and wake them. Takes the slot's lock. */
static void
flush_on_request(MetadataWork *work)
{
	WorkerSlot *slot = worker_slot(work->number);
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
	done = flush(work, FLUSH_MANUAL, &written);
	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	slot->flush_served = requested;
	slot->flush_failed = !done;
	slot->flush_written = written;
	LWLockRelease(&slot->lock);
	ConditionVariableBroadcast(&slot->flush_done);
}

/*
 * Return how long to leave full batches in the buffer after a flush that took this long, in
 * microseconds. The worker leaves reports three quarters of the time, because the buffer merges them
 * meanwhile, which is cheaper than writing every version; and listeners some rest.
 */
static int64
pause_after(int64 took)
{
	return Max(3 * took, Min(setting_metadata_flush_interval / FLUSHES_PER_INTERVAL, MAX_PAUSE_MS) *
							 INT64CONST(1000));
}

/*
 * Flush if a full batch waits and the last flush for one is some time ago: the next one then writes
 * all that has come meanwhile. Flush without that delay if the buffer is more than half full, unless
 * the last flush failed.
 */
static void
flush_for_capacity(MetadataWork *work)
{
	TimestampTz start = GetCurrentTimestamp();
	bool postponed = start < work->hold_capacity && (work->failed || !batcher_half_full());
	int64 written;

	/* metadata_work_next() looks at a full batch that is postponed: nobody needs to wake us */
	if (postponed && full_batch_waits(work))
		return;
	/*
	 * Otherwise the session that fills the batch must wake us. Perhaps one tried already, during the
	 * last flush, when the batch that was being written still counted.
	 */
	pg_atomic_write_u32(&work->database->worker_woken, 0);
	pg_memory_barrier();
	if (postponed || !full_batch_waits(work))
		return;
	if (flush(work, FLUSH_CAPACITY, &written))
	{
		TimestampTz end = GetCurrentTimestamp();

		work->hold_capacity = end + pause_after(end - start);
	}
}

/* Do the flushes that are due. */
void
metadata_work_do(MetadataWork *work)
{
	int64 written;

	flush_on_request(work);
	if (GetCurrentTimestamp() >= work->next_flush)
	{
		work->next_flush = worker_after_ms(setting_metadata_flush_interval);
		if (pg_atomic_read_u64(&work->database->waiting) > 0)
			flush(work, FLUSH_SCHEDULED, &written);
	}
	flush_for_capacity(work);
}

/* Return when the next flush may be due. */
TimestampTz
metadata_work_next(const MetadataWork *work)
{
	/* no session wakes a worker that postpones a full batch, so check its fill */
	if (full_batch_waits(work))
		return Min(work->next_flush, Min(work->hold_capacity, worker_after_ms(HOLD_CHECK_MS)));
	return work->next_flush;
}

/*
 * Before the worker runs a pass or a fold, have sessions write their reports directly, and flush
 * the buffer. detail: the reason that the operator sees. Sets the lane's state to WORKER_UNABLE.
 */
void
metadata_work_stand_aside(MetadataWork *work, const char *detail)
{
	int64 written;

	worker_slot_set_state(work->number, LANE_METADATA, WORKER_UNABLE, detail);
	batcher_fence();
	if (pg_atomic_read_u64(&work->database->waiting) > 0)
		flush(work, FLUSH_SCHEDULED, &written);
}

/* The last flush, and how long it may take. */
typedef struct LastFlush
{
	MetadataFlush flush;
	int limit_ms;
} LastFlush;

/* Task: the last flush. A statement timeout ends it in time even if a statement hangs. */
static void
last_flush_task(void *argument)
{
	LastFlush *last = argument;

	enable_timeout_after(STATEMENT_TIMEOUT, last->limit_ms);
	metadata_flush(&last->flush);
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/*
 * Flush the buffer for the last time, in limit_ms at most. Sets the lane's state to
 * WORKER_DRAINING, so that from now on sessions write their reports directly.
 */
void
metadata_work_finish(MetadataWork *work, int limit_ms)
{
	LastFlush last = {
		{ .slot = work->number, .reason = FLUSH_SHUTDOWN, .deadline = worker_after_ms(limit_ms) },
		limit_ms
	};
	char *error;

	worker_slot_set_state(work->number, LANE_METADATA, WORKER_DRAINING, NULL);
	batcher_fence();
	error =
		worker_run_task(work->number, TASK_FLUSH,
						"prebuild: writing agent metadata before shutdown", last_flush_task, &last);
	if (error != NULL)
		metadata_flush_failed(&last.flush, error);
}
