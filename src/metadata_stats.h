/*
 * metadata_stats.h
 *	  What the batcher and the worker have done, for the operator.
 */
#ifndef PREBUILD_METADATA_STATS_H
#define PREBUILD_METADATA_STATS_H

#include "postgres.h"

#include "metadata_batcher.h"

extern void metadata_stats_batch(int slot, FlushReason reason, const BatcherCopy *copies,
								 int ncopies, int nrows, int64 skipped, TimestampTz start);
extern void metadata_stats_failure(int slot, bool publishing, const char *message);

#endif /* PREBUILD_METADATA_STATS_H */
