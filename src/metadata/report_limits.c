/*
 * report_limits.c
 *	  The limits of an agent's report.
 */
#include "metadata/report_limits.h"

#include <stdint.h>
#include <stdio.h>

/* Is this ASCII character white space? */
static inline bool
is_ascii_space(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Is this a visible ASCII character? */
static inline bool
is_ascii_visible(char c)
{
	return c > ' ' && c < 0x7F;
}

/* Does the code point have Unicode's White_Space property? */
static bool
is_unicode_space(uint32_t c)
{
	return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
		   c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/*
 * Return the length, in bytes, of the white space character at the start of data, or 0. Each of
 * Unicode's white space characters beyond ASCII has two or three bytes.
 */
static size_t
space_length(const char *data, size_t length, bool utf8)
{
	const unsigned char *c = (const unsigned char *) data;

	if (length == 0)
		return 0;
	if (c[0] < 0x80)
		return is_ascii_space(c[0]) ? 1 : 0;
	if (!utf8)
		return 0;
	if (length >= 2 && (c[0] & 0xE0) == 0xC0)
		return is_unicode_space((uint32_t) (c[0] & 0x1F) << 6 | (c[1] & 0x3F)) ? 2 : 0;
	if (length >= 3 && (c[0] & 0xF0) == 0xE0)
		return is_unicode_space((uint32_t) (c[0] & 0x0F) << 12 | (uint32_t) (c[1] & 0x3F) << 6 |
								(c[2] & 0x3F))
				   ? 3
				   : 0;
	return 0;
}

/* Return the length, in bytes, of the white space character at the end of the text, or 0. */
static size_t
space_length_at_end(ReportText text, bool utf8)
{
	size_t back = 1;

	if (text.length == 0)
		return 0;
	if (utf8)
		while (back < 3 && back < text.length &&
			   ((unsigned char) text.data[text.length - back] & 0xC0) == 0x80)
			back++;
	return space_length(text.data + text.length - back, back, utf8) == back ? back : 0;
}

/* Is this a continuation byte of UTF-8? */
static inline bool
is_continuation(char c)
{
	return ((unsigned char) c & 0xC0) == 0x80;
}

/*
 * Return the length of the longest prefix within limit bytes that does not end inside a character
 * of UTF-8. If the bytes there are not valid UTF-8, returns the limit.
 */
size_t
report_clip_utf8(const char *data, size_t length, size_t limit)
{
	size_t back = 0;
	unsigned char first;
	size_t whole;

	if (length <= limit)
		return length;
	while (back < 3 && back < limit && is_continuation(data[limit - back]))
		back++;
	first = (unsigned char) data[limit - back];
	whole = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
	return whole > back ? limit - back : limit;
}

/* Trim white space from both ends of a text. */
ReportText
report_trim(ReportText text, bool utf8)
{
	size_t space;

	/* nearly every text begins and ends with a visible ASCII character */
	if (text.length > 0 && is_ascii_visible(text.data[0]) &&
		is_ascii_visible(text.data[text.length - 1]))
		return text;
	while ((space = space_length(text.data, text.length, utf8)) > 0)
	{
		text.data += space;
		text.length -= space;
	}
	while ((space = space_length_at_end(text, utf8)) > 0)
		text.length -= space;
	return text;
}

/*
 * Return how many of the n entries to take: keys in order, as long as the sum of their lengths is
 * within the limit. *exceeding receives the sum including the first key that is not taken, or 0.
 */
size_t
report_keys_within_limit(const ReportEntry *entries, size_t n, size_t *exceeding)
{
	size_t sum = 0;

	*exceeding = 0;
	for (size_t i = 0; i < n; i++)
	{
		sum += entries[i].key.length;
		if (sum > REPORT_KEYS_BYTES)
		{
			*exceeding = sum;
			return i;
		}
	}
	return n;
}

/* Set the entry's error to say that a part of it has length bytes, which is more than limit. */
static void
complain(ReportEntry *entry, const char *what, size_t length, int limit)
{
	int written = snprintf(entry->message, sizeof(entry->message),
						   "%s of %zu bytes exceeded %d bytes", what, length, limit);

	entry->error.data = entry->message;
	entry->error.length = (size_t) written;
}

/* Set the entry's error to say that a part of it is not valid text. */
static void
complain_of_bytes(ReportEntry *entry, const char *what, const ReportFault *fault)
{
	int written = snprintf(entry->message, sizeof(entry->message),
						   "%s of %zu bytes is not %s text from byte %zu on", what, fault->length,
						   fault->encoding, fault->position);

	entry->error.data = entry->message;
	entry->error.length = (size_t) written;
}

/*
 * Trim value and error. Cut a value that is too long, and empty one that is not valid text; the
 * entry's error then says so. Replace an error that is too long or not valid text by one that says
 * that, even if the value has a fault, too.
 */
void
report_apply_limits(ReportEntry *entry, const ReportEncoding *encoding)
{
	size_t error_length;

	if (entry->value_fault.encoding == NULL)
		entry->value = report_trim(entry->value, encoding->utf8);
	if (entry->error_fault.encoding == NULL)
		entry->error = report_trim(entry->error, encoding->utf8);
	error_length = entry->error.length;

	if (entry->value_fault.encoding != NULL)
	{
		entry->value = (ReportText){ "", 0 };
		complain_of_bytes(entry, "value", &entry->value_fault);
	}
	else if (entry->value.length > REPORT_VALUE_BYTES)
	{
		complain(entry, "value", entry->value.length, REPORT_VALUE_BYTES);
		entry->value.length =
			encoding->clip(entry->value.data, entry->value.length, REPORT_VALUE_BYTES);
	}
	if (entry->error_fault.encoding != NULL)
		complain_of_bytes(entry, "error", &entry->error_fault);
	else if (error_length > REPORT_ERROR_BYTES)
		complain(entry, "error", error_length, REPORT_ERROR_BYTES);
}
