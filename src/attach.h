/*
 * attach.h
 *	  The triggers that prebuild_attach() puts on the control plane's tables.
 */
#ifndef PREBUILD_ATTACH_H
#define PREBUILD_ATTACH_H

#include "postgres.h"

/* What the caller of prebuild_attach() asked for; all off: detached. */
typedef struct AttachOptions
{
	bool metadata_fanout;
	bool guard_claims;
} AttachOptions;

/* A trigger. To add one is to add a line to the table in attach.c. */
typedef struct AttachedTrigger
{
	const char *table;	  /* in the control plane's schema */
	const char *name;	  /* of the trigger */
	const char *function; /* as a template, see plans.h, without parentheses */
	const char *timing;	  /* such as AFTER INSERT OR UPDATE */
	const char *columns;  /* those that the UPDATE at the end of the timing is OF, or NULL */
	const char *rows;	  /* REFERENCING and FOR EACH */
	const char *argument; /* of the function, or NULL */
	bool always;		  /* also in sessions that replay a replication stream */
	bool (*wanted)(const AttachOptions *options);
} AttachedTrigger;

#endif /* PREBUILD_ATTACH_H */
