/*
 * pool_state.c
 *	  The kept pool of an attached control plane. To read it costs by the size of the pool alone,
 *	  whatever the sizes of the tables.
 *
 *	  prebuild_pool_state holds every member as the last fold found it. The triggers log the raw id
 *	  of each touched row (pool_log.c). A fold reads the log, computes the members to which its
 *	  entries lead (pool_touched.c) and stores them. A reader combines the stored rows with what was
 *	  touched since (pool_view.c). README.md has the states of the kept pool and the proof that
 *	  answers are exact. It calls F the snapshot of the last fold that a reader sees.
 *
 *	  Locks: a fold or rebuild holds the database's advisory lock POOL_STATE_LOCK until the end of
 *	  the transaction, and takes its snapshot F after that lock. So folds run one after the other,
 *	  and each sees the one before. A fold tries to get the lock; a rebuild waits for it.
 *	  prebuild_detach() tries, too: it has locked the tables, for which a fold may be waiting.
 *	  Nobody else writes the state or removes from the log. Readers lock nothing. A fold that finds
 *	  the log empty may still write: it renews when agents were seen (pool_seen.c).
 *
 *	  A fold stores where F ends (log_from) and which transactions before that were in progress
 *	  (log_open, including its own). Every entry that F did not see is of those transactions or of
 *	  later ones. So readers need not scan earlier entries in the log's index, which stay there,
 *	  dead, as long as any old transaction lasts.
 *
 *	  Folds and rebuilds refuse to run in REPEATABLE READ and SERIALIZABLE, where the snapshot is
 *	  older than the lock.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/control_plane_catalog.h"
#include "base/events.h"
#include "base/patience.h"
#include "base/plans.h"
#include "pool/pool_forget.h"
#include "pool/pool_seen.h"
#include "pool/pool_state.h"
#include "pool/pool_touched.h"
#include "pool/pool_trust.h"
#include "settings.h"
#include "base/versions.h"

/* "prebuild" in ASCII. */
#define POOL_STATE_LOCK INT64CONST(0x7072656275696c64)

/* A fold resolves this many times more entries. With more, a rebuild is cheaper. */
#define FOLD_FACTOR 10

/* How long prebuild_fold() waits for other transactions, in milliseconds and in all. */
#define FOLD_PATIENCE_MS 2000

/* Repair triggers that miss changes. Returns whether it did. attach/ sets this. */
bool (*pool_state_mend_triggers)(void) = NULL;

/* Did the last fold of this session find triggers that miss changes? */
static bool unwatched = false;

PG_FUNCTION_INFO_V1(prebuild_fold);
PG_FUNCTION_INFO_V1(prebuild_rebuild);

/*
 * Delete the log entries that the active snapshot sees and the last fold did not see. Entries that
 * the last fold saw are gone already. Returns their number.
 */
static int64
take_off_log(const PoolTrust *trust)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, XID8OID, XID8ARRAYOID };
	Datum values[] = { ObjectIdGetDatum(trust->control_plane), trust->log_from, trust->log_open };

	return plan_execute(&plan,
						"DELETE FROM {ext}prebuild_pool_log WHERE control_plane {=} $1"
						" AND (xid {>=} $2 OR xid {=} ANY ($3))",
						PLAN_ACTIVE_OWN, 3, argtypes, values, NULL);
}

/* Store members, and where the snapshot ends that they are of: see log_from and log_open above. */
static void
store(const PoolTrust *trust, const Touched *touched)
{
	static KeptPlan insert_plan, marker_plan;
	static const Oid marker_argtypes[] = { OIDOID, TEXTOID };
	Oid argtypes[] = { OIDOID, touched->array_type };
	Datum values[] = { ObjectIdGetDatum(trust->control_plane), touched->members };
	Datum marker_values[] = { values[0], CStringGetTextDatum(trust->fingerprint) };

	plan_execute(&insert_plan,
				 "INSERT INTO {ext}prebuild_pool_state"
				 " SELECT now.* FROM pg_catalog.unnest($2) AS now WHERE $1 IS NOT NULL",
				 PLAN_FRESH_OWN, 2, argtypes, values, NULL);
	plan_execute(
		&marker_plan,
		"INSERT INTO {ext}prebuild_pool_marker AS m"
		" SELECT $1, $2, pg_catalog.pg_snapshot_xmax(seen), pg_catalog.array_append("
		"  ARRAY(SELECT pg_catalog.pg_snapshot_xip(seen)), pg_catalog.pg_current_xact_id()),"
		" (SELECT pg_catalog.count(*) FROM {ext}prebuild_pool_state s"
		"  WHERE s.control_plane {=} $1)"
		" FROM pg_catalog.pg_current_snapshot() AS seen"
		" ON CONFLICT (control_plane) DO UPDATE SET fingerprint = excluded.fingerprint,"
		" log_from = excluded.log_from, log_open = excluded.log_open,"
		" members = excluded.members",
		PLAN_ACTIVE_OWN, 2, marker_argtypes, marker_values, NULL);
}

