/*
 * tag_expression.c
 *	  Parses the HCL source of a workspace tag's value: a quoted string without interpolation, a
 *	  reference to a parameter's value, or a reference to a variable. Everything else, whether it is
 *	  wrong or needs an evaluator, is TAG_OTHER.
 *
 *	  Pure: compiles without the server.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "decision/tag_expression.h"

typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

/* Is there another character, and is it this one? */
static bool
next_is(const Cursor *cursor, char c)
{
	return cursor->at < cursor->end && *cursor->at == c;
}

/* Skip what HCL allows between the tokens of an expression; line ends are \n or \r\n. */
static void
skip_space(Cursor *cursor)
{
	while (cursor->at < cursor->end)
	{
		if (*cursor->at == '\r' && cursor->end - cursor->at > 1 && cursor->at[1] == '\n')
			cursor->at += 2;
		else if (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\n')
			cursor->at++;
		else
			return;
	}
}

/* Skip this character with the space before and after it. */
static bool
accept_char(Cursor *cursor, char c)
{
	skip_space(cursor);
	if (!next_is(cursor, c))
		return false;
	cursor->at++;
	skip_space(cursor);
	return true;
}

/*
 * May this byte be in an identifier? Accepts every byte outside ASCII, letter or not, because
 * Terraform has read the template before. A lookup of the name finds an unknown one.
 */
static bool
is_identifier_byte(unsigned char c, bool first)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80)
		return true;
	return !first && ((c >= '0' && c <= '9') || c == '-');
}

/* Read an identifier. Returns its length, or 0 if there is none. */
static size_t
read_identifier(Cursor *cursor, const char **start)
{
	*start = cursor->at;
	while (cursor->at < cursor->end &&
		   is_identifier_byte((unsigned char) *cursor->at, cursor->at == *start))
		cursor->at++;
	return (size_t) (cursor->at - *start);
}

/* Skip exactly this identifier. */
static bool
accept_word(Cursor *cursor, const char *word)
{
	const char *start;
	size_t length = read_identifier(cursor, &start);

	return length == strlen(word) && memcmp(start, word, length) == 0;
}

/* Append a code point in UTF-8. Returns false for NUL and for anything that is not a character. */
static bool
append_code_point(uint32_t code, char **out)
{
	unsigned char *p = (unsigned char *) *out;

	if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
		return false;
	if (code < 0x80)
		*p++ = (unsigned char) code;
	else if (code < 0x800)
	{
		*p++ = (unsigned char) (0xC0 | (code >> 6));
		*p++ = (unsigned char) (0x80 | (code & 0x3F));
	}
	else if (code < 0x10000)
	{
		*p++ = (unsigned char) (0xE0 | (code >> 12));
		*p++ = (unsigned char) (0x80 | ((code >> 6) & 0x3F));
		*p++ = (unsigned char) (0x80 | (code & 0x3F));
	}
	else
	{
		*p++ = (unsigned char) (0xF0 | (code >> 18));
		*p++ = (unsigned char) (0x80 | ((code >> 12) & 0x3F));
		*p++ = (unsigned char) (0x80 | ((code >> 6) & 0x3F));
		*p++ = (unsigned char) (0x80 | (code & 0x3F));
	}
	*out = (char *) p;
	return true;
}

