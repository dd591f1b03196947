/*
 * promotion.h
 *	  Make staged versions active, and end stages.
 */
#ifndef PREBUILD_PROMOTION_H
#define PREBUILD_PROMOTION_H

#include "decision/judgement.h"
#include "decision/stages.h"

extern int promotion_due(const Judgement *judgement, int *stages);
extern void promotion_write(const Judgement *judgement, const int *stages, int n);
extern bool promotion_by_hand(const Stage *stage, TimestampTz at, bool forced);
extern char *stage_event_detail(const Stage *stage, const char *more);

#endif /* PREBUILD_PROMOTION_H */