/*
 * Rebuild the stored pool as of the active snapshot. *entries receives the number of log entries
 * that it deleted. If bounded, and the log is too long for a pass, only trim it: each call deletes
 * POOL_TRIM_ENTRIES entries and removes the members and the marker, so that no reader trusts the
 * pool meanwhile. Returns whether it did more.
 */
static bool
rebuild(const PoolTrust *trust, bool bounded, int64 *entries)
{
	EventBatch batch = { 0 };
	Touched all;

	*entries = pool_forget_log(trust->control_plane, bounded);
	pool_forget_members(trust->control_plane);
	if (bounded && *entries >= POOL_TRIM_ENTRIES)
	{
		pool_forget_marker(trust->control_plane);
		return false;
	}
	pool_touched_all(trust->control_plane, &all);
	store(trust, &all);
	if (trust->given_up)
	{
		event_add(&batch, "pool_used", NULL, NULL, NULL, "{}");
		events_write(&batch, GetCurrentTimestamp());
	}
	return true;
}

/*
 * Fold the log as of the active snapshot, or rebuild. *entries receives the number of log entries
 * that it deleted. Returns whether the stored pool is what that snapshot says.
 */
static bool
fold(const PoolTrust *trust, int64 *entries)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, UUIDARRAYOID };
	Touched touched;
	Datum values[2];

	if (!pool_touched_find(trust, FOLD_FACTOR * (POOL_FEW_ENTRIES + trust->members / 2), &touched))
		return rebuild(trust, true, entries);
	if (touched.entries == 0)
		return true;
	values[0] = ObjectIdGetDatum(trust->control_plane);
	values[1] = touched.ids;
	plan_execute(
		&plan,
		"DELETE FROM {ext}prebuild_pool_state s USING pg_catalog.unnest($2) AS touched (id)"
		" WHERE s.control_plane {=} $1 AND s.id {=} touched.id",
		PLAN_FRESH_OWN, 2, argtypes, values, NULL);
	*entries = take_off_log(trust);
	store(trust, &touched);
	return true;
}

/* Take POOL_STATE_LOCK until the end of the transaction, unless another session holds it. */
static bool
try_state_lock(void)
{
	return DatumGetBool(
		DirectFunctionCall1(pg_try_advisory_xact_lock_int8, Int64GetDatum(POOL_STATE_LOCK)));
}

/*
 * Forget a control plane that is not attached. While another session folds, leave that to the next
 * fold: to wait would be a deadlock if that session waits for the tables, which the caller has
 * locked. Needs SPI.
 */
void
pool_state_forget(void)
{
	if (!try_state_lock())
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	pool_forget_all(get_namespace_oid(setting_control_plane_schema, true));
	PopActiveSnapshot();
}

/*
 * Take the snapshot that the proof calls F. First close the current command: if it has logged
 * changes already, its snapshot would not see these entries, but later statements of the fold
 * would.
 */