/* Read exactly this many hexadecimal digits. */
static bool
read_hex(Cursor *cursor, int digits, uint32_t *code)
{
	*code = 0;
	for (int i = 0; i < digits; i++)
	{
		char c = cursor->at < cursor->end ? *cursor->at : '\0';

		if (c >= '0' && c <= '9')
			*code = *code << 4 | (uint32_t) (c - '0');
		else if (c >= 'a' && c <= 'f')
			*code = *code << 4 | (uint32_t) (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			*code = *code << 4 | (uint32_t) (c - 'A' + 10);
		else
			return false;
		cursor->at++;
	}
	return true;
}

/* Decode the escape sequence after a backslash. */
static bool
read_escape(Cursor *cursor, char **out)
{
	uint32_t code;
	char selector = cursor->at < cursor->end ? *cursor->at++ : '\0';

	switch (selector)
	{
		case 'n':
			*(*out)++ = '\n';
			return true;
		case 'r':
			*(*out)++ = '\r';
			return true;
		case 't':
			*(*out)++ = '\t';
			return true;
		case '"':
		case '\\':
			*(*out)++ = selector;
			return true;
		case 'u':
			return read_hex(cursor, 4, &code) && append_code_point(code, out);
		case 'U':
			return read_hex(cursor, 8, &code) && append_code_point(code, out);
		default:
			return false;
	}
}

/*
 * Decode a run of the template marks $ or %. It is literal text unless a brace follows. Before a
 * brace, one mark opens an interpolation, and two stand for one mark and the brace. Of longer runs
 * before a brace the language does not say which two belong together, so reject them.
 */
static bool
read_marks(Cursor *cursor, char **out)
{
	char mark = *cursor->at;
	size_t count = 0;

	while (next_is(cursor, mark))
	{
		cursor->at++;
		count++;
	}
	if (next_is(cursor, '{'))
	{
		if (count != 2)
			return false;
		count = 1;
	}
	memset(*out, mark, count);
	*out += count;
	return true;
}

/* Read a quoted string without interpolation, from its opening quote. */
static bool
read_string(Cursor *cursor, char *out)
{
	if (!next_is(cursor, '"'))
		return false;
	cursor->at++;
	while (cursor->at < cursor->end)
	{
		char c = *cursor->at;

		if (c == '"')
		{
			cursor->at++;
			*out = '\0';
			return true;
		}
		if (c == '\n' || c == '\r' || c == '\0')
			return false;
		if (c == '\\')
		{
			cursor->at++;
			if (!read_escape(cursor, &out))
				return false;
		}
		else if (c == '$' || c == '%')
		{
			if (!read_marks(cursor, &out))
				return false;
		}
		else
		{
			*out++ = c;
			cursor->at++;
		}
	}
	return false;
}

/* Read .name; value receives the name. */
static bool
read_attribute(Cursor *cursor, char *value)
{
	const char *start;
	size_t length;

	if (!accept_char(cursor, '.'))
		return false;
	length = read_identifier(cursor, &start);
	memcpy(value, start, length);
	value[length] = '\0';
	return length > 0;
}

/* Read ["name"]; value receives the name. */
static bool
read_index(Cursor *cursor, char *value)
{
	return accept_char(cursor, '[') && read_string(cursor, value) && accept_char(cursor, ']');
}

/* Read what follows the word data in data.coder_parameter.<name>.value. */
static bool
read_parameter(Cursor *cursor, char *value)
{
	if (!accept_char(cursor, '.') || !accept_word(cursor, "coder_parameter"))
		return false;
	skip_space(cursor);
	if (next_is(cursor, '[') ? !read_index(cursor, value) : !read_attribute(cursor, value))
		return false;
	return accept_char(cursor, '.') && accept_word(cursor, "value");
}

/*
 * Parse the source of a tag's value: length bytes, which need not end in NUL. value has room for
 * length + 1 bytes, and receives a NUL-terminated string in UTF-8, empty for TAG_OTHER.
 */
TagExpressionKind
tag_expression_parse(const char *source, size_t length, char *value)
{
	Cursor cursor = { source, source + length };
	TagExpressionKind kind = TAG_OTHER;
	const char *word;
	size_t word_length;

	skip_space(&cursor);
	word_length = read_identifier(&cursor, &word);
	if (word_length == 0 && read_string(&cursor, value))
		kind = TAG_LITERAL;
	else if (word_length == 4 && memcmp(word, "data", 4) == 0 && read_parameter(&cursor, value))
		kind = TAG_PARAMETER;
	else if (word_length == 3 && memcmp(word, "var", 3) == 0 && read_attribute(&cursor, value))
		kind = TAG_VARIABLE;

	skip_space(&cursor);
	if (cursor.at < cursor.end)
		kind = TAG_OTHER;
	if (kind == TAG_OTHER)
		*value = '\0';
	return kind;
}
