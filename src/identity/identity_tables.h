/*
 * identity_tables.h
 *	  The tables that identities come from: whether a caller may read them, and whether they are
 *	  still the ones that filled the cache.
 */
#ifndef PREBUILD_IDENTITY_TABLES_H
#define PREBUILD_IDENTITY_TABLES_H

#include "postgres.h"

/* The trigger that records changes of identities; prebuild_attach() puts it on the tables. */
#define IDENTITY_TRIGGER "prebuild_identity"

extern void identity_tables_init(void);
extern void identity_tables_require(void);
extern bool identity_tables_readable(Oid function, Oid role);
extern bool identity_tables_watched(void);

#endif /* PREBUILD_IDENTITY_TABLES_H */
