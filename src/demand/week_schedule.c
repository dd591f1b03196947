/*
 * week_schedule.c
 *	  Fit a weekly schedule to a demand. Pure.
 *
 * A demand needs one prebuild more than others came in the lead time before it: their places are
 * still being built again. So what levels would have done for the hours of a week can be counted. Of
 * all schedules that serve enough the one is wanted that waits least. At a price, the idle hours that
 * a demand served may cost, each hour (or piece of a day) finds its best level by itself; the lowest
 * price that serves enough is searched for (Everett 1963). What counting does not see the simulator
 * tells.
 */
#include "demand/week_schedule.h"

#include <string.h>

#define HOURS_OF_DAY 24
/* Prices between which the search looks, and its steps: most of them halve the distance. */
#define LEAST_PRICE 0.05
#define MOST_PRICE 1e4
#define PRICE_STEPS 16
/* A level, or one more piece, must be worth more idle hours than this, not a rounding error. */
#define MARGIN 1e-6

/* The demands of a kind of day, all its days together. */
typedef struct DayNeeds
{
	int first; /* days of the week */
	int end;
	int needed[HOURS_OF_DAY][WEEK_LEVELS + 1];
} DayNeeds;

/* Hours of a day with one level; value is of the best pieces of the day up to its end. */
typedef struct DayPiece
{
	int first;
	int end;
	int level;
	double value;
} DayPiece;

/*
 * Count by hour of the week what the demands between two times needed. lead is how long a place
 * stays empty after a demand. What a demand needs must have been ordered that long before it, so it
 * counts for the hour of then: a day that begins sharply at 9 needs a level at 8. Needs above
 * WEEK_LEVELS count as that.
 */
void
week_needs(const DemandHistory *history, int64_t from, int64_t to, int64_t lead, WeekNeeds *needs)
{
	int first = demand_count_before(history->demands, history->ndemands, from);
	int oldest = first;

	memset(needs, 0, sizeof(*needs));
	needs->weeks = (double) (to - from) / DEMAND_WEEK;
	needs->lead = (double) lead / DEMAND_HOUR;
	for (int i = first; i < history->ndemands && history->demands[i] < to; i++)
	{
		int64_t time = history->demands[i];
		int need;

		while (oldest < i && history->demands[oldest] <= time - lead)
			oldest++;
		need = i - oldest + 1;
		if (need > WEEK_LEVELS)
			need = WEEK_LEVELS;
		if (need > needs->top)
			needs->top = need;
		needs->needed[demand_time_of_week(history, time - lead) / DEMAND_HOUR][need]++;
		needs->demands++;
	}
}

/*
 * Find the best level for demands that needed so and so much in so many hours. A demand served is
 * worth its price; and the prebuild that it took does not wait while it is built again.
 */
static double
best_level(const WeekNeeds *needs, const int *needed, double hours, double price, int *level)
{
	double best = 0;
	int served = 0;

	*level = 0;
	for (int i = 1; i <= needs->top; i++)
	{
		double value;

		served += needed[i];
		value = served * (price + needs->lead) - i * hours;
		if (value > best + MARGIN)
		{
			best = value;
			*level = i;
		}
	}
	return best;
}

/* Add the days of a kind up. */
static void
add_days(const WeekNeeds *needs, int first, int end, DayNeeds *days)
{
	memset(days, 0, sizeof(*days));
	days->first = first;
	days->end = end;
	for (int day = first; day < end; day++)
		for (int hour = 0; hour < HOURS_OF_DAY; hour++)
			for (int level = 1; level <= needs->top; level++)
				days->needed[hour][level] += needs->needed[day * HOURS_OF_DAY + hour][level];
}

/* Write the best pieces into the schedule, from the last to the first. */
static void
write_pieces(DayPiece best[WEEK_PIECES + 1][HOURS_OF_DAY + 1], const DayNeeds *days,
			 WeekSchedule *schedule)
{
	int pieces = 1;
	int hour = HOURS_OF_DAY;

	for (int k = 2; k <= WEEK_PIECES; k++)
		if (best[k][hour].value > best[pieces][hour].value + MARGIN)
			pieces = k;
	for (; pieces > 0; pieces--)
	{
		const DayPiece *piece = &best[pieces][hour];

		for (int day = days->first; day < days->end; day++)
			for (int h = piece->first; h < piece->end; h++)
				schedule->levels[day * HOURS_OF_DAY + h] = (int16_t) piece->level;
		hour = piece->first;
	}
}

/*
 * Cut a kind of day into its best pieces: the best way to cut a day's first hours into k pieces is
 * the best way to cut fewer of them into k - 1, and one more piece (Bellman and Roth 1969).
 */
