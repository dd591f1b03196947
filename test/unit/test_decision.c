/*
 * test_decision.c
 *	  Tables of cases, and random snapshots against a second reading of the rules that shares
 *	  nothing with the first: one preset at a time, whole lists, sorted by insertion, created one by
 *	  one. DECISION_SEED chooses other random snapshots.
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
#define NOW (1000 * SECOND)
#define CENTURY (INT64_C(36500) * 24 * 3600 * SECOND) /* no backoff is longer */
#define MAX_PRESETS 12
#define MAX_MEMBERS 256
#define RANDOM_ROUNDS 30000

/* ---- a snapshot to play with ---- */

static struct
{
	PoolSnapshot snapshot;
	DecisionSettings settings;
	Preset presets[MAX_PRESETS];
	PoolMember members[MAX_MEMBERS];
	PoolMember *order[MAX_MEMBERS];
	Attempt attempts[MAX_MEMBERS];
	int heap[MAX_PRESETS];
	BuildCheck checks[MAX_PRESETS]; /* the answers, should they be asked for */
	int health_asked;				/* how many members' health was asked for */
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

static Id
id_of(int number)
{
	Id id = { { 0 } };

	id.bytes[14] = (uint8_t) (number >> 8);
	id.bytes[15] = (uint8_t) number;
	return id;
}

static void
start_case(const char *name)
{
	snprintf(label, sizeof(label), "%s", name);
	memset(&pool, 0, sizeof(pool));
	pool.snapshot.presets = pool.presets;
	pool.snapshot.members = pool.members;
	pool.snapshot.order = pool.order;
	pool.snapshot.attempts = pool.attempts;
	pool.snapshot.heap = pool.heap;
	pool.settings.at = NOW;
	pool.settings.backoff_interval = 60 * SECOND;
	pool.settings.backoff_lookback = 3600 * SECOND;
	pool.settings.failure_hard_limit = 3;
}

/* A healthy preset of an active version. */
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

/* A member with one build by the system user, of the last preset and its version. */
static PoolMember *
add_member(Transition transition, JobStatus status, int64_t created_at)
{
	PoolMember *member = &pool.members[pool.snapshot.nmembers++];
	int preset = pool.snapshot.npresets - 1;

	member->id = id_of(pool.snapshot.nmembers);
	member->build_id = id_of(1000 + pool.snapshot.nmembers);
	member->job_id = id_of(2000 + pool.snapshot.nmembers);
	member->created_at = member->build_created_at = created_at;
	member->template_version_id = pool.presets[preset].template_version_id;
	member->build_number = 1;
	member->transition = transition;
	member->job_status = status;
	member->by_system_user = true;
	member->job_unclaimed = status == JOB_PENDING;
	member->ready = transition == TRANSITION_START && status == JOB_SUCCEEDED;
	member->build_preset = member->current_preset = preset;
	return member;
}

static PoolMember *
add_running(int64_t created_at)
{
	return add_member(TRANSITION_START, JOB_SUCCEEDED, created_at);
}

/* That a member is sick is an answer, too, which goes where the member goes. */
static PoolMember *
make_sick(PoolMember *member)
{
	member->job_id.bytes[0] = 's';
	member->ready = false;
	return member;
}

static bool
is_sick(const PoolMember *member)
{
	return member->job_id.bytes[0] == 's';
}

static void
add_running_many(int count)
{
	for (int i = 0; i < count; i++)
		add_running(NOW - 100);
}

/* What is to be filled must be filled: leave rubbish in it. */
static void
spoil_results(void)
{
	for (int i = 0; i < pool.snapshot.npresets; i++)
	{
		Preset *preset = &pool.presets[i];

		preset->active = preset->has_backoff_until = preset->backing_off = true;
		preset->hard_limited = true;
		preset->desired = preset->actual = preset->expired = preset->eligible = -77;
		preset->extraneous = preset->starting = preset->stopping = preset->deleting = -77;
		preset->pending_stale = preset->num_failed = preset->shortfall = -77;
		preset->backoff_until = -77;
		preset->withheld = WITHHELD_RETRY;
		preset->create = preset->capped = preset->first_action = preset->nactions = -77;
		preset->capped_by = "rubbish";
		preset->new_status = STATUS_VALIDATION_FAILED;
	}
	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		pool.members[i].verdict = VERDICT_DELETE_EXTRANEOUS;
		pool.members[i].unwell = true;
	}
	for (int i = 0; i < MAX_MEMBERS; i++)
		pool.attempts[i].failed = true;
	memset(pool.order, 0, sizeof(pool.order));
}

/* Judge, give the answers that are asked for, settle. */
static void
decide(void)
{
	spoil_results();
	decision_judge(&pool.snapshot, &pool.settings);
	for (int i = 0; i < pool.snapshot.npresets; i++)
	{
		Preset *preset = &pool.presets[i];
		bool asked = decision_needs_check(preset);

		preset->check = asked ? pool.checks[i] : BUILD_POSSIBLE;
	}
	pool.health_asked = 0;
	for (int i = 0; i < pool.snapshot.nmembers; i++)
		if (decision_needs_health(&pool.snapshot, &pool.members[i]))
		{
			pool.members[i].unwell = is_sick(&pool.members[i]);
			pool.health_asked++;
		}
	decision_settle(&pool.snapshot, &pool.settings);
}

/* ---- activity, counts ---- */

static void
test_activity(void **state)
{
	(void) state;
	for (int bits = 0; bits < 8; bits++)
	{
		char name[60];
		Preset *preset;
		bool active = bits == 0;

		snprintf(name, sizeof(name), "other version, deleted, deprecated: %d", bits);
		start_case(name);
		preset = add_preset(3);
		if (bits & 1)
			preset->active_version_id = id_of(201);
		preset->template_deleted = (bits & 2) != 0;
		preset->template_deprecated = (bits & 4) != 0;
		add_running_many(4);
		decide();
		CHECK(preset->active, active);
		CHECK(preset->desired, active ? 3 : 0);
		CHECK(preset->actual, 4);
		CHECK(preset->eligible, active ? 4 : 0);
		CHECK(preset->extraneous, active ? 1 : 0);
		CHECK(preset->nactions, active ? 1 : 4);
		CHECK(preset->create, 0);
		CHECK(preset->shortfall, 0);
		CHECK(pool.members[3].verdict, active ? VERDICT_LEAVE : VERDICT_DELETE_INACTIVE);
	}
}

static void
test_every_kind_of_build(void **state)
{
	(void) state;
	/* pending, running, succeeded, canceling, canceled, failed, unknown */
	static const char *const kinds[] = { "ssr..f.", "tt.....", "dd....." };

	for (int transition = 0; transition < 3; transition++)
		for (int status = 0; status < 7; status++)
			for (int bits = 0; bits < 4; bits++)
			{
				char kind = kinds[transition][status];
				bool other_version = (bits & 1) != 0;
				bool deleted = (bits & 2) != 0;
				bool stale = bits != 0 && transition == TRANSITION_START && status == JOB_PENDING;
				Verdict verdict = stale						 ? VERDICT_CANCEL
								  : kind == 'r' && bits != 0 ? VERDICT_DELETE_INACTIVE
															 : VERDICT_LEAVE;
				char name[60];
				Preset *preset;

				snprintf(name, sizeof(name), "transition %d, status %d, %d", transition, status,
						 bits);
				start_case(name);
				preset = add_preset(1);
				if (other_version)
					preset->active_version_id = id_of(201);
				preset->template_deleted = deleted;
				add_member((Transition) transition, (JobStatus) status, NOW - 5);
				decide();
				CHECK(preset->actual, kind == 'r');
				CHECK(preset->eligible, kind == 'r' && bits == 0);
				CHECK(preset->starting, kind == 's' && !other_version && !stale);
				CHECK(preset->stopping, kind == 't' && !other_version);
				CHECK(preset->deleting, kind == 'd' && !other_version);
				CHECK(preset->pending_stale, stale);
				CHECK(preset->num_failed, kind == 'f' && bits == 0);
				CHECK(preset->has_backoff_until, kind == 'f' && bits == 0);
				CHECK(preset->shortfall, bits == 0 && kind != 'r' && kind != 's');
				CHECK(preset->create, bits == 0 && kind != 'r' && kind != 's' && kind != 'f');
				CHECK(preset->nactions, verdict != VERDICT_LEAVE);
				CHECK(pool.members[0].verdict, verdict);
			}
}

static void
test_running_by_current_preset(void **state)
{
	PoolMember *member;

	(void) state;
	/* a later build often carries no preset, another user's build counts too */
	start_case("current preset decides");
	add_preset(1);
	add_preset(1);
	member = add_running(NOW - 5);
	member->build_preset = 0;
	member->by_system_user = false;
	member->build_number = 4;
	member->ready = false;
	member->template_version_id = id_of(999);
	decide();
	CHECK(pool.presets[0].actual, 0);
	CHECK(pool.presets[1].actual, 1);
	CHECK(pool.presets[1].eligible, 0);
	CHECK(pool.presets[1].shortfall, 0);

	start_case("no preset at all");
	add_preset(0);
	member = add_running(NOW - 5);
	member->build_preset = member->current_preset = -1;
	member = add_member(TRANSITION_START, JOB_PENDING, NOW - 5);
	member->build_preset = member->current_preset = -1;
	member = add_member(TRANSITION_START, JOB_FAILED, NOW - 5);
	member->build_preset = member->current_preset = -1;
	decide();
	CHECK(pool.presets[0].actual, 0);
	CHECK(pool.presets[0].starting, 0);
	CHECK(pool.presets[0].num_failed, 0);
	for (int i = 0; i < 3; i++)
		CHECK(pool.members[i].verdict, VERDICT_LEAVE);
}

