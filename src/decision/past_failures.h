/*
 * past_failures.h
 *	  The extension's memory of failures: prebuild_failure and prebuild_forgiven.
 */
#ifndef PREBUILD_PAST_FAILURES_H
#define PREBUILD_PAST_FAILURES_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "base/rows.h"
#include "decision/decision.h"

extern void past_failures_read(PoolSnapshot *pool);
extern void past_failures_remember(const PoolSnapshot *pool, PoolMember *const *members, int n);
extern void past_failures_forgive(ArrayParameter *presets, ArrayParameter *until);
extern void past_failures_prune(const PoolSnapshot *pool, const DecisionSettings *settings);
extern List *past_failures_give_up(const PoolSnapshot *pool);

#endif /* PREBUILD_PAST_FAILURES_H */
