/*
 * day_demands.h
 *	  The demands of the day before a time, from the log of passes.
 */
#ifndef PREBUILD_DAY_DEMANDS_H
#define PREBUILD_DAY_DEMANDS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"

/* Those of a template's presets of one name. */
typedef struct DayDemands
{
	int n;
	int64 *times; /* ascending */
} DayDemands;

/* Those of all presets. */
typedef struct DayTable DayTable;

extern DayTable *day_demands_read(const Id *template_id, TimestampTz at);
extern const DayDemands *day_demands_find(const DayTable *table, const Id *template_id,
										  const char *preset_name);
extern TimestampTz *last_demands_read(const Id **templates, const char **names, int n,
									  TimestampTz at);

#endif /* PREBUILD_DAY_DEMANDS_H */
