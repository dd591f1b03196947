/*
 * agent_ids.h
 *	  Agent ids as text of the batch channel: the 16 bytes of each id in standard base64 without
 *	  padding, concatenated without separators. Pure: no server, no allocation.
 */
#ifndef PREBUILD_AGENT_IDS_H
#define PREBUILD_AGENT_IDS_H

#include <stddef.h>
#include <stdint.h>

#define AGENT_ID_BYTES 16
#define AGENT_ID_CHARS 22
/* How many ids fit into a message of so many bytes: 363 into 7,999. */
#define AGENT_IDS_IN(bytes) ((bytes) / AGENT_ID_CHARS)

/* The faults that agent_ids_decode() finds. */
typedef enum AgentIdsFault
{
	AGENT_IDS_FINE,
	AGENT_IDS_BAD_LENGTH,	 /* not a multiple of 22 characters */
	AGENT_IDS_BAD_CHARACTER, /* not in the alphabet, or with bits beyond the 16th byte */
} AgentIdsFault;

extern void agent_ids_encode(const uint8_t *ids, size_t nids, char *text);
extern AgentIdsFault agent_ids_decode(const char *text, size_t length, uint8_t *ids,
									  size_t *position);

#endif /* PREBUILD_AGENT_IDS_H */
