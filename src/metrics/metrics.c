/*
 * metrics.c
 *	  SQL function prebuild_metrics_read(): the metrics of the loop, with the names, labels and
 *	  meanings that the control plane's own reconciler gives them. The metrics come in parts, so
 *	  that a reader of one metric does not pay for all.
 *
 *	  Labels are names, not ids, and names need not be unique. So each query sums by name, and no
 *	  series appears twice.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "catalog/control_plane_catalog.h"
#include "decision/judgement.h"
#include "demand/auto_target.h"
#include "metrics/checks.h"
#include "metrics/demand_metrics.h"
#include "metrics/loop_metrics.h"
#include "metrics/metric_rows.h"
#include "pass/pass_stats.h"
#include "pass/pause.h"
#include "base/plans.h"
#include "pass/pruning.h"
#include "base/result_row.h"
#include "base/rows.h"

PG_FUNCTION_INFO_V1(prebuild_metrics_read);

/* What the metrics of the pool tell of a preset, in columns. */
#define POOL_COLUMNS 15

/*
 * Judge the control plane, without the warnings of a pass, which each scrape would repeat. Like
 * prebuild_state(), raise an error rather than count only the rows that a policy shows.
 */
static const PoolSnapshot *
judge(TimestampTz at)
{
	int guc_level = NewGUCNestLevel();
	const PoolSnapshot *pool;

	set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
	pool = judgement_make(at)->pool;
	AtEOXact_GUC(true, guc_level);
	return pool;
}

/*
 * Add what the policy of a preset in mode auto wants, and how many demands an hour it expects; NULL for
 * what it does not say, or if the preset is in another mode.
 */
static void
add_policy(ArrayParameter *targets, ArrayParameter *rates, const AutoPreset *sized)
{
	if (sized == NULL)
		array_add_null(targets);
	else
		array_add(targets, Int32GetDatum(sized->target));
	if (sized == NULL || sized->source != AUTO_POLICY ||
		sized->choice->policy.kind != POLICY_FORECAST)
		array_add_null(rates);
	else
		array_add(rates, Float8GetDatum(sized->answer.rate));
}

/* Gather what the metrics tell of presets of active versions: an array for each column. */
static void
gather_presets(const PoolSnapshot *pool, Datum *arrays)
{
	ArrayParameter *columns[POOL_COLUMNS] = {
		array_new(TEXTOID), array_new(TEXTOID), array_new(TEXTOID),	 array_new(INT4OID),
		array_new(INT4OID), array_new(INT4OID), array_new(BOOLOID),	 array_new(BOOLOID),
		array_new(BOOLOID), array_new(BOOLOID), array_new(INT4OID),	 array_new(INT4OID),
		array_new(INT4OID), array_new(INT4OID), array_new(FLOAT8OID)
	};

	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];

		if (!preset->active)
			continue;
		array_add_text(columns[0], preset->details->template_name);
		array_add_text(columns[1], preset->details->name);
		array_add_text(columns[2], preset->details->organization_name);
		array_add(columns[3], Int32GetDatum(preset->desired));
		array_add(columns[4], Int32GetDatum(preset->actual));
		array_add(columns[5], Int32GetDatum(preset->eligible));
		array_add(columns[6], BoolGetDatum(preset->hard_limited));
		array_add(columns[7], BoolGetDatum(preset->status == STATUS_VALIDATION_FAILED));
		array_add(columns[8], BoolGetDatum(preset->backing_off));
		array_add(columns[9], BoolGetDatum(preset->withheld == WITHHELD_NO_PROVISIONER));
		array_add(columns[10], Int32GetDatum(preset->sick));
		array_add(columns[11], Int32GetDatum(preset->serving));
		array_add(columns[12], Int32GetDatum(preset->waiting));
		add_policy(columns[13], columns[14], preset->details->sized);
	}
	for (int i = 0; i < POOL_COLUMNS; i++)
		arrays[i] = array_datum(columns[i]);
}

