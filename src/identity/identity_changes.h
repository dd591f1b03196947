/*
 * identity_changes.h
 *	  Counters of changes, which tell whether a cached identity is still true.
 */
#ifndef PREBUILD_IDENTITY_CHANGES_H
#define PREBUILD_IDENTITY_CHANGES_H

#include "postgres.h"

#include "utils/uuid.h"

/* The number of a counter. */
typedef uint16 IdentityCounter;

extern void identity_changes_init(void);
extern IdentityCounter identity_counter_of(const pg_uuid_t *id);
extern uint64 identity_counter_read(IdentityCounter counter);
extern bool identity_counter_in_flight(uint64 value);
extern uint64 identity_changes_ended(void);
extern void identity_changes_note(const pg_uuid_t *id);
extern bool identity_changed_here(void);

#endif /* PREBUILD_IDENTITY_CHANGES_H */