static void
test_expiry(void **state)
{
	static const struct
	{
		const char *name;
		int32_t seconds;
		bool invalidated;
		int64_t invalidated_at;
		int64_t created_at;
		bool expired;
	} cases[] = {
		{ "no limit", 0, false, 0, INT64_MIN, false },
		{ "negative limit", -1, false, 0, NOW - 10 * SECOND, false },
		{ "at the edge", 10, false, 0, NOW - 10 * SECOND, false },
		{ "past the edge", 10, false, 0, NOW - 10 * SECOND - 1, true },
		{ "before the edge", 10, false, 0, NOW - 10 * SECOND + 1, false },
		{ "longest limit", INT32_MAX, false, 0, NOW - INT32_MAX * SECOND, false },
		{ "past the longest limit", INT32_MAX, false, 0, NOW - INT32_MAX * SECOND - 1, true },
		{ "since ever", INT32_MAX, false, 0, INT64_MIN, true },
		{ "in the future", 10, false, 0, INT64_MAX, false },
		{ "before the invalidation", 0, true, NOW - 7, NOW - 8, true },
		{ "at the invalidation", 0, true, NOW - 7, NOW - 7, false },
		{ "after the invalidation", 0, true, NOW - 7, NOW - 6, false },
		{ "invalidation not set", 0, false, NOW - 7, NOW - 8, false },
		{ "invalidated in the future", 0, true, NOW + 7, NOW, true },
		{ "invalidated at minus infinity", 0, true, INT64_MIN, INT64_MIN, false },
		{ "invalidated for ever", 0, true, INT64_MAX, NOW, true },
		{ "both, by age only", 10, true, NOW - 20 * SECOND, NOW - 11 * SECOND, true },
		{ "both, by invalidation only", 10, true, NOW - 5 * SECOND, NOW - 6 * SECOND, true },
		{ "both, counted once", 10, true, NOW - 5 * SECOND, NOW - 11 * SECOND, true },
		{ "both, neither", 10, true, NOW - 5 * SECOND, NOW - 4 * SECOND, false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Preset *preset;

		start_case(cases[i].name);
		preset = add_preset(1);
		preset->invalidate_after_secs = cases[i].seconds;
		preset->has_last_invalidated_at = cases[i].invalidated;
		preset->last_invalidated_at = cases[i].invalidated_at;
		add_running(cases[i].created_at);
		decide();
		CHECK(preset->actual, 1);
		CHECK(preset->expired, cases[i].expired);
		CHECK(preset->eligible, !cases[i].expired);
		CHECK(preset->extraneous, 0);
		CHECK(preset->create, cases[i].expired);
		CHECK(pool.members[0].verdict, cases[i].expired ? VERDICT_DELETE_EXPIRED : VERDICT_LEAVE);
	}
}

/* One thing is different from what counts. */
static void
test_what_counts(void **state)
{
	enum
	{
		SAME,
		OTHER_USER,
		OTHER_VERSION,
		OTHER_PRESET,
		NO_PRESET,
		LATER_BUILD,
		CLAIMED,
		RUNNING,
		OTHER_CURRENT_PRESET,
		ACTIVE_VERSION,
		VARIATIONS
	};
	static const char *const names[] = {
		"same",		   "other user", "other version", "other preset",		  "no preset",
		"later build", "claimed",	 "running",		  "other current preset", "active version",
	};

	(void) state;
	for (int variation = SAME; variation < VARIATIONS; variation++)
		for (int stale = 0; stale < 2; stale++)
		{
			bool any_user = variation != OTHER_USER;
			bool of_preset = variation != OTHER_PRESET && variation != NO_PRESET;
			bool counted = any_user && of_preset && variation != OTHER_VERSION &&
						   stale == (variation == ACTIVE_VERSION);
			bool canceled = stale && any_user && of_preset && variation != LATER_BUILD &&
							variation != CLAIMED && variation != RUNNING &&
							variation != ACTIVE_VERSION;
			Preset *preset = &pool.presets[1];

			start_case(names[variation]);
			add_preset(0);
			add_preset(1);
			if (stale)
				preset->active_version_id = id_of(201);
			for (int transition = 0; transition < 3; transition++)
			{
				PoolMember *member = add_member((Transition) transition, JOB_PENDING, NOW - 5);

				member->by_system_user = any_user;
				if (variation == OTHER_VERSION)
					member->template_version_id = id_of(333);
				if (variation == ACTIVE_VERSION)
					member->template_version_id = id_of(201);
				if (!of_preset)
					member->build_preset = variation == NO_PRESET ? -1 : 0;
				if (variation == OTHER_CURRENT_PRESET)
					member->current_preset = 0;
				if (variation == LATER_BUILD)
					member->build_number = 2;
				if (variation == RUNNING)
					member->job_status = JOB_RUNNING; /* whatever its worker */
				if (variation == CLAIMED)
					member->job_unclaimed = false;
			}
			decide();
			CHECK(preset->starting, counted);
			CHECK(preset->stopping, counted);
			CHECK(preset->deleting, counted);
			CHECK(preset->pending_stale, canceled);
			CHECK(preset->nactions, canceled);
			CHECK(pool.members[0].verdict, canceled ? VERDICT_CANCEL : VERDICT_LEAVE);
			CHECK(pool.members[1].verdict, VERDICT_LEAVE);
			CHECK(pool.members[2].verdict, VERDICT_LEAVE);
			CHECK(pool.presets[0].pending_stale, 0);
			CHECK(pool.presets[0].nactions, 0);
			if (canceled)
				CHECK(decision_acting_preset(&pool.members[0]), 1);
		}
}

/*
 * A pending first build is stale by its own version, not by its preset's; of a template that is
 * gone every one is. Whatever is stale is not starting, too.
 */
static void
test_stale_by_its_own_version(void **state)
{
	static const struct
	{
		const char *name;
		bool preset_active, build_active, deleted, deprecated;
		bool stale, starting;
	} cases[] = {
		{ "all as it should be", true, true, false, false, false, true },
		{ "an older build of a newer preset", true, false, false, false, false, false },
		{ "promoted during the create", false, true, false, false, false, true },
		{ "both of an older version", false, false, false, false, true, false },
		{ "deleted template", true, true, true, false, true, false },
		{ "deleted, older build", true, false, true, false, true, false },
		{ "deleted, older preset", false, true, true, false, true, false },
		{ "deleted, both older", false, false, true, false, true, false },
		{ "deprecated template", true, true, false, true, true, false },
		{ "deprecated, older build", true, false, false, true, true, false },
		{ "deprecated, older preset", false, true, false, true, true, false },
		{ "deprecated, both older", false, false, false, true, true, false },
		{ "deleted and deprecated", true, true, true, true, true, false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int running = 0; running < 2; running++)
		{
			bool stale = cases[i].stale && !running;
			bool starting = running ? cases[i].build_active : cases[i].starting;
			Preset *preset;

			start_case(cases[i].name);
			preset = add_preset(1);
			preset->template_version_id = id_of(cases[i].preset_active ? 200 : 199);
			preset->template_deleted = cases[i].deleted;
			preset->template_deprecated = cases[i].deprecated;
			add_member(TRANSITION_START, running ? JOB_RUNNING : JOB_PENDING, NOW - 5)
				->template_version_id = id_of(cases[i].build_active ? 200 : 199);
			decide();
			CHECK(preset->pending_stale, stale);
			CHECK(preset->starting, starting);
			CHECK(preset->nactions, stale);
			CHECK(pool.members[0].verdict, stale ? VERDICT_CANCEL : VERDICT_LEAVE);
			CHECK(preset->shortfall, preset->active && !cases[i].build_active);
		}
}

/* ---- too many, too few ---- */

static void
test_extraneous(void **state)
{
	static const int64_t ages[] = { 5, 9, 5, 7, 9, 5 };
	static const int ids[] = { 6, 5, 4, 3, 2, 1 };
	static const int oldest_first[] = { 4, 1, 3, 5, 2, 0 };

	(void) state;
	for (int desired = 0; desired <= 7; desired++)
	{
		Preset *preset;
		int extraneous = desired < 6 ? 6 - desired : 0;

		start_case("oldest first");
		preset = add_preset(desired);
		for (int i = 0; i < 6; i++)
			add_running(NOW - ages[i])->id = id_of(ids[i]);
		decide();
		CHECK(preset->extraneous, extraneous);
		CHECK(preset->nactions, extraneous);
		CHECK(preset->create, desired > 6);
		for (int i = 0; i < 6; i++)
			CHECK(pool.members[oldest_first[i]].verdict,
				  i < extraneous ? VERDICT_DELETE_EXTRANEOUS : VERDICT_LEAVE);
		for (int i = 0; i < extraneous; i++)
			CHECK(pool.order[preset->first_action + i] - pool.members, oldest_first[i]);
	}
}

/* What is broken goes before what works: the sick, then those not ready, then the oldest. */
static void
test_extraneous_by_health(void **state)
{
	/* S sick, n not ready, r ready; ages in seconds; ids in the order of the table */
	static const struct
	{
		char health;
		int age;
	} members[] = { { 'r', 9 }, { 'n', 1 }, { 'S', 1 }, { 'r', 5 },
					{ 'n', 8 }, { 'S', 7 }, { 'S', 1 }, { 'n', 8 } };
	static const int order[] = { 5, 2, 6, 4, 7, 1, 0, 3 };

	(void) state;
	for (int desired = 0; desired <= 9; desired++)
	{
		Preset *preset;
		int extraneous = desired < 8 ? 8 - desired : 0;

		start_case("by health");
		preset = add_preset(desired);
		for (int i = 0; i < 8; i++)
		{
			PoolMember *member = add_running(NOW - members[i].age * SECOND);

			member->ready = members[i].health == 'r';
			if (members[i].health == 'S')
				make_sick(member);
		}
		decide();
		CHECK(preset->extraneous, extraneous);
		CHECK(preset->eligible, 2);
		CHECK(preset->nactions, extraneous);
		CHECK(preset->create, desired > 8);
		CHECK(pool.health_asked, extraneous > 0 ? 6 : 0);
		for (int i = 0; i < 8; i++)
			CHECK(pool.members[order[i]].verdict,
				  i < extraneous ? VERDICT_DELETE_EXTRANEOUS : VERDICT_LEAVE);
		for (int i = 0; i < extraneous; i++)
			CHECK(pool.order[preset->first_action + i] - pool.members, order[i]);
		for (int i = 0; i < 8; i++)
			CHECK(pool.members[i].unwell, extraneous > 0 && members[i].health == 'S');
	}
}

/* Health says which of too many go, and nothing else; it is asked for those alone. */
static void
test_health_is_asked_where_it_matters(void **state)
{
	PoolMember *expired, *sick, *other;

	(void) state;
	start_case("where it matters");
	add_preset(1)->active_version_id = id_of(201); /* 0: not active */
	make_sick(add_running(NOW - 5));
	add_preset(2); /* 1: as many as desired */
	make_sick(add_running(NOW - 5));
	make_sick(add_running(NOW - 5));
	add_preset(1)->invalidate_after_secs = 10; /* 2: an expired one, and one too many */
	expired = make_sick(add_running(NOW - 60 * SECOND));
	add_running(NOW - 9 * SECOND);
	sick = make_sick(add_running(NOW - 1));
	other = make_sick(add_member(TRANSITION_START, JOB_RUNNING, NOW - 1));
	decide();
	CHECK(pool.health_asked, 1);
	CHECK(pool.presets[1].nactions, 0);
	CHECK(pool.presets[1].shortfall, 0);
	CHECK(pool.presets[2].nactions, 2);
	CHECK(expired->verdict, VERDICT_DELETE_EXPIRED);
	CHECK(sick->verdict, VERDICT_DELETE_EXTRANEOUS);
	CHECK(other->verdict, VERDICT_LEAVE);
	CHECK(sick->unwell, true);
	CHECK(expired->unwell, false);
	CHECK(other->unwell, false);
}

static void
test_shortfall(void **state)
{
	static const struct
	{
		int desired, running, expired, starting, other_jobs, create, extraneous;
	} cases[] = {
		{ 0, 0, 0, 0, 0, 0, 0 }, { 3, 0, 0, 0, 0, 3, 0 }, { 3, 1, 0, 0, 0, 2, 0 },
		{ 3, 3, 0, 0, 0, 0, 0 }, { 3, 3, 2, 0, 0, 2, 0 }, { 3, 3, 3, 0, 0, 3, 0 },
		{ 3, 5, 5, 0, 0, 3, 0 }, { 3, 5, 1, 0, 0, 0, 1 }, { 3, 0, 0, 2, 0, 1, 0 },
		{ 3, 0, 0, 3, 0, 0, 0 }, { 3, 0, 0, 5, 0, 0, 0 }, { 3, 2, 1, 1, 0, 1, 0 },
		{ 3, 4, 0, 2, 0, 0, 1 }, { 3, 0, 0, 0, 4, 3, 0 }, { 0, 2, 1, 3, 0, 0, 1 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char name[60];
		Preset *preset;

		snprintf(name, sizeof(name), "case %d", (int) i);
		start_case(name);
		preset = add_preset(cases[i].desired);
		preset->invalidate_after_secs = 10;
		add_running_many(cases[i].running - cases[i].expired);
		for (int n = 0; n < cases[i].expired; n++)
			add_running(NOW - 60 * SECOND);
		for (int n = 0; n < cases[i].starting; n++)
			add_member(TRANSITION_START, n % 2 ? JOB_PENDING : JOB_RUNNING, NOW - 5);
		for (int n = 0; n < cases[i].other_jobs; n++)
			add_member(n % 2 ? TRANSITION_STOP : TRANSITION_DELETE, JOB_RUNNING, NOW - 5);
		decide();
		CHECK(preset->actual, cases[i].running);
		CHECK(preset->expired, cases[i].expired);
		CHECK(preset->starting, cases[i].starting);
		CHECK(preset->shortfall, cases[i].create);
		CHECK(preset->create, cases[i].create);
		CHECK(preset->capped, 0);
		CHECK(preset->extraneous, cases[i].extraneous);
		CHECK(preset->nactions, cases[i].expired + cases[i].extraneous);
		CHECK(decision_needs_check(preset), cases[i].create > 0);
	}
}

static void
test_order_of_actions(void **state)
{
	PoolMember *cancel, *expired, *extraneous, *inactive;

	(void) state;
	start_case("order");
	add_preset(1)->active_version_id = id_of(201);
	extraneous = add_running(NOW - 1); /* of preset 2 in the end */
	inactive = add_running(NOW - 900);
	cancel = add_member(TRANSITION_START, JOB_PENDING, NOW - 5);
	add_preset(1);
	add_preset(1)->invalidate_after_secs = 10;
	extraneous->current_preset = 2;
	extraneous->created_at = NOW - 9 * SECOND;
	add_running(NOW - 1);
	expired = add_running(NOW - 11 * SECOND);
	decide();
	CHECK(pool.presets[0].nactions, 2);
	CHECK(pool.presets[1].nactions, 0);
	CHECK(pool.presets[2].nactions, 2);
	CHECK(pool.order[pool.presets[0].first_action] - pool.members, cancel - pool.members);
	CHECK(pool.order[pool.presets[0].first_action + 1] - pool.members, inactive - pool.members);
	CHECK(pool.order[pool.presets[2].first_action] - pool.members, expired - pool.members);
	CHECK(pool.order[pool.presets[2].first_action + 1] - pool.members, extraneous - pool.members);
	CHECK(pool.presets[0].first_action, 0);
	CHECK(pool.presets[2].first_action, 2);
	CHECK(decision_acting_preset(cancel), 0);
	CHECK(decision_acting_preset(inactive), 0);
	CHECK(decision_acting_preset(expired), 2);
	CHECK(decision_acting_preset(extraneous), 2);
}

/* ---- backoff, hard limit ---- */

/* The latest builds, newest first and a second apart: f failed, r running, c canceled, ... */
static void
add_builds(const char *newest_first)
{
	static const char letters[] = "prsCcfu"; /* in the order of JobStatus */

	for (int i = 0; newest_first[i] != '\0'; i++)
	{
		JobStatus status = (JobStatus) (strchr(letters, newest_first[i]) - letters);

		add_member(TRANSITION_START, status, NOW - (i + 1) * SECOND);
	}
}

static void
test_backoff_window(void **state)
{
	static const struct
	{
		int desired;
		const char *builds;
		bool backing_off;
		int failed, last; /* seconds since the newest failed one */
	} cases[] = {
		{ 1, "", false, 0, 0 },		 { 1, "f", true, 1, 1 },	 { 1, "sf", false, -1, 0 },
		{ 2, "sf", true, 1, 2 },	 { 2, "ssf", false, -1, 0 }, { 0, "f", true, 1, 1 },
		{ 0, "sf", false, -1, 0 },	 { 1, "fff", true, 3, 1 },	 { 2, "sfff", true, 3, 2 },
		{ 3, "fsfsff", true, 4, 1 }, { 2, "cf", true, 1, 2 },	 { 2, "pf", true, 1, 2 },
		{ 1, "c", false, 0, 0 },	 { 1, "C", false, 0, 0 },	 { 1, "u", false, 0, 0 },
		{ 1, "pfff", false, -1, 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char name[60];
		Preset *preset;

		snprintf(name, sizeof(name), "%d desired, builds %s", cases[i].desired, cases[i].builds);
		start_case(name);
		preset = add_preset(cases[i].desired);
		pool.settings.failure_hard_limit = 0;
		add_builds(cases[i].builds);
		decide();
		CHECK(preset->has_backoff_until, cases[i].backing_off);
		CHECK(preset->backing_off, cases[i].backing_off);
		if (cases[i].failed >= 0)
			CHECK(preset->num_failed, cases[i].failed);
		if (cases[i].backing_off)
		{
			CHECK(preset->backoff_until,
				  NOW - cases[i].last * SECOND + cases[i].failed * 60 * SECOND);
			CHECK(preset->create, 0);
			if (preset->shortfall > 0)
				CHECK(preset->withheld, WITHHELD_BACKOFF);
		}
		else
			CHECK(preset->create, preset->shortfall);
	}
}

/* What makes a build none of those that are looked at. */
static void
test_backoff_looks_at(void **state)
{
	(void) state;
	for (int variation = 0; variation < 8; variation++)
	{
		bool counted = variation == 0 || variation == 5 || variation == 7;
		PoolMember *member;
		Preset *preset;
		char name[60];

		snprintf(name, sizeof(name), "variation %d", variation);
		start_case(name);
		add_preset(1);
		preset = add_preset(1);
		pool.settings.failure_hard_limit = 1;
		member = add_member(TRANSITION_START, JOB_FAILED, NOW - 5);
		if (variation == 1)
			member->template_version_id = id_of(333);
		else if (variation == 2)
			member->build_preset = 0;
		else if (variation == 3)
			member->transition = TRANSITION_STOP;
		else if (variation == 4)
			member->build_preset = -1;
		else if (variation == 5)
			member->current_preset = -1;
		else if (variation == 6)
			preset->template_deleted = true;
		else if (variation == 7)
		{
			member->by_system_user = false;
			member->build_number = 9;
		}
		decide();
		CHECK(preset->num_failed, counted);
		CHECK(preset->has_backoff_until, counted);
		CHECK(preset->backing_off, counted);
		CHECK(preset->hard_limited, counted);
		CHECK(preset->create, !counted && variation != 6);
		CHECK(pool.members[0].verdict, VERDICT_LEAVE);
	}
}

static void
test_backoff_lookback(void **state)
{
	(void) state;
	for (int late = -1; late <= 1; late++)
	{
		Preset *preset;

		start_case("lookback");
		preset = add_preset(1);
		pool.settings.backoff_lookback = 10 * SECOND;
		pool.settings.backoff_interval = 100 * SECOND;
		add_member(TRANSITION_START, JOB_FAILED, NOW - 10 * SECOND - late);
		decide();
		CHECK(preset->has_backoff_until, late <= 0);
		CHECK(preset->num_failed, late <= 0);
		CHECK(preset->create, late > 0);

		/* those of before do not count, but the hard limit has no lookback */
		add_member(TRANSITION_START, JOB_FAILED, NOW - 3 * SECOND);
		add_member(TRANSITION_START, JOB_FAILED, NOW - 99 * SECOND);
		decide();
		CHECK(preset->num_failed, late <= 0 ? 2 : 1);
		CHECK(preset->backoff_until, NOW - 3 * SECOND + (late <= 0 ? 200 : 100) * SECOND);
		CHECK(preset->hard_limited, true);
	}
}

static void
test_backoff_ends(void **state)
{
	(void) state;
	for (int late = -1; late <= 1; late++)
	{
		Preset *preset;

		start_case("end of backoff");
		preset = add_preset(1);
		pool.settings.at = NOW + late;
		add_member(TRANSITION_START, JOB_FAILED, NOW - 60 * SECOND);
		decide();
		CHECK(preset->backoff_until, NOW);
		CHECK(preset->backing_off, late <= 0);
		CHECK(preset->create, late > 0);
		CHECK(preset->withheld, late > 0 ? WITHHELD_NOT : WITHHELD_BACKOFF);
	}
}

/* Neither deletions nor cancellations wait; an inactive preset does not back off. */
static void
test_backoff_deletes(void **state)
{
	Preset *preset;

	(void) state;
	start_case("deletes");
	preset = add_preset(2);
	preset->invalidate_after_secs = 10;
	add_member(TRANSITION_START, JOB_FAILED, NOW - 5);
	add_running(NOW - 60 * SECOND)->build_created_at = NOW - 60 * SECOND;
	decide();
	CHECK(preset->backing_off, true);
	CHECK(preset->nactions, 1);
	CHECK(preset->shortfall, 2);
	CHECK(preset->create, 0);
	CHECK(pool.members[1].verdict, VERDICT_DELETE_EXPIRED);
	preset->template_deprecated = true;
	decide();
	CHECK(preset->backing_off, false);
	CHECK(preset->hard_limited, false);
	CHECK(preset->withheld, WITHHELD_NOT);
	CHECK(pool.members[1].verdict, VERDICT_DELETE_INACTIVE);
}

static void
test_backoff_delay(void **state)
{
	static const struct
	{
		int failed;
		int64_t interval, max, last, until;
	} cases[] = {
		{ 1, 60 * SECOND, 0, NOW, NOW + 60 * SECOND },
		{ 7, 60 * SECOND, 0, NOW, NOW + 420 * SECOND },
		{ 7, 60 * SECOND, 100 * SECOND, NOW, NOW + 100 * SECOND },
		{ 7, 60 * SECOND, 420 * SECOND, NOW, NOW + 420 * SECOND },
		{ 7, 60 * SECOND, 421 * SECOND, NOW, NOW + 420 * SECOND },
		{ 7, 60 * SECOND, 419 * SECOND, NOW, NOW + 419 * SECOND },
		{ 1, 60 * SECOND, 1, NOW, NOW + 1 },
		{ 5, 0, 0, NOW, NOW },
		{ 1, CENTURY, 0, NOW, NOW + CENTURY },
		{ 2, CENTURY / 2, 0, NOW, NOW + CENTURY },
		{ 1, INT64_MAX, 0, NOW, NOW + CENTURY },
		{ 200, INT64_MAX, 0, NOW, NOW + CENTURY },
		{ 200, INT64_MAX / 100, 0, NOW, NOW + CENTURY },
		{ 200, INT64_MAX, 9 * SECOND, NOW, NOW + 9 * SECOND },
		{ 200, INT64_MAX / 3, INT64_MAX, NOW, NOW + CENTURY },
		{ 1, INT64_MAX, 0, INT64_MAX - CENTURY + 1, INT64_MAX },
		{ 1, 60 * SECOND, 0, INT64_MAX, INT64_MAX },
		{ 1, 60 * SECOND, 0, INT64_MAX - 60 * SECOND + 1, INT64_MAX },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char name[60];
		Preset *preset;

		snprintf(name, sizeof(name), "delay %d", (int) i);
		start_case(name);
		preset = add_preset(1);
		pool.settings.backoff_interval = cases[i].interval;
		pool.settings.backoff_max = cases[i].max;
		for (int n = 0; n < cases[i].failed; n++)
			add_member(TRANSITION_START, JOB_FAILED, cases[i].last);
		decide();
		CHECK(preset->num_failed, cases[i].failed);
		CHECK(preset->has_backoff_until, true);
		CHECK(preset->backoff_until, cases[i].until);
		CHECK(preset->backing_off, true);
	}
}

static void
test_hard_limit(void **state)
{
	static const struct
	{
		int limit;
		const char *builds;
		bool limited;
	} cases[] = {
		{ 0, "", false },	   { 0, "ffff", false }, { 1, "", false },	   { 1, "f", true },
		{ 1, "sf", false },	   { 3, "ff", false },	 { 3, "fff", true },   { 3, "ffff", true },
		{ 3, "fffs", true },   { 3, "ffsf", false }, { 3, "fsff", false }, { 3, "sfff", false },
		{ 3, "ffpff", false }, { 3, "cfff", false }, { 3, "rfff", false }, { 5, "ffff", false },
		{ 4, "fffffs", true },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char name[60];
		Preset *preset;
		bool stuck = cases[i].limited;

		snprintf(name, sizeof(name), "limit %d, builds %s", cases[i].limit, cases[i].builds);
		start_case(name);
		preset = add_preset(4);
		pool.settings.failure_hard_limit = cases[i].limit;
		pool.settings.backoff_lookback = 0;
		add_builds(cases[i].builds);
		decide();
		CHECK(preset->backing_off, false);
		CHECK(preset->hard_limited, stuck);
		CHECK(preset->create, stuck ? 0 : preset->shortfall);
		CHECK(preset->withheld, stuck ? WITHHELD_HARD_LIMITED : WITHHELD_NOT);
		CHECK(preset->new_status, stuck ? STATUS_HARD_LIMITED : STATUS_HEALTHY);
	}
}

/* Builds of one time are in the order of their own ids, not of the workspaces', nor of their age. */
static void
test_builds_of_one_time(void **state)
{
	(void) state;
	for (int failed_id = 1; failed_id <= 2; failed_id++)
	{
		PoolMember *failed, *other;
		Preset *preset;

		start_case("ties");
		preset = add_preset(1);
		pool.settings.failure_hard_limit = 1;
		failed = add_member(TRANSITION_START, JOB_FAILED, NOW - 5);
		other = add_member(TRANSITION_START, JOB_SUCCEEDED, NOW - 5);
		failed->build_id = id_of(failed_id);
		other->build_id = id_of(3 - failed_id);
		failed->id = other->build_id;
		other->id = failed->build_id;
		failed->created_at += failed_id == 1 ? -1 : 1;
		decide();
		CHECK(preset->hard_limited, failed_id == 1);
		CHECK(preset->has_backoff_until, failed_id == 1);
	}
}

/* ---- what withholds, and the stored status ---- */

static void
test_status(void **state)
{
	enum
	{
		HEALTHY = STATUS_HEALTHY,
		LIMITED = STATUS_HARD_LIMITED,
		INVALID = STATUS_VALIDATION_FAILED,
		OURS /* INVALID, written by the extension */
	};
	enum
	{
		NO = WITHHELD_NOT,
		LIMIT = WITHHELD_HARD_LIMITED,
		FAILED = WITHHELD_VALIDATION_FAILED,
		CANNOT = WITHHELD_UNSUPPORTED,
		RETRY = WITHHELD_RETRY
	};
	/* for each stored status what it becomes and what withholds, by possible, not yet, invalid, */
	/* unsupported; the last two lines with all builds failed */
	static const struct
	{
		int stored;
		bool all_failed;
		int becomes[4], withheld[4];
	} cases[] = {
		{ HEALTHY, 0, { HEALTHY, HEALTHY, INVALID, HEALTHY }, { NO, RETRY, FAILED, CANNOT } },
		{ LIMITED, 0, { HEALTHY, HEALTHY, INVALID, HEALTHY }, { NO, RETRY, FAILED, CANNOT } },
		{ OURS, 0, { HEALTHY, INVALID, INVALID, HEALTHY }, { NO, FAILED, FAILED, CANNOT } },
		{ INVALID, 0, { INVALID, INVALID, INVALID, INVALID }, { FAILED, FAILED, FAILED, FAILED } },
		{ HEALTHY, 1, { LIMITED, LIMITED, LIMITED, LIMITED }, { LIMIT, LIMIT, LIMIT, LIMIT } },
		{ LIMITED, 1, { LIMITED, LIMITED, LIMITED, LIMITED }, { LIMIT, LIMIT, LIMIT, LIMIT } },
		{ OURS, 1, { LIMITED, LIMITED, LIMITED, LIMITED }, { LIMIT, LIMIT, LIMIT, LIMIT } },
		{ INVALID, 1, { INVALID, INVALID, INVALID, INVALID }, { LIMIT, LIMIT, LIMIT, LIMIT } },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int check = 0; check < 4; check++)
			for (int backoff = 0; backoff < 2; backoff++)
			{
				char name[60];
				int withheld = cases[i].withheld[check];
				Preset *preset;

				snprintf(name, sizeof(name), "status case %d, %d, %d", (int) i, check, backoff);
				start_case(name);
				preset = add_preset(5);
				preset->marked_invalid_by_us = cases[i].stored == OURS;
				preset->status =
					(PrebuildStatus) (cases[i].stored == OURS ? INVALID : cases[i].stored);
				pool.checks[0] = (BuildCheck) check;
				add_builds(cases[i].all_failed ? "fff" : "ffs");
				if (!backoff)
					pool.settings.backoff_interval = 0;
				decide();
				CHECK(preset->backing_off, backoff);
				CHECK(preset->new_status, cases[i].becomes[check]);
				CHECK(preset->withheld, backoff ? (int) WITHHELD_BACKOFF : withheld);
				CHECK(preset->create, backoff || withheld != NO ? 0 : preset->shortfall);
				CHECK(preset->capped, 0);
			}
}

/* Nothing is missing, or nothing is wanted: who is asked, and what becomes of the status. */
static void
test_status_of_the_satisfied(void **state)
{
	(void) state;
	for (int status = STATUS_HEALTHY; status <= STATUS_VALIDATION_FAILED; status++)
		for (int ours = 0; ours <= (status == STATUS_VALIDATION_FAILED); ours++)
			for (int active = 0; active < 2; active++)
				for (int check = BUILD_POSSIBLE; check <= BUILD_UNSUPPORTED; check++)
				{
					bool cured = ours && (check == BUILD_POSSIBLE || check == BUILD_UNSUPPORTED);
					PrebuildStatus becomes = (PrebuildStatus) status;
					Preset *preset;

					start_case("nothing is missing");
					preset = add_preset(1);
					preset->template_deprecated = !active;
					preset->status = (PrebuildStatus) status;
					preset->marked_invalid_by_us = ours;
					pool.checks[0] = (BuildCheck) check;
					add_running(NOW - 5);
					decide();
					CHECK(decision_needs_check(preset), active && ours);
					if (status == STATUS_HARD_LIMITED || (active && cured))
						becomes = STATUS_HEALTHY;
					CHECK(preset->new_status, becomes);
					CHECK(preset->create, 0);
				}
}

/* ---- caps ---- */

/* Presets with a target and with a number of running members each, and how many are created. */
typedef struct CapCase
{
	int per_pass, building, presets;
	int desired[4], running[4], create[4];
	const char *capped_by;
} CapCase;

static const CapCase cap_cases[] = {
	{ 0, 0, 2, { 3, 4 }, { 0 }, { 3, 4 }, NULL },
	{ 7, 0, 2, { 3, 4 }, { 0 }, { 3, 4 }, NULL },
	{ 0, 7, 2, { 3, 4 }, { 0 }, { 3, 4 }, NULL },
	{ 6, 0, 2, { 3, 4 }, { 0 }, { 3, 3 }, "max_creates_per_pass" }, /* 2/3 is less than 3/4 */
	{ 0, 6, 2, { 3, 4 }, { 0 }, { 3, 3 }, "max_building" },
	{ 3, 5, 1, { 9 }, { 0 }, { 3 }, "max_creates_per_pass" },
	{ 5, 3, 1, { 9 }, { 0 }, { 3 }, "max_building" },
	{ 3, 3, 1, { 9 }, { 0 }, { 3 }, "max_creates_per_pass" }, /* one of both must be named */
	{ 1, 0, 3, { 2, 2, 2 }, { 0 }, { 1, 0, 0 }, "max_creates_per_pass" }, /* in order */
	{ 2, 0, 3, { 2, 2, 2 }, { 0 }, { 1, 1, 0 }, "max_creates_per_pass" },
	{ 4, 0, 3, { 2, 2, 2 }, { 0 }, { 2, 1, 1 }, "max_creates_per_pass" },
	{ 1, 0, 3, { 2, 2, 2 }, { 1, 0, 0 }, { 0, 1, 0 }, "max_creates_per_pass" },
	{ 2, 0, 2, { 10, 2 }, { 4, 1 }, { 2, 0 }, "max_creates_per_pass" }, /* 4/10, then a tie */
	{ 3, 0, 2, { 10, 2 }, { 4, 1 }, { 2, 1 }, "max_creates_per_pass" },
	{ 5, 0, 3, { 100, 1, 1 }, { 0 }, { 3, 1, 1 }, "max_creates_per_pass" },
	{ 3, 0, 2, { 8, 4 }, { 6, 0 }, { 0, 3 }, "max_creates_per_pass" },
	{ 4, 0, 2, { 8, 4 }, { 6, 0 }, { 1, 3 }, "max_creates_per_pass" }, /* at 3/4 each */
	{ 3, 0, 3, { 4, 0, 4 }, { 0 }, { 2, 0, 1 }, "max_creates_per_pass" },
	{ 3, 0, 4, { 4, 4, 4, 4 }, { 3, 2, 1, 0 }, { 0, 0, 1, 2 }, "max_creates_per_pass" },
	{ 6, 0, 4, { 4, 4, 4, 4 }, { 3, 2, 1, 0 }, { 0, 1, 2, 3 }, "max_creates_per_pass" },
};

static void
test_caps(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(cap_cases) / sizeof(cap_cases[0]); i++)
	{
		const CapCase *test = &cap_cases[i];
		char name[60];

		snprintf(name, sizeof(name), "caps %d", (int) i);
		start_case(name);
		pool.settings.max_creates_per_pass = test->per_pass;
		pool.settings.max_building = test->building;
		for (int p = 0; p < test->presets; p++)
		{
			add_preset(test->desired[p]);
			add_running_many(test->running[p]);
		}
		decide();
		for (int p = 0; p < test->presets; p++)
		{
			const Preset *preset = &pool.presets[p];

			CHECK(preset->create, test->create[p]);
			CHECK(preset->capped, test->desired[p] - test->running[p] - test->create[p]);
			if (preset->capped > 0)
				assert_non_null(strstr(preset->capped_by, test->capped_by));
		}
	}
}

/* What is pending or running takes room, whoever's it is; nothing else does. */
static void
test_building_takes_room(void **state)
{
	(void) state;
	for (int transition = 0; transition < 3; transition++)
		for (int status = 0; status < 7; status++)
			for (int preset = -1; preset < 2; preset++)
			{
				bool takes = transition == TRANSITION_START && status <= JOB_RUNNING;
				char name[60];

				snprintf(name, sizeof(name), "room: %d, %d, %d", transition, status, preset);
				start_case(name);
				add_preset(0);
				add_preset(9);
				pool.settings.max_building = 3;
				pool.settings.backoff_lookback = 0;
				pool.settings.failure_hard_limit = 0;
				for (int n = 0; n < 2; n++)
				{
					PoolMember *member =
						add_member((Transition) transition, (JobStatus) status, NOW - 5);

					member->build_preset = member->current_preset = preset;
				}
				decide();
				CHECK(pool.presets[1].create, takes ? 1 : 3);
				pool.settings.max_building = 1;
				decide();
				CHECK(pool.presets[1].create, takes ? 0 : 1);
				pool.settings.max_building = 2;
				decide();
				CHECK(pool.presets[1].create, takes ? 0 : 2);
			}
}

/* What is withheld for another reason takes nothing of the budget. */
static void
test_withheld_takes_no_budget(void **state)
{
	(void) state;
	start_case("withheld and capped");
	add_preset(9);
	add_preset(9)->status = STATUS_VALIDATION_FAILED;
	add_preset(9);
	add_builds("f");
	add_preset(9);
	pool.checks[0] = BUILD_UNSUPPORTED;
	pool.settings.max_creates_per_pass = 5;
	decide();
	for (int i = 0; i < 4; i++)
	{
		CHECK(pool.presets[i].create, i == 3 ? 5 : 0);
		CHECK(pool.presets[i].capped, i == 3 ? 4 : 0);
		CHECK(pool.presets[i].shortfall, 9);
	}
}

static void
test_most_that_one_pass_creates(void **state)
{
	(void) state;
	start_case("a typing error");
	add_preset(INT32_MAX);
	add_preset(5);
	add_preset(INT32_MAX);
	decide();
	CHECK(pool.presets[0].shortfall, INT32_MAX);
	CHECK(pool.presets[0].create, DECISION_MAX_CREATES / 2);
	CHECK(pool.presets[1].create, 1); /* the others are not a fifth full by far */
	CHECK(pool.presets[2].create, DECISION_MAX_CREATES / 2 - 1);
	CHECK(pool.presets[2].capped, INT32_MAX - (DECISION_MAX_CREATES / 2 - 1));
	assert_non_null(strstr(pool.presets[2].capped_by, "built-in"));
	/* a setting that holds back no more than that is not to blame */
	pool.settings.max_creates_per_pass = DECISION_MAX_CREATES;
	decide();
	assert_non_null(strstr(pool.presets[2].capped_by, "built-in"));
	pool.settings.max_creates_per_pass = DECISION_MAX_CREATES - 1;
	decide();
	assert_non_null(strstr(pool.presets[2].capped_by, "max_creates_per_pass"));
	pool.settings.max_creates_per_pass = 0;
	pool.presets[0].scheduled = DECISION_MAX_CREATES - 5;
	pool.presets[2].scheduled = 0;
	decide();
	CHECK(pool.presets[0].create, DECISION_MAX_CREATES - 5);
	CHECK(pool.presets[0].capped, 0);
}

/* ---- a second reading of the rules ---- */

/* Exact at any distance; the range of the result is the caller's affair. */
typedef __int128 Wide;

typedef struct List
{
	int n;
	const PoolMember *items[MAX_MEMBERS];
} List;

typedef struct Expectation
{
	Preset preset; /* only its results are looked at */
	List cancel, delete_inactive, delete_expired, delete_extraneous;
} Expectation;

static Expectation expected[MAX_PRESETS];

static bool
same_id(Id a, Id b)
{
	for (int i = 0; i < 16; i++)
		if (a.bytes[i] != b.bytes[i])
			return false;
	return true;
}

static bool
lower_id(Id a, Id b)
{
	for (int i = 0; i < 16; i++)
		if (a.bytes[i] != b.bytes[i])
			return a.bytes[i] < b.bytes[i];
	return false;
}

/* Put in place among the older ones before it. */
static void
insert_by_age(List *list, const PoolMember *member)
{
	int at = list->n++;

	for (; at > 0; at--)
	{
		const PoolMember *other = list->items[at - 1];

		if (other->created_at < member->created_at ||
			(other->created_at == member->created_at && lower_id(other->id, member->id)))
			break;
		list->items[at] = other;
	}
	list->items[at] = member;
}

/* 0 for the sick, 1 for those that are not ready, 2 for the others. */
static int
health_of(const PoolMember *member)
{
	return member->ready ? 2 : is_sick(member) ? 0 : 1;
}

/* Put in place: a lower health first, then the older ones. */
static void
insert_by_health(List *list, const PoolMember *member)
{
	List same = { 0 };
	int n = 0;
	int before = 0;

	for (int i = 0; i < list->n; i++)
		before += health_of(list->items[i]) < health_of(member);
	for (int i = before; i < list->n && health_of(list->items[i]) == health_of(member); i++)
		insert_by_age(&same, list->items[i]);
	n = same.n;
	insert_by_age(&same, member);
	for (int i = list->n; i > before + n; i--)
		list->items[i] = list->items[i - 1];
	memcpy(&list->items[before], same.items, (n + 1) * sizeof(same.items[0]));
	list->n++;
}

/* Put in place among the newer builds before it. */
static void
insert_by_newest_build(List *list, const PoolMember *member)
{
	int at = list->n++;

	for (; at > 0; at--)
	{
		const PoolMember *other = list->items[at - 1];

		if (other->build_created_at > member->build_created_at ||
			(other->build_created_at == member->build_created_at &&
			 lower_id(other->build_id, member->build_id)))
			break;
		list->items[at] = other;
	}
	list->items[at] = member;
}

static void
expect_running(Expectation *want, const Preset *preset, int number)
{
	List valid = { 0 };

	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		const PoolMember *member = &pool.members[i];
		Wide age = (Wide) pool.settings.at - member->created_at;
		bool expired = false;

		if (member->transition != TRANSITION_START || member->job_status != JOB_SUCCEEDED ||
			member->current_preset != number)
			continue;
		if (preset->has_last_invalidated_at && preset->last_invalidated_at > member->created_at)
			expired = true;
		if (preset->invalidate_after_secs > 0 &&
			age > (Wide) preset->invalidate_after_secs * SECOND)
			expired = true;
		want->preset.actual++;
		want->preset.expired += expired ? 1 : 0;
		if (want->preset.active && !expired && member->ready)
			want->preset.eligible++;
		if (!want->preset.active)
			insert_by_age(&want->delete_inactive, member);
		else
		{
			if (expired)
				insert_by_age(&want->delete_expired, member);
			else
				insert_by_health(&valid, member);
		}
	}
	if (!want->preset.active)
		return;
	for (int i = 0; i < valid.n - want->preset.desired; i++)
		want->delete_extraneous.items[want->delete_extraneous.n++] = valid.items[i];
	want->preset.extraneous = want->delete_extraneous.n;
}

static void
expect_building(Expectation *want, const Preset *preset, int number)
{
	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		const PoolMember *member = &pool.members[i];
		bool gone, of_active, unwanted, waits;

		if (member->build_preset != number || !member->by_system_user)
			continue;
		if (member->job_status != JOB_PENDING && member->job_status != JOB_RUNNING)
			continue;
		gone = preset->template_deleted || preset->template_deprecated;
		of_active = same_id(member->template_version_id, preset->active_version_id);
		unwanted = gone || (!of_active && !want->preset.active);
		waits = member->transition == TRANSITION_START && member->build_number == 1 &&
				member->job_status == JOB_PENDING && member->job_unclaimed;
		if (unwanted && waits)
			insert_by_age(&want->cancel, member);
		else if (of_active && member->transition == TRANSITION_START)
			want->preset.starting++;
		else if (of_active && member->transition == TRANSITION_STOP)
			want->preset.stopping++;
		else if (of_active)
			want->preset.deleting++;
	}
	want->preset.pending_stale = want->cancel.n;
}

static void
expect_failures(Expectation *want, const Preset *preset, int number)
{
	const DecisionSettings *settings = &pool.settings;
	int limit = settings->failure_hard_limit;
	List builds = { 0 };
	Wide delay;

	for (int i = 0; i < pool.snapshot.nmembers; i++)
		if (pool.members[i].build_preset == number && !preset->template_deleted &&
			pool.members[i].transition == TRANSITION_START &&
			same_id(pool.members[i].template_version_id, preset->active_version_id))
			insert_by_newest_build(&builds, &pool.members[i]);

	for (int i = builds.n - 1; i >= 0; i--)
	{
		Wide age = (Wide) settings->at - builds.items[i]->build_created_at;

		if (builds.items[i]->job_status != JOB_FAILED || age > settings->backoff_lookback)
			continue;
		want->preset.num_failed++;
		if (i == 0 || i < want->preset.desired)
		{
			want->preset.has_backoff_until = true;
			want->preset.backoff_until = builds.items[i]->build_created_at;
		}
	}
	if (want->preset.has_backoff_until)
	{
		delay = (Wide) settings->backoff_interval * want->preset.num_failed;
		if (settings->backoff_max > 0 && delay > settings->backoff_max)
			delay = settings->backoff_max;
		if (delay > CENTURY)
			delay = CENTURY;
		delay += want->preset.backoff_until;
		want->preset.backoff_until = delay > INT64_MAX ? INT64_MAX : (int64_t) delay;
		want->preset.backing_off =
			want->preset.active && settings->at <= want->preset.backoff_until;
	}
	want->preset.hard_limited = want->preset.active && limit > 0 && builds.n >= limit;
	for (int i = 0; i < limit && i < builds.n; i++)
		if (builds.items[i]->job_status != JOB_FAILED)
			want->preset.hard_limited = false;
}

static void
expect_status(Preset *want, const Preset *preset, BuildCheck check)
{
	bool theirs = preset->status == STATUS_VALIDATION_FAILED && !preset->marked_invalid_by_us;
	bool asked = want->active && (want->shortfall > 0 || preset->marked_invalid_by_us);

	if (!asked)
		check = BUILD_POSSIBLE;
	want->new_status = STATUS_HEALTHY;
	if (want->hard_limited)
		want->new_status = STATUS_HARD_LIMITED;
	else if (check == BUILD_INVALID)
		want->new_status = STATUS_VALIDATION_FAILED;
	else if (preset->marked_invalid_by_us && (check == BUILD_NOT_YET || !want->active))
		want->new_status = STATUS_VALIDATION_FAILED;
	if (theirs)
		want->new_status = STATUS_VALIDATION_FAILED;

	/* the last that applies is the strongest */
	want->withheld = WITHHELD_NOT;
	if (check == BUILD_NOT_YET)
		want->withheld = WITHHELD_RETRY;
	if (check == BUILD_UNSUPPORTED)
		want->withheld = WITHHELD_UNSUPPORTED;
	if (want->active && want->new_status == STATUS_VALIDATION_FAILED)
		want->withheld = WITHHELD_VALIDATION_FAILED;
	if (want->hard_limited)
		want->withheld = WITHHELD_HARD_LIMITED;
	if (want->backing_off)
		want->withheld = WITHHELD_BACKOFF;
}

/* Give away what may be created, one at a time, looking at all the presets each time. */
static void
expect_creates(void)
{
	int64_t budget = DECISION_MAX_CREATES;
	int64_t room = pool.settings.max_building;

	for (int i = 0; i < pool.snapshot.nmembers; i++)
		if (pool.members[i].transition == TRANSITION_START &&
			(pool.members[i].job_status == JOB_PENDING ||
			 pool.members[i].job_status == JOB_RUNNING) &&
			pool.members[i].verdict != VERDICT_CANCEL)
			room--;
	if (pool.settings.max_creates_per_pass > 0)
		budget = pool.settings.max_creates_per_pass;
	if (pool.settings.max_building > 0 && room < budget)
		budget = room;
	for (; budget > 0; budget--)
	{
		Preset *emptiest = NULL;
		int64_t least = 0, of = 1;

		for (int p = 0; p < pool.snapshot.npresets; p++)
		{
			Preset *want = &expected[p].preset;
			int64_t have = want->actual - want->expired + want->starting + want->create;

			if (want->withheld != WITHHELD_NOT || want->create == want->shortfall)
				continue;
			if (emptiest == NULL || have * of < least * want->desired)
			{
				emptiest = want;
				least = have;
				of = want->desired;
			}
		}
		if (emptiest == NULL)
			break;
		emptiest->create++;
	}
}

static void
expect_all(void)
{
	memset(expected, 0, sizeof(expected));
	for (int p = 0; p < pool.snapshot.npresets; p++)
	{
		const Preset *preset = &pool.presets[p];
		Expectation *want = &expected[p];
		int64_t missing;

		want->preset.active = same_id(preset->template_version_id, preset->active_version_id);
		if (preset->template_deleted || preset->template_deprecated)
			want->preset.active = false;
		if (want->preset.active)
			want->preset.desired = preset->scheduled;
		expect_running(want, preset, p);
		expect_building(want, preset, p);
		expect_failures(want, preset, p);
		missing = (int64_t) want->preset.desired - (want->preset.actual - want->preset.expired) -
				  want->preset.starting;
		want->preset.shortfall = want->preset.active && missing > 0 ? (int32_t) missing : 0;
		expect_status(&want->preset, preset, pool.checks[p]);
	}
	expect_creates();
}

/* ---- comparing ---- */

static void
check_slice(const Preset *preset, int *from, const List *list, Verdict verdict)
{
	for (int i = 0; i < list->n; i++)
	{
		CHECK(*from < preset->nactions, true);
		CHECK(pool.order[preset->first_action + *from] - pool.members,
			  list->items[i] - pool.members);
		CHECK(list->items[i]->verdict, verdict);
		CHECK(decision_acting_preset(list->items[i]), preset - pool.presets);
		++*from;
	}
}

static void
check_preset(int number)
{
	const Preset *preset = &pool.presets[number];
	const Preset *want = &expected[number].preset;
	int nactions = 0;

	CHECK(preset->active, want->active);
	CHECK(preset->desired, want->desired);
	CHECK(preset->actual, want->actual);
	CHECK(preset->expired, want->expired);
	CHECK(preset->eligible, want->eligible);
	CHECK(preset->extraneous, want->extraneous);
	CHECK(preset->starting, want->starting);
	CHECK(preset->stopping, want->stopping);
	CHECK(preset->deleting, want->deleting);
	CHECK(preset->pending_stale, want->pending_stale);
	CHECK(preset->num_failed, want->num_failed);
	CHECK(preset->has_backoff_until, want->has_backoff_until);
	if (want->has_backoff_until)
		CHECK(preset->backoff_until, want->backoff_until);
	CHECK(preset->backing_off, want->backing_off);
	CHECK(preset->hard_limited, want->hard_limited);
	CHECK(preset->shortfall, want->shortfall);
	CHECK(preset->new_status, want->new_status);
	CHECK(preset->withheld, want->withheld);
	CHECK(preset->create, want->create);
	CHECK(preset->capped, want->withheld == WITHHELD_NOT ? want->shortfall - want->create : 0);
	CHECK(preset->capped == 0 || preset->capped_by != NULL, true);
	check_slice(preset, &nactions, &expected[number].cancel, VERDICT_CANCEL);
	check_slice(preset, &nactions, &expected[number].delete_inactive, VERDICT_DELETE_INACTIVE);
	check_slice(preset, &nactions, &expected[number].delete_expired, VERDICT_DELETE_EXPIRED);
	check_slice(preset, &nactions, &expected[number].delete_extraneous, VERDICT_DELETE_EXTRANEOUS);
	CHECK(preset->nactions, nactions);
}

/* What holds whatever the snapshot is. */
static void
check_invariants(void)
{
	int acting = 0, actions = 0, building = 0;
	int64_t creates = 0;

	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		const PoolMember *member = &pool.members[i];
		bool start = member->transition == TRANSITION_START;

		building += start && member->job_status <= JOB_RUNNING && member->verdict != VERDICT_CANCEL;
		if (member->verdict == VERDICT_LEAVE)
			continue;
		acting++;
		CHECK(start, true);
		CHECK(member->job_status, member->verdict == VERDICT_CANCEL ? JOB_PENDING : JOB_SUCCEEDED);
		/* no broken one stays while a better one goes */
		for (int k = 0; member->verdict == VERDICT_DELETE_EXTRANEOUS && k < pool.snapshot.nmembers;
			 k++)
		{
			const PoolMember *other = &pool.members[k];

			if (other->current_preset == member->current_preset &&
				other->verdict == VERDICT_LEAVE && other->transition == TRANSITION_START &&
				other->job_status == JOB_SUCCEEDED)
				CHECK(health_of(other) >= health_of(member), true);
		}
	}
	for (int p = 0; p < pool.snapshot.npresets; p++)
	{
		const Preset *preset = &pool.presets[p];

		actions += preset->nactions;
		creates += preset->create;
		CHECK(preset->create >= 0 && preset->create <= preset->desired, true);
		CHECK(preset->create <= preset->shortfall, true);
		CHECK(preset->create == 0 || preset->extraneous == 0, true);
	}
	CHECK(actions, acting);
	CHECK(creates <= DECISION_MAX_CREATES, true);
	if (pool.settings.max_creates_per_pass > 0)
		CHECK(creates <= pool.settings.max_creates_per_pass, true);
	if (pool.settings.max_building > 0 && creates > 0)
		CHECK(creates + building <= pool.settings.max_building, true);
}

