/*
 * metadata_batcher.h
 *	  Reports of agent metadata that wait in shared memory to be written.
 */
#ifndef PREBUILD_METADATA_BATCHER_H
#define PREBUILD_METADATA_BATCHER_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "metadata/report_limits.h"

/* Why a batch was written. */
typedef enum FlushReason
{
	FLUSH_CAPACITY,
	FLUSH_SCHEDULED,
	FLUSH_SHUTDOWN,
	FLUSH_MANUAL
} FlushReason;

#define FLUSH_REASONS (FLUSH_MANUAL + 1)
#define HISTOGRAM_MAX_BUCKETS 16

/* Counts by upper bound, the last one without; bounds are in metadata_stats.c. */
typedef struct Histogram
{
	int64 buckets[HISTOGRAM_MAX_BUCKETS];
	int64 count;
	double sum;
} Histogram;

/* What has been written for a database; stats_lock of its BatcherDatabase protects it. */
typedef struct FlushStats
{
	int64 flushed; /* entries */
	int64 skipped; /* entries of unknown agents, older than what was stored, and so on */
	int64 refused; /* entries that a constraint or a trigger of the table did not let in */
	int64 batches[FLUSH_REASONS];
	int64 failed_flushes;
	int64 publish_errors; /* of these, failed while or after the messages were queued */
	char last_error[512];
	TimestampTz last_error_at; /* 0 = never */
	TimestampTz last_flush_at; /* 0 = never */
	Histogram batch_size;
	Histogram batch_utilization;
	Histogram flush_duration[FLUSH_REASONS]; /* seconds */
} FlushStats;

/* A database in the buffer, beside its worker's slot. */
typedef struct BatcherDatabase
{
	pg_atomic_uint64 waiting;	   /* distinct (agent, key) entries in the buffer */
	pg_atomic_uint64 reported;	   /* entries accepted so far, replacements included */
	pg_atomic_uint64 dropped;	   /* entries refused so far, as the buffer was full */
	pg_atomic_uint64 warned_at;	   /* time of the last warning of that */
	pg_atomic_uint32 worker_woken; /* the worker was woken and has not looked yet */
	LWLock stats_lock;
	FlushStats stats;
} BatcherDatabase;

/* An agent that waits; those that came first have the lowest numbers. */
typedef struct BatcherAgent
{
	pg_uuid_t agent;
	uint64 first_sequence;
} BatcherAgent;

/* What waits for an agent: a copy, to be read with blob_next(). */
typedef struct BatcherCopy
{
	pg_uuid_t agent;
	uint64 sequence; /* everything up to here is in the copy */
	int nkeys;
	char *blob; /* palloc'd */
	Size size;
} BatcherCopy;

extern void batcher_init(void);
extern BatcherDatabase *batcher_database(int slot);
extern bool batcher_put(int slot, const pg_uuid_t *agent, ReportEntry **entries, int n,
						TimestampTz collected_at, int *dropped);
extern int batcher_list(int slot, BatcherAgent **agents);
extern bool batcher_copy(int slot, const pg_uuid_t *agent, BatcherCopy *copy);
extern void batcher_forget(int slot, const pg_uuid_t *agent, uint64 sequence);
extern void batcher_forget_all(int slot);
extern bool batcher_half_full(void);
extern void batcher_fence(void);

#endif /* PREBUILD_METADATA_BATCHER_H */
