/*
 * identity_empty.c
 *	  What bench/identity.sh compares look-ups of identities with: functions that give no row, and
 *	  always the same one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "nodes/execnodes.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(empty);

/* empty(uuid): no row */
Datum
empty(PG_FUNCTION_ARGS)
{
	((ReturnSetInfo *) fcinfo->resultinfo)->isDone = ExprEndResult;
	PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(constant);

/* constant(uuid, prebuild_agent_identity_row): the second argument */
Datum
constant(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}
