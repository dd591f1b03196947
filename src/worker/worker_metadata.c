/*
 * worker_metadata.c
 *	  A background worker's flushes of agent metadata: at the interval, for capacity, for sessions
 *	  that wait for one, and the last one.
 */
#include "compat.h"

#include "utils/timeout.h"

#include "metadata/metadata_flush.h"
#include "settings.h"
#include "worker/worker_metadata.h"
#include "slots/worker_slots.h"
#include "worker/worker_task.h"

/* How often a worker that holds back looks at the buffer. */
#define HOLD_CHECK_MS 50

/* Bounds of the pause after a failed flush, which otherwise is the flush interval. */
#define MIN_RETRY_MS 1000
#define MAX_RETRY_MS 10000

/* Begin with the first flush an interval from now. */
void
metadata_work_init(MetadataWork *work, int number)
{
	memset(work, 0, sizeof(MetadataWork));
	work->number = number;
	work->database = batcher_database(number);
	work->next_flush = worker_after_ms(setting_metadata_flush_interval);
}

/* Follow new settings. */
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

/* Flush for a reason. Returns whether it succeeded; *written receives the number of entries. */
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

/* Do as many entries wait as make a full batch? */
static bool
full_batch_waits(const MetadataWork *work)
{
	return pg_atomic_read_u64(&work->database->waiting) >= (uint64) setting_metadata_batch_size;
}

/* Serve the sessions that wait for a flush, if any. */
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
 * Flush when a full batch waits. When reports come faster than that, three quarters of the time
 * are left to them: what comes meanwhile is merged, which is cheaper than to write every version.
 * A buffer that fills up, and no failure to write it, ends that patience.
 */
static void
flush_for_capacity(MetadataWork *work)
{
	TimestampTz start = GetCurrentTimestamp();
	int64 written;

	if (start < work->hold_capacity && (work->failed || !batcher_half_full()))
		return;
	pg_atomic_write_u32(&work->database->worker_woken, 0);
	if (!full_batch_waits(work))
		return;
	if (flush(work, FLUSH_CAPACITY, &written))
	{
		TimestampTz end = GetCurrentTimestamp();

		work->hold_capacity = end + 3 * (end - start);
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

/* When the next flush may be due. */
TimestampTz
metadata_work_next(const MetadataWork *work)
{
	/* nobody wakes a worker that holds back: look now and then whether the buffer fills up */
	if (full_batch_waits(work))
		return Min(work->next_flush, Min(work->hold_capacity, worker_after_ms(HOLD_CHECK_MS)));
	return work->next_flush;
}

/*
 * Have sessions write their reports themselves, as the worker is about to do something else, and
 * write what is left. detail: why, for a person.
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

/* Task: the last flush, which ends in time even when a statement hangs. */
static void
last_flush_task(void *argument)
{
	LastFlush *last = argument;

	enable_timeout_after(STATEMENT_TIMEOUT, last->limit_ms);
	metadata_flush(&last->flush);
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/*
 * Write what is left, in limit_ms at most; reports that come from now on are written by their
 * sessions.
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
