/*
 * ids.c
 *	  Make new ids, with libuuid, and names of prebuilds.
 */
#include "compat.h"

#include <uuid/uuid.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/ids.h"

#define NAME_PREFIX "prebuild-"
#define NAME_RANDOM_BYTES 9

/*
 * Make a new id, palloc'd: version 5 of RFC 4122, the hash of a counter in a random namespace of
 * this backend's own. Such ids are as unique and as hard to guess as random ids. They are ten
 * times as fast, because libuuid stirs its generator anew for each random id (4 microseconds).
 */
Id *
id_new(void)
{
	static uuid_t namespace;
	static uint64 counter = 0;
	Id *id = palloc_object(Id);
	uuid_t generated;

	if (counter == 0)
		uuid_generate_random(namespace);
	counter++;
	uuid_generate_sha1(generated, namespace, (const char *) &counter, sizeof(counter));
	memcpy(id->bytes, generated, sizeof(id->bytes));
	return id;
}

/* Compare two ids in the order of the server's uuid type, for qsort and bsearch. */
int
id_compare(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(Id));
}

/* Is this the id of the system user? */
bool
id_is_system_user(const pg_uuid_t *id)
{
	static pg_uuid_t system_user;
	static bool known = false;

	if (!known)
	{
		system_user = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(SYSTEM_USER)));
		known = true;
	}
	return memcmp(id, &system_user, sizeof(*id)) == 0;
}

/*
 * Make a new name, palloc'd: the prefix and 9 random bytes in lower-case unpadded base32 (RFC
 * 4648). Raises internal_error if the server has no random bytes.
 */
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
