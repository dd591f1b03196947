/*
 * pause.c
 *	  The pause switch of reconciliation: a row of the control plane's site_configs that every
 *	  reconciler of the control plane obeys.
 *
 *	  Locks: the row, by whoever writes the switch. prebuild_pause() that waits takes the
 *	  reconcilers' lock before the row.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "decision/control_plane.h"
#include "catalog/control_plane_catalog.h"
#include "pass/lock_linger.h"
#include "pass/pass_lock.h"
#include "pass/pause.h"
#include "base/arguments.h"
#include "base/plans.h"
#include "base/rows.h"
#include "base/subtransaction.h"

#define SETTINGS_KEY "prebuilds_settings"
#define PAUSED_FIELD "reconciliation_paused"

PG_FUNCTION_INFO_V1(prebuild_pause);
PG_FUNCTION_INFO_V1(prebuild_pause_0_2);
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

/* The stored settings, palloc'd in the current context, or NULL. mode: says in which snapshot. */
static char *
stored_settings(PlanMode mode)
{
	static KeptPlan plan;
	char *text = NULL;

	if (plan_execute(&plan,
					 "SELECT value::pg_catalog.text FROM {cp}site_configs"
					 " WHERE key {=} '" SETTINGS_KEY "'",
					 mode, 0, NULL, NULL, NULL) > 0)
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
	char *text = stored_settings(PLAN_READ);
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

/* The switch that a call writes. */
typedef struct Switch
{
	bool paused;
	bool repair; /* replace a stored value that is not JSON */
} Switch;

/*
 * Write the switch, in one statement, so that what others write into the same object at the same
 * time stays. Replaces a stored value that is JSON, but no object. Raises a data exception for one
 * that is not JSON at all, unless it is to be repaired: then only such a value is replaced.
 */
static bool
write_switch(void *argument)
{
	static KeptPlan write_plan, repair_plan;
	static const Oid argtypes[] = { BOOLOID, TEXTOID };
	const Switch *wanted = argument;
	char *stored = wanted->repair ? stored_settings(PLAN_FRESH) : NULL;
	Datum values[] = { BoolGetDatum(wanted->paused), (Datum) 0 };

	if (stored == NULL || parse_json(stored) != NULL)
	{
		plan_execute(
			&write_plan,
			"INSERT INTO {cp}site_configs AS s (key, value) VALUES ('" SETTINGS_KEY "',"
			" pg_catalog.jsonb_build_object('" PAUSED_FIELD "', $1)::pg_catalog.text)"
			" ON CONFLICT (key) DO UPDATE SET value = (CASE"
			"  WHEN pg_catalog.jsonb_typeof(s.value::pg_catalog.text::pg_catalog.jsonb) {=} 'object'"
			"  THEN s.value::pg_catalog.text::pg_catalog.jsonb {||} excluded.value::pg_catalog.jsonb"
			"  ELSE excluded.value::pg_catalog.jsonb END)::pg_catalog.text",
			PLAN_FRESH, 1, argtypes, values, NULL);
		return true;
	}
	values[1] = CStringGetTextDatum(stored);
	return plan_execute(&repair_plan,
						"UPDATE {cp}site_configs SET value ="
						" pg_catalog.jsonb_build_object('" PAUSED_FIELD "', $1)::pg_catalog.text"
						" WHERE key {=} '" SETTINGS_KEY "' AND value::pg_catalog.text {=} $2",
						PLAN_FRESH, 2, argtypes, values, NULL) > 0;
}

/*
 * Set the switch. A stored value that nobody can read is replaced, as often as somebody writes
 * another one meanwhile. SPI is connected.
 */
static void
set_pause(bool paused)
{
	Switch wanted = { paused, false };
	int guc_level = plans_control_plane_path();
	ErrorData *error = subtransaction_run(write_switch, &wanted);

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
		ReThrowError(error);
	wanted.repair = true;
	while (error != NULL && !write_switch(&wanted))
		CHECK_FOR_INTERRUPTS();
	AtEOXact_GUC(true, guc_level);
}

/*
 * prebuild_pause(wait boolean): pause every reconciler of the control plane. With wait, takes the
 * reconcilers' lock first: what a pass under way queues is there when this returns. Nobody begins
 * another one until the transaction ends, and who begins one then finds the switch.
 */
Datum
prebuild_pause_0_2(PG_FUNCTION_ARGS)
{
	bool wait;

	argument_require(fcinfo, 0, "wait");
	wait = PG_GETARG_BOOL(0);
	PreventCommandIfReadOnly("prebuild_pause()");
	if (wait)
		pass_lock_wait("prebuild_pause()", ", or call prebuild_pause(wait => false)");
	plans_enter(fcinfo);
	control_plane_require();
	set_pause(true);
	plans_leave();
	/* a reconciler that took its snapshot before it asks for the lock does not see the switch */
	if (wait)
		lock_linger_after_commit();
	PG_RETURN_VOID();
}

/* prebuild_pause(), as the script of 0.1 calls it: without waiting */
Datum
prebuild_pause(PG_FUNCTION_ARGS)
{
	plans_enter(fcinfo);
	control_plane_require();
	set_pause(true);
	plans_leave();
	PG_RETURN_VOID();
}

/* prebuild_resume(): end the pause */
Datum
prebuild_resume(PG_FUNCTION_ARGS)
{
	plans_enter(fcinfo);
	control_plane_require();
	set_pause(false);
	plans_leave();
	PG_RETURN_VOID();
}
