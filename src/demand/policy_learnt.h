/*
 * policy_learnt.h
 *	  What a policy has learnt of the weeks before a Monday, as numbers that can be stored: with them
 *	  it answers without these weeks. Pure: no server, no clock, no allocation.
 */
#ifndef PREBUILD_POLICY_LEARNT_H
#define PREBUILD_POLICY_LEARNT_H

#include <stddef.h>

#include "demand/policies.h"

/* Numbers before those of the week's cells or hours. */
#define POLICY_LEARNT_HEAD 7
/* Numbers at most. */
#define POLICY_LEARNT_MOST (POLICY_LEARNT_HEAD + RATE_CELLS)

/* What a policy has learnt, ready for answers: for FORECAST the pattern, for SCHEDULE all else. */
typedef struct PolicyRecalled
{
	int demands;
	WeekSchedule schedule;
	PolicyPattern pattern; /* the last: see policy_recalled_size() */
} PolicyRecalled;

extern bool policy_learns(const Policy *policy);
extern int policy_learnt(const Policy *policy, const PolicySettings *settings,
						 const DemandHistory *past, int64_t at, PolicyMemo *memo, double *numbers);
extern size_t policy_recalled_size(const Policy *policy);
extern bool policy_recall(const Policy *policy, const double *numbers, int n,
						  PolicyRecalled *recalled);
extern void policy_remember(const Policy *policy, PolicyRecalled *recalled, int64_t at,
							PolicyMemo *memo);

#endif /* PREBUILD_POLICY_LEARNT_H */
