/*
 * pool_state.c
 *	  The pool as it is kept for attached control planes: to read it costs by the size of the pool
 *	  alone, whatever the sizes of the tables.
 *
 *	  prebuild_pool_state has every member as the last fold found it. The triggers log the raw id of
 *	  each row that is touched (pool_log.c). A reader takes, all in its own snapshot, the log,
 *	  works out which workspaces it is about, computes those from the tables, and takes the stored
 *	  rows of all others. A fold does the same and stores the outcome.
 *
 *	  Why that is exact. A member's row depends on its workspace, the workspace's builds, the job of
 *	  the latest of these, the job's resources and their agents. Let S be a reader's snapshot and F
 *	  that of the last fold that S sees; S sees all that F saw, and the log entries that S sees are
 *	  those of changes that F did not see. If the row of workspace w differs between F and S, take
 *	  the chain of rows from w down to one that has changed, as it was in F or is in S, and in it
 *	  the changed row next to w. Its entry names the id by which it hung, or hangs, on the row
 *	  above (both are logged), and everything above is the same in F and S: so S finds w from it.
 *	  Entries that lead nowhere in S are of no consequence in S; whatever makes them lead somewhere
 *	  later is a change that is logged itself.
 *
 *	  A transaction's own changes are logged like all others. But in REPEATABLE READ they may come
 *	  when the triggers of its snapshot are gone: once it has written, it asks the tables. (In READ
 *	  COMMITTED its lock on the table keeps the triggers as they were for its writing.)
 *
 *	  Locks: who folds or rebuilds holds the advisory lock POOL_STATE_LOCK of the database until
 *	  the end of the transaction and takes the snapshot F after that, so that the folds are in a
 *	  row and each sees the one before. A fold tries, a rebuild waits. Nobody else writes the state
 *	  or removes from the log. Readers lock nothing. A fold notes where F ends (log_from) and which
 *	  transactions before that were under way (log_open, its own among them): entries that F did
 *	  not see are of those, so nobody looks at what else was in the log's index before, which
 *	  stays there, dead, while any old transaction lasts. Folds and rebuilds are refused in
 *	  REPEATABLE READ and SERIALIZABLE, whose snapshot is older than the lock; a reader in
 *	  SERIALIZABLE asks the tables, so that nobody who writes to the log conflicts with it.
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

/* With more of them than this and half of the members, entries cost more than they spare. */
#define FEW_ENTRIES 100

/* A fold takes so many times more than that; beyond, it is cheaper to build the pool anew. */
#define FOLD_FACTOR 10

/* How long a fold by itself waits for others, in milliseconds and in all. */
#define FOLD_PATIENCE_MS 2000

/* A stored pool that may be believed again soon. */
#define NOT_BUILT                                                                                  \
	"it was not built from the tables as they are now, which the next pass or prebuild_fold() mends"

/* Puts triggers right that do not see everything, and returns whether they were; set by attaching. */
bool (*pool_state_mend_triggers)(void) = NULL;

/* Did the last fold of this session find triggers that do not see everything? */
static bool unwatched = false;

PG_FUNCTION_INFO_V1(prebuild_fold);
PG_FUNCTION_INFO_V1(prebuild_rebuild);
PG_FUNCTION_INFO_V1(prebuild_verify);

/* Members and what identifies them, as datums of arrays. */
typedef struct Touched
{
	Datum ids;	   /* uuid[] */
	Datum members; /* prebuild_pool_member[]: those of the ids that are in the pool */
	Oid array_type;
	int64 entries; /* of the log that led to them */
} Touched;

/* A copy of an array that a statement gave (NULL: of no rows), which outlives the statement. */
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
 * Read the log in the active snapshot, at most so many entries, by kind. Returns false when there
 * are more, or after a TRUNCATE: then the tables are to be asked.
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
 * From the tables, in the active snapshot and with the caller's rights: the workspaces that the
 * log is about, and those of them that are in the pool.
 */
static void
compute_touched(Oid control_plane, const Datum *by_kind, Touched *touched)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID };
	Datum values[] = { ObjectIdGetDatum(control_plane), by_kind[0], by_kind[1], by_kind[2] };
	Oid type;

/* OFFSET 0 keeps the planner from joining in any way but by probes, as elsewhere in the pool. */
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