/* pool: existing and desired prebuilds of active template versions */
static void
put_pool(ReturnSetInfo *rsinfo, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[POOL_COLUMNS] = { TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
												INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
												BOOLARRAYOID, BOOLARRAYOID, BOOLARRAYOID,
												BOOLARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
												INT4ARRAYOID, INT4ARRAYOID, FLOAT8ARRAYOID };
	Datum values[POOL_COLUMNS];

	gather_presets(judge(at), values);
	result_store_rows(
		rsinfo,
		plan_execute(
			&plan,
			"SELECT m.name::pg_catalog.text, " PRESET_LABELS ","
			" m.value::pg_catalog.float8, 'gauge'::pg_catalog.text, m.help::pg_catalog.text"
			" FROM (SELECT p.template_name, p.preset_name, p.organization_name,"
			"   pg_catalog.sum(p.desired), pg_catalog.sum(p.running), pg_catalog.sum(p.eligible),"
			"   pg_catalog.bool_or(p.hard_limited), pg_catalog.bool_or(p.validation_failed),"
			"   pg_catalog.bool_or(p.backing_off), pg_catalog.bool_or(p.no_provisioner),"
			"   pg_catalog.sum(p.sick), pg_catalog.sum(p.serving), pg_catalog.sum(p.waiting),"
			"   pg_catalog.sum(p.target), pg_catalog.sum(p.rate)"
			"  FROM {unnest 15} p (template_name, preset_name, organization_name, desired, running,"
			"   eligible, hard_limited, validation_failed, backing_off, no_provisioner, sick,"
			"   serving, waiting, target, rate)"
			"  GROUP BY p.template_name, p.preset_name, p.organization_name)"
			"  s (template_name, preset_name, organization_name, desired, running, eligible,"
			"   hard_limited, validation_failed, backing_off, no_provisioner, sick, serving,"
			"   waiting, target, rate),"
			" LATERAL (VALUES"
			"  ('coderd_prebuilt_workspaces_desired', s.desired,"
			"   'Prebuilt workspaces that a preset should have'),"
			"  ('coderd_prebuilt_workspaces_running', s.running,"
			"   'Prebuilt workspaces that run, whether their agents are ready or not'),"
			"  ('coderd_prebuilt_workspaces_eligible', s.eligible,"
			"   'Prebuilt workspaces that can be claimed'),"
			"  ('coderd_prebuilt_workspaces_preset_hard_limited',"
			"   CASE WHEN s.hard_limited THEN 1 END,"
			"   '1 for a preset whose newest builds all failed, absent otherwise'),"
			"  ('coderd_prebuilt_workspaces_preset_validation_failed',"
			"   CASE WHEN s.validation_failed THEN 1 END,"
			"   '1 for a preset that cannot be built until its template changes, absent"
			" otherwise'),"
			"  ('prebuild_ext_preset_backing_off', CASE WHEN s.backing_off THEN 1 END,"
			"   '1 for a preset that passes do not build for now because builds failed, absent"
			" otherwise'),"
			"  ('prebuild_ext_preset_no_provisioner', CASE WHEN s.no_provisioner THEN 1 ELSE 0 END,"
			"   '1 for a preset that no live provisioner daemon can build, otherwise 0'),"
			"  ('prebuild_ext_preset_sick', s.sick, 'Prebuilt workspaces of a preset that are sick'),"
			"  ('prebuild_ext_preset_serving', s.serving,"
			"   'Expired prebuilt workspaces of a preset that stay until their replacements are"
			" ready'),"
			"  ('prebuild_ext_preset_waiting', s.waiting,"
			"   'Prebuilt workspaces that a preset gets after expired ones have gone'),"
			"  ('prebuild_ext_preset_policy_target', s.target,"
			"   'Prebuilt workspaces that a preset in mode auto should have, absent in other modes'),"
			"  ('prebuild_ext_preset_forecast_demands_per_hour', s.rate,"
			"   'Demands an hour that the policy of a preset in mode auto expects, absent if it expects"
			" none in particular'))"
			" m (name, value, help)"
			" WHERE m.value IS NOT NULL"
			" ORDER BY m.name, s.template_name, s.preset_name, s.organization_name",
			PLAN_READ, POOL_COLUMNS, argtypes, values, NULL));
}

