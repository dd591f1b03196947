/*
 * amount.c
 *	  The text of an amount: "N", or "P%" of something.
 *
 *	  Pure: no server, no clock, no allocation.
 */
#include <stddef.h>

#include "decision/amount.h"

/*
 * Parse an amount: decimal digits, then nothing or one percent sign. There are no signs, spaces,
 * fractions or leading zeros. N is at most AMOUNT_MOST, P at most AMOUNT_MOST_PERCENT. Returns
 * false, and leaves the amount as it is, for any other text. text may be NULL.
 */
bool
amount_parse(const char *text, Amount *amount)
{
	const char *at = text;
	int64_t value = 0;
	bool percent;

	if (text == NULL || *text < '0' || *text > '9' ||
		(text[0] == '0' && text[1] >= '0' && text[1] <= '9'))
		return false;
	for (; *at >= '0' && *at <= '9'; at++)
	{
		value = value * 10 + (*at - '0');
		if (value > AMOUNT_MOST)
			return false;
	}
	percent = *at == '%';
	if (at[percent] != '\0' || (percent && value > AMOUNT_MOST_PERCENT))
		return false;
	*amount = (Amount){ (int32_t) value, percent };
	return true;
}

/* The number that an amount stands for: itself, or its share of a whole, rounded down. */
int32_t
amount_of(Amount amount, int64_t whole)
{
	int64_t share;

	if (!amount.percent)
		return amount.value;
	if (whole > INT64_MAX / AMOUNT_MOST_PERCENT)
		return INT32_MAX;
	share = whole * amount.value / 100;
	return share > INT32_MAX ? INT32_MAX : (int32_t) share;
}
