/*
 * logged_past.c
 *	  The past of some presets, from the logs of passes alone. history.c reads that of a template or of
 *	  all; a pass that chooses policies needs that of the few whose turn it is.
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/rows.h"
#include "demand/logged_past.h"
#include "settings.h"

/* $1 and $2: template and name of each preset; $3: control plane; $4 to $5: the range. */
#define OF_PRESETS " FROM {unnest 2} WITH ORDINALITY k (template_id, preset_name, position)"
#define PARAMETERS 5
static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID,
								TIMESTAMPTZOID };

/* Read the demands. */
static void
read_demands(PresetHistory *pasts, Datum *values)
{
	static KeptPlan plan;
	uint64 n = plan_execute(&plan,
							"SELECT k.position, l.at" OF_PRESETS
							" CROSS JOIN LATERAL (SELECT d.at FROM {ext}prebuild_demand_log d"
							"  WHERE d.control_plane {=} $3 AND d.template_id {=} k.template_id"
							"  AND d.preset_name {=} k.preset_name AND d.at {>=} $4 AND d.at {<} $5"
							"  OFFSET 0) l ORDER BY k.position, l.at",
							PLAN_READ_OWN, PARAMETERS, argtypes, values, NULL);
	int64_t *times = MemoryContextAllocHuge(CurrentMemoryContext, (n + 1) * sizeof(int64_t));

	for (uint64 i = 0; i < n; i++)
	{
		DemandHistory *past = &pasts[DatumGetInt64(row_get(i, 1)) - 1].past;

		if (past->ndemands++ == 0)
			past->demands = times + i;
		times[i] = DatumGetTimestampTz(row_get(i, 2));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Read the prebuilds with an outcome. */
static void
read_builds(PresetHistory *pasts, Datum *values)
{
	static KeptPlan plan;
	uint64 n = plan_execute(
		&plan,
		"SELECT k.position, l.built_at, l.seconds, l.failed" OF_PRESETS
		" CROSS JOIN LATERAL (SELECT b.built_at, b.outcome {=} 'failed' AS failed,"
		"  COALESCE(b.waiting, 0) {+} COALESCE(b.building, 0) {+} COALESCE(b.starting, 0)"
		"   AS seconds"
		"  FROM {ext}prebuild_lead_time_log b"
		"  WHERE b.control_plane {=} $3 AND b.template_id {=} k.template_id"
		"  AND b.preset_name {=} k.preset_name AND b.built_at {>=} $4 AND b.built_at {<} $5"
		"  AND b.outcome {=} ANY ('{ready,failed}') OFFSET 0) l ORDER BY k.position, l.built_at",
		PLAN_READ_OWN, PARAMETERS, argtypes, values, NULL);
	DemandBuild *builds =
		MemoryContextAllocHuge(CurrentMemoryContext, (n + 1) * sizeof(DemandBuild));
	uint64 kept = 0;

	for (uint64 i = 0; i < n; i++)
	{
		DemandHistory *past = &pasts[DatumGetInt64(row_get(i, 1)) - 1].past;
		double seconds = DatumGetFloat8(row_get(i, 3));

		if (!isfinite(seconds))
			continue;
		if (past->nbuilds++ == 0)
			past->builds = builds + kept;
		builds[kept++] = (DemandBuild){ DatumGetTimestampTz(row_get(i, 2)),
										(int64_t) rint(Max(seconds, 0) * USECS_PER_SEC),
										DatumGetBool(row_get(i, 4)) };
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Read the past of n presets in the active snapshot, by a constant number of statements: the demands
 * and the builds from a time to before another one. SPI must be connected. The result has one element
 * for each preset, with what the policies take; it is palloc'd in the current context.
 */
PresetHistory *
logged_pasts_read(const SizedPreset *const *presets, int n, TimestampTz from, TimestampTz until)
{
	PresetHistory *pasts = palloc0_array(PresetHistory, n + 1);
	ArrayParameter *templates = array_new(UUIDOID);
	ArrayParameter *names = array_new(TEXTOID);
	Datum values[PARAMETERS];

	for (int i = 0; i < n; i++)
	{
		pasts[i].template_id = presets[i]->template_id;
		pasts[i].preset_name = presets[i]->name;
		pasts[i].past.began = from;
		array_add_id(templates, &presets[i]->template_id);
		array_add_text(names, presets[i]->name);
	}
	values[0] = array_datum(templates);
	values[1] = array_datum(names);
	values[2] = CStringGetTextDatum(setting_control_plane_schema);
	values[3] = TimestampTzGetDatum(from);
	values[4] = TimestampTzGetDatum(until);
	read_demands(pasts, values);
	read_builds(pasts, values);
	return pasts;
}