/* Count the claims that replaced resources, as three arrays: templates, presets, counts. */
static void
read_replacements(Datum *arrays)
{
	static KeptPlan plan;
	ArrayParameter *templates = array_new(UUIDOID);
	ArrayParameter *presets = array_new(UUIDOID);
	ArrayParameter *counts = array_new(INT8OID);
	uint64 n =
		plan_execute(&plan,
					 psprintf("SELECT r.template_id::pg_catalog.uuid,"
							  " r.preset_id::pg_catalog.uuid, pg_catalog.count(*)"
							  " FROM {ext}prebuild_replacement r"
							  " WHERE r.preset_id IS NOT NULL"
							  " GROUP BY r.template_id, r.preset_id%s",
							  pruning_has_claim_counts()
								  ? " UNION ALL SELECT c.template_id::pg_catalog.uuid,"
									" c.preset_id::pg_catalog.uuid, c.claims::pg_catalog.int8"
									" FROM {ext}prebuild_replacement_count c"
								  : ""),
					 PLAN_READ_OWN, 0, NULL, NULL, NULL);

	/* the rows stay until SPI_finish, so the arrays may point into them */
	for (uint64 i = 0; i < n; i++)
	{
		array_add(templates, row_get(i, 1));
		array_add(presets, row_get(i, 2));
		array_add(counts, row_get(i, 3));
	}
	arrays[0] = array_datum(templates);
	arrays[1] = array_datum(presets);
	arrays[2] = array_datum(counts);
}

/* history: all prebuilds ever built for presets of templates that are not deleted */
static void
put_history(ReturnSetInfo *rsinfo)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID };
	Datum values[3];

	read_replacements(values);
	result_store_rows(
		rsinfo,
		plan_execute(
			&plan,
			"SELECT m.name::pg_catalog.text, " PRESET_LABELS ","
			" m.value::pg_catalog.float8, 'counter'::pg_catalog.text, m.help::pg_catalog.text"
			" FROM (SELECT t.name, p.name, o.name, pg_catalog.sum(c.created),"
			"   pg_catalog.sum(c.failed), pg_catalog.sum(c.claimed),"
			"   COALESCE(pg_catalog.sum(c.replaced), 0)"
			"  FROM ("
			"   SELECT w.template_id, b.template_version_preset_id, pg_catalog.count(*),"
			"    pg_catalog.count(*) FILTER (WHERE j.job_status {=} 'failed'),"
			"    pg_catalog.count(*) FILTER"
			"     (WHERE w.owner_id {<>} '" SYSTEM_USER "'::pg_catalog.uuid), NULL"
			"   FROM {cp}workspace_builds b"
			"   JOIN {cp}workspaces w ON w.id {=} b.workspace_id"
			"   JOIN {cp}provisioner_jobs j ON j.id {=} b.job_id"
			"   WHERE b.build_number {=} 1"
			"    AND b.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid"
			"    AND b.template_version_preset_id IS NOT NULL"
			"   GROUP BY w.template_id, b.template_version_preset_id"
			"   UNION ALL"
			"   SELECT r.template_id, r.preset_id, NULL, NULL, NULL, r.claims"
			"   FROM {unnest 3} r (template_id, preset_id, claims))"
			"   c (template_id, preset_id, created, failed, claimed, replaced)"
			"  JOIN {cp}templates t ON t.id {=} c.template_id AND NOT t.deleted"
			"  JOIN {cp}organizations o ON o.id {=} t.organization_id"
			"  JOIN {cp}template_version_presets p ON p.id {=} c.preset_id"
			"  GROUP BY t.name, p.name, o.name)"
			"  s (template_name, preset_name, organization_name, created, failed, claimed,"
			"   replaced),"
			" LATERAL (VALUES"
			"  ('coderd_prebuilt_workspaces_created_total', s.created,"
			"   'Prebuilt workspaces ever created for a preset'),"
			"  ('coderd_prebuilt_workspaces_failed_total', s.failed,"
			"   'Prebuilt workspaces that failed to build'),"
			"  ('coderd_prebuilt_workspaces_claimed_total', s.claimed,"
			"   'Prebuilt workspaces that users have claimed'),"
			"  ('coderd_prebuilt_workspaces_resource_replacements_total', s.replaced,"
			"   'Claims whose build replaced resources of the prebuilt workspace'))"
			" m (name, value, help)"
			" WHERE m.value IS NOT NULL"
			" ORDER BY m.name, s.template_name, s.preset_name, s.organization_name",
			PLAN_READ, 3, argtypes, values, NULL));
}

