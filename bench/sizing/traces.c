/*
 * traces.c
 *	  Synthetic demand: a rate for every minute, and Poisson's arrivals by it.
 */
#include "traces.h"

#include <math.h>
#include <string.h>

const char *const trace_kinds[] = { "steady", "weekly",	 "monday", "promotion", "holiday",
									"leaves", "growing", "bursts", NULL };

#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)
#define MINUTES_OF_DAY 1440

static uint64_t state;

/* xorshift64* (Vigna 2016) */
static double
uniform(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (double) ((state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

/* A hump around an hour of the day, 1 at its top. */
static double
hump(double hour, double top, double width)
{
	double d = (hour - top) / width;

	return exp(-d * d / 2);
}

/* The share of an office day's demand that comes in an hour, on average 1 over the day. */
static double
office(double hour)
{
	return 24 / 9.1 *
			   (0.9 * hump(hour, 9.5, 1.0) + 0.65 * hump(hour, 14.0, 1.6) +
				0.35 * hump(hour, 17.0, 1.5) + 0.2 * hump(hour, 11.5, 1.5)) +
		   0.03;
}

static double
week_pattern(double hour, int day)
{
	static const double days[] = { 1.15, 1.1, 1.0, 1.0, 0.8, 0.12, 0.1 };

	return days[day] * office(hour);
}

/* Demands an hour. */
static double
rate(const char *kind, double per_hour, int week, int weeks, int day, double hour, double mood)
{
	double pattern = week_pattern(hour, day) * 7 / 5.27;

	if (strcmp(kind, "steady") == 0)
		return per_hour;
	if (strcmp(kind, "monday") == 0)
		return per_hour * pattern * 0.7 + (day == 0 && hour >= 9 && hour < 9.5 ? 24 * per_hour : 0);
	if (strcmp(kind, "promotion") == 0)
		return per_hour * pattern +
			   (hour >= 12 && hour < 12.25 && day < 5 && mood < 0.3 ? 24 * per_hour : 0);
	if (strcmp(kind, "holiday") == 0)
		return per_hour * pattern * (week == weeks - 3 || week == weeks - 9 ? 0.08 : 1);
	if (strcmp(kind, "leaves") == 0)
		return per_hour * pattern * (week >= weeks - 3 ? 0.25 : 1);
	if (strcmp(kind, "growing") == 0)
		return per_hour * pattern * (0.4 + 1.6 * (week + day / 7.0) / weeks);
	if (strcmp(kind, "bursts") == 0)
		return per_hour * pattern * (0.4 + 1.8 * mood * mood);
	return per_hour * pattern; /* weekly */
}

/*
 * Make a trace. from is a Monday at midnight. rates gets the demands an hour that each minute was
 * drawn from. Returns how many demands the trace has, at most room.
 */
int
trace_make(const char *kind, double per_day, uint64_t seed, int64_t from, int weeks, int64_t *times,
		   int room, double *rates)
{
	int count = 0;
	double mood = 0.5;

	state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	for (int i = 0; i < 20; i++)
		uniform();
	for (int minute = 0; minute < weeks * TRACE_MINUTES_OF_WEEK; minute++)
	{
		int day = minute / MINUTES_OF_DAY % 7;
		double hour = minute % MINUTES_OF_DAY / 60.0;
		double left;
		double second = 0;

		if (minute % MINUTES_OF_DAY == 0 || (strcmp(kind, "bursts") == 0 && minute % 60 == 0))
			mood = uniform();
		left = rate(kind, per_day / 24, minute / TRACE_MINUTES_OF_WEEK, weeks, day, hour, mood);
		rates[minute] = left;
		/* exponential gaps, in seconds */
		for (;;)
		{
			second += -log(1 - uniform()) * 3600 / left;
			if (second >= 60 || count == room)
				break;
			times[count++] = from + minute * MINUTE + (int64_t) (second * 1e6);
		}
	}
	return count;
}
