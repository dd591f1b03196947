/*
 * pause.c
 *	  The pause switch of reconciliation: a row of the control plane's site_configs that every
 *	  reconciler of the control plane obeys.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "decision/control_plane.h"
#include "catalog/control_plane_catalog.h"
#include "pass/pause.h"
#include "base/plans.h"
#include "base/rows.h"

#define SETTINGS_KEY "prebuilds_settings"
#define PAUSED_FIELD "reconciliation_paused"

PG_FUNCTION_INFO_V1(prebuild_pause);
PG_FUNCTION_INFO_V1(prebuild_resume);

/* Raise the error for a stored value that is not as expected. */
static void
malformed(const char *value)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("value of \"%s\" in site_configs is malformed: %s", SETTINGS_KEY, value),
					errhint("It must be a JSON object such as {\"%s\": false}. prebuild_resume() "
							"and prebuild_pause() write one.",
							PAUSED_FIELD)));
}

/* Parse JSON into the current memory context. Returns NULL if the text is not valid JSON. */
static Jsonb *
parse_json(const char *text)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Datum json = (Datum) 0;

	/* no subtransaction: the input function acquires no locks or other resources to clean up */
	PG_TRY();
	{
		json = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return json == (Datum) 0 ? NULL : DatumGetJsonbP(json);
}

/* The stored settings in the active snapshot, palloc'd in the current context, or NULL. */
static char *
stored_settings(void)
{
	static KeptPlan plan;
	char *text = NULL;

	if (plan_execute(&plan,
					 "SELECT value::pg_catalog.text FROM {cp}site_configs"
					 " WHERE key {=} '" SETTINGS_KEY "'",
					 PLAN_READ, 0, NULL, NULL, NULL) > 0)
		text = row_text(0, 1);
	SPI_freetuptable(SPI_tuptable);
	return text;
}

/*
 * True if reconciliation is paused in the active snapshot. Raises an error that names the key if
 * the stored value is malformed. SPI is connected.
 */
bool
pause_is_on(void)
{
	JsonbValue field;
	char *text = stored_settings();
	Jsonb *json;

	if (text == NULL)
		return false;
	json = parse_json(text);
	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		malformed(text);
	if (getKeyJsonValueFromContainer(&json->root, PAUSED_FIELD, strlen(PAUSED_FIELD), &field) ==
		NULL)
		return false;
	if (field.type != jbvBool)
		malformed(text);
	return field.val.boolean;
}

/* Write the switch, and keep the other fields of the stored object. */
static void
set_pause(FunctionCallInfo fcinfo, bool paused)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, BOOLOID };
	Datum values[2];
	Jsonb *json;
	char *text;
	int guc_level;

	plans_enter(fcinfo);
	control_plane_require();
	text = stored_settings();
	json = text == NULL ? NULL : parse_json(text);
	values[0] = CStringGetTextDatum(json != NULL && JB_ROOT_IS_OBJECT(json) ? text : "{}");
	values[1] = BoolGetDatum(paused);
	guc_level = plans_control_plane_path();
	plan_execute(&plan,
				 "INSERT INTO {cp}site_configs AS s (key, value) VALUES ('" SETTINGS_KEY "',"
				 " ($1::pg_catalog.jsonb {||} pg_catalog.jsonb_build_object('" PAUSED_FIELD
				 "', $2))::pg_catalog.text)"
				 " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
				 PLAN_FRESH, 2, argtypes, values, NULL);
	AtEOXact_GUC(true, guc_level);
	plans_leave();
}

/* prebuild_pause(): pause every reconciler of the control plane */
Datum
prebuild_pause(PG_FUNCTION_ARGS)
{
	set_pause(fcinfo, true);
	PG_RETURN_VOID();
}

/* prebuild_resume(): end the pause */
Datum
prebuild_resume(PG_FUNCTION_ARGS)
{
	set_pause(fcinfo, false);
	PG_RETURN_VOID();
}
