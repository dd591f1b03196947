/*
 * test_simulator.c
 *	  Small cases by hand, and random ones against a simulator that looks at every second.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "demand/simulator.h"
#include "demand_random.h"

#define SIZE 64

static int64_t ready[SIZE];
static SimulatorBuild builds[SIZE];
static const SimulatorRoom room = { SIZE, ready, builds };

/* A target that changes at given times, as a policy that knows them. */
typedef struct Plan
{
	int nsteps;
	DemandStep steps[8];
} Plan;

static int
plan_target(void *plan, const DemandHistory *past, int64_t at, int64_t *until)
{
	Plan *p = plan;

	*until = INT64_MAX;
	for (int i = 0; i < p->nsteps; i++)
		if (p->steps[i].from > at)
		{
			*until = p->steps[i].from;
			break;
		}
	/* the simulator must not show what comes */
	if (past->ndemands > 0)
		assert_true(past->demands[past->ndemands - 1] < at);
	return (int) demand_step_value(p->steps, p->nsteps, at, 0);
}

static SimulatorFigures
run(const DemandHistory *history, SimulatorSettings settings, Plan *plan)
{
	SimulatorResult result;

	simulate(history, &settings, plan_target, plan, &room, &result);
	return result.after;
}

static void
test_by_hand(void **state)
{
	int64_t demands[] = { 100 * DEMAND_SECOND, 130 * DEMAND_SECOND, 500 * DEMAND_SECOND };
	DemandHistory history = { .demands = demands, .ndemands = 3 };
	SimulatorSettings settings = { .to = 1000 * DEMAND_SECOND,
								   .pass_interval = 60 * DEMAND_SECOND,
								   .prompt = true,
								   .default_lead = 200 * DEMAND_SECOND };
	Plan plan = { 1, { { INT64_MIN, 1 } } };
	SimulatorFigures figures = run(&history, settings, &plan);

	(void) state;
	/* the second one comes while the first one's place is being built */
	assert_int_equal(figures.demands, 3);
	assert_int_equal(figures.warm, 2);
	assert_int_equal(figures.created, 2);
	assert_int_equal(figures.peak, 1);
	/* 0 to 100, 301 to 500, 701 to 1000 */
	assert_int_equal(figures.idle, (100 + 199 + 299) * DEMAND_SECOND);
	assert_int_equal(figures.building, 400 * DEMAND_SECOND);

	/* a pass each minute sees the claims later: 0 to 100, 320 to 500, 740 to 1000 */
	settings.prompt = false;
	figures = run(&history, settings, &plan);
	assert_int_equal(figures.idle, (100 + 180 + 260) * DEMAND_SECOND);

	/* nobody is served without a pool */
	plan.steps[0].value = 0;
	figures = run(&history, settings, &plan);
	assert_int_equal(figures.warm, 0);
	assert_int_equal(figures.idle, 0);
}

static void
test_target_falls_and_expiry(void **state)
{
	DemandHistory history = { 0 };
	SimulatorSettings settings = { .to = 3600 * DEMAND_SECOND,
								   .pass_interval = 60 * DEMAND_SECOND,
								   .default_lead = 90 * DEMAND_SECOND };
	Plan plan = { 2, { { INT64_MIN, 5 }, { 600 * DEMAND_SECOND, 2 } } };
	SimulatorFigures figures = run(&history, settings, &plan);

	(void) state;
	assert_int_equal(figures.deleted, 3);
	assert_int_equal(figures.idle, (5 * 600 + 2 * 3000) * DEMAND_SECOND);
	/* each lives until the first pass after 1000 s: 1020, then 1110 to 2160 (by its creation) … */
	plan = (Plan){ 1, { { INT64_MIN, 1 } } };
	settings.expire_after = 1000 * DEMAND_SECOND;
	figures = run(&history, settings, &plan);
	assert_int_equal(figures.expired, 3);
	assert_int_equal(figures.created, 3);
}

