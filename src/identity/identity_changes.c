/*
 * identity_changes.c
 *	  Counters of changes, which tell whether a cached identity is still true.
 *
 * An agent, workspace, user or template has one of 4,096 counters, chosen by a hash of its id. Ids
 * may share a counter, which only costs a cache entry now and then. A counter is one 64-bit word.
 * It holds the number of transactions that changed such an id and are about to commit, and a
 * generation. If the library is preloaded, the counters are in shared memory. Otherwise each
 * backend has its own counters and sees only its own changes.
 *
 * Locking contract: no locks. Each word is one atomic, and safety depends on the order of the
 * steps.
 *
 * A transaction that changed identities
 *	  1. adds itself as in flight to their counters, before others can see its commit;
 *	  2. commits or aborts;
 *	  3. increments "ended";
 *	  4. removes itself from the counters, which increments their generation.
 * A reader that fills its cache
 *	  a. reads "ended", and only then takes a snapshot and runs the query;
 *	  b. reads the four counters, and stores nothing if one is in flight;
 *	  c. reads "ended" again, and stores nothing if it differs from (a).
 * The reader uses the entry as long as the four counters have the values of (b).
 *
 * README.md proves that a reader never returns a row after others can see a change of it.
 *
 * The reader knows the ids only after the query. That is why it compares one word for all changes
 * before and after the query, instead of its own four counters.
 *
 * COMMIT PREPARED runs in another transaction, perhaps in another session, which does not know what
 * changed. For such changes only the cache's time to live bounds how long an entry stays stale.
 */
#include "compat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "identity/identity_changes.h"

#define COUNTERS 4096

/* The low bits of a counter are the number of transactions in flight, the others its generation. */
#define IN_FLIGHT_BITS 24
#define IN_FLIGHT_ONE UINT64CONST(1)
#define IN_FLIGHT_MASK ((UINT64CONST(1) << IN_FLIGHT_BITS) - 1)
#define GENERATION_ONE (UINT64CONST(1) << IN_FLIGHT_BITS)

#define WORD_BITS 64

typedef struct Changes
{
	pg_atomic_uint64 ended; /* transactions that changed identities and have ended */
	pg_atomic_uint64 counters[COUNTERS];
} Changes;

static shmem_request_hook_type request_before = NULL;
static shmem_startup_hook_type startup_before = NULL;

/* The shared counters, or this backend's own if the library was not preloaded. */
static Changes own_changes;
static Changes *changes = &own_changes;

/*
 * The counters that this transaction changed, one bit each, and one bit for each word of them that
 * is not 0. A commit visits only those words, mostly one. A subtransaction that rolls back leaves
 * its bits, which only makes calls bypass the cache.
 */
static uint64 changed_here[COUNTERS / WORD_BITS];
static uint64 words_changed_here = 0;
static bool in_flight_here = false;

StaticAssertDecl(COUNTERS / WORD_BITS == WORD_BITS, "there is a bit for each word");

/* Set all counters to zero. */
static void
initialize(Changes *fresh)
{
	pg_atomic_init_u64(&fresh->ended, 0);
	for (int i = 0; i < COUNTERS; i++)
		pg_atomic_init_u64(&fresh->counters[i], 0);
}

/* Request the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace(sizeof(Changes));
}

/* Attach to the shared memory. Initialize it at a start and after a crash. */
static void
start_memory(void)
{
	bool found;

	if (startup_before)
		startup_before();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	changes = ShmemInitStruct("prebuild identity changes", sizeof(Changes), &found);
	if (!found)
		initialize(changes);
	LWLockRelease(AddinShmemInitLock);
}

/* Add an amount to each counter that this transaction changed. */
static void
add_to_changed(uint64 amount)
{
	for (uint64 words = words_changed_here; words != 0; words &= words - 1)
	{
		int word = pg_rightmost_one_pos64(words);

		for (uint64 bits = changed_here[word]; bits != 0; bits &= bits - 1)
			pg_atomic_fetch_add_u64(
				&changes->counters[word * WORD_BITS + pg_rightmost_one_pos64(bits)], amount);
	}
}

/* Clear the record of what this transaction changed. */
static void
forget_changed(void)
{
	for (uint64 words = words_changed_here; words != 0; words &= words - 1)
		changed_here[pg_rightmost_one_pos64(words)] = 0;
	words_changed_here = 0;
	in_flight_here = false;
}

/* Do steps 1, 3 and 4 of the protocol at the end of a transaction. Raises nothing. */
static void
at_transaction_event(XactEvent event, void *argument)
{
	if (words_changed_here == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			in_flight_here = true;
			add_to_changed(IN_FLIGHT_ONE);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (in_flight_here)
			{
				pg_atomic_fetch_add_u64(&changes->ended, 1);
				add_to_changed(GENERATION_ONE - IN_FLIGHT_ONE);
			}
			forget_changed();
			break;
		default:
			break;
	}
}

/* Set up the counters. Called once from _PG_init. */
void
identity_changes_init(void)
{
	initialize(&own_changes);
	RegisterXactCallback(at_transaction_event, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	compat_chain_shmem_request(request_memory, request_before);
	startup_before = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/* Return the counter of an agent, workspace, user or template. */
IdentityCounter
identity_counter_of(const pg_uuid_t *id)
{
	return hash_bytes(id->data, UUID_LEN) % COUNTERS;
}

/* Return a counter's value. While it stays the same, none of the counter's ids has changed. */
uint64
identity_counter_read(IdentityCounter counter)
{
	return pg_atomic_read_u64(&changes->counters[counter]);
}

/* Does a counter's value show a change that is about to commit? */
bool
identity_counter_in_flight(uint64 value)
{
	return (value & IN_FLIGHT_MASK) != 0;
}

/*
 * Return how many transactions that changed identities have ended. A full memory barrier precedes
 * and follows the read.
 */
uint64
identity_changes_ended(void)
{
	uint64 ended;

	pg_memory_barrier();
	ended = pg_atomic_read_u64(&changes->ended);
	pg_memory_barrier();
	return ended;
}

/* Record that this transaction changed an agent, workspace, user or template. Raises nothing. */
void
identity_changes_note(const pg_uuid_t *id)
{
	IdentityCounter counter = identity_counter_of(id);
	uint64 bit = UINT64CONST(1) << (counter % WORD_BITS);

	if (changed_here[counter / WORD_BITS] & bit)
		return;
	changed_here[counter / WORD_BITS] |= bit;
	words_changed_here |= UINT64CONST(1) << (counter / WORD_BITS);
	/* another module's commit callback may change rows after ours has done step 1 */
	if (in_flight_here)
		pg_atomic_fetch_add_u64(&changes->counters[counter], IN_FLIGHT_ONE);
}

/* Did this transaction change an identity? Includes subtransactions that were rolled back. */
bool
identity_changed_here(void)
{
	return words_changed_here != 0;
}
