/*
 * policy_functions.c
 *	  SQL functions prebuild_set_policy() and prebuild_unset_policy(): write prebuild_policy.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/events.h"
#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "catalog/other_reconciler.h"
#include "decision/amount.h"
#include "decision/policy.h"
#include "demand/policy_choice.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(prebuild_set_policy);
PG_FUNCTION_INFO_V1(prebuild_unset_policy);

/* The arguments of prebuild_set_policy(), in order. */
enum
{
	ARG_TEMPLATE_ID,
	ARG_PRESET_NAME,
	ARG_MODE,
	ARG_MIN_INSTANCES,
	ARG_MAX_INSTANCES,
	ARG_SERVICE_LEVEL,
	ARG_UNREADY_GRACE,
	ARG_DISCONNECTED_GRACE,
	ARG_FAILED_RETENTION,
	ARG_FAILED_KEEP,
	ARG_DELETE_RETRIES,
	ARG_HARD_LIMIT_RETRY,
	ARG_REQUIRE_PROVISIONER,
	ARG_MAX_UNAVAILABLE,
	ARG_MAX_SURGE,
	NARGUMENTS
};

static const char *const names[NARGUMENTS] = {
	"template_id",		   "preset_name",	  "mode",			"min_instances",
	"max_instances",	   "service_level",	  "unready_grace",	"disconnected_grace",
	"failed_retention",	   "failed_keep",	  "delete_retries", "hard_limit_retry",
	"require_provisioner", "max_unavailable", "max_surge"
};

static const Oid types[NARGUMENTS] = { UUIDOID,	  TEXTOID,	   TEXTOID,		INT4OID,	 INT4OID,
									   FLOAT8OID, INTERVALOID, INTERVALOID, INTERVALOID, INT4OID,
									   INT4OID,	  INTERVALOID, BOOLOID,		TEXTOID,	 TEXTOID };

/* Raise invalid_parameter_value: an argument is not what it must be. number counts from 0. */
pg_noreturn static void
refuse(FunctionCallInfo fcinfo, int number, const char *what)
{
	Oid output;
	bool is_varlena;

	getTypeOutputInfo(types[number], &output, &is_varlena);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"%s\" must be %s, not \"%s\"", names[number], what,
						   OidOutputFunctionCall(output, PG_GETARG_DATUM(number)))));
}

static void
check_count(FunctionCallInfo fcinfo, int number)
{
	if (!PG_ARGISNULL(number) && PG_GETARG_INT32(number) < 0)
		refuse(fcinfo, number, "at least 0");
}

/* Refuse an interval that is negative or longer than so many days. */
static void
check_span(FunctionCallInfo fcinfo, int number, int days)
{
	const Interval nothing = { 0 };
	const Interval longest = { .day = days };
	Datum given;

	if (PG_ARGISNULL(number))
		return;
	given = PG_GETARG_DATUM(number);
	if (DatumGetBool(DirectFunctionCall2(interval_lt, given, IntervalPGetDatum(&nothing))) ||
		DatumGetBool(DirectFunctionCall2(interval_gt, given, IntervalPGetDatum(&longest))))
		refuse(fcinfo, number, days == 1 ? "from 0 to a day" : psprintf("from 0 to %d days", days));
}

static void
check_amount(FunctionCallInfo fcinfo, int number)
{
	Amount amount;

	if (!PG_ARGISNULL(number) && !amount_parse(text_to_cstring(PG_GETARG_TEXT_PP(number)), &amount))
		refuse(fcinfo, number,
			   psprintf("a number from 0 to %d or a percentage from 0%% to %d%%, in digits alone,",
						AMOUNT_MOST, AMOUNT_MOST_PERCENT));
}

