/*
 * worker_serve.c
 *	  The loop of a worker that is connected. It checks that the worker may serve, does the work of
 *	  its lane when that is due, and lets go of the database when another session wants it for
 *	  itself.
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "utils/acl.h"
#include "utils/memutils.h"

#include "metadata/metadata_batcher.h"
#include "settings.h"
#include "worker/worker.h"
#include "worker/worker_lookup.h"
#include "worker/worker_metadata.h"
#include "worker/worker_passes.h"
#include "worker/worker_serve.h"
#include "worker/worker_task.h"

/* No statement of a worker waits longer for a lock, because it would delay the next task. */
#define LOCK_TIMEOUT "5s"

/* How long the last flush may take at shutdown. */
#define SHUTDOWN_LIMIT_MS 15000

/*
 * How long it may take when another session wants the database. That session waits for 5 s in all,
 * and has begun to wait before check_database() notices it.
 */
#define LET_GO_LIMIT_MS 1000

/* How long the pass worker then stays away, so that the metadata worker can let go, too. */
#define LET_GO_PAUSE_MS 2000

/* How often a worker checks that it may serve, and that all other workers have a process. */
#define CHECK_INTERVAL_MS 1000

typedef struct Worker
{
	int number;
	WorkerLaneName lane;
	bool does_both; /* a metadata worker without a pass worker beside it */
	bool serving;
	TimestampTz next_check;
	MetadataWork metadata; /* of the metadata worker */
	PassWork passes;	   /* of the pass worker, or of one that does both */
} Worker;

/* The argument and the results of check_database(). */
typedef struct DatabaseCheck
{
	const Worker *worker;
	bool installed;
	bool role_changed;
	bool role_gone; /* no role has our role's name any more, or another one has */
	bool wanted;
} DatabaseCheck;

/*
 * Task: is the extension installed, has the role to connect as changed, and does another session
 * want the database for itself?
 */
static void
check_database(void *argument)
{
	DatabaseCheck *check = argument;
	const char *role = worker_slot(check->worker->number)->lanes[check->worker->lane].role;
	LookupResult lookup = { STEP_FIND_DATABASE, "", "" };

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	check->installed = OidIsValid(get_extension_oid("prebuild_ext", true));
	check->wanted = worker_database_wanted(MyDatabaseId);
	check->role_gone = get_role_oid(role, true) != GetAuthenticatedUserId();
	if (setting_worker_role[0] != '\0')
		check->role_changed = strcmp(setting_worker_role, role) != 0;
	else
		check->role_changed =
			check->installed &&
			(!worker_find_role(check->worker->number, &lookup) || strcmp(lookup.role, role) != 0);
	check->role_changed = check->role_changed || check->role_gone;
	CommitTransactionCommand();
}

/* Have the metadata worker check now whether it may serve. */
static void
request_check(int number)
{
	pg_atomic_write_u32(&worker_slot(number)->check_requested, 1);
	worker_slot_wake(number, LANE_METADATA);
}

/*
 * Before the pass worker exits because another session wants the database, have its next process
 * wait, and have the metadata worker check now whether it must let go, too.
 */
static void
stay_away(const Worker *worker)
{
	worker_pause_next(worker->number, LANE_PASSES, LET_GO_PAUSE_MS);
	request_check(worker->number);
}

/*
 * Exit because another session waits to rename, copy, move or drop the database. A metadata worker
 * that serves flushes first, in LET_GO_LIMIT_MS at most.
 */
pg_noreturn static void
let_go(Worker *worker)
{
	ereport(LOG, (errmsg("%s exits because database \"%s\" is being renamed, copied, moved or "
						 "dropped",
						 MyBgworkerEntry->bgw_type, worker_slot_name(worker->number))));
	if (worker->lane == LANE_PASSES)
		stay_away(worker);
	else if (worker->serving)
		metadata_work_finish(&worker->metadata, LET_GO_LIMIT_MS);
	worker_exit(worker->number, worker->lane, STEP_FIND_DATABASE, NULL);
}

/*
 * Check whether the worker may serve, and set the lane's state to the result. Exits if another
 * session wants the database, and as the metadata worker if the role changed. If the check itself
 * fails, leaves everything as it is.
 */
static void
check_serving(Worker *worker)
{
	DatabaseCheck check = { .worker = worker };
	bool installed;

	if (worker_run_task(worker->number, TASK_START + worker->lane,
						"prebuild: looking for the extension", check_database, &check) != NULL)
		return;
	if (check.wanted)
		let_go(worker);
	if (check.role_changed && worker->lane == LANE_METADATA)
		worker_exit(worker->number, LANE_METADATA, STEP_FIND_DATABASE, NULL);
	installed = check.installed;
	worker->serving = installed && !check.role_changed;
	worker_slot_set_state(worker->number, worker->lane,
						  !installed		   ? WORKER_UNABLE
						  : check.role_changed ? WORKER_STARTING
											   : WORKER_SERVING,
						  installed ? NULL : "extension prebuild_ext is not installed");
	/* the metadata worker decides whether to serve, and as which role */
	if (worker->lane == LANE_PASSES && !worker->serving)
		request_check(worker->number);
	/* it follows by name, which would never tell it that its role is gone */
	if (worker->lane == LANE_PASSES && check.role_gone)
	{
		worker_pause_next(worker->number, LANE_PASSES, LET_GO_PAUSE_MS);
		worker_exit(worker->number, LANE_PASSES, STEP_FIND_DATABASE, NULL);
	}
	/* without the extension nobody needs what is buffered, so discard it */
	if (worker->lane == LANE_METADATA && !installed)
		batcher_forget_all(worker->number);
}

