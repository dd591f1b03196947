/*
 * metadata_batcher.c
 *	  The buffer for agent metadata in shared memory: one entry per (database, agent), whose blob
 *	  holds the newest value of each of the agent's keys.
 *
 * The whole buffer has prebuild.metadata_buffer_size, allocated when the server starts. It consists
 * of a hash table of fixed size, split into partitions, and an in-place DSA area for the blobs. The
 * buffer drops what does not fit.
 *
 * Locking contract: a partition's lock protects the entries whose hash falls into it, their blobs
 * and the partition's lists. Take it shared to read and exclusive to change. A process holds one
 * partition lock at a time, and takes only the area's own locks under it. batcher_put() checks
 * under the lock whether the slot buffers. So after batcher_fence(), each report that saw the old
 * state is in the buffer. The counters in BatcherDatabase are atomic. Its stats have their own
 * lock, under which a process takes no other.
 *
 * Sequence numbers: each report takes the next number and stamps it on its keys. A flush copies an
 * agent's entry with its highest number, writes the copy, commits, and then forgets the keys up to
 * that number. So a report that comes meanwhile stays. A flush that fails, or whose process dies,
 * has changed nothing in the buffer.
 */
#include "compat.h"

#include "lib/ilist.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "metadata/metadata_batcher.h"
#include "metadata/metadata_blob.h"
#include "settings.h"
#include "slots/worker_slots.h"

#define PARTITIONS 32

/* The hash table gets 1/6 of the memory, which suits agents with some 500 bytes of metadata. */
#define HASH_SHARE 6

/* The largest blob of an agent. Merging takes time under a lock that other sessions need. */
#define MAX_AGENT_BYTES (256 * 1024)

/* The smallest area for the blobs. With less, the server does not start. */
#define MIN_AREA_BYTES (128 * 1024)

/* 20 bytes without padding, because dynahash hashes them as they are. */
typedef struct EntryKey
{
	int32 slot;
	pg_uuid_t agent;
} EntryKey;

typedef struct Entry
{
	EntryKey key;
	int32 nkeys;
	dlist_node node;	   /* in its partition's list of the database */
	dsa_pointer blob;	   /* records one after the other; invalid if there are none */
	Size size;			   /* bytes used of it */
	Size capacity;		   /* bytes allocated */
	uint64 first_sequence; /* lowest and highest sequence number of its records */
	uint64 last_sequence;
} Entry;

typedef struct Partition
{
	LWLockPadded lock;
} Partition;

typedef struct Batcher
{
	int tranche;
	pg_atomic_uint64 sequence;
	pg_atomic_uint64 used; /* bytes of the area that blobs take */
	Size area_size;		   /* constant */
	Partition partitions[PARTITIONS];
	/* followed by a BatcherDatabase per slot, a list head per slot and partition, and the area */
} Batcher;

static shmem_request_hook_type request_before = NULL;
static shmem_startup_hook_type startup_before = NULL;

/* In shared memory. */
static Batcher *batcher = NULL;
static BatcherDatabase *databases;
static dlist_head *lists;
static void *area_place;
static HTAB *entries;

/* This process's mapping of the area; NULL until attach(). */
static dsa_area *area = NULL;

/* Return how many agents the hash table can hold. */
static long
max_agents(void)
{
	Size budget = (Size) setting_metadata_buffer_size * 1024 / HASH_SHARE;
	long agents = budget / MAXALIGN(sizeof(Entry));

	while (hash_estimate_size(agents, sizeof(Entry)) > budget)
		agents -= agents / 16 + 1;
	return agents;
}

/* Return the size of everything except the hash table, in bytes. */
static Size
block_size(void)
{
	return (Size) setting_metadata_buffer_size * 1024 -
		   hash_estimate_size(max_agents(), sizeof(Entry));
}

/* Request the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace((Size) setting_metadata_buffer_size * 1024);
}

/*
 * Set the addresses of the block's parts. Returns the size left for the area, in bytes. Raises
 * FATAL if that is less than MIN_AREA_BYTES.
 */
static Size
locate_parts(void)
{
	char *place = (char *) batcher + MAXALIGN(sizeof(Batcher));

	databases = (BatcherDatabase *) place;
	place += MAXALIGN(sizeof(BatcherDatabase) * worker_slots_count());
	lists = (dlist_head *) place;
	place += MAXALIGN(sizeof(dlist_head) * worker_slots_count() * PARTITIONS);
	area_place = place;
	if (block_size() < (Size) (place - (char *) batcher) + MIN_AREA_BYTES)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("prebuild.metadata_buffer_size of %d kB is too small for %d databases",
						setting_metadata_buffer_size, worker_slots_count()),
				 errhint("Increase it, or name fewer databases in prebuild.databases.")));
	return block_size() - (place - (char *) batcher);
}

