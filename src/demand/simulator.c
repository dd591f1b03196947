/*
 * simulator.c
 *	  The pool as a pass keeps it, without a database. Pure.
 *
 * It begins full: with as many ready prebuilds as the first target wants. At one moment builds end
 * first, then people come, then the pass runs. A pass deletes what has expired, then the oldest
 * beyond the target; else it creates what is missing, as far as the caps allow. Builds in progress
 * are never stopped. A demand takes the oldest ready prebuild that has not expired; without one it is
 * cold, and orders nothing by itself.
 *
 * The target is asked for at passes only. When nothing can have changed no pass runs, which is what
 * makes 90 days cheap.
 */
#include "demand/simulator.h"

#include <string.h>

/* What a worker takes to run a pass after a change. */
#define PROMPTLY DEMAND_SECOND
/* Lead times are taken in turn from so many of the newest builds at the time. */
#define LEAD_CHOICES 20

typedef struct Simulation
{
	const DemandHistory *history;
	DemandHistory past; /* what is known at the time */
	const SimulatorSettings *settings;
	SimulatorTarget target;
	void *policy;
	SimulatorRoom room;
	SimulatorResult *result;
	SimulatorFigures *figures; /* of the result: before or after the split */

	int64_t now;
	int64_t next_pass;	 /* a periodic one */
	int64_t prompt_pass; /* after a change */
	bool changed;		 /* something, now */
	int wanted;
	int64_t wanted_until;
	int nready;
	int nbuilds;
	int orders;	 /* builds ordered so far */
	int64_t due; /* a time of a periodic pass */

	int bucket;				 /* of the series: the one that the clock is in */
	SimulatorFigures closed; /* the sum of all before it */
} Simulation;

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Return when the periodic pass at or after a time is. */
static int64_t
periodic_pass(Simulation *sim, int64_t time)
{
	int64_t interval = sim->settings->pass_interval;

	if (time > sim->settings->to)
		return INT64_MAX;
	/* mostly it is the one of the last question, or the next one: no division */
	if (time > sim->due)
		sim->due += interval;
	if (time > sim->due || time <= sim->due - interval)
	{
		int64_t rest = time % interval;

		sim->due = time - rest + (rest > 0 ? interval : 0);
	}
	return sim->due;
}

/* Let a pass see what has changed now: a periodic one, which may be now, and a prompt one. */
static void
call_pass(Simulation *sim)
{
	sim->next_pass = earlier(sim->next_pass, periodic_pass(sim, sim->now));
	sim->changed = true;
}

/* Add up how long prebuilds wait until a time, and let the clock be there. */
static void
spend_time(Simulation *sim, int64_t to)
{
	int64_t split = sim->settings->split;

	if (sim->now < split && to >= split)
	{
		sim->figures->idle += sim->nready * (split - sim->now);
		sim->now = split;
		sim->figures = &sim->result->after;
		sim->figures->peak = sim->nready + sim->nbuilds;
	}
	sim->figures->idle += sim->nready * (to - sim->now);
	sim->now = to;
}

static int
higher(int a, int b)
{
	return a > b ? a : b;
}

/* Close the bucket that the clock is in: it has what the buckets before it do not. */
static void
close_bucket(Simulation *sim)
{
	const SimulatorResult *result = sim->result;
	SimulatorBucket *bucket = &sim->settings->series->buckets[sim->bucket];
	SimulatorFigures all = result->before;

	all.demands += result->after.demands;
	all.warm += result->after.warm;
	all.created += result->after.created;
	all.deleted += result->after.deleted;
	all.idle += result->after.idle;
	bucket->demands = all.demands - sim->closed.demands;
	bucket->warm = all.warm - sim->closed.warm;
	bucket->created = all.created - sim->closed.created;
	bucket->deleted = all.deleted - sim->closed.deleted;
	bucket->idle = all.idle - sim->closed.idle;
	sim->closed = all;
}

/* Open a bucket. It begins with the pool as it is. */
static void
open_bucket(Simulation *sim, int number)
{
	SimulatorBucket *bucket = &sim->settings->series->buckets[number];

	sim->bucket = number;
	bucket->target = 0;
	bucket->peak = sim->nready + sim->nbuilds;
}

/* Spend time within the bucket that the clock is in. */
static void
spend_time_in_bucket(Simulation *sim, int64_t to)
{
	SimulatorBucket *bucket = &sim->settings->series->buckets[sim->bucket];

	if (to > sim->now)
	{
		bucket->target = higher(bucket->target, sim->wanted);
		bucket->peak = higher(bucket->peak, sim->nready + sim->nbuilds);
	}
	spend_time(sim, to);
}

