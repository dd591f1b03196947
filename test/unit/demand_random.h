/*
 * demand_random.h
 *	  Random numbers and demands for the tests of src/demand, the same in every run.
 */
#ifndef PREBUILD_DEMAND_RANDOM_H
#define PREBUILD_DEMAND_RANDOM_H

#include <stdint.h>
#include <stdlib.h>

static uint64_t random_state = 88172645463325252u;

static inline int
random_below(int limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (int) (random_state % (uint64_t) limit);
}

static inline int
random_compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a;
	int64_t y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Fill in ascending times in whole units of a span. */
static inline void
random_times(int64_t *times, int count, int64_t from, int64_t to, int64_t unit)
{
	for (int i = 0; i < count; i++)
		times[i] = from + random_below((int) ((to - from) / unit)) * unit;
	qsort(times, (size_t) count, sizeof(times[0]), random_compare);
}

#endif /* PREBUILD_DEMAND_RANDOM_H */
