/*
 * demand_table.h
 *	  Demands by preset, gathered from the rows of a statement while the scan stands at each.
 */
#ifndef PREBUILD_DEMAND_TABLE_H
#define PREBUILD_DEMAND_TABLE_H

#include "postgres.h"

#include "executor/tuptable.h"

#include "base/id.h"

/* Those of a template's presets of one name. */
typedef struct PresetDemands
{
	Id template_id;
	const char *preset_name;
	int n;
	int64 *times; /* ascending, after demand_table_sort() */
	bool *warm;	  /* of each; NULL if the rows do not say */
} PresetDemands;

typedef struct DemandTable DemandTable;

extern DemandTable *demand_table_new(void);
extern void demand_table_take(TupleTableSlot *row, void *table);
extern void demand_table_put(DemandTable *table, const PresetDemands *demands);
extern PresetDemands *demand_table_sort(const DemandTable *table, int *n);
extern const PresetDemands *demand_table_find(const DemandTable *table, const Id *template_id,
											  const char *preset_name);

#endif /* PREBUILD_DEMAND_TABLE_H */
