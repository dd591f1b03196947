/*
 * worker_slots.c
 *	  The databases that have a background worker, in shared memory.
 *
 * Locking contract: a slot's lock protects its fields (see worker_slots.h for the few that are
 * read without). It is held for a few assignments only, never while anything is waited for, and
 * no other lock is taken under it. A latch is set under the slot's lock, and its owner takes it
 * out of the slot under that lock before it exits: so it is never set for another process.
 */
#include "compat.h"

#include "commands/dbcommands.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/varlena.h"

#include "metadata_batcher.h"
#include "settings.h"
#include "worker_slots.h"

/* A flush that is waited for looks so often whether the worker is still to be expected. */
#define FLUSH_LOOK_MS 1000

/* How long after the server's start its workers may need to come up. */
#define FIRST_START_MS 60000

static shmem_request_hook_type request_before = NULL;
static shmem_startup_hook_type startup_before = NULL;

/* What the postmaster knows and its children inherit. */
static List *database_names = NIL;

/* In shared memory; NULL unless the library was preloaded and databases are named. */
static WorkerSlot *slots = NULL;

/* How many slots there are; 0 when the library was not preloaded. */
int
worker_slots_count(void)
{
	return list_length(database_names);
}

/* A slot by its number. */
WorkerSlot *
worker_slot(int number)
{
	Assert(number >= 0 && number < worker_slots_count());
	return &slots[number];
}

/* The name of a slot's database. */
const char *
worker_slot_name(int number)
{
	return list_nth(database_names, number);
}

/* Ask for the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace(mul_size(sizeof(WorkerSlot), worker_slots_count()));
	RequestAddinShmemSpace(sizeof(int));
}

/* Fill a slot for a server that has just started. */
static void
initialize_slot(WorkerSlot *slot, const char *database, int tranche)
{
	memset(slot, 0, sizeof(WorkerSlot));
	strlcpy(slot->database, database, NAMEDATALEN);
	pg_atomic_init_u32(&slot->state, WORKER_STARTING);
	pg_atomic_init_u32(&slot->pass_requested, 0);
	LWLockInitialize(&slot->lock, tranche);
	slot->step = STEP_FIND_DATABASE;
	ConditionVariableInit(&slot->flush_done);
}

/* Attach to the shared memory, or fill it, also after a crash. */
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
		initialize_slot(&slots[i], list_nth(database_names, i), *tranche);
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(*tranche, "prebuild_worker");
}

/*
 * Read the list of databases and arrange for their slots. Called while the library is preloaded.
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

/* The slot of this session's database, or NO_SLOT. A transaction must be in progress. */
int
worker_slot_here(void)
{
	/* a database cannot be renamed under a session */
	static int number = NO_SLOT;
	static bool known = false;

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
 * Should reports for this slot be buffered? Takes no lock: starts is read as it happens to be.
 */
bool
worker_slot_buffers(int number)
{
	WorkerSlot *slot = &slots[number];
	uint32 state = pg_atomic_read_u32(&slot->state);

	/* a worker that never came, as max_worker_processes was too low, is not waited for */
	if (state == WORKER_STARTING && slot->starts == 0)
		return !TimestampDifferenceExceeds(PgStartTime, GetCurrentTimestamp(), FIRST_START_MS);
	return state == WORKER_STARTING || state == WORKER_SERVING;
}

/* Wake the worker of a slot, if it runs. */
void
worker_slot_wake(int number)
{
	WorkerSlot *slot = &slots[number];

	LWLockAcquire(&slot->lock, LW_SHARED);
	if (slot->latch != NULL)
		SetLatch(slot->latch);
	LWLockRelease(&slot->lock);
}

/*
 * Say where the worker of a slot stands; detail: why, or NULL. Wakes those who wait for it. Returns
 * whether that is news.
 */
bool
worker_slot_set_state(int number, WorkerState state, const char *detail)
{
	WorkerSlot *slot = &slots[number];
	bool news;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	news = pg_atomic_exchange_u32(&slot->state, state) != (uint32) state ||
		   strcmp(slot->detail, detail ? detail : "") != 0;
	strlcpy(slot->detail, detail ? detail : "", WORKER_TEXT_SIZE);
	LWLockRelease(&slot->lock);
	ConditionVariableBroadcast(&slot->flush_done);
	return news;
}

/* Keep the message of the last thing that went wrong. */
void
worker_slot_note_error(int number, const char *message)
{
	WorkerSlot *slot = &slots[number];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	strlcpy(slot->last_error, message, WORKER_TEXT_SIZE);
	slot->last_error_at = now;
	LWLockRelease(&slot->lock);
}

/* Raise the error for a flush that was not done. */
static void
raise_flush_failed(WorkerSlot *slot, bool unable)
{
	char reason[WORKER_TEXT_SIZE];

	LWLockAcquire(&slot->lock, LW_SHARED);
	strlcpy(reason, unable ? slot->detail : slot->last_error, WORKER_TEXT_SIZE);
	LWLockRelease(&slot->lock);
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the background worker could not write the buffered agent metadata"),
					reason[0] ? errdetail_internal("%s", reason) : 0,
					errhint("Nothing is lost: it stays in the buffer and is tried again.")));
}

/*
 * Have the worker write everything that is buffered now, and wait for it. Returns the number of
 * entries that it wrote; an error when it failed, or cannot serve while something waits. A worker
 * that is restarting is waited for.
 */
int64
worker_slot_flush_and_wait(int number)
{
	WorkerSlot *slot = &slots[number];
	uint64 ticket;
	bool served = false;
	bool unable = false;
	bool failed = false;
	int64 written = 0;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	ticket = ++slot->flush_requested;
	if (slot->latch != NULL)
		SetLatch(slot->latch);
	LWLockRelease(&slot->lock);

	ConditionVariablePrepareToSleep(&slot->flush_done);
	while (!served && !unable)
	{
		LWLockAcquire(&slot->lock, LW_SHARED);
		served = slot->flush_served >= ticket;
		unable =
			!worker_slot_buffers(number) && pg_atomic_read_u32(&slot->state) != WORKER_DRAINING;
		failed = slot->flush_failed;
		written = slot->flush_written;
		LWLockRelease(&slot->lock);
		if (!served && !unable)
			(void) ConditionVariableTimedSleep(&slot->flush_done, FLUSH_LOOK_MS, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	/* reports of a worker that cannot serve are written directly: the caller's wish is fulfilled */
	if (!served && pg_atomic_read_u64(&batcher_database(number)->waiting) == 0)
		return 0;
	if (!served || failed)
		raise_flush_failed(slot, !served);
	return written;
}

/*
 * Ask this database's worker for a pass soon; nothing where no worker drives passes. Cheap
 * enough for a trigger.
 */
void
worker_slot_request_pass(void)
{
	int number = worker_slot_here();

	if (number != NO_SLOT && pg_atomic_exchange_u32(&slots[number].pass_requested, 1) == 0)
		worker_slot_wake(number);
}

/* A state's name, for the operator. */
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