/* Initialize the block when the server starts. */
static void
initialize_block(Size area_size)
{
	dsa_area *created;

	batcher->tranche = LWLockNewTrancheId();
	pg_atomic_init_u64(&batcher->sequence, 1);
	pg_atomic_init_u64(&batcher->used, 0);
	batcher->area_size = area_size;
	for (int i = 0; i < PARTITIONS; i++)
		LWLockInitialize(&batcher->partitions[i].lock.lock, batcher->tranche);
	memset(databases, 0, sizeof(BatcherDatabase) * worker_slots_count());
	for (int i = 0; i < worker_slots_count(); i++)
	{
		pg_atomic_init_u64(&databases[i].waiting, 0);
		pg_atomic_init_u64(&databases[i].reported, 0);
		pg_atomic_init_u64(&databases[i].dropped, 0);
		pg_atomic_init_u64(&databases[i].warned_at, 0);
		pg_atomic_init_u32(&databases[i].worker_woken, 0);
		LWLockInitialize(&databases[i].stats_lock, batcher->tranche);
	}
	for (int i = 0; i < worker_slots_count() * PARTITIONS; i++)
		dlist_init(&lists[i]);

	created = dsa_create_in_place(area_place, area_size, batcher->tranche, NULL);
	/* keep it while no process is attached, and never let it grow beyond its place */
	dsa_pin(created);
	dsa_set_size_limit(created, area_size);
	dsa_detach(created);
}

/* Attach to the shared memory. Initialize it at a start and after a crash. */
static void
start_memory(void)
{
	bool found;
	Size area_size;
	HASHCTL options = { 0 };

	if (startup_before)
		startup_before();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	batcher = ShmemInitStruct("prebuild agent metadata", block_size(), &found);
	area_size = locate_parts();
	if (!found)
		initialize_block(area_size);
	options.keysize = sizeof(EntryKey);
	options.entrysize = sizeof(Entry);
	options.num_partitions = PARTITIONS;
	entries = ShmemInitHash("prebuild agent metadata agents", max_agents(), max_agents(), &options,
							HASH_ELEM | HASH_BLOBS | HASH_PARTITION | HASH_FIXED_SIZE);
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(batcher->tranche, "prebuild_metadata");
}

/* Set up the buffer. Called while the library is preloaded, after worker_slots_init(). */
void
batcher_init(void)
{
	if (worker_slots_count() == 0)
		return;
	compat_chain_shmem_request(request_memory, request_before);
	startup_before = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/* Return the counters and statistics of a slot's database. */
BatcherDatabase *
batcher_database(int slot)
{
	return &databases[slot];
}

/* Attach this process to the area until it exits. */
static void
attach(void)
{
	MemoryContext context;

	if (area != NULL)
		return;
	context = MemoryContextSwitchTo(TopMemoryContext);
	area = dsa_attach_in_place(area_place, NULL);
	dsa_pin_mapping(area);
	on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(area_place));
	MemoryContextSwitchTo(context);
}

/* Set *key to the key of an agent. Returns its hash. */
static uint32
entry_hash(int slot, const pg_uuid_t *agent, EntryKey *key)
{
	key->slot = slot;
	key->agent = *agent;
	return get_hash_value(entries, key);
}

/* Return the lock of the partition that a hash falls into. */
static LWLock *
partition_lock(uint32 hash)
{
	return &batcher->partitions[hash % PARTITIONS].lock.lock;
}

/* Return the list of a slot's entries in a partition. */
static dlist_head *
partition_list(int slot, uint32 partition)
{
	return &lists[slot * PARTITIONS + partition];
}

/* Free an entry's blob, if it has one. Call it with the partition locked exclusively. */
static void
free_blob(Entry *entry)
{
	if (!DsaPointerIsValid(entry->blob))
		return;
	dsa_free(area, entry->blob);
	pg_atomic_fetch_sub_u64(&batcher->used, entry->capacity);
	entry->blob = InvalidDsaPointer;
	entry->capacity = 0;
}

/*
 * Make room for size bytes in an entry's blob. Returns false if the buffer is full. A new blob does
 * not contain the old records. Call it with the partition locked exclusively.
 */
static bool
make_room(Entry *entry, Size size)
{
	Size capacity;
	dsa_pointer blob;

	if (size <= entry->capacity)
		return true;
	/* lengths of values change all the time, so some slack saves most of the reallocations */
	capacity = TYPEALIGN(64, size + size / 8);
	blob = dsa_allocate_extended(area, capacity, DSA_ALLOC_NO_OOM);
	if (!DsaPointerIsValid(blob))
		return false;
	free_blob(entry);
	entry->blob = blob;
	entry->capacity = capacity;
	pg_atomic_fetch_add_u64(&batcher->used, capacity);
	return true;
}

