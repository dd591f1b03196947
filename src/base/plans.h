/*
 * plans.h
 *	  SQL statements of the extension: templates, kept plans, execution.
 *
 * A template names the schemas and operators by placeholders:
 *	  {cp}	the control plane's schema with a dot	(prebuild.control_plane_schema)
 *	  {ext}	the extension's own schema with a dot
 *	  {=}	OPERATOR(pg_catalog.=), and so on for every operator
 *	  {unnest 3}	rows of the array parameters $1 to $3, side by side
 */
#ifndef PREBUILD_PLANS_H
#define PREBUILD_PLANS_H

#include "fmgr.h"
#include "executor/spi.h"
#include "nodes/execnodes.h"

/*
 * A statement kept for the life of the backend; a static variable at the place of its use. It
 * keeps one plan for each expanded text (and types) that a call needed and never frees one,
 * because a nested call under another setting must not pull the plan away from under the outer
 * one.
 *
 * Set "generic" for a statement whose plan does not depend on the values of its parameters. The
 * server plans such a statement once; others it plans anew for each of a session's first five calls.
 */
typedef struct KeptPlan
{
	bool generic;
	SPIPlanPtr plan;
	char *text;	   /* the expanded text that it was prepared from */
	Oid *argtypes; /* with parameters of these types */
	struct KeptPlan *next;
} KeptPlan;

/*
 * The snapshot that a statement runs in, and whose rights it runs with. The OWN modes run with
 * the rights of the extension's owner. Use them only for statements on the extension's own tables
 * alone, because nobody else needs (or has) rights on these.
 */
typedef enum PlanMode
{
	PLAN_READ,		  /* reads in the active snapshot */
	PLAN_READ_LATEST, /* reads in a snapshot of this very moment, at any isolation level */
	PLAN_FRESH,	   /* reads and writes in a new snapshot; above READ COMMITTED, the transaction's */
	PLAN_READ_OWN, /* as PLAN_READ */
	PLAN_FRESH_OWN,	 /* as PLAN_FRESH */
	PLAN_ACTIVE_OWN, /* reads and writes; finds the rows to write in the active snapshot */
	PLAN_LATEST_OWN	 /* reads and writes; finds them in one of this very moment, at any level */
} PlanMode;

/* Takes a row of a result. It has to allocate in a context of its own. */
typedef void (*PlanRowTaker)(TupleTableSlot *row, void *context);

extern void plans_enter(FunctionCallInfo fcinfo);
extern void plans_leave(void);
extern Oid plans_extension_schema(void);
extern int plans_control_plane_path(void);
extern char *plan_expand(const char *sql_template);
extern SPIPlanPtr plan_get(KeptPlan *kept, const char *sql_template, int nargs,
						   const Oid *argtypes);
extern uint64 plan_execute(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
						   const Oid *argtypes, Datum *values, const char *nulls);
extern void plan_each(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
					  const Oid *argtypes, Datum *values, const char *nulls, PlanRowTaker take,
					  void *context);
extern void plan_into_set(KeptPlan *kept, const char *sql_template, PlanMode mode, int nargs,
						  const Oid *argtypes, Datum *values, const char *nulls,
						  ReturnSetInfo *set);

#endif /* PREBUILD_PLANS_H */