/* All members by their definition, in the active snapshot and with the caller's rights. */
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
 * What was touched since the last fold, as of the active snapshot, at most so many entries of the
 * log. Returns false when there are more.
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
 * The same, and why it may not be used, as the end of a sentence; NULL where the control plane is
 * not attached. Asked by those who want to know; readers only ask whether.
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
			"this library keeps members otherwise than the installed version of the extension";
	else if (!pool_tables_readable())
		*reason = "the current role may not read all rows of its tables";
	else if (!pool_tables_at_rest())
		*reason = "a statement of this session is changing its tables";
	/* what this transaction wrote was logged by the triggers of then, not by those of its snapshot */
	else if (IsolationUsesXactSnapshot() && TransactionIdIsValid(GetTopTransactionIdIfAny()))
		*reason = "the transaction is REPEATABLE READ and has written";
	else if (!(trust = pool_trust()).trusted)
		*reason = trust.fingerprint != NULL ? NOT_BUILT : NULL;
	else if (!find_touched(&trust, FEW_ENTRIES + trust.members / 2, &touched))
		*reason = "more has changed since the last fold than is worth it";
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
 * Open the stored pool in the active snapshot. Returns false where it may not be used, or is not
 * worth it: then the tables have to be asked. SPI is connected; the view is palloc'd in the
 * current context. Attached or not, the answers are the same.
 */
bool
pool_state_view(PoolView *view)
{
	const char *reason;

	return open_view(view, &reason);
}

/*
 * Why nobody is answered from the stored pool of the control plane, as the end of a sentence; NULL
 * where it is in use, and where the control plane is not attached. *hint receives what mends it, or
 * NULL. Reads catalogs and own tables alone, with the rights of the extension's owner, in the active
 * snapshot; SPI is connected (plans_enter()); palloc'd in the current context.
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
 * Take the entries off the log that the active snapshot sees and the last fold did not see: there
 * are no others after it. Returns their number.
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

/* Store members, and note what was seen of the log. */
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
 * Build the stored pool anew, as of the active snapshot. Returns the number of log entries that were
 * taken off. bounded: where the log is so long that this takes too long for a pass, empty it
 * bit by bit first, one call each; nothing is believed meanwhile.
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

/* Fold the log into the stored pool, as of the active snapshot. Returns the number of entries. */
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

/* Forget what is stored of this control plane, which is not attached (any more). SPI is connected. */
void
pool_state_forget(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	pool_forget_all(get_namespace_oid(setting_control_plane_schema, true));
	PopActiveSnapshot();
}

/*
 * Begin what the comment at the head calls F. Not within a command that has logged already: this
 * snapshot would not see its entries, but the statements of the fold that come later would.
 */
static void
push_fold_snapshot(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * Put triggers right that do not see everything. Not in a transaction block, as that locks the
 * tables to the end of the transaction. Returns whether they were.
 */
static bool
mend_triggers(void)
{
	return !IsTransactionBlock() && pool_state_mend_triggers();
}

/*
 * Do what a fold has left to the end of a transaction: put triggers right that do not see
 * everything, or say once what is wrong. SPI is connected.
 */
void
pool_state_mend(void)
{
	if (unwatched && !mend_triggers())
		pool_say_given_up(get_namespace_oid(setting_control_plane_schema, false));
	unwatched = false;
}

/*
 * Bring the stored pool of an attached control plane up to date; build it anew where it is not to
 * be believed, give it up where not all changes are logged any more. Nothing happens while another
 * session does it or where the script is of a version that keeps members otherwise, and next to
 * nothing where the caller may not read the tables. Not in REPEATABLE READ or SERIALIZABLE. mends:
 * do in between what otherwise is left to pool_state_mend(). Returns the number of log entries that
 * were folded. SPI is connected.
 */
int64
pool_state_fold(bool mends)
{
	Oid control_plane = get_namespace_oid(setting_control_plane_schema, true);
	int64 entries = 0;
	PoolTrust trust;

	unwatched = false;
	if (!OidIsValid(control_plane) || !pool_member_known() ||
		!DatumGetBool(
			DirectFunctionCall1(pg_try_advisory_xact_lock_int8, Int64GetDatum(POOL_STATE_LOCK))))
		return 0;
	push_fold_snapshot();
	if (!pool_tables_readable())
	{
		/* others may fold it; where nobody does, it must not grow either */
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

/* Refuse what has to take its snapshot after its lock. */
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
						errmsg("type prebuild_pool_member is not as this library keeps members"),
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
							   setting_control_plane_schema, fault ? " as it should be: " : "",
							   fault ? fault : ""),
						fault == NULL  ? errhint("See prebuild_attach().")
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
 * Say that there is nothing to compare, and why: a warning where somebody has to do something about
 * it. reason: from open_view().
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
		 errdetail("Its tables are asked instead."), hint ? errhint("%s", hint) : 0));
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
