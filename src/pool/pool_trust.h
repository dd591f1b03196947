/*
 * pool_trust.h
 *	  Whether a reader may trust the stored pool.
 */
#ifndef PREBUILD_POOL_TRUST_H
#define PREBUILD_POOL_TRUST_H

#include "postgres.h"

/* Prefix of the fingerprint in the marker of a pool that cannot be kept; the reason follows. */
#define POOL_GIVEN_UP "not kept: "

/* What the active snapshot says of the stored pool. */
typedef struct PoolTrust
{
	Oid control_plane; /* the oid of its schema */
	char *fingerprint; /* of tables and triggers; NULL if changes go unlogged: not attached */
	bool marked;	   /* a marker is stored */
	bool given_up;	   /* the marker says why the pool is not kept */
	bool trusted;	   /* the marker has exactly this fingerprint */
	int64 members;	   /* number of stored ones; this and the next two only if trusted */
	Datum log_from;	   /* xid8: read the log from there on */
	Datum log_open;	   /* xid8[]: and the entries of these earlier transactions */
} PoolTrust;

extern bool pool_tables_at_rest(void);
extern bool pool_tables_readable(void);
extern void pool_tables_lock(void);
extern bool pool_tables_hold(void);
extern Oid pool_member_type(void);
extern bool pool_member_known(void);
extern PoolTrust pool_trust(void);
extern char *pool_trust_fault(Oid control_plane, char **hint);

#endif /* PREBUILD_POOL_TRUST_H */
