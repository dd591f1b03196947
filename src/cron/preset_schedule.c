/*
 * preset_schedule.c
 *	  How many instances a preset's schedules ask for: at a time, and over a span of time.
 *
 * If the schedules have any fault (an empty or unknown time zone, an invalid expression, two that
 * can match the same minute), we ignore them all, for all times. Then the base applies.
 */
#include "compat.h"

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/fmgrprotos.h"

#include "cron/cron_range.h"
#include "cron/preset_schedule.h"
#include "cron/timezone.h"

/* Longest part of a stored text that a message repeats, in bytes. */
#define QUOTED_LENGTH 200

/* A preset's schedules, parsed and checked. */
typedef struct Timetable
{
	const pg_tz *tz; /* NULL without schedules */
	int count;		 /* 0 also if we ignore them */
	CronRange *ranges;
	const PresetSchedule *schedules;
	int32 base;
} Timetable;

/*
 * Put a text from outside into double quotes for a message. Cuts it if it is too long to read.
 * palloc'd in the current context.
 */
char *
schedule_quote(const char *text)
{
	int length = strlen(text);

	if (length <= QUOTED_LENGTH)
		return psprintf("\"%s\"", text);
	return psprintf("\"%.*s...\"", pg_mbcliplen(text, length, QUOTED_LENGTH), text);
}

/* Parse all expressions. Returns a sentence about the first invalid one, or NULL. */
static char *
parse_all(int nschedules, const PresetSchedule *schedules, CronRange *ranges)
{
	char error[CRON_RANGE_ERROR_SIZE];

	for (int i = 0; i < nschedules; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!cron_range_parse(schedules[i].cron_expression, &ranges[i], error, sizeof(error)))
			return psprintf("cron expression %s is invalid: %s",
							schedule_quote(schedules[i].cron_expression), error);
	}
	return NULL;
}

/* Return a sentence about the first two schedules that can match the same minute, or NULL. */
static char *
find_overlap(int nschedules, const PresetSchedule *schedules, const CronRange *ranges)
{
	for (int i = 1; i < nschedules; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < i; j++)
			if (cron_ranges_overlap(&ranges[j], &ranges[i]))
				return psprintf("cron expressions %s and %s can match the same minute",
								schedule_quote(schedules[j].cron_expression),
								schedule_quote(schedules[i].cron_expression));
	}
	return NULL;
}

/* Return a sentence about what is wrong with a preset's time zone, or NULL and the zone in *tz. */
static char *
find_zone(const char *timezone, const pg_tz **tz)
{
	if (timezone[0] == '\0')
		return pstrdup("they have no time zone");
	*tz = timezone_find(timezone);
	if (*tz == NULL)
		return psprintf("time zone %s is not known", schedule_quote(timezone));
	return NULL;
}

/*
 * Make a timetable. If the schedules have a fault, makes it without them and returns the fault as
 * a sentence; otherwise returns NULL. timetable_free() frees what this allocates, except for the
 * fault.
 */
static char *
timetable_make(Timetable *table, const char *timezone, int nschedules,
			   const PresetSchedule *schedules, int32 base)
{
	char *fault;

	table->tz = NULL;
	table->count = 0;
	table->ranges = NULL;
	table->schedules = schedules;
	table->base = base;
	if (nschedules == 0)
		return NULL;

	table->ranges = palloc(mul_size(nschedules, sizeof(CronRange)));
	fault = find_zone(timezone, &table->tz);
	if (fault == NULL)
		fault = parse_all(nschedules, schedules, table->ranges);
	if (fault == NULL)
		fault = find_overlap(nschedules, schedules, table->ranges);
	if (fault == NULL)
		table->count = nschedules;
	return fault;
}

static void
timetable_free(Timetable *table)
{
	if (table->ranges != NULL)
		pfree(table->ranges);
}

/* Get the local time of a finite time. Every timestamp that the server can hold has one. */
static void
local_time(const Timetable *table, TimestampTz at, CronLocalTime *local)
{
	if (!timezone_local_time(at, table->tz, local))
		elog(ERROR, "no local time for timestamp " INT64_FORMAT, at);
}

/* Return the index of the schedule that matches a local time, or -1. At most one matches. */
static int
timetable_lookup(const Timetable *table, const CronLocalTime *local)
{
	for (int i = 0; i < table->count; i++)
		if (cron_range_matches(&table->ranges[i], local))
			return i;
	return -1;
}

/* Return the instances wanted while a schedule, or none (-1), decides. */
static int32
timetable_value(const Timetable *table, int deciding)
{
	return deciding < 0 ? table->base : table->schedules[deciding].desired_instances;
}

/* Can any schedule match at some hour of a local day? */
static bool
timetable_has_day(const Timetable *table, const CronLocalTime *local)
{
	for (int i = 0; i < table->count; i++)
		if (cron_range_matches_day(&table->ranges[i], local))
			return true;
	return false;
}

