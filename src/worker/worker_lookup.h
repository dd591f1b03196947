/*
 * worker_lookup.h
 *	  What a worker finds out before it connects as a role: by the catalog alone, without SQL.
 */
#ifndef PREBUILD_WORKER_LOOKUP_H
#define PREBUILD_WORKER_LOOKUP_H

#include "slots/worker_slots.h"

/* What a look-up found; when it did not: detail says why, for a person. */
typedef struct LookupResult
{
	WorkerStep next;
	char role[NAMEDATALEN];
	char detail[WORKER_TEXT_SIZE];
} LookupResult;

typedef bool (*WorkerLookup)(int number, LookupResult *result);

extern bool worker_find_database(int number, LookupResult *result);
extern bool worker_find_role(int number, LookupResult *result);
extern bool worker_database_wanted(Oid database);

#endif /* PREBUILD_WORKER_LOOKUP_H */
