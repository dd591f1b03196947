/*
 * pool_state.c
 *	  The kept pool of an attached control plane. To read it costs by the size of the pool alone,
 *	  whatever the sizes of the tables.
 *
 *	  prebuild_pool_state holds every member as the last fold found it. The triggers log the raw id
 *	  of each touched row (pool_log.c). A reader, all in its own snapshot, reads the log, finds the
 *	  workspaces to which its entries lead, computes those from the tables, and takes the stored
 *	  rows of all others. A fold does the same and stores the result. README.md has the states of
 *	  the kept pool and the proof that answers are exact. It calls F the snapshot of the last fold
 *	  that a reader sees.
 *
 *	  Locks: a fold or rebuild holds the database's advisory lock POOL_STATE_LOCK until the end of
 *	  the transaction, and takes its snapshot F after that lock. So folds run one after the other,
 *	  and each sees the one before. A fold tries to get the lock; a rebuild waits for it.
 *	  prebuild_detach() tries, too: it has locked the tables, for which a fold may be waiting.
 *	  Nobody else writes the state or removes from the log. Readers lock nothing.
 *
 *	  A fold stores where F ends (log_from) and which transactions before that were in progress
 *	  (log_open, including its own). Every entry that F did not see is of those transactions or of
 *	  later ones. So readers need not scan earlier entries in the log's index, which stay there,
 *	  dead, as long as any old transaction lasts.
 *
 *	  Folds and rebuilds refuse to run in REPEATABLE READ and SERIALIZABLE, where the snapshot is
 *	  older than the lock. A reader in SERIALIZABLE reads the tables, so that it never conflicts
 *	  with a writer of the log. In REPEATABLE READ, a transaction that has written reads the tables,
 *	  because it may have written after the triggers of its snapshot were gone. In READ COMMITTED,
 *	  the lock that it takes on the table to write keeps the triggers as they were.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/control_plane_catalog.h"
#include "base/events.h"
#include "base/patience.h"
#include "base/plans.h"
#include "pool/pool_forget.h"
#include "pool/pool_sql.h"
#include "pool/pool_state.h"
#include "pool/pool_trust.h"
#include "base/rows.h"
#include "settings.h"
#include "base/versions.h"

/* "prebuild" in ASCII. */
#define POOL_STATE_LOCK INT64CONST(0x7072656275696c64)

/* Beyond this plus half of the members, entries cost more to resolve than they save. */
#define FEW_ENTRIES 100

/* A fold resolves this many times more entries. With more, a rebuild is cheaper. */
#define FOLD_FACTOR 10

/* How long prebuild_fold() waits for other transactions, in milliseconds and in all. */
#define FOLD_PATIENCE_MS 2000

/* Reason: a fold will make the stored pool trusted again. */
#define NOT_BUILT                                                                                  \
	"it was not built from the current tables; the next pass or prebuild_fold() rebuilds it"

/* Repair triggers that miss changes. Returns whether it did. attach/ sets this. */
bool (*pool_state_mend_triggers)(void) = NULL;

/* Did the last fold of this session find triggers that miss changes? */
static bool unwatched = false;

PG_FUNCTION_INFO_V1(prebuild_fold);
PG_FUNCTION_INFO_V1(prebuild_rebuild);
PG_FUNCTION_INFO_V1(prebuild_verify);

/* Workspaces and those of them that are members, as array datums. */
typedef struct Touched
{
	Datum ids;	   /* uuid[] */
	Datum members; /* prebuild_pool_member[]: those of the ids that are in the pool */
	Oid array_type;
	int64 entries; /* of the log that led to them */
} Touched;

/* Copy a statement's array (empty for NULL, of no rows), so that it outlives the statement. */
static Datum
copy_array(int column, Oid *type)
{
	bool null;
	Datum value = row_value(0, column, &null);

	*type = SPI_gettypeid(SPI_tuptable->tupdesc, column);
	if (null)
		return PointerGetDatum(construct_empty_array(get_element_type(*type)));
	return datumCopy(value, false, -1);
}

/*
 * Read the log in the active snapshot, at most this many entries, into an array of ids for each
 * kind. Returns false if there are more, or if the log has a TRUNCATE: then read the tables.
 */
