/*
 * loop_metrics.h
 *	  Metrics of what runs the passes: see loop_metrics.c.
 */
#ifndef PREBUILD_LOOP_METRICS_H
#define PREBUILD_LOOP_METRICS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

extern void put_loop_state(ReturnSetInfo *rsinfo, TimestampTz at);
extern void put_buffer_state(ReturnSetInfo *rsinfo);

#endif /* PREBUILD_LOOP_METRICS_H */