static void
push_fold_snapshot(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * Repair triggers that miss changes. Returns whether it did. Never in a transaction block, because
 * the repair locks the tables until the end of the transaction.
 */
static bool
mend_triggers(void)
{
	return !IsTransactionBlock() && pool_state_mend_triggers();
}

/*
 * Do what pool_state_fold_for_pass() left for the end of a transaction: repair triggers that miss
 * changes, or report once what is wrong. Locks the tables until the end of the transaction. SPI
 * must be connected.
 */
void
pool_state_mend(void)
{
	if (unwatched && !mend_triggers())
		pool_say_given_up(get_namespace_oid(setting_control_plane_schema, false));
	unwatched = false;
}

/*
 * Bring the stored pool up to date as of the active snapshot. *entries receives the number of log
 * entries that it folded. Returns whether the stored pool is what that snapshot says.
 */
static bool
bring_up_to_date(const PoolTrust *trust, int64 *entries)
{
	int64 trimmed;

	if (trust->trusted)
	{
		bool stored = fold(trust, entries);

		if (stored)
			pool_seen_renew(trust->control_plane);
		return stored;
	}
	if (trust->fingerprint != NULL)
		return rebuild(trust, true, &trimmed);
	pool_give_up(trust);
	return false;
}

/*
 * Do what pool_state_fold() says. Returns whether the stored pool is what the snapshot of the fold
 * says. Only then, that snapshot stays active.
 */
static bool
fold_in_own_snapshot(Oid control_plane, bool mends, int64 *entries)
{
	PoolTrust trust;

	push_fold_snapshot();
	if (!pool_tables_readable())
	{
		/* others may fold it; if nobody does, its log must not grow without bound */
		pool_forget_long_logs(InvalidOid);
		PopActiveSnapshot();
		return false;
	}
	pool_forget_long_logs(control_plane);
	trust = pool_trust();
	if (trust.fingerprint == NULL && mends && mend_triggers())
	{
		PopActiveSnapshot();
		push_fold_snapshot();
		trust = pool_trust();
	}
	if (bring_up_to_date(&trust, entries))
		return true;
	unwatched = trust.fingerprint == NULL && !mends;
	if (trust.fingerprint == NULL && mends)
		pool_say_given_up(control_plane);
	PopActiveSnapshot();
	return false;
}

/* Prepare a fold. Returns the control plane, or InvalidOid if there is nothing to fold. */
static Oid
begin_fold(void)
{
	Oid control_plane = get_namespace_oid(setting_control_plane_schema, true);

	unwatched = false;
	if (!OidIsValid(control_plane) || !pool_member_known() || !try_state_lock())
		return InvalidOid;
	return control_plane;
}

/*
 * Bring the stored pool of an attached control plane up to date, and repair triggers that miss
 * changes. Rebuild the pool if it is not trusted. Give it up if the triggers no longer log every
 * change. Do nothing while another session folds, or if the installed script defines members
 * differently. Only bound the logs if the caller may not read the tables. Returns the number of log
 * entries that it folded. Must not run in REPEATABLE READ or SERIALIZABLE. SPI must be connected.
 * Holds POOL_STATE_LOCK until the end of the transaction.
 */
int64
pool_state_fold(void)
{
	Oid control_plane = begin_fold();
	int64 entries = 0;

	if (OidIsValid(control_plane) && fold_in_own_snapshot(control_plane, true, &entries))
		PopActiveSnapshot();
	return entries;
}

/*
 * The same for a pass, except that it leaves repairs to pool_state_mend(). If it returns true, the
 * snapshot of the fold stays active, and *view is the view of the stored pool in that snapshot with
 * the changes of this transaction added: see pool_view_keep(). Then it also holds AccessShareLock
 * on the tables until the end of the transaction. The view is palloc'd in the current context.
 */
bool
pool_state_fold_for_pass(PoolView *view)
{
	Oid control_plane = begin_fold();
	int64 entries = 0;
	bool held;

	if (!OidIsValid(control_plane))
		return false;
	held = pool_tables_readable() && pool_tables_hold();
	if (!fold_in_own_snapshot(control_plane, false, &entries))
		return false;
	if (held)
		*view = pool_view_of_fold(control_plane);
	else
		PopActiveSnapshot();
	return held;
}

/* Raise an error if read-only, or if the snapshot is older than the lock of the function. */
static void
require_read_committed(const char *function)
{
	PreventCommandIfReadOnly(function);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run in a transaction of isolation level %s", function,
						XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errhint("Run it in a READ COMMITTED transaction.")));
}

/* SQL: prebuild_fold() */
Datum
prebuild_fold(PG_FUNCTION_ARGS)
{
	volatile int64 entries = 0;
	int guc_level;

	require_read_committed("prebuild_fold()");
	plans_enter(fcinfo);
	guc_level = NewGUCNestLevel();
	patience_begin(FOLD_PATIENCE_MS);
	PG_TRY();
	{
		patience_arm();
		entries = pool_state_fold();
	}
	PG_FINALLY();
	{
		patience_end();
	}
	PG_END_TRY();
	AtEOXact_GUC(true, guc_level);
	plans_leave();
	PG_RETURN_INT64(entries);
}

/* SQL: prebuild_rebuild() */
Datum
prebuild_rebuild(PG_FUNCTION_ARGS)
{
	PoolTrust trust;
	int64 members;
	int64 entries;

	require_read_committed("prebuild_rebuild()");
	plans_enter(fcinfo);
	control_plane_require();
	if (!pool_member_known())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("type prebuild_pool_member does not match the loaded library"),
						errhint(VERSIONS_HINT)));
	DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(POOL_STATE_LOCK));
	push_fold_snapshot();
	trust = pool_trust();
	if (trust.fingerprint == NULL)
	{
		char *hint = NULL;
		char *fault = pool_trust_fault(trust.control_plane, &hint);

		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the control plane in schema \"%s\" is not attached%s%s",
							   setting_control_plane_schema, fault ? " correctly: " : "",
							   fault ? fault : ""),
						fault == NULL  ? errhint("Attach it with prebuild_attach().")
						: hint != NULL ? errhint("%s", hint)
									   : 0));
	}
	rebuild(&trust, false, &entries);
	PopActiveSnapshot();
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	members = pool_trust().members;
	PopActiveSnapshot();
	plans_leave();
	PG_RETURN_INT32((int32) members);
}
