/*
 * identity_changes.c
 *	  Changes of identities: counters by which a cached identity is known to be still true.
 *
 * An agent, workspace, user or template has one of 4,096 counters, by a hash of its id; ids may
 * share one, which costs an entry of the cache now and then. A counter is one 64-bit word: how
 * many transactions that changed such an id are about to commit, and a generation. With the
 * library preloaded the counters are in shared memory; otherwise each backend has its own, and
 * sees its own changes only.
 *
 * Locking contract: no locks. Every word is one atomic, and order does the rest.
 *
 * A transaction that changed identities
 *	  1. counts itself as in flight in their counters, before its commit can be seen;
 *	  2. commits, or fails;
 *	  3. steps "ended", and after that
 *	  4. takes itself out of the counters, which steps their generation.
 * A reader who fills his cache
 *	  a. reads "ended", and after that takes a snapshot and asks the tables;
 *	  b. reads the four counters; one that is in flight: he keeps nothing;
 *	  c. reads "ended" again; when it moved he keeps nothing.
 * Later he uses what he kept as long as the four counters are as they were in (b).
 *
 * Why that is right: take a change that his snapshot does not show. Had (b) come after (4), then
 * (3) is in what (c) reads; and it is not in what (a) read, as otherwise the snapshot, taken after
 * (a), would show the change: so (c) differs from (a). Had (b) come between (1) and (4), the
 * counter was in flight. So (b) came before (1), and from (1) on the counter differs from what he
 * kept: before anybody can see the change, he has stopped to use what he had.
 *
 * The ids of a fill are known only after the query, which is why it is bracketed by one word
 * for all changes instead of by its own four counters.
 *
 * COMMIT PREPARED runs in another transaction, perhaps in another session, which does not know
 * what was changed: the cache's time to live is the bound then.
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

/* A counter is a generation above the number of transactions in flight. */
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

/* The shared ones, or this backend's own where the library was not preloaded. */
static Changes own_changes;
static Changes *changes = &own_changes;

/*
 * The counters of what this transaction changed, one bit each, and the words of those that have
 * any set, which is what a commit looks at: mostly there is one. Subtransactions that are rolled
 * back leave theirs: what is in doubt is asked of the tables.
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

/* Ask for the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace(sizeof(Changes));
}

/* Attach to the shared memory, or fill it, also after a crash. */
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

/* Add to the counter of everything that this transaction changed. */
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

/* Forget what this transaction changed. */
static void
forget_changed(void)
{
	for (uint64 words = words_changed_here; words != 0; words &= words - 1)
		changed_here[pg_rightmost_one_pos64(words)] = 0;
	words_changed_here = 0;
	in_flight_here = false;
}

/* Follow the transaction's end, as the head of this file says. Raises nothing. */
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

/* Arrange for the counters. Called once from _PG_init. */
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

/* Are changes made by other sessions counted? */
bool
identity_changes_shared(void)
{
	return changes != &own_changes;
}

/* The counter of an agent, workspace, user or template. */
IdentityCounter
identity_counter_of(const pg_uuid_t *id)
{
	return hash_bytes(id->data, UUID_LEN) % COUNTERS;
}

/* A counter's value: whatever it says of is unchanged as long as it is the same. */
uint64
identity_counter_read(IdentityCounter counter)
{
	return pg_atomic_read_u64(&changes->counters[counter]);
}

/* Does a counter's value say that a change is about to be committed? */
bool
identity_counter_in_flight(uint64 value)
{
	return (value & IN_FLIGHT_MASK) != 0;
}

/* How many transactions that changed identities have ended; a full memory barrier on both sides. */
uint64
identity_changes_ended(void)
{
	uint64 ended;

	pg_memory_barrier();
	ended = pg_atomic_read_u64(&changes->ended);
	pg_memory_barrier();
	return ended;
}

/* Note that this transaction changed an agent, workspace, user or template. Raises nothing. */
void
identity_changes_note(const pg_uuid_t *id)
{
	IdentityCounter counter = identity_counter_of(id);
	uint64 bit = UINT64CONST(1) << (counter % WORD_BITS);

	if (changed_here[counter / WORD_BITS] & bit)
		return;
	changed_here[counter / WORD_BITS] |= bit;
	words_changed_here |= UINT64CONST(1) << (counter / WORD_BITS);
	/* another module's commit callback may run SQL after ours */
	if (in_flight_here)
		pg_atomic_fetch_add_u64(&changes->counters[counter], IN_FLIGHT_ONE);
}

/* Did this transaction change an identity, in a part of it that may be rolled back by now? */
bool
identity_changed_here(void)
{
	return words_changed_here != 0;
}
