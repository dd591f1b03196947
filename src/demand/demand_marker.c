/*
 * demand_marker.c
 *	  How far passes have read the builds of the control plane: one row for each control plane in
 *	  prebuild_demand_marker.
 *
 *	  The row names the table and its file. If the table is another one, nothing of it was read. If
 *	  only its file is another one, as after VACUUM FULL, rows have moved with their transaction
 *	  ids, so the round begins anew.
 *
 *	  Only passes write the row, under lock 7. It has the rights of the extension's owner.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "demand/demand_marker.h"
#include "settings.h"

/* How many prebuilds with an unknown lead time a pass looks at. */
#define OPEN_AT_ONCE "1000"

/* The age of a transaction id says nothing once it is so many transactions ago. */
#define OLDEST_AGE (INT64CONST(1) << 30)

/* Do the tables exist? The install script of 0.1 did not have them. */
bool
demand_log_exists(void)
{
	return OidIsValid(get_relname_relid("prebuild_demand_marker", plans_extension_schema()));
}

/* The earliest transaction that the active snapshot may not see in full. */
FullTransactionId
demand_snapshot_from(void)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32 back = XidFromFullTransactionId(next) - GetActiveSnapshot()->xmin;

	return FullTransactionIdFromU64(U64FromFullTransactionId(next) - back);
}

/*
 * The limit for age(xmin) of rows by that transaction and later ones. A row from so long ago that
 * its age has no meaning may pass for a later one.
 */
int32
demand_age(FullTransactionId from)
{
	return (int32) (GetStableLatestTransactionId() - XidFromFullTransactionId(from));
}

/* Describe the table as it is now. Takes AccessShareLock on it for the transaction. */
static void
describe_table(DemandMarker *marker)
{
	Relation table;

	marker->table = control_plane_table("workspace_builds", false);
	table = relation_open(marker->table, AccessShareLock);
	marker->filenode = table->rd_rel->relfilenode;
	marker->readable_by_block =
		table->rd_rel->relkind == RELKIND_RELATION && !has_subclass(marker->table);
	marker->blocks = marker->readable_by_block ? RelationGetNumberOfBlocks(table) : 0;
	relation_close(table, NoLock);
}

/* Is a transaction recent enough for demand_age()? */
static bool
is_recent(FullTransactionId from)
{
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return next - U64FromFullTransactionId(from) < OLDEST_AGE;
}

/* Take what the row in SPI_tuptable says, as far as it holds for the table. */
static void
take_row(DemandMarker *marker)
{
	bool isnull;
	Datum done_from = row_value(0, 3, &isnull);

	marker->stored = true;
	marker->looked_at = DatumGetTimestampTz(row_get(0, 6));
	marker->idle_until = DatumGetTimestampTz(row_get(0, 7));
	if (DatumGetObjectId(row_get(0, 1)) != marker->table || !marker->readable_by_block)
		return;
	if (!isnull && is_recent(DatumGetFullTransactionId(done_from)))
	{
		marker->done = true;
		marker->done_from = DatumGetFullTransactionId(done_from);
	}
	marker->round_from = DatumGetFullTransactionId(row_get(0, 4));
	if (DatumGetObjectId(row_get(0, 2)) == marker->filenode && is_recent(marker->round_from))
		marker->next_block = (BlockNumber) DatumGetInt64(row_get(0, 5));
}

/*
 * Read how far passes have read the builds, in the active snapshot. Returns false, and describes
 * only the table, if the script in the database does not have the tables. SPI must be connected.
 * marker->open is palloc'd in the current context.
 */
bool
demand_marker_read(DemandMarker *marker)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };
	bool isnull;

	memset(marker, 0, sizeof(*marker));
	describe_table(marker);
	if (!demand_log_exists())
		return false;
	(void) plan_execute(
		&plan,
		"SELECT m.builds, m.filenode, m.done_from, m.round_from, m.next_block, m.looked_at,"
		" m.idle_until,"
		" ARRAY(SELECT l.workspace_id FROM {ext}prebuild_lead_time_log l"
		"  WHERE l.control_plane {=} $1 AND l.outcome IS NULL"
		"  ORDER BY l.built_at LIMIT " OPEN_AT_ONCE "),"
		" EXISTS (SELECT FROM {ext}prebuild_demand_log d WHERE d.control_plane {=} $1"
		"  AND NOT d.counted),"
		" EXISTS (SELECT FROM {ext}prebuild_preset_count_log c WHERE c.control_plane {=} $1)"
		" FROM (SELECT 1) one LEFT JOIN {ext}prebuild_demand_marker m ON m.control_plane {=} $1",
		PLAN_READ_OWN, 1, argtypes, values, NULL);
	marker->open = datumCopy(row_get(0, 8), false, -1);
	marker->uncounted = DatumGetBool(row_get(0, 9));
	marker->counts_wait = DatumGetBool(row_get(0, 10));
	(void) row_value(0, 1, &isnull);
	if (!isnull)
		take_row(marker);
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/*
 * Have passes read all builds once, as the active snapshot shows? Later ones may be missing in the
 * logs for a while. SPI must be connected.
 */
bool
demand_log_is_complete(void)
{
	DemandMarker marker;

	return demand_marker_read(&marker) && marker.done;
}

/* Store a marker. SPI must be connected. */
void
demand_marker_write(const DemandMarker *marker)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, OIDOID,  OIDOID,		  XID8OID,
									XID8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   ObjectIdGetDatum(marker->table),
					   ObjectIdGetDatum(marker->filenode),
					   FullTransactionIdGetDatum(marker->done_from),
					   FullTransactionIdGetDatum(marker->round_from),
					   Int64GetDatum((int64) marker->next_block),
					   TimestampTzGetDatum(marker->looked_at),
					   TimestampTzGetDatum(marker->idle_until) };
	char nulls[] = "        ";

	if (!marker->done)
		nulls[3] = 'n';
	plan_execute(&plan,
				 "INSERT INTO {ext}prebuild_demand_marker AS m (control_plane, builds, filenode,"
				 " done_from, round_from, next_block, looked_at, idle_until)"
				 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
				 " ON CONFLICT (control_plane) DO UPDATE SET builds = excluded.builds,"
				 " filenode = excluded.filenode, done_from = excluded.done_from,"
				 " round_from = excluded.round_from, next_block = excluded.next_block,"
				 " looked_at = excluded.looked_at, idle_until = excluded.idle_until",
				 PLAN_FRESH_OWN, 8, argtypes, values, nulls);
}
