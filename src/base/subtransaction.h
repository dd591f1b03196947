/*
 * subtransaction.h
 *	  Work that may fail without ending the transaction.
 */
#ifndef PREBUILD_SUBTRANSACTION_H
#define PREBUILD_SUBTRANSACTION_H

#include "postgres.h"

/* The work. Returns whether to keep its changes. */
typedef bool (*SubtransactionWork)(void *argument);

/* Work on numbered items, some of which may be faulty. argument: the caller's. */
typedef struct Halving
{
	/* do it for n items, from item first on */
	void (*work)(void *argument, int first, int n);
	/* can an error be the fault of one of the items? */
	bool (*is_fault)(const ErrorData *error);
	/* after a fault of several items: is there no point in trying halves? NULL: there always is */
	bool (*gives_up)(const ErrorData *error);
	/* leave out an item, because the work failed for it alone (or was not tried for it alone) */
	void (*leave_out)(void *argument, int item, const ErrorData *error);
} Halving;

extern ErrorData *subtransaction_run(SubtransactionWork work, void *argument);
extern int subtransaction_halve(const Halving *halving, void *argument, int first, int n);

#endif /* PREBUILD_SUBTRANSACTION_H */
