/*
 * attached_triggers.h
 *	  The extension's triggers on the control plane's tables.
 */
#ifndef PREBUILD_ATTACHED_TRIGGERS_H
#define PREBUILD_ATTACHED_TRIGGERS_H

#include "postgres.h"

/* Which triggers to have, as a mask; 0 detaches. */
#define ATTACH_BASE 0x01   /* those that every attached control plane has */
#define ATTACH_FANOUT 0x02 /* those that publish changed agent metadata */
#define ATTACH_GUARD 0x04  /* the one that guards claims */
#define ATTACH_MEND 0x08   /* mends those that exist, and only those */

/* Room for all triggers in a plan. */
#define ATTACHED_TRIGGERS 32

/* What to do about a trigger. */
typedef enum TriggerWork
{
	WORK_NONE,
	WORK_CREATE,
	WORK_REPLACE,
	WORK_DROP,
	WORK_RECREATE /* drop and create, because the server cannot replace one of that kind */
} TriggerWork;

typedef struct AttachPlan
{
	int n;
	TriggerWork work[ATTACHED_TRIGGERS];
	Oid tables[ATTACHED_TRIGGERS]; /* InvalidOid: missing */
	bool any;
} AttachPlan;

extern AttachPlan attached_triggers_plan(uint32 options);
extern void attached_triggers_carry_out(const AttachPlan *plan);

#endif /* PREBUILD_ATTACHED_TRIGGERS_H */
