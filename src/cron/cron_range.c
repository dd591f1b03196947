/*
 * cron_range.c
 *	  Parse a cron expression to a time range, match local times, find overlaps. Pure.
 *
 * This accepts what the control plane's own parser accepts, with these exceptions, all errors
 * here: an empty list member ("1,,2"), something behind a star ("*-5"), a sign ("+5"), and a time
 * zone inside the expression. White space before, between and after the fields is free.
 */
#include "cron/cron_range.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Longest piece of the expression that an error message repeats. */
#define QUOTED_LENGTH 64

/* A piece of the expression. */
typedef struct Slice
{
	const char *text;
	size_t length;
} Slice;

/* What a field may hold. */
typedef struct FieldRule
{
	const char *label;
	int min;
	int max;
	const char *names; /* three letters each, in the order of the values; or NULL */
} FieldRule;

/* What a field or a list member of it says. */
typedef struct FieldValue
{
	uint32_t bits;
	bool any; /* a star or question mark without a step above one */
} FieldValue;

typedef struct ParseError
{
	char *text;
	size_t size;
} ParseError;

#define FIELD_COUNT 5

static const FieldRule hour_rule = { "hour", 0, 23, NULL };
static const FieldRule day_rule = { "day of month", 1, 31, NULL };
static const FieldRule month_rule = { "month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec" };
static const FieldRule weekday_rule = { "weekday", 0, 6, "sunmontuewedthufrisat" };

/* Is this ASCII white space, whatever the locale? */
static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Lower-case an ASCII letter, whatever the locale. */
static char
to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool
slice_equals(Slice slice, const char *text)
{
	return slice.length == strlen(text) && memcmp(slice.text, text, slice.length) == 0;
}

static bool
slice_starts_with(Slice slice, const char *text)
{
	return slice.length >= strlen(text) && memcmp(slice.text, text, strlen(text)) == 0;
}

/* Split a slice at the first separator. Returns false, with all of it in head, if there is none. */
static bool
slice_split(Slice slice, char separator, Slice *head, Slice *tail)
{
	const char *found = memchr(slice.text, separator, slice.length);
	const char *end = slice.text + slice.length;
	const char *cut = found != NULL ? found : end;
	const char *next = found != NULL ? found + 1 : end;

	*head = (Slice){ slice.text, (size_t) (cut - slice.text) };
	*tail = (Slice){ next, (size_t) (end - next) };
	return found != NULL;
}

/*
 * Return how much of a slice to repeat in a message. Cuts a long one behind an ASCII character,
 * because that is a character boundary in every encoding that a server can have.
 */
static int
quotable_length(Slice slice)
{
	size_t length = slice.length;

	if (length > QUOTED_LENGTH)
	{
		length = QUOTED_LENGTH;
		while (length > 0 && (slice.text[length - 1] & 0x80) != 0)
			length--;
	}
	return (int) length;
}