static bool
read_log(const PoolTrust *trust, int64 most, Datum *by_kind, int64 *entries)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, XID8OID, XID8ARRAYOID, INT8OID };
	Datum values[] = { ObjectIdGetDatum(trust->control_plane), trust->log_from, trust->log_open,
					   Int64GetDatum(most + 1) };
	bool truncated;
	Oid type;

	plan_execute(
		&plan,
		"SELECT pg_catalog.count(*),"
		" pg_catalog.array_agg(DISTINCT l.id) FILTER (WHERE l.kind {=} 'w'),"
		" pg_catalog.array_agg(DISTINCT l.id) FILTER (WHERE l.kind {=} 'j'),"
		" pg_catalog.array_agg(DISTINCT l.id) FILTER (WHERE l.kind {=} 'r'),"
		" COALESCE(pg_catalog.bool_or(l.kind {=} 't'), false)"
		" FROM (SELECT e.kind, e.id FROM {ext}prebuild_pool_log e"
		"  WHERE e.xid {>=} $2 AND e.control_plane {=} $1"
		" UNION ALL SELECT e.kind, e.id FROM {ext}prebuild_pool_log e"
		"  WHERE e.xid {=} ANY ($3) AND e.xid {<} $2 AND e.control_plane {=} $1 LIMIT $4) l",
		PLAN_READ_OWN, 4, argtypes, values, NULL);
	*entries = DatumGetInt64(row_get(0, 1));
	for (int i = 0; i < 3; i++)
		by_kind[i] = copy_array(2 + i, &type);
	truncated = DatumGetBool(row_get(0, 5));
	SPI_freetuptable(SPI_tuptable);
	return *entries <= most && !truncated;
}

/*
 * Compute from the tables the workspaces to which the log's entries lead, and which of them are in
 * the pool. Uses the active snapshot and the caller's rights.
 */
static void
compute_touched(Oid control_plane, const Datum *by_kind, Touched *touched)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID };
	Datum values[] = { ObjectIdGetDatum(control_plane), by_kind[0], by_kind[1], by_kind[2] };
	Oid type;

/* OFFSET 0 makes the planner join by index probes only, as elsewhere in the pool. */
#define BUILD_OF(job)                                                                              \
	"LATERAL (SELECT wb.workspace_id FROM {cp}workspace_builds wb WHERE wb.job_id {=} " job        \
	" OFFSET 0) b"
	plan_execute(
		&plan,
		"WITH touched AS MATERIALIZED ("
		" SELECT l.id FROM pg_catalog.unnest($2) AS l (id)"
		" UNION SELECT b.workspace_id FROM pg_catalog.unnest($3) AS l (id), " BUILD_OF(
			"l.id") " UNION SELECT b.workspace_id FROM pg_catalog.unnest($4) AS l (id),"
					"  LATERAL (SELECT wr.job_id FROM {cp}workspace_resources wr WHERE wr.id {=} l.id"
					"   OFFSET 0) r, " BUILD_OF(
						"r.job_id") ")"
									" SELECT (SELECT pg_catalog.array_agg(t.id) FROM touched t), pg_catalog.array_agg(" MEMBER
									") FROM touched t, LATERAL (SELECT o.id, o.owner_id, o.deleted, o.name, o.template_id,"
									"  o.created_at FROM {cp}workspaces o WHERE o.id {=} t.id OFFSET 0) w"
									" LEFT JOIN" LATEST_BUILD " ON true WHERE " IS_IN_POOL,
		PLAN_READ, 4, argtypes, values, NULL);
	touched->ids = copy_array(1, &type);
	touched->members = copy_array(2, &touched->array_type);
	SPI_freetuptable(SPI_tuptable);
}

/* Compute all members from the tables, in the active snapshot and with the caller's rights. */
static void
compute_all(Oid control_plane, Touched *all)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID };
	Datum values[] = { ObjectIdGetDatum(control_plane) };

	plan_execute(&plan, "SELECT pg_catalog.array_agg(" MEMBER ")" POOL_JOIN_LATEST_BUILD("LEFT"),
				 PLAN_READ, 1, argtypes, values, NULL);
	all->members = copy_array(1, &all->array_type);
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Compute the members that were touched since the last fold, in the active snapshot, from at most
 * this many entries of the log. Returns false as read_log() does.
 */
static bool
find_touched(const PoolTrust *trust, int64 most, Touched *touched)
{
	Datum by_kind[3];

	if (!read_log(trust, most, by_kind, &touched->entries))
		return false;
	compute_touched(trust->control_plane, by_kind, touched);
	return true;
}

