/*
 * arguments.c
 *	  Arguments of SQL functions: what must not be NULL or infinite, or is not there. Functions with several
 *	  arguments say which one is wrong, instead of being STRICT and answering NULL.
 */
#include "compat.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "settings.h"

/* Raise an error that names the argument when it is NULL. number counts from 0. */
void
argument_require(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", name)));
}

/* A time that is given and finite. number counts from 0. */
TimestampTz
argument_time(FunctionCallInfo fcinfo, int number, const char *name)
{
	TimestampTz at;

	argument_require(fcinfo, number, name);
	at = PG_GETARG_TIMESTAMPTZ(number);
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"%s\" must be a finite time, not %s", name,
							   timestamptz_to_str(at))));
	return at;
}

/*
 * The time of a pass: given, finite, and so far from the last that the server knows that new rows
 * can follow it. number counts from 0.
 */
TimestampTz
argument_clock(FunctionCallInfo fcinfo, int number, const char *name)
{
	TimestampTz at = argument_time(fcinfo, number, name);

	if (at > END_TIMESTAMP - USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"%s\" is too late: %s", name, timestamptz_to_str(at))));
	return at;
}

/* Raise the error for a preset that does not exist. */
void
argument_no_such_preset(Datum id)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("preset %s does not exist", DatumGetCString(DirectFunctionCall1(uuid_out, id))),
			 errhint("Presets are the rows of template_version_presets in schema \"%s\".",
					 setting_control_plane_schema)));
}
