/*
 * lead_time_log.c
 *	  Lead times of prebuilds: from the creation of a prebuild's first job to the readiness of its
 *	  agents, in three parts: waiting for a daemon, building, starting up.
 *
 *	  prebuild_lead_time_log	a row for each prebuild; without an outcome until that is known
 *	  prebuild_lead_time_stats	the histogram of each template's presets of one name
 *
 *	  A prebuild that is not ready a day after its build failed. If its agents are ready and nothing
 *	  says since when, nobody will know its lead time.
 *
 *	  The metrics come from the histograms, because a scrape must not read all builds, and because a
 *	  counter must not fall when old rows go. A row counts once: when it gets its outcome. A
 *	  histogram goes when the log has no build of its presets any more.
 *
 *	  Only passes write, under lock 7. The tables of the control plane are read with the caller's
 *	  rights, our own with those of the extension's owner.
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "demand/demand_marker.h"
#include "demand/demand_sql.h"
#include "demand/lead_time_log.h"
#include "demand/preset_counts.h"
#include "settings.h"

/* A prebuild that is not ready after so long is a failure. */
#define LONGEST "1 day"

/* Rows that one statement deletes at most. */
#define ROWS_AT_ONCE "10000"

/* Upper bounds of the histograms' buckets, in seconds. One more bucket has all. */
#define BOUNDS "'{5,10,20,30,45,60,90,120,180,240,300,450,600,900,1200,1800,3600,Infinity}'"

/* The texts of LeadTimeOutcome in the log. */
static const char *const outcomes[] = { NULL, "ready", "failed", "canceled" };

static LeadTimeOutcome
outcome_of_text(const char *text)
{
	for (int i = LEAD_TIME_READY; i <= LEAD_TIME_CANCELED; i++)
		if (strcmp(text, outcomes[i]) == 0)
			return (LeadTimeOutcome) i;
	elog(ERROR, "unknown outcome of a build: %s", text);
}

/* Is it known how long the build took, until it was ready or failed? */
static bool
lead_time_has_parts(const LeadTime *time)
{
	return time->outcome == LEAD_TIME_READY || time->outcome == LEAD_TIME_FAILED;
}

/*
 * Take a row of SPI_tuptable: workspace, template, preset's name, time, outcome, and the parts in
 * seconds. Parts that are not finite tell nothing. The name is palloc'd in the current context.
 */
LeadTime
lead_time_of_row(uint64 row)
{
	LeadTime time = { 0 };
	bool isnull;
	Datum outcome = row_value(row, 5, &isnull);

	time.workspace_id = row_id(row, 1);
	time.template_id = row_id(row, 2);
	time.preset_name = row_text(row, 3);
	time.built_at = DatumGetTimestampTz(row_get(row, 4));
	time.outcome = isnull ? LEAD_TIME_OPEN : outcome_of_text(TextDatumGetCString(outcome));
	for (int i = 0; lead_time_has_parts(&time) && i < LEAD_TIME_PARTS; i++)
	{
		Datum part = row_value(row, 6 + i, &isnull);

		time.parts[i] = isnull ? 0 : Max(DatumGetFloat8(part), 0);
		if (!isfinite(time.parts[i]))
			time.outcome = LEAD_TIME_CANCELED;
	}
	return time;
}

/* Return no prebuilds. Allocates in the current memory context. */
KnownPrebuilds
known_prebuilds_none(void)
{
	return (KnownPrebuilds){ array_new(UUIDOID), array_new(UUIDOID), array_new(TEXTOID),
							 array_new(UUIDOID), array_new(BOOLOID) };
}

/* What is to be known of the first builds of the workspaces $6, without those of $1; each comes once. */
#define LOOKED_UP                                                                                  \
	"SELECT d.id, v.template_id::pg_catalog.uuid, p.name::pg_catalog.text,"                        \
	" f.job_id::pg_catalog.uuid, w.deleted::pg_catalog.bool FROM (SELECT DISTINCT u.id"            \
	"  FROM pg_catalog.unnest($6) u (id)"                                                          \
	"  WHERE u.id {<>} ALL (SELECT o.id FROM pg_catalog.unnest($1) o (id))) d,"                    \
	" LATERAL (SELECT ww.deleted FROM {cp}workspaces ww WHERE ww.id {=} d.id OFFSET 0) w,"         \
	" LATERAL (SELECT fb.job_id, fb.template_version_preset_id FROM {cp}workspace_builds fb"       \
	"  WHERE fb.workspace_id {=} d.id AND fb.build_number {=} 1 OFFSET 0) f,"                      \
	" " PRESET_OF("f.template_version_preset_id")