/* ---- random snapshots ---- */

static uint64_t random_seed = 88172645463325252u;
static uint64_t random_state;

static int
random_below(int limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (int) ((random_state >> 11) % (uint64_t) limit);
}

static bool
one_in(int n)
{
	return random_below(n) == 0;
}

static Id
random_id(void)
{
	Id id;

	for (int i = 0; i < 16; i++)
		id.bytes[i] = (uint8_t) random_below(256);
	return id;
}

/* A time up to 20 s before now, mostly whole seconds: many ties and edges. */
static int64_t
random_time(bool extreme)
{
	static const int64_t ends[] = { INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1, 0, -1 };

	if (extreme && one_in(4))
		return ends[random_below(6)];
	return NOW - random_below(21) * SECOND + (one_in(6) ? random_below(3) - 1 : 0);
}

static void
random_settings(bool extreme)
{
	DecisionSettings *settings = &pool.settings;

	/* the callers take finite times only; those of PostgreSQL end well within int64 */
	if (extreme && one_in(2))
		settings->at = one_in(2) ? INT64_C(-211813488000000000) : INT64_C(9223371331199999999);
	settings->backoff_interval = random_below(4) * SECOND;
	settings->backoff_lookback = random_below(25) * SECOND;
	settings->backoff_max = one_in(2) ? 0 : random_below(12) * SECOND;
	if (extreme && one_in(3))
		settings->backoff_interval = INT64_MAX / (1 + random_below(9));
	if (extreme && one_in(3))
		settings->backoff_lookback = INT32_MAX * SECOND;
	settings->failure_hard_limit = random_below(5);
	settings->max_creates_per_pass = one_in(2) ? 0 : random_below(8);
	settings->max_building = one_in(2) ? 0 : random_below(12);
}

