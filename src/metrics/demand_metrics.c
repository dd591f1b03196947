/*
 * demand_metrics.c
 *	  Metrics of the presets of one name of a template: who asked, who got nothing, how long
 *	  prebuilds waited, what became of them, and how long they took.
 *
 *	  The counters are what passes keep (preset_counts.c, lead_time_log.c), so they never fall when
 *	  old rows go. They are read with the rights of the extension's owner, and the names of
 *	  templates and organizations with the caller's. Templates that are deleted are left out.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"

#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"
#include "demand/lead_time_log.h"
#include "demand/preset_counts.h"
#include "metrics/demand_metrics.h"
#include "metrics/metric_rows.h"

/* Copy n rows of SPI_tuptable into columns for unnest(). They stay until SPI_finish. */
static void
add_rows(ArrayParameter **columns, int ncolumns, uint64 n)
{
	for (uint64 i = 0; i < n; i++)
		for (int column = 0; column < ncolumns; column++)
			array_add(columns[column], row_get(i, column + 1));
}

/*
 * Counters: a metric for each, also where a preset has not counted any. Of what had no demand in a day
 * or a week there are no such gauges.
 */
static const char *const demand_statement =
	"SELECT 'prebuild_ext_' {||} m.name, " PRESET_LABELS ", m.value::pg_catalog.float8,"
	" m.type::pg_catalog.text, m.help::pg_catalog.text"
	" FROM (SELECT t.name, c.preset_name, o.name, pg_catalog.jsonb_object_agg(c.counter, c.value)"
	"  FROM (SELECT u.template_id, u.preset_name, u.counter, pg_catalog.sum(u.value) AS value"
	"   FROM {unnest 4} u (template_id, preset_name, counter, value) GROUP BY 1, 2, 3) c"
	"  JOIN {cp}templates t ON t.id {=} c.template_id AND NOT t.deleted"
	"  JOIN {cp}organizations o ON o.id {=} t.organization_id"
	"  GROUP BY t.name, c.preset_name, o.name)"
	"  s (template_name, preset_name, organization_name, counts),"
	" LATERAL (SELECT v.name, COALESCE((s.counts {->>} v.counter)::pg_catalog.float8, 0), 'counter',"
	"   v.help FROM (VALUES"
	"    ('demands_warm_total', 'warm', 'Times that somebody asked for a preset and got a prebuild'),"
	"    ('demands_cold_total', 'cold', 'Times that somebody asked for a preset and got none'),"
	"    ('claims_without_prebuild_total', 'nothing', 'Calls of prebuild_claim() that found none'),"
	"    ('idle_seconds_total', 'idle', 'Time that eligible prebuilds waited, in seconds'),"
	"    ('sick_replaced_total', 'deleted_sick', 'Sick prebuilds that passes deleted'),"
	"    ('expired_total', 'deleted_expired', 'Expired prebuilds that passes deleted'),"
	"    ('extraneous_total', 'deleted_extraneous', 'Prebuilds beyond the target that passes"
	" deleted'),"
	"    ('inactive_total', 'deleted_inactive', 'Prebuilds of inactive presets that passes deleted'),"
	"    ('canceled_total', 'deleted_canceled', 'Pending builds of inactive presets that passes"
	" canceled'),"
	"    ('cleaned_total', 'deleted_cleaned', 'Failed, canceled and stopped prebuilds that were"
	" deleted'),"
	"    ('deletes_retried_total', 'deleted_again', 'Failed delete builds that passes tried again'),"
	"    ('retries_total', 'retries', 'Calls of prebuild_retry()'),"
	"    ('lead_time_waiting_seconds_total', 'waiting', 'Part of lead times until a daemon took the"
	" job, in seconds'),"
	"    ('lead_time_building_seconds_total', 'building', 'Part of lead times from then until the job"
	" was complete, in seconds'),"
	"    ('lead_time_starting_seconds_total', 'starting', 'Part of lead times from then until all"
	" agents were ready, in seconds')) v (name, counter, help)"
	"  UNION ALL SELECT 'last_' {||} r.span {||} v.name, v.value, 'gauge', v.help {||} r.span"
	"   FROM (SELECT w.span, (s.counts {->>} (w.span {||} '_warm'))::pg_catalog.float8 AS warm,"
	"    (s.counts {->>} (w.span {||} '_cold'))::pg_catalog.float8 AS cold"
	"    FROM (VALUES ('day'), ('week')) w (span)) r, LATERAL (VALUES"
	"    ('_demands', r.warm {+} r.cold, 'Times that somebody asked for a preset in the last '),"
	"    ('_missed', r.cold, 'Times that somebody got no prebuild in the last '),"
	"    ('_hit_ratio', r.warm {/} NULLIF(r.warm {+} r.cold, 0), 'Share of those who asked for a"
	" preset and got a prebuild, in the last ')) v (name, value, help)"
	"   WHERE (r.warm {+} r.cold) {>} 0) m (name, value, type, help)"
	" ORDER BY m.name, s.template_name, s.preset_name, s.organization_name";

