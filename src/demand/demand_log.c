/*
 * demand_log.c
 *	  Keep prebuild_demand_log and prebuild_lead_time_log up to date, in small steps.
 *
 *	  No index of the control plane finds builds by time, and times are the application's: a build
 *	  may say any, and its transaction may commit late. So passes read the table of builds block by
 *	  block, some blocks in each pass, round after round. A round notes the oldest transaction that
 *	  its first snapshot may not see in full (round_from). When it has come to the end, every row
 *	  version from before that transaction was read (done_from). The next round skips these: it
 *	  looks at rows whose xmin is done_from or later. Readers do the same in their own snapshot (see
 *	  history.c), so they never depend on how far the passes are.
 *
 *	  Why no demand is missed. A demand shows in a row of builds:
 *	  - a cold one in the first build of its workspace;
 *	  - a warm one in the first build, if that was read after the claim, or otherwise in the build of
 *		the new owner. That row is later than round_from: had its transaction ended before the first
 *		snapshot of the round, the pass would have seen the claim when it read the first build. So
 *		the first round reads first builds, and later ones only from round_from on.
 *	  A row version from before round_from stays where it is for the whole round, or is replaced by
 *	  one from after it. Only a rewrite of the table moves it: then the round begins anew, because
 *	  the file is another one. A claim that nobody follows up with a build has no time, and is no
 *	  demand, unless prebuild_claim() made it.
 *
 *	  Why none counts twice: the log's key is the workspace.
 *
 *	  A round may take hours. So that demands are in the log earlier, a pass also reads the builds of
 *	  jobs that are not complete, and of jobs that live daemons completed since shortly before the
 *	  last pass. The control plane has indexes for both. Nothing depends on it.
 *
 *	  Locks: a pass holds lock 7. A claim writes its own demand, and never waits: a pass writes a
 *	  workspace only once it sees its claim committed.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "demand/demand_log.h"
#include "demand/demand_marker.h"
#include "demand/demand_sql.h"
#include "demand/lead_time_log.h"
#include "demand/preset_counts.h"
#include "settings.h"

/*
 * Blocks that a pass reads: in the first round, in which it finds something, and in later ones, in
 * which it skips nearly everything.
 */
#define FIRST_STEP 128
#define STEP 32

/* How long before the last pass to look for completed jobs. */
#define OVERLAP (60 * USECS_PER_SEC)

/* Rows that one statement deletes at most. */
#define ROWS_AT_ONCE "10000"

/* The demands and prebuilds that a step has found. */
typedef struct Found
{
	ArrayParameter *workspaces; /* of demands */
	ArrayParameter *templates;
	ArrayParameter *presets;
	ArrayParameter *times;
	ArrayParameter *warm;
	ArrayParameter *prebuilds; /* workspaces whose lead time is to be measured */
} Found;

static Datum
first_tuple_of(BlockNumber block)
{
	ItemPointer tid = palloc(sizeof(ItemPointerData));

	ItemPointerSet(tid, block, 0);
	return PointerGetDatum(tid);
}

/*
 * The first builds of the workspaces of builds "c" in the blocks from $1 to before $2: first ones of
 * age $3, later ones of age $4. A first one is what it is looked for; only a later one makes it be
 * looked up.
 */
#define EITHER(its, firsts, name)                                                                  \
	"CASE WHEN c.build_number {=} 1 THEN " its " ELSE " firsts " END AS " name
#define EITHER_BUILDS(name) EITHER("c." name, "fb." name, name)
#define BLOCKS_COLUMNS                                                                             \
	EITHER_BUILDS("template_version_preset_id")                                                    \
	", " EITHER_BUILDS("created_at") ", " EITHER_BUILDS("transition") ", " EITHER(                 \
		IS_BY_SYSTEM("c"), "fb.by_system", "by_system")
#define OF_BLOCKS                                                                                  \
	"SELECT c.workspace_id, " BLOCKS_COLUMNS " FROM {cp}workspace_builds c"                        \
	" LEFT JOIN " FIRST_BUILD_OF_LATER " ON true WHERE c.ctid {>=} $1 AND c.ctid {<} $2"           \
	" AND ((" IS_FIRST " AND pg_catalog.age(c.xmin) {<=} $3)"                                      \
	"  OR (" IS_LATER " AND pg_catalog.age(c.xmin) {<=} $4))"
#define FIRST_BUILD_OF_LATER FIRST_BUILD(" AND c.build_number {>} 1")