static void
random_preset(bool extreme)
{
	Preset *preset = add_preset(random_below(7));
	int template = random_below(2);

	preset->template_id = id_of(100 + template);
	preset->active_version_id = id_of(200 + 10 * template);
	preset->template_version_id = id_of(200 + 10 * template + one_in(4));
	preset->template_deleted = one_in(10);
	preset->template_deprecated = one_in(10);
	preset->invalidate_after_secs = one_in(2) ? random_below(20) - 1 : 0;
	if (extreme && one_in(3))
		preset->invalidate_after_secs = one_in(2) ? INT32_MAX : INT32_MIN;
	preset->has_last_invalidated_at = one_in(3);
	preset->last_invalidated_at = random_time(extreme);
	preset->status = (PrebuildStatus) random_below(3);
	preset->marked_invalid_by_us = preset->status == STATUS_VALIDATION_FAILED && one_in(2);
	pool.checks[pool.snapshot.npresets - 1] =
		one_in(2) ? BUILD_POSSIBLE : (BuildCheck) random_below(4);
}

static void
random_member(bool extreme, int crowd)
{
	static const JobStatus likely[] = { JOB_PENDING,   JOB_RUNNING, JOB_SUCCEEDED,
										JOB_SUCCEEDED, JOB_FAILED,	JOB_FAILED };
	Transition transition = one_in(5) ? (Transition) random_below(3) : TRANSITION_START;
	JobStatus status = one_in(5) ? (JobStatus) random_below(7) : likely[random_below(6)];
	PoolMember *member = add_member(transition, status, random_time(extreme));
	int preset = one_in(8) ? -1 : random_below(crowd);

	member->id = random_id();
	member->build_id = random_id();
	member->build_preset = preset;
	member->current_preset = one_in(8) ? random_below(crowd + 1) - 1 : preset;
	if (!one_in(4))
		member->build_created_at = random_time(extreme);
	if (preset >= 0 && !one_in(4))
		member->template_version_id = pool.presets[preset].active_version_id;
	else
		member->template_version_id = id_of(200 + 10 * random_below(2) + random_below(2));
	member->build_number = one_in(4) ? 1 + random_below(3) : 1;
	member->by_system_user = !one_in(6);
	member->job_unclaimed = !one_in(4);
	member->ready = !one_in(3);
	if (!member->ready && one_in(2))
		make_sick(member);
}

