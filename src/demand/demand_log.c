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
 *	  Why none counts twice: the log's key is the workspace, and a pass writes only those that the log
 *	  does not have. It need not be ready for a conflict, which would take a third of the time to
 *	  write a row: other passes wait for lock 7, and a claim takes a workspace from the system user. If
 *	  the pass has seen another owner, the claim has committed, and its demand is in the log. Should
 *	  somebody else write into the log by hand, the step fails as a whole, and the next pass does it.
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
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/plans.h"
#include "base/rows.h"
#include "demand/demand_log.h"
#include "demand/demand_marker.h"
#include "demand/found_builds.h"
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

/* Demands, as columns. */
typedef struct Demands
{
	ArrayParameter *workspaces;
	ArrayParameter *templates;
	ArrayParameter *presets;
	ArrayParameter *times;
	ArrayParameter *warm;
} Demands;

static Demands
no_demands(void)
{
	return (Demands){ array_new(UUIDOID), array_new(UUIDOID), array_new(TEXTOID),
					  array_new(TIMESTAMPTZOID), array_new(BOOLOID) };
}

/* The demands among builds, without those from before "oldest". They point to the builds. */
static Demands
demands_of(const FoundBuilds *found, TimestampTz oldest)
{
	Demands demands = no_demands();

	for (int i = 0; i < found->n; i++)
	{
		const FoundBuild *build = &found->builds[i];

		if (TIMESTAMP_NOT_FINITE(build->asked_at) || build->asked_at < oldest)
			continue;
		array_add(demands.workspaces, id_datum(&build->workspace_id));
		array_add(demands.templates, id_datum(&build->template_id));
		array_add(demands.presets, build->preset_name);
		array_add(demands.times, TimestampTzGetDatum(build->asked_at));
		array_add(demands.warm, BoolGetDatum(build->by_system));
	}
	return demands;
}

/* Write demands into the log, each once, by a statement. */
static void
write_demands(KeptPlan *plan, const char *statement, const Demands *demands)
{
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID,		   TEXTARRAYOID,
									BOOLARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID };
	Datum values[] = {
		array_datum(demands->workspaces), array_datum(demands->templates),
		array_datum(demands->presets),	  array_datum(demands->warm),
		array_datum(demands->times),	  CStringGetTextDatum(setting_control_plane_schema)
	};

	plan_execute(plan, statement, PLAN_FRESH_OWN, 6, argtypes, values, NULL);
}

#define WRITE_DEMANDS(counted)                                                                     \
	"INSERT INTO {ext}prebuild_demand_log"                                                         \
	" (control_plane, workspace_id, template_id, preset_name, warm, at, counted)"                  \
	" SELECT $6, d.workspace_id, d.template_id, d.preset_name, d.warm, d.at, " counted             \
	" FROM {unnest 5} d (workspace_id, template_id, preset_name, warm, at)"

/* Write what the log does not have. */
#define WRITE_NEW_DEMANDS                                                                          \
	WRITE_DEMANDS("true")                                                                          \
	" WHERE (SELECT true FROM {ext}prebuild_demand_log k WHERE k.workspace_id {=} d.workspace_id"  \
	" AND k.control_plane {=} $6) IS NULL"

/*
 * Write the demands of a step, and count them together with those that claims have written since the
 * last pass. Of the warm ones whose lead time is known this also says how long the prebuild had
 * waited. A pass has written the lead times of its step before.
 */
static void
write_and_count(const Demands *demands)
{
	static KeptPlan plan = { .generic = true };
	int guc_level = NewGUCNestLevel();

	/* a plan that was made while the logs were small must not read them whole for each row */
	set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
	write_demands(
		&plan,
		"WITH written AS (" WRITE_NEW_DEMANDS
		"  RETURNING workspace_id, template_id, preset_name, warm, at),"
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
		demands);
	AtEOXact_GUC(true, guc_level);
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
measure(const DemandMarker *marker, const FoundBuilds *found, TimestampTz at, TimestampTz oldest)
{
	KnownPrebuilds prebuilds = known_prebuilds_none();
	ArrayParameter open = { .element_type = UUIDOID };
	LeadTime *times;
	int n;

	for (int i = 0; i < found->n; i++)
	{
		const FoundBuild *build = &found->builds[i];

		if (!build->by_system)
			continue;
		array_add(prebuilds.workspaces, id_datum(&build->workspace_id));
		array_add(prebuilds.templates, id_datum(&build->template_id));
		array_add(prebuilds.presets, build->preset_name);
		array_add(prebuilds.jobs, id_datum(&build->job_id));
		array_add(prebuilds.gone, BoolGetDatum(build->is_gone));
	}
	deconstruct_array(DatumGetArrayTypeP(marker->open), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
					  &open.values, &open.nulls, &open.n);
	times = lead_times_measure(&prebuilds, &open, at, &n);
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
	FoundBuilds found;
	Demands demands;

	if (!demand_marker_read(&marker))
		return result;
	if (marker.next_block == 0)
		marker.round_from = demand_snapshot_from();
	until = marker.next_block + (marker.done ? STEP : FIRST_STEP);
	found = found_builds_read(&marker, until,
							  (marker.stored ? Min(marker.looked_at, now) : now) - OVERLAP);
	demands = demands_of(&found, oldest);
	measure(&marker, &found, at, oldest);
	if (demands.workspaces->n > 0 || marker.uncounted)
		write_and_count(&demands);
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
	Demands demands = no_demands();
	Oid log = get_relname_relid("prebuild_demand_log", plans_extension_schema());

	if (!OidIsValid(log) || !ConditionalLockRelationOid(log, RowExclusiveLock))
		return;
	array_add_id(demands.workspaces, workspace_id);
	array_add_id(demands.templates, template_id);
	array_add_text(demands.presets, preset_name);
	array_add(demands.times, TimestampTzGetDatum(at));
	array_add(demands.warm, BoolGetDatum(true));
	write_demands(&plan,
				  WRITE_DEMANDS("false") " ON CONFLICT (workspace_id, control_plane) DO NOTHING",
				  &demands);
}