/* Remove an entry and its blob. Call it with the partition locked exclusively. */
static void
remove_entry(Entry *entry, uint32 hash)
{
	EntryKey key = entry->key;

	free_blob(entry);
	dlist_delete(&entry->node);
	pg_atomic_fetch_sub_u64(&databases[key.slot].waiting, entry->nkeys);
	hash_search_with_hash_value(entries, &key, hash, HASH_REMOVE, NULL);
}

/*
 * Find or create an entry. Returns NULL if the buffer is full. Call it with the partition locked
 * exclusively.
 */
static Entry *
enter_entry(EntryKey *key, uint32 hash)
{
	bool found;
	Entry *entry = hash_search_with_hash_value(entries, key, hash, HASH_ENTER_NULL, &found);

	if (entry != NULL && !found)
	{
		entry->nkeys = 0;
		entry->blob = InvalidDsaPointer;
		entry->size = entry->capacity = 0;
		entry->first_sequence = entry->last_sequence = 0;
		dlist_push_tail(partition_list(key->slot, hash % PARTITIONS), &entry->node);
	}
	return entry;
}

/*
 * Merge reported entries into the buffer. Returns how many it took. If the buffer is full, drops
 * the new keys; if even the new values of known keys do not fit, drops all entries. Call it with
 * the partition locked exclusively.
 */
static int
put_locked(EntryKey *key, uint32 hash, ReportEntry **reported, int n, TimestampTz collected_at)
{
	Entry *entry = enter_entry(key, hash);
	uint64 sequence = pg_atomic_fetch_add_u64(&batcher->sequence, 1);
	const char *old;
	MergedBlob merged;
	bool fits;

	if (entry == NULL)
		return 0;
	old = entry->size > 0 ? dsa_get_address(area, entry->blob) : NULL;
	merged = blob_merge(old, entry->size, reported, n, collected_at, sequence, true);
	fits = merged.size <= MAX_AGENT_BYTES && make_room(entry, merged.size);
	if (!fits && entry->nkeys > 0)
	{
		pfree(merged.blob);
		merged = blob_merge(old, entry->size, reported, n, collected_at, sequence, false);
		fits = make_room(entry, merged.size);
	}
	if (fits && merged.nkeys > 0)
	{
		memcpy(dsa_get_address(area, entry->blob), merged.blob, merged.size);
		pg_atomic_fetch_add_u64(&databases[key->slot].waiting, merged.nkeys - entry->nkeys);
		entry->size = merged.size;
		entry->nkeys = merged.nkeys;
		entry->last_sequence = sequence;
		if (entry->first_sequence == 0)
			entry->first_sequence = sequence;
	}
	else if (entry->nkeys == 0)
		remove_entry(entry, hash);
	pfree(merged.blob);
	return fits ? merged.taken : 0;
}

/*
 * Put an agent's report into the buffer of a slot's database. The keys must be distinct. *dropped
 * receives how many entries did not fit. Returns false and does nothing if the slot does not
 * buffer. Raises out_of_memory only. Takes the partition's lock. Wakes the worker if a full batch
 * waits.
 */
bool
batcher_put(int slot, const pg_uuid_t *agent, ReportEntry **reported, int n,
			TimestampTz collected_at, int *dropped)
{
	BatcherDatabase *database = &databases[slot];
	EntryKey key;
	uint32 hash = entry_hash(slot, agent, &key);
	LWLock *lock = partition_lock(hash);
	int taken = 0;

	attach();
	worker_slot_look_after(slot, LANE_METADATA);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (!worker_slot_buffers(slot))
	{
		LWLockRelease(lock);
		return false;
	}
	if (n > 0)
		taken = put_locked(&key, hash, reported, n, collected_at);
	LWLockRelease(lock);

	*dropped = n - taken;
	pg_atomic_fetch_add_u64(&database->reported, taken);
	if (*dropped > 0)
		pg_atomic_fetch_add_u64(&database->dropped, *dropped);
	if (pg_atomic_read_u64(&database->waiting) >= (uint64) setting_metadata_batch_size &&
		pg_atomic_read_u32(&database->worker_woken) == 0 &&
		pg_atomic_exchange_u32(&database->worker_woken, 1) == 0)
		worker_slot_wake(slot, LANE_METADATA);
	return true;
}

/* Order agents by the arrival of their oldest entry. */
static int
compare_agents(const void *a, const void *b)
{
	uint64 left = ((const BatcherAgent *) a)->first_sequence;
	uint64 right = ((const BatcherAgent *) b)->first_sequence;

	return (left > right) - (left < right);
}

