/*
 * pool_touched.c
 *	  The log's way from touched rows to members: read the log, find the workspaces to which its
 *	  entries lead, and compute those from the tables. All of it in the active snapshot, without
 *	  locks. README.md says why this finds every member that has changed.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/lsyscache.h"

#include "base/plans.h"
#include "pool/pool_sql.h"
#include "pool/pool_touched.h"
#include "base/rows.h"

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
		by_kind[i] = row_array(0, 2 + i, &type);
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
	"LATERAL (SELECT wb.workspace_id FROM " BUILDS " wb WHERE wb.job_id {=} " job " OFFSET 0) b"
	plan_execute(
		&plan,
		"WITH touched AS MATERIALIZED ("
		" SELECT l.id FROM pg_catalog.unnest($2) AS l (id)"
		" UNION SELECT b.workspace_id FROM pg_catalog.unnest($3) AS l (id), " BUILD_OF(
			"l.id") " UNION SELECT b.workspace_id FROM pg_catalog.unnest($4) AS l (id),"
					"  LATERAL (SELECT wr.job_id FROM " RESOURCES " wr WHERE wr.id {=} l.id"
					"   OFFSET 0) r, " BUILD_OF(
						"r.job_id") ")"
									" SELECT (SELECT pg_catalog.array_agg(t.id) FROM touched t), pg_catalog.array_agg(" MEMBER
									") FROM touched t, LATERAL (SELECT o.* FROM " WORKSPACES
									" o WHERE o.id {=} t.id OFFSET 0) w"
									" LEFT JOIN" LATEST_BUILD " ON true," AGENTS_OF_BUILD
									" WHERE " IS_IN_POOL,
		PLAN_READ, 4, argtypes, values, NULL);
	touched->ids = row_array(0, 1, &type);
	touched->members = row_array(0, 2, &touched->array_type);
	SPI_freetuptable(SPI_tuptable);
}

/* What an empty log leads to. At rest, that is what every reader finds; the planner is spared. */
static void
nothing_touched(Touched *touched)
{
	Oid member = pool_member_type();

	touched->array_type = get_array_type(member);
	touched->ids = PointerGetDatum(construct_empty_array(UUIDOID));
	touched->members = PointerGetDatum(construct_empty_array(member));
}

/*
 * Compute all members from the tables, in the active snapshot and with the caller's rights. Sets
 * only the members of *all. SPI must be connected. Results are palloc'd in the current context.
 */
void
pool_touched_all(Oid control_plane, Touched *all)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID };
	Datum values[] = { ObjectIdGetDatum(control_plane) };

	plan_execute(&plan, "SELECT pg_catalog.array_agg(" MEMBER ")" POOL_AND("," AGENTS_OF_BUILD),
				 PLAN_READ, 1, argtypes, values, NULL);
	all->members = row_array(0, 1, &all->array_type);
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Compute the members that were touched since the last fold, in the active snapshot, from at most
 * this many entries of the log. Returns false if there are more, or if the log has a TRUNCATE: then
 * read the tables. Uses the caller's rights on the tables. SPI must be connected. Results are
 * palloc'd in the current context.
 */
bool
pool_touched_find(const PoolTrust *trust, int64 most, Touched *touched)
{
	Datum by_kind[3] = { 0 };

	if (!read_log(trust, most, by_kind, &touched->entries))
		return false;
	if (touched->entries == 0)
		nothing_touched(touched);
	else
		compute_touched(trust->control_plane, by_kind, touched);
	return true;
}
