/*
 * preset_counts.c
 *	  Count what happens to a template's presets of one name, for the metrics.
 *
 *	  prebuild_preset_count		the counts. They only grow: what they count may be pruned
 *	  prebuild_preset_count_log	what is not in them yet
 *	  prebuild_idle				how long prebuilds have waited; a pass writes what has changed
 *
 *	  Only passes write the counts, under lock 7. Everybody else appends to the log, which makes
 *	  nobody wait: many claims that find no prebuild of one preset would queue up for its row. A pass
 *	  moves the log into the counts. Metrics are the sum of both in one snapshot, so that a counter
 *	  neither lags nor falls.
 *
 *	  A count is part of the transaction of what it counts. The tables have the rights of the
 *	  extension's owner.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "demand/demand_marker.h"
#include "demand/preset_counts.h"
#include "settings.h"

/* How long the eligible prebuilds of a row "i" of prebuild_idle have waited until a time, in seconds. */
#define WAITED_UNTIL(time)                                                                         \
	"GREATEST(0::pg_catalog.float8, pg_catalog.date_part('epoch', " time                           \
	") {-} pg_catalog.date_part('epoch', i.since))"

/* Return counts without any. Allocates in the current memory context. */
PresetCounts
preset_counts_new(void)
{
	return (PresetCounts){ array_new(UUIDOID), array_new(TEXTOID), array_new(TEXTOID),
						   array_new(FLOAT8OID) };
}

/* Add to one counter. value: at least 0. */
void
preset_counts_add(PresetCounts *counts, const Id *template_id, const char *preset_name,
				  const char *counter, double value)
{
	array_add_id(counts->templates, template_id);
	array_add_text(counts->presets, preset_name);
	array_add_text(counts->counters, counter);
	array_add(counts->values, Float8GetDatum(value));
}

/* Run a statement on counts. Does nothing without any, or if the script has no tables for them. */
static void
run(KeptPlan *plan, const PresetCounts *counts, const char *statement)
{
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID,
									TEXTOID };
	Datum values[] = { array_datum(counts->templates), array_datum(counts->presets),
					   array_datum(counts->counters), array_datum(counts->values),
					   CStringGetTextDatum(setting_control_plane_schema) };

	if (demand_log_exists())
		plan_execute(plan, statement, PLAN_FRESH_OWN, 5, argtypes, values, NULL);
}

/*
 * Append counts to the log, in the current transaction. Does nothing while somebody holds the log,
 * for example VACUUM FULL: nobody should wait because of a count. SPI must be connected.
 */
void
preset_counts_write(const PresetCounts *counts)
{
	static KeptPlan plan;
	Oid log = get_relname_relid("prebuild_preset_count_log", plans_extension_schema());

	if (counts->templates->n == 0 || !OidIsValid(log) ||
		!ConditionalLockRelationOid(log, RowExclusiveLock))
		return;
	run(&plan, counts,
		"INSERT INTO {ext}prebuild_preset_count_log (control_plane, template_id, preset_name, counter,"
		" value) SELECT $5, c.template_id, c.preset_name, c.counter, c.value"
		" FROM {unnest 4} c (template_id, preset_name, counter, value)");
}

/* Add counts, and the log, to what is kept. The caller holds lock 7. SPI must be connected. */
void
preset_counts_keep(const PresetCounts *counts)
{
	static KeptPlan plan;

	run(&plan, counts,
		"WITH logged AS (DELETE FROM {ext}prebuild_preset_count_log l WHERE l.control_plane {=} $5"
		"  RETURNING l.template_id, l.preset_name, l.counter, l.value)"
		" INSERT INTO {ext}prebuild_preset_count AS k (control_plane, template_id, preset_name, counter,"
		"  value)"
		" SELECT $5, c.template_id, c.preset_name, c.counter, pg_catalog.sum(c.value) FROM"
		"  (SELECT u.template_id, u.preset_name, u.counter, u.value"
		"   FROM {unnest 4} u (template_id, preset_name, counter, value)"
		"   UNION ALL SELECT l.template_id, l.preset_name, l.counter, l.value FROM logged l) c"
		" GROUP BY c.template_id, c.preset_name, c.counter"
		" ON CONFLICT (control_plane, template_id, preset_name, counter)"
		"  DO UPDATE SET value = k.value {+} excluded.value");
}

/*
 * Note how many prebuilds of each preset are eligible from a time on, which never goes back. They have
 * waited since the row says so. Presets without any are not among them. Writes only what has changed.
 * first: nobody knows when the last pass was, so that the time since then does not count. The caller
 * holds lock 7. SPI must be connected.
 */
