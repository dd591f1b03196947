/*
 * subtransaction.c
 *	  Work that may fail without ending the transaction. Every subtransaction of the extension is
 *	  opened and closed here, as one that an error leaves open ruins the session: what comes after
 *	  it runs in the wrong transaction, and as the wrong user.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/resowner.h"

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
