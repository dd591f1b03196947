/*
 * cron_range.h
 *	  Five-field cron expressions read as continuous time ranges. Pure: no server, no clock, no
 *	  allocation.
 *
 * A range matches a local time when the minute that contains it matches every field. The minute
 * field must be exactly "*" (not "?", not "*" with a step), so the hour is the finest unit: within
 * one local hour a range matches throughout or not at all.
 */
#ifndef PREBUILD_CRON_RANGE_H
#define PREBUILD_CRON_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room enough for every message of cron_range_parse(). */
#define CRON_RANGE_ERROR_SIZE 256

/* Bit n stands for the value n. */
typedef struct CronRange
{
	uint32_t hours;	   /* 0 to 23 */
	uint32_t days;	   /* 1 to 31 */
	uint32_t months;   /* 1 to 12 */
	uint32_t weekdays; /* 0 to 6, 0 is Sunday */
	bool any_day;	   /* the day of month is not restricted */
	bool any_weekday;  /* the weekday is not restricted */
} CronRange;

typedef struct CronLocalTime
{
	int year;
	int month; /* 1 to 12 */
	int day;   /* 1 to 31 */
	int hour;
	int minute;
	int second;
	int weekday; /* 0 is Sunday */
} CronLocalTime;

extern bool cron_range_parse(const char *text, CronRange *range, char *error, size_t error_size);
extern bool cron_range_matches(const CronRange *range, const CronLocalTime *local);
extern bool cron_range_matches_day(const CronRange *range, const CronLocalTime *local);
extern bool cron_ranges_overlap(const CronRange *a, const CronRange *b);

#endif /* PREBUILD_CRON_RANGE_H */
