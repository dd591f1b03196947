/*
 * agent_ids.h
 *	  Agent ids as the fan-out channel carries them: each id's 16 bytes in standard base64
 *	  without padding, concatenated without separators. Pure: no server, no allocation.
 */
#ifndef PREBUILD_AGENT_IDS_H
#define PREBUILD_AGENT_IDS_H

#include <stddef.h>
#include <stdint.h>

#define AGENT_ID_BYTES 16
#define AGENT_ID_CHARS 22
/* How many ids a message of at most so many bytes carries: 363 where it may have 7,999. */
#define AGENT_IDS_IN(bytes) ((bytes) / AGENT_ID_CHARS)

/* What agent_ids_decode() found wrong. */
typedef enum AgentIdsFault
{
	AGENT_IDS_FINE,
	AGENT_IDS_BAD_LENGTH,	 /* not a multiple of 22 characters */
	AGENT_IDS_BAD_CHARACTER, /* outside of the alphabet, or bits beyond the 16th byte */
} AgentIdsFault;

extern void agent_ids_encode(const uint8_t *ids, size_t nids, char *text);
extern AgentIdsFault agent_ids_decode(const char *text, size_t length, uint8_t *ids,
									  size_t *position);

#endif /* PREBUILD_AGENT_IDS_H */
