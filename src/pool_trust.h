/*
 * pool_trust.h
 *	  Whether the stored pool may be believed, and by whom.
 */
#ifndef PREBUILD_POOL_TRUST_H
#define PREBUILD_POOL_TRUST_H

#include "postgres.h"

/* What the active snapshot says of the stored pool. */
typedef struct PoolTrust
{
	Oid control_plane; /* the oid of its schema */
	char *fingerprint; /* of tables and triggers; NULL where changes go unlogged: not attached */
	bool marked;	   /* something is stored */
	bool trusted;	   /* it was built from exactly these */
	int64 members;	   /* stored ones */
	Datum log_from;	   /* xid8: from there on the log is to be read */
	Datum log_open;	   /* xid8[]: and of these earlier transactions */
} PoolTrust;

extern bool pool_tables_at_rest(void);
extern bool pool_tables_readable(void);
extern bool pool_member_known(void);
extern PoolTrust pool_trust(void);

#endif /* PREBUILD_POOL_TRUST_H */
