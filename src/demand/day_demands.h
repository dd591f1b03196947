/*
 * day_demands.h
 *	  The demands of the day before a time, and the last ones before it, from the log of passes.
 */
#ifndef PREBUILD_DAY_DEMANDS_H
#define PREBUILD_DAY_DEMANDS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "demand/demand_table.h"

extern DemandTable *day_demands_read(const Id *template_id, TimestampTz at);
extern TimestampTz *last_demands_read(const Id **templates, const char **names, int n,
									  TimestampTz at);

#endif /* PREBUILD_DAY_DEMANDS_H */
