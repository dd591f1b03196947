/*
 * pass.h
 *	  The steps of a pass.
 */
#ifndef PREBUILD_PASS_H
#define PREBUILD_PASS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#include "base/rows.h"
#include "decision/judgement.h"
#include "pass/provision.h"
#include "pool/pool_view.h"

/* How long a pass waits for other sessions in total, in milliseconds. */
#define PASS_PATIENCE_MS 2000

/* A pass under way. */
typedef struct Pass
{
	TimestampTz at;
	TimestampTz began; /* by the real clock */
	bool paused;
	bool folded; /* in the snapshot of the fold, of which this is the view */
	PoolView view;

	/* what to do */
	Judgement *judgement;
	Id *organizations; /* that the system user must join */
	int norganizations;
	Preset **presets; /* those with something to do */
	int npresets;
	const Stage **stages; /* that end or become active */
	int nstages;
	const char **checked; /* tables whose deferred constraints are checked */
	int nchecked;

	/* what it has done */
	int64_t clock; /* time of the next new row */
	PassTotals totals;
	ArrayParameter *jobs; /* new jobs: totals.waiting valid ones, then those of an undone try */
	int njudged;		  /* presets of the judgement, once the pass has written them */
	int reconciled;
	int backing_off;
	int failed;

	/* what it left, because of a lock of another session */
	int locked_out;		 /* presets with something to do */
	int left_places;	 /* organizations to join */
	StringInfoData left; /* what else, as a list in words */
} Pass;

extern void pass_refresh_pool(Pass *pass);
extern void pass_run(Pass *pass);

#endif /* PREBUILD_PASS_H */