/* The first pass after it takes what has lived for longer than it may, be it by a microsecond. */
static void
test_expiry_to_the_microsecond(void **state)
{
	DemandHistory history = { 0 };
	SimulatorSettings settings = { .to = 100 * DEMAND_SECOND,
								   .pass_interval = 60 * DEMAND_SECOND,
								   .expire_after = 60 * DEMAND_SECOND - 1,
								   .default_lead = 10 * DEMAND_SECOND };
	Plan plan = { 1, { { INT64_MIN, 1 } } };

	(void) state;
	assert_int_equal(run(&history, settings, &plan).expired, 1);
	settings.expire_after++;
	assert_int_equal(run(&history, settings, &plan).expired, 0);
	/* only none at all means never */
	settings.expire_after = 1;
	assert_int_equal(run(&history, settings, &plan).expired, 1);
	settings.expire_after = 0;
	assert_int_equal(run(&history, settings, &plan).expired, 0);
}

/* A pass orders builds that take as long as those before it; one of its own time is none of them. */
static void
test_lead_time_of_earlier_builds(void **state)
{
	static const int64_t demands[] = { 30 * DEMAND_SECOND };
	DemandBuild built = { 60 * DEMAND_SECOND, 10 * DEMAND_SECOND, false };
	DemandHistory history = { .demands = demands, .ndemands = 1, .builds = &built, .nbuilds = 1 };
	SimulatorSettings settings = { .to = 600 * DEMAND_SECOND,
								   .pass_interval = 60 * DEMAND_SECOND,
								   .default_lead = 200 * DEMAND_SECOND };
	Plan plan = { 1, { { INT64_MIN, 1 } } };

	(void) state;
	assert_int_equal(run(&history, settings, &plan).idle, (30 + 340) * DEMAND_SECOND);
	built.created--;
	assert_int_equal(run(&history, settings, &plan).idle, (30 + 530) * DEMAND_SECOND);
}

/* What happens at the start of a bucket is of that bucket. */
static void
test_start_of_bucket(void **state)
{
	static const int64_t demands[] = { 300 * DEMAND_SECOND };
	DemandHistory history = { .demands = demands, .ndemands = 1 };
	SimulatorBucket buckets[] = { { .starts = 0 }, { .starts = 300 * DEMAND_SECOND } };
	SimulatorSeries series = { .buckets = buckets, .n = 2 };
	SimulatorSettings settings = { .to = 600 * DEMAND_SECOND,
								   .pass_interval = 60 * DEMAND_SECOND,
								   .default_lead = 10 * DEMAND_SECOND,
								   .series = &series };
	Plan plan = { 1, { { INT64_MIN, 1 } } };

	(void) state;
	run(&history, settings, &plan);
	assert_int_equal(buckets[0].demands, 0);
	assert_int_equal(buckets[1].demands, 1);
}

/* A bucket begins with the pool as it is, builds under way included, whatever happens at its start. */
static void
test_peak_at_start_of_bucket(void **state)
{
	static const int64_t demands[] = { 190 * DEMAND_SECOND, 200 * DEMAND_SECOND };
	DemandHistory history = { .demands = demands, .ndemands = 2 };
	SimulatorBucket buckets[] = { { .starts = 0 }, { .starts = 300 * DEMAND_SECOND } };
	SimulatorSeries series = { .buckets = buckets, .n = 2 };
	SimulatorSettings settings = { .to = 600 * DEMAND_SECOND,
								   .pass_interval = 60 * DEMAND_SECOND,
								   .default_lead = 90 * DEMAND_SECOND,
								   .series = &series };
	Plan plan = { 2, { { INT64_MIN, 5 }, { 300 * DEMAND_SECOND, 0 } } };

	(void) state;
	run(&history, settings, &plan);
	/* three are ready and two under way, when the pass deletes the three */
	assert_int_equal(buckets[1].peak, 5);
	assert_int_equal(buckets[1].deleted, 5);
}

/* Builds that fail at once are ordered again by the next pass, not at the same moment for ever. */
static void
test_failures_in_no_time(void **state)
{
	static const int64_t demands[] = { 60 * DEMAND_SECOND };
	static const DemandBuild builds[] = { { 0, 0, true } };
	DemandHistory history = { .demands = demands, .ndemands = 1, .builds = builds, .nbuilds = 1 };
	SimulatorSettings settings = { .to = 600 * DEMAND_SECOND, .pass_interval = 60 * DEMAND_SECOND };
	Plan plan = { 1, { { INT64_MIN, 1 } } };
	SimulatorFigures figures = run(&history, settings, &plan);

	(void) state;
	assert_int_equal(figures.warm, 1);
	assert_int_equal(figures.created, 9);
	assert_int_equal(figures.failed, 8);
}

