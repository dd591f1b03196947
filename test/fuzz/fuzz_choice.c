/*
 * fuzz_choice.c
 *	  Any bytes as a history and settings: the backtest must be safe, its figures must add up, and
 *	  its targets must stay within their bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "demand/choice.h"

#define MOST 400
#define SIZE 64

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Take a number below a limit from the input; 0 when it is used up. */
static int64_t
take(const uint8_t **data, size_t *size, int64_t limit)
{
	uint32_t value = 0;

	for (int i = 0; i < 3 && *size > 0; i++)
	{
		value = value << 8 | **data;
		(*data)++;
		(*size)--;
	}
	return value % limit;
}

static void
check_figures(const SimulatorFigures *figures)
{
	require(figures->demands >= 0 && figures->warm >= 0 && figures->warm <= figures->demands);
	require(figures->idle >= 0 && figures->building >= 0);
	require(figures->expired <= figures->deleted && figures->peak <= SIZE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int64_t ready[SIZE];
	static SimulatorBuild building[SIZE];
	static PolicyPattern patterns[3];
	static ChoiceRoom room = { .memo = { .patterns = patterns, .npatterns = 3 },
							   .pool = { SIZE, ready, building } };
	static ChoiceResult result;
	int64_t demands[MOST];
	DemandBuild builds[MOST];
	DemandStep configured[2];
	DemandStep offsets[2];
	DemandHistory history = { 0, demands, 0, builds, 0, configured, 2, offsets, 2 };
	ChoiceSettings settings = {
		.service_level = 0.5 + (double) take(&data, &size, 499) / 1000,
		.prompt = take(&data, &size, 2) != 0,
		.expire_after = take(&data, &size, 100000) * DEMAND_SECOND,
		.max_creates = (int) take(&data, &size, 5),
		.max_building = (int) take(&data, &size, 5),
		.policy = { .scale_in_delay = take(&data, &size, 200000) * DEMAND_SECOND,
					.pass_interval = (1 + take(&data, &size, 3600)) * DEMAND_SECOND,
					.default_lead = (1 + take(&data, &size, 7200)) * DEMAND_SECOND }
	};
	int64_t at = -take(&data, &size, 1000) * DEMAND_DAY;

	settings.policy.min_instances = (int) take(&data, &size, 4);
	settings.policy.max_instances =
		settings.policy.min_instances + (int) take(&data, &size, SIZE - 4);
	history.began = at;
	settings.from = at + (take(&data, &size, 60) - 20) * DEMAND_DAY;
	settings.to = settings.from + (1 + take(&data, &size, 70 * 24)) * DEMAND_HOUR;
	for (int i = 0; i < 2; i++)
	{
		configured[i] = (DemandStep){ at + i * take(&data, &size, 1000000) * DEMAND_SECOND,
									  take(&data, &size, SIZE) };
		offsets[i] = (DemandStep){ at + i * take(&data, &size, 1000000) * DEMAND_SECOND,
								   (take(&data, &size, 52) - 26) * 30 * DEMAND_MINUTE };
	}
	while (size > 0 && history.ndemands < MOST)
	{
		at += take(&data, &size, 1 << 18) * DEMAND_SECOND;
		demands[history.ndemands++] = at;
		if (history.ndemands % 3 == 0)
			builds[history.nbuilds++] =
				(DemandBuild){ at, take(&data, &size, 5000) * DEMAND_SECOND, at % 7 == 0 };
	}

	choice_make(&history, &settings, &room, &result);
	require(result.ncandidates >= 1 && result.ncandidates <= CHOICE_CANDIDATES);
	require(result.chosen >= 0 && result.chosen < result.ncandidates);
	for (int i = 0; i < result.ncandidates; i++)
	{
		check_figures(&result.candidates[i].earlier);
		check_figures(&result.candidates[i].later);
		require(result.candidates[i].earlier.demands == result.candidates[0].earlier.demands);
	}
	return 0;
}
