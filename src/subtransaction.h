/*
 * subtransaction.h
 *	  Work that may fail without ending the transaction.
 */
#ifndef PREBUILD_SUBTRANSACTION_H
#define PREBUILD_SUBTRANSACTION_H

#include "postgres.h"

/* The work; returns whether it is to stay. */
typedef bool (*SubtransactionWork)(void *argument);

extern ErrorData *subtransaction_run(SubtransactionWork work, void *argument);

#endif /* PREBUILD_SUBTRANSACTION_H */
