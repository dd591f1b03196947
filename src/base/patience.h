/*
 * patience.h
 *	  How long a piece of work waits for other sessions, in all.
 */
#ifndef PREBUILD_PATIENCE_H
#define PREBUILD_PATIENCE_H

#include "postgres.h"

#include "base/subtransaction.h"

extern void patience_begin(int budget_ms);
extern void patience_arm(void);
extern void patience_end(void);
extern bool patience_lose(const ErrorData *error);
extern bool patience_is_over(void);
extern const char *patience_report(void);
extern void patience_run(int budget_ms, SubtransactionWork work, void *argument);

#endif /* PREBUILD_PATIENCE_H */