static void
test_split_adds_up(void **state)
{
	int64_t demands[400];
	DemandHistory history = { .demands = demands, .ndemands = 400 };
	SimulatorSettings settings = { .to = DEMAND_DAY,
								   .pass_interval = DEMAND_MINUTE,
								   .prompt = true,
								   .default_lead = 5 * DEMAND_MINUTE };
	Plan plan = { 1, { { INT64_MIN, 3 } } };
	SimulatorFigures whole;
	SimulatorResult parts;

	(void) state;
	random_times(demands, 400, 0, DEMAND_DAY, DEMAND_SECOND);
	whole = run(&history, settings, &plan);
	settings.split = 7 * DEMAND_HOUR + 11;
	simulate(&history, &settings, plan_target, &plan, &room, &parts);
	assert_int_equal(parts.before.demands + parts.after.demands, whole.demands);
	assert_int_equal(parts.before.warm + parts.after.warm, whole.warm);
	assert_int_equal(parts.before.idle + parts.after.idle, whole.idle);
	assert_int_equal(parts.before.created + parts.after.created, whole.created);
	assert_true(parts.before.idle > 0 && parts.after.idle > 0);
}

static void
test_giving_up(void **state)
{
	int64_t demands[400];
	DemandHistory history = { .demands = demands, .ndemands = 400 };
	SimulatorSettings settings = { .to = DEMAND_DAY,
								   .split = 7 * DEMAND_HOUR,
								   .pass_interval = DEMAND_MINUTE,
								   .default_lead = 5 * DEMAND_MINUTE };
	Plan plan = { 1, { { INT64_MIN, 1 } } };
	SimulatorResult whole;
	SimulatorResult result;
	int cold;

	(void) state;
	random_times(demands, 400, 0, DEMAND_DAY, DEMAND_SECOND);
	assert_true(simulate(&history, &settings, plan_target, &plan, &room, &whole));
	cold = whole.before.demands - whole.before.warm;
	assert_true(cold > 0 && whole.after.demands - whole.after.warm > cold);
	/* as many cold ones before the split are too many: the rest is not played */
	settings.give_up_at = cold;
	assert_false(simulate(&history, &settings, plan_target, &plan, &room, &result));
	assert_int_equal(result.after.demands, 0);
	/* those after the split do not count */
	settings.give_up_at = cold + 1;
	assert_true(simulate(&history, &settings, plan_target, &plan, &room, &result));
	assert_memory_equal(&result, &whole, sizeof(whole));
}

