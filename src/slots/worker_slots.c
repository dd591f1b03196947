/*
 * worker_slots.c
 *	  The databases that have background workers, in shared memory.
 *
 * Locking contract: a slot's lock protects its fields and those of its lanes (worker_slots.h
 * names the few that may be read without it). Hold it for a few assignments only, never while
 * waiting for anything, and take no other lock under it. Set a latch under the slot's lock. The
 * latch's owner takes it out of the slot under that lock before exiting, so nobody ever sets it
 * for another process.
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "storage/shmem.h"
#include "utils/varlena.h"

#include "settings.h"
#include "slots/worker_slots.h"

/*
 * How long to wait for a worker that is starting: twice the pause that it makes after an error. A
 * worker that takes longer may never come.
 */
#define STARTING_LIMIT_MS 10000

/* The shortest time between two signals to the postmaster on behalf of a lane. */
#define WAKE_INTERVAL_MS 250

static shmem_request_hook_type request_before = NULL;
static shmem_startup_hook_type startup_before = NULL;

/* The databases' names. The postmaster makes the list and its children inherit it. */
static List *database_names = NIL;

/*
 * The lanes that got a worker, as slot * WORKER_LANES + lane. The postmaster keeps this for
 * initialize_slot().
 */
static List *registered_lanes = NIL;

/*
 * In shared memory. NULL unless the server preloaded the library and prebuild.databases has
 * names.
 */
static WorkerSlot *slots = NULL;

/* Return the number of slots; 0 if the server did not preload the library. */
int
worker_slots_count(void)
{
	return list_length(database_names);
}

/* Return a slot by its number. */
WorkerSlot *
worker_slot(int number)
{
	Assert(number >= 0 && number < worker_slots_count());
	return &slots[number];
}

/* Return the name of a slot's database. */
const char *
worker_slot_name(int number)
{
	return list_nth(database_names, number);
}

/* Note that a lane has a worker. Call this while the server preloads the library. */
void
worker_slots_registered(int number, WorkerLaneName lane)
{
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);

	registered_lanes = lappend_int(registered_lanes, number * WORKER_LANES + lane);
	MemoryContextSwitchTo(context);
}

/* Request the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace(mul_size(sizeof(WorkerSlot), worker_slots_count()));
	RequestAddinShmemSpace(sizeof(int));
}

/*
 * Initialize a lane for a server that has just started. A lane without a worker says so from the
 * start.
 */
static void
initialize_lane(WorkerLane *lane, bool registered, bool for_database)
{
	lane->registered = registered;
	pg_atomic_init_u32(&lane->state, registered ? WORKER_STARTING : WORKER_UNABLE);
	pg_atomic_init_u64(&lane->starting_since, (uint64) GetCurrentTimestamp());
	pg_atomic_init_u64(&lane->postmaster_woken, 0);
	lane->step = STEP_FIND_DATABASE;
	if (!registered)
		snprintf(lane->detail, WORKER_TEXT_SIZE,
				 for_database
					 ? "max_worker_processes (%d) leaves no background worker for this database"
					 : "max_worker_processes (%d) leaves no background worker for passes; the "
					   "metadata worker runs them, and sessions write reports directly meanwhile",
				 max_worker_processes);
}

/* Initialize a slot for a server that has just started. */
static void
initialize_slot(int number, int tranche)
{
	WorkerSlot *slot = &slots[number];
	bool any = false;

	memset(slot, 0, sizeof(WorkerSlot));
	strlcpy(slot->database, worker_slot_name(number), NAMEDATALEN);
	pg_atomic_init_u32(&slot->pass_requested, 0);
	pg_atomic_init_u32(&slot->check_requested, 0);
	LWLockInitialize(&slot->lock, tranche);
	for (int lane = 0; lane < WORKER_LANES; lane++)
	{
		bool registered = list_member_int(registered_lanes, number * WORKER_LANES + lane);

		any = any || registered;
		initialize_lane(&slot->lanes[lane], registered, !any);
	}
	ConditionVariableInit(&slot->flush_done);
}

