/*
 * report_limits.h
 *	  The limits of an agent's report: trimming, truncation, the sum of the keys. Pure: no server,
 *	  no allocation. Texts are pointers into the caller's memory.
 */
#ifndef PREBUILD_REPORT_LIMITS_H
#define PREBUILD_REPORT_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#define REPORT_VALUE_BYTES 2048
#define REPORT_ERROR_BYTES 2048
#define REPORT_KEYS_BYTES 6144
#define REPORT_KEY_CHARS 127
#define REPORT_MESSAGE_SIZE 112

/* A text without a terminator. */
typedef struct ReportText
{
	const char *data;
	size_t length; /* bytes */
} ReportText;

/* Why bytes of a report are not text. */
typedef struct ReportFault
{
	const char *encoding; /* in which they are not valid; NULL = no fault */
	size_t length;		  /* of all bytes */
	size_t position;	  /* of the first invalid byte, counted from 1 */
} ReportFault;

/*
 * One key of a report. If a fault is set, its text is not valid. After report_apply_limits(), error
 * may point into message.
 */
typedef struct ReportEntry
{
	ReportText key;
	ReportText value;
	ReportText error;
	ReportFault key_fault;
	ReportFault value_fault;
	ReportFault error_fault;
	char message[REPORT_MESSAGE_SIZE];
} ReportEntry;

/* What the limits need to know about the encoding of the texts. */
typedef struct ReportEncoding
{
	bool utf8; /* trim white space beyond ASCII, which is known in UTF-8 only */
	/* Return the length of the longest prefix of whole characters within limit bytes. */
	size_t (*clip)(const char *data, size_t length, size_t limit);
} ReportEncoding;

extern size_t report_clip_utf8(const char *data, size_t length, size_t limit);
extern ReportText report_trim(ReportText text, bool utf8);
extern size_t report_keys_within_limit(const ReportEntry *entries, size_t n, size_t *exceeding);
extern void report_apply_limits(ReportEntry *entry, const ReportEncoding *encoding);

#endif /* PREBUILD_REPORT_LIMITS_H */
