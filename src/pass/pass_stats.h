/*
 * pass_stats.h
 *	  Statistics of the durations of passes.
 */
#ifndef PREBUILD_PASS_STATS_H
#define PREBUILD_PASS_STATS_H

#include "postgres.h"

extern void pass_stats_add(int64 microseconds);
extern uint64 pass_stats_metrics(const char *name, const char *help);

#endif /* PREBUILD_PASS_STATS_H */