/* Move the clock. What happens at the start of a bucket is of that bucket. */
static void
move_clock(Simulation *sim, int64_t to)
{
	const SimulatorSeries *series = sim->settings->series;

	if (series == NULL)
	{
		spend_time(sim, to);
		return;
	}
	while (sim->bucket + 1 < series->n && series->buckets[sim->bucket + 1].starts <= to)
	{
		spend_time_in_bucket(sim, series->buckets[sim->bucket + 1].starts);
		close_bucket(sim);
		open_bucket(sim, sim->bucket + 1);
	}
	spend_time_in_bucket(sim, to);
}

/* Let a pass see when a prebuild expires. */
static void
call_expiry(Simulation *sim, int64_t created)
{
	int64_t expires = created + sim->settings->expire_after + 1;

	/* a build may take longer than its prebuild lives */
	if (sim->settings->expire_after > 0)
		sim->next_pass =
			earlier(sim->next_pass, periodic_pass(sim, expires > sim->now ? expires : sim->now));
}

/* Put a ready prebuild into its place by age. Builds end nearly in the order of their creation. */
static void
add_ready(Simulation *sim, int64_t created)
{
	int place = sim->nready++;

	for (; place > 0 && sim->room.ready[place - 1] > created; place--)
		sim->room.ready[place] = sim->room.ready[place - 1];
	sim->room.ready[place] = created;
}

/* Take the oldest ready prebuilds away. */
static void
drop_oldest(Simulation *sim, int count)
{
	sim->nready -= count;
	memmove(sim->room.ready, sim->room.ready + count, sizeof(int64_t) * (size_t) sim->nready);
}

/* Return how many ready prebuilds have expired: the oldest. */
static int
expired_ones(const Simulation *sim)
{
	int count = 0;

	if (sim->settings->expire_after > 0)
		while (count < sim->nready &&
			   sim->now - sim->room.ready[count] > sim->settings->expire_after)
			count++;
	return count;
}

/* End the builds whose time has come. */
static void
end_builds(Simulation *sim)
{
	int ended = 0;

	while (ended < sim->nbuilds && sim->room.builds[ended].ends <= sim->now)
	{
		const SimulatorBuild *build = &sim->room.builds[ended++];

		if (build->fails)
			sim->figures->failed++;
		else
		{
			add_ready(sim, build->created);
			call_expiry(sim, build->created);
		}
		call_pass(sim);
	}
	sim->nbuilds -= ended;
	memmove(sim->room.builds, sim->room.builds + ended,
			sizeof(SimulatorBuild) * (size_t) sim->nbuilds);
}

/* Order a prebuild, which takes as long as one that was built at about this time. */
static void
order_build(Simulation *sim)
{
	const DemandHistory *history = sim->history;
	SimulatorBuild build = { 0, sim->now, false };
	int64_t took = sim->settings->default_lead;
	int known = sim->past.nbuilds;
	int place = sim->nbuilds++;

	if (known > 0)
	{
		int choices = known < LEAD_CHOICES ? known : LEAD_CHOICES;
		const DemandBuild *like = &history->builds[known - 1 - sim->orders % choices];

		took = like->took;
		build.fails = like->failed;
	}
	/* the next pass orders again what fails, so failing at once must not stop the clock */
	if (build.fails && took < sim->settings->pass_interval)
		took = sim->settings->pass_interval;
	sim->orders++;
	sim->figures->created++;
	sim->figures->building += took;
	build.ends = sim->now + took;
	for (; place > 0 && sim->room.builds[place - 1].ends > build.ends; place--)
		sim->room.builds[place] = sim->room.builds[place - 1];
	sim->room.builds[place] = build;
}

/* Ask the policy, keeping its answer within the room. */
static void
ask_target(Simulation *sim)
{
	int64_t until = INT64_MAX;
	int target = sim->target(sim->policy, &sim->past, sim->now, &until);

	sim->wanted = target < 0 ? 0 : (target > sim->room.size ? sim->room.size : target);
	sim->wanted_until = until > sim->now ? until : sim->now + 1;
}

/* Create what is missing, as far as the caps allow. Returns whether they held some back. */
static bool
create_missing(Simulation *sim)
{
	int missing = sim->wanted - sim->nready - sim->nbuilds;
	int allowed = missing;
	int free_slots = sim->settings->max_building - sim->nbuilds;

	if (sim->settings->max_creates > 0 && allowed > sim->settings->max_creates)
		allowed = sim->settings->max_creates;
	if (sim->settings->max_building > 0 && allowed > free_slots)
		allowed = free_slots;
	for (int i = 0; i < allowed; i++)
		order_build(sim);
	return allowed < missing;
}

