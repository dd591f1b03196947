/*
 * subtransaction.c
 *	  Work that may fail without ending the transaction. Every subtransaction of the extension is
 *	  opened and closed here, as one that an error leaves open ruins the session: what comes after
 *	  it runs in the wrong transaction, and as the wrong user.
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/resowner.h"

#include "control_plane_catalog.h"
#include "subtransaction.h"

/*
 * Do some work in a subtransaction. Returns NULL when it ended well, its changes undone where it
 * said that they are not to stay; otherwise the error that undid it, for the caller to judge
 * and, if it is not his affair, to raise by ReThrowError(). The work runs in the caller's memory
 * context, where the error is palloc'd too.
 */
ErrorData *
subtransaction_run(SubtransactionWork work, void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (work(argument))
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/* One try of a halving. */
typedef struct HalvingTry
{
	const Halving *halving;
	int first;
	int n;
} HalvingTry;

static bool
try_items(void *argument)
{
	const HalvingTry *try = argument;

	try->halving->work(try->halving->argument, try->first, try->n);
	return true;
}

/*
 * Do some work for n items at once, from the first on; on a fault for halves of them, in their
 * order, until only those are left out for which it fails alone. Returns for how many it was done.
 * Raises errors that are no item's fault.
 */
int
subtransaction_halve(const Halving *halving, int first, int n)
{
	HalvingTry try = { halving, first, n };
	ErrorData *error = n > 0 ? subtransaction_run(try_items, &try) : NULL;

	CHECK_FOR_INTERRUPTS();
	if (error == NULL)
		return n;
	if (!halving->is_fault(error))
		ReThrowError(error);
	if (n == 1)
	{
		halving->leave_out(halving->argument, first, error);
		return 0;
	}
	return subtransaction_halve(halving, first, n / 2) +
		   subtransaction_halve(halving, first + n / 2, n - n / 2);
}

/*
 * Have deferred constraints of control plane tables checked now, so that they fail in the
 * subtransaction and not at the commit. SPI must be connected.
 */
void
subtransaction_check_constraints(const char *const *tables, int n)
{
	for (int i = 0; i < n; i++)
		if (AfterTriggerPendingOnRel(control_plane_table(tables[i], false)))
		{
			SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);
			return;
		}
}
