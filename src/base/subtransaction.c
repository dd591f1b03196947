/*
 * subtransaction.c
 *	  Work that may fail without ending the transaction. Every subtransaction of the extension is
 *	  opened and closed here, as one that an error leaves open ruins the session: what comes after
 *	  it runs in the wrong transaction, and as the wrong user.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "base/subtransaction.h"

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
 * order, until only those are left out for which it fails alone, or all of those for which there is
 * no point in trying. Returns for how many it was done. Raises errors that are no item's fault.
 */
int
subtransaction_halve_until(const Halving *halving, HalvingGivesUp gives_up, int first, int n)
{
	HalvingTry try = { halving, first, n };
	ErrorData *error = n > 0 ? subtransaction_run(try_items, &try) : NULL;

	CHECK_FOR_INTERRUPTS();
	if (error == NULL)
		return n;
	if (!halving->is_fault(error))
		ReThrowError(error);
	if (n == 1 || (gives_up != NULL && gives_up(halving->argument, error)))
	{
		for (int i = 0; i < n; i++)
			halving->leave_out(halving->argument, first + i, error);
		return 0;
	}
	return subtransaction_halve_until(halving, gives_up, first, n / 2) +
		   subtransaction_halve_until(halving, gives_up, first + n / 2, n - n / 2);
}

/* The same where there is always a point in trying. */
int
subtransaction_halve(const Halving *halving, int first, int n)
{
	return subtransaction_halve_until(halving, NULL, first, n);
}
