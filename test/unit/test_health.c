/*
 * test_health.c
 *	  Tables of cases of what keeps pools healthy: sick members, rests of failures, probes, rolling
 *	  replacement, staged versions. test/model explores what passes make of it in the long run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decision/decision.h"

#define SECOND DECISION_USECS_PER_SEC
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define NOW (100000 * HOUR)
#define NEVER INT64_MAX
#define MAX_PRESETS 4
#define MAX_MEMBERS 64

/* ---- a snapshot to play with ---- */

static struct
{
	PoolSnapshot snapshot;
	DecisionSettings settings;
	Preset presets[MAX_PRESETS];
	PoolMember members[MAX_MEMBERS];
	PastFailure failures[MAX_MEMBERS];
	PoolMember *order[MAX_MEMBERS];
	Attempt attempts[2 * MAX_MEMBERS];
	int heap[MAX_PRESETS];
	BuildCheck check; /* the answer, should it be asked for */
} pool;

static char label[200]; /* the case at hand, for messages */

static void
check_number(int line, const char *what, int64_t found, int64_t wanted)
{
	if (found != wanted)
		fail_msg("line %d, %s: %s is %lld, not %lld", line, label, what, (long long) found,
				 (long long) wanted);
}

#define CHECK(found, wanted) check_number(__LINE__, #found, (int64_t) (found), (int64_t) (wanted))
#define LENGTH(array) (int) (sizeof(array) / sizeof((array)[0]))

static Id
id_of(int number)
{
	Id id = { { 0 } };

	id.bytes[14] = (uint8_t) (number >> 8);
	id.bytes[15] = (uint8_t) number;
	return id;
}

static void
start_case(const char *name, int number)
{
	snprintf(label, sizeof(label), "%s %d", name, number);
	memset(&pool, 0, sizeof(pool));
	pool.snapshot.presets = pool.presets;
	pool.snapshot.members = pool.members;
	pool.snapshot.failures = pool.failures;
	pool.snapshot.order = pool.order;
	pool.snapshot.attempts = pool.attempts;
	pool.snapshot.heap = pool.heap;
	pool.settings.at = NOW;
	pool.settings.backoff_interval = 60 * SECOND;
	pool.settings.backoff_lookback = HOUR;
	pool.settings.failure_hard_limit = 3;
}

static Preset *
add_preset(int scheduled)
{
	Preset *preset = &pool.presets[pool.snapshot.npresets++];

	preset->id = id_of(pool.snapshot.npresets);
	preset->template_id = id_of(100);
	preset->template_version_id = preset->active_version_id = id_of(200);
	preset->scheduled = scheduled;
	preset->policy = HEALTH_POLICY_OFF;
	return preset;
}

/* A member of the last preset. Its build is as old as itself. */
static PoolMember *
add_member(Transition transition, JobStatus status, int64_t age)
{
	PoolMember *member = &pool.members[pool.snapshot.nmembers++];
	int preset = pool.snapshot.npresets - 1;

	member->id = id_of(pool.snapshot.nmembers);
	member->build_id = id_of(1000 + pool.snapshot.nmembers);
	member->created_at = member->build_created_at = member->completed_at = NOW - age;
	member->template_version_id = pool.presets[preset].template_version_id;
	member->build_number = transition == TRANSITION_START ? 1 : 2;
	member->transition = transition;
	member->job_status = status;
	member->by_system_user = true;
	member->job_unclaimed = status == JOB_PENDING;
	member->ready = transition == TRANSITION_START && status == JOB_SUCCEEDED;
	member->seen_at = NEVER;
	member->build_preset = member->current_preset = preset;
	return member;
}

static PoolMember *
add_running(int64_t age)
{
	return add_member(TRANSITION_START, JOB_SUCCEEDED, age);
}

static PoolMember *
add_failed(int64_t age)
{
	return add_member(TRANSITION_START, JOB_FAILED, age);
}

static void
add_past_failure(int64_t age)
{
	pool.failures[pool.snapshot.nfailures] =
		(PastFailure){ .preset = pool.snapshot.npresets - 1,
					   .build_id = id_of(3000 + pool.snapshot.nfailures),
					   .build_created_at = NOW - age };
	pool.snapshot.nfailures++;
}

static void
decide(void)
{
	/* what nobody has filled in says nothing: leave rubbish in it */
	for (int i = 0; i < LENGTH(pool.attempts); i++)
		pool.attempts[i].failed = true;
	decision_judge(&pool.snapshot, &pool.settings);
	for (int i = 0; i < pool.snapshot.npresets; i++)
		if (decision_needs_check(&pool.presets[i]))
			pool.presets[i].check = pool.check;
	decision_settle(&pool.snapshot, &pool.settings);
}

/* ---- sick members ---- */