/*
 * Do what pool_state_view() says. If the stored pool cannot be used, *reason receives the reason,
 * as the end of a sentence, or NULL if there is no fingerprint: then pool_state_distrust_reason()
 * knows more.
 */
static bool
open_view(PoolView *view, const char **reason)
{
	PoolTrust trust;
	Touched touched;

	if (XactIsoLevel == XACT_SERIALIZABLE)
		*reason = "the transaction is SERIALIZABLE";
	else if (!pool_member_known())
		*reason =
			"the loaded library and the installed version of the extension define pool members "
			"differently";
	else if (!pool_tables_readable())
		*reason = "the current role may not read all rows of its tables";
	else if (!pool_tables_at_rest())
		*reason = "a statement of this session is changing its tables";
	/* the triggers that logged its writes may not be the ones that its snapshot sees */
	else if (IsolationUsesXactSnapshot() && TransactionIdIsValid(GetTopTransactionIdIfAny()))
		*reason = "the transaction is REPEATABLE READ and has written";
	else if (!(trust = pool_trust()).trusted)
		*reason = trust.fingerprint != NULL ? NOT_BUILT : NULL;
	else if (!find_touched(&trust, FEW_ENTRIES + trust.members / 2, &touched))
		*reason = "too much has changed since the last fold";
	else
	{
		view->argtypes[0] = OIDOID;
		view->values[0] = ObjectIdGetDatum(trust.control_plane);
		view->argtypes[1] = UUIDARRAYOID;
		view->values[1] = touched.ids;
		view->argtypes[2] = touched.array_type;
		view->values[2] = touched.members;
		return true;
	}
	return false;
}

/*
 * Open the stored pool in the active snapshot. Returns false if it cannot be used or is not worth
 * it; then read the tables, which give the same answers. SPI must be connected. The view is
 * palloc'd in the current context.
 */
bool
pool_state_view(PoolView *view)
{
	const char *reason;

	return open_view(view, &reason);
}

/*
 * Find out why no reader uses the stored pool of the control plane. Returns the reason as the end
 * of a sentence, or NULL if readers use it or the control plane is not attached. *hint receives
 * what to do about it, or NULL. Reads only catalogs and own tables, with the rights of the
 * extension's owner, in the active snapshot. SPI must be connected (plans_enter()). Results are
 * palloc'd in the current context.
 */
const char *
pool_state_distrust_reason(char **hint)
{
	PoolTrust trust;

	*hint = NULL;
	if (!OidIsValid(get_namespace_oid(setting_control_plane_schema, true)))
		return NULL;
	trust = pool_trust();
	if (trust.trusted)
		return NULL;
	return trust.fingerprint != NULL ? NOT_BUILT : pool_trust_fault(trust.control_plane, hint);
}

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
 * Rebuild the stored pool as of the active snapshot. Returns the number of log entries that it
 * deleted. If bounded, and the log is too long for a pass, only trim it: each call deletes
 * POOL_TRIM_ENTRIES entries and removes the members and the marker, so that no reader trusts the
 * pool meanwhile.
 */
static int64
rebuild(const PoolTrust *trust, bool bounded)
{
	int64 entries = pool_forget_log(trust->control_plane, bounded);
	EventBatch batch = { 0 };
	Touched all;

	pool_forget_members(trust->control_plane);
	if (bounded && entries >= POOL_TRIM_ENTRIES)
	{
		pool_forget_marker(trust->control_plane);
		return entries;
	}
	compute_all(trust->control_plane, &all);
	store(trust, &all);
	if (trust->given_up)
	{
		event_add(&batch, "pool_used", NULL, NULL, NULL, "{}");
		events_write(&batch, GetCurrentTimestamp());
	}
	return entries;
}

