/*
 * lock_linger.c
 *	  Hold the reconcilers' lock for a moment after a pass that wrote something has committed.
 *
 *	  Another reconciler may take its snapshot before it asks for the lock. coderd does: it runs a
 *	  REPEATABLE READ transaction, and the server fixes that snapshot when it parses the statement
 *	  that takes the lock, one round trip before it executes the statement. If a pass committed in
 *	  between and released the lock at once, coderd would get the lock with a snapshot that does not
 *	  show what the pass made, and would make it again.
 *
 *	  The server calls commit callbacks when other sessions can already see what the transaction
 *	  wrote, but before it releases the transaction's locks. The callback here waits until every
 *	  snapshot shows the pass, but at most prebuild.lock_linger. This works because a snapshot that
 *	  was taken before the pass became visible has an xmin no newer than the transaction id of the
 *	  pass. Every process knows that xmin by now, because taking a snapshot and ending a transaction
 *	  take the same lock inside the server. So a pass that runs alone does not wait, and a
 *	  reconciler that executes its statement meanwhile finds the lock taken.
 *
 *	  COMMIT PREPARED does not call the callbacks of the transaction that it commits. A prepared
 *	  pass therefore does not wait.
 *
 *	  Locks: none. An error in a commit callback would take the server down. So the code here
 *	  allocates no memory, reads no catalogs and ignores interrupts.
 */
#include "compat.h"

#include "access/transam.h"
#include "access/xact.h"
#include "portability/instr_time.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/wait_event.h"

#include "pass/lock_linger.h"
#include "settings.h"

/* How often to check for an old snapshot, in microseconds. */
#define LOOK_EVERY_US 1000

/* True if this transaction has written something that another reconciler must not miss. */
static bool wanted = false;

/* Does this process hold the reconcilers' lock? */
static bool
holds_lock(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (RECONCILE_LOCK >> 32),
						 (uint32) RECONCILE_LOCK, 1);
	return compat_lock_held_by_me(&tag, ExclusiveLock);
}

/*
 * Wait until every snapshot shows the transaction that has just become visible, but at most
 * prebuild.lock_linger.
 */
static void
linger(void)
{
	TransactionId own = GetTopTransactionIdIfAny();
	instr_time start;

	if (setting_lock_linger == 0 || !TransactionIdIsValid(own) || !holds_lock())
		return;
	INSTR_TIME_SET_CURRENT(start);
	pgstat_report_wait_start(PG_WAIT_EXTENSION);
	while (TransactionIdPrecedesOrEquals(GetOldestNonRemovableTransactionId(NULL), own))
	{
		instr_time passed;

		INSTR_TIME_SET_CURRENT(passed);
		INSTR_TIME_SUBTRACT(passed, start);
		if (INSTR_TIME_GET_MILLISEC(passed) >= setting_lock_linger)
			break;
		pg_usleep(LOOK_EVERY_US);
	}
	pgstat_report_wait_end();
}

static void
at_transaction_end(XactEvent event, void *argument)
{
	if (event == XACT_EVENT_COMMIT && wanted)
		linger();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wanted = false;
}

/*
 * Called once, from _PG_init, before the other modules register their callbacks. The server calls
 * the last registered callback first, so theirs need not wait for this one.
 */
void
lock_linger_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

/*
 * Linger when this transaction commits. Called by a pass that has written something under the
 * reconcilers' lock.
 */
void
lock_linger_after_commit(void)
{
	wanted = true;
}
