/*
 * pool_seen.c
 *	  When the agents of the stored members were seen. The stored time is a lower bound, because an
 *	  agent's heartbeats are not logged. As long as the bound lies within prebuild.disconnected_grace,
 *	  a reader need not look at the agent. So folds renew the bounds before that.
 *
 *	  Locks: the caller holds POOL_STATE_LOCK (see pool_state.c), and F is the active snapshot. What
 *	  is stored here is what F says, like everything that a fold stores.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/rows.h"
#include "pool/pool_seen.h"
#include "pool/pool_sql.h"
#include "settings.h"

/*
 * Find the running members whose bound is older than half of the shortest grace that the session's
 * setting or a policy has. *ids and *resources receive the members and the resources with their
 * agents, side by side. Returns whether there are any. If nobody has a grace, it does not read the
 * stored pool. It reads in a new snapshot, so that it has the resources that the fold has just
 * stored: with those of before it would miss agents.
 */
static bool
find_old(Oid control_plane, Datum *ids, Datum *resources)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, FLOAT8OID, TEXTOID, TIMESTAMPTZOID };
	Datum values[] = { ObjectIdGetDatum(control_plane),
					   Float8GetDatum((float8) setting_disconnected_grace),
					   CStringGetTextDatum(setting_control_plane_schema),
					   TimestampTzGetDatum(GetCurrentTimestamp()) };
	bool any;
	Oid type;

#define RENEWED_AFTER "(SELECT g.span FROM grace g)"
	plan_execute(&plan,
				 "WITH grace AS MATERIALIZED (SELECT pg_catalog.min(p.span) {/} 2.0 AS span"
				 "  FROM (SELECT pg_catalog.make_interval(secs => $2) AS span"
				 "   UNION ALL SELECT y.disconnected_grace FROM {ext}prebuild_policy y"
				 "   WHERE y.control_plane {=} $3) p WHERE p.span {>} '0'::pg_catalog.interval)"
				 " SELECT pg_catalog.array_agg(m.id), pg_catalog.array_agg(r.id)"
				 " FROM {ext}prebuild_pool_state m, pg_catalog.unnest(m.resources) AS r (id)"
				 " WHERE m.control_plane {=} $1 AND " RENEWED_AFTER " IS NOT NULL"
				 " AND m.seen_at {<} ($4 {-} " RENEWED_AFTER ") AND " MEMBER_IS_RUNNING,
				 PLAN_FRESH_OWN, 4, argtypes, values, NULL);
	(void) row_value(0, 1, &any);
	any = !any;
	*ids = row_array(0, 1, &type);
	*resources = row_array(0, 2, &type);
	SPI_freetuptable(SPI_tuptable);
	return any;
}

/*
 * Renew the bounds of a control plane's stored members that are getting old, in the active snapshot
 * and with the caller's rights on the tables. SPI must be connected.
 */
void
pool_seen_renew(Oid control_plane)
{
	static KeptPlan read_plan, write_plan;
	static const Oid read_types[] = { UUIDARRAYOID, UUIDARRAYOID };
	static const Oid write_types[] = { UUIDARRAYOID, TIMESTAMPTZARRAYOID, OIDOID };
	Datum old[2];
	Datum renewed[3];
	Oid type;

	if (!find_old(control_plane, &old[0], &old[1]))
		return;
	plan_execute(&read_plan,
				 "SELECT pg_catalog.array_agg(s.id), pg_catalog.array_agg(s.seen_at) FROM ("
				 " SELECT m.id, pg_catalog.min(a.seen_at)::pg_catalog.timestamptz AS seen_at"
				 " FROM {unnest 2} m (id, resource_id), LATERAL ("
				 "  SELECT " SEEN_AT_IF_EVER " AS seen_at FROM " AGENTS " wa"
				 "  WHERE wa.resource_id {=} m.resource_id AND NOT wa.deleted"
				 "   AND wa.parent_id IS NULL OFFSET 0) a GROUP BY m.id) s",
				 PLAN_READ, 2, read_types, old, NULL);
	renewed[0] = row_array(0, 1, &type);
	renewed[1] = row_array(0, 2, &type);
	renewed[2] = ObjectIdGetDatum(control_plane);
	SPI_freetuptable(SPI_tuptable);
	plan_execute(&write_plan,
				 "UPDATE {ext}prebuild_pool_state m SET seen_at = s.seen_at"
				 " FROM {unnest 2} s (id, seen_at) WHERE m.control_plane {=} $3 AND m.id {=} s.id"
				 " AND m.seen_at {<} s.seen_at",
				 PLAN_FRESH_OWN, 3, write_types, renewed, NULL);
}
