/*
 * lock_linger.c
 *	  Keep the reconcilers' lock for a moment after the commit of a pass that wrote something.
 *
 *	  Another reconciler may have taken its snapshot before it asks for the lock. coderd does: its
 *	  transaction is a REPEATABLE READ one, whose snapshot is fixed when the server parses the
 *	  statement that takes the lock, a round trip before that statement is executed. If a pass
 *	  committed in between and let go of the lock at once, coderd would get the lock with a snapshot
 *	  that does not show what the pass has made, and make it again.
 *
 *	  The server calls the commit callbacks when what the transaction wrote can be seen and its locks
 *	  are still held. Here the pass waits until there is no snapshot left that does not show it, but
 *	  at most prebuild.lock_linger. A snapshot that was taken before the pass could be seen has an
 *	  xmin no newer than the transaction of the pass, and is known to all by then, as both take the
 *	  same lock inside the server. So a pass that runs alone does not wait at all, and a reconciler
 *	  that comes to execute its statement in that time finds the lock taken.
 *
 *	  COMMIT PREPARED calls no callbacks of the transaction that it ends: such a pass does not wait.
 *
 *	  Locks: none are taken. An error in a commit callback would take the server down: nothing here
 *	  allocates memory, looks into catalogs or obeys interrupts.
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

/* How often to look whether an old snapshot is left, in microseconds. */
#define LOOK_EVERY_US 1000

/* This transaction has written what another reconciler must not miss. */
static bool wanted = false;

/* Does this process have the reconcilers' lock? */
static bool
holds_lock(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (RECONCILE_LOCK >> 32),
						 (uint32) RECONCILE_LOCK, 1);
	return compat_lock_held_by_me(&tag, ExclusiveLock);
}

/* Wait until every snapshot shows the transaction that has just become visible, but not for long. */
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
 * Called once, from _PG_init, before the other modules register their callbacks: the server calls
 * the last one first, and theirs need not wait.
 */
void
lock_linger_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

/* This transaction has written as the holder of the reconcilers' lock. */
void
lock_linger_after_commit(void)
{
	wanted = true;
}
