/*
 * worker_lookup.h
 *	  The look-ups of a worker before it connects as a role.
 */
#ifndef PREBUILD_WORKER_LOOKUP_H
#define PREBUILD_WORKER_LOOKUP_H

#include "slots/worker_slots.h"

/* The result of a look-up. If it found nothing, detail tells the operator why. */
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
