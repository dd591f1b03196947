/*
 * arguments.h
 *	  Check the arguments of SQL functions.
 */
#ifndef PREBUILD_ARGUMENTS_H
#define PREBUILD_ARGUMENTS_H

#include "compat.h"

#include "fmgr.h"
#include "datatype/timestamp.h"

extern void argument_require(FunctionCallInfo fcinfo, int number, const char *name);
extern TimestampTz argument_time(FunctionCallInfo fcinfo, int number, const char *name);
extern TimestampTz argument_clock(FunctionCallInfo fcinfo, int number, const char *name);
pg_noreturn extern void argument_no_such_preset(Datum id);

#endif /* PREBUILD_ARGUMENTS_H */
