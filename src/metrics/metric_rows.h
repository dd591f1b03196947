/*
 * metric_rows.h
 *	  Rows of prebuild_metrics_read().
 */
#ifndef PREBUILD_METRIC_ROWS_H
#define PREBUILD_METRIC_ROWS_H

#include "postgres.h"

#include "nodes/execnodes.h"

/* The labels of a preset, in SQL, where "s" has its names. */
#define PRESET_LABELS                                                                              \
	"pg_catalog.jsonb_build_object('template_name', s.template_name,"                              \
	" 'preset_name', s.preset_name, 'organization_name', s.organization_name)"

extern void metric_put_gauge(ReturnSetInfo *rsinfo, const char *name, double value,
							 const char *help);

#endif /* PREBUILD_METRIC_ROWS_H */
