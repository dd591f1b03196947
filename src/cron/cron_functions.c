/*
 * cron_functions.c
 *	  SQL functions over cron expressions and over the schedules of stored presets. They read in
 *	  the caller's snapshot.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "catalog/control_plane_catalog.h"
#include "cron/cron_range.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "cron/preset_schedule.h"
#include "cron/timezone.h"

/* A preset as its table and the table of its schedules store it. */
typedef struct StoredPreset
{
	pg_uuid_t *id;
	char *name;
	char *timezone;
	bool scheduled; /* desired_instances is not null */
	int32 base;		/* desired_instances */
	int nschedules;
	PresetSchedule *schedules; /* ordered by id */
} StoredPreset;

/* Where store_span() puts the spans of a forecast. */
typedef struct ForecastSink
{
	ReturnSetInfo *result;
	const PresetSchedule *schedules;
} ForecastSink;

/*
 * prebuild_cron_matches(cron text, timezone text, at timestamptz) → boolean
 */
PG_FUNCTION_INFO_V1(prebuild_cron_matches);
Datum
prebuild_cron_matches(PG_FUNCTION_ARGS)
{
	char *cron = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *timezone = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TimestampTz at = argument_time(fcinfo, 2, "at");
	char error[CRON_RANGE_ERROR_SIZE];
	CronRange range;
	CronLocalTime local;
	const pg_tz *tz;

	if (!cron_range_parse(cron, &range, error, sizeof(error)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cron expression %s is invalid: %s", schedule_quote(cron), error),
				 errhint("Write a range like \"* 9-18 * * 1-5\": minute (always *), hour, day of "
						 "month, month, weekday (0 to 6, 0 is Sunday).")));
	tz = timezone_find(timezone);
	if (tz == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time zone %s is not known", schedule_quote(timezone)),
						errhint("Use a name from pg_timezone_names, spelt exactly as there.")));
	if (!timezone_local_time(at, tz, &local))
		elog(ERROR, "no local time for timestamp " INT64_FORMAT, at);
	PG_RETURN_BOOL(cron_range_matches(&range, &local));
}

/*
 * prebuild_schedules_check(cron text[]) → text
 */
PG_FUNCTION_INFO_V1(prebuild_schedules_check);
Datum
prebuild_schedules_check(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	PresetSchedule *schedules;
	Datum *elements;
	int count;
	char *fault;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("argument \"cron\" must be a one-dimensional array")));
	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"cron\" must not contain nulls")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	schedules = palloc0(mul_size(count, sizeof(PresetSchedule)));
	for (int i = 0; i < count; i++)
		schedules[i].cron_expression = TextDatumGetCString(elements[i]);
	fault = schedule_check(count, schedules);
	if (fault == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(fault));
}