/*
 * Measure the first builds of prebuilds, in the active snapshot: of known ones, each of which comes
 * once, and of other workspaces, which this looks up. Leaves out those of the latter that are gone, or
 * whose build has no preset any more. at: the time from which a build that is not ready yet may be too
 * old. SPI must be connected. Sets *n and returns an array that is palloc'd in the current context.
 */
LeadTime *
lead_times_measure(const KnownPrebuilds *known, const ArrayParameter *workspaces, TimestampTz at,
				   int *n)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,  UUIDARRAYOID,
									BOOLARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID };
	Datum values[] = { array_datum(known->workspaces), array_datum(known->templates),
					   array_datum(known->presets),	   array_datum(known->jobs),
					   array_datum(known->gone),	   array_datum(workspaces),
					   TimestampTzGetDatum(at) };
	LeadTime *times;
	uint64 found;

	*n = 0;
	if (known->workspaces->n == 0 && workspaces->n == 0)
		return NULL;
	found = plan_execute(
		&plan,
		"SELECT i.id, i.template_id, i.preset_name, j.created_at::pg_catalog.timestamptz,"
		" CASE WHEN j.job_status {=} 'failed' THEN 'failed'"
		"  WHEN j.job_status {=} 'canceled' THEN 'canceled'"
		"  WHEN j.job_status {=} 'succeeded' AND a.broken THEN 'failed'"
		"  WHEN j.job_status {=} 'succeeded' AND a.agents {>} 0 AND a.agents {=} a.ready"
		"   THEN 'ready'"
		"  WHEN i.is_gone THEN 'canceled'"
		"  WHEN j.job_status {=} 'succeeded' AND a.all_ready THEN 'canceled'"
		"  WHEN j.created_at {<} ($7 {-} '" LONGEST "'::pg_catalog.interval) THEN 'failed'"
		"  END::pg_catalog.text,"
		" pg_catalog.date_part('epoch', COALESCE(j.started_at, j.created_at))"
		"  {-} pg_catalog.date_part('epoch', j.created_at),"
		" pg_catalog.date_part('epoch', j.completed_at)"
		"  {-} pg_catalog.date_part('epoch', COALESCE(j.started_at, j.created_at)),"
		" CASE WHEN j.job_status {=} 'succeeded' AND NOT a.broken"
		"   AND a.agents {>} COALESCE(a.ready, 0)"
		"  THEN pg_catalog.date_part('epoch', '" LONGEST "'::pg_catalog.interval)"
		"  ELSE pg_catalog.date_part('epoch', a.ready_at)"
		"   {-} pg_catalog.date_part('epoch', j.completed_at) END"
		" FROM (SELECT k.* FROM {unnest 5} k (id, template_id, preset_name, job_id, is_gone)"
		"  UNION ALL " LOOKED_UP ") i,"
		" LATERAL (SELECT pj.created_at, pj.started_at, pj.completed_at, pj.job_status"
		"  FROM {cp}provisioner_jobs pj WHERE pj.id {=} i.job_id OFFSET 0) j,"
		" LATERAL (SELECT pg_catalog.count(*) AS agents, pg_catalog.count(wa.ready_at) AS ready,"
		"   pg_catalog.max(wa.ready_at) AS ready_at, pg_catalog.bool_or("
		"    wa.lifecycle_state::pg_catalog.text {=} ANY ('{start_error,start_timeout}')) AS broken,"
		"   pg_catalog.bool_and(wa.lifecycle_state {=} 'ready') AS all_ready"
		"  FROM {cp}workspace_resources r, LATERAL (SELECT ca.ready_at, ca.lifecycle_state"
		"   FROM {cp}workspace_agents ca WHERE ca.resource_id {=} r.id AND ca.parent_id IS NULL"
		"   OFFSET 0) wa"
		"  WHERE r.job_id {=} i.job_id) a"
		" WHERE pg_catalog.isfinite(j.created_at)",
		PLAN_READ, lengthof(argtypes), argtypes, values, NULL);
	times = palloc_array(LeadTime, found + 1);
	for (uint64 i = 0; i < found; i++)
		times[i] = lead_time_of_row(i);
	SPI_freetuptable(SPI_tuptable);
	*n = (int) found;
	return times;
}

/*
 * Write measured builds into the log, each once, and count those that have become ready. Leaves out
 * builds from before "oldest". SPI must be connected.
 */
