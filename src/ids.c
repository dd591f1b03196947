/*
 * ids.c
 *	  New ids (libuuid's random ones) and names of prebuilds.
 */
#include "compat.h"

#include <uuid/uuid.h>

#include "lib/stringinfo.h"

#include "ids.h"

#define NAME_PREFIX "prebuild-"
#define NAME_RANDOM_BYTES 9

/* A new random id, palloc'd. */
Id *
id_new(void)
{
	Id *id = palloc_object(Id);
	uuid_t generated;

	uuid_generate_random(generated);
	memcpy(id->bytes, generated, sizeof(id->bytes));
	return id;
}

/* Order of ids, that of the server's uuid type; for qsort and bsearch. */
int
id_compare(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(Id));
}

/* A new name, palloc'd: the prefix and 9 random bytes in lower-case unpadded base32 (RFC 4648). */
char *
prebuild_name_new(void)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint8 random[NAME_RANDOM_BYTES];
	StringInfoData name;
	uint32 bits = 0;
	int nbits = 0;

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	initStringInfo(&name);
	appendStringInfoString(&name, NAME_PREFIX);
	for (size_t i = 0; i < sizeof(random); i++)
	{
		bits = (bits << 8 | random[i]) & 0xFFF;
		for (nbits += 8; nbits >= 5; nbits -= 5)
			appendStringInfoChar(&name, alphabet[(bits >> (nbits - 5)) & 31]);
	}
	if (nbits > 0)
		appendStringInfoChar(&name, alphabet[(bits << (5 - nbits)) & 31]);
	return name.data;
}
