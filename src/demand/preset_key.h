/*
 * preset_key.h
 *	  The key of hash tables of presets: a template and a name, which need not end with a zero.
 */
#ifndef PREBUILD_PRESET_KEY_H
#define PREBUILD_PRESET_KEY_H

#include "postgres.h"

#include "common/hashfn.h"

#include "base/ids.h"

typedef struct PresetKey
{
	Id template_id;
	uint32 length;
	const char *name; /* as long as that */
} PresetKey;

static inline uint32
preset_key_hash(const PresetKey *key)
{
	return hash_combine(hash_bytes(key->template_id.bytes, sizeof(Id)),
						hash_bytes((const unsigned char *) key->name, (int) key->length));
}

static inline bool
preset_keys_equal(const PresetKey *a, const PresetKey *b)
{
	return a->length == b->length && id_compare(&a->template_id, &b->template_id) == 0 &&
		   memcmp(a->name, b->name, a->length) == 0;
}

#endif /* PREBUILD_PRESET_KEY_H */