/* Run a pass: make the pool what the policy wants, and say when the next one has something to do. */
static void
run_pass(Simulation *sim)
{
	int expired = expired_ones(sim);
	bool held_back;

	sim->next_pass = INT64_MAX;
	if (sim->prompt_pass <= sim->now)
		sim->prompt_pass = INT64_MAX;
	while (sim->past.ndemands < sim->history->ndemands &&
		   sim->history->demands[sim->past.ndemands] < sim->now)
		sim->past.ndemands++;
	while (sim->past.nbuilds < sim->history->nbuilds &&
		   sim->history->builds[sim->past.nbuilds].created < sim->now)
		sim->past.nbuilds++;
	while (sim->past.nconfigured < sim->history->nconfigured &&
		   sim->history->configured[sim->past.nconfigured].from <= sim->now)
		sim->past.nconfigured++;
	ask_target(sim);

	drop_oldest(sim, expired);
	sim->figures->expired += expired;
	sim->figures->deleted += expired;
	if (sim->nready > sim->wanted)
	{
		sim->figures->deleted += sim->nready - sim->wanted;
		drop_oldest(sim, sim->nready - sim->wanted);
	}
	held_back = create_missing(sim);
	if (sim->nready + sim->nbuilds > sim->figures->peak)
		sim->figures->peak = sim->nready + sim->nbuilds;

	sim->next_pass = earlier(sim->next_pass, periodic_pass(sim, sim->wanted_until));
	if (held_back)
		sim->next_pass = earlier(sim->next_pass, periodic_pass(sim, sim->now + 1));
	if (sim->nready > 0)
		call_expiry(sim, sim->room.ready[0]);
}

/* Somebody asks for a workspace. */
static void
serve(Simulation *sim)
{
	int expired = expired_ones(sim);

	sim->figures->demands++;
	if (sim->nready > expired)
	{
		sim->figures->warm++;
		sim->nready--;
		memmove(sim->room.ready + expired, sim->room.ready + expired + 1,
				sizeof(int64_t) * (size_t) (sim->nready - expired));
	}
	call_pass(sim);
}

/* Begin with a full pool. */
static void
fill_pool(Simulation *sim)
{
	sim->past = demand_history_before(sim->history, sim->now);
	ask_target(sim);
	for (; sim->nready < sim->wanted; sim->nready++)
		sim->room.ready[sim->nready] = sim->now;
	sim->figures->peak = sim->nready;
	sim->prompt_pass = INT64_MAX;
	sim->next_pass = periodic_pass(sim, sim->wanted_until);
	call_expiry(sim, sim->now);
}

/*
 * Simulate the pool from settings->from (inclusive) to settings->to (exclusive). Targets are cut to
 * 0 and room->size. settings must have from <= split <= to and a pass_interval above 0. Takes time
 * by the number of demands and of changes of the target, and of the buckets of a series. Returns
 * false, with unfinished figures and series, if settings->give_up_at ended it.
 */
bool
simulate(const DemandHistory *history, const SimulatorSettings *settings, SimulatorTarget target,
		 void *policy, const SimulatorRoom *room, SimulatorResult *result)
{
	Simulation sim = { .history = history,
					   .settings = settings,
					   .target = target,
					   .policy = policy,
					   .room = *room,
					   .result = result,
					   .now = settings->from };
	int demand = demand_count_before(history->demands, history->ndemands, settings->from);
	const SimulatorFigures *first;

	memset(result, 0, sizeof(*result));
	sim.figures = settings->from < settings->split ? &result->before : &result->after;
	first = sim.figures;
	fill_pool(&sim);
	if (settings->series != NULL)
		open_bucket(&sim, 0);
	for (;;)
	{
		int64_t comes = demand < history->ndemands ? history->demands[demand] : INT64_MAX;
		int64_t ends = sim.nbuilds > 0 ? sim.room.builds[0].ends : INT64_MAX;
		int64_t pass = earlier(sim.next_pass, sim.prompt_pass);
		int64_t next = earlier(earlier(comes, ends), pass);

		if (next >= settings->to)
			break;
		move_clock(&sim, next);
		if (ends == next)
			end_builds(&sim);
		for (; demand < history->ndemands && history->demands[demand] == next; demand++)
			serve(&sim);
		if (settings->give_up_at > 0 && first->demands - first->warm >= settings->give_up_at)
			return false;
		/* what has just happened may have called for a pass at once */
		if (earlier(sim.next_pass, sim.prompt_pass) == next)
			run_pass(&sim);
		if (sim.changed && settings->prompt)
			sim.prompt_pass = earlier(sim.prompt_pass, next + PROMPTLY);
		sim.changed = false;
	}
	move_clock(&sim, settings->to);
	if (settings->series != NULL)
		close_bucket(&sim);
	return true;
}