static void
fit_days(const WeekNeeds *needs, const DayNeeds *days, double price, WeekSchedule *schedule)
{
	DayPiece best[WEEK_PIECES + 1][HOURS_OF_DAY + 1];

	memset(best, 0, sizeof(best));
	for (int from = 0; from < HOURS_OF_DAY; from++)
	{
		int needed[WEEK_LEVELS + 1] = { 0 };

		for (int to = from + 1; to <= HOURS_OF_DAY; to++)
		{
			double hours = needs->weeks * (days->end - days->first) * (to - from);
			double value;
			int level;

			for (int i = 1; i <= needs->top; i++)
				needed[i] += days->needed[to - 1][i];
			value = best_level(needs, needed, hours, price, &level);
			for (int k = from == 0 ? 1 : 2; k <= (from == 0 ? 1 : WEEK_PIECES); k++)
			{
				double sum = value + best[k - 1][from].value;

				/* no k - 1 pieces end at from */
				if (k > 1 && best[k - 1][from].end == 0)
					continue;
				if (best[k][to].end == 0 || sum > best[k][to].value + MARGIN)
					best[k][to] = (DayPiece){ from, to, level, sum };
			}
		}
	}
	write_pieces(best, days, schedule);
}

/* The best levels of every hour of the week by itself. */
static void
fit_hours(const WeekNeeds *needs, double price, WeekSchedule *schedule)
{
	for (int hour = 0; hour < WEEK_HOURS; hour++)
	{
		int level;

		best_level(needs, needs->needed[hour], needs->weeks, price, &level);
		schedule->levels[hour] = (int16_t) level;
	}
}

/* Return the share of the demands that a schedule serves. */
static double
served_share(const WeekNeeds *needs, const WeekSchedule *schedule)
{
	int served = 0;

	for (int hour = 0; hour < WEEK_HOURS; hour++)
		for (int level = 1; level <= schedule->levels[hour]; level++)
			served += needs->needed[hour][level];
	return (double) served / needs->demands;
}

/*
 * Fit the schedule of a shape that serves a share of the demands and waits least. Returns the share
 * that it serves of them, as far as counting tells. No demands give a schedule of zeros.
 */
double
week_schedule_fit(const WeekNeeds *needs, WeekShape shape, double service_level,
				  WeekSchedule *schedule)
{
	DayNeeds weekdays;
	DayNeeds weekend;
	double low = LEAST_PRICE;
	double high = MOST_PRICE;

	memset(schedule, 0, sizeof(*schedule));
	if (needs->demands == 0)
		return 1;
	add_days(needs, 0, 5, &weekdays);
	add_days(needs, 5, 7, &weekend);
	for (int step = 0; step <= PRICE_STEPS; step++)
	{
		/* far apart, the bounds come together by factors; the last step takes what serves enough */
		double price = high > 16 * low ? 4 * low : (low + high) / 2;

		if (step == PRICE_STEPS)
			price = high;
		if (shape == WEEK_FREE)
			fit_hours(needs, price, schedule);
		else
		{
			fit_days(needs, &weekdays, price, schedule);
			fit_days(needs, &weekend, price, schedule);
		}
		if (served_share(needs, schedule) >= service_level)
			high = price;
		else
			low = price;
	}
	return served_share(needs, schedule);
}

/* Return the level at a time; sets *until to when the local hour ends. */
int
week_schedule_level(const WeekSchedule *schedule, const DemandHistory *history, int64_t at,
					int64_t *until)
{
	int64_t into = demand_time_of_week(history, at);

	*until = at + DEMAND_HOUR - into % DEMAND_HOUR;
	return schedule->levels[into / DEMAND_HOUR];
}

/*
 * Cut a schedule whose weekdays are alike, and whose days of the weekend are, into its pieces: those
 * of weekdays first, each by hour. They do not overlap and cover the week. Returns how many there
 * are; pieces needs room for WEEK_PIECES_ALL. Returns 0 if the days differ or there are more pieces.
 */
int
week_schedule_pieces(const WeekSchedule *schedule, WeekPiece *pieces)
{
	int count = 0;

	for (int hour = 0; hour < WEEK_HOURS; hour++)
	{
		int first_day = hour < 5 * HOURS_OF_DAY ? 0 : 5;

		if (schedule->levels[hour] !=
			schedule->levels[first_day * HOURS_OF_DAY + hour % HOURS_OF_DAY])
			return 0;
		if (hour / HOURS_OF_DAY != first_day)
			continue;
		if (hour % HOURS_OF_DAY != 0 && schedule->levels[hour] == schedule->levels[hour - 1])
		{
			pieces[count - 1].end++;
			continue;
		}
		if (count == WEEK_PIECES_ALL)
			return 0;
		pieces[count++] = (WeekPiece){ first_day == 5, hour % HOURS_OF_DAY, hour % HOURS_OF_DAY + 1,
									   schedule->levels[hour] };
	}
	return count;
}
