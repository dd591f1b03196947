/*
 * pass_request.c
 *	  Ask the worker for a pass when the control plane changes: a claim, a promoted version, a
 *	  changed preset or schedule, a finished job. A statement trigger notes the change, and the
 *	  commit of the transaction wakes the worker. The worker waits at most a second before the pass,
 *	  so that many changes make one pass. A request is only a hint: after COMMIT PREPARED, or if no
 *	  worker runs passes, the next pass by the clock sees the change.
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/trigger.h"

#include "pass/pass_request.h"
#include "slots/worker_slots.h"

/*
 * The slot to wake at commit if this transaction changed something that a pass may act on; or
 * NO_SLOT.
 */
static int wanted_of = NO_SLOT;

/*
 * Ask for a pass soon. Does nothing if no worker runs passes. number: a slot's, or NO_SLOT. Raises
 * no errors and looks nothing up, because it runs right after a transaction has committed.
 */
static void
request_pass(int number)
{
	if (number != NO_SLOT && pg_atomic_exchange_u32(&worker_slot(number)->pass_requested, 1) == 0)
		worker_slot_wake(number, worker_slot_does_both(number) ? LANE_METADATA : LANE_PASSES);
}

/*
 * Wake the worker after a commit. Forget the request after any other end of the transaction. An
 * error here would take the server down, so this looks nothing up and allocates nothing.
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

/* Request a pass at the commit of this transaction. */
void
pass_request_at_commit(void)
{
	/* find the slot now: this may need a lookup, which is impossible after the commit */
	wanted_of = worker_slot_here();
}

PG_FUNCTION_INFO_V1(prebuild_pass_wanted);

/*
 * Trigger, after each statement: request a pass at commit. Does not look at what the statement
 * changed.
 */
Datum
prebuild_pass_wanted(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_pass_wanted() must be called by a trigger")));
	pass_request_at_commit();
	return PointerGetDatum(NULL);
}