/* demand: who asked for presets, and what became of prebuilds. at: until when the gauges look back. */
void
put_demand(ReturnSetInfo *rsinfo, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[PRESET_COUNT_COLUMNS] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
														FLOAT8ARRAYOID };
	ArrayParameter *columns[PRESET_COUNT_COLUMNS] = { array_new(UUIDOID), array_new(TEXTOID),
													  array_new(TEXTOID), array_new(FLOAT8OID) };
	Datum values[PRESET_COUNT_COLUMNS];

	add_rows(columns, PRESET_COUNT_COLUMNS, preset_counts_metrics());
	add_rows(columns, PRESET_COUNT_COLUMNS, recent_demands(at));
	for (int i = 0; i < PRESET_COUNT_COLUMNS; i++)
		values[i] = array_datum(columns[i]);
	result_store_rows(rsinfo, plan_execute(&plan, demand_statement, PLAN_READ, PRESET_COUNT_COLUMNS,
										   argtypes, values, NULL));
}

/* Store the histogram of which SPI_tuptable has n rows. */
static void
put_histogram(ReturnSetInfo *rsinfo, uint64 n, const char *name, const char *help)
{
	static KeptPlan plan;
	static const Oid argtypes[LEAD_TIME_METRIC_COLUMNS + 2] = { UUIDARRAYOID,	TEXTARRAYOID,
																FLOAT8ARRAYOID, INT8ARRAYOID,
																INT8ARRAYOID,	FLOAT8ARRAYOID,
																TEXTOID,		TEXTOID };
	ArrayParameter *columns[LEAD_TIME_METRIC_COLUMNS] = {
		array_new(UUIDOID), array_new(TEXTOID), array_new(FLOAT8OID),
		array_new(INT8OID), array_new(INT8OID), array_new(FLOAT8OID)
	};
	Datum values[LEAD_TIME_METRIC_COLUMNS + 2];

	add_rows(columns, LEAD_TIME_METRIC_COLUMNS, n);
	for (int i = 0; i < LEAD_TIME_METRIC_COLUMNS; i++)
		values[i] = array_datum(columns[i]);
	values[LEAD_TIME_METRIC_COLUMNS] = CStringGetTextDatum(name);
	values[LEAD_TIME_METRIC_COLUMNS + 1] = CStringGetTextDatum(help);
	result_store_rows(
		rsinfo,
		plan_execute(
			&plan,
			"SELECT $7 {||} m.suffix, " PRESET_LABELS
			" {||} m.bound, m.value::pg_catalog.float8, 'histogram'::pg_catalog.text, $8"
			" FROM (SELECT t.name, h.preset_name, o.name, h.bound, pg_catalog.sum(h.up_to),"
			"   pg_catalog.sum(h.number), pg_catalog.sum(h.seconds)"
			"  FROM {unnest 6} h (template_id, preset_name, bound, up_to, number, seconds)"
			"  JOIN {cp}templates t ON t.id {=} h.template_id AND NOT t.deleted"
			"  JOIN {cp}organizations o ON o.id {=} t.organization_id"
			"  GROUP BY t.name, h.preset_name, o.name, h.bound)"
			"  s (template_name, preset_name, organization_name, bound, up_to, number, seconds),"
			" LATERAL (SELECT '_bucket', pg_catalog.jsonb_build_object('le',"
			"   CASE WHEN s.bound {=} 'Infinity' THEN '+Inf' ELSE s.bound::pg_catalog.text END),"
			"   s.up_to::pg_catalog.float8"
			"  UNION ALL SELECT '_sum', '{}', s.seconds WHERE s.bound {=} 'Infinity'"
			"  UNION ALL SELECT '_count', '{}', s.number WHERE s.bound {=} 'Infinity')"
			"  m (suffix, bound, value)"
			" ORDER BY s.template_name, s.preset_name, s.organization_name, s.bound, m.suffix",
			PLAN_READ, LEAD_TIME_METRIC_COLUMNS + 2, argtypes, values, NULL));
}

/* times: how long prebuilds took, and how long they then waited for somebody */
void
put_times(ReturnSetInfo *rsinfo)
{
	put_histogram(rsinfo, lead_times_metrics(), "prebuild_ext_lead_time_seconds",
				  "Time from the creation of a prebuilt workspace until its agents are ready, in"
				  " seconds");
	put_histogram(rsinfo, claim_times_metrics(), "prebuild_ext_time_to_claim_seconds",
				  "Time from then until somebody claims it, in seconds");
}