/* Return a column of the row-th result row, which is of type text and not null. */
static char *
text_column(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* Read a preset's schedules into the current (SPI's) memory context. */
static void
read_schedules(StoredPreset *preset)
{
	static KeptPlan plan;
	Oid types[] = { UUIDOID };
	Datum values[] = { UUIDPGetDatum(preset->id) };
	bool isnull;

	preset->nschedules = (int) plan_execute(
		&plan,
		"SELECT COALESCE(cron_expression::pg_catalog.text, ''), desired_instances::pg_catalog.int4"
		" FROM {cp}template_version_preset_prebuild_schedules"
		" WHERE preset_id {=} $1 ORDER BY id",
		PLAN_READ, 1, types, values, NULL);
	preset->schedules = palloc(mul_size(preset->nschedules, sizeof(PresetSchedule)));
	for (int i = 0; i < preset->nschedules; i++)
	{
		preset->schedules[i].cron_expression = text_column(i, 1);
		preset->schedules[i].desired_instances =
			DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
}

/*
 * Read a preset with its schedules, in the active snapshot, into the current (SPI's) memory
 * context. Raises invalid_parameter_value if it does not exist.
 */
static void
read_preset(pg_uuid_t *id, StoredPreset *preset)
{
	static KeptPlan plan;
	Oid types[] = { UUIDOID };
	Datum values[] = { UUIDPGetDatum(id) };
	bool isnull;

	control_plane_require_table("template_version_presets");
	control_plane_require_table("template_version_preset_prebuild_schedules");
	if (plan_execute(&plan,
					 "SELECT COALESCE(name::pg_catalog.text, ''),"
					 " COALESCE(scheduling_timezone::pg_catalog.text, ''),"
					 " desired_instances::pg_catalog.int4"
					 " FROM {cp}template_version_presets WHERE id {=} $1",
					 PLAN_READ, 1, types, values, NULL) == 0)
		argument_no_such_preset(UUIDPGetDatum(id));
	preset->id = id;
	preset->name = text_column(0, 1);
	preset->timezone = text_column(0, 2);
	preset->base =
		DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	preset->scheduled = !isnull;
	preset->nschedules = 0;
	if (preset->scheduled)
		read_schedules(preset);
}

/*
 * prebuild_desired_instances(preset_id uuid, at timestamptz) → int
 */
PG_FUNCTION_INFO_V1(prebuild_desired_instances);
Datum
prebuild_desired_instances(PG_FUNCTION_ARGS)
{
	StoredPreset preset;
	TimestampTz at;
	int desired = 0;

	argument_require(fcinfo, 0, "preset_id");
	at = argument_time(fcinfo, 1, "at");
	plans_enter(fcinfo);
	read_preset(PG_GETARG_UUID_P(0), &preset);
	if (preset.scheduled)
	{
		int deciding;
		char *fault;

		desired = schedule_desired(preset.timezone, preset.nschedules, preset.schedules,
								   preset.base, at, &deciding, &fault);
		if (fault != NULL)
			schedule_warn_ignored(preset.name, preset.id->data, fault);
	}
	plans_leave();
	if (!preset.scheduled)
		PG_RETURN_NULL();
	PG_RETURN_INT32(desired);
}

/* Put a span of a forecast into the function's result. */
static void
store_span(const ScheduleSpan *span, void *context)
{
	ForecastSink *sink = context;
	ResultRow row;

	row.n = 0;
	result_put_time(&row, span->starts_at);
	result_put_time(&row, span->ends_at);
	result_put_int4(&row, span->desired);
	result_put_text(&row,
					span->deciding < 0 ? NULL : sink->schedules[span->deciding].cron_expression);
	result_row_store(sink->result, &row);
	if (!row.nulls[3])
		pfree(DatumGetPointer(row.values[3]));
}

/* Store the one row of a preset whose desired_instances is null. */
static void
store_unscheduled(ReturnSetInfo *result, TimestampTz start, TimestampTz end)
{
	ResultRow row;

	if (start >= end)
		return;
	row.n = 0;
	result_put_time(&row, start);
	result_put_time(&row, end);
	result_put_null(&row, INT4OID);
	result_put_null(&row, TEXTOID);
	result_row_store(result, &row);
}

/*
 * prebuild_forecast(preset_id uuid, range_start timestamptz, range_end timestamptz)
 * → setof prebuild_forecast_row
 */
PG_FUNCTION_INFO_V1(prebuild_forecast);
Datum
prebuild_forecast(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	StoredPreset preset;
	TimestampTz start, end;

	argument_require(fcinfo, 0, "preset_id");
	start = argument_time(fcinfo, 1, "range_start");
	end = argument_time(fcinfo, 2, "range_end");
	if (end < start)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"range_end\" must not be before \"range_start\""),
						errdetail("%s is before %s.", pstrdup(timestamptz_to_str(end)),
								  pstrdup(timestamptz_to_str(start)))));
	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	read_preset(PG_GETARG_UUID_P(0), &preset);
	if (preset.scheduled)
	{
		ForecastSink sink = { result, preset.schedules };
		char *fault;

		schedule_forecast(preset.timezone, preset.nschedules, preset.schedules, preset.base, start,
						  end, store_span, &sink, &fault);
		if (fault != NULL)
			schedule_warn_ignored(preset.name, preset.id->data, fault);
	}
	else
		store_unscheduled(result, start, end);
	plans_leave();
	return (Datum) 0;
}
