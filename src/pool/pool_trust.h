/*
 * pool_trust.h
 *	  Whether the stored pool may be believed, and by whom.
 */
#ifndef PREBUILD_POOL_TRUST_H
#define PREBUILD_POOL_TRUST_H

#include "postgres.h"

/* Begins the fingerprint in the marker of a pool that cannot be kept; what follows is the reason. */
#define POOL_GIVEN_UP "not kept: "

/* What the active snapshot says of the stored pool. */
typedef struct PoolTrust
{
	Oid control_plane; /* the oid of its schema */
	char *fingerprint; /* of tables and triggers; NULL where changes go unlogged: not attached */
	bool marked;	   /* something is stored */
	bool given_up;	   /* or rather, why nothing is */
	bool trusted;	   /* it was built from exactly these */
	int64 members;	   /* stored ones */
	Datum log_from;	   /* xid8: from there on the log is to be read */
	Datum log_open;	   /* xid8[]: and of these earlier transactions */
} PoolTrust;

extern bool pool_tables_at_rest(void);
extern bool pool_tables_readable(void);
extern bool pool_member_known(void);
extern PoolTrust pool_trust(void);
extern char *pool_trust_fault(Oid control_plane, char **hint);

#endif /* PREBUILD_POOL_TRUST_H */
