/*
 * pool_forget.c
 *	  Removes what is stored of the pool, before a rebuild and where the pool cannot be kept.
 *
 *	  The triggers log whether or not the stored pool is trusted. So a fold empties the log even
 *	  where nobody reads it, and reports the reason once.
 *
 *	  Locks: all writes here run with the rights of the extension's owner. The caller holds
 *	  POOL_STATE_LOCK (see pool_state.c). No reader trusts a pool without a marker. So once the
 *	  marker is gone, the log may be emptied in several steps.
 */
#include "compat.h"

#include "access/table.h"
#include "catalog/pg_type_d.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/events.h"
#include "base/plans.h"
#include "pool/pool_forget.h"
#include "settings.h"

/* Look at the logs of other control planes if the table has more blocks than this (16 MB). */
#define MANY_BLOCKS (16 * 1024 * 1024 / BLCKSZ)

#define IS_GONE(table)                                                                             \
	"NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.oid {=} " table ".control_plane)"

/*
 * Delete from the log the entries that the active snapshot sees of this control plane and of those
 * that no longer exist. If bounded, delete at most POOL_TRIM_ENTRIES. Returns their number.
 */
int64
pool_forget_log(Oid control_plane, bool bounded)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, INT8OID };
	Datum values[] = { ObjectIdGetDatum(control_plane), Int64GetDatum(POOL_TRIM_ENTRIES) };

	return (int64) plan_execute(&plan,
								"DELETE FROM {ext}prebuild_pool_log l WHERE l.ctid {=} ANY (ARRAY("
								" SELECT o.ctid FROM {ext}prebuild_pool_log o"
								" WHERE o.control_plane {=} $1 OR " IS_GONE("o") " LIMIT $2))",
								PLAN_ACTIVE_OWN, 2, argtypes, values, bounded ? NULL : " n");
}

/* Run a statement that removes rows of a control plane. */
static void
forget(KeptPlan *plan, const char *statement, Oid control_plane)
{
	static const Oid argtypes[] = { OIDOID };
	Datum values[] = { ObjectIdGetDatum(control_plane) };

	plan_execute(plan, statement, PLAN_FRESH_OWN, 1, argtypes, values, NULL);
}

/* Remove the stored members of a control plane and of those that no longer exist. */
void
pool_forget_members(Oid control_plane)
{
	static KeptPlan plan;

	forget(&plan,
		   "DELETE FROM {ext}prebuild_pool_state s WHERE s.control_plane {=} $1 OR " IS_GONE("s"),
		   control_plane);
}

/*
 * Remove the marker of a control plane and of those that no longer exist. Without a marker, no
 * reader trusts the stored pool.
 */
void
pool_forget_marker(Oid control_plane)
{
	static KeptPlan plan;

	forget(&plan,
		   "DELETE FROM {ext}prebuild_pool_marker m WHERE m.control_plane {=} $1 OR " IS_GONE("m"),
		   control_plane);
}

/*
 * Remove everything of a control plane that is not attached (any more), but at most
 * POOL_TRIM_ENTRIES of its log.
 */
void
pool_forget_all(Oid control_plane)
{
	pool_forget_marker(control_plane);
	pool_forget_members(control_plane);
	pool_forget_log(control_plane, true);
}

/*
 * Bound the logs of all control planes except this one, because nobody may be folding them. Each
 * call takes at most POOL_TRIM_ENTRIES off the longest log and removes that control plane's marker,
 * so that no reader trusts its stored pool until somebody folds it. Does nothing while the log is
 * small, or no longer than when a VACUUM found few entries in it: its file never gets shorter
 * (vacuum_truncate), and to read all of it at each fold would cost for ever. A VACUUM or ANALYZE does
 * not count what a transaction beside it is writing; the autovacuum that these entries call does.
 */