/* Buckets of a series hold what the whole does, each in its time. */
static void
test_series_adds_up(void **state)
{
	int64_t demands[400];
	DemandHistory history = { .demands = demands, .ndemands = 400 };
	SimulatorBucket buckets[100];
	SimulatorSeries series = { .buckets = buckets };
	SimulatorSettings settings = { .split = 9 * DEMAND_HOUR + 11,
								   .to = DEMAND_DAY,
								   .pass_interval = DEMAND_MINUTE,
								   .prompt = true,
								   .expire_after = 2 * DEMAND_HOUR,
								   .default_lead = 5 * DEMAND_MINUTE };
	Plan plan = { 2, { { INT64_MIN, 3 }, { 12 * DEMAND_HOUR, 7 } } };
	SimulatorResult whole;
	SimulatorResult recorded;

	(void) state;
	random_times(demands, 400, 0, DEMAND_DAY, DEMAND_SECOND);
	simulate(&history, &settings, plan_target, &plan, &room, &whole);
	settings.series = &series;
	for (int round = 0; round < 3; round++)
	{
		SimulatorFigures before = { 0 };
		SimulatorFigures after = { 0 };
		int n = 0;

		/* one that begins at the split, hours and the split, and irregular ones */
		for (int64_t at = 0; at < DEMAND_DAY; n++)
		{
			int64_t next = round == 0
							   ? DEMAND_DAY
							   : at + (round == 1 ? DEMAND_HOUR : 17 * DEMAND_MINUTE + 3 * at / 50);

			buckets[n].starts = at;
			at = at < settings.split && settings.split < next ? settings.split : next;
		}
		series.n = n;
		simulate(&history, &settings, plan_target, &plan, &room, &recorded);
		assert_memory_equal(&whole, &recorded, sizeof(whole));
		for (int i = 0; i < n; i++)
		{
			SimulatorFigures *sum = buckets[i].starts < settings.split ? &before : &after;

			sum->demands += buckets[i].demands;
			sum->warm += buckets[i].warm;
			sum->created += buckets[i].created;
			sum->deleted += buckets[i].deleted;
			sum->idle += buckets[i].idle;
			sum->peak = buckets[i].peak > sum->peak ? buckets[i].peak : sum->peak;
			/* the target changes at noon, at the start of a bucket or within one */
			if (i + 1 < n)
				assert_int_equal(buckets[i].target,
								 buckets[i + 1].starts <= 12 * DEMAND_HOUR ? 3 : 7);
		}
		assert_int_equal(before.demands + after.demands, 400);
		assert_int_equal(before.demands, whole.before.demands);
		assert_int_equal(before.warm, whole.before.warm);
		assert_int_equal(before.created, whole.before.created);
		assert_int_equal(before.deleted, whole.before.deleted);
		assert_int_equal(before.idle, whole.before.idle);
		assert_int_equal(before.peak, whole.before.peak);
		assert_int_equal(after.warm, whole.after.warm);
		assert_int_equal(after.created, whole.after.created);
		assert_int_equal(after.deleted, whole.after.deleted);
		assert_int_equal(after.idle, whole.after.idle);
		assert_int_equal(after.peak, whole.after.peak);
	}
}

/* ---- the naive simulator: every second, every prebuild by itself ---- */

typedef struct NaivePrebuild
{
	int64_t created;
	int64_t ends;
	bool fails;
	bool there;
} NaivePrebuild;

static NaivePrebuild pool[4096];
static int npool;

static int
naive_count(int64_t now, bool is_ready)
{
	int count = 0;

	for (int i = 0; i < npool; i++)
		if (pool[i].there && (pool[i].ends <= now) == is_ready)
			count++;
	return count;
}

/* The oldest ready one by creation; those that were ready first count as older. */
static NaivePrebuild *
naive_oldest(int64_t now, int64_t not_before)
{
	NaivePrebuild *oldest = NULL;

	for (int i = 0; i < npool; i++)
		if (pool[i].there && pool[i].ends <= now && pool[i].created >= not_before &&
			(oldest == NULL || pool[i].created < oldest->created))
			oldest = &pool[i];
	return oldest;
}

static void
naive_pass(const SimulatorSettings *s, const DemandHistory *history, Plan *plan, int64_t now,
		   int *orders, SimulatorFigures *figures)
{
	int wanted = (int) demand_step_value(plan->steps, plan->nsteps, now, 0);
	int missing;
	NaivePrebuild *old;

	if (s->expire_after > 0)
		while ((old = naive_oldest(now, INT64_MIN)) != NULL && now - old->created > s->expire_after)
		{
			old->there = false;
			figures->expired++;
			figures->deleted++;
		}
	while (naive_count(now, true) > wanted)
	{
		naive_oldest(now, INT64_MIN)->there = false;
		figures->deleted++;
	}
	missing = wanted - naive_count(now, true) - naive_count(now, false);
	if (s->max_creates > 0 && missing > s->max_creates)
		missing = s->max_creates;
	if (s->max_building > 0 && missing > s->max_building - naive_count(now, false))
		missing = s->max_building - naive_count(now, false);
	for (int i = 0; i < missing; i++)
	{
		int known = 0;
		int64_t took = s->default_lead;
		bool fails = false;

		while (known < history->nbuilds && history->builds[known].created < now)
			known++;
		if (known > 0)
		{
			const DemandBuild *like =
				&history->builds[known - 1 - *orders % (known < 20 ? known : 20)];

			took = like->took;
			fails = like->failed;
			if (fails && took < s->pass_interval)
				took = s->pass_interval;
		}
		(*orders)++;
		figures->created++;
		pool[npool++] = (NaivePrebuild){ now, now + took, fails, true };
	}
}

