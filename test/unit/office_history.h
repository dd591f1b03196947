/*
 * office_history.h
 *	  Weeks of an office's demand, and the policies to ask about it, for the tests of policies.
 */
#ifndef PREBUILD_OFFICE_HISTORY_H
#define PREBUILD_OFFICE_HISTORY_H

#include <stdint.h>

#include "demand/policies.h"
#include "demand_random.h"

#define OFFICE_ROOM 20000
#define OFFICE_BUILDS 300

/* when the first demand may come */
static const int64_t began = DEMAND_FIRST_MONDAY + 1000 * DEMAND_WEEK;
/* the history's own arrays: each history takes them from the one before */
static int64_t times[OFFICE_ROOM];
static DemandBuild measured[OFFICE_BUILDS];

static const Policy policies[] = { { .kind = POLICY_CONFIGURED },
								   { .kind = POLICY_FIXED, .level = 3 },
								   { .kind = POLICY_SCHEDULE, .aim = 0.99 },
								   { .kind = POLICY_FORECAST, .price = 0.1 },
								   { .kind = POLICY_FORECAST, .price = 0.02 } };
#define NPOLICIES (int) (sizeof(policies) / sizeof(policies[0]))

/* Weeks of office hours, a tenth of it on weekends; builds over so many weeks; five are configured. */
static inline DemandHistory
office_history(int weeks, int a_day, int weeks_of_builds)
{
	static const DemandStep configured[] = { { INT64_MIN, 5 } };
	DemandHistory history = { .began = began,
							  .demands = times,
							  .builds = measured,
							  .nbuilds = OFFICE_BUILDS,
							  .configured = configured,
							  .nconfigured = 1 };
	int64_t created[OFFICE_BUILDS];

	for (int day = 0; day < 7 * weeks; day++)
	{
		int64_t midnight = began + day * DEMAND_DAY;
		int count = day % 7 < 5 ? a_day : a_day / 10;

		random_times(times + history.ndemands, count, midnight + 8 * DEMAND_HOUR,
					 midnight + 18 * DEMAND_HOUR, DEMAND_SECOND);
		history.ndemands += count;
	}
	random_times(created, OFFICE_BUILDS, began, began + weeks_of_builds * DEMAND_WEEK,
				 DEMAND_SECOND);
	for (int i = 0; i < OFFICE_BUILDS; i++)
		measured[i] = (DemandBuild){ created[i], (120 + random_below(300)) * DEMAND_SECOND,
									 random_below(10) == 0 };
	return history;
}

#endif /* PREBUILD_OFFICE_HISTORY_H */