/*
 * The pass worker: exit if the metadata worker cannot serve, or serves as another role. Takes the
 * slot's lock.
 */
static void
keep_following(Worker *worker)
{
	WorkerSlot *slot = worker_slot(worker->number);
	const WorkerLane *other = &slot->lanes[LANE_METADATA];
	bool follows;

	LWLockAcquire(&slot->lock, LW_SHARED);
	switch (pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &other->state)))
	{
		case WORKER_UNABLE:
			follows = false;
			break;
		case WORKER_SERVING:
			follows = strcmp(other->role, slot->lanes[LANE_PASSES].role) == 0;
			break;
		default:
			/* it is about to check */
			follows = true;
	}
	LWLockRelease(&slot->lock);
	if (!follows)
		worker_exit(worker->number, LANE_PASSES, STEP_FIND_DATABASE, NULL);
}

/*
 * Run the pass and the fold that are due. A worker that does both has sessions write their reports
 * directly meanwhile.
 */
static void
do_passes(Worker *worker)
{
	char detail[WORKER_TEXT_SIZE];

	if (GetCurrentTimestamp() < pass_work_next(&worker->passes))
		return;
	if (worker->does_both)
	{
		snprintf(detail, WORKER_TEXT_SIZE,
				 "the worker runs a pass or a fold; max_worker_processes (%d) leaves one worker "
				 "for everything",
				 max_worker_processes);
		metadata_work_stand_aside(&worker->metadata, detail);
	}
	if (!ShutdownRequestPending)
		pass_work_do(&worker->passes);
	if (worker->does_both)
		worker_slot_set_state(worker->number, LANE_METADATA, WORKER_SERVING, NULL);
}

/* Do what is due. */
static void
work(Worker *worker)
{
	TimestampTz now = GetCurrentTimestamp();

	worker_slots_look_after_all();
	if (worker->lane == LANE_PASSES)
		keep_following(worker);
	else if (pg_atomic_exchange_u32(&worker_slot(worker->number)->check_requested, 0) != 0)
		worker->next_check = now;
	if (now >= worker->next_check)
	{
		worker->next_check = worker_after_ms(CHECK_INTERVAL_MS);
		check_serving(worker);
	}
	if (worker->serving && worker->lane == LANE_METADATA && !ShutdownRequestPending)
		metadata_work_do(&worker->metadata);
	if (worker->serving && (worker->lane == LANE_PASSES || worker->does_both) &&
		!ShutdownRequestPending)
		do_passes(worker);
}

/* Return the time until a check, a flush, a pass or a fold is due, in milliseconds. */
static long
time_to_wait(const Worker *worker)
{
	TimestampTz next = worker->next_check;

	if (worker->serving && worker->lane == LANE_METADATA)
		next = Min(next, metadata_work_next(&worker->metadata));
	if (worker->serving && (worker->lane == LANE_PASSES || worker->does_both))
		next = Min(next, pass_work_next(&worker->passes));
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next) + 1;
}

/* Override what the settings of the role or of the database would change for our statements. */
static void
pin_settings(void)
{
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_deferrable", "off", PGC_SUSET, PGC_S_OVERRIDE);
	compat_unset_transaction_timeout();
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Finish after SIGTERM. The metadata worker flushes for the last time. The pass worker stays away
 * if another session wants the database.
 */
static void
finish(Worker *worker)
{
	DatabaseCheck check = { .worker = worker };

	if (worker->lane == LANE_METADATA && worker->serving)
		metadata_work_finish(&worker->metadata, SHUTDOWN_LIMIT_MS);
	/* DROP DATABASE (FORCE): the next process would connect before the metadata worker is gone */
	else if (worker->lane == LANE_PASSES &&
			 worker_run_task(worker->number, TASK_START + LANE_PASSES,
							 "prebuild: looking for the extension", check_database,
							 &check) == NULL &&
			 check.wanted)
		stay_away(worker);
}

/*
 * Serve until SIGTERM, or until the worker must exit, for example because its role changed. Call it
 * once connected. Does not return. Each round's memory is freed after it.
 */
void
worker_serve(int number, WorkerLaneName lane)
{
	MemoryContext loop =
		AllocSetContextCreate(TopMemoryContext, "prebuild worker", ALLOCSET_DEFAULT_SIZES);
	Worker worker = { .number = number,
					  .lane = lane,
					  .does_both = lane == LANE_METADATA && worker_slot_does_both(number) };

	pin_settings();
	ereport(LOG, (errmsg("%s for database \"%s\" started as role \"%s\"", MyBgworkerEntry->bgw_type,
						 worker_slot_name(number), worker_slot(number)->lanes[lane].role)));
	metadata_work_init(&worker.metadata, number);
	pass_work_init(&worker.passes, number);
	while (!ShutdownRequestPending)
	{
		MemoryContextSwitchTo(loop);
		work(&worker);
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(loop);
		if (!ShutdownRequestPending && worker_wait(time_to_wait(&worker)))
		{
			worker.next_check = 0;
			metadata_work_settings(&worker.metadata);
		}
	}
	MemoryContextSwitchTo(loop);
	finish(&worker);
	worker_exit(number, lane, STEP_FIND_DATABASE, NULL);
}
