/*
 * loop_metrics.c
 *	  Metrics of what runs the passes: their age, the workers, the log of the stored pool, the buffer
 *	  of agent metadata.
 *
 *	  All of it is the extension's own, and is read with the rights of its owner. The install script
 *	  of 0.1 has no such objects, so with it there are no such metrics.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/result_row.h"
#include "demand/demand_marker.h"
#include "metadata/metadata_stats.h"
#include "metrics/loop_metrics.h"
#include "metrics/metric_rows.h"
#include "settings.h"

/* Store one metric without labels. */
void
metric_put_gauge(ReturnSetInfo *rsinfo, const char *name, double value, const char *help)
{
	ResultRow row;

	row.n = 0;
	result_put_text(&row, name);
	result_put_json(&row, "{}");
	result_put_float8(&row, value);
	result_put_text(&row, "gauge");
	result_put_text(&row, help);
	result_row_store(rsinfo, &row);
}

/*
 * Store the ages of the last pass and of the workers, and the length of the pool's log. at: the clock
 * of passes. The age is that of the last pass that could write the log of demands, which all do but
 * those that a lock keeps from it.
 */
void
put_loop_state(ReturnSetInfo *rsinfo, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), TimestampTzGetDatum(at),
					   TimestampTzGetDatum(GetCurrentTimestamp()) };

	if (!demand_log_exists())
		return;
	result_store_rows(
		rsinfo,
		plan_execute(
			&plan,
			"SELECT 'prebuild_ext_' {||} m.name, m.labels, m.value::pg_catalog.float8,"
			" 'gauge'::pg_catalog.text, m.help::pg_catalog.text FROM ("
			"  SELECT 'pass_age_seconds', '{}'::pg_catalog.jsonb,"
			"   GREATEST(pg_catalog.date_part('epoch', $2) {-} pg_catalog.date_part('epoch',"
			"    d.looked_at), 0), 'Time since the last pass, in seconds; absent before the first'"
			"  FROM {ext}prebuild_demand_marker d WHERE d.control_plane {=} $1"
			"  UNION ALL SELECT 'pool_log_entries', '{}', pg_catalog.count(*),"
			"   'Entries of the log of the stored pool that no fold has processed'"
			"  FROM {ext}prebuild_pool_log"
			"  UNION ALL SELECT w.name, pg_catalog.jsonb_build_object('lane', l.lane), w.value, w.help"
			"  FROM {ext}prebuild_worker_status_read() s, LATERAL (VALUES"
			"   ('metadata', s.state, s.pid, s.started_at),"
			"   ('passes', s.pass_state, s.pass_pid, s.pass_started_at)) l (lane, state, pid, since),"
			"   LATERAL (VALUES ('worker_serving', CASE WHEN l.state {=} 'serving' THEN 1 ELSE 0 END,"
			"     '1 while a worker serves this database, otherwise 0'),"
			"    ('worker_age_seconds', CASE WHEN l.pid IS NOT NULL THEN GREATEST("
			"      pg_catalog.date_part('epoch', $3) {-} pg_catalog.date_part('epoch', l.since), 0) END,"
			"     'Time since a worker''s process started, in seconds')) w (name, value, help)"
			"  WHERE l.state IS NOT NULL AND w.value IS NOT NULL) m (name, labels, value, help)",
			PLAN_READ_OWN, 3, argtypes, values, NULL));
}

/* Store how full the buffer of agent metadata is. Nothing on a server that does not buffer. */
void
put_buffer_state(ReturnSetInfo *rsinfo)
{
	double fill;
	int64 waiting;

	if (!metadata_stats_buffer(&fill, &waiting))
		return;
	metric_put_gauge(rsinfo, "prebuild_ext_metadata_buffer_used_ratio", fill,
					 "Share of the buffer of agent metadata, of all databases, that is in use");
	metric_put_gauge(rsinfo, "prebuild_ext_metadata_waiting_entries", (double) waiting,
					 "Entries of agent metadata that wait to be written");
}
