/*
 * database_text.c
 *	  Text in the database's encoding: cut it between characters, and convert bytes into it.
 *
 * A database with encoding SQL_ASCII accepts any bytes except NUL as text. But agents send UTF-8,
 * and a client with that encoding cannot read a result with invalid UTF-8. Therefore, even in
 * such a database, text is cut between characters of UTF-8, and bytes must be valid UTF-8.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "metadata/database_text.h"

/* Return the length, in bytes, of the longest prefix of whole characters within limit bytes. */
size_t
database_text_clip(const char *data, size_t length, size_t limit)
{
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return report_clip_utf8(data, length, limit);
	return (size_t) pg_mbcliplen(data, (int) length, (int) limit);
}

/* Convert valid UTF-8 into another encoding, with the results of database_text_from_utf8(). */
static bool
convert(ReportText utf8, int encoding, ReportText *string, ReportFault *fault)
{
	Oid conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	Size size = utf8.length * MAX_CONVERSION_GROWTH + 1;
	char *converted;
	int length;

	if (!OidIsValid(conversion))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("default conversion from UTF8 to %s does not exist",
							   pg_encoding_to_char(encoding))));
	if (size > MaxAllocSize)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("text of %zu bytes is too long to convert", utf8.length)));
	converted = palloc(size);
	length = pg_do_encoding_conversion_buf(
		conversion, PG_UTF8, encoding, (unsigned char *) unconstify(char *, utf8.data),
		(int) utf8.length, (unsigned char *) converted, (int) size, true);
	if ((size_t) length < utf8.length)
	{
		*fault = (ReportFault){ pg_encoding_to_char(encoding), utf8.length, (size_t) length + 1 };
		return false;
	}
	*string = (ReportText){ converted, strlen(converted) };
	return true;
}

/*
 * Convert bytes in UTF-8 into text of the database's encoding. Returns whether that succeeds. If
 * so, *string receives the text, which is palloc'd or the bytes themselves. Otherwise *fault
 * receives the reason, and *string stays unchanged. Raises undefined_function if the database's
 * encoding has no conversion, and program_limit_exceeded for more than 256 MB that need a
 * conversion.
 */
bool
database_text_from_utf8(ReportText bytes, ReportText *string, ReportFault *fault)
{
	int encoding = GetDatabaseEncoding();
	size_t valid = (size_t) pg_encoding_verifymbstr(PG_UTF8, bytes.data, (int) bytes.length);
	bool ascii = true;

	if (valid < bytes.length)
	{
		*fault = (ReportFault){ pg_encoding_to_char(PG_UTF8), bytes.length, valid + 1 };
		return false;
	}
	for (size_t i = 0; i < bytes.length && ascii; i++)
		ascii = !IS_HIGHBIT_SET(bytes.data[i]);
	if (!ascii && encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
		return convert(bytes, encoding, string, fault);
	*string = bytes;
	return true;
}
