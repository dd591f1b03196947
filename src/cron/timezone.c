/*
 * timezone.c
 *	  Time zones by name and local time in them, through the server's time zone library.
 */
#include "compat.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "cron/timezone.h"

/* Seconds from the Unix epoch to PostgreSQL's. */
#define EPOCH_DIFFERENCE ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/*
 * Find a time zone by its name in pg_timezone_names, in exactly that spelling. Returns NULL if
 * there is none. The result lives as long as the backend.
 *
 * pg_tzset() alone takes any spelling, POSIX strings (almost any word with a digit in it) and
 * zones with leap seconds. A colon before the name makes the library read a zone file or nothing,
 * which keeps POSIX strings out (and out of its cache). The canonical name is the file's. So we
 * need not compare the name with the list of names, which takes tens of milliseconds to make in a
 * new backend.
 */
const pg_tz *
timezone_find(const char *name)
{
	char file[TZ_STRLEN_MAX + 1];
	pg_tz *tz;

	if (strlen(name) + 1 >= sizeof(file))
		return NULL;
	snprintf(file, sizeof(file), ":%s", name);
	tz = pg_tzset(file);
	if (tz == NULL || !pg_tz_acceptable(tz) || strcmp(pg_get_timezone_name(tz), name) != 0)
		return NULL;
	return tz;
}

/*
 * Return the seconds since the Unix epoch, rounded down (timestamptz_to_time_t() rounds towards
 * 2000).
 */
static pg_time_t
unix_seconds(TimestampTz at)
{
	int64 seconds = at / USECS_PER_SEC;

	if (at % USECS_PER_SEC < 0)
		seconds--;
	return (pg_time_t) (seconds + EPOCH_DIFFERENCE);
}

/*
 * Get the local time in a zone. Returns false if there is none, because at is infinite or the
 * library cannot tell.
 */
bool
timezone_local_time(TimestampTz at, const pg_tz *tz, CronLocalTime *local)
{
	pg_time_t seconds = unix_seconds(at);
	struct pg_tm *tm;

	if (TIMESTAMP_NOT_FINITE(at) || (tm = pg_localtime(&seconds, tz)) == NULL)
		return false;
	local->year = tm->tm_year + 1900;
	local->month = tm->tm_mon + 1;
	local->day = tm->tm_mday;
	local->hour = tm->tm_hour;
	local->minute = tm->tm_min;
	local->second = tm->tm_sec;
	local->weekday = tm->tm_wday;
	return true;
}

/* Return by how many microseconds local time in a zone is ahead of UTC at a finite time. */
int64
timezone_offset(TimestampTz at, const pg_tz *tz)
{
	CronLocalTime local;
	pg_time_t seconds;

	if (!timezone_local_time(at, tz, &local))
		return 0;
	seconds =
		(date2j(local.year, local.month, local.day) - UNIX_EPOCH_JDATE) * (pg_time_t) SECS_PER_DAY +
		local.hour * SECS_PER_HOUR + local.minute * SECS_PER_MINUTE + local.second;
	return (seconds - unix_seconds(at)) * USECS_PER_SEC;
}

/*
 * Return the first time after a finite one at which the zone's offset may change, or DT_NOEND if
 * the library knows of none. (At the very last change of its table the library knows of none,
 * even if it extrapolates later ones. So ask again for a later time instead of remembering this.)
 */
TimestampTz
timezone_next_change(TimestampTz at, const pg_tz *tz)
{
	pg_time_t seconds = unix_seconds(at);
	pg_time_t boundary;
	long int before_offset, after_offset;
	int before_dst, after_dst;

	if (pg_next_dst_boundary(&seconds, &before_offset, &before_dst, &boundary, &after_offset,
							 &after_dst, tz) != 1 ||
		boundary - EPOCH_DIFFERENCE >= END_TIMESTAMP / USECS_PER_SEC)
		return DT_NOEND;
	return (boundary - EPOCH_DIFFERENCE) * USECS_PER_SEC;
}
