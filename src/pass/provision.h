/*
 * provision.h
 *	  Carry out a judgement in bulk: cancel, delete, create.
 */
#ifndef PREBUILD_PROVISION_H
#define PREBUILD_PROVISION_H

#include "decision/judgement.h"
#include "base/rows.h"

/* What a pass has done so far. */
typedef struct PassTotals
{
	int created;
	int deleted;
	int canceled;
	int waiting; /* new jobs that wait for a provisioner */
} PassTotals;

extern PassTotals provision_presets(const Judgement *judgement, Preset *const *presets,
									int npresets, int64_t *clock, ArrayParameter *jobs);

#endif /* PREBUILD_PROVISION_H */
