/*
 * arguments.c
 *	  Check the arguments of SQL functions. A function with several arguments names the wrong one,
 *	  instead of being STRICT and returning NULL.
 */
#include "compat.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "settings.h"

/* Raise null_value_not_allowed, naming the argument, if it is NULL. number counts from 0. */
void
argument_require(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", name)));
}

/*
 * Return a time argument. number counts from 0. Raises null_value_not_allowed or
 * datetime_value_out_of_range, naming the argument, unless the time is given and finite.
 */
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
 * Return the time of a pass, as argument_time() does. Also raises datetime_value_out_of_range for
 * a time so close to the last one that the server knows that new rows could not follow it.
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

/* Raise invalid_parameter_value for a preset that does not exist. id: its uuid. */
void
argument_no_such_preset(Datum id)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("preset %s does not exist", DatumGetCString(DirectFunctionCall1(uuid_out, id))),
			 errhint("Presets are the rows of template_version_presets in schema \"%s\".",
					 setting_control_plane_schema)));
}
