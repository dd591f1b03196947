/*
 * fuzz_agent_ids.c
 *	  Any bytes as ids and as the text of ids: what is encoded decodes to the same, and what decodes
 *	  encodes to the same, because each id has one text; a fault has a place within the text.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "metadata/agent_ids.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t nids = size / AGENT_ID_BYTES;
	size_t ntexts = size / AGENT_ID_CHARS;
	char *text = malloc(nids * AGENT_ID_CHARS + 1);
	uint8_t *ids = malloc((nids + ntexts + 1) * AGENT_ID_BYTES);
	char *again = malloc(ntexts * AGENT_ID_CHARS + 1);
	size_t position = SIZE_MAX;
	AgentIdsFault fault;

	agent_ids_encode(data, nids, text);
	require(agent_ids_decode(text, nids * AGENT_ID_CHARS, ids, &position) == AGENT_IDS_FINE);
	require(nids == 0 || memcmp(ids, data, nids * AGENT_ID_BYTES) == 0);

	fault = agent_ids_decode((const char *) data, size, ids, &position);
	require(position <= size);
	if (fault == AGENT_IDS_FINE)
		require(size % AGENT_ID_CHARS == 0 && position == size);
	else if (fault == AGENT_IDS_BAD_LENGTH)
		require(size % AGENT_ID_CHARS != 0 && position == ntexts * AGENT_ID_CHARS);
	else
		require(position < ntexts * AGENT_ID_CHARS);
	/* those before the fault */
	agent_ids_encode(ids, position / AGENT_ID_CHARS, again);
	require(position < AGENT_ID_CHARS ||
			memcmp(again, data, position / AGENT_ID_CHARS * AGENT_ID_CHARS) == 0);
	free(text);
	free(ids);
	free(again);
	return 0;
}
