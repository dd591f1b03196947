/*
 * build_rows.h
 *	  What the statements that write builds and jobs share.
 */
#ifndef PREBUILD_BUILD_ROWS_H
#define PREBUILD_BUILD_ROWS_H

#include "base/plans.h"
#include "base/rows.h"

/* Input of a build's job. Every release of coderd that has the stage reads it under this name. */
#define BUILD_JOB_INPUT(build_id)                                                                  \
	"pg_catalog.jsonb_build_object('workspace_build_id', " build_id                                \
	", 'dry_run', false, 'prebuilt_workspace_stage', 1)"

/*
 * The tracing column and its value, as text to append to lists. Both are empty in a control plane
 * without the column; every release of coderd has it.
 */
typedef struct BuildTraceColumn
{
	const char *name;
	const char *value;
} BuildTraceColumn;

extern BuildTraceColumn build_trace_column(void);
extern uint64 build_insert_rows(KeptPlan *plan, const char *statement, int ncolumns,
								ArrayParameter *const *columns);

#endif /* PREBUILD_BUILD_ROWS_H */
