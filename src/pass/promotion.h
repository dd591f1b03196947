/*
 * promotion.h
 *	  Make staged versions active, and end stages.
 */
#ifndef PREBUILD_PROMOTION_H
#define PREBUILD_PROMOTION_H

#include "decision/stages.h"

extern const Stage **promotion_due(const Stages *stages, int *n);
extern void promotion_write(const Stage *const *stages, int n, TimestampTz at);
extern bool promotion_by_hand(const Stage *stage, TimestampTz at, bool forced);
extern char *stage_event_detail(const Stage *stage, const char *more);

#endif /* PREBUILD_PROMOTION_H */
