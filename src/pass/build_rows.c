/*
 * build_rows.c
 *	  What the statements that write builds and jobs share.
 */
#include "compat.h"

#include "utils/lsyscache.h"

#include "catalog/control_plane_catalog.h"
#include "pass/build_rows.h"

/* The tracing column of this control plane. */
BuildTraceColumn
build_trace_column(void)
{
	if (control_plane_has(FEATURE_TRACES))
		return (BuildTraceColumn){ ", trace_metadata", ", '{}'::pg_catalog.jsonb" };
	return (BuildTraceColumn){ "", "" };
}

/*
 * Execute a statement on rows given as one array per column, in a new snapshot. Returns the number
 * of result rows. SPI must be connected. Raises what the tables raise.
 */
uint64
build_insert_rows(KeptPlan *plan, const char *statement, int ncolumns,
				  ArrayParameter *const *columns)
{
	Oid *argtypes = palloc_array(Oid, ncolumns);
	Datum *values = palloc_array(Datum, ncolumns);

	for (int i = 0; i < ncolumns; i++)
	{
		argtypes[i] = get_array_type(columns[i]->element_type);
		values[i] = array_datum(columns[i]);
	}
	return plan_execute(plan, statement, PLAN_FRESH, ncolumns, argtypes, values, NULL);
}