/* Attach to the shared memory, or initialize it, also after a crash. */
static void
start_memory(void)
{
	bool found;
	int *tranche;

	if (startup_before)
		startup_before();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	tranche = ShmemInitStruct("prebuild worker tranche", sizeof(int), &found);
	if (!found)
		*tranche = LWLockNewTrancheId();
	slots = ShmemInitStruct("prebuild workers", mul_size(sizeof(WorkerSlot), worker_slots_count()),
							&found);
	for (int i = 0; i < worker_slots_count() && !found; i++)
		initialize_slot(i, *tranche);
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(*tranche, "prebuild_worker");
}

/*
 * Read the list of databases and set up their slots. Call this while the server preloads the
 * library.
 */
void
worker_slots_init(void)
{
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
	List *names = NIL;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(setting_databases), ',', &names))
		elog(ERROR, "invalid list of databases: %s", setting_databases);
	foreach (cell, names)
	{
		ListCell *other;
		bool known = false;

		foreach (other, database_names)
			known = known || strcmp(lfirst(other), lfirst(cell)) == 0;
		if (!known)
			database_names = lappend(database_names, lfirst(cell));
	}
	MemoryContextSwitchTo(context);
	if (database_names == NIL)
		return;
	compat_chain_shmem_request(request_memory, request_before);
	startup_before = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/*
 * Return the slot of this session's database, or NO_SLOT. This may look into the catalog, so call
 * it only in a transaction and never from a callback of a transaction's end.
 */
int
worker_slot_here(void)
{
	/* a database cannot be renamed under a session */
	static int number = NO_SLOT;
	static bool known = false;

	Assert(IsTransactionState());
	if (!known && slots != NULL)
	{
		char *database = get_database_name(MyDatabaseId);

		for (int i = 0; i < worker_slots_count() && database != NULL; i++)
			if (strcmp(slots[i].database, database) == 0)
				number = i;
		known = true;
	}
	return number;
}

/*
 * Does the worker for metadata run the passes, too, because max_worker_processes left room for
 * only one?
 */
bool
worker_slot_does_both(int number)
{
	return !slots[number].lanes[LANE_PASSES].registered;
}

/* Has a lane been starting, or draining, for longer than it may take? Takes no lock. */
static bool
overdue(WorkerLane *lane)
{
	TimestampTz since = (TimestampTz) pg_atomic_read_u64(&lane->starting_since);

	return TimestampDifferenceExceeds(since, GetCurrentTimestamp(), STARTING_LIMIT_MS);
}

/*
 * Should sessions buffer reports for this slot? Takes no lock. Gives a starting worker some time
 * and no more, because it may never come.
 */
bool
worker_slot_buffers(int number)
{
	WorkerLane *lane = &slots[number].lanes[LANE_METADATA];
	uint32 state = pg_atomic_read_u32(&lane->state);

	return state == WORKER_SERVING || (state == WORKER_STARTING && !overdue(lane));
}

/* Does the worker for metadata serve, or can we expect it to serve soon? Takes no lock. */
bool
worker_slot_expected(int number)
{
	WorkerLane *lane = &slots[number].lanes[LANE_METADATA];

	return worker_slot_buffers(number) || (pg_atomic_read_u32(&lane->state) == WORKER_DRAINING &&
										   (lane->pid != 0 || !overdue(lane)));
}

/* Wake the worker of a lane, if it runs. Takes the slot's lock (shared). */
void
worker_slot_wake(int number, WorkerLaneName lane)
{
	WorkerSlot *slot = &slots[number];

	LWLockAcquire(&slot->lock, LW_SHARED);
	if (slot->lanes[lane].latch != NULL)
		SetLatch(slot->lanes[lane].latch);
	LWLockRelease(&slot->lock);
}

/*
 * Wake the postmaster if a lane has no process although it should have one. Up to PostgreSQL 15
 * the postmaster can miss that a worker has ended, if the signal comes between its look and its
 * sleep. It then sleeps for up to a minute. Cheap while there is a process. Raises nothing.
 */
