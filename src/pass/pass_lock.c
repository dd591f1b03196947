/*
 * pass_lock.c
 *	  Wait for the reconcilers' lock, for functions that must not overlap with a pass.
 *
 *	  Locks: advisory lock 7 of the database, until the end of the transaction. A pass only tries to
 *	  take it, and the server refuses it to who tries while somebody waits. So who waits gets the
 *	  lock after the holder of this moment, however many passes begin meanwhile.
 */
#include "compat.h"

#include "utils/fmgrprotos.h"

#include "pass/lock_linger.h"
#include "pass/pass_lock.h"

/* Raise lock_not_available in place of the error that the wait ended with. */
static void
raise_not_available(const char *function, const char *otherwise)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
		 errmsg("%s did not get the reconcilers' lock within lock_timeout", function),
		 errdetail("A pass of prebuild_reconcile(), or the control plane's own reconciler, holds "
				   "advisory lock %d.",
				   (int) RECONCILE_LOCK),
		 errhint("Set lock_timeout to wait longer%s. pg_locks shows who holds the lock "
				 "(locktype = 'advisory', objid = %d).",
				 otherwise, (int) RECONCILE_LOCK)));
}

/*
 * Take the reconcilers' lock until the end of the transaction. Waits for the holder as long as
 * lock_timeout allows, and then raises lock_not_available. Raises object_in_use in a pass of this
 * session, which the lock does not keep out. function: the caller's name with parentheses;
 * otherwise: what else its user can do, continuing a sentence, or "". Take a new snapshot
 * afterwards, to see what the holder committed.
 */
void
pass_lock_wait(const char *function, const char *otherwise)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool timed_out = false;

	if (pass_is_under_way())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s cannot wait for the pass that called it", function),
				 errdetail("A trigger or a rule called it while prebuild_reconcile() wrote."),
				 errhint("Call it in another transaction%s.", otherwise)));

	/* no subtransaction: the server has cleaned up after the wait before it raises the error */
	PG_TRY();
	{
		DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(RECONCILE_LOCK));
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		timed_out = true;
	}
	PG_END_TRY();
	if (timed_out)
		raise_not_available(function, otherwise);
}
