/*
 * patience.c
 *	  How long a piece of work waits for other sessions, in all.
 *
 *	  The server's lock_timeout bounds each single wait, so work of many statements, tries and
 *	  subtransactions may wait many times as long. Here a piece of work has one budget for all of
 *	  its waits. A timer ticks while the work runs. A tick that finds the process waiting for a
 *	  lock counts. It also notes which lock it is, because the error will not say. The tick that
 *	  uses up the budget ends the wait through the server's own lock timeout, so the error is the
 *	  usual one. The first wait that ends so takes all patience away: what the work tries after it
 *	  fails on every lock that is not free.
 *
 *	  A session that has set a lock_timeout keeps it for each wait, and the budget is then at
 *	  least as long. The lock_timeout of our own worker does not count so, because no user chose
 *	  it.
 *
 *	  Locks: this takes none. The tick is a signal handler. It reads which lock its own process
 *	  waits for. The lock stays in shared memory while this process waits for it or holds it, and
 *	  the process can end neither while its handler runs. The state below belongs to this process
 *	  alone.
 */
#include "compat.h"

#include "access/transam.h"
#include "lib/stringinfo.h"
#include "postmaster/bgworker.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/patience.h"

/* Bounds of the time between two ticks. */
#define MIN_TICK_MS 1
#define MAX_TICK_MS 10

/* How long to wait for a lock without patience: the shortest time that the server knows. */
#define NO_PATIENCE_MS 1

/* Work without patience ends after its budget divided by this. */
#define REST_DIVISOR 2

/* The work under way. The fields that a tick writes are volatile. */
typedef struct Patience
{
	int depth;			   /* nested works; only the outermost counts */
	int budget_ms;		   /* for all waits together */
	int per_wait_ms;	   /* the session's own lock_timeout, or the budget */
	int tick_ms;		   /* time between two ticks */
	bool lost;			   /* the work gave up a wait */
	TimestampTz until;	   /* if lost: when work without patience ends */
	bool on_table;		   /* if lost: to a lock on a whole table */
	char *report;		   /* if lost: what the work waited for; palloc'd in context */
	MemoryContext context; /* of the outermost work's caller: it outlives every try */

	volatile int waited_ms;
	volatile bool noted; /* a tick has set tag and mode */
	volatile LOCKTAG tag;
	volatile LOCKMODE mode;
} Patience;

static Patience patience;

/* The timer. We register it when we first need it, because the server has few. */
static TimeoutId timer = MAX_TIMEOUTS;

/* Signal handler: look whether this process waits for a lock, and if so, count it. */
static void
tick(void)
{
	LOCK *lock;

	/* an exiting process no longer waits for anything */
	if (MyProc == NULL)
		return;

	/*
	 * The process may still be waiting while the lock timeout is active. Only then may we make
	 * the timeout end sooner; otherwise it would end something else.
	 */
	lock = MyProc->waitLock;
	if (lock != NULL && get_timeout_active(LOCK_TIMEOUT))
	{
		patience.tag = lock->tag;
		patience.mode = MyProc->waitLockMode;
		patience.noted = true;
		patience.waited_ms += patience.tick_ms;
		if (patience.waited_ms >= patience.budget_ms)
			enable_timeout_after(LOCK_TIMEOUT, 1);
	}
	enable_timeout_after(timer, patience.tick_ms);
}

/* Is this a background worker of ours? */
static bool
in_own_worker(void)
{
	return MyBgworkerEntry != NULL &&
		   strcmp(MyBgworkerEntry->bgw_library_name, "prebuild_ext") == 0;
}

/*
 * Begin a piece of work that waits at most budget_ms milliseconds in all. The caller must call
 * patience_end(), however the work ends. Within another piece of work, only the outer budget
 * counts.
 */
void
patience_begin(int budget_ms)
{
	if (patience.depth++ > 0)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, tick);
	patience.budget_ms = budget_ms;
	patience.per_wait_ms = budget_ms;
	if (LockTimeout > 0 && !in_own_worker())
	{
		patience.budget_ms = Max(budget_ms, LockTimeout);
		patience.per_wait_ms = LockTimeout;
	}
	patience.tick_ms = Max(MIN_TICK_MS, Min(MAX_TICK_MS, patience.per_wait_ms / 8));
	patience.lost = false;
	patience.on_table = false;
	patience.report = NULL;
	patience.context = CurrentMemoryContext;
	patience.waited_ms = 0;
	patience.noted = false;
	enable_timeout_after(timer, patience.tick_ms);
}

/*
 * Set lock_timeout to what the work under way may wait now. Call this after patience_begin() and
 * after patience_lose(), in a GUC nest level that the caller closes.
 */
void
patience_arm(void)
{
	char timeout[32];

	snprintf(timeout, sizeof(timeout), "%dms",
			 patience.lost ? NO_PATIENCE_MS : patience.per_wait_ms);
	set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
}

/* End what patience_begin() began, after an error too. Raises nothing. */
void
patience_end(void)
{
	if (--patience.depth > 0)
		return;
	disable_timeout(timer, false);
	/* the report's memory belongs to the work */
	patience.report = NULL;
}

/* Append the name of a session that is in the way. pid 0: a prepared transaction. */
static void
append_session(StringInfo sessions, int pid, const char *what)
{
	if (sessions->len > 0)
		appendStringInfoString(sessions, ", ");
	if (pid == 0)
		appendStringInfo(sessions, "a prepared transaction (%s)", what);
	else
		appendStringInfo(sessions, "process %d (%s)", pid, what);
}

/*
 * Describe who keeps this process from the lock, each with a mode: the sessions that hold it or,
 * if none holds it against us, those that wait in front. palloc'd.
 */
