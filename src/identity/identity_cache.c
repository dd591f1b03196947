/*
 * identity_cache.c
 *	  The identity cache of this backend: a hash table of ready rows. If it is full, the least
 *	  recently used entry goes.
 *
 * Locking contract: nothing here is shared. An entry is valid while the counters of its four ids
 * have the values that they had when it was stored. identity_changes.c has the protocol of the
 * counters, and README.md proves that it returns no stale row.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "lib/ilist.h"
#include "portability/instr_time.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "identity/identity_cache.h"
#include "identity/identity_changes.h"
#include "identity/identity_stats.h"
#include "settings.h"

typedef struct Entry
{
	pg_uuid_t agent; /* the key */
	dlist_node node; /* in by_last_use */
	int64 filled_at; /* microseconds, see IdentityMoment */
	IdentityCounter counters[IDENTITY_PARTS];
	uint64 values[IDENTITY_PARTS]; /* of the counters when the entry was stored */
	HeapTupleHeader row;
} Entry;

/* The memory of the whole cache; NULL if the cache is empty. */
static MemoryContext context = NULL;
static HTAB *entries;
static dlist_head by_last_use;

/* Return the current moment. Call it before the query. */
IdentityMoment
identity_moment(void)
{
	IdentityMoment moment;
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	moment.at = INSTR_TIME_GET_MICROSEC(now);
	moment.ended = identity_changes_ended();
	return moment;
}

/* Create an empty hash table. */
static void
create(void)
{
	HASHCTL info = { 0 };
	MemoryContext fresh = AllocSetContextCreate(CacheMemoryContext, "prebuild agent identities",
												ALLOCSET_DEFAULT_SIZES);

	info.keysize = sizeof(pg_uuid_t);
	info.entrysize = sizeof(Entry);
	info.hcxt = fresh;
	entries =
		hash_create("prebuild agent identities", 256, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&by_last_use);
	context = fresh;
}

/* Empty the cache. */
void
identity_cache_reset(void)
{
	MemoryContext old = context;

	if (old == NULL)
		return;
	identity_stats_count(IDENTITY_INVALIDATION, hash_get_num_entries(entries));
	context = NULL;
	MemoryContextDelete(old);
}

/* Remove an entry. */
static void
drop(Entry *entry)
{
	dlist_delete(&entry->node);
	pfree(entry->row);
	(void) hash_search(entries, &entry->agent, HASH_REMOVE, NULL);
}

/* Remove the least recently used entries until at most size remain. */
static void
shrink(long size)
{
	while (hash_get_num_entries(entries) > size)
		drop(dlist_tail_element(Entry, node, &by_last_use));
}

/* Is the entry unchanged, with no change about to commit? */
static bool
unchanged(const Entry *entry)
{
	for (int part = 0; part < IDENTITY_PARTS; part++)
		if (identity_counter_read(entry->counters[part]) != entry->values[part])
			return false;
	return true;
}

/*
 * Return the identity of an agent, palloc'd in the current context, or NULL if the cache has none
 * that is valid. at: the current time, from identity_moment().
 */
HeapTupleHeader
identity_cache_find(const pg_uuid_t *agent, int64 at)
{
	Entry *entry;
	HeapTupleHeader row;

	if (context == NULL)
		return NULL;
	shrink(setting_identity_cache_size);
	entry = hash_search(entries, agent, HASH_FIND, NULL);
	if (entry == NULL)
		return NULL;
	if (at - entry->filled_at >= (int64) setting_identity_cache_ttl * 1000)
	{
		drop(entry);
		return NULL;
	}
	if (!unchanged(entry))
	{
		identity_stats_count(IDENTITY_INVALIDATION, 1);
		drop(entry);
		return NULL;
	}
	dlist_move_head(&by_last_use, &entry->node);
	/* copy it, because the caller may still hold it when the entry goes */
	row = palloc(HeapTupleHeaderGetDatumLength(entry->row));
	memcpy(row, entry->row, HeapTupleHeaderGetDatumLength(entry->row));
	return row;
}

/*
 * Put the query's result into the cache, unless it changed since before, the moment before the
 * query. parts: the ids of the row, by IdentityPart. Copies the row.
 */
void
identity_cache_store(const IdentityMoment *before, const pg_uuid_t *const parts[IDENTITY_PARTS],
					 HeapTupleHeader row)
{
	Entry fresh = { .filled_at = before->at };
	Entry *entry;
	bool found;

	for (int part = 0; part < IDENTITY_PARTS; part++)
	{
		fresh.counters[part] = identity_counter_of(parts[part]);
		fresh.values[part] = identity_counter_read(fresh.counters[part]);
		if (identity_counter_in_flight(fresh.values[part]))
			return;
	}
	if (identity_changes_ended() != before->ended)
		return;

	if (context == NULL)
		create();
	entry = hash_search(entries, parts[IDENTITY_AGENT], HASH_FIND, NULL);
	if (entry != NULL)
		drop(entry);
	shrink(setting_identity_cache_size - 1);

	/* allocate first, so that no error can leave an entry without its row */
	fresh.row = MemoryContextAlloc(context, HeapTupleHeaderGetDatumLength(row));
	memcpy(fresh.row, row, HeapTupleHeaderGetDatumLength(row));
	entry = hash_search(entries, parts[IDENTITY_AGENT], HASH_ENTER, &found);
	fresh.agent = entry->agent;
	*entry = fresh;
	dlist_push_head(&by_last_use, &entry->node);
}
