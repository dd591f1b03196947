/*
 * unlogged.c
 *	  What the tables have and the logs of demand and lead times do not have yet, in the active
 *	  snapshot.
 *
 *	  Before passes have read everything once, that is everything: the first builds of all
 *	  workspaces. Later it is what rows of builds say that are younger than what passes have read
 *	  (demand_log.c says why). No index finds these, so this reads the table of builds from
 *	  beginning to end, but looks at young rows only.
 *
 *	  Reads the control plane with the caller's rights. Works on a hot standby, too.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "demand/demand_marker.h"
#include "demand/demand_sql.h"
#include "demand/unlogged.h"
#include "settings.h"

/*
 * The builds of COUNTED_BUILDS with their presets, as rows: workspace, template, preset's name, is a
 * prebuild, time of the demand or NULL, time of the build. Only those of a template ($1) and of a
 * preset's name ($2) where these are given.
 */
#define DEMANDS_OF_FIRST(first_builds)                                                             \
	"SELECT f.workspace_id::pg_catalog.uuid, v.template_id::pg_catalog.uuid,"                      \
	" p.name::pg_catalog.text, f.by_system::pg_catalog.bool, " ASKED_AT ","                        \
	" f.created_at::pg_catalog.timestamptz" COUNTED_BUILDS(first_builds) ", " PRESET_OF(           \
		"f.template_version_preset_id") " WHERE " IS_COUNTED                                       \
										" AND ($1 IS NULL OR v.template_id {=} $1)"                \
										" AND ($2 IS NULL OR p.name::pg_catalog.text {=} $2)"

/* Its columns. */
enum
{
	DEMAND_WORKSPACE = 1,
	DEMAND_TEMPLATE,
	DEMAND_PRESET,
	DEMAND_BY_SYSTEM,
	DEMAND_AT,
	DEMAND_BUILT_AT
};

/* Run the statement. Returns the number of rows of DEMANDS_OF_FIRST in SPI_tuptable. */
static uint64
read_rows(const DemandMarker *marker, const Id *template_id, const char *preset_name)
{
	static KeptPlan everything, young;
	static const Oid argtypes[] = { UUIDOID, TEXTOID, INT4OID };
	Datum values[] = { template_id == NULL ? (Datum) 0 : id_datum(template_id),
					   preset_name == NULL ? (Datum) 0 : CStringGetTextDatum(preset_name),
					   Int32GetDatum(marker->done ? demand_age(marker->done_from) : 0) };
	const char nulls[] = { template_id == NULL ? 'n' : ' ', preset_name == NULL ? 'n' : ' ', ' ' };

	if (!marker->done)
		return plan_execute(
			&everything,
			DEMANDS_OF_FIRST("SELECT " FIRST_COLUMNS("c") " FROM {cp}workspace_builds c"
														  " WHERE " IS_FIRST),
			PLAN_READ, 2, argtypes, values, nulls);
	return plan_execute(
		&young,
		DEMANDS_OF_FIRST(FIRST_BUILDS_OF(
			"SELECT DISTINCT c.workspace_id FROM {cp}workspace_builds c"
			" WHERE (" IS_FIRST " OR " IS_LATER ") AND pg_catalog.age(c.xmin) {<=} $3")),
		PLAN_READ, 3, argtypes, values, nulls);
}

/*
 * Read demands from "from" until before "until" that the log may not have, and the prebuilds built
 * since built_from whose lead time it may not have; of a template, or of all (NULL), and in it of the
 * presets of a name, or of all. SPI must be connected. The result is palloc'd in the current context.
 */
Unlogged
unlogged_read(const Id *template_id, const char *preset_name, TimestampTz from, TimestampTz until,
			  TimestampTz built_from)
{
	Unlogged unlogged = { array_new(UUIDOID),		 array_new(UUIDOID), array_new(TEXTOID),
						  array_new(TIMESTAMPTZOID), array_new(BOOLOID), array_new(UUIDOID) };
	DemandMarker marker;
	uint64 n;

	(void) demand_marker_read(&marker);
	/* passes do not log what is too old, and this must not bring it back */
	if (marker.done)
		from =
			Max(from, marker.looked_at - setting_demand_retention * INT64CONST(60) * USECS_PER_SEC);
	n = read_rows(&marker, template_id, preset_name);
	for (uint64 i = 0; i < n; i++)
	{
		Id workspace_id = row_id(i, DEMAND_WORKSPACE);
		Id preset_template = row_id(i, DEMAND_TEMPLATE);
		bool by_system = DatumGetBool(row_get(i, DEMAND_BY_SYSTEM));
		bool isnull;
		TimestampTz at = DatumGetTimestampTz(row_value(i, DEMAND_AT, &isnull));

		if (by_system && DatumGetTimestampTz(row_get(i, DEMAND_BUILT_AT)) >= built_from)
			array_add_id(unlogged.prebuilds, &workspace_id);
		if (isnull || TIMESTAMP_NOT_FINITE(at) || at < from || at >= until)
			continue;
		array_add_id(unlogged.workspaces, &workspace_id);
		array_add_id(unlogged.templates, &preset_template);
		array_add_text(unlogged.presets, row_text(i, DEMAND_PRESET));
		array_add(unlogged.times, TimestampTzGetDatum(at));
		array_add(unlogged.warm, BoolGetDatum(by_system));
	}
	SPI_freetuptable(SPI_tuptable);
	return unlogged;
}
