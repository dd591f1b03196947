/*
 * attach_locks.c
 *	  Lock the control plane's tables to create, replace or drop the extension's triggers there.
 *
 * Locking contract: find out what to do without locks, so that a call with nothing to do takes
 * none. Otherwise lock all tables concerned, in the order of the list in attached_triggers.c, in
 * a subtransaction that waits for all of them together well under deadlock_timeout. A session
 * that waits for one of our locks then never waits for long, and a deadlock resolves itself
 * because we give up. Then try again after a pause. Find out once more, under the locks, what to
 * do. Creating or replacing a trigger takes a lock that lets readers pass (ShareRowExclusive).
 * Only dropping one takes the lock that blocks everybody (AccessExclusive), as in PostgreSQL
 * itself.
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

/* Lock a table. until: when to stop waiting for the lock. */
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

/* Lock the tables that a plan concerns, each once and in the strongest mode that it needs. */
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

/* Take the locks, with a lock timeout, and carry out the plan. */
static void
lock_and_carry_out(uint32 options, const AttachPlan *plan)
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

/* The arguments of one try. */
typedef struct Try
{
	uint32 options;
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
 * Try once, in a subtransaction. Returns false, and releases all locks, if it did not get a lock.
 */
static bool
try_once(uint32 options, const AttachPlan *plan)
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

/* Wait for a random time, so that two sessions that are in each other's way part. */
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
 * Bring the triggers into the state that the options ask for (ATTACH bits; 0: none). Returns
 * false if there was nothing to do. Raises lock_not_available if it does not get the locks within
 * prebuild.attach_timeout. SPI must be connected. Holds the locks until the end of the
 * transaction.
 */
bool
attach_apply(uint32 options)
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
							errhint("A long transaction holds a lock on one of them. Find it in "
									"pg_locks, or increase prebuild.attach_timeout.")));
		pause_randomly();
	}
}

/*
 * Mend the triggers that exist, in one try: those that DISABLE and ENABLE TRIGGER changed, and
 * those that must change because of a BEFORE trigger added since. Returns true if there was
 * something to mend and it is done. Returns false if there was not, if the current user does not
 * own the tables, or if the try failed, for example because it did not get the locks. Raises only
 * operator interventions. SPI must be connected. Holds the locks until the end of the
 * transaction.
 */
bool
attach_mend(void)
{
	AttachPlan plan = attached_triggers_plan(ATTACH_MEND);
	Try try = { ATTACH_MEND, &plan };
	ErrorData *error;

	if (!plan.any)
		return false;
	error = subtransaction_run(try_work, &try);
	if (error == NULL)
		return true;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	ereport(DEBUG1, (errmsg_internal("could not repair triggers: %s", error->message)));
	FreeErrorData(error);
	return false;
}