/* Raise datetime_value_out_of_range for an infinite time. */
static void
require_finite(TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("cannot evaluate schedules at an infinite time")));
}

/*
 * Return the instances that a preset wants at a time.
 *
 * timezone: the preset's scheduling time zone, "" for none. schedules: in a fixed order. base:
 * the preset's own desired instances, which apply when no schedule does. *deciding receives the
 * index of the schedule that decided, or -1. *fault receives NULL, or a sentence (palloc'd in the
 * current context) that says why the schedules were ignored; the caller warns about it. Raises
 * datetime_value_out_of_range for infinity.
 */
int
schedule_desired(const char *timezone, int nschedules, const PresetSchedule *schedules, int base,
				 TimestampTz at, int *deciding, char **fault)
{
	Timetable table;

	require_finite(at);
	*deciding = -1;
	*fault = timetable_make(&table, timezone, nschedules, schedules, base);
	if (table.count > 0)
	{
		CronLocalTime local;

		local_time(&table, at, &local);
		*deciding = timetable_lookup(&table, &local);
	}
	timetable_free(&table);
	return timetable_value(&table, *deciding);
}

/*
 * Return the microseconds from a local time to the end of its hour or, if nothing matches on its
 * day, of its day.
 */
static int64
stable_for(const Timetable *table, const CronLocalTime *local, TimestampTz at)
{
	int64 into_second = at % USECS_PER_SEC;
	int64 into_hour;

	if (into_second < 0)
		into_second += USECS_PER_SEC;
	into_hour = (local->minute * SECS_PER_MINUTE + local->second) * USECS_PER_SEC + into_second;
	if (timetable_has_day(table, local))
		return USECS_PER_HOUR - into_hour;
	return USECS_PER_DAY - local->hour * USECS_PER_HOUR - into_hour;
}

/*
 * Find which schedule decides at a time (*deciding). Returns the next time, end at the latest, at
 * which another one may decide: the end of the local hour or day under the offset that is in
 * force, or the next change of the offset, whichever comes first.
 */
static TimestampTz
next_boundary(const Timetable *table, TimestampTz at, TimestampTz end, int *deciding)
{
	CronLocalTime local;
	TimestampTz boundary;

	*deciding = -1;
	if (table->count == 0)
		return end;
	local_time(table, at, &local);
	*deciding = timetable_lookup(table, &local);
	if (pg_add_s64_overflow(at, stable_for(table, &local, at), &boundary))
		boundary = end;
	boundary = Min(boundary, timezone_next_change(at, table->tz));
	return Min(boundary, end);
}

/*
 * Forecast the instances that a preset wants over [start, end). Calls sink with adjacent spans
 * that cover it, in order. Each span is as long as one schedule (or the base) decides. An empty
 * range has no spans.
 *
 * Other parameters and errors as for schedule_desired(). The sink runs in the caller's memory
 * context.
 */
void
schedule_forecast(const char *timezone, int nschedules, const PresetSchedule *schedules, int base,
				  TimestampTz start, TimestampTz end, ScheduleSpanSink sink, void *context,
				  char **fault)
{
	Timetable table;
	ScheduleSpan span;
	TimestampTz at = start;

	require_finite(start);
	require_finite(end);
	*fault = timetable_make(&table, timezone, nschedules, schedules, base);
	while (at < end)
	{
		int deciding;
		TimestampTz boundary = next_boundary(&table, at, end, &deciding);

		CHECK_FOR_INTERRUPTS();
		if (at == start || deciding != span.deciding)
		{
			if (at != start)
				sink(&span, context);
			span.starts_at = at;
			span.deciding = deciding;
			span.desired = timetable_value(&table, deciding);
		}
		span.ends_at = at = boundary;
	}
	if (start < end)
		sink(&span, context);
	timetable_free(&table);
}

/*
 * Check schedules without their time zone. Returns NULL if they are fine, otherwise a sentence
 * that names the invalid expression or the two that overlap, palloc'd in the current context.
 */
char *
schedule_check(int nschedules, const PresetSchedule *schedules)
{
	CronRange *ranges = palloc(mul_size(nschedules, sizeof(CronRange)));
	char *fault = parse_all(nschedules, schedules, ranges);

	if (fault == NULL)
		fault = find_overlap(nschedules, schedules, ranges);
	pfree(ranges);
	return fault;
}

/*
 * Warn that the extension ignores a preset's schedules. preset_id: the 16 bytes of its id. fault:
 * the sentence from schedule_desired() or schedule_forecast().
 */
void
schedule_warn_ignored(const char *preset_name, const uint8 *preset_id, const char *fault)
{
	pg_uuid_t id;

	memcpy(id.data, preset_id, UUID_LEN);
	ereport(WARNING,
			(errmsg("ignoring schedules of preset %s (%s): %s", schedule_quote(preset_name),
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id))), fault),
			 errhint("The preset's desired_instances apply until you correct the schedules.")));
}
