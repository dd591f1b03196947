/*
 * metadata_stats.c
 *	  Statistics of the buffer and its flushes for the operator: counters and histograms in shared
 *	  memory since the server started, and the functions under their views.
 *
 * Locking contract: the stats_lock of a BatcherDatabase protects its FlushStats. It is held only to
 * update or to copy them, and no other lock is taken under it.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/float.h"

#include "metadata/database_text.h"
#include "metadata/metadata_stats.h"
#include "base/result_row.h"
#include "settings.h"
#include "slots/worker_slots.h"

static const char *const reason_names[FLUSH_REASONS] = { "capacity", "scheduled", "shutdown",
														 "manual" };

/* Upper bounds of the histograms' buckets. The last bucket has none. */
static const double size_bounds[] = { 10,  25,	50,	 100, 150,	200,  250, 300,
									  350, 400, 450, 500, 1000, 2500, 5000 };
static const double utilization_bounds[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 40, 80, 160 };
static const double duration_bounds[] = { 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5 };

/* Count a value in a histogram. */
static void
observe(Histogram *histogram, const double *bounds, int nbounds, double value)
{
	int bucket = 0;

	while (bucket < nbounds && value > bounds[bucket])
		bucket++;
	histogram->buckets[bucket]++;
	histogram->count++;
	histogram->sum += value;
}

/*
 * Count a committed batch: its agents, its entries and the time since start. Takes the stats_lock.
 */
void
metadata_stats_batch(int slot, FlushReason reason, const BatcherCopy *copies, int ncopies,
					 const MetadataCounts *counts, TimestampTz start)
{
	BatcherDatabase *database = batcher_database(slot);
	FlushStats *stats = &database->stats;
	TimestampTz now = GetCurrentTimestamp();
	int64 written = counts->updated + counts->inserted;

	LWLockAcquire(&database->stats_lock, LW_EXCLUSIVE);
	stats->flushed += written;
	stats->skipped += counts->skipped;
	stats->batches[reason]++;
	stats->last_flush_at = now;
	observe(&stats->batch_size, size_bounds, lengthof(size_bounds),
			written + counts->skipped + counts->refused);
	for (int i = 0; i < ncopies; i++)
		observe(&stats->batch_utilization, utilization_bounds, lengthof(utilization_bounds),
				copies[i].nkeys);
	observe(&stats->flush_duration[reason], duration_bounds, lengthof(duration_bounds),
			(double) (now - start) / USECS_PER_SEC);
	LWLockRelease(&database->stats_lock);
}

/* Record the message and the time of the last error. Call it with the stats_lock held. */
static void
note_error(FlushStats *stats, const char *message, TimestampTz at)
{
	size_t length = database_text_clip(message, strlen(message), sizeof(stats->last_error) - 1);

	memcpy(stats->last_error, message, length);
	stats->last_error[length] = '\0';
	stats->last_error_at = at;
}

/* Count n refused entries. message: of the first one's error. Takes the stats_lock. */
void
metadata_stats_refused(int slot, int64 n, const char *message)
{
	BatcherDatabase *database = batcher_database(slot);
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&database->stats_lock, LW_EXCLUSIVE);
	database->stats.refused += n;
	note_error(&database->stats, message, now);
	LWLockRelease(&database->stats_lock);
}

/*
 * Count a failed flush. publishing: it failed in the commit, with messages queued. Takes the
 * stats_lock.
 */
void
metadata_stats_failure(int slot, bool publishing, const char *message)
{
	BatcherDatabase *database = batcher_database(slot);
	FlushStats *stats = &database->stats;
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&database->stats_lock, LW_EXCLUSIVE);
	stats->failed_flushes++;
	if (publishing)
		stats->publish_errors++;
	note_error(stats, message, now);
	LWLockRelease(&database->stats_lock);
}

/* Return the slot of this database, or NO_SLOT. */
static int
slot_here(void)
{
	return worker_slots_count() > 0 ? worker_slot_here() : NO_SLOT;
}

/*
 * Say what share of the buffer, of all databases, is in use, and how many entries of this database
 * wait. Returns false if the server does not buffer reports of this database.
 */