static bool fail(ParseError *error, const FieldRule *rule, Slice offender, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Write an error as: <label> field: "<offending text>" <complaint>. Always returns false. */
static bool
fail(ParseError *error, const FieldRule *rule, Slice offender, const char *format, ...)
{
	char complaint[128];
	int length = quotable_length(offender);
	va_list args;

	va_start(args, format);
	(void) vsnprintf(complaint, sizeof(complaint), format, args);
	va_end(args);
	(void) snprintf(error->text, error->size, "%s%s\"%.*s%s\" %s", rule != NULL ? rule->label : "",
					rule != NULL ? " field: " : "", length, offender.text,
					(size_t) length < offender.length ? "..." : "", complaint);
	return false;
}

/* Read a decimal number without a sign. Returns false if it is none or does not fit. */
static bool
parse_number(Slice slice, int64_t *number)
{
	int64_t value = 0;

	if (slice.length == 0)
		return false;
	for (size_t i = 0; i < slice.length; i++)
	{
		char c = slice.text[i];

		if (c < '0' || c > '9' || value > (INT64_MAX - (c - '0')) / 10)
			return false;
		value = value * 10 + (c - '0');
	}
	*number = value;
	return true;
}

/* Read one of the field's names, in any case. */
static bool
parse_name(Slice slice, const FieldRule *rule, int64_t *number)
{
	if (rule->names == NULL || slice.length != 3)
		return false;
	for (int value = rule->min; value <= rule->max; value++)
	{
		const char *name = rule->names + (size_t) (value - rule->min) * 3;

		if (to_lower(slice.text[0]) == name[0] && to_lower(slice.text[1]) == name[1] &&
			to_lower(slice.text[2]) == name[2])
		{
			*number = value;
			return true;
		}
	}
	return false;
}

/* Read a number or name within the field's bounds. */
static bool
parse_value(Slice slice, const FieldRule *rule, int64_t *value, ParseError *error)
{
	if (!parse_name(slice, rule, value) && !parse_number(slice, value))
		return fail(error, rule, slice, "is not a number%s", rule->names ? " or a name" : "");
	if (*value < rule->min || *value > rule->max)
		return fail(error, rule, slice, "is not between %d and %d", rule->min, rule->max);
	return true;
}

/* Read a list member: a star, a question mark, a value or a range; with or without a step. */
static bool
parse_member(Slice member, const FieldRule *rule, FieldValue *result, ParseError *error)
{
	Slice base, step_text, low_text, high_text;
	bool has_step = slice_split(member, '/', &base, &step_text);
	int64_t low = rule->min;
	int64_t high = rule->max;
	int64_t step = 1;
	bool any = slice_equals(base, "*") || slice_equals(base, "?");

	if (!any)
	{
		bool is_range = slice_split(base, '-', &low_text, &high_text);

		if (!parse_value(low_text, rule, &low, error))
			return false;
		if (is_range && !parse_value(high_text, rule, &high, error))
			return false;
		if (!is_range && !has_step)
			high = low;
		if (low > high)
			return fail(error, rule, base, "is a range that starts above its end");
	}
	if (has_step && (!parse_number(step_text, &step) || step == 0))
		return fail(error, rule, member, "has a step that is not a positive number");

	if (step > rule->max)
		step = rule->max + 1; /* the first value alone, and no overflow below */
	result->bits = 0;
	for (int64_t value = low; value <= high; value += step)
		result->bits |= UINT32_C(1) << value;
	result->any = any && step == 1;
	return true;
}

/* Read a field: list members, separated by commas. One unrestricted member frees them all. */
static bool
parse_field(Slice field, const FieldRule *rule, FieldValue *result, ParseError *error)
{
	Slice rest = field;
	bool more = true;

	result->bits = 0;
	result->any = false;
	while (more)
	{
		FieldValue value = { 0, false };
		Slice member;

		more = slice_split(rest, ',', &member, &rest);
		if (member.length == 0)
			return fail(error, rule, field, "has an empty list member");
		if (!parse_member(member, rule, &value, error))
			return false;
		result->bits |= value.bits;
		result->any |= value.any;
	}
	return true;
}

/* Take the next word from *rest. Returns false at the end of the text. */
static bool
next_word(const char **rest, Slice *word)
{
	const char *p = *rest;

	while (is_blank(*p))
		p++;
	word->text = p;
	while (*p != '\0' && !is_blank(*p))
		p++;
	word->length = (size_t) (p - word->text);
	*rest = p;
	return word->length > 0;
}

/* Split the text into its fields. Refuses what only other readers of cron understand. */
static bool
split_fields(const char *text, Slice fields[FIELD_COUNT], ParseError *error)
{
	const char *rest = text;
	size_t count = 0;
	Slice word;

	while (next_word(&rest, &word))
	{
		if (count == 0 && word.text[0] == '@')
			return fail(error, NULL, word,
						"is a descriptor, but the expression must have five fields");
		if (count == 0 && (slice_starts_with(word, "TZ=") || slice_starts_with(word, "CRON_TZ=")))
			return fail(error, NULL, word, "is a time zone, which the expression must not contain");
		if (count < FIELD_COUNT)
			fields[count] = word;
		count++;
	}
	if (count != FIELD_COUNT)
	{
		(void) snprintf(error->text, error->size, "%d fields are needed (%s), but there are %zu",
						FIELD_COUNT, "minute, hour, day of month, month, weekday", count);
		return false;
	}
	return true;
}

/*
 * Parse a cron expression, which may be any text. If it is invalid, returns false with a message
 * in error that names the field and the offending text; the range is undefined then. The message
 * takes at most error_size bytes, and CRON_RANGE_ERROR_SIZE holds any. Takes time linear in the
 * length of the text.
 */
bool
cron_range_parse(const char *text, CronRange *range, char *error, size_t error_size)
{
	static const FieldRule minute_rule = { "minute", 0, 59, NULL };
	ParseError failure = { error, error_size };
	Slice fields[FIELD_COUNT];
	FieldValue hours, days, months, weekdays;

	if (!split_fields(text, fields, &failure))
		return false;
	if (!slice_equals(fields[0], "*"))
		return fail(&failure, &minute_rule, fields[0], "must be \"*\"");
	if (!parse_field(fields[1], &hour_rule, &hours, &failure) ||
		!parse_field(fields[2], &day_rule, &days, &failure) ||
		!parse_field(fields[3], &month_rule, &months, &failure) ||
		!parse_field(fields[4], &weekday_rule, &weekdays, &failure))
		return false;

	range->hours = hours.bits;
	range->days = days.bits;
	range->months = months.bits;
	range->weekdays = weekdays.bits;
	range->any_day = days.any;
	range->any_weekday = weekdays.any;
	return true;
}

/*
 * Return the days of month that match if they fall on a weekday. Both fields must match, but one
 * is enough if both are restricted.
 */
static uint32_t
days_on_weekday(const CronRange *range, int weekday)
{
	bool on_weekday = (range->weekdays >> weekday & 1) != 0;

	if (range->any_day || range->any_weekday)
		return on_weekday ? range->days : 0;
	return on_weekday ? ~UINT32_C(0) : range->days;
}

/* Can any hour of the local time's day match? Ignores the hour itself. */
bool
cron_range_matches_day(const CronRange *range, const CronLocalTime *local)
{
	return (range->months >> local->month & 1) != 0 &&
		   (days_on_weekday(range, local->weekday) >> local->day & 1) != 0;
}

/* Is a local time within the range? The members of local must be within their bounds. */
bool
cron_range_matches(const CronRange *range, const CronLocalTime *local)
{
	return (range->hours >> local->hour & 1) != 0 && cron_range_matches_day(range, local);
}

/*
 * Can some minute match both ranges? Over the years every date, 29 February included, falls on
 * every weekday. So it is enough to find a day of month that exists in a shared month, and a
 * weekday on which that day matches both.
 */
bool
cron_ranges_overlap(const CronRange *a, const CronRange *b)
{
	static const int month_lengths[] = { 0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	uint32_t months = a->months & b->months;
	int longest = 0;
	uint32_t existing;

	if ((a->hours & b->hours) == 0)
		return false;
	for (int month = 1; month <= 12; month++)
		if ((months >> month & 1) != 0 && month_lengths[month] > longest)
			longest = month_lengths[month];
	/* bits 1 to longest: a day that exists in any shared month exists in the longest */
	existing = (uint32_t) ((UINT64_C(1) << (longest + 1)) - 2);

	for (int weekday = 0; weekday <= 6; weekday++)
		if ((days_on_weekday(a, weekday) & days_on_weekday(b, weekday) & existing) != 0)
			return true;
	return false;
}