/* Refuse wrong values, naming argument and value. */
static void
check_values(FunctionCallInfo fcinfo)
{
	char *mode;

	argument_require(fcinfo, ARG_MODE, names[ARG_MODE]);
	mode = text_to_cstring(PG_GETARG_TEXT_PP(ARG_MODE));
	if (strcmp(mode, "off") != 0 && strcmp(mode, "advise") != 0 && strcmp(mode, "auto") != 0)
		refuse(fcinfo, ARG_MODE, "off, advise or auto");
	check_count(fcinfo, ARG_MIN_INSTANCES);
	check_count(fcinfo, ARG_MAX_INSTANCES);
	if (!PG_ARGISNULL(ARG_MIN_INSTANCES) && !PG_ARGISNULL(ARG_MAX_INSTANCES) &&
		PG_GETARG_INT32(ARG_MAX_INSTANCES) < PG_GETARG_INT32(ARG_MIN_INSTANCES))
		refuse(fcinfo, ARG_MAX_INSTANCES,
			   psprintf("at least \"min_instances\" (%d)", PG_GETARG_INT32(ARG_MIN_INSTANCES)));
	/* written so that NaN is refused */
	if (!PG_ARGISNULL(ARG_SERVICE_LEVEL) &&
		!(PG_GETARG_FLOAT8(ARG_SERVICE_LEVEL) >= 0.5 && PG_GETARG_FLOAT8(ARG_SERVICE_LEVEL) < 1))
		refuse(fcinfo, ARG_SERVICE_LEVEL, "at least 0.5 and less than 1");
	check_span(fcinfo, ARG_UNREADY_GRACE, POLICY_LONGEST_DAYS);
	check_span(fcinfo, ARG_DISCONNECTED_GRACE, POLICY_LONGEST_DAYS);
	check_span(fcinfo, ARG_FAILED_RETENTION, POLICY_LONGEST_DAYS);
	check_count(fcinfo, ARG_FAILED_KEEP);
	check_count(fcinfo, ARG_DELETE_RETRIES);
	check_span(fcinfo, ARG_HARD_LIMIT_RETRY, 1);
	check_amount(fcinfo, ARG_MAX_UNAVAILABLE);
	check_amount(fcinfo, ARG_MAX_SURGE);
}

/* Raise undefined_object for a name that no preset of the template has. SPI is connected. */
pg_noreturn static void
refuse_preset_name(FunctionCallInfo fcinfo, const char *template_name)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { PG_GETARG_DATUM(ARG_TEMPLATE_ID) };
	bool has_none;
	Datum known;

	plan_execute(&plan,
				 "SELECT pg_catalog.string_agg(n.name, ', ') FROM ("
				 " SELECT DISTINCT pg_catalog.concat('\"', p.name, '\"') AS name"
				 " FROM {cp}template_version_presets p"
				 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				 " WHERE v.template_id {=} $1 ORDER BY name LIMIT 20) n",
				 PLAN_READ, 1, argtypes, values, NULL);
	known = row_value(0, 1, &has_none);
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("no version of template \"%s\" has a preset \"%s\"", template_name,
						   text_to_cstring(PG_GETARG_TEXT_PP(ARG_PRESET_NAME))),
					has_none ? errhint("It has no presets.")
							 : errhint("Its presets are %s.", TextDatumGetCString(known))));
}

/*
 * Refuse a template that does not exist, and a name that no preset in any of its versions has.
 * Reads with the caller's rights. SPI is connected.
 */
static void
check_target(FunctionCallInfo fcinfo)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, TEXTOID };
	Datum values[] = { PG_GETARG_DATUM(ARG_TEMPLATE_ID), PG_GETARG_DATUM(ARG_PRESET_NAME) };
	const char nulls[] = { ' ', PG_ARGISNULL(ARG_PRESET_NAME) ? 'n' : ' ' };

	if (plan_execute(&plan,
					 "SELECT t.name::pg_catalog.text, $2 IS NULL OR EXISTS ("
					 " SELECT FROM {cp}template_version_presets p"
					 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
					 " WHERE v.template_id {=} t.id AND p.name::pg_catalog.text {=} $2)"
					 " FROM {cp}templates t WHERE t.id {=} $1",
					 PLAN_READ, 2, argtypes, values, nulls) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("template %s does not exist",
							   DatumGetCString(DirectFunctionCall1(uuid_out, values[0]))),
						errhint("Templates are the rows of table templates in schema \"%s\".",
								setting_control_plane_schema)));
	if (!DatumGetBool(row_get(0, 2)))
		refuse_preset_name(fcinfo, row_text(0, 1));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Write the event that the policy of a template's presets has changed. The detail is the text of a
 * jsonb object. SPI is connected.
 */
static void
report_change(const pg_uuid_t *template_id, char *detail)
{
	EventBatch batch = { 0 };
	Id id;

	memcpy(id.bytes, template_id->data, UUID_LEN);
	event_add(&batch, "policy_changed", &id, NULL, NULL, detail);
	events_write(&batch, GetCurrentTransactionStartTimestamp());
}

/* Refuse mode auto while another reconciler works. Reads with the caller's rights. SPI is connected. */
static void
check_auto(FunctionCallInfo fcinfo)
{
	if (strcmp(text_to_cstring(PG_GETARG_TEXT_PP(ARG_MODE)), "auto") == 0)
		other_reconciler_refuse("coderd's reconciler keeps the number of prebuilds that templates "
								"say, and would undo what a policy wants. Turn it off, and set the "
								"mode an hour later; until then the mode \"advise\" has "
								"prebuild_recommend() say what to write into the template.");
}

/*
 * Have passes choose policies anew for the presets that arguments 0 and 1 name: a template and, unless
 * it is NULL, a name. SPI is connected.
 */
