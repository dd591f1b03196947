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
/* What pieces are worth that there are none of: less than all others. */
#define NO_PIECES (-1e300)

/* The demands of a kind of day, all its days together. */
typedef struct DayNeeds
{
	int first; /* days of the week */
	int end;
	int served[HOURS_OF_DAY + 1][WEEK_LEVELS + 1]; /* by a level in the hours before */
} DayNeeds;

/* The last of some pieces that cut the first hours of a day. */
typedef struct DayPiece
{
	int first;
	int level;
	double value; /* of all of them */
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
	DemandWeek week = { 0, 0, 0 };

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
		needs->needed[demand_time_of_near_week(history, time - lead, &week) / DEMAND_HOUR][need]++;
		needs->demands++;
	}
}

/*
 * Find the best level for some hours: a level serves after[level] - before[level] demands. A demand
 * served is worth its price; and the prebuild that it took does not wait while it is built again.
 */
static double
best_level(const WeekNeeds *needs, const int *before, const int *after, double hours, double price,
		   int *level)
{
	double worth = price + needs->lead;
	double all = (after[needs->top] - before[needs->top]) * worth;
	double best = 0;

	*level = 0;
	/* no level from i on can be better than one that serves all at the cost of i */
	for (int i = 1; i <= needs->top && all - i * hours > best + MARGIN; i++)
	{
		double value = (after[i] - before[i]) * worth - i * hours;

		if (value > best + MARGIN)
		{
			best = value;
			*level = i;
		}
	}
	return best;
}

/* Sum the days of a kind up, over the hours and over the levels. */
static void
add_days(const WeekNeeds *needs, int first, int end, DayNeeds *days)
{
	days->first = first;
	days->end = end;
	memset(days->served[0], 0, sizeof(days->served[0]));
	for (int hour = 0; hour < HOURS_OF_DAY; hour++)
	{
		int served = 0;

		days->served[hour + 1][0] = 0;
		for (int level = 1; level <= needs->top; level++)
		{
			for (int day = first; day < end; day++)
				served += needs->needed[day * HOURS_OF_DAY + hour][level];
			days->served[hour + 1][level] = days->served[hour][level] + served;
		}
	}
}

/* Write the best pieces into the schedule, from the last to the first. */
static void
write_pieces(DayPiece best[HOURS_OF_DAY + 1][WEEK_PIECES + 1], const DayNeeds *days,
			 WeekSchedule *schedule)
{
	int pieces = 1;
	int hour = HOURS_OF_DAY;

	for (int k = 2; k <= WEEK_PIECES; k++)
		if (best[hour][k].value > best[hour][pieces].value + MARGIN)
			pieces = k;
	for (; pieces > 0; pieces--)
	{
		const DayPiece *piece = &best[hour][pieces];

		for (int day = days->first; day < days->end; day++)
			for (int h = piece->first; h < hour; h++)
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
	DayPiece best[HOURS_OF_DAY + 1][WEEK_PIECES + 1];
	double day_hours = needs->weeks * (days->end - days->first);

	for (int to = 1; to <= HOURS_OF_DAY; to++)
	{
		best[to][1].first = 0;
		best[to][1].value = best_level(needs, days->served[0], days->served[to], day_hours * to,
									   price, &best[to][1].level);
		for (int k = 2; k <= WEEK_PIECES; k++)
			best[to][k].value = NO_PIECES;
		for (int from = 1; from < to; from++)
		{
			int level;
			double value = best_level(needs, days->served[from], days->served[to],
									  day_hours * (to - from), price, &level);

			/* from hours are at most as many pieces */
			for (int k = 2; k <= WEEK_PIECES && k - 1 <= from; k++)
				if (value + best[from][k - 1].value > best[to][k].value + MARGIN)
					best[to][k] = (DayPiece){ from, level, value + best[from][k - 1].value };
		}
	}
	write_pieces(best, days, schedule);
}

/* The best levels of every hour of the week by itself. */
static void
fit_hours(const WeekNeeds *needs, double price, WeekSchedule *schedule)
{
	static const int nothing[WEEK_LEVELS + 1];

	for (int hour = 0; hour < WEEK_HOURS; hour++)
	{
		int served[WEEK_LEVELS + 1];
		int level;

		served[0] = 0;
		for (int i = 1; i <= needs->top; i++)
			served[i] = served[i - 1] + needs->needed[hour][i];
		best_level(needs, nothing, served, needs->weeks, price, &level);
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
