/*
 * identity_stats.c
 *	  Statistics of the identity cache. If the library is preloaded, they are in shared memory, for
 *	  each database since the server started. Otherwise they are those of this session alone.
 *
 * Locking contract: no locks. A session counts in its own memory and adds that to the counts of its
 * database when its transaction ends. The first session of a database takes a place by one
 * compare-and-exchange of the database's OID. The database keeps it until the server stops.
 */
#include "compat.h"

#include "access/xact.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#include "identity/identity_stats.h"
#include "base/result_row.h"

/* The number of databases that have a place. Sessions of all others see only their own counts. */
#define PLACES 128

/* Padded, so that no two places share a cache line. */
typedef union Place
{
	struct
	{
		pg_atomic_uint32 database; /* InvalidOid: free */
		pg_atomic_uint64 counts[IDENTITY_EVENTS];
	} data;
	char pad[PG_CACHE_LINE_SIZE];
} Place;

static shmem_request_hook_type request_before = NULL;
static shmem_startup_hook_type startup_before = NULL;

/* In shared memory; NULL if the library was not preloaded. */
static Place *places = NULL;

/* The counts of this session, and those that are not yet added to session_counts and the place. */
static uint64 session_counts[IDENTITY_EVENTS];
static uint64 pending[IDENTITY_EVENTS];
static bool any_pending = false;

/* Request the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace(PLACES * sizeof(Place));
}

/* Attach to the shared memory. Initialize it at a start and after a crash. */
static void
start_memory(void)
{
	bool found;

	if (startup_before)
		startup_before();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	places = ShmemInitStruct("prebuild identity statistics", PLACES * sizeof(Place), &found);
	for (int i = 0; i < PLACES && !found; i++)
	{
		pg_atomic_init_u32(&places[i].data.database, InvalidOid);
		for (int event = 0; event < IDENTITY_EVENTS; event++)
			pg_atomic_init_u64(&places[i].data.counts[event], 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Return the place of this session's database. Take one if it has none. Return NULL if none is left
 * or the library was not preloaded.
 */
static Place *
place_here(void)
{
	/* a session stays in its database */
	static Place *place = NULL;

	for (int i = 0; i < PLACES && places != NULL && place == NULL; i++)
	{
		uint32 owner = InvalidOid;

		if (pg_atomic_compare_exchange_u32(&places[i].data.database, &owner, MyDatabaseId) ||
			owner == MyDatabaseId)
			place = &places[i];
	}
	return place;
}

/* Add the pending counts to those of the session and of its database. Raises nothing. */
static void
add_pending(void)
{
	Place *place = any_pending ? place_here() : NULL;

	for (int event = 0; event < IDENTITY_EVENTS && any_pending; event++)
	{
		if (place != NULL && pending[event] > 0)
			pg_atomic_fetch_add_u64(&place->data.counts[event], pending[event]);
		session_counts[event] += pending[event];
		pending[event] = 0;
	}
	any_pending = false;
}

static void
at_transaction_event(XactEvent event, void *argument)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		add_pending();
}

/* Set up the statistics. Called once from _PG_init. */
void
identity_stats_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	compat_chain_shmem_request(request_memory, request_before);
	startup_before = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/* Count an event. Other sessions see it after the transaction. Raises nothing. */
void
identity_stats_count(IdentityEvent event, uint64 amount)
{
	pending[event] += amount;
	any_pending = true;
}

PG_FUNCTION_INFO_V1(prebuild_identity_stats_read);

/* SQL: the row under the view prebuild_identity_stats. */
Datum
prebuild_identity_stats_read(PG_FUNCTION_ARGS)
{
	Place *place = place_here();
	ResultRow row;

	add_pending();
	row.n = 0;
	result_put_text(&row, place != NULL ? "database" : "session");
	for (int event = 0; event < IDENTITY_EVENTS; event++)
		result_put_int8(&row, place != NULL ? (int64) pg_atomic_read_u64(&place->data.counts[event])
											: (int64) session_counts[event]);
	PG_RETURN_DATUM(result_row_datum(fcinfo, &row));
}