/* loop: the state of the reconciliation itself */
static void
put_loop(ReturnSetInfo *rsinfo, TimestampTz at)
{
	metric_put_gauge(rsinfo, "coderd_prebuilt_workspaces_reconciliation_paused",
					 pause_is_on() ? 1 : 0, "1 while reconciliation is paused, otherwise 0");
	metric_put_gauge(rsinfo, "coderd_prebuilt_workspaces_metrics_last_updated",
					 (double) (at - SetEpochTimestamp()) / USECS_PER_SEC,
					 "Unix time of these metrics, in seconds");
	put_loop_state(rsinfo, at);
	result_store_rows(rsinfo,
					  pass_stats_metrics("coderd_prebuilds_reconciliation_duration_seconds",
										 "Duration of passes of the reconciliation, in seconds"));
}

/* metadata: the buffer of agent metadata of this database, since the server started */
static void
put_metadata(ReturnSetInfo *rsinfo)
{
	static KeptPlan counters, histograms;

	result_store_rows(
		rsinfo,
		plan_execute(
			&counters,
			"SELECT 'coderd_agentapi_metadata_' {||} m.name,"
			" pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('reason', r.reason)),"
			" r.value::pg_catalog.float8, 'counter'::pg_catalog.text, m.help::pg_catalog.text"
			" FROM {ext}prebuild_metadata_stats_read() s, (VALUES"
			"  (1, 'batches_total', 'Batches of agent metadata written'),"
			"  (2, 'flushed_total', 'Entries of agent metadata written'),"
			"  (3, 'dropped_keys_total',"
			"   'Entries of agent metadata dropped because the buffer was full'),"
			"  (4, 'publish_errors_total',"
			"   'Batches of agent metadata that could not be published'))"
			" m (metric, name, help), LATERAL (VALUES"
			"  (1, 'capacity', s.batches_capacity), (1, 'scheduled', s.batches_scheduled),"
			"  (1, 'shutdown', s.batches_shutdown), (1, 'manual', s.batches_manual),"
			"  (2, NULL, s.flushed), (3, NULL, s.dropped), (4, NULL, s.publish_errors))"
			" r (metric, reason, value)"
			" WHERE r.metric {=} m.metric ORDER BY m.metric, r.reason",
			PLAN_READ_OWN, 0, NULL, NULL, NULL));
	result_store_rows(
		rsinfo,
		plan_execute(
			&histograms,
			"SELECT 'coderd_agentapi_metadata_' {||} h.histogram {||} m.suffix,"
			" pg_catalog.jsonb_strip_nulls("
			"  pg_catalog.jsonb_build_object('reason', h.reason, 'le', m.bound)),"
			" m.value::pg_catalog.float8, 'histogram'::pg_catalog.text,"
			" (CASE h.histogram"
			"  WHEN 'batch_size' THEN 'Entries in a batch of agent metadata'"
			"  WHEN 'batch_utilization' THEN 'Keys of an agent in a batch of agent metadata'"
			"  ELSE 'Duration of writing a batch of agent metadata, in seconds' END)::pg_catalog.text"
			" FROM {ext}prebuild_metadata_histograms() h, LATERAL ("
			"  SELECT '_bucket', CASE WHEN h.upper_bound {=} 'Infinity' THEN '+Inf'"
			"    ELSE h.upper_bound::pg_catalog.text END, h.count::pg_catalog.float8"
			"  UNION ALL SELECT '_sum', NULL, h.sum WHERE h.upper_bound {=} 'Infinity'"
			"  UNION ALL SELECT '_count', NULL, h.count WHERE h.upper_bound {=} 'Infinity')"
			"  m (suffix, bound, value)"
			" ORDER BY h.histogram, h.reason, h.upper_bound, m.suffix",
			PLAN_READ_OWN, 0, NULL, NULL, NULL));
	put_buffer_state(rsinfo);
}

