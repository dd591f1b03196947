/*
 * claim_queue.c
 *	  Where claims wait that found no prebuild that is free, while others hold some.
 *
 *	  Any of the holders may roll back, so such a claim has to look again and again. If all of them
 *	  looked, hundreds of claims at once would keep the processors busy, and the holders would get on
 *	  no better than they do. So the claims of a preset wait in a queue, in which a process sleeps,
 *	  and only the first of them looks.
 *
 *	  Locks: the queue is a lock of the server's lock manager, one for each preset. It is on an
 *	  object that nothing else locks: its class is the table of presets, which is no catalog, and its
 *	  number is a hash of the preset's id. Two presets with the same hash share a queue, which
 *	  costs time and nothing else.
 *
 *	  Whoever holds the queue must wait for no other transaction in the lock manager, because that one
 *	  may have claimed, and be waiting in the queue for another claim: a deadlock. That is why a
 *	  claim looks once before it enters the queue (which takes all the locks on tables that further
 *	  looks need), pauses by its latch, never waits for a row, and leaves the queue as soon as it has
 *	  locked a row, before it writes.
 */
#include "compat.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "base/subtransaction.h"
#include "catalog/control_plane_catalog.h"
#include "claim/claim_queue.h"

/* The lock that is the queue of a preset's claims. Raises an error if the table does not exist. */
static void
set_tag(LOCKTAG *tag, const Id *preset_id)
{
	Oid presets = control_plane_table("template_version_presets", false);

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, presets, hash_bytes(preset_id->bytes, sizeof(Id)), 0);
}

static bool
acquire(void *argument)
{
	(void) LockAcquire(argument, ExclusiveLock, false, false);
	return true;
}

/*
 * Wait until this claim is the first one in its preset's queue, for at most lock_timeout and what
 * the work under way may wait (patience.c). Returns false if it gave up. The caller leaves the queue
 * with claim_queue_leave(); an error leaves it too. Raises errors other than those of waiting.
 */
bool
claim_queue_enter(const Id *preset_id)
{
	LOCKTAG tag;
	ErrorData *error;

	set_tag(&tag, preset_id);
	error = subtransaction_run(acquire, &tag);
	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* Let the next claim be the first one. */
void
claim_queue_leave(const Id *preset_id)
{
	LOCKTAG tag;

	set_tag(&tag, preset_id);
	(void) LockRelease(&tag, ExclusiveLock, false);
}
