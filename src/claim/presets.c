/*
 * presets.c
 *	  Functions for app servers on presets: find the preset that matches parameters, and invalidate
 *	  the prebuilds of a preset.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "decision/control_plane.h"
#include "catalog/control_plane_catalog.h"
#include "base/plans.h"
#include "base/rows.h"
#include "base/sql_arrays.h"

PG_FUNCTION_INFO_V1(prebuild_find_preset);
PG_FUNCTION_INFO_V1(prebuild_invalidate);

/*
 * Raise an error unless names and values are one-dimensional, without NULLs and of the same length.
 */
static void
require_parameters(FunctionCallInfo fcinfo)
{
	int nnames;
	int nvalues;

	argument_require(fcinfo, 1, "parameter_names");
	argument_require(fcinfo, 2, "parameter_values");
	(void) sql_array_elements(PG_GETARG_DATUM(1), TEXTOID, "parameter_names", &nnames);
	(void) sql_array_elements(PG_GETARG_DATUM(2), TEXTOID, "parameter_values", &nvalues);
	sql_array_same_length(nvalues, nnames, "parameter_values", "parameter_names");
}

/*
 * prebuild_find_preset(template_version_id uuid, parameter_names text[], parameter_values text[]):
 * the preset of the version whose parameters are all among the given ones. Prefers the one with the
 * most parameters, then one that has or will have prebuilds, then the oldest. NULL if none matches.
 */
Datum
prebuild_find_preset(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTARRAYOID, TEXTARRAYOID, UUIDOID };
	pg_uuid_t *preset = palloc_object(pg_uuid_t);
	Datum values[3];
	bool found;

	argument_require(fcinfo, 0, "template_version_id");
	require_parameters(fcinfo);
	plans_enter(fcinfo);
	control_plane_require();
	values[0] = PG_GETARG_DATUM(1);
	values[1] = PG_GETARG_DATUM(2);
	values[2] = PG_GETARG_DATUM(0);
	/* read all presets' parameters in one scan: the table has no index on the preset */
	found = plan_execute(&plan,
						 "SELECT p.id::pg_catalog.uuid FROM {cp}template_version_presets p"
						 " LEFT JOIN (SELECT pp.template_version_preset_id AS preset_id,"
						 "   pg_catalog.count(*) AS amount,"
						 "   pg_catalog.bool_and(EXISTS (SELECT FROM {unnest 2} g (name, value)"
						 "    WHERE g.name {=} pp.name AND g.value {=} pp.value)) AS given"
						 "  FROM {cp}template_version_preset_parameters pp"
						 "  WHERE pp.template_version_preset_id {=} ANY (SELECT v.id"
						 "   FROM {cp}template_version_presets v"
						 "   WHERE v.template_version_id {=} $3)"
						 "  GROUP BY pp.template_version_preset_id) s ON s.preset_id {=} p.id"
						 " WHERE p.template_version_id {=} $3 AND COALESCE(s.given, true)"
						 " ORDER BY COALESCE(s.amount, 0) DESC, " PRESET_CAN_WANT " DESC,"
						 " p.created_at, p.id LIMIT 1",
						 PLAN_READ, 3, argtypes, values, NULL) > 0;
	if (found)
		memcpy(preset->data, row_id(0, 1).bytes, UUID_LEN);
	plans_leave();
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(preset);
}

/* prebuild_invalidate(preset_id uuid): expire all present prebuilds; returns the time of that */
Datum
prebuild_invalidate(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[1];
	TimestampTz at;
	int guc_level;

	argument_require(fcinfo, 0, "preset_id");
	values[0] = PG_GETARG_DATUM(0);
	plans_enter(fcinfo);
	control_plane_require();
	if (!control_plane_has(FEATURE_INVALIDATION))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("this control plane cannot invalidate prebuilds: column "
							   "\"last_invalidated_at\" of table \"template_version_presets\" does "
							   "not exist"),
						errhint("Coder has the column since v2.29. On an older release, set "
								"invalidate_after_secs of the preset or promote a new template "
								"version to replace prebuilds.")));
	guc_level = plans_control_plane_path();
	if (plan_execute(&plan,
					 "UPDATE {cp}template_version_presets AS p"
					 " SET last_invalidated_at = pg_catalog.now() WHERE p.id {=} $1"
					 " RETURNING p.last_invalidated_at::pg_catalog.timestamptz",
					 PLAN_FRESH, 1, argtypes, values, NULL) == 0)
		argument_no_such_preset(values[0]);
	AtEOXact_GUC(true, guc_level);
	at = DatumGetTimestampTz(row_get(0, 1));
	plans_leave();
	PG_RETURN_TIMESTAMPTZ(at);
}