/* The jobs that live daemons have completed since $5. */
#define JOBS_OF_DAEMONS                                                                            \
	" UNION ALL SELECT cj.id FROM {cp}provisioner_daemons pd, LATERAL ("                           \
	"  SELECT dj.id FROM {cp}provisioner_jobs dj WHERE dj.worker_id {=} pd.id"                     \
	"  AND dj.organization_id {=} pd.organization_id AND dj.completed_at {>=} $5 OFFSET 0) cj"

/* The workspaces of builds of jobs that are not complete, or among those that "more" adds. */
#define OF_JOBS(more)                                                                              \
	"SELECT DISTINCT c.workspace_id FROM ("                                                        \
	" SELECT aj.id FROM {cp}provisioner_jobs aj"                                                   \
	" WHERE aj.job_status {=} ANY ('{pending,running,canceling}')" more                            \
	") j, LATERAL (SELECT jb.workspace_id, jb.build_number, jb.initiator_id,"                      \
	"  jb.template_version_preset_id FROM {cp}workspace_builds jb WHERE jb.job_id {=} j.id"        \
	"  OFFSET 0) c WHERE " IS_FIRST " OR " IS_LATER

/*
 * May the current user read the daemons? A pass runs without that right, too. Their jobs only make
 * the log fresh sooner.
 */
static bool
may_read_daemons(void)
{
	Oid table = control_plane_table("provisioner_daemons", true);

	return OidIsValid(table) && pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		   check_enable_rls(table, GetUserId(), true) != RLS_ENABLED;
}

/*
 * Read the builds of a step, with the caller's rights, in the active snapshot. Returns the number of
 * rows of DEMANDS_OF in SPI_tuptable, in which a workspace may come more than once. To plan the
 * statement anew for each range would take longer than to run it.
 */
static uint64
read_step(const DemandMarker *marker, BlockNumber until, TimestampTz since)
{
	static KeptPlan plan, blind_plan, jobs_plan, blind_jobs_plan;
	static const Oid argtypes[] = { TIDOID, TIDOID, INT4OID, INT4OID, TIMESTAMPTZOID };
	Datum values[] = { first_tuple_of(marker->next_block), first_tuple_of(until),
					   Int32GetDatum(marker->done ? demand_age(marker->done_from) : PG_INT32_MAX),
					   Int32GetDatum(
						   demand_age(marker->done ? marker->done_from : marker->round_from)),
					   TimestampTzGetDatum(since) };
	int guc_level = NewGUCNestLevel();
	uint64 n;

	set_config_option("plan_cache_mode", "force_generic_plan", PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SAVE, true, 0, false);
#define EITHER_WAY(more) DEMANDS_OF_FIRST(OF_BLOCKS " UNION ALL " FIRST_BUILDS_OF(OF_JOBS(more)))
#define BY_JOBS(more) DEMANDS_OF(OF_JOBS(more))
	if (marker->readable_by_block && may_read_daemons())
		n = plan_execute(&plan, EITHER_WAY(JOBS_OF_DAEMONS), PLAN_READ, 5, argtypes, values, NULL);
	else if (marker->readable_by_block)
		n = plan_execute(&blind_plan, EITHER_WAY(""), PLAN_READ, 5, argtypes, values, NULL);
	else if (may_read_daemons())
		n = plan_execute(&jobs_plan, BY_JOBS(JOBS_OF_DAEMONS), PLAN_READ, 5, argtypes, values,
						 NULL);
	else
		n = plan_execute(&blind_jobs_plan, BY_JOBS(""), PLAN_READ, 5, argtypes, values, NULL);
	AtEOXact_GUC(true, guc_level);
	return n;
}

