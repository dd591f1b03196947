/* Agent ids to and from the text of the fan-out channel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metadata/agent_ids.h"

/* A message carries as many whole ids as fit into it, whatever it may take. */
static void
counts_ids_of_a_message(void **state)
{
	/* the server's limit is its block size less 193 */
	static const struct
	{
		int bytes;
		int ids;
	} cases[] = { { 831, 37 },	 { 1855, 84 },	 { 3903, 177 },
				  { 7999, 363 }, { 16191, 735 }, { 32575, 1480 } };

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(AGENT_IDS_IN(cases[i].bytes), cases[i].ids);
	for (int bytes = 0; bytes < 40000; bytes++)
	{
		assert_true(AGENT_IDS_IN(bytes) * AGENT_ID_CHARS <= bytes);
		assert_true((AGENT_IDS_IN(bytes) + 1) * AGENT_ID_CHARS > bytes);
	}
}

/* Texts that base64(1) gives, without the padding. */
static void
encodes_known_ids(void **state)
{
	static const struct
	{
		uint8_t id[16];
		const char *text;
	} cases[] = {
		{ { 0 }, "AAAAAAAAAAAAAAAAAAAAAA" },
		{ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff },
		  "/////////////////////w" },
		{ { 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d,
			0x0e, 0x0f },
		  "AAECAwQFBgcICQoLDA0ODw" },
		{ { 0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef,
			0xbe, 0xfb },
		  "++++++++++++++++++++"
		  "+w" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char text[AGENT_ID_CHARS];
		uint8_t id[AGENT_ID_BYTES];
		size_t position;

		agent_ids_encode(cases[i].id, 1, text);
		assert_memory_equal(text, cases[i].text, AGENT_ID_CHARS);
		assert_int_equal(agent_ids_decode(text, AGENT_ID_CHARS, id, &position), AGENT_IDS_FINE);
		assert_memory_equal(id, cases[i].id, AGENT_ID_BYTES);
	}
}

/* What was encoded is decoded, whatever the bytes. */
static void
decodes_what_it_encodes(void **state)
{
	enum
	{
		N = 600
	};
	uint8_t *ids = malloc(N * AGENT_ID_BYTES);
	uint8_t *decoded = malloc(N * AGENT_ID_BYTES);
	char *text = malloc(N * AGENT_ID_CHARS);
	size_t position;

	(void) state;
	srand(1);
	for (int i = 0; i < N * AGENT_ID_BYTES; i++)
		ids[i] = (uint8_t) (rand() >> 7);
	agent_ids_encode(ids, N, text);
	assert_int_equal(agent_ids_decode(text, N * AGENT_ID_CHARS, decoded, &position),
					 AGENT_IDS_FINE);
	assert_memory_equal(ids, decoded, N * AGENT_ID_BYTES);
	free(ids);
	free(decoded);
	free(text);
}

/* A text that is too short or too long says where the incomplete id begins. */
static void
finds_bad_lengths(void **state)
{
	uint8_t ids[2 * AGENT_ID_BYTES];
	size_t position = 99;

	(void) state;
	assert_int_equal(agent_ids_decode("", 0, ids, &position), AGENT_IDS_FINE);
	assert_int_equal(agent_ids_decode("A", 1, ids, &position), AGENT_IDS_BAD_LENGTH);
	assert_int_equal(position, 0);
	assert_int_equal(agent_ids_decode("AAAAAAAAAAAAAAAAAAAAA", 21, ids, &position),
					 AGENT_IDS_BAD_LENGTH);
	assert_int_equal(position, 0);
	assert_int_equal(agent_ids_decode("AAAAAAAAAAAAAAAAAAAAAAA", 23, ids, &position),
					 AGENT_IDS_BAD_LENGTH);
	assert_int_equal(position, 22);
}

/* Each byte that is no digit is found at each place. */
static void
finds_bad_characters(void **state)
{
	uint8_t ids[2 * AGENT_ID_BYTES];

	(void) state;
	for (int c = 0; c < 256; c++)
	{
		int digit = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
					c == '+' || c == '/';

		for (size_t place = 0; place < 2 * AGENT_ID_CHARS; place++)
		{
			char text[2 * AGENT_ID_CHARS];
			size_t position;
			AgentIdsFault fault;

			if (place % AGENT_ID_CHARS == AGENT_ID_CHARS - 1 && digit)
				continue;
			memset(text, 'A', sizeof(text));
			text[place] = (char) c;
			fault = agent_ids_decode(text, sizeof(text), ids, &position);
			assert_int_equal(fault, digit ? AGENT_IDS_FINE : AGENT_IDS_BAD_CHARACTER);
			if (!digit)
				assert_int_equal(position, place);
		}
	}
}

/* The last digit has four bits too many, which must be zero. */
static void
finds_bits_beyond_the_id(void **state)
{
	char text[AGENT_ID_CHARS];
	uint8_t id[AGENT_ID_BYTES];
	size_t position;

	(void) state;
	memset(text, 'A', sizeof(text));
	for (const char *last = "AQgw"; *last; last++)
	{
		text[AGENT_ID_CHARS - 1] = *last;
		assert_int_equal(agent_ids_decode(text, sizeof(text), id, &position), AGENT_IDS_FINE);
	}
	text[AGENT_ID_CHARS - 1] = 'B';
	assert_int_equal(agent_ids_decode(text, sizeof(text), id, &position), AGENT_IDS_BAD_CHARACTER);
	assert_int_equal(position, AGENT_ID_CHARS - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_ids_of_a_message), cmocka_unit_test(encodes_known_ids),
		cmocka_unit_test(decodes_what_it_encodes), cmocka_unit_test(finds_bad_lengths),
		cmocka_unit_test(finds_bad_characters),	   cmocka_unit_test(finds_bits_beyond_the_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
