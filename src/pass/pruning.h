/*
 * pruning.h
 *	  Bounds of the extension's own tables.
 */
#ifndef PREBUILD_PRUNING_H
#define PREBUILD_PRUNING_H

#include "decision/judgement.h"

/* How long a claim that replaced resources is known by itself; afterwards it is a number. */
#define PRUNING_CLAIMS_KEPT (30 * USECS_PER_DAY)

extern void pruning_marks(const Judgement *judgement);
extern void pruning_events(TimestampTz at);
extern void pruning_old(TimestampTz at);
extern bool pruning_has_claim_counts(void);

#endif /* PREBUILD_PRUNING_H */