static void
renew_choices(FunctionCallInfo fcinfo)
{
	policy_choices_renew((const Id *) PG_GETARG_UUID_P(0),
						 PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
}

/* What an event says of the row "y": who has changed it ($1), and what it is. */
#define CHANGE(policy)                                                                             \
	" RETURNING pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('by', $1,"              \
	" 'preset_name', y.preset_name, 'policy', " policy "))::pg_catalog.text"

#define UPSERT(conflict)                                                                           \
	"INSERT INTO {ext}prebuild_policy AS y (control_plane, template_id, preset_name, mode,"        \
	" min_instances, max_instances, service_level, unready_grace, disconnected_grace,"             \
	" failed_retention, failed_keep, delete_retries, hard_limit_retry, require_provisioner,"       \
	" max_unavailable, max_surge)"                                                                 \
	" VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"             \
	" ON CONFLICT " conflict " DO UPDATE SET mode = excluded.mode,"                                \
	" min_instances = excluded.min_instances, max_instances = excluded.max_instances,"             \
	" service_level = excluded.service_level, unready_grace = excluded.unready_grace,"             \
	" disconnected_grace = excluded.disconnected_grace,"                                           \
	" failed_retention = excluded.failed_retention, failed_keep = excluded.failed_keep,"           \
	" delete_retries = excluded.delete_retries, hard_limit_retry = excluded.hard_limit_retry,"     \
	" require_provisioner = excluded.require_provisioner,"                                         \
	" max_unavailable = excluded.max_unavailable, max_surge = excluded.max_surge" CHANGE(          \
		"pg_catalog.to_jsonb(y) {-} '{control_plane,template_id,preset_name}'::pg_catalog.text[]")

/*
 * prebuild_set_policy(template_id uuid, preset_name text, mode text, …): set how the pools of a
 * template's presets of that name, or of all, are kept; replaces what was set before. The row is
 * written with the rights of the extension's owner.
 */
Datum
prebuild_set_policy(PG_FUNCTION_ARGS)
{
	static KeptPlan of_preset, of_template;
	bool whole = PG_ARGISNULL(ARG_PRESET_NAME);
	Oid argtypes[NARGUMENTS + 2] = { TEXTOID, TEXTOID };
	Datum values[NARGUMENTS + 2];
	char nulls[NARGUMENTS + 2] = "  ";

	argument_require(fcinfo, ARG_TEMPLATE_ID, names[ARG_TEMPLATE_ID]);
	check_values(fcinfo);
	plans_enter(fcinfo);
	control_plane_require();
	check_target(fcinfo);
	check_auto(fcinfo);
	values[0] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[1] = CStringGetTextDatum(setting_control_plane_schema);
	for (int i = 0; i < NARGUMENTS; i++)
	{
		argtypes[i + 2] = types[i];
		values[i + 2] = PG_GETARG_DATUM(i);
		nulls[i + 2] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	plan_execute(
		whole ? &of_template : &of_preset,
		whole ? UPSERT("(control_plane, template_id) WHERE preset_name IS NULL")
			  : UPSERT("(control_plane, template_id, preset_name) WHERE preset_name IS NOT NULL"),
		PLAN_FRESH_OWN, NARGUMENTS + 2, argtypes, values, nulls);
	report_change(PG_GETARG_UUID_P(ARG_TEMPLATE_ID), row_text(0, 1));
	renew_choices(fcinfo);
	plans_leave();
	PG_RETURN_VOID();
}

/*
 * prebuild_unset_policy(template_id uuid, preset_name text): undo that. Returns false if there is
 * nothing to undo. The template need not exist any more.
 */
Datum
prebuild_unset_policy(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, TEXTOID, UUIDOID, TEXTOID };
	Datum values[4];
	const char nulls[] = { ' ', ' ', ' ', PG_ARGISNULL(1) ? 'n' : ' ' };
	bool found;

	argument_require(fcinfo, 0, "template_id");
	plans_enter(fcinfo);
	values[0] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[1] = CStringGetTextDatum(setting_control_plane_schema);
	values[2] = PG_GETARG_DATUM(0);
	values[3] = PG_GETARG_DATUM(1);
	found = plan_execute(&plan,
						 "DELETE FROM {ext}prebuild_policy y WHERE y.control_plane {=} $2"
						 " AND y.template_id {=} $3 AND (y.preset_name {=} $4"
						 "  OR (y.preset_name IS NULL AND $4 IS NULL))" CHANGE("NULL"),
						 PLAN_FRESH_OWN, 4, argtypes, values, nulls) > 0;
	if (found)
	{
		report_change(PG_GETARG_UUID_P(0), row_text(0, 1));
		renew_choices(fcinfo);
	}
	plans_leave();
	PG_RETURN_BOOL(found);
}