bool
metadata_stats_buffer(double *used, int64 *waiting)
{
	int slot = slot_here();

	if (slot == NO_SLOT)
		return false;
	*used = batcher_used();
	*waiting = (int64) pg_atomic_read_u64(&batcher_database(slot)->waiting);
	return true;
}

/* Copy the statistics of a slot's database. Takes the stats_lock. */
static void
copy_stats(int slot, FlushStats *stats)
{
	BatcherDatabase *database = batcher_database(slot);

	LWLockAcquire(&database->stats_lock, LW_SHARED);
	*stats = database->stats;
	LWLockRelease(&database->stats_lock);
}

/* Whether reports of this database find room in the buffer. */
BufferRoom
metadata_stats_room(void)
{
	int slot = slot_here();
	BufferRoom room = { 0 };

	if (slot == NO_SLOT)
		return room;
	room.half_full = batcher_half_full();
	room.full_at = (TimestampTz) pg_atomic_read_u64(&batcher_database(slot)->warned_at);
	return room;
}

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
put_text(ResultRow *row, const char *string)
{
	result_put_text(row, string[0] != '\0' ? string : NULL);
}

PG_FUNCTION_INFO_V1(prebuild_metadata_stats_read);

/* SQL: the row of the view prebuild_metadata_stats. */
Datum
prebuild_metadata_stats_read(PG_FUNCTION_ARGS)
{
	int slot = slot_here();
	FlushStats stats = { 0 };
	BatcherDatabase *database = NULL;
	ResultRow row;

	if (slot != NO_SLOT)
	{
		database = batcher_database(slot);
		copy_stats(slot, &stats);
	}
	row.n = 0;
	put_text(&row, database && worker_slot_buffers(slot) ? "buffered" : "direct");
	result_put_int8(&row, database ? pg_atomic_read_u64(&database->waiting) : 0);
	result_put_int8(&row, database ? pg_atomic_read_u64(&database->reported) : 0);
	result_put_int8(&row, stats.flushed);
	result_put_int8(&row, stats.skipped);
	result_put_int8(&row, stats.refused);
	result_put_int8(&row, database ? pg_atomic_read_u64(&database->dropped) : 0);
	for (int i = 0; i < FLUSH_REASONS; i++)
		result_put_int8(&row, stats.batches[i]);
	result_put_int8(&row, stats.failed_flushes);
	result_put_int8(&row, stats.publish_errors);
	put_text(&row, stats.last_error);
	put_time(&row, stats.last_error_at);
	put_time(&row, stats.last_flush_at);
	result_put_int8(&row, database ? (int64) setting_metadata_buffer_size * 1024 : 0);
	PG_RETURN_DATUM(result_row_datum(fcinfo, &row));
}

/* Add a histogram's rows: cumulative counts by upper bound. The last bound is infinity. */
static void
put_histogram(ReturnSetInfo *result, const char *name, const char *reason,
			  const Histogram *histogram, const double *bounds, int nbounds)
{
	int64 cumulative = 0;

	for (int i = 0; i <= nbounds; i++)
	{
		ResultRow row;

		row.n = 0;
		cumulative += histogram->buckets[i];
		put_text(&row, name);
		put_text(&row, reason);
		result_put_float8(&row, i < nbounds ? bounds[i] : get_float8_infinity());
		result_put_int8(&row, cumulative);
		result_put_float8(&row, histogram->sum);
		result_row_store(result, &row);
	}
}

PG_FUNCTION_INFO_V1(prebuild_metadata_histograms);

/* SQL: the histograms of this database's batches; no rows if the database has no slot. */
Datum
prebuild_metadata_histograms(PG_FUNCTION_ARGS)
{
	int slot = slot_here();
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	FlushStats stats;

	InitMaterializedSRF(fcinfo, 0);
	if (slot == NO_SLOT)
		return (Datum) 0;
	copy_stats(slot, &stats);
	put_histogram(result, "batch_size", "", &stats.batch_size, size_bounds, lengthof(size_bounds));
	put_histogram(result, "batch_utilization", "", &stats.batch_utilization, utilization_bounds,
				  lengthof(utilization_bounds));
	for (int i = 0; i < FLUSH_REASONS; i++)
		put_histogram(result, "flush_duration_seconds", reason_names[i], &stats.flush_duration[i],
					  duration_bounds, lengthof(duration_bounds));
	return (Datum) 0;
}
