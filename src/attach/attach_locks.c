/*
 * attach_locks.c
 *	  Locking the control plane's tables for what is to do about the extension's triggers there.
 *
 * Locking contract: what is to do is found out without locks, so that nothing to do takes none.
 * Otherwise all tables concerned are locked in the order of the list in attached_triggers.c, in a
 * subtransaction that waits for all of them together well under deadlock_timeout: a session that
 * waits for one of our locks is never held up for long, and a deadlock resolves itself by our giving
 * up. Then we try again after a pause. What is to do is found out once more under the locks. To
 * create or replace a trigger takes a lock that readers do not mind (ShareRowExclusive); only to drop
 * one takes the lock that everybody minds (AccessExclusive), as in PostgreSQL itself.
 */
#include "compat.h"

#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "attach/attach_locks.h"
#include "settings.h"
#include "base/subtransaction.h"

/* One try for all locks takes at most this, and at most half of deadlock_timeout. */
#define MAX_TRY_MS 500

/* Bounds of the random pause between two tries. */
#define MIN_PAUSE_MS 20
#define MAX_PAUSE_MS 250

/* Lock a table, for which we wait until a time at most. */
static void
lock_table(Oid table, LOCKMODE mode, TimestampTz until)
{
	char timeout[32];

	snprintf(timeout, sizeof(timeout), "%ldms",
			 Max(1, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until)));
	set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
	LockRelationOid(table, mode);
}

/* Lock what the plan concerns, each table once and in the strongest mode that it needs. */
static void
lock_tables(const AttachPlan *plan, TimestampTz until)
{
	for (int i = 0; i < plan->n; i++)
	{
		LOCKMODE mode = NoLock;
		bool first = true;

		for (int j = 0; j < plan->n; j++)
		{
			if (plan->tables[j] != plan->tables[i] || plan->work[j] == WORK_NONE)
				continue;
			if (j < i)
				first = false;
			mode = Max(mode, plan->work[j] == WORK_CREATE || plan->work[j] == WORK_REPLACE
								 ? ShareRowExclusiveLock
								 : AccessExclusiveLock);
		}
		if (first && mode != NoLock)
			lock_table(plan->tables[i], mode, until);
	}
}

/* Lock and do what is to do, with a lock timeout. */
static void
lock_and_carry_out(const AttachOptions *options, const AttachPlan *plan)
{
	int nest_level = NewGUCNestLevel();
	TimestampTz until =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(MAX_TRY_MS, DeadlockTimeout / 2));
	AttachPlan current;

	lock_tables(plan, until);
	/* another session may have attached or detached meanwhile */
	current = attached_triggers_plan(options);
	lock_tables(&current, until);
	attached_triggers_carry_out(&current);
	AtEOXact_GUC(true, nest_level);
}

/* What one try is about. */
typedef struct Try
{
	const AttachOptions *options;
	const AttachPlan *plan;
} Try;

static bool
try_work(void *argument)
{
	const Try *try = argument;

	lock_and_carry_out(try->options, try->plan);
	return true;
}

/*
 * One try, in a subtransaction: false when a lock was not to be had, with all locks given back.
 */
static bool
try_once(const AttachOptions *options, const AttachPlan *plan)
{
	Try try = { options, plan };
	ErrorData *error = subtransaction_run(try_work, &try);

	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* Wait a random time, so that two sessions that are in each other's way part. */
static void
pause_randomly(void)
{
	uint32 random = 0;

	(void) pg_strong_random(&random, sizeof(random));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 MIN_PAUSE_MS + random % (MAX_PAUSE_MS - MIN_PAUSE_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Bring the triggers into the state that the options ask for (NULL: none). Returns false when there
 * was nothing to do. An error where the locks are not to be had within prebuild.attach_timeout.
 * SPI is connected.
 */
bool
attach_apply(const AttachOptions *options)
{
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), setting_attach_timeout);

	for (;;)
	{
		AttachPlan plan = attached_triggers_plan(options);

		if (!plan.any)
			return false;
		if (try_once(options, &plan))
			return true;
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
							errmsg("could not lock the control plane's tables within %d ms",
								   setting_attach_timeout),
							errhint("A long transaction holds one of them: see pg_locks, or raise "
									"prebuild.attach_timeout.")));
		pause_randomly();
	}
}

/*
 * Put right those triggers that are there, by one try: what DISABLE and ENABLE TRIGGER have made of
 * them, and what a BEFORE trigger that was added since asks for. Returns whether there was something
 * and it is done; false where the current user does not own the tables, or the locks are not to be
 * had. SPI is connected. Holds the locks to the end of the transaction.
 */
bool
attach_mend(void)
{
	static const AttachOptions options = { .mend = true };
	AttachPlan plan = attached_triggers_plan(&options);
	Try try = { &options, &plan };
	ErrorData *error;

	if (!plan.any)
		return false;
	error = subtransaction_run(try_work, &try);
	if (error == NULL)
		return true;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	ereport(DEBUG1, (errmsg_internal("triggers not mended: %s", error->message)));
	FreeErrorData(error);
	return false;
}
