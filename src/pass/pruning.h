/*
 * pruning.h
 *	  Keep the extension's own tables small.
 */
#ifndef PREBUILD_PRUNING_H
#define PREBUILD_PRUNING_H

#include "decision/judgement.h"

/*
 * How long to keep each claim that replaced resources as a row of its own, in microseconds.
 * Afterwards it is only part of a count.
 */
#define PRUNING_CLAIMS_KEPT (30 * USECS_PER_DAY)

extern void pruning_marks(const Judgement *judgement);
extern void pruning_events(TimestampTz at);
extern void pruning_old(TimestampTz at);
extern bool pruning_has_claim_counts(void);

#endif /* PREBUILD_PRUNING_H */