/* Gather the rows of DEMANDS_OF in SPI_tuptable, without demands from before "oldest". */
static Found
gather(uint64 n, TimestampTz oldest)
{
	Found found = { array_new(UUIDOID),		   array_new(UUIDOID), array_new(TEXTOID),
					array_new(TIMESTAMPTZOID), array_new(BOOLOID), array_new(UUIDOID) };

	for (uint64 i = 0; i < n; i++)
	{
		Id workspace_id = row_id(i, DEMAND_WORKSPACE);
		Id template_id = row_id(i, DEMAND_TEMPLATE);
		bool by_system = DatumGetBool(row_get(i, DEMAND_BY_SYSTEM));
		bool isnull;
		TimestampTz at = DatumGetTimestampTz(row_value(i, DEMAND_AT, &isnull));

		if (by_system)
			array_add_id(found.prebuilds, &workspace_id);
		if (isnull || TIMESTAMP_NOT_FINITE(at) || at < oldest)
			continue;
		array_add_id(found.workspaces, &workspace_id);
		array_add_id(found.templates, &template_id);
		array_add_text(found.presets, row_text(i, DEMAND_PRESET));
		array_add(found.times, TimestampTzGetDatum(at));
		array_add(found.warm, BoolGetDatum(by_system));
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* Write demands into the log, each once, by a statement. */
static void
write_demands(KeptPlan *plan, const char *statement, const Found *found)
{
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID,		   TEXTARRAYOID,
									BOOLARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID };
	Datum values[] = {
		array_datum(found->workspaces), array_datum(found->templates),
		array_datum(found->presets),	array_datum(found->warm),
		array_datum(found->times),		CStringGetTextDatum(setting_control_plane_schema)
	};

	plan_execute(plan, statement, PLAN_FRESH_OWN, 6, argtypes, values, NULL);
}

#define WRITE_DEMANDS(counted)                                                                     \
	"INSERT INTO {ext}prebuild_demand_log"                                                         \
	" (control_plane, workspace_id, template_id, preset_name, warm, at, counted)"                  \
	" SELECT $6, d.workspace_id, d.template_id, d.preset_name, d.warm, d.at, " counted             \
	" FROM {unnest 5} d (workspace_id, template_id, preset_name, warm, at)"                        \
	" ON CONFLICT (control_plane, workspace_id) DO NOTHING"

/*
 * Write the demands of a step, and count them together with those that claims have written since the
 * last pass. Of the warm ones whose lead time is known this also says how long the prebuild had
 * waited. A pass has written the lead times of its step before.
 */
static void
write_and_count(const Found *found)
{
	static KeptPlan plan;

	write_demands(
		&plan,
		"WITH written AS (" WRITE_DEMANDS(
			"true") "  RETURNING workspace_id, template_id, preset_name, warm, at),"
					" claimed AS (UPDATE {ext}prebuild_demand_log u SET counted = true"
					"  WHERE u.control_plane {=} $6 AND NOT u.counted"
					"  RETURNING u.workspace_id, u.template_id, u.preset_name, u.warm, u.at),"
					" asked AS (SELECT w.* FROM written w UNION ALL SELECT c.* FROM claimed c),"
					" counted AS (INSERT INTO {ext}prebuild_preset_count AS k (control_plane,"
					"   template_id, preset_name, counter, value)"
					"  SELECT $6, a.template_id, a.preset_name,"
					"   CASE WHEN a.warm THEN '" COUNT_WARM "' ELSE '" COUNT_COLD "' END,"
					"   pg_catalog.count(*) FROM asked a GROUP BY 1, 2, 3, 4"
					"  ON CONFLICT (control_plane, template_id, preset_name, counter)"
					"   DO UPDATE SET value = k.value {+} excluded.value)"
					" INSERT INTO {ext}prebuild_claim_time_stats AS s (control_plane, template_id,"
					"  preset_name, claims, seconds, buckets)"
					" SELECT $6, c.template_id, c.preset_name, pg_catalog.max(c.claims),"
					"  pg_catalog.max(c.seconds), pg_catalog.array_agg(c.up_to ORDER BY c.bound)"
					" FROM (SELECT t.template_id, t.preset_name, b.bound,"
					"   pg_catalog.count(*) FILTER (WHERE t.seconds {<=} b.bound) AS up_to,"
					"   pg_catalog.count(*) AS claims, pg_catalog.sum(t.seconds) AS seconds"
					"  FROM (SELECT a.template_id, a.preset_name, GREATEST(0::pg_catalog.float8,"
					"    (pg_catalog.date_part('epoch', a.at) {-}"
					"     pg_catalog.date_part('epoch', l.built_at)) {-}"
					"    (l.waiting {+} l.building {+} l.starting)) AS seconds"
					"   FROM asked a, LATERAL (SELECT x.* FROM {ext}prebuild_lead_time_log x"
					"    WHERE x.control_plane {=} $6 AND x.workspace_id {=} a.workspace_id"
					"    AND x.outcome {=} 'ready' OFFSET 0) l WHERE a.warm) t,"
					"   pg_catalog.unnest(" CLAIM_TIME_BOUNDS "::pg_catalog.float8[]) b (bound)"
					"  GROUP BY t.template_id, t.preset_name, b.bound) c"
					" GROUP BY c.template_id, c.preset_name"
					" ON CONFLICT (control_plane, template_id, preset_name) DO UPDATE SET"
					"  claims = s.claims {+} excluded.claims, seconds = s.seconds {+} excluded.seconds,"
					"  buckets = " ADDED_BUCKETS,
		found);
}

/* Delete demands from before "oldest". */
static void
prune_demands(TimestampTz oldest)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIMESTAMPTZOID };
	Datum values[] = { TimestampTzGetDatum(oldest) };

	plan_execute(&plan,
				 "DELETE FROM {ext}prebuild_demand_log d WHERE d.ctid {=} ANY (ARRAY("
				 " SELECT o.ctid FROM {ext}prebuild_demand_log o WHERE o.at {<} $1"
				 " ORDER BY o.at LIMIT " ROWS_AT_ONCE "))",
				 PLAN_FRESH_OWN, 1, argtypes, values, NULL);
}