static void
random_pool(int round, bool extreme)
{
	int npresets = 1 + random_below(MAX_PRESETS);
	int nmembers = random_below(one_in(4) ? 90 : 25);
	int crowd = one_in(2) ? npresets : 1 + random_below(npresets);

	start_case("");
	snprintf(label, sizeof(label), "DECISION_SEED=%llu, round %d", (unsigned long long) random_seed,
			 round);
	random_settings(extreme);
	for (int i = 0; i < npresets; i++)
		random_preset(extreme);
	for (int i = 0; i < nmembers; i++)
		random_member(extreme, crowd);
	/* what is behind the last one is no member */
	random_member(extreme, crowd);
	pool.snapshot.nmembers--;
}

static int
seed(void **state)
{
	const char *given = getenv("DECISION_SEED");

	(void) state;
	if (given != NULL && *given != '\0')
		random_seed = strtoull(given, NULL, 10);
	random_state = random_seed != 0 ? random_seed : 1; /* xorshift stays at 0 */
	return 0;
}

static void
test_random(void **state)
{
	(void) state;
	for (int round = 0; round < RANDOM_ROUNDS; round++)
	{
		random_pool(round, round % 4 == 0);
		decide();
		expect_all();
		for (int p = 0; p < pool.snapshot.npresets; p++)
			check_preset(p);
		check_invariants();
	}
}

