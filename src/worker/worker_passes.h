/*
 * worker_passes.h
 *	  The passes and folds of the pass worker: when they are due, and their results.
 */
#ifndef PREBUILD_WORKER_PASSES_H
#define PREBUILD_WORKER_PASSES_H

#include "postgres.h"

#include "utils/timestamp.h"

typedef struct PassWork
{
	int number;
	TimestampTz last_pass;
	TimestampTz last_fold;
} PassWork;

extern void pass_work_init(PassWork *work, int number);
extern TimestampTz pass_work_next(const PassWork *work);
extern void pass_work_do(PassWork *work);

#endif /* PREBUILD_WORKER_PASSES_H */