static void
test_sickness(void **state)
{
	static const struct
	{
		int64_t unready_grace, disconnected_grace;
		bool unwell, ready;
		int64_t completed, seen; /* ages; NEVER = never connected */
		Sickness sickness;
	} cases[] = {
		/* off: nobody is sick */
		{ 0, 0, true, false, DAY, DAY, SICK_NOT },
		{ 0, 0, false, false, NOW, NOW, SICK_NOT },
		/* an agent's state makes sick at once, by either setting */
		{ 9, 0, true, false, 0, NEVER, SICK_STATE },
		{ 0, 9, true, false, 0, NEVER, SICK_STATE },
		{ 9, 9, true, false, 99, 99, SICK_STATE },
		/* not ready for longer than the grace since the job ended */
		{ 9, 0, false, false, 9, NEVER, SICK_NOT },
		{ 9, 0, false, false, 10, NEVER, SICK_UNREADY },
		{ 9, 0, false, false, -5, NEVER, SICK_NOT },
		{ 9, 0, false, true, 99, NEVER, SICK_NOT },
		{ 0, 9, false, false, 99, NEVER, SICK_NOT },
		/* disconnected for longer than the grace, ready or not */
		{ 0, 9, false, true, 99, 9, SICK_NOT },
		{ 0, 9, false, true, 99, 10, SICK_DISCONNECTED },
		{ 0, 9, false, false, 99, 10, SICK_DISCONNECTED },
		{ 0, 9, false, true, 99, -5, SICK_NOT },
		{ 9, 0, false, true, 99, 99, SICK_NOT },
		/* the first reason that holds */
		{ 9, 9, false, false, 99, 99, SICK_UNREADY },
		/* the longest graces */
		{ INT64_MAX, INT64_MAX, false, false, NOW, NOW, SICK_NOT },
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
	{
		bool sick = cases[i].sickness != SICK_NOT;
		Preset *preset;
		PoolMember *member;

		start_case("sickness", i);
		preset = add_preset(1);
		preset->policy.unready_grace = cases[i].unready_grace;
		preset->policy.disconnected_grace = cases[i].disconnected_grace;
		member = add_running(cases[i].completed);
		member->unwell = cases[i].unwell;
		member->ready = cases[i].ready;
		member->seen_at = cases[i].seen == NEVER ? NEVER : NOW - cases[i].seen;
		decide();
		CHECK(member->sickness, cases[i].sickness);
		CHECK(member->verdict, sick ? VERDICT_DELETE_SICK : VERDICT_LEAVE);
		CHECK(member->is_failure, sick);
		CHECK(preset->sick, sick);
		CHECK(preset->valid, !sick);
		CHECK(preset->eligible, !sick && cases[i].ready);
		CHECK(preset->shortfall, sick);
		CHECK(preset->num_failed, sick && cases[i].completed <= HOUR);
	}
}

/*
 * A bound for which nobody has to find out when a member was seen decides like every later time. One
 * for which somebody has to, is that of a running member that seems to be disconnected.
 */
static void
test_bounds(void **state)
{
	static const Transition transitions[] = { TRANSITION_START, TRANSITION_STOP };
	static const int64_t graces[] = { 0, 1, 5, INT64_MAX };
	static const int64_t times[] = { INT64_MIN, 0, NOW - 6, NOW - 5, NOW - 1, NOW, NOW + 5, NEVER };

	(void) state;
	for (int transition = 0; transition < 2; transition++)
		for (int grace = 0; grace < LENGTH(graces); grace++)
			for (int bound = 0; bound < LENGTH(times); bound++)
			{
				Preset *preset;
				PoolMember *member;
				Sickness sickness;
				bool needed;

				start_case("bounds", 100 * transition + 10 * grace + bound);
				preset = add_preset(1);
				preset->policy.disconnected_grace = graces[grace];
				member = add_member(transitions[transition], JOB_SUCCEEDED, 0);
				member->ready = true;
				member->seen_at = times[bound];
				needed = decision_needs_seen_at(&pool.snapshot, member, NOW);
				decide();
				sickness = member->sickness;
				CHECK(needed, transition == 0 && sickness == SICK_DISCONNECTED);
				for (int later = bound; !needed && later < LENGTH(times); later++)
				{
					member->seen_at = times[later];
					decide();
					CHECK(member->sickness, sickness);
				}
			}
}

/* The ends of time: no arithmetic overflows. */
static void
test_infinite_times(void **state)
{
	static const int64_t ends[] = { INT64_MIN, INT64_MAX };
	static const int64_t times[] = { NOW, INT64_C(-211813488000000000),
									 INT64_C(9223371331199999999) };

	(void) state;
	for (int end = 0; end < 2; end++)
		for (int time = 0; time < LENGTH(times); time++)
		{
			bool old = end == 0;
			Preset *preset;
			PoolMember *unready, *lost, *left, *undeleted;

			start_case("infinite times", end * 10 + time);
			pool.settings.at = times[time];
			pool.settings.failure_hard_limit = 2;
			preset = add_preset(2);
			preset->policy.unready_grace = preset->policy.disconnected_grace = DAY;
			preset->policy.failed_retention = preset->policy.hard_limit_retry = DAY;
			preset->policy.failed_keep = 0;
			preset->policy.delete_retries = 1;
			unready = add_running(0);
			unready->ready = false;
			unready->completed_at = ends[end];
			lost = add_running(0);
			lost->seen_at = old ? INT64_MIN : INT64_MAX - 1;
			left = add_member(TRANSITION_STOP, JOB_SUCCEEDED, 0);
			left->build_created_at = ends[end];
			undeleted = add_member(TRANSITION_DELETE, JOB_FAILED, 0);
			undeleted->build_created_at = ends[end];
			for (int i = 0; i < 4; i++)
				add_failed(0)->build_created_at = ends[i < 2 ? end : 0];
			decide();
			CHECK(unready->sickness, old ? SICK_UNREADY : SICK_NOT);
			CHECK(lost->sickness, old ? SICK_DISCONNECTED : SICK_NOT);
			CHECK(left->verdict, old ? VERDICT_DELETE_LEFT : VERDICT_LEAVE);
			CHECK(undeleted->verdict, old ? VERDICT_DELETE_AGAIN : VERDICT_LEAVE);
			CHECK(preset->hard_limited, true);
		}
}

/* A sick member counts by the time of its build, also after it is gone. */
static void
test_sick_ones_are_failures(void **state)
{
	(void) state;
	for (int gone = 0; gone < 2; gone++)
	{
		Preset *preset;

		start_case("sick ones are failures", gone);
		preset = add_preset(2);
		preset->policy.unready_grace = 600 * SECOND;
		for (int i = 1; i <= 3; i++)
			if (gone)
				add_past_failure(i * 700 * SECOND);
			else
				add_running(i * 700 * SECOND)->ready = false;
		decide();
		CHECK(preset->num_failed, 3);
		CHECK(preset->backoff_until, NOW - 700 * SECOND + 180 * SECOND);
		CHECK(preset->hard_limited, true);
		CHECK(preset->new_status, STATUS_HARD_LIMITED);
		CHECK(preset->create, 0);
		CHECK(preset->nactions, gone ? 0 : 3);
		/* with another version it is nobody's any more */
		preset->active_version_id = id_of(201);
		decide();
		CHECK(preset->num_failed, 0);
		CHECK(preset->has_backoff_until, false);
	}
}

/* An expired member that is sick goes for its age, and is counted as both. */
static void
test_sick_and_expired(void **state)
{
	Preset *preset;

	(void) state;
	start_case("sick and expired", 0);
	preset = add_preset(1);
	preset->policy.disconnected_grace = HOUR;
	preset->policy.max_unavailable = (Amount){ 0, false };
	preset->invalidate_after_secs = 60;
	add_running(DAY)->seen_at = NOW - DAY;
	decide();
	CHECK(preset->sick, 1);
	CHECK(preset->expired, 1);
	CHECK(preset->eligible, 0);
	CHECK(preset->serving, 0);
	CHECK(pool.members[0].verdict, VERDICT_DELETE_EXPIRED);
	CHECK(pool.members[0].is_failure, true);
	CHECK(preset->shortfall, 1);
}

/* ---- what is left of failures ---- */

static void
test_kinds_of_rests(void **state)
{
	/* pending, running, succeeded, canceling, canceled, failed, unknown */
	static const char *const left[] = { "....yy.", "..y.yy.", ".......", "....yy." };

	(void) state;
	for (int transition = 0; transition < 4; transition++)
		for (int status = 0; status < 7; status++)
			for (int late = -1; late <= 1; late++)
			{
				bool goes = left[transition][status] == 'y' && late > 0;
				PoolMember *member;

				start_case("kinds of rests", transition * 10 + status);
				add_preset(0)->policy = (HealthPolicy){ .failed_retention = HOUR,
														.max_unavailable = { 100, true },
														.max_surge = { 100, true } };
				member = add_member((Transition) transition, (JobStatus) status, HOUR + late);
				member->ready = false;
				decide();
				if (transition != TRANSITION_START || status != JOB_SUCCEEDED)
					CHECK(member->verdict, goes ? VERDICT_DELETE_LEFT : VERDICT_LEAVE);
				pool.presets[0].policy.failed_retention = 0;
				decide();
				if (transition != TRANSITION_START || status != JOB_SUCCEEDED)
					CHECK(member->verdict, VERDICT_LEAVE);
			}
}

/* The preset that the workspace has now decides about a rest, and only without one that of its build. */
static void
test_whose_rest(void **state)
{
	(void) state;
	for (int current = -1; current < 2; current++)
		for (int built = -1; built < 2; built++)
			for (int keeps = 0; keeps < 2; keeps++)
			{
				int preset = current >= 0 ? current : built;
				PoolMember *member;

				start_case("whose rest", (current + 1) * 100 + (built + 1) * 10 + keeps);
				for (int i = 0; i < 2; i++)
					add_preset(0)->policy =
						(HealthPolicy){ .failed_retention = i == keeps ? 0 : HOUR,
										.max_unavailable = { 100, true },
										.max_surge = { 100, true } };
				member = add_failed(DAY);
				member->current_preset = current;
				member->build_preset = built;
				decide();
				CHECK(member->verdict,
					  preset < 0 || preset == keeps ? VERDICT_LEAVE : VERDICT_DELETE_LEFT);
			}
}

/* Of each preset the newest builds stay, ties by the builds' ids. */
static void
test_evidence(void **state)
{
	static const struct
	{
		int keep;
		const char *stays; /* of the members below, in their order */
	} cases[] = {
		{ 0, "......." }, { 1, "..y...y" }, { 2, ".yy..yy" },
		{ 3, "yyy.yyy" }, { 4, "yyyyyyy" }, { INT32_MAX, "yyyyyyy" },
	};
	static const int ages[] = { 3, 2, 2, 4, 9, 8, 7 }; /* hours; three of a second preset */

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
	{
		start_case("evidence", i);
		for (int n = 0; n < 7; n++)
		{
			PoolMember *member;

			if (n == 0 || n == 4)
			{
				add_preset(0)->policy.failed_retention = HOUR;
				pool.presets[pool.snapshot.npresets - 1].policy.failed_keep = cases[i].keep;
			}
			member = add_failed(ages[n] * HOUR);
			/* the second of one time is the newer one by its id */
			member->build_id = id_of(1000 - n);
			/* the workspace's age does not matter, nor which build has the preset */
			member->created_at = NOW - n;
			if (n % 2)
				member->current_preset = -1;
		}
		decide();
		for (int n = 0; n < 7; n++)
			CHECK(pool.members[n].verdict,
				  cases[i].stays[n] == 'y' ? VERDICT_LEAVE : VERDICT_DELETE_LEFT);
	}
}

static void
test_deletes_are_tried_again(void **state)
{
	static const struct
	{
		int retries, attempts;
		int64_t interval, delay; /* after which it is tried again; -1 = never */
	} cases[] = {
		{ 0, 1, 60 * SECOND, -1 },
		{ 1, 1, 60 * SECOND, 60 * SECOND },
		{ 1, 2, 60 * SECOND, -1 },
		{ 3, 2, 60 * SECOND, 120 * SECOND },
		{ 3, 3, 60 * SECOND, 240 * SECOND },
		{ 3, 4, 60 * SECOND, -1 },
		{ 99, 11, 60 * SECOND, 1024 * 60 * SECOND },
		{ 99, 12, 60 * SECOND, DAY },
		{ 99, 99, 60 * SECOND, DAY },
		{ INT32_MAX, INT32_MAX, 60 * SECOND, DAY },
		{ 2, 1, 0, 0 },
		{ 2, 2, 0, 0 },
		{ 2, 1, INT64_MAX, DAY },
		{ 2, 2, INT64_MAX, DAY },
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
		for (int canceled = 0; canceled < 2; canceled++)
			for (int late = -1; late <= 0; late++)
			{
				bool due = cases[i].delay >= 0 && (late == 0 || cases[i].delay == 0);
				PoolMember *member;

				start_case("deletes are tried again", i);
				pool.settings.backoff_interval = cases[i].interval;
				add_preset(0)->policy.delete_retries = cases[i].retries;
				member = add_member(TRANSITION_DELETE, canceled ? JOB_CANCELED : JOB_FAILED,
									(cases[i].delay > 0 ? cases[i].delay : DAY) + late);
				member->delete_attempts = cases[i].attempts;
				CHECK(decision_needs_attempts(&pool.snapshot, member), cases[i].retries > 0);
				decide();
				CHECK(member->verdict, due ? VERDICT_DELETE_AGAIN : VERDICT_LEAVE);
				CHECK(member->deletes_given_up, cases[i].retries > 0 && cases[i].delay < 0);
				CHECK(member->is_failure, false);
			}
}

/* ---- hard limit ---- */

/* A job that nobody took is nobody's failure. */
static void
test_never_taken(void **state)
{
	(void) state;
	for (int never = 0; never < 2; never++)
	{
		Preset *preset;

		start_case("never taken", never);
		preset = add_preset(2);
		for (int i = 1; i <= 3; i++)
			add_failed(i * SECOND)->job_never_taken = never;
		decide();
		CHECK(preset->num_failed, never ? 0 : 3);
		CHECK(preset->backing_off, !never);
		CHECK(preset->hard_limited, !never);
		CHECK(preset->create, never ? 2 : 0);
		CHECK(pool.members[0].is_failure, !never);
	}
	/* it neither ends the limit nor hides a failure behind it */
	start_case("never taken, before failures", 0);
	add_preset(1);
	add_failed(SECOND)->job_never_taken = true;
	for (int i = 2; i <= 4; i++)
		add_failed(i * SECOND);
	decide();
	CHECK(pool.presets[0].hard_limited, true);
	CHECK(pool.presets[0].has_backoff_until, true);
}

/* What failed up to the moment counts no more; what failed later does. */
static void
test_forgiven(void **state)
{
	(void) state;
	for (int64_t until = -1; until <= 1; until++)
		for (int gone = 0; gone < 2; gone++)
		{
			Preset *preset;

			start_case("forgiven", (int) until);
			pool.settings.failure_hard_limit = 1;
			preset = add_preset(1);
			preset->status = STATUS_HARD_LIMITED;
			preset->has_forgiven_until = true;
			preset->forgiven_until = NOW - SECOND + until;
			if (gone)
				add_past_failure(SECOND);
			else
				add_failed(SECOND);
			decide();
			CHECK(preset->num_failed, until < 0);
			CHECK(preset->backing_off, until < 0);
			CHECK(preset->hard_limited, until < 0);
			CHECK(preset->new_status, until < 0 ? STATUS_HARD_LIMITED : STATUS_HEALTHY);
			CHECK(preset->create, until >= 0);
			if (!gone)
				CHECK(pool.members[0].is_failure, until < 0);
		}
}

/*
 * The ages of builds in minutes, the newest first, each after its letter: f failed, F failed and
 * gone, r ready, n not ready, p pending, c canceled. A probe comes after an hour at first.
 */
static void
test_probes(void **state)
{
	static const struct
	{
		const char *builds;
		bool limited;
		int next; /* minutes from now on; 0 or less: due, if nothing is on its way */
		bool due;
	} cases[] = {
		{ "f1 f2", false, 0, false },
		{ "f1 f2 f3", true, 59, false },
		{ "f59 f60 f61", true, 1, false },
		{ "f60 f61 f62", true, 0, true },
		{ "F60 f61 F62", true, 0, true },
		/* of one pass: no probes */
		{ "f60 f60 f60 f60 f61", true, 0, true },
		{ "f60 f119 f119 f119", true, 0, true },
		/* probes */
		{ "f60 f120 f120 f120", true, 60, false },
		{ "f120 f180 f180 f180", true, 0, true },
		{ "f120 f180 f300 f300 f300", true, 120, false },
		{ "f100 f400 f900 f1200 f1300 f1400 f1500", true, 860, false },
		{ "f100 f1600 f3100 f4600 f6100 f7600 f9100 f9200 f9300", true, 1340, false },
		/* the probe is on its way */
		{ "p10 f80 f80 f80", true, 50, false },
		{ "p70 f80 f80 f80", true, -10, false },
		/* it has no answer: for the pace, it counts */
		{ "c10 f80 f80 f80", true, 50, false },
		{ "c60 f180 f180 f180", true, 0, true },
		{ "n10 f80 f80 f80", true, 50, false },
		{ "n60 f180 f180 f180", true, 0, true },
		{ "c10 n90 f180 f180 f180", true, 50, false },
		/* what is older than the newest failure is no probe */
		{ "f60 p61 f62 f63", true, 0, true },
		{ "f60 c61 f62 f63", true, 0, true },
		/* a success ends it */
		{ "r1 f60 f60 f60", false, 0, false },
		{ "f60 r61 f62 f63", false, 0, false },
		{ "p1 r2 f60 f60 f60", false, 0, false },
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
	{
		const char *at = cases[i].builds;
		Preset *preset;
		char kind;
		int age, length;

		start_case(cases[i].builds, i);
		pool.settings.backoff_interval = 0;
		preset = add_preset(9);
		preset->policy.hard_limit_retry = HOUR;
		for (; sscanf(at, " %c%d%n", &kind, &age, &length) == 2; at += length)
		{
			int64_t span = age * 60 * SECOND;

			if (kind == 'F')
				add_past_failure(span);
			else if (kind == 'f')
				add_failed(span);
			else if (kind == 'p')
				add_member(TRANSITION_START, JOB_PENDING, span);
			else if (kind == 'c')
				add_member(TRANSITION_START, JOB_CANCELED, span);
			else
				add_running(span)->ready = kind == 'r';
		}
		decide();
		CHECK(preset->hard_limited, cases[i].limited);
		CHECK(preset->probe_due, cases[i].due);
		CHECK(preset->withheld,
			  cases[i].limited && !cases[i].due ? WITHHELD_HARD_LIMITED : WITHHELD_NOT);
		CHECK(preset->create, !cases[i].limited ? preset->shortfall : cases[i].due);
		if (cases[i].limited)
			CHECK((preset->next_probe - NOW) / 60 / SECOND, cases[i].next);
		/* without probes, there are none */
		preset->policy.hard_limit_retry = 0;
		decide();
		CHECK(preset->probe_due, false);
		CHECK(preset->hard_limited && preset->create > 0, false);
	}
}

/* A success of a hard-limited preset clears what was before it, at once and for good. */
static void
test_probe_ends_the_limit(void **state)
{
	static const struct
	{
		PrebuildStatus status;
		int newer, older; /* failures than the success */
		bool forgives;
	} cases[] = {
		{ STATUS_HARD_LIMITED, 0, 3, true },  { STATUS_HEALTHY, 0, 3, true },
		{ STATUS_HEALTHY, 1, 2, true },		  { STATUS_HARD_LIMITED, 1, 1, true },
		{ STATUS_HEALTHY, 1, 1, false },	  { STATUS_HEALTHY, 0, 2, false },
		{ STATUS_HARD_LIMITED, 3, 3, false }, { STATUS_HARD_LIMITED, 1, 0, false },
		{ STATUS_HARD_LIMITED, 0, 0, false },
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
	{
		PoolMember *success;
		Preset *preset;

		start_case("a probe ends the limit", i);
		preset = add_preset(9);
		preset->status = cases[i].status;
		preset->policy.hard_limit_retry = HOUR;
		for (int n = 0; n < cases[i].newer; n++)
			add_failed((10 + n) * SECOND);
		success = add_running(20 * SECOND);
		for (int n = 0; n < cases[i].older; n++)
			add_failed((30 + n) * SECOND);
		decide();
		CHECK(preset->hard_limited, cases[i].newer == 3);
		CHECK(preset->forgive, cases[i].forgives);
		CHECK(preset->forgive_until, cases[i].forgives ? success->build_created_at : 0);
		CHECK(preset->num_failed, cases[i].newer + (cases[i].forgives ? 0 : cases[i].older));
		CHECK(preset->backing_off, preset->num_failed > 0);
		CHECK(preset->new_status, cases[i].newer == 3 ? STATUS_HARD_LIMITED : STATUS_HEALTHY);
	}
}

static void
test_no_provisioner(void **state)
{
	Preset *preset;

	(void) state;
	start_case("no provisioner", 0);
	pool.check = BUILD_NO_PROVISIONER;
	preset = add_preset(2);
	decide();
	CHECK(preset->withheld, WITHHELD_NO_PROVISIONER);
	CHECK(preset->create, 0);
	CHECK(preset->shortfall, 2);
	CHECK(preset->new_status, STATUS_HEALTHY);
}

/* ---- rolling replacement ---- */

static void
test_rolling(void **state)
{
	/* fresh ready and not ready, expired ready and not ready, starting; what goes, what comes */
	static const struct
	{
		int target;
		Amount unavailable, surge;
		int fresh, unready, expired, dead, starting;
		int goes, create, waiting;
	} cases[] = {
#define N(n)                                                                                       \
	{                                                                                              \
		n, false                                                                                   \
	}
#define P(n)                                                                                       \
	{                                                                                              \
		n, true                                                                                    \
	}
		/* Coder's way */
		{ 5, P(100), P(100), 0, 0, 5, 0, 0, 5, 5, 0 },
		/* one at a time, without surge */
		{ 5, N(1), N(0), 0, 0, 5, 0, 0, 1, 1, 4 },
		{ 5, N(1), N(0), 0, 1, 4, 0, 0, 0, 0, 4 },
		{ 5, N(1), N(0), 1, 0, 4, 0, 0, 1, 1, 3 },
		{ 5, N(1), N(0), 4, 0, 1, 0, 0, 1, 1, 0 },
		{ 5, N(1), N(0), 5, 0, 1, 0, 0, 1, 0, 0 },
		/* none may be missing: build first */
		{ 5, N(0), N(2), 0, 0, 5, 0, 0, 0, 2, 3 },
		{ 5, N(0), N(2), 0, 2, 5, 0, 0, 0, 0, 3 },
		{ 5, N(0), N(2), 2, 0, 5, 0, 0, 2, 2, 1 },
		{ 5, N(0), P(100), 0, 0, 5, 0, 0, 0, 5, 0 },
		{ 5, N(0), P(100), 5, 0, 5, 0, 0, 5, 0, 0 },
		/* neither: one more is built */
		{ 5, N(0), N(0), 0, 0, 5, 0, 0, 0, 1, 4 },
		{ 5, P(0), P(0), 0, 0, 5, 0, 0, 0, 1, 4 },
		/* max_unavailable rounds down, max_surge up */
		{ 3, P(50), N(0), 0, 0, 3, 0, 0, 1, 1, 2 },
		{ 1, P(50), N(0), 0, 0, 1, 0, 0, 0, 1, 0 },
		{ 7, P(99), N(0), 0, 0, 7, 0, 0, 6, 6, 1 },
		{ 3, N(0), P(1), 0, 0, 3, 0, 0, 0, 1, 2 },
		{ 3, N(0), P(34), 0, 0, 3, 0, 0, 0, 2, 1 },
		/* what does not serve goes at once */
		{ 5, N(0), N(1), 0, 0, 3, 2, 0, 2, 3, 2 },
		{ 5, N(0), N(1), 2, 0, 3, 2, 0, 2, 1, 2 },
		/* what is on its way takes its place */
		{ 2, N(0), N(1), 0, 0, 2, 0, 1, 0, 0, 1 },
		{ 2, N(1), N(1), 0, 0, 2, 0, 1, 1, 1, 0 },
		/* of too many, the expired go first */
		{ 2, N(0), N(1), 1, 0, 4, 0, 0, 3, 1, 0 },
		{ 2, N(1), N(1), 3, 0, 1, 0, 0, 2, 0, 0 },
		/* nothing is wanted */
		{ 0, N(0), N(0), 0, 0, 3, 0, 0, 3, 0, 0 },
		{ 0, N(INT32_MAX), N(INT32_MAX), 2, 0, 3, 0, 0, 5, 0, 0 },
		{ 0, P(50), P(50), 0, 0, 3, 0, 0, 3, 0, 0 },
		/* amounts without end */
		{ 5, N(INT32_MAX), N(INT32_MAX), 0, 0, 5, 0, 0, 5, 5, 0 },
		{ 5, P(INT32_MAX), P(INT32_MAX), 0, 0, 5, 0, 0, 5, 5, 0 },
		{ 5, N(0), N(INT32_MAX), 0, 0, 5, 0, 0, 0, 5, 0 },
		{ 5, N(INT32_MAX), N(0), 0, 0, 5, 0, 0, 5, 5, 0 },
#undef N
#undef P
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
	{
		bool rolls = decision_rolls(&(HealthPolicy){ .max_unavailable = cases[i].unavailable });
		Preset *preset;

		start_case("rolling", i);
		preset = add_preset(cases[i].target);
		preset->invalidate_after_secs = 60;
		preset->policy.max_unavailable = cases[i].unavailable;
		preset->policy.max_surge = cases[i].surge;
		for (int n = 0; n < cases[i].fresh; n++)
			add_running(n);
		for (int n = 0; n < cases[i].unready; n++)
			add_running(n)->ready = false;
		for (int n = 0; n < cases[i].expired; n++)
			add_running(HOUR + n * SECOND);
		for (int n = 0; n < cases[i].dead; n++)
			add_running(HOUR)->ready = false;
		for (int n = 0; n < cases[i].starting; n++)
			add_member(TRANSITION_START, JOB_RUNNING, n);
		decide();
		CHECK(preset->eligible, cases[i].fresh + (rolls ? cases[i].expired : 0));
		CHECK(preset->nactions, cases[i].goes);
		CHECK(preset->create, cases[i].create);
		CHECK(preset->waiting, cases[i].waiting);
		CHECK(preset->remaining + preset->nactions,
			  cases[i].fresh + cases[i].expired + cases[i].dead);
		CHECK(decision_needs_check(preset), cases[i].create > 0);
	}
}

/* The newest of the expired stay. */
static void
test_oldest_go_first(void **state)
{
	static const int ages[] = { 3, 5, 1, 4, 2 };

	(void) state;
	for (int unavailable = 0; unavailable <= 6; unavailable++)
	{
		Preset *preset;

		start_case("the oldest go first", unavailable);
		preset = add_preset(5);
		preset->invalidate_after_secs = 60;
		preset->policy.max_unavailable = (Amount){ unavailable, false };
		for (int i = 0; i < 5; i++)
			add_running(ages[i] * HOUR);
		decide();
		for (int i = 0; i < 5; i++)
			CHECK(pool.members[i].verdict,
				  ages[i] > 5 - unavailable ? VERDICT_DELETE_EXPIRED : VERDICT_LEAVE);
		CHECK(preset->serving, unavailable < 5 ? 5 - unavailable : 0);
	}
}

/* The old ones stay while their replacements are withheld. */
static void
test_rolling_while_builds_fail(void **state)
{
	Preset *preset;

	(void) state;
	start_case("rolling while builds fail", 0);
	preset = add_preset(2);
	preset->invalidate_after_secs = 7200;
	preset->policy.max_unavailable = (Amount){ 0, false };
	add_running(DAY);
	add_running(DAY);
	for (int i = 1; i <= 3; i++)
		add_failed(i * SECOND);
	decide();
	CHECK(preset->hard_limited, true);
	CHECK(preset->nactions, 0);
	CHECK(preset->eligible, 2);
	CHECK(preset->create, 0);
}

/* ---- staged versions ---- */

static void
test_share(void **state)
{
	static const struct
	{
		int scheduled;
		double share;
		int desired;
	} cases[] = {
		{ 0, 1.0, 0 },
		{ 5, 1.0, 5 },
		{ 5, 0.5, 3 },
		{ 4, 0.5, 2 },
		{ 5, 0.01, 1 },
		{ 100, 0.01, 1 },
		{ 5, 0.99, 5 },
		{ 1, 1e-9, 1 },
		{ 0, 0.5, 0 },
		{ 3, 1.0 / 3, 1 },
		{ 7, 0.0, 0 },
		{ 10, 0.1, 1 },
		{ INT32_MAX, 1.0, INT32_MAX },
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
		for (int gone = 0; gone < 3; gone++)
		{
			Preset *preset;

			start_case("share", i);
			preset = add_preset(cases[i].scheduled);
			preset->active_version_id = id_of(201);
			preset->staged_share = cases[i].share;
			preset->template_deleted = gone == 1;
			preset->template_deprecated = gone == 2;
			decide();
			CHECK(preset->active, false);
			CHECK(preset->kept, gone == 0 && cases[i].share > 0);
			CHECK(preset->desired, gone == 0 ? cases[i].desired : 0);
			CHECK(preset->shortfall, gone == 0 ? cases[i].desired : 0);
		}
}

/* A staged preset is kept like an active one: builds, expiry, backoff, hard limit. */
static void
test_staged_is_kept(void **state)
{
	Preset *preset;

	(void) state;
	start_case("staged", 0);
	preset = add_preset(4);
	preset->active_version_id = id_of(201);
	preset->staged_share = 1.0;
	preset->invalidate_after_secs = 60;
	add_running(SECOND);
	add_running(HOUR);
	add_member(TRANSITION_START, JOB_PENDING, SECOND);
	decide();
	CHECK(preset->eligible, 1);
	CHECK(preset->starting, 1);
	CHECK(preset->pending_stale, 0);
	CHECK(preset->nactions, 1);
	CHECK(preset->create, 2);
	for (int i = 0; i < 3; i++)
		add_failed(i);
	decide();
	CHECK(preset->hard_limited, true);
	CHECK(preset->backing_off, true);
	CHECK(preset->new_status, STATUS_HARD_LIMITED);
	/* no more: all of it goes */
	preset->staged_share = 0;
	decide();
	CHECK(preset->pending_stale, 1);
	CHECK(preset->nactions, 3);
	CHECK(preset->hard_limited, false);
}

static void
test_stage_state(void **state)
{
	/* two staged presets: r ready, n not ready, e expired and ready, f failed three times */
	static const struct
	{
		int target[2];
		const char *members[2];
		BuildCheck check;
		int unavailable;
		StageState state;
		int eligible, failed;
	} cases[] = {
		{ { 1, 2 }, { "r", "rr" }, BUILD_POSSIBLE, 100, STAGE_READY, 3, 0 },
		{ { 1, 2 }, { "r", "rn" }, BUILD_POSSIBLE, 100, STAGE_INCOMPLETE, 2, 0 },
		{ { 1, 2 }, { "", "rr" }, BUILD_POSSIBLE, 100, STAGE_INCOMPLETE, 2, 0 },
		{ { 1, 2 }, { "r", "re" }, BUILD_POSSIBLE, 100, STAGE_INCOMPLETE, 2, 0 },
		/* expired ones count only if they stay */
		{ { 1, 2 }, { "r", "re" }, BUILD_POSSIBLE, 0, STAGE_READY, 3, 0 },
		{ { 1, 2 }, { "r", "re" }, BUILD_POSSIBLE, 1, STAGE_INCOMPLETE, 3, 0 },
		{ { 1, 0 }, { "r", "" }, BUILD_POSSIBLE, 100, STAGE_READY, 1, 0 },
		/* too many are no reason to wait */
		{ { 1, 2 }, { "rr", "rrn" }, BUILD_POSSIBLE, 100, STAGE_READY, 4, 0 },
		{ { 0, 0 }, { "", "" }, BUILD_POSSIBLE, 100, STAGE_EMPTY, 0, 0 },
		{ { 1, 2 }, { "r", "f" }, BUILD_POSSIBLE, 100, STAGE_HARD_LIMITED, 1, 3 },
		{ { 1, 2 }, { "f", "rr" }, BUILD_POSSIBLE, 100, STAGE_HARD_LIMITED, 2, 3 },
		{ { 1, 2 }, { "r", "" }, BUILD_INVALID, 100, STAGE_VALIDATION_FAILED, 1, 0 },
		{ { 1, 2 }, { "r", "r" }, BUILD_UNSUPPORTED, 100, STAGE_UNSUPPORTED, 2, 0 },
		{ { 1, 2 }, { "r", "r" }, BUILD_NO_PROVISIONER, 100, STAGE_INCOMPLETE, 2, 0 },
		/* the strongest reason */
		{ { 1, 2 }, { "f", "" }, BUILD_INVALID, 100, STAGE_HARD_LIMITED, 0, 3 },
	};

	(void) state;
	for (int i = 0; i < LENGTH(cases); i++)
	{
		Id version = id_of(200);
		int32_t target, eligible, failed;

		start_case("stage", i);
		pool.check = cases[i].check;
		for (int p = 0; p < 2; p++)
		{
			Preset *preset = add_preset(cases[i].target[p]);

			preset->active_version_id = id_of(201);
			preset->staged_share = 1.0;
			preset->invalidate_after_secs = 60;
			preset->policy.max_unavailable =
				(Amount){ cases[i].unavailable, cases[i].unavailable == 100 };
			for (const char *at = cases[i].members[p]; *at != '\0'; at++)
				if (*at == 'f')
					for (int n = 0; n < 3; n++)
						add_failed(n);
				else
					add_running(*at == 'e' ? HOUR : 0)->ready = *at != 'n';
		}
		/* one of the active version has no say */
		add_preset(7)->template_version_id = id_of(201);
		pool.presets[2].active_version_id = id_of(201);
		decide();
		CHECK(decision_stage_state(&pool.snapshot, &version, &target, &eligible, &failed),
			  cases[i].state);
		CHECK(target, cases[i].target[0] + cases[i].target[1]);
		CHECK(eligible, cases[i].eligible);
		CHECK(failed, cases[i].failed);
		version = id_of(202);
		CHECK(decision_stage_state(&pool.snapshot, &version, &target, &eligible, &failed),
			  STAGE_EMPTY);
	}
}

/* ---- random pools of one preset against a second reading, one deed at a time ---- */

static uint64_t random_state;

static int
random_below(int limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (int) ((random_state >> 11) % (uint64_t) limit);
}

static Amount
random_amount(void)
{
	static const int percents[] = { 0, 1, 33, 50, 99, 100, 150 };

	if (random_below(2))
		return (Amount){ random_below(4), false };
	return (Amount){ percents[random_below(7)], true };
}

static void
random_member(void)
{
	static const JobStatus statuses[] = { JOB_PENDING, JOB_RUNNING,	 JOB_SUCCEEDED, JOB_SUCCEEDED,
										  JOB_FAILED,  JOB_CANCELED, JOB_SUCCEEDED };
	Transition transition = random_below(6) ? TRANSITION_START : TRANSITION_STOP;
	PoolMember *member =
		add_member(transition, statuses[random_below(7)], (1 + random_below(20)) * SECOND);

	member->completed_at = NOW - random_below(12) * SECOND;
	if (transition == TRANSITION_START && member->job_status == JOB_SUCCEEDED)
	{
		member->unwell = random_below(8) == 0;
		member->ready = !member->unwell && random_below(4) > 0;
		member->seen_at = random_below(2) ? NEVER : NOW - random_below(12) * SECOND;
	}
}

static void
random_pool(int round)
{
	Preset *preset;
	int members = random_below(12);

	start_case("DECISION_SEED's round", round);
	pool.settings.backoff_interval = 0;
	pool.settings.failure_hard_limit = 0;
	preset = add_preset(random_below(6));
	preset->invalidate_after_secs = random_below(2) ? 0 : 5 + random_below(10);
	preset->policy = (HealthPolicy){
		.unready_grace = random_below(2) ? 0 : 5 * SECOND,
		.disconnected_grace = random_below(2) ? 0 : 5 * SECOND,
		.failed_retention = random_below(2) ? 0 : 10 * SECOND,
		.failed_keep = random_below(3),
		.max_unavailable = random_amount(),
		.max_surge = random_amount(),
	};
	for (int i = 0; i < members; i++)
		random_member();
	/* what is behind the last one is no member */
	random_member();
	pool.members[--pool.snapshot.nmembers].verdict =
		random_below(2) ? VERDICT_LEAVE : VERDICT_DELETE_EXPIRED;
}

/* What is to become of each member, and how many are created. */
static struct
{
	Verdict verdict[MAX_MEMBERS];
	int eligible, create;
} expected;

static bool
is_up(const PoolMember *member)
{
	return member->transition == TRANSITION_START && member->job_status == JOB_SUCCEEDED;
}

static bool
expect_sick(const PoolMember *member)
{
	const HealthPolicy *policy = &pool.presets[0].policy;
	bool unready = !member->ready && NOW - member->completed_at > policy->unready_grace;
	bool lost = member->seen_at != NEVER && NOW - member->seen_at > policy->disconnected_grace;

	if (policy->unready_grace == 0 && policy->disconnected_grace == 0)
		return false;
	return member->unwell || (policy->unready_grace > 0 && unready) ||
		   (policy->disconnected_grace > 0 && lost);
}

static bool
is_older(const PoolMember *a, const PoolMember *b)
{
	return a->created_at != b->created_at ? a->created_at < b->created_at : a < b;
}

/* The next of a kind that stays so far: 'e' expired and ready, the oldest; 'x' a valid one. */
static int
next_of(char kind)
{
	int next = -1;

	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		const PoolMember *member = &pool.members[i];
		const PoolMember *best = &pool.members[next < 0 ? 0 : next];
		bool expired = pool.presets[0].invalidate_after_secs > 0 &&
					   NOW - member->created_at > pool.presets[0].invalidate_after_secs * SECOND;

		if (!is_up(member) || expected.verdict[i] != VERDICT_LEAVE || expect_sick(member) ||
			expired != (kind == 'e') || (kind == 'e' && !member->ready))
			continue;
		if (next < 0 || (member->ready == best->ready && is_older(member, best)) ||
			(!member->ready && best->ready))
			next = i;
	}
	return next;
}

/* Rests of failures: those with enough newer ones go. */
static void
expect_rests(void)
{
	const HealthPolicy *policy = &pool.presets[0].policy;
	bool left[MAX_MEMBERS];

	for (int i = 0; i < pool.snapshot.nmembers; i++)
		left[i] = !is_up(&pool.members[i]) && pool.members[i].job_status > JOB_RUNNING;
	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		int newer = 0;

		for (int k = 0; k < pool.snapshot.nmembers; k++)
			newer +=
				left[k] &&
				(pool.members[k].build_created_at > pool.members[i].build_created_at ||
				 (pool.members[k].build_created_at == pool.members[i].build_created_at && k < i));
		if (left[i] && policy->failed_retention > 0 && newer >= policy->failed_keep &&
			NOW - pool.members[i].build_created_at > policy->failed_retention)
			expected.verdict[i] = VERDICT_DELETE_LEFT;
	}
}

/* Create one after the other, as long as one is missing and there is room. */
static void
expect_creates(int target, double unavailable)
{
	const HealthPolicy *policy = &pool.presets[0].policy;
	double surge = policy->max_surge.value;
	int valid = 0, all = 0;

	if (policy->max_surge.percent)
		surge = target * surge / 100;
	if (surge == 0 && unavailable < 1)
		surge = 1;
	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		bool building = pool.members[i].transition == TRANSITION_START &&
						pool.members[i].job_status <= JOB_RUNNING;

		if (expected.verdict[i] != VERDICT_LEAVE || !(building || is_up(&pool.members[i])))
			continue;
		all++;
		valid += building || !(pool.presets[0].invalidate_after_secs > 0 &&
							   NOW - pool.members[i].created_at >
								   pool.presets[0].invalidate_after_secs * SECOND);
	}
	while (valid + expected.create < target && all + expected.create < target + surge)
		expected.create++;
}

static void
expect_all(void)
{
	const Preset *preset = &pool.presets[0];
	int target = preset->scheduled;
	bool rolls =
		!preset->policy.max_unavailable.percent || preset->policy.max_unavailable.value < 100;
	double unavailable = preset->policy.max_unavailable.value;
	int valid = 0, next, serve = 0;

	memset(&expected, 0, sizeof(expected));
	if (preset->policy.max_unavailable.percent)
		unavailable = target * unavailable / 100;
	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		const PoolMember *member = &pool.members[i];
		bool expired = preset->invalidate_after_secs > 0 &&
					   NOW - member->created_at > preset->invalidate_after_secs * SECOND;

		if (!is_up(member))
			continue;
		if (expired && (!rolls || !member->ready || expect_sick(member)))
			expected.verdict[i] = VERDICT_DELETE_EXPIRED;
		else if (expect_sick(member))
			expected.verdict[i] = VERDICT_DELETE_SICK;
		else
		{
			expected.eligible += member->ready;
			valid += !expired;
		}
	}
	serve = expected.eligible;
	/* one may go as long as what is left is enough */
	while ((next = next_of('e')) >= 0 && serve - 1 >= target - unavailable)
	{
		expected.verdict[next] = VERDICT_DELETE_EXPIRED;
		serve--;
	}
	for (; valid > target && (next = next_of('x')) >= 0; valid--)
		expected.verdict[next] = VERDICT_DELETE_EXTRANEOUS;
	expect_rests();
	expect_creates(target, unavailable);
}

static void
test_random(void **state)
{
	const char *given = getenv("DECISION_SEED");

	(void) state;
	random_state = given != NULL ? strtoull(given, NULL, 10) : 88172645463325252u;
	random_state += random_state == 0; /* xorshift stays at 0 */
	for (int round = 0; round < 100000; round++)
	{
		random_pool(round);
		expect_all();
		decide();
		CHECK(pool.presets[0].eligible, expected.eligible);
		CHECK(pool.presets[0].create, expected.create);
		for (int i = 0; i < pool.snapshot.nmembers; i++)
			CHECK(pool.members[i].verdict, expected.verdict[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sickness),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_infinite_times),
		cmocka_unit_test(test_sick_ones_are_failures),
		cmocka_unit_test(test_sick_and_expired),
		cmocka_unit_test(test_kinds_of_rests),
		cmocka_unit_test(test_whose_rest),
		cmocka_unit_test(test_evidence),
		cmocka_unit_test(test_deletes_are_tried_again),
		cmocka_unit_test(test_never_taken),
		cmocka_unit_test(test_forgiven),
		cmocka_unit_test(test_probes),
		cmocka_unit_test(test_probe_ends_the_limit),
		cmocka_unit_test(test_no_provisioner),
		cmocka_unit_test(test_rolling),
		cmocka_unit_test(test_oldest_go_first),
		cmocka_unit_test(test_rolling_while_builds_fail),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_staged_is_kept),
		cmocka_unit_test(test_stage_state),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
