/*
 * subtransaction.c
 *	  Work that may fail without ending the transaction. The extension opens and closes every
 *	  subtransaction here, because one that an error leaves open ruins the session: whatever comes
 *	  after it runs in the wrong transaction, and as the wrong user.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "base/subtransaction.h"

/*
 * Do some work in a subtransaction. Returns NULL if the work ended well, and undoes its changes
 * if it returned false. Otherwise returns the error that undid them. The caller judges this error
 * and, if it cannot handle it, raises it with ReThrowError(). The work runs in the caller's
 * memory context, in which the error is palloc'd too.
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
	void *argument;
	int first;
	int n;
} HalvingTry;

static bool
try_items(void *argument)
{
	const HalvingTry *try = argument;

	try->halving->work(try->argument, try->first, try->n);
	return true;
}

/*
 * Do some work for n items at once, from item first on. After a fault, do it for halves of them,
 * in their order. This leaves out only the items for which the work fails alone, or all of those
 * for which the halving gives up. Returns the number of items that it was done for. Raises errors
 * that are no item's fault.
 */
int
subtransaction_halve(const Halving *halving, void *argument, int first, int n)
{
	HalvingTry try = { halving, argument, first, n };
	ErrorData *error = n > 0 ? subtransaction_run(try_items, &try) : NULL;

	CHECK_FOR_INTERRUPTS();
	if (error == NULL)
		return n;
	if (!halving->is_fault(error))
		ReThrowError(error);
	if (n == 1 || (halving->gives_up != NULL && halving->gives_up(error)))
	{
		for (int i = 0; i < n; i++)
			halving->leave_out(argument, first + i, error);
		return 0;
	}
	return subtransaction_halve(halving, argument, first, n / 2) +
		   subtransaction_halve(halving, argument, first + n / 2, n - n / 2);
}
