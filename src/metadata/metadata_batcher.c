/*
 * metadata_batcher.c
 *	  Reports of agent metadata that wait in shared memory to be written: one entry per (database,
 *	  agent), with one blob that holds the newest value of each of its keys.
 *
 * All of it lies within prebuild.metadata_buffer_size, allocated when the server starts: a hash
 * table of a fixed size, split into partitions, and an area in place for the blobs. What does not
 * fit is refused.
 *
 * Locking contract: a partition's lock protects the entries whose hash falls into it, their blobs
 * and the partition's lists; shared to read, exclusive to change. One partition lock is held at a
 * time; the area's own locks are taken under it, nothing else. Whether a report is buffered at
 * all is asked under the lock, so that after batcher_fence() every report that still saw the old
 * answer is in the buffer. Counters in BatcherDatabase are atomic; its stats have their own lock,
 * under which none is taken.
 *
 * Sequence numbers: every report takes the next one and stamps it on the keys that it brings. A
 * flush copies an agent with the newest number in it, writes, commits, and then forgets what is
 * not newer than that; so a report that comes meanwhile stays, and a flush that fails, or whose
 * process dies, has changed nothing.
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

/* The share of the memory that goes to the hash table: an agent with some 500 bytes of metadata. */
#define HASH_SHARE 6

/* Most that waits for one agent: merging takes time under a lock that others need. */
#define MAX_AGENT_BYTES (256 * 1024)

/* Least that is left for what waits: beneath it a server does not start. */
#define MIN_AREA_BYTES (128 * 1024)

/* No padding: 20 bytes, hashed as they are. */
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
	dsa_pointer blob;	   /* records one after the other; invalid when there are none */
	Size size;			   /* bytes used of it */
	Size capacity;		   /* bytes allocated */
	uint64 first_sequence; /* lowest and highest number of its records */
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
	/* then: BatcherDatabase per slot; list heads per slot and partition; the area */
} Batcher;

static shmem_request_hook_type request_before = NULL;
static shmem_startup_hook_type startup_before = NULL;

/* In shared memory. */
static Batcher *batcher = NULL;
static BatcherDatabase *databases;
static dlist_head *lists;
static void *area_place;
static HTAB *entries;

/* This process's way to the blobs; NULL until it is needed. */
static dsa_area *area = NULL;

/* How many agents the hash table takes. */
static long
max_agents(void)
{
	Size budget = (Size) setting_metadata_buffer_size * 1024 / HASH_SHARE;
	long agents = budget / MAXALIGN(sizeof(Entry));

	while (hash_estimate_size(agents, sizeof(Entry)) > budget)
		agents -= agents / 16 + 1;
	return agents;
}

/* The size of everything but the hash table. */
static Size
block_size(void)
{
	return (Size) setting_metadata_buffer_size * 1024 -
		   hash_estimate_size(max_agents(), sizeof(Entry));
}

/* Ask for the shared memory. */
static void
request_memory(void)
{
	compat_request_shmem_before(request_before);
	RequestAddinShmemSpace((Size) setting_metadata_buffer_size * 1024);
}

/* Find the parts of the block. Returns the size that is left for the area. */
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
				 errhint("Raise it, or name fewer databases in prebuild.databases.")));
	return block_size() - (place - (char *) batcher);
}

/* Fill the block of a server that has just started. */
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
	/* never less than in use, never more than what is in place */
	dsa_pin(created);
	dsa_set_size_limit(created, area_size);
	dsa_detach(created);
}

/* Attach to the shared memory, or fill it, also after a crash. */
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

/* Arrange for the buffer. Called while the library is preloaded, after worker_slots_init(). */
void
batcher_init(void)
{
	if (worker_slots_count() == 0)
		return;
	compat_chain_shmem_request(request_memory, request_before);
	startup_before = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/* Counters and statistics of a slot's database. */
BatcherDatabase *
batcher_database(int slot)
{
	return &databases[slot];
}

/* Attach this process to the blobs, for good. */
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

/* The key and the hash of an agent. */
static uint32
entry_hash(int slot, const pg_uuid_t *agent, EntryKey *key)
{
	key->slot = slot;
	key->agent = *agent;
	return get_hash_value(entries, key);
}

/* The lock of the partition that a hash falls into. */
static LWLock *
partition_lock(uint32 hash)
{
	return &batcher->partitions[hash % PARTITIONS].lock.lock;
}

/* The list of a partition's entries of a slot. */
static dlist_head *
partition_list(int slot, uint32 partition)
{
	return &lists[slot * PARTITIONS + partition];
}

/* Give an entry's blob back, if it has one. */
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

/* Make room for so many bytes in an entry's blob; false when the buffer is full. */
static bool
make_room(Entry *entry, Size size)
{
	Size capacity;
	dsa_pointer blob;

	if (size <= entry->capacity)
		return true;
	/* values change in length all the time: some slack saves most of the moves */
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

/* Take an entry, which may have a blob, out of the buffer. Its partition is locked. */
static void
remove_entry(Entry *entry, uint32 hash)
{
	EntryKey key = entry->key;

	free_blob(entry);
	dlist_delete(&entry->node);
	pg_atomic_fetch_sub_u64(&databases[key.slot].waiting, entry->nkeys);
	hash_search_with_hash_value(entries, &key, hash, HASH_REMOVE, NULL);
}

/* Find or create an entry; NULL when the buffer is full. Its partition is locked. */
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
 * Merge reported entries into the buffer. Returns how many are in; when it is full the new keys
 * are left out, and when not even the others' new values fit, all. Its partition is locked.
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
 * Put an agent's report into the buffer of a slot's database. The keys are distinct. *dropped
 * receives how many entries found no room. Returns false, with nothing done, when the slot does
 * not buffer. Raises out_of_memory only.
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

/* Order agents by when their oldest entry came. */
static int
compare_agents(const void *a, const void *b)
{
	uint64 left = ((const BatcherAgent *) a)->first_sequence;
	uint64 right = ((const BatcherAgent *) b)->first_sequence;

	return (left > right) - (left < right);
}

/*
 * The agents of a slot that wait now, those first that came first. *agents is palloc'd; returns
 * their number.
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

/* Copy what waits for an agent; false when nothing does. copy->blob is palloc'd. */
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

/* Forget what waits for an agent up to a sequence number, because it has been written. */
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

/* Forget all that waits for a slot, because its database is gone. */
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

/* Is more than half of the buffer in use? */
bool
batcher_half_full(void)
{
	return pg_atomic_read_u64(&batcher->used) > batcher->area_size / 2 ||
		   hash_get_num_entries(entries) > max_agents() / 2;
}

/*
 * Wait for the reports that are being buffered. After the slot's state has changed to one that
 * does not buffer, nothing comes after this.
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
