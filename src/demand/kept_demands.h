/*
 * kept_demands.h
 *	  The demands of a range, of which the backend keeps what it has read before.
 */
#ifndef PREBUILD_KEPT_DEMANDS_H
#define PREBUILD_KEPT_DEMANDS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "demand/demand_table.h"

extern bool kept_demands_read(TimestampTz since, TimestampTz until, DemandTable *table);

#endif /* PREBUILD_KEPT_DEMANDS_H */