/* Do what was decided: a member that goes is gone, or its delete build waits. */
static void
apply_decision(void)
{
	int kept = 0;

	for (int i = 0; i < pool.snapshot.nmembers; i++)
	{
		PoolMember *member = &pool.members[i];

		if (member->verdict != VERDICT_LEAVE && one_in(2))
			continue;
		if (member->verdict != VERDICT_LEAVE)
		{
			member->build_preset = decision_acting_preset(member);
			member->transition = TRANSITION_DELETE;
			member->job_status = JOB_PENDING;
			member->build_number++;
			member->build_created_at = pool.settings.at;
		}
		pool.members[kept++] = *member;
	}
	pool.snapshot.nmembers = kept;
	for (int p = 0; p < pool.snapshot.npresets; p++)
	{
		pool.presets[p].status = pool.presets[p].new_status;
		if (pool.presets[p].check == BUILD_INVALID &&
			pool.presets[p].new_status != STATUS_HARD_LIMITED)
			pool.presets[p].marked_invalid_by_us = true;
		if (pool.presets[p].status != STATUS_VALIDATION_FAILED)
			pool.presets[p].marked_invalid_by_us = false;
		for (int n = 0; n < pool.presets[p].create; n++)
		{
			PoolMember *member = add_member(TRANSITION_START, JOB_PENDING, pool.settings.at + n);

			member->id = random_id();
			member->build_id = random_id();
			member->build_preset = member->current_preset = p;
			member->template_version_id = pool.presets[p].active_version_id;
		}
	}
}

