/*
 * attached_triggers.h
 *	  The extension's triggers on the control plane's tables.
 */
#ifndef PREBUILD_ATTACHED_TRIGGERS_H
#define PREBUILD_ATTACHED_TRIGGERS_H

#include "postgres.h"

/* What the caller of prebuild_attach() asked for; all off: detached. */
typedef struct AttachOptions
{
	bool metadata_fanout;
	bool guard_claims;
	bool mend; /* nothing of that, but what is there put right */
} AttachOptions;

/* Room for all triggers in a plan. */
#define ATTACHED_TRIGGERS 32

/* What is to do about a trigger. */
typedef enum TriggerWork
{
	WORK_NONE,
	WORK_CREATE,
	WORK_REPLACE,
	WORK_DROP,
	WORK_RECREATE /* drop and create, as the server does not replace one of that kind */
} TriggerWork;

typedef struct AttachPlan
{
	int n;
	TriggerWork work[ATTACHED_TRIGGERS];
	Oid tables[ATTACHED_TRIGGERS]; /* InvalidOid: not there */
	bool any;
} AttachPlan;

extern AttachPlan attached_triggers_plan(const AttachOptions *options);
extern void attached_triggers_carry_out(const AttachPlan *plan);

#endif /* PREBUILD_ATTACHED_TRIGGERS_H */
