/*
 * pass_request.c
 *	  Asking the worker for a pass when the control plane changes: a claim, a promoted version, a
 *	  changed preset or schedule, a finished job. A statement trigger notes it, and the worker is
 *	  woken when the transaction has committed; it waits at most a second, so that many changes
 *	  are one pass. It is a hint: after COMMIT PREPARED, or where no worker runs passes, the next
 *	  pass by the clock sees the change.
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/trigger.h"

#include "pass/pass_request.h"
#include "slots/worker_slots.h"

/* The slot to ask, where this transaction has changed something that a pass may have to answer. */
static int wanted_of = NO_SLOT;

/*
 * Ask for a pass soon; nothing where no worker drives passes. number: of a slot, or NO_SLOT. Raises
 * nothing, and looks nothing up: it is called when a transaction has just committed.
 */
static void
request_pass(int number)
{
	if (number != NO_SLOT && pg_atomic_exchange_u32(&worker_slot(number)->pass_requested, 1) == 0)
		worker_slot_wake(number, worker_slot_does_both(number) ? LANE_METADATA : LANE_PASSES);
}

/*
 * Wake the worker after a commit; forget after anything else that ends a transaction. An error here
 * would end the server: nothing is looked up, nothing allocated.
 */
static void
at_transaction_end(XactEvent event, void *argument)
{
	if (event == XACT_EVENT_COMMIT)
		request_pass(wanted_of);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wanted_of = NO_SLOT;
}

/* Called once, from _PG_init. */
void
pass_request_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

PG_FUNCTION_INFO_V1(prebuild_pass_wanted);

/* Trigger: a pass may have something to do. After a statement; does not look at what it did. */
Datum
prebuild_pass_wanted(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_pass_wanted() is called by triggers only")));
	/* now, as it may have to be looked up, and after the commit nothing can be */
	wanted_of = worker_slot_here();
	return PointerGetDatum(NULL);
}