/*
 * A second pass at the same time finds nothing to do. A cap on what one pass creates is for one
 * pass. A deleted success may leave only failures, so that the next pass finds the hard limit.
 */
static void
test_idempotent(void **state)
{
	(void) state;
	for (int round = 0; round < RANDOM_ROUNDS; round++)
	{
		random_pool(round, false);
		pool.settings.max_creates_per_pass = 0;
		decide();
		apply_decision();
		decide();
		for (int p = 0; p < pool.snapshot.npresets; p++)
		{
			CHECK(pool.presets[p].create, 0);
			CHECK(pool.presets[p].nactions, 0);
			CHECK(pool.presets[p].new_status == pool.presets[p].status ||
					  pool.presets[p].new_status == STATUS_HARD_LIMITED,
				  true);
		}
	}
}

/* The order of the members in the snapshot changes nothing. */
static void
test_order_of_members(void **state)
{
	(void) state;
	for (int round = 0; round < RANDOM_ROUNDS / 10; round++)
	{
		static PoolMember first[MAX_MEMBERS];
		static Preset presets[MAX_PRESETS];
		int n;

		random_pool(round, false);
		n = pool.snapshot.nmembers;
		decide();
		for (int i = 0; i < n && pool.order[i] != NULL; i++)
			first[i] = *pool.order[i];
		memcpy(presets, pool.presets, sizeof(presets));
		for (int i = n - 1; i > 0; i--)
		{
			int other = random_below(i + 1);
			PoolMember moved = pool.members[i];

			pool.members[i] = pool.members[other];
			pool.members[other] = moved;
		}
		decide();
		for (int p = 0; p < pool.snapshot.npresets; p++)
		{
			const Preset *preset = &pool.presets[p];

			CHECK(preset->create, presets[p].create);
			CHECK(preset->capped, presets[p].capped);
			CHECK(preset->num_failed, presets[p].num_failed);
			CHECK(preset->hard_limited, presets[p].hard_limited);
			CHECK(preset->nactions, presets[p].nactions);
			for (int i = 0; i < preset->nactions; i++)
				CHECK(same_id(pool.order[preset->first_action + i]->id,
							  first[presets[p].first_action + i].id),
					  true);
		}
	}
}