void
worker_slot_look_after(int number, WorkerLaneName name)
{
	WorkerLane *lane = &slots[number].lanes[name];
	uint64 woken = pg_atomic_read_u64(&lane->postmaster_woken);
	TimestampTz now;

	if (lane->pid != 0 || !lane->registered || RecoveryInProgress())
		return;
	now = GetCurrentTimestamp();
	if (TimestampDifferenceExceeds((TimestampTz) woken, now, WAKE_INTERVAL_MS) &&
		pg_atomic_compare_exchange_u64(&lane->postmaster_woken, &woken, (uint64) now))
		SendPostmasterSignal(PMSIGNAL_BACKGROUND_WORKER_CHANGE);
}

/* As worker_slot_look_after() for all lanes of all slots: workers look after each other. */
void
worker_slots_look_after_all(void)
{
	for (int i = 0; i < worker_slots_count(); i++)
		for (int lane = 0; lane < WORKER_LANES; lane++)
			worker_slot_look_after(i, lane);
}

/*
 * Set the state of a lane's worker and wake those who wait for it. detail: why, or NULL. Returns
 * whether state or detail changed. Takes the slot's lock (exclusive).
 */
bool
worker_slot_set_state(int number, WorkerLaneName name, WorkerState state, const char *detail)
{
	WorkerSlot *slot = &slots[number];
	WorkerLane *lane = &slot->lanes[name];
	TimestampTz now = GetCurrentTimestamp();
	bool news;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	news = pg_atomic_read_u32(&lane->state) != (uint32) state ||
		   strcmp(lane->detail, detail ? detail : "") != 0;
	if (pg_atomic_read_u32(&lane->state) != (uint32) state)
		pg_atomic_write_u64(&lane->starting_since, (uint64) now);
	pg_atomic_write_u32(&lane->state, state);
	strlcpy(lane->detail, detail ? detail : "", WORKER_TEXT_SIZE);
	/* the worker for passes follows */
	if (news && name == LANE_METADATA && slot->lanes[LANE_PASSES].latch != NULL)
		SetLatch(slot->lanes[LANE_PASSES].latch);
	LWLockRelease(&slot->lock);
	ConditionVariableBroadcast(&slot->flush_done);
	return news;
}

/*
 * Return the state of a lane's worker, for a person. detail, of WORKER_TEXT_SIZE, receives what
 * there is to say about it, or an empty string. Takes the slot's lock (shared).
 */
WorkerState
worker_slot_state(int number, WorkerLaneName name, char *detail)
{
	WorkerSlot *slot = &slots[number];
	WorkerLane *lane = &slot->lanes[name];
	WorkerState state;

	LWLockAcquire(&slot->lock, LW_SHARED);
	state = pg_atomic_read_u32(&lane->state);
	strlcpy(detail, lane->detail, WORKER_TEXT_SIZE);
	LWLockRelease(&slot->lock);
	if (state == WORKER_STARTING && detail[0] == '\0' && RecoveryInProgress())
		strlcpy(detail, "the server is in recovery; workers start when it ends", WORKER_TEXT_SIZE);
	else if (state == WORKER_STARTING && detail[0] == '\0' && overdue(lane))
		snprintf(detail, WORKER_TEXT_SIZE,
				 "the worker has not started within %d s (see the server log); sessions write "
				 "reports directly meanwhile",
				 STARTING_LIMIT_MS / 1000);
	return state;
}

/*
 * Keep the last error of a task (WorkerTask; TASK_START + lane). Takes the slot's lock
 * (exclusive).
 */
void
worker_slot_note_error(int number, int task, int sqlstate, const char *message)
{
	WorkerSlot *slot = &slots[number];
	WorkerError *error = &slot->errors[task];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	strlcpy(error->message, message, WORKER_TEXT_SIZE);
	error->sqlstate = sqlstate;
	error->at = now;
	LWLockRelease(&slot->lock);
}

/* Return a state's name, for the operator. */
const char *
worker_state_name(WorkerState state)
{
	switch (state)
	{
		case WORKER_STARTING:
			return "starting";
		case WORKER_SERVING:
			return "serving";
		case WORKER_DRAINING:
			return "draining";
		case WORKER_UNABLE:
			return "unable";
	}
	return "unknown";
}
