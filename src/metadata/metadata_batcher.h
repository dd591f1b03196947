/*
 * metadata_batcher.h
 *	  The buffer for agent metadata in shared memory.
 */
#ifndef PREBUILD_METADATA_BATCHER_H
#define PREBUILD_METADATA_BATCHER_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "metadata/report_limits.h"

/* Why a flush wrote a batch. */
typedef enum FlushReason
{
	FLUSH_CAPACITY,
	FLUSH_SCHEDULED,
	FLUSH_SHUTDOWN,
	FLUSH_MANUAL
} FlushReason;

#define FLUSH_REASONS (FLUSH_MANUAL + 1)
#define HISTOGRAM_MAX_BUCKETS 16

/* Counts by upper bound; the last bucket has none. metadata_stats.c has the bounds. */
typedef struct Histogram
{
	int64 buckets[HISTOGRAM_MAX_BUCKETS];
	int64 count;
	double sum;
} Histogram;

/* The flushes of a database. stats_lock of its BatcherDatabase protects them. */
typedef struct FlushStats
{
	int64 flushed; /* entries */
	int64 skipped; /* entries of unknown agents, older than the stored row, and so on */
	int64 refused; /* entries that a constraint or a trigger of the table refused */
	int64 batches[FLUSH_REASONS];
	int64 failed_flushes;
	int64 publish_errors; /* of these, those that failed in the commit, with messages queued */
	char last_error[512];
	TimestampTz last_error_at; /* 0 = never */
	TimestampTz last_flush_at; /* 0 = never */
	Histogram batch_size;
	Histogram batch_utilization;
	Histogram flush_duration[FLUSH_REASONS]; /* seconds */
} FlushStats;

/* A slot's database in the buffer. */
typedef struct BatcherDatabase
{
	pg_atomic_uint64 waiting;	   /* distinct (agent, key) entries in the buffer */
	pg_atomic_uint64 reported;	   /* entries taken so far, including replacements */
	pg_atomic_uint64 dropped;	   /* entries dropped so far, because the buffer was full */
	pg_atomic_uint64 warned_at;	   /* time of the last warning that the buffer is full */
	pg_atomic_uint32 worker_woken; /* a session woke the worker, which has not looked yet */
	LWLock stats_lock;
	FlushStats stats;
} BatcherDatabase;

/* An agent that waits; the one that came first has the lowest number. */
typedef struct BatcherAgent
{
	pg_uuid_t agent;
	uint64 first_sequence;
} BatcherAgent;

/* A copy of an agent's entry; read it with blob_next(). */
typedef struct BatcherCopy
{
	pg_uuid_t agent;
	uint64 sequence; /* the copy has everything up to this number */
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
extern double batcher_used(void);
extern void batcher_fence(void);

#endif /* PREBUILD_METADATA_BATCHER_H */