static void
test_empty(void **state)
{
	(void) state;
	start_case("nothing");
	decide();
	add_preset(0);
	decide();
	CHECK(pool.presets[0].create, 0);
	CHECK(pool.presets[0].nactions, 0);
	CHECK(pool.presets[0].new_status, STATUS_HEALTHY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_activity),
		cmocka_unit_test(test_every_kind_of_build),
		cmocka_unit_test(test_running_by_current_preset),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_stale_by_its_own_version),
		cmocka_unit_test(test_extraneous),
		cmocka_unit_test(test_extraneous_by_health),
		cmocka_unit_test(test_health_is_asked_where_it_matters),
		cmocka_unit_test(test_shortfall),
		cmocka_unit_test(test_order_of_actions),
		cmocka_unit_test(test_backoff_window),
		cmocka_unit_test(test_backoff_looks_at),
		cmocka_unit_test(test_backoff_lookback),
		cmocka_unit_test(test_backoff_ends),
		cmocka_unit_test(test_backoff_deletes),
		cmocka_unit_test(test_backoff_delay),
		cmocka_unit_test(test_hard_limit),
		cmocka_unit_test(test_builds_of_one_time),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_status_of_the_satisfied),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_building_takes_room),
		cmocka_unit_test(test_withheld_takes_no_budget),
		cmocka_unit_test(test_most_that_one_pass_creates),
		cmocka_unit_test_setup(test_random, seed),
		cmocka_unit_test_setup(test_idempotent, seed),
		cmocka_unit_test_setup(test_order_of_members, seed),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
