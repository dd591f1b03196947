/*
 * pool_state.h
 *	  Keeps the pool of attached control planes: fold, rebuild, mend. See README.md.
 */
#ifndef PREBUILD_POOL_STATE_H
#define PREBUILD_POOL_STATE_H

#include "postgres.h"

#include "pool/pool_view.h"

extern bool (*pool_state_mend_triggers)(void);

extern int64 pool_state_fold(void);
extern bool pool_state_fold_for_pass(PoolView *view);
extern void pool_state_mend(void);
extern void pool_state_forget(void);

#endif /* PREBUILD_POOL_STATE_H */
