/*
 * timezone.h
 *	  Time zones by name and local time in them, through the server's time zone library.
 */
#ifndef PREBUILD_TIMEZONE_H
#define PREBUILD_TIMEZONE_H

#include "datatype/timestamp.h"
#include "pgtime.h"

#include "cron/cron_range.h"

extern const pg_tz *timezone_find(const char *name);
extern bool timezone_local_time(TimestampTz at, const pg_tz *tz, CronLocalTime *local);
extern int64 timezone_offset(TimestampTz at, const pg_tz *tz);
extern TimestampTz timezone_next_change(TimestampTz at, const pg_tz *tz);

#endif /* PREBUILD_TIMEZONE_H */
