/*
 * handmade.c
 *	  Search all hand-made schedules. Counting finds candidates, the simulator decides.
 */
#include "handmade.h"

#include <stdlib.h>
#include <string.h>

/* Candidates by what share of the demands counting says they serve. */
#define PROBES 60

typedef struct Block
{
	int8_t from, to;
	int16_t inside, outside;
} Block;

/* The cheapest block for each number of demands that it serves at least. */
typedef struct Frontier
{
	int demands;
	double *cost;
	Block *block;
} Frontier;

static int served[2][25][WEEK_LEVELS + 1]; /* by hours before, of a class of days, up to a level */

int
week_target(void *schedule, const DemandHistory *past, int64_t at, int64_t *until)
{
	return week_schedule_level(schedule, past, at, until);
}

static void
sum_up(const WeekNeeds *needs)
{
	memset(served, 0, sizeof(served));
	for (int hour = 0; hour < WEEK_HOURS; hour++)
	{
		int class = hour / 24 >= 5;
		int below = 0;

		for (int level = 1; level <= needs->top; level++)
		{
			below += needs->needed[hour][level];
			served[class][hour % 24 + 1][level] += below;
		}
	}
	for (int class = 0; class < 2; class ++)
		for (int hour = 1; hour <= 24; hour++)
			for (int level = 1; level <= needs->top; level++)
				served[class][hour][level] += served[class][hour - 1][level];
}

static void
make_frontier(const WeekNeeds *needs, int class, bool block, Frontier *frontier)
{
	double hours = needs->weeks * (class == 0 ? 5 : 2);
	int n = served[class][24][needs->top];

	frontier->demands = n;
	frontier->cost = malloc(sizeof(double) * (n + 1));
	frontier->block = calloc(n + 1, sizeof(Block));
	for (int i = 0; i <= n; i++)
		frontier->cost[i] = 1e300;
	for (int from = 0; from < 24; from++)
		for (int to = block ? from + 1 : 24; to <= (block || from == 0 ? 24 : 0); to++)
			for (int inside = 0; inside <= needs->top; inside++)
				for (int outside = 0; outside <= (to - from < 24 ? needs->top : 0); outside++)
				{
					int in = served[class][to][inside] - served[class][from][inside];
					int out = served[class][24][outside] - served[class][to][outside] +
							  served[class][from][outside];
					int hits = in + out;
					double cost = hours * (inside * (to - from) + outside * (24 - to + from)) -
								  needs->lead * hits;

					if (cost < frontier->cost[hits])
					{
						frontier->cost[hits] = cost;
						frontier->block[hits] = (Block){ (int8_t) from, (int8_t) to,
														 (int16_t) inside, (int16_t) outside };
					}
				}
	for (int i = n - 1; i >= 0; i--)
		if (frontier->cost[i + 1] < frontier->cost[i])
		{
			frontier->cost[i] = frontier->cost[i + 1];
			frontier->block[i] = frontier->block[i + 1];
		}
}

static void
write_block(const Block *block, int first, int end, WeekSchedule *schedule)
{
	for (int day = first; day < end; day++)
		for (int hour = 0; hour < 24; hour++)
			schedule->levels[day * 24 + hour] =
				hour >= block->from && hour < block->to ? block->inside : block->outside;
}

bool
handmade_best(const DemandHistory *history, const SimulatorSettings *settings,
			  const SimulatorRoom *room, double share, bool weekend_block, WeekSchedule *schedule,
			  SimulatorFigures *figures)
{
	static WeekNeeds needs;
	Frontier week, end;
	WeekSchedule last = { { -1 } };
	DemandLead lead;
	bool found = false;

	demand_lead(history, settings->to, settings->default_lead, &lead);
	week_needs(history, settings->split, settings->to, lead.mean, &needs);
	sum_up(&needs);
	make_frontier(&needs, 0, true, &week);
	make_frontier(&needs, 1, weekend_block, &end);
	for (int probe = 0; probe < PROBES; probe++)
	{
		double wanted = 1 - (1 - share) * 2 * (PROBES - 1 - probe) / (PROBES - 1.0);
		int hits = (int) (wanted * needs.demands + 0.999999);
		double least = 1e300;
		int in_week = 0;
		WeekSchedule candidate;
		SimulatorResult result;

		for (int i = 0; i <= week.demands; i++)
		{
			int rest = hits - i < 0 ? 0 : hits - i;

			if (rest <= end.demands && week.cost[i] + end.cost[rest] < least)
			{
				least = week.cost[i] + end.cost[rest];
				in_week = i;
			}
		}
		if (least >= 1e300)
			continue;
		write_block(&week.block[in_week], 0, 5, &candidate);
		write_block(&end.block[hits - in_week < 0 ? 0 : hits - in_week], 5, 7, &candidate);
		if (memcmp(&candidate, &last, sizeof(last)) == 0)
			continue;
		last = candidate;
		simulate(history, settings, week_target, &candidate, room, &result);
		if (result.after.warm >= share * result.after.demands - 1e-9 &&
			(!found || result.after.idle < figures->idle))
		{
			found = true;
			*schedule = candidate;
			*figures = result.after;
		}
	}
	free(week.cost);
	free(week.block);
	free(end.cost);
	free(end.block);
	return found;
}