/*
 * identity: the cache of agents' identities, over all sessions of this database; the shared counts
 * exist only on a server that preloads the library
 */
static void
put_identity(ReturnSetInfo *rsinfo)
{
	static KeptPlan plan;

	result_store_rows(
		rsinfo,
		plan_execute(
			&plan,
			"SELECT 'prebuild_ext_identity_cache_' {||} m.name, '{}'::pg_catalog.jsonb,"
			" m.value::pg_catalog.float8, 'counter'::pg_catalog.text, m.help::pg_catalog.text"
			" FROM {ext}prebuild_identity_stats_read() s, LATERAL (VALUES"
			"  (1, 'hits_total', s.hits, 'Look-ups of agent identities that the cache answered'),"
			"  (2, 'misses_total', s.misses,"
			"   'Look-ups of agent identities that read the tables'),"
			"  (3, 'invalidations_total', s.invalidations,"
			"   'Agent identities dropped from the cache because they may have changed'))"
			" m (position, name, value, help)"
			" WHERE s.scope {=} 'database' ORDER BY m.position",
			PLAN_READ_OWN, 0, NULL, NULL, NULL));
}

/* health: what prebuild_health() says, a number for each check */
static void
put_health(ReturnSetInfo *rsinfo, TimestampTz at)
{
	static const double values[] = { 0, 1, 2, -1 };
	CheckResult *results = checks_run(at);

	for (int i = 0; i < checks_count(); i++)
	{
		ResultRow row = { .n = 0 };

		result_put_text(&row, "prebuild_ext_health");
		result_put_json(&row, psprintf("{\"check\": \"%s\"}", checks_get(i)->name));
		result_put_float8(&row, values[results[i].status]);
		result_put_text(&row, "gauge");
		result_put_text(&row, "What prebuild_health() says: 0 is ok, 1 warn, 2 fail, -1 unknown");
		result_row_store(rsinfo, &row);
	}
}

/* The parts, in the order of the result. */
static const char *const parts[] = { "pool", "history",	 "demand",	 "times",
									 "loop", "metadata", "identity", "health" };

/* Raise an error for an unknown part. */
static void
check_part(const char *part)
{
	for (size_t i = 0; i < lengthof(parts); i++)
		if (strcmp(part, parts[i]) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized part of the metrics: \"%s\"", part),
			 errhint("Valid parts are pool, history, demand, times, loop, metadata, identity "
					 "and health.")));
}

static bool
wanted(const char *part, const char *name)
{
	return part == NULL || strcmp(part, name) == 0;
}

/* prebuild_metrics_read(at timestamptz, part text): one part of the metrics; all if part is NULL */
Datum
prebuild_metrics_read(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_time(fcinfo, 0, "at");
	char *part = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (part != NULL)
		check_part(part);
	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	/* health says by itself what is missing */
	if (part == NULL || strcmp(part, "health") != 0)
		control_plane_require();
	if (wanted(part, "pool"))
		put_pool(rsinfo, argument_clock(fcinfo, 0, "at"));
	if (wanted(part, "history"))
		put_history(rsinfo);
	if (wanted(part, "demand"))
		put_demand(rsinfo, at);
	if (wanted(part, "times"))
		put_times(rsinfo);
	if (wanted(part, "loop"))
		put_loop(rsinfo, at);
	if (wanted(part, "metadata"))
		put_metadata(rsinfo);
	if (wanted(part, "identity"))
		put_identity(rsinfo);
	if (wanted(part, "health"))
		put_health(rsinfo, argument_clock(fcinfo, 0, "at"));
	plans_leave();
	return (Datum) 0;
}
