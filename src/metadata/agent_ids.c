/*
 * agent_ids.c
 *	  Encode agent ids as the text of the batch channel, and decode them.
 */
#include "metadata/agent_ids.h"

static const char alphabet[64] = { 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M',
								   'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z',
								   'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm',
								   'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
								   '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/' };

#define NOT_A_DIGIT 0xFF

/* Write three bytes as four characters. */
static inline void
encode_triple(const uint8_t *bytes, char *text)
{
	uint32_t bits = (uint32_t) bytes[0] << 16 | (uint32_t) bytes[1] << 8 | bytes[2];

	text[0] = alphabet[bits >> 18];
	text[1] = alphabet[bits >> 12 & 63];
	text[2] = alphabet[bits >> 6 & 63];
	text[3] = alphabet[bits & 63];
}

/*
 * Encode nids ids of 16 bytes each. text must have room for nids * 22 characters; it gets no
 * terminator.
 */
void
agent_ids_encode(const uint8_t *ids, size_t nids, char *text)
{
	for (size_t i = 0; i < nids; i++)
	{
		for (int triple = 0; triple < 5; triple++)
			encode_triple(ids + triple * 3, text + triple * 4);
		text[20] = alphabet[ids[15] >> 2];
		text[21] = alphabet[(ids[15] & 3) << 4];
		ids += AGENT_ID_BYTES;
		text += AGENT_ID_CHARS;
	}
}

/* Return the value of a base64 digit, or NOT_A_DIGIT. */
static inline uint8_t
digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint8_t) (c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint8_t) (c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (uint8_t) (c - '0' + 52);
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return NOT_A_DIGIT;
}

/* Decode one id. Returns the offset of the first bad character, or -1. */
static int
decode_id(const char *text, uint8_t *id)
{
	uint32_t bits = 0;
	int pending = 0;

	for (int i = 0; i < AGENT_ID_CHARS; i++)
	{
		uint8_t value = digit_value(text[i]);

		/* the last digit holds two bits; the others must be 0, so that each id has one text */
		if (value == NOT_A_DIGIT || (i == AGENT_ID_CHARS - 1 && (value & 15) != 0))
			return i;
		bits = (bits << 6 | value) & 0xFFFF;
		pending += 6;
		if (pending >= 8)
		{
			pending -= 8;
			*id++ = (uint8_t) (bits >> pending);
		}
	}
	return -1;
}

/*
 * Decode length characters into length / 22 ids. On a fault, *position receives the offset of the
 * bad character, or for a bad length where the incomplete id begins, and ids holds the ids before
 * it.
 */
AgentIdsFault
agent_ids_decode(const char *text, size_t length, uint8_t *ids, size_t *position)
{
	size_t whole = length - length % AGENT_ID_CHARS;

	for (size_t offset = 0; offset < whole; offset += AGENT_ID_CHARS)
	{
		int bad = decode_id(text + offset, ids);

		if (bad >= 0)
		{
			*position = offset + (size_t) bad;
			return AGENT_IDS_BAD_CHARACTER;
		}
		ids += AGENT_ID_BYTES;
	}
	*position = whole;
	return whole == length ? AGENT_IDS_FINE : AGENT_IDS_BAD_LENGTH;
}
