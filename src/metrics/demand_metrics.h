/*
 * demand_metrics.h
 *	  Metrics of demand and of lead times: see demand_metrics.c.
 */
#ifndef PREBUILD_DEMAND_METRICS_H
#define PREBUILD_DEMAND_METRICS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

extern void put_demand(ReturnSetInfo *rsinfo, TimestampTz at);
extern void put_times(ReturnSetInfo *rsinfo);

#endif /* PREBUILD_DEMAND_METRICS_H */
