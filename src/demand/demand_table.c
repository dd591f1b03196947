/*
 * demand_table.c
 *	  Demands by preset: a hash table that takes the rows of a statement as they come.
 *
 *	  Months of demand of a large fleet are millions of rows. To have them sorted by the server costs
 *	  more than to read them, and to copy each costs as much. The log is nearly in the order of time,
 *	  so here each preset's times mostly are as they should be when all rows have come.
 */
#include "compat.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "demand/demand_table.h"
#include "demand/preset_key.h"

/* Demands of a preset that there is room for at first. */
#define FIRST_ROOM 16

typedef struct PresetEntry
{
	PresetKey key;
	uint32 hash;
	char status;
	int room;
	PresetDemands demands;
} PresetEntry;

#define SH_PREFIX presets
#define SH_ELEMENT_TYPE PresetEntry
#define SH_KEY_TYPE PresetKey
#define SH_KEY key
#define SH_HASH_KEY(table, key) preset_key_hash(&(key))
#define SH_EQUAL(table, a, b) preset_keys_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct DemandTable
{
	MemoryContext context;
	presets_hash *presets;
};

/* Make a table, palloc'd in the current context, as all that it takes will be. */
DemandTable *
demand_table_new(void)
{
	DemandTable *table = palloc_object(DemandTable);

	table->context = CurrentMemoryContext;
	table->presets = presets_create(CurrentMemoryContext, 256, NULL);
	return table;
}

/* Begin a preset, whose name is in a row that is gone with the next one. */
static void
begin_preset(PresetEntry *entry, bool says_warm)
{
	char *name = pnstrdup(entry->key.name, entry->key.length);

	entry->key.name = name;
	entry->room = FIRST_ROOM;
	entry->demands = (PresetDemands){ .template_id = entry->key.template_id,
									  .preset_name = name,
									  .times = palloc_array(int64, FIRST_ROOM),
									  .warm = says_warm ? palloc_array(bool, FIRST_ROOM) : NULL };
}

/*
 * Take a row, as plan_each() gives it: template, preset's name, time and, if there is a fourth column,
 * whether the demand was warm.
 */
void
demand_table_take(TupleTableSlot *row, void *table)
{
	const DemandTable *self = table;
	MemoryContext before = MemoryContextSwitchTo(self->context);
	PresetDemands *demands;
	struct varlena *name;
	PresetKey key;
	PresetEntry *entry;
	bool found;

	slot_getallattrs(row);
	name = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(row->tts_values[1]));
	key = (PresetKey){ .template_id = *(const Id *) DatumGetPointer(row->tts_values[0]),
					   .length = VARSIZE_ANY_EXHDR(name),
					   .name = VARDATA_ANY(name) };
	entry = presets_insert(self->presets, key, &found);
	if (!found)
		begin_preset(entry, row->tts_tupleDescriptor->natts > 3);
	demands = &entry->demands;
	if (demands->n == entry->room)
	{
		entry->room *= 2;
		demands->times = repalloc_huge(demands->times, sizeof(int64) * entry->room);
		if (demands->warm != NULL)
			demands->warm = repalloc_huge(demands->warm, sizeof(bool) * entry->room);
	}
	if (demands->warm != NULL)
		demands->warm[demands->n] = DatumGetBool(row->tts_values[3]);
	demands->times[demands->n++] = DatumGetInt64(row->tts_values[2]);
	MemoryContextSwitchTo(before);
}

/*
 * Take all demands of a preset, of which the table has none yet. The times stay where they are; the
 * name is copied.
 */
void
demand_table_put(DemandTable *table, const PresetDemands *demands)
{
	PresetKey key = { .template_id = demands->template_id,
					  .length = (uint32) strlen(demands->preset_name),
					  .name = demands->preset_name };
	bool found;
	PresetEntry *entry = presets_insert(table->presets, key, &found);

	Assert(!found && demands->warm == NULL);
	entry->key.name = pnstrdup(key.name, key.length);
	entry->room = demands->n;
	entry->demands = *demands;
	entry->demands.preset_name = entry->key.name;
}

/* A demand. */
typedef struct Demand
{
	int64 time;
	bool warm;
} Demand;

static int
compare_demands(const void *left, const void *right)
{
	const Demand *a = left;
	const Demand *b = right;

	return a->time != b->time ? (a->time > b->time) - (a->time < b->time) : a->warm - b->warm;
}

/* Sort the demands of a preset. */
static void
sort_demands(PresetDemands *demands)
{
	bool is_sorted = true;
	Demand *sorted;

	for (int i = 1; i < demands->n && is_sorted; i++)
		is_sorted = demands->times[i - 1] < demands->times[i];
	if (is_sorted)
		return;
	sorted = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Demand) * demands->n);
	for (int i = 0; i < demands->n; i++)
		sorted[i] = (Demand){ demands->times[i], demands->warm != NULL && demands->warm[i] };
	qsort(sorted, demands->n, sizeof(Demand), compare_demands);
	for (int i = 0; i < demands->n; i++)
	{
		demands->times[i] = sorted[i].time;
		if (demands->warm != NULL)
			demands->warm[i] = sorted[i].warm;
	}
	pfree(sorted);
}

/*
 * Sort the demands of each preset, once all rows have come. Sets *n and returns an array of all
 * presets, palloc'd in the current context, in no order.
 */
PresetDemands *
demand_table_sort(const DemandTable *table, int *n)
{
	PresetDemands *all = palloc_array(PresetDemands, table->presets->members + 1);
	presets_iterator iterator;
	PresetEntry *entry;

	*n = 0;
	presets_start_iterate(table->presets, &iterator);
	while ((entry = presets_iterate(table->presets, &iterator)) != NULL)
	{
		sort_demands(&entry->demands);
		all[(*n)++] = entry->demands;
	}
	return all;
}

/* Find the demands of a template's presets of a name. Returns NULL if there are none. */
const PresetDemands *
demand_table_find(const DemandTable *table, const Id *template_id, const char *preset_name)
{
	PresetKey key = { .template_id = *template_id,
					  .length = (uint32) strlen(preset_name),
					  .name = preset_name };
	PresetEntry *entry = presets_lookup(table->presets, key);

	return entry == NULL ? NULL : &entry->demands;
}
