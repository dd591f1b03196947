/*
 * identity_stats.c
 *	  How well the identity cache does: counts for each database since the server started, in
 *	  shared memory where the library was preloaded; otherwise of this session alone.
 *
 * Locking contract: no locks. A session counts for itself and adds that to its database's counts
 * when its transaction ends. A database's place is taken by the first session that comes, by one
 * compare-and-exchange of its oid, and kept until the server stops.
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

/* Databases that are counted; those that come later keep their counts to their sessions. */
#define PLACES 128

/* Two cache lines do not share a place. */
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

/* In shared memory; NULL where the library was not preloaded. */
static Place *places = NULL;

/* This session's: all of it, and what is not yet added to its database's. */
static uint64 session_counts[IDENTITY_EVENTS];
static uint64 pending[IDENTITY_EVENTS];
static bool any_pending = false;

/* Ask for the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace(PLACES * sizeof(Place));
}

/* Attach to the shared memory, or fill it, also after a crash. */
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

/* The place of this session's database, taken when it has none; NULL when there is none left. */
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

/* Add what this session counted to its database's counts. Raises nothing. */
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

/* Arrange for the counts. Called once from _PG_init. */
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

/* Count something; others see it after the transaction. Raises nothing. */
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
