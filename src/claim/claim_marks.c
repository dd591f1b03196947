/*
 * claim_marks.c
 *	  Marks by which claims tell each other which prebuilds they have taken.
 *
 *	  In a burst, the oldest prebuilds are those that other claims have taken a moment ago. To find
 *	  that out by locking their rows, a claim has to ask of each first whether it is eligible, which
 *	  takes twenty times as long as a look at a mark: of n claims at once, each would ask for up to
 *	  n prebuilds.
 *
 *	  A mark is a hint, and no answer depends on it. Some taken prebuilds have none: those that
 *	  others than claims hold, and those of a transaction that has made MAX_MARKS claims. It also
 *	  outlasts the transaction by an instant, and two workspaces share one if 48 bits of their ids'
 *	  hash are equal. So a claim that marks have led past a prebuild has passed it over, and looks
 *	  again, without marks.
 *
 *	  Locks: a mark is a lock of the server's lock manager, on an object that nothing else locks: its
 *	  class is the table of workspaces, which is no catalog. Who takes a prebuild holds it
 *	  exclusively until the end of the (sub)transaction, like the lock on the row. Who looks at it
 *	  takes it shared, and gives it back at once. Neither ever waits for it. If somebody is looking
 *	  just when it would be set, it is not set.
 */
#include "compat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "catalog/control_plane_catalog.h"
#include "claim/claim_marks.h"

/* How many marks a transaction may have: the lock manager's table has room for so many locks only. */
#define MAX_MARKS 16

/* The lock that is the mark of a workspace. Raises an error if the table does not exist. */
static void
set_tag(LOCKTAG *tag, const Id *workspace_id)
{
	uint64 hash = hash_bytes_extended(workspace_id->bytes, sizeof(Id), 0);

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, control_plane_table("workspaces", false), (uint32) hash,
					   (uint16) (hash >> 32));
}

/* Mark a prebuild that this claim has locked, if the transaction may have one more mark. */
void
claim_mark(const Id *workspace_id)
{
	static TransactionId transaction = InvalidTransactionId;
	static int marks;
	TransactionId here = GetTopTransactionId();
	LOCKTAG tag;

	if (!TransactionIdEquals(here, transaction))
	{
		transaction = here;
		marks = 0;
	}
	if (marks == MAX_MARKS)
		return;
	marks++;
	set_tag(&tag, workspace_id);
	(void) LockAcquire(&tag, ExclusiveLock, false, true);
}

/* Has another transaction marked the prebuild? */
bool
claim_is_marked(const Id *workspace_id)
{
	LOCKTAG tag;

	set_tag(&tag, workspace_id);
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, ShareLock, false);
	return false;
}