/* Measure the prebuilds that the step has found, and the open ones of before. */
static void
measure(const DemandMarker *marker, Found *found, TimestampTz at, TimestampTz oldest)
{
	Datum *open;
	int n;
	LeadTime *times;

	deconstruct_array(DatumGetArrayTypeP(marker->open), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
					  &open, NULL, &n);
	for (int i = 0; i < n; i++)
		array_add(found->prebuilds, open[i]);
	times = lead_times_measure(found->prebuilds, at, &n);
	lead_times_write(times, n, oldest);
}

/*
 * Read the next builds into the logs, as a part of the pass at that time. The number of statements
 * is constant, and so is the number of blocks. Reads in the active snapshot; the caller holds lock
 * 7. SPI must be connected. Does nothing with a script that has no log.
 */
DemandUpdate
demand_log_update(TimestampTz at)
{
	DemandUpdate result = { 0 };
	DemandMarker marker;
	TimestampTz now = Min(at, GetCurrentTimestamp());
	TimestampTz oldest = now - setting_demand_retention * INT64CONST(60) * USECS_PER_SEC;
	BlockNumber until;
	Found found;

	if (!demand_marker_read(&marker))
		return result;
	if (marker.next_block == 0)
		marker.round_from = demand_snapshot_from();
	until = marker.next_block + (marker.done ? STEP : FIRST_STEP);
	found = gather(
		read_step(&marker, until, (marker.stored ? Min(marker.looked_at, now) : now) - OVERLAP),
		oldest);
	measure(&marker, &found, at, oldest);
	if (found.workspaces->n > 0 || marker.uncounted)
		write_and_count(&found);
	marker.looked_at = now;
	result.counts_wait = marker.counts_wait;
	/* a clock that goes back must not make a counter fall */
	marker.idle_until = marker.stored ? Max(marker.idle_until, now) : now;
	result.idle_until = marker.idle_until;
	result.first = !marker.stored;
	marker.next_block = until;
	if (until >= marker.blocks)
	{
		marker.next_block = 0;
		if (marker.readable_by_block)
		{
			marker.done = true;
			marker.done_from = marker.round_from;
		}
		prune_demands(oldest);
		lead_times_prune(oldest, now);
	}
	demand_marker_write(&marker);
	return result;
}

/*
 * Record that somebody got a prebuild, in the transaction of the claim. preset_name: of the
 * workspace's first build. SPI must be connected. Does nothing with a script that has no log, nor
 * while somebody holds the log, for example VACUUM FULL: nobody should wait for a workspace because
 * of that. Then a pass finds the demand by the new owner's first build, at the time of that build.
 */
void
demand_log_claim(const Id *workspace_id, const Id *template_id, const char *preset_name,
				 TimestampTz at)
{
	static KeptPlan plan = { .generic = true };
	Found found = { array_new(UUIDOID),		   array_new(UUIDOID), array_new(TEXTOID),
					array_new(TIMESTAMPTZOID), array_new(BOOLOID), NULL };
	Oid log = get_relname_relid("prebuild_demand_log", plans_extension_schema());

	if (!OidIsValid(log) || !ConditionalLockRelationOid(log, RowExclusiveLock))
		return;
	array_add_id(found.workspaces, workspace_id);
	array_add_id(found.templates, template_id);
	array_add_text(found.presets, preset_name);
	array_add(found.times, TimestampTzGetDatum(at));
	array_add(found.warm, BoolGetDatum(true));
	write_demands(&plan, WRITE_DEMANDS("false"), &found);
}
