/*
 * preset_schedule.h
 *	  How many instances a preset's schedules ask for: at a time, and over a span of time.
 */
#ifndef PREBUILD_PRESET_SCHEDULE_H
#define PREBUILD_PRESET_SCHEDULE_H

#include "datatype/timestamp.h"

typedef struct PresetSchedule
{
	char *cron_expression;
	int32 desired_instances;
} PresetSchedule;

/* A part of a forecast, [starts_at, ends_at). */
typedef struct ScheduleSpan
{
	TimestampTz starts_at;
	TimestampTz ends_at;
	int32 desired;
	int deciding; /* index of the schedule that decides, or -1 for the base */
} ScheduleSpan;

/* Takes the spans of a forecast, in order. */
typedef void (*ScheduleSpanSink)(const ScheduleSpan *span, void *context);

extern int schedule_desired(const char *timezone, int nschedules, const PresetSchedule *schedules,
							int base, TimestampTz at, int *deciding, char **fault);
extern void schedule_forecast(const char *timezone, int nschedules, const PresetSchedule *schedules,
							  int base, TimestampTz start, TimestampTz end, ScheduleSpanSink sink,
							  void *context, char **fault);
extern char *schedule_check(int nschedules, const PresetSchedule *schedules);
extern char *schedule_quote(const char *text);
extern void schedule_warn_ignored(const char *preset_name, const uint8 *preset_id,
								  const char *fault);

#endif /* PREBUILD_PRESET_SCHEDULE_H */