static char *
sessions_in_the_way(const LOCKTAG *tag, LOCKMODE mode)
{
	LockData *locks = GetLockStatusData();
	StringInfoData holders;
	StringInfoData waiters;

	initStringInfo(&holders);
	initStringInfo(&waiters);
	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		LOCKMODE strongest = NoLock;

		CHECK_FOR_INTERRUPTS();
		if (lock->pid == MyProcPid || memcmp(&lock->locktag, tag, sizeof(LOCKTAG)) != 0)
			continue;
		for (LOCKMODE held = AccessShareLock; held <= AccessExclusiveLock; held++)
			if ((lock->holdMask & LOCKBIT_ON(held)) && DoLockModesConflict(held, mode))
				strongest = held;
		if (strongest != NoLock)
			append_session(&holders, lock->pid,
						   GetLockmodeName(tag->locktag_lockmethodid, strongest));
		else if (lock->waitLockMode != NoLock && DoLockModesConflict(lock->waitLockMode, mode))
			append_session(&waiters, lock->pid,
						   GetLockmodeName(tag->locktag_lockmethodid, lock->waitLockMode));
	}
	if (holders.len > 0)
		return psprintf("held by %s", holders.data);
	if (waiters.len > 0)
		return psprintf("for which other sessions wait in front: %s", waiters.data);
	return pstrdup("which no session holds any longer");
}

/*
 * Describe what a lock is on: a table or a row by the table's name, anything else in the server's
 * words. palloc'd.
 */
static char *
locked_object(const LOCKTAG *tag)
{
	bool is_row = tag->locktag_type == LOCKTAG_TUPLE;
	StringInfoData object;

	if ((is_row || tag->locktag_type == LOCKTAG_RELATION) && tag->locktag_field1 == MyDatabaseId)
	{
		char *name = get_rel_name(tag->locktag_field2);
		char *schema = get_namespace_name(get_rel_namespace(tag->locktag_field2));

		if (name != NULL && schema != NULL)
			return psprintf("%stable \"%s.%s\"", is_row ? "a row of " : "", schema, name);
	}
	initStringInfo(&object);
	DescribeLockTag(&object, tag);
	return object.data;
}

/* Describe what the work waited for, in sentences. error: what ended the wait. palloc'd. */
static char *
describe_wait(const ErrorData *error)
{
	LOCKTAG tag = patience.tag;
	StringInfoData report;

	initStringInfo(&report);
	appendStringInfo(&report, "The session waited for %s on %s",
					 GetLockmodeName(tag.locktag_lockmethodid, patience.mode), locked_object(&tag));
	/* the server's own words say which row it is */
	if (tag.locktag_type == LOCKTAG_TRANSACTION && error->context != NULL)
		appendStringInfo(&report, " (%.*s)", (int) strcspn(error->context, "\n"), error->context);
	appendStringInfo(&report, ", %s.", sessions_in_the_way(&tag, patience.mode));
	return report.data;
}

/* Did the server's lock timeout raise the error, rather than code that refused to wait at all? */
static bool
is_from_waiting(const ErrorData *error)
{
	return error->funcname != NULL && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/*
 * Did a subtransaction end because it did not get a lock? Then the work under way loses its
 * patience, and the report describes the first such error. Call this right after the
 * subtransaction, outside of it. Call patience_arm() before trying more.
 */
bool
patience_lose(const ErrorData *error)
{
	char *report;

	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return false;
	if (patience.lost || patience.depth == 0)
		return true;
	patience.lost = true;
	patience.until =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience.budget_ms / REST_DIVISOR);
	if (patience.noted && is_from_waiting(error))
	{
		patience.on_table = patience.tag.locktag_type == LOCKTAG_RELATION;
		report = describe_wait(error);
	}
	else
		report = psprintf("The error was: %s.", error->message);
	/* this may be nested work, whose memory will be gone */
	patience.report = MemoryContextStrdup(patience.context, report);
	pfree(report);
	return true;
}

/* Has the work under way given up a wait? */
static bool
is_lost(void)
{
	return patience.depth > 0 && patience.lost;
}

/*
 * Is there no point in trying more? Yes after a wait for a whole table, because everything else
 * will need that table as well. Yes also when even the tries without patience have taken too
 * long.
 */
bool
patience_is_over(void)
{
	return is_lost() && (patience.on_table || GetCurrentTimestamp() >= patience.until);
}

/* Return what the work waited for when it gave up, in sentences; NULL if it has not given up. */
const char *
patience_report(void)
{
	return is_lost() ? patience.report : NULL;
}

/*
 * Do some work in a subtransaction, waiting at most budget_ms milliseconds in all. SPI must be
 * connected. Raises what the work raises. If that is a lock that it did not get, the error's
 * detail says what the lock is on and who holds it.
 */
void
patience_run(int budget_ms, SubtransactionWork work, void *argument)
{
	int guc_level = NewGUCNestLevel();
	ErrorData *volatile error = NULL;

	patience_begin(budget_ms);
	PG_TRY();
	{
		patience_arm();
		error = subtransaction_run(work, argument);
		if (error != NULL && patience_lose(error) && patience_report() != NULL)
		{
			error->detail = pstrdup(patience_report());
			error->hint =
				pstrdup("pg_stat_activity shows what these sessions do. Set lock_timeout to "
						"wait longer.");
		}
	}
	PG_FINALLY();
	{
		patience_end();
	}
	PG_END_TRY();
	if (error != NULL)
		ReThrowError(error);
	AtEOXact_GUC(true, guc_level);
}
