/*
 * day_demands.c
 *	  The demands of the day before a time, by preset, and the last ones before it, as each pass in mode
 *	  auto reads them from the log.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/rows.h"
#include "demand/day_demands.h"
#include "demand/demand_history.h"
#include "demand/demand_marker.h"
#include "demand/history.h"
#include "demand/kept_demands.h"
#include "settings.h"

/* Read the demands of the day before a time, of a template or (NULL) of all, into a table, by SQL. */
static void
read_by_statement(const Id *template_id, TimestampTz at, DemandTable *table)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   template_id == NULL ? (Datum) 0 : id_datum(template_id),
					   TimestampTzGetDatum(at - DEMAND_DAY), TimestampTzGetDatum(at) };
	const char nulls[] = { ' ', template_id == NULL ? 'n' : ' ', ' ', ' ' };
	int guc_level = history_plan_for_values();

	plan_each(&plan,
			  "SELECT l.template_id, l.preset_name, l.at FROM {ext}prebuild_demand_log l"
			  " WHERE l.control_plane {=} $1 AND ($2 IS NULL OR l.template_id {=} $2)"
			  " AND l.at {>=} $3 AND l.at {<} $4",
			  PLAN_READ_OWN, lengthof(argtypes), argtypes, values, nulls, demand_table_take, table);
	AtEOXact_GUC(true, guc_level);
}

/*
 * Read the demands of the day before a time, from the log alone, in the active snapshot, by one
 * statement at most. template_id: of this one, or (NULL) of all, of which the backend keeps what it has
 * read. SPI must be connected. The result is palloc'd in the current context.
 */
DemandTable *
day_demands_read(const Id *template_id, TimestampTz at)
{
	DemandTable *table = demand_table_new();
	int n;

	if (!demand_log_exists())
		return table;
	if (template_id != NULL || !kept_demands_read(at - DEMAND_DAY, at, table))
		read_by_statement(template_id, at, table);
	(void) demand_table_sort(table, &n);
	return table;
}

/*
 * Read when somebody asked last, before a time, for each of n presets, from the log alone, in the
 * active snapshot. Takes one statement, or none if n is 0. SPI must be connected. The result is
 * palloc'd in the current context; DT_NOBEGIN: not known.
 */
TimestampTz *
last_demands_read(const Id **templates, const char **names, int n, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID };
	ArrayParameter *of_templates = array_new(UUIDOID);
	ArrayParameter *of_names = array_new(TEXTOID);
	TimestampTz *last = palloc_array(TimestampTz, n + 1);
	Datum values[4];
	uint64 found;

	for (int i = 0; i < n; i++)
	{
		last[i] = DT_NOBEGIN;
		array_add_id(of_templates, templates[i]);
		array_add_text(of_names, names[i]);
	}
	if (n == 0 || !demand_log_exists())
		return last;
	values[0] = array_datum(of_templates);
	values[1] = array_datum(of_names);
	values[2] = CStringGetTextDatum(setting_control_plane_schema);
	values[3] = TimestampTzGetDatum(at);
	found = plan_execute(
		&plan,
		"SELECT k.position, d.at FROM {unnest 2} WITH ORDINALITY k (template_id, preset_name, position)"
		" CROSS JOIN LATERAL (SELECT l.at FROM {ext}prebuild_demand_log l"
		"  WHERE l.control_plane {=} $3 AND l.template_id {=} k.template_id"
		"  AND l.preset_name {=} k.preset_name AND l.at {<} $4 ORDER BY l.at DESC LIMIT 1) d",
		PLAN_READ_OWN, lengthof(argtypes), argtypes, values, NULL);
	for (uint64 i = 0; i < found; i++)
		last[DatumGetInt64(row_get(i, 1)) - 1] = DatumGetTimestampTz(row_get(i, 2));
	SPI_freetuptable(SPI_tuptable);
	return last;
}