/*
 * List the agents that wait in a slot now, by the arrival of their oldest entry. Returns their
 * number; *agents receives them, palloc'd. Takes each partition's lock in turn.
 */
int
batcher_list(int slot, BatcherAgent **agents)
{
	int n = 0;
	int room = 1024;

	*agents = palloc_array(BatcherAgent, room);
	for (uint32 i = 0; i < PARTITIONS; i++)
	{
		dlist_iter iter;

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(&batcher->partitions[i].lock.lock, LW_SHARED);
		dlist_foreach(iter, partition_list(slot, i))
		{
			Entry *entry = dlist_container(Entry, node, iter.cur);

			if (n == room)
				*agents = repalloc(*agents, sizeof(BatcherAgent) * (room *= 2));
			(*agents)[n].agent = entry->key.agent;
			(*agents)[n++].first_sequence = entry->first_sequence;
		}
		LWLockRelease(&batcher->partitions[i].lock.lock);
	}
	qsort(*agents, n, sizeof(BatcherAgent), compare_agents);
	return n;
}

/*
 * Copy an agent's entry. Returns false if it has none. copy->blob is palloc'd. Takes the
 * partition's lock.
 */
bool
batcher_copy(int slot, const pg_uuid_t *agent, BatcherCopy *copy)
{
	EntryKey key;
	uint32 hash = entry_hash(slot, agent, &key);
	LWLock *lock = partition_lock(hash);
	Entry *entry;

	attach();
	LWLockAcquire(lock, LW_SHARED);
	entry = hash_search_with_hash_value(entries, &key, hash, HASH_FIND, NULL);
	if (entry != NULL)
	{
		copy->agent = *agent;
		copy->sequence = entry->last_sequence;
		copy->nkeys = entry->nkeys;
		copy->size = entry->size;
		copy->blob = palloc(entry->size + 1);
		if (entry->size > 0)
			memcpy(copy->blob, dsa_get_address(area, entry->blob), entry->size);
	}
	LWLockRelease(lock);
	return entry != NULL;
}

/*
 * Forget an agent's keys up to a sequence number, because a flush has committed them. Takes the
 * partition's lock.
 */
void
batcher_forget(int slot, const pg_uuid_t *agent, uint64 sequence)
{
	EntryKey key;
	uint32 hash = entry_hash(slot, agent, &key);
	LWLock *lock = partition_lock(hash);
	Entry *entry;

	attach();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(entries, &key, hash, HASH_FIND, NULL);
	if (entry != NULL && entry->last_sequence <= sequence)
		remove_entry(entry, hash);
	else if (entry != NULL)
	{
		int nkept = 0;

		entry->size = blob_keep_newer(dsa_get_address(area, entry->blob), entry->size, sequence,
									  &nkept, &entry->first_sequence);
		pg_atomic_fetch_sub_u64(&databases[slot].waiting, entry->nkeys - nkept);
		entry->nkeys = nkept;
		if (nkept == 0)
			remove_entry(entry, hash);
	}
	LWLockRelease(lock);
}

/*
 * Forget all entries of a slot, because its database or the extension is gone. Takes each
 * partition's lock in turn.
 */
void
batcher_forget_all(int slot)
{
	attach();
	for (uint32 i = 0; i < PARTITIONS; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&batcher->partitions[i].lock.lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, partition_list(slot, i))
		{
			Entry *entry = dlist_container(Entry, node, iter.cur);

			remove_entry(entry, get_hash_value(entries, &entry->key));
		}
		LWLockRelease(&batcher->partitions[i].lock.lock);
	}
}

/* Is more than half of the area or of the hash table in use? */
bool
batcher_half_full(void)
{
	return pg_atomic_read_u64(&batcher->used) > batcher->area_size / 2 ||
		   hash_get_num_entries(entries) > max_agents() / 2;
}

/* Return what share of the buffer is in use, from 0 to 1: of its memory, or of its entries. */
double
batcher_used(void)
{
	double memory = (double) pg_atomic_read_u64(&batcher->used) / (double) batcher->area_size;
	double agents = (double) hash_get_num_entries(entries) / (double) max_agents();

	return Min(Max(memory, agents), 1.0);
}

/*
 * Wait for the sessions that are putting a report into the buffer, by taking each partition's lock
 * in turn. If the slot's state has changed before to one that does not buffer, no report follows.
 */
void
batcher_fence(void)
{
	for (int i = 0; i < PARTITIONS; i++)
	{
		LWLockAcquire(&batcher->partitions[i].lock.lock, LW_EXCLUSIVE);
		LWLockRelease(&batcher->partitions[i].lock.lock);
	}
}
