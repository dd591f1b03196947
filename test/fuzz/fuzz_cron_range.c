/*
 * fuzz_cron_range.c
 *	  Any bytes as two cron expressions (the first NUL separates them): parsing must be safe, an
 *	  error must have a message, a range must hold possible values only, and overlap must be
 *	  symmetric and true of a range that can match with itself.
 */
#include <stdlib.h>
#include <string.h>

#include "cron/cron_range.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static bool
parse(const char *text, CronRange *range)
{
	char error[CRON_RANGE_ERROR_SIZE] = "";
	char tiny[4];

	if (!cron_range_parse(text, range, error, sizeof(error)))
	{
		require(error[0] != '\0' && strlen(error) < sizeof(error) - 1);
		require(!cron_range_parse(text, range, tiny, sizeof(tiny)) && strlen(tiny) < sizeof(tiny));
		return false;
	}
	require(error[0] == '\0');
	require(range->hours != 0 && (range->hours >> 24) == 0);
	require(range->days != 0 && (range->days & 1) == 0);
	require(range->months != 0 && (range->months & 1) == 0 && (range->months >> 13) == 0);
	require(range->weekdays != 0 && (range->weekdays >> 7) == 0);
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 2);
	CronRange a, b;
	CronLocalTime local = { 2024, 2, 29, 12, 0, 0, 4 };

	if (size > 0)
		memcpy(text, data, size);
	text[size] = text[size + 1] = '\0';
	if (parse(text, &a))
	{
		if (cron_range_matches(&a, &local))
			require(cron_ranges_overlap(&a, &a));
		if (parse(text + strlen(text) + 1, &b))
			require(cron_ranges_overlap(&a, &b) == cron_ranges_overlap(&b, &a));
	}
	free(text);
	return 0;
}
