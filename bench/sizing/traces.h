/*
 * traces.h
 *	  Synthetic demand, the same for a seed on every machine.
 */
#ifndef PREBUILD_TRACES_H
#define PREBUILD_TRACES_H

#include <stdint.h>

extern const char *const trace_kinds[]; /* NULL ends them */

#define TRACE_MINUTES_OF_WEEK 10080

extern int trace_make(const char *kind, double per_day, uint64_t seed, int64_t from, int weeks,
					  int64_t *times, int room, double *rates);

#endif
