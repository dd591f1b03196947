/*
 * caps.c
 *	  Share what may be built at a time among the presets that want some.
 *
 *	  Pure: no server, no clock, no allocation.
 */
#include "decision/decision_parts.h"

/* What serves for a preset or will, expired ones that stay for now included. */
static int64_t
instances(const Preset *preset)
{
	return preset->desired - preset->shortfall + preset->serving + preset->create;
}

/*
 * True if preset a is emptier than b, relative to their desired instances. The lower index wins
 * ties.
 */
static bool
emptier(const PoolSnapshot *snapshot, int a, int b)
{
	const Preset *pa = &snapshot->presets[a];
	const Preset *pb = &snapshot->presets[b];
	int64_t left = instances(pa) * pb->desired;
	int64_t right = instances(pb) * pa->desired;

	return left != right ? left < right : a < b;
}

/* Restore the heap below a position. The emptiest preset is on top. */
static void
sift_down(PoolSnapshot *snapshot, int position, int size)
{
	int *heap = snapshot->heap;

	for (;;)
	{
		int child = 2 * position + 1;
		int moved = heap[position];

		if (child >= size)
			return;
		if (child + 1 < size && emptier(snapshot, heap[child + 1], heap[child]))
			child++;
		if (!emptier(snapshot, heap[child], moved))
			return;
		heap[position] = heap[child];
		heap[child] = moved;
		position = child;
	}
}

/*
 * Share a budget of creations among the presets that want some: give each one to the preset that is
 * then the emptiest relative to its target.
 */
static void
share_budget(PoolSnapshot *snapshot, int64_t budget, const char *setting)
{
	int size = 0;

	for (int i = 0; i < snapshot->npresets; i++)
	{
		Preset *preset = &snapshot->presets[i];

		if (preset->create == 0)
			continue;
		preset->capped = preset->create;
		preset->capped_by = setting;
		preset->create = 0;
		snapshot->heap[size++] = i;
	}
	for (int i = size / 2 - 1; i >= 0; i--)
		sift_down(snapshot, i, size);
	while (budget-- > 0 && size > 0)
	{
		Preset *preset = &snapshot->presets[snapshot->heap[0]];

		preset->create++;
		if (--preset->capped == 0)
			snapshot->heap[0] = snapshot->heap[--size];
		sift_down(snapshot, 0, size);
	}
}

/* Apply the caps to creations. A build that this pass cancels frees its place at once. */
void
caps_apply(PoolSnapshot *snapshot, const DecisionSettings *settings)
{
	int64_t wanted = 0;
	int64_t building = 0;
	int64_t budget = DECISION_MAX_CREATES;
	const char *setting = "the built-in limit of a pass";

	for (int i = 0; i < snapshot->npresets; i++)
		wanted += snapshot->presets[i].create;
	for (int i = 0; i < snapshot->nmembers; i++)
		building += is_building(&snapshot->members[i]) &&
					snapshot->members[i].transition == TRANSITION_START &&
					snapshot->members[i].verdict != VERDICT_CANCEL;

	if (settings->max_creates_per_pass > 0 && settings->max_creates_per_pass < budget)
	{
		budget = settings->max_creates_per_pass;
		setting = "prebuild.max_creates_per_pass";
	}
	if (settings->max_building > 0 && settings->max_building - building < budget)
	{
		budget = settings->max_building > building ? settings->max_building - building : 0;
		setting = "prebuild.max_building";
	}
	if (wanted > budget)
		share_budget(snapshot, budget, setting);
}