void
lead_times_write(const LeadTime *times, int n, TimestampTz oldest)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDARRAYOID,	UUIDARRAYOID,		 TEXTARRAYOID,
									TEXTARRAYOID,	FLOAT8ARRAYOID,		 FLOAT8ARRAYOID,
									FLOAT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID };
	ArrayParameter *columns[] = { array_new(UUIDOID),	array_new(UUIDOID),
								  array_new(TEXTOID),	array_new(TEXTOID),
								  array_new(FLOAT8OID), array_new(FLOAT8OID),
								  array_new(FLOAT8OID), array_new(TIMESTAMPTZOID) };
	Datum values[lengthof(columns) + 1];

	for (int i = 0; i < n; i++)
	{
		if (times[i].built_at < oldest)
			continue;
		array_add_id(columns[0], &times[i].workspace_id);
		array_add_id(columns[1], &times[i].template_id);
		array_add_text(columns[2], times[i].preset_name);
		if (times[i].outcome == LEAD_TIME_OPEN)
			array_add_null(columns[3]);
		else
			array_add_text(columns[3], outcomes[times[i].outcome]);
		for (int part = 0; part < LEAD_TIME_PARTS; part++)
			if (lead_time_has_parts(&times[i]))
				array_add(columns[4 + part], Float8GetDatum(times[i].parts[part]));
			else
				array_add_null(columns[4 + part]);
		array_add(columns[7], TimestampTzGetDatum(times[i].built_at));
	}
	if (columns[0]->n == 0)
		return;
	for (size_t i = 0; i < lengthof(columns); i++)
		values[i] = array_datum(columns[i]);
	values[lengthof(columns)] = CStringGetTextDatum(setting_control_plane_schema);
	plan_execute(
		&plan,
		"WITH written AS (INSERT INTO {ext}prebuild_lead_time_log AS l (control_plane,"
		"  workspace_id, template_id, preset_name, built_at, outcome, waiting, building, starting)"
		" SELECT $9, t.workspace_id, t.template_id, t.preset_name, t.built_at, t.outcome,"
		"  t.waiting, t.building, t.starting"
		" FROM {unnest 8} t (workspace_id, template_id, preset_name, outcome, waiting, building,"
		"  starting, built_at)"
		" ON CONFLICT (control_plane, workspace_id) DO UPDATE SET outcome = excluded.outcome,"
		"  waiting = excluded.waiting, building = excluded.building, starting = excluded.starting"
		" WHERE l.outcome IS NULL AND excluded.outcome IS NOT NULL"
		" RETURNING l.template_id, l.preset_name, l.outcome, l.waiting, l.building, l.starting,"
		"  l.waiting {+} l.building {+} l.starting AS seconds),"
		" parts AS (INSERT INTO {ext}prebuild_preset_count AS k (control_plane, template_id,"
		"   preset_name, counter, value)"
		"  SELECT $9, w.template_id, w.preset_name, p.part, pg_catalog.sum(p.seconds)"
		"  FROM written w, LATERAL (VALUES ('" COUNT_WAITING "', w.waiting),"
		"   ('" COUNT_BUILDING "', w.building), ('" COUNT_STARTING
		"', w.starting)) p (part, seconds)"
		"  WHERE w.outcome {=} 'ready' GROUP BY w.template_id, w.preset_name, p.part"
		"  ON CONFLICT (control_plane, template_id, preset_name, counter)"
		"   DO UPDATE SET value = k.value {+} excluded.value)"
		" INSERT INTO {ext}prebuild_lead_time_stats AS s (control_plane, template_id, preset_name,"
		"  builds, seconds, buckets)"
		" SELECT $9, c.template_id, c.preset_name, pg_catalog.max(c.builds),"
		"  pg_catalog.max(c.seconds), pg_catalog.array_agg(c.builds ORDER BY c.bound)"
		" FROM (SELECT w.template_id, w.preset_name, b.bound,"
		"   pg_catalog.count(*) FILTER (WHERE w.seconds {<=} b.bound) AS builds,"
		"   pg_catalog.sum(w.seconds) AS seconds"
		"  FROM written w, pg_catalog.unnest(" BOUNDS "::pg_catalog.float8[]) b (bound)"
		"  WHERE w.outcome {=} 'ready' GROUP BY w.template_id, w.preset_name, b.bound) c"
		" GROUP BY c.template_id, c.preset_name"
		" ON CONFLICT (control_plane, template_id, preset_name) DO UPDATE SET"
		"  builds = s.builds {+} excluded.builds, seconds = s.seconds {+} excluded.seconds,"
		"  buckets = " ADDED_BUCKETS,
		PLAN_FRESH_OWN, lengthof(columns) + 1, argtypes, values, NULL);
}