void
preset_idle_write(const PresetCounts *eligible, TimestampTz at, bool first)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID,	  FLOAT8ARRAYOID,
									TEXTOID,	  TIMESTAMPTZOID, BOOLOID };
	Datum values[] = {
		array_datum(eligible->templates), array_datum(eligible->presets),
		array_datum(eligible->values),	  CStringGetTextDatum(setting_control_plane_schema),
		TimestampTzGetDatum(at),		  BoolGetDatum(first)
	};

	plan_execute(
		&plan,
		"INSERT INTO {ext}prebuild_idle AS i (control_plane, template_id, preset_name, eligible, since,"
		"  seconds)"
		" SELECT $4, COALESCE(e.template_id, k.template_id), COALESCE(e.preset_name, k.preset_name),"
		"  COALESCE(e.eligible, 0), $5, 0"
		" FROM (SELECT u.template_id, u.preset_name, pg_catalog.sum(u.eligible)::pg_catalog.int8"
		"   AS eligible FROM {unnest 3} u (template_id, preset_name, eligible)"
		"  GROUP BY u.template_id, u.preset_name) e"
		" FULL JOIN (SELECT x.template_id, x.preset_name, x.eligible FROM {ext}prebuild_idle x"
		"  WHERE x.control_plane {=} $4) k"
		" ON k.template_id {=} e.template_id AND k.preset_name {=} e.preset_name"
		" WHERE COALESCE(e.eligible, 0) {<>} COALESCE(k.eligible, 0) OR $6"
		" ON CONFLICT (control_plane, template_id, preset_name) DO UPDATE SET"
		"  seconds = i.seconds {+} CASE WHEN $6 THEN 0 ELSE i.eligible {*} " WAITED_UNTIL(
			"$5") " END,"
				  "  eligible = excluded.eligible, since = excluded.since",
		PLAN_FRESH_OWN, 6, argtypes, values, NULL);
}

/*
 * Count one that happened to a preset, in the log. Reads the preset with the caller's rights, and
 * does nothing if it does not exist. SPI must be connected.
 */
void
preset_counts_note(const Id *preset_id, const char *counter)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(preset_id) };
	PresetCounts counts = preset_counts_new();

	if (plan_execute(&plan,
					 "SELECT v.template_id::pg_catalog.uuid, p.name::pg_catalog.text"
					 " FROM {cp}template_version_presets p"
					 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
					 " WHERE p.id {=} $1",
					 PLAN_FRESH, 1, argtypes, values, NULL) > 0)
	{
		Id template_id = row_id(0, 1);

		preset_counts_add(&counts, &template_id, row_text(0, 2), counter, 1);
	}
	SPI_freetuptable(SPI_tuptable);
	preset_counts_write(&counts);
}

/*
 * Read all counts in the active snapshot: leaves rows of template, preset's name, counter and value
 * in SPI_tuptable and returns their number. Returns 0, and leaves nothing, if the script has no such
 * tables. SPI must be connected.
 */
uint64
preset_counts_metrics(void)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };

	if (!demand_log_exists())
		return 0;
	return plan_execute(
		&plan,
		"SELECT c.template_id, c.preset_name, c.counter, pg_catalog.sum(c.value) FROM ("
		" SELECT k.template_id, k.preset_name, k.counter, k.value FROM {ext}prebuild_preset_count k"
		"  WHERE k.control_plane {=} $1"
		" UNION ALL SELECT l.template_id, l.preset_name, l.counter, l.value"
		"  FROM {ext}prebuild_preset_count_log l WHERE l.control_plane {=} $1"
		" UNION ALL SELECT d.template_id, d.preset_name,"
		"  CASE WHEN d.warm THEN '" COUNT_WARM "' ELSE '" COUNT_COLD "' END, 1"
		"  FROM {ext}prebuild_demand_log d WHERE d.control_plane {=} $1 AND NOT d.counted"
		" UNION ALL SELECT i.template_id, i.preset_name, '" COUNT_IDLE "', i.seconds {+}"
		"  COALESCE(i.eligible {*} " WAITED_UNTIL(
			"m.idle_until") ", 0)"
							"  FROM {ext}prebuild_idle i LEFT JOIN {ext}prebuild_demand_marker m"
							"  ON m.control_plane {=} i.control_plane WHERE i.control_plane {=} $1) c"
							" GROUP BY c.template_id, c.preset_name, c.counter",
		PLAN_READ_OWN, 1, argtypes, values, NULL);
}

/*
 * Count the demands of the day and the week before a time, as the log has them, in the active
 * snapshot: leaves rows of template, preset's name, counter ("day_warm" and so on) and value in
 * SPI_tuptable and returns their number. Returns 0, and leaves nothing, if the script has no log. SPI
 * must be connected.
 */
uint64
recent_demands(TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), TimestampTzGetDatum(at) };

	if (!demand_log_exists())
		return 0;
	return plan_execute(
		&plan,
		"SELECT d.template_id, d.preset_name, m.counter, m.value::pg_catalog.float8 FROM ("
		" SELECT r.template_id, r.preset_name,"
		"  pg_catalog.count(*) FILTER (WHERE r.warm AND r.is_new) AS day_warm,"
		"  pg_catalog.count(*) FILTER (WHERE NOT r.warm AND r.is_new) AS day_cold,"
		"  pg_catalog.count(*) FILTER (WHERE r.warm) AS week_warm,"
		"  pg_catalog.count(*) FILTER (WHERE NOT r.warm) AS week_cold"
		" FROM (SELECT l.template_id, l.preset_name, l.warm,"
		"   l.at {>} ($2 {-} '1 day'::pg_catalog.interval) AS is_new"
		"  FROM {ext}prebuild_demand_log l WHERE l.control_plane {=} $1"
		"  AND l.at {>} ($2 {-} '7 days'::pg_catalog.interval) AND l.at {<=} $2) r"
		" GROUP BY r.template_id, r.preset_name) d,"
		" LATERAL (VALUES ('day_warm', d.day_warm), ('day_cold', d.day_cold),"
		"  ('week_warm', d.week_warm), ('week_cold', d.week_cold)) m (counter, value)",
		PLAN_READ_OWN, 2, argtypes, values, NULL);
}