void
pool_forget_long_logs(Oid but_control_plane)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, INT8OID };
	Datum values[] = { ObjectIdGetDatum(but_control_plane), Int64GetDatum(POOL_TRIM_ENTRIES) };
	Oid oid = get_relname_relid("prebuild_pool_log", plans_extension_schema());
	Relation log = OidIsValid(oid) ? table_open(oid, AccessShareLock) : NULL;
	BlockNumber blocks = log == NULL ? 0 : RelationGetNumberOfBlocks(log);
	bool small = blocks <= MANY_BLOCKS ||
				 (log->rd_rel->reltuples >= 0 && log->rd_rel->reltuples <= POOL_TRIM_ENTRIES &&
				  (BlockNumber) log->rd_rel->relpages == blocks);

	if (log != NULL)
		table_close(log, AccessShareLock);
	if (small)
		return;
	plan_execute(&plan,
				 "WITH longest AS MATERIALIZED ("
				 "  SELECT o.control_plane FROM {ext}prebuild_pool_log o"
				 "  WHERE o.control_plane {<>} $1 GROUP BY o.control_plane"
				 "  HAVING pg_catalog.count(*) {>} $2 ORDER BY pg_catalog.count(*) DESC LIMIT 1),"
				 " marker AS (DELETE FROM {ext}prebuild_pool_marker m USING longest"
				 "  WHERE m.control_plane {=} longest.control_plane)"
				 " DELETE FROM {ext}prebuild_pool_log l WHERE l.ctid {=} ANY (ARRAY("
				 "  SELECT o.ctid FROM {ext}prebuild_pool_log o JOIN longest"
				 "   ON o.control_plane {=} longest.control_plane LIMIT $2))",
				 PLAN_ACTIVE_OWN, 2, argtypes, values, NULL);
}

/*
 * Store in the marker why the pool is not kept. Returns false if the marker gives this reason
 * already.
 */
static bool
mark_given_up(Oid control_plane, const char *fault)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, TEXTOID };
	Datum values[] = { ObjectIdGetDatum(control_plane),
					   CStringGetTextDatum(psprintf(POOL_GIVEN_UP "%s", fault)) };

	return plan_execute(
			   &plan,
			   "INSERT INTO {ext}prebuild_pool_marker AS m"
			   " VALUES ($1, $2, '0'::pg_catalog.xid8, '{}'::pg_catalog.xid8[], 0)"
			   " ON CONFLICT (control_plane) DO UPDATE SET fingerprint = excluded.fingerprint"
			   " WHERE m.fingerprint {<>} excluded.fingerprint",
			   PLAN_FRESH_OWN, 2, argtypes, values, NULL) > 0;
}

/*
 * Give up the pool because the triggers do not log every change. Remove the members and the marker,
 * so that no reader trusts them later, when they lack the changes that go unlogged now. Trim the
 * log, which is of no use.
 */
void
pool_give_up(const PoolTrust *trust)
{
	pool_forget_log(trust->control_plane, true);
	if (trust->marked && !trust->given_up)
	{
		pool_forget_members(trust->control_plane);
		pool_forget_marker(trust->control_plane);
	}
}

/*
 * Report why the pool of an attached control plane was given up, once for each reason: in the
 * marker, as an event and as a WARNING. Does nothing if the control plane is not attached.
 */
void
pool_say_given_up(Oid control_plane)
{
	char *hint;
	char *fault = pool_trust_fault(control_plane, &hint);
	EventBatch batch = { 0 };

	if (fault == NULL || !mark_given_up(control_plane, fault))
		return;
	event_add(&batch, "pool_unused", NULL, NULL, NULL, event_detail("reason", fault));
	events_write(&batch, GetCurrentTimestamp());
	ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					  errmsg("the stored pool of the control plane in schema \"%s\" is not in use: "
							 "%s",
							 setting_control_plane_schema, fault),
					  errdetail("The extension reads the control plane's tables instead."),
					  hint ? errhint("%s", hint) : 0));
}