static SimulatorFigures
naive(const DemandHistory *history, const SimulatorSettings *s, Plan *plan)
{
	SimulatorFigures figures = { 0 };
	int demand = 0;
	int orders = 0;
	int64_t prompt_pass = -1;

	npool = 0;
	for (int i = 0; i < demand_step_value(plan->steps, plan->nsteps, s->from, 0); i++)
		pool[npool++] = (NaivePrebuild){ s->from, s->from, false, true };
	for (int64_t now = s->from; now < s->to; now += DEMAND_SECOND)
	{
		bool happened = false;

		for (int i = 0; i < npool; i++)
			if (pool[i].there && pool[i].ends == now && now > s->from)
			{
				happened = true;
				if (pool[i].fails)
				{
					pool[i].there = false;
					figures.failed++;
				}
			}
		for (; demand < history->ndemands && history->demands[demand] == now; demand++)
		{
			NaivePrebuild *oldest =
				naive_oldest(now, s->expire_after > 0 ? now - s->expire_after : INT64_MIN);

			figures.demands++;
			happened = true;
			if (oldest != NULL)
			{
				figures.warm++;
				oldest->there = false;
			}
		}
		if (now % s->pass_interval == 0 || now == prompt_pass)
			naive_pass(s, history, plan, now, &orders, &figures);
		if (happened && s->prompt)
			prompt_pass = now + DEMAND_SECOND;
		figures.idle += naive_count(now, true) * DEMAND_SECOND;
	}
	return figures;
}

static void
test_against_every_second(void **state)
{
	(void) state;
	for (int round = 0; round < 150; round++)
	{
		int64_t demands[200];
		DemandBuild measured[30];
		int64_t created[30];
		DemandHistory history = { .demands = demands,
								  .ndemands = random_below(200),
								  .builds = measured,
								  .nbuilds = random_below(31) };
		SimulatorSettings settings = { .to = 4 * DEMAND_HOUR,
									   .pass_interval = (1 + random_below(5)) * 30 * DEMAND_SECOND,
									   .prompt = random_below(2) == 0,
									   .default_lead = (1 + random_below(600)) * DEMAND_SECOND };
		Plan plan = { 1 + random_below(8), { { INT64_MIN, random_below(9) } } };
		SimulatorFigures expected, figures;

		if (random_below(3) == 0)
			settings.expire_after = (300 + random_below(4000)) * DEMAND_SECOND;
		if (random_below(3) == 0)
			settings.max_creates = 1 + random_below(3);
		if (random_below(3) == 0)
			settings.max_building = 1 + random_below(4);
		for (int i = 1; i < plan.nsteps; i++)
			plan.steps[i] = (DemandStep){ i * 29 * DEMAND_MINUTE + random_below(20) * DEMAND_SECOND,
										  random_below(9) };
		random_times(demands, history.ndemands, 0, settings.to, DEMAND_SECOND);
		random_times(created, history.nbuilds, -DEMAND_HOUR, settings.to, DEMAND_SECOND);
		for (int i = 0; i < history.nbuilds; i++)
			measured[i] = (DemandBuild){ created[i], (1 + random_below(900)) * DEMAND_SECOND,
										 random_below(5) == 0 };

		expected = naive(&history, &settings, &plan);
		figures = run(&history, settings, &plan);
		assert_int_equal(figures.demands, expected.demands);
		assert_int_equal(figures.warm, expected.warm);
		assert_int_equal(figures.created, expected.created);
		assert_int_equal(figures.failed, expected.failed);
		assert_int_equal(figures.deleted, expected.deleted);
		assert_int_equal(figures.expired, expected.expired);
		assert_int_equal(figures.idle, expected.idle);
		assert_true(figures.peak <= SIZE);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_target_falls_and_expiry),
		cmocka_unit_test(test_expiry_to_the_microsecond),
		cmocka_unit_test(test_lead_time_of_earlier_builds),
		cmocka_unit_test(test_start_of_bucket),
		cmocka_unit_test(test_peak_at_start_of_bucket),
		cmocka_unit_test(test_failures_in_no_time),
		cmocka_unit_test(test_split_adds_up),
		cmocka_unit_test(test_series_adds_up),
		cmocka_unit_test(test_against_every_second),
		cmocka_unit_test(test_giving_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
