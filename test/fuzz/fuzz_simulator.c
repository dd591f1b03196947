/*
 * fuzz_simulator.c
 *	  Any bytes as a history, settings and a policy that answers at random: the simulator ends, never
 *	  shows a policy the future, keeps to its room and its caps, and its figures add up.
 */
#include <stdlib.h>
#include <string.h>

#include "demand/simulator.h"

#define MOST 200
#define SIZE 16

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input
{
	const uint8_t *data;
	size_t size;
	int64_t asked; /* when the policy was asked last */
} Input;

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Take a number below a limit from the input; 0 when it is used up. */
static int64_t
take(Input *input, int64_t limit)
{
	uint32_t value = 0;

	for (int i = 0; i < 2 && input->size > 0; i++)
	{
		value = value << 8 | *input->data++;
		input->size--;
	}
	return value % limit;
}

/* A build of the past that has not ended says nothing of lead times. */
static void
check_lead(const DemandHistory *past, int64_t at)
{
	DemandBuild ended[MOST];
	DemandHistory known = *past;
	DemandLead lead;
	DemandLead same;

	known.nbuilds = 0;
	known.builds = ended;
	for (int i = 0; i < past->nbuilds; i++)
	{
		require(past->builds[i].created < at);
		if (past->builds[i].created + past->builds[i].took < at)
			ended[known.nbuilds++] = past->builds[i];
	}
	demand_lead(past, at, DEMAND_HOUR, &lead);
	demand_lead(&known, at, DEMAND_HOUR, &same);
	require(lead.samples == same.samples && lead.mean == same.mean && lead.median == same.median &&
			lead.p90 == same.p90 && lead.failure_rate == same.failure_rate);
}

/* The policy: what the input says next. */
static int
answer(void *policy, const DemandHistory *past, int64_t at, int64_t *until)
{
	Input *input = policy;

	require(at >= input->asked);
	input->asked = at;
	require(past->ndemands == 0 || past->demands[past->ndemands - 1] < at);
	check_lead(past, at);
	require(past->nconfigured == 0 || past->configured[past->nconfigured - 1].from <= at);
	*until = at + (60 + take(input, 60000)) * DEMAND_SECOND;
	return (int) take(input, SIZE + 1);
}

static void
check_figures(const SimulatorFigures *figures)
{
	require(figures->demands >= 0 && figures->warm >= 0 && figures->warm <= figures->demands);
	require(figures->idle >= 0 && figures->building >= 0 && figures->failed >= 0);
	require(figures->expired <= figures->deleted && figures->peak <= SIZE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input input = { data, size, INT64_MIN };
	int64_t ready[SIZE];
	SimulatorBuild building[SIZE];
	SimulatorRoom room = { SIZE, ready, building };
	int64_t demands[MOST];
	DemandBuild builds[MOST];
	DemandStep configured[2];
	DemandStep offsets[1] = { { 0, 0 } };
	DemandHistory history = { 0, demands, 0, builds, 0, configured, 2, offsets, 1 };
	SimulatorSettings settings = { 0 };
	SimulatorResult result;
	int64_t at = 0;
	int64_t built = 0;
	int n = (int) take(&input, MOST);

	settings.from = take(&input, 50) * DEMAND_HOUR;
	settings.to = settings.from + (1 + take(&input, 200)) * DEMAND_HOUR;
	settings.split = settings.from + take(&input, 200) * DEMAND_HOUR;
	if (settings.split > settings.to)
		settings.split = settings.to;
	settings.pass_interval = (60 + take(&input, 3600)) * DEMAND_SECOND;
	settings.prompt = take(&input, 2) != 0;
	settings.expire_after = take(&input, 50000) * DEMAND_SECOND;
	settings.max_creates = (int) take(&input, 4);
	settings.max_building = (int) take(&input, 4);
	settings.default_lead = (1 + take(&input, 7200)) * DEMAND_SECOND;
	for (int i = 0; i < 2; i++)
		configured[i] = (DemandStep){ i * take(&input, 60000) * DEMAND_SECOND, take(&input, SIZE) };
	while (history.ndemands < n)
	{
		at += take(&input, 20000) * DEMAND_SECOND;
		demands[history.ndemands++] = at;
	}
	while (history.nbuilds < n / 2)
	{
		built += take(&input, 20000) * DEMAND_SECOND;
		builds[history.nbuilds++] =
			(DemandBuild){ built, take(&input, 5000) * DEMAND_SECOND, take(&input, 4) == 0 };
	}

	simulate(&history, &settings, answer, &input, &room, &result);
	check_figures(&result.before);
	check_figures(&result.after);
	require(result.before.demands + result.after.demands <= history.ndemands);
	return 0;
}