/* The templates that are not deleted, as an array. */
static Datum
live_templates(void)
{
	static KeptPlan plan;
	Datum templates;

	plan_execute(&plan,
				 "SELECT COALESCE(pg_catalog.array_agg(t.id::pg_catalog.uuid), '{}')"
				 " FROM {cp}templates t WHERE NOT t.deleted",
				 PLAN_READ, 0, NULL, NULL, NULL);
	templates = datumCopy(row_get(0, 1), false, -1);
	SPI_freetuptable(SPI_tuptable);
	return templates;
}

/*
 * Delete the histograms and counts of templates that are gone, once the log has no build of the
 * preset either, and those of control planes that are gone. Those of other templates stay, whatever
 * the log keeps: a counter must not fall.
 */
static void
prune_stats(void)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDARRAYOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), live_templates() };

#define DELETE_GONE(table)                                                                          \
	"DELETE FROM {ext}" table " s WHERE s.control_plane {=} $1"                                     \
	" AND NOT s.template_id {=} ANY ($2) AND NOT EXISTS (SELECT FROM {ext}prebuild_lead_time_log l" \
	"  WHERE l.control_plane {=} s.control_plane AND l.template_id {=} s.template_id"               \
	"  AND l.preset_name {=} s.preset_name) OR NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n"   \
	"  WHERE n.nspname {=} s.control_plane::pg_catalog.name)"
	plan_execute(
		&plan,
		"WITH times AS (" DELETE_GONE(
			"prebuild_lead_time_stats") "),"
										" claims AS (" DELETE_GONE(
											"prebuild_claim_time_stats") "),"
																		 " counts AS (" DELETE_GONE(
																			 "prebuild_preset_count") ") " DELETE_GONE("prebuild_idle"),
		PLAN_FRESH_OWN, 2, argtypes, values, NULL);
}

/*
 * Delete builds from before "oldest", and those without an outcome whose workspace must be gone, as
 * they would have one; and the histograms that have no builds left. SPI must be connected.
 */
void
lead_times_prune(TimestampTz oldest, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID };
	Datum values[] = { TimestampTzGetDatum(oldest), TimestampTzGetDatum(at - 2 * USECS_PER_DAY),
					   CStringGetTextDatum(setting_control_plane_schema) };

	plan_execute(&plan,
				 "DELETE FROM {ext}prebuild_lead_time_log l WHERE l.ctid {=} ANY (ARRAY("
				 " (SELECT o.ctid FROM {ext}prebuild_lead_time_log o WHERE o.built_at {<} $1"
				 "  ORDER BY o.built_at LIMIT " ROWS_AT_ONCE ") UNION ALL"
				 " (SELECT o.ctid FROM {ext}prebuild_lead_time_log o WHERE o.control_plane {=} $3"
				 "  AND o.outcome IS NULL AND o.built_at {<} $2"
				 "  ORDER BY o.built_at LIMIT " ROWS_AT_ONCE ")))",
				 PLAN_FRESH_OWN, 3, argtypes, values, NULL);
	prune_stats();
}

/*
 * Read the histograms in the active snapshot: leaves rows of template, preset's name, upper bound,
 * builds up to it, all builds and their seconds in SPI_tuptable and returns their number. Returns 0,
 * and leaves nothing, if the script has no such table. SPI must be connected.
 */
uint64
lead_times_metrics(void)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };

	if (!demand_log_exists())
		return 0;
	return plan_execute(
		&plan,
		"SELECT s.template_id, s.preset_name, u.bound, u.builds, s.builds, s.seconds"
		" FROM {ext}prebuild_lead_time_stats s, ROWS FROM (pg_catalog.unnest(" BOUNDS
		"::pg_catalog.float8[]), pg_catalog.unnest(s.buckets)) u (bound, builds)"
		" WHERE s.control_plane {=} $1",
		PLAN_READ_OWN, 1, argtypes, values, NULL);
}

/* As lead_times_metrics(), of how long claimed prebuilds had waited. */
uint64
claim_times_metrics(void)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };

	if (!demand_log_exists())
		return 0;
	return plan_execute(
		&plan,
		"SELECT s.template_id, s.preset_name, u.bound, u.claims, s.claims, s.seconds"
		" FROM {ext}prebuild_claim_time_stats s, ROWS FROM (pg_catalog.unnest(" CLAIM_TIME_BOUNDS
		"::pg_catalog.float8[]), pg_catalog.unnest(s.buckets)) u (bound, claims)"
		" WHERE s.control_plane {=} $1",
		PLAN_READ_OWN, 1, argtypes, values, NULL);
}