/* Fold the log as of the active snapshot, or rebuild. Returns the number of log entries taken. */
static int64
fold(const PoolTrust *trust)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, UUIDARRAYOID };
	Touched touched;
	Datum values[2];
	int64 entries;

	if (!find_touched(trust, FOLD_FACTOR * (FEW_ENTRIES + trust->members / 2), &touched))
		return rebuild(trust, true);
	if (touched.entries == 0)
		return 0;
	values[0] = ObjectIdGetDatum(trust->control_plane);
	values[1] = touched.ids;
	plan_execute(
		&plan,
		"DELETE FROM {ext}prebuild_pool_state s USING pg_catalog.unnest($2) AS touched (id)"
		" WHERE s.control_plane {=} $1 AND s.id {=} touched.id",
		PLAN_FRESH_OWN, 2, argtypes, values, NULL);
	entries = take_off_log(trust);
	store(trust, &touched);
	return entries;
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
 * Do what pool_state_fold(false) left for the end of a transaction: repair triggers that miss
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
 * Bring the stored pool of an attached control plane up to date. Rebuild it if it is not trusted.
 * Give it up if the triggers no longer log every change. Do nothing while another session folds, or
 * if the installed script defines members differently. Only bound the logs if the caller may not
 * read the tables. If mends, repair triggers now; otherwise leave that to pool_state_mend().
 * Returns the number of log entries that it folded. Must not run in REPEATABLE READ or
 * SERIALIZABLE. SPI must be connected. Holds POOL_STATE_LOCK until the end of the transaction.
 */
int64
pool_state_fold(bool mends)
{
	Oid control_plane = get_namespace_oid(setting_control_plane_schema, true);
	int64 entries = 0;
	PoolTrust trust;

	unwatched = false;
	if (!OidIsValid(control_plane) || !pool_member_known() || !try_state_lock())
		return 0;
	push_fold_snapshot();
	if (!pool_tables_readable())
	{
		/* others may fold it; if nobody does, its log must not grow without bound */
		pool_forget_long_logs(InvalidOid);
		PopActiveSnapshot();
		return 0;
	}
	pool_forget_long_logs(control_plane);
	trust = pool_trust();
	if (trust.fingerprint == NULL && mends && mend_triggers())
	{
		PopActiveSnapshot();
		push_fold_snapshot();
		trust = pool_trust();
	}
	if (trust.trusted)
		entries = fold(&trust);
	else if (trust.fingerprint != NULL)
		rebuild(&trust, true);
	else
		pool_give_up(&trust);
	unwatched = trust.fingerprint == NULL && !mends;
	if (trust.fingerprint == NULL && mends)
		pool_say_given_up(control_plane);
	PopActiveSnapshot();
	return entries;
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
		entries = pool_state_fold(true);
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
	rebuild(&trust, false);
	PopActiveSnapshot();
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	members = pool_trust().members;
	PopActiveSnapshot();
	plans_leave();
	PG_RETURN_INT32((int32) members);
}

/*
 * Report that there is nothing to compare, and why: as a WARNING if an operator has to act,
 * otherwise as a NOTICE. reason: from open_view().
 */
static void
say_not_in_use(const char *reason)
{
	char *hint = NULL;
	const char *fault = reason ? NULL : pool_state_distrust_reason(&hint);

	ereport(
		fault ? WARNING : NOTICE,
		(errcode(fault ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_SUCCESSFUL_COMPLETION),
		 errmsg("the stored pool of the control plane in schema \"%s\" is not in use: %s",
				setting_control_plane_schema,
				fault	 ? fault
				: reason ? reason
						 : "the control plane is not attached"),
		 errdetail("The extension reads the control plane's tables instead."),
		 hint ? errhint("%s", hint) : 0));
}

/* SQL: prebuild_verify() */
Datum
prebuild_verify(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *reason;
	PoolView view;
	Touched all;
	Oid argtypes[4];
	Datum values[4];

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	if (open_view(&view, &reason))
	{
		compute_all(DatumGetObjectId(view.values[0]), &all);
		memcpy(argtypes, view.argtypes, sizeof(view.argtypes));
		memcpy(values, view.values, sizeof(view.values));
		argtypes[3] = all.array_type;
		values[3] = all.members;
		plan_into_set(&plan,
					  "SELECT COALESCE(m.id, d.id), m::{ext}prebuild_pool_member,"
					  " d::{ext}prebuild_pool_member FROM" STORED_MEMBERS
					  " FULL JOIN pg_catalog.unnest($4) AS d ON d.id {=} m.id"
					  " WHERE ROW(m.*) IS DISTINCT FROM ROW(d.*) ORDER BY 1",
					  PLAN_READ_OWN, 4, argtypes, values, NULL, rsinfo);
	}
	else
		say_not_in_use(reason);
	plans_leave();
	return (Datum) 0;
}
