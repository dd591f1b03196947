/*
 * day_demands.c
 *	  The demands of the day before a time, by preset, as each pass in mode auto reads them.
 *
 *	  A day has thousands of demands in a large fleet, and each pass wants them by preset. So this
 *	  reads the part of the log that is of the day, by the index on times, and gathers the times in a
 *	  hash table while the scan stands at each row: no row is copied, sorted or planned for twice.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "demand/day_demands.h"
#include "demand/demand_history.h"
#include "demand/demand_marker.h"
#include "demand/history.h"
#include "settings.h"

/* Times of a preset that there is room for at first. */
#define FIRST_ROOM 16

typedef struct DayKey
{
	Id template_id;
	uint32 length;
	const char *name; /* not terminated */
} DayKey;

typedef struct DayEntry
{
	DayKey key;
	uint32 hash;
	char status;
	int room;
	DayDemands demands;
} DayEntry;

static inline uint32
hash_of(const DayKey *key)
{
	return hash_combine(hash_bytes(key->template_id.bytes, sizeof(Id)),
						hash_bytes((const unsigned char *) key->name, (int) key->length));
}

static inline bool
are_equal(const DayKey *a, const DayKey *b)
{
	return a->length == b->length && id_compare(&a->template_id, &b->template_id) == 0 &&
		   memcmp(a->name, b->name, a->length) == 0;
}

#define SH_PREFIX day
#define SH_ELEMENT_TYPE DayEntry
#define SH_KEY_TYPE DayKey
#define SH_KEY key
#define SH_HASH_KEY(table, key) hash_of(&(key))
#define SH_EQUAL(table, a, b) are_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct DayTable
{
	MemoryContext context;
	day_hash *presets;
};

/* Take a demand: template, preset's name, time. */
static void
take_demand(TupleTableSlot *row, void *context)
{
	DayTable *table = context;
	MemoryContext before = MemoryContextSwitchTo(table->context);
	struct varlena *name;
	DayKey key;
	DayEntry *entry;
	bool found;

	slot_getallattrs(row);
	name = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(row->tts_values[1]));
	key = (DayKey){ .template_id = *(const Id *) DatumGetPointer(row->tts_values[0]),
					.length = VARSIZE_ANY_EXHDR(name),
					.name = VARDATA_ANY(name) };
	entry = day_insert(table->presets, key, &found);
	if (!found)
	{
		/* the row is gone with the next one */
		entry->key.name = memcpy(palloc(key.length + 1), key.name, key.length);
		entry->room = FIRST_ROOM;
		entry->demands = (DayDemands){ 0, palloc_array(int64, FIRST_ROOM) };
	}
	if (entry->demands.n == entry->room)
	{
		entry->room *= 2;
		entry->demands.times = repalloc_huge(entry->demands.times, sizeof(int64) * entry->room);
	}
	entry->demands.times[entry->demands.n++] = DatumGetTimestampTz(row->tts_values[2]);
	MemoryContextSwitchTo(before);
}

static int
compare_times(const void *left, const void *right)
{
	int64 a = *(const int64 *) left;
	int64 b = *(const int64 *) right;

	return (a > b) - (a < b);
}

/*
 * Read the demands of the day before a time, from the log alone, in the active snapshot, by one
 * statement. template_id: of this one, or (NULL) of all. SPI must be connected. The result is palloc'd
 * in the current context.
 */
DayTable *
day_demands_read(const Id *template_id, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   template_id == NULL ? (Datum) 0 : id_datum(template_id),
					   TimestampTzGetDatum(at - DEMAND_DAY), TimestampTzGetDatum(at) };
	const char nulls[] = { ' ', template_id == NULL ? 'n' : ' ', ' ', ' ' };
	DayTable *table = palloc_object(DayTable);
	day_iterator all;
	DayEntry *entry;
	int guc_level;

	table->context = CurrentMemoryContext;
	table->presets = day_create(CurrentMemoryContext, 256, NULL);
	if (!demand_log_exists())
		return table;
	guc_level = history_plan_for_values();
	plan_each(&plan,
			  "SELECT l.template_id, l.preset_name, l.at FROM {ext}prebuild_demand_log l"
			  " WHERE l.control_plane {=} $1 AND ($2 IS NULL OR l.template_id {=} $2)"
			  " AND l.at {>=} $3 AND l.at {<} $4",
			  PLAN_READ_OWN, lengthof(argtypes), argtypes, values, nulls, take_demand, table);
	AtEOXact_GUC(true, guc_level);
	/* an index on times gives them in order already */
	day_start_iterate(table->presets, &all);
	while ((entry = day_iterate(table->presets, &all)) != NULL)
		qsort(entry->demands.times, entry->demands.n, sizeof(int64), compare_times);
	return table;
}

/* Find the demands of a template's presets of a name. Returns NULL if there are none. */
const DayDemands *
day_demands_find(const DayTable *table, const Id *template_id, const char *preset_name)
{
	DayKey key = { .template_id = *template_id,
				   .length = (uint32) strlen(preset_name),
				   .name = preset_name };
	DayEntry *entry = day_lookup(table->presets, key);

	return entry == NULL ? NULL : &entry->demands;
}

/*
 * Read when somebody asked last, before a time, for each of n presets, from the log alone, in the
 * active snapshot. Takes one statement, or none if n is 0. SPI must be connected. The result is
 * palloc'd in the current context; DT_NOBEGIN: not known.
 */
TimestampTz *
last_demands_read(const Id **templates, const char **names, int n, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID };
	ArrayParameter *of_templates = array_new(UUIDOID);
	ArrayParameter *of_names = array_new(TEXTOID);
	TimestampTz *last = palloc_array(TimestampTz, n + 1);
	Datum values[4];
	uint64 found;

	for (int i = 0; i < n; i++)
	{
		last[i] = DT_NOBEGIN;
		array_add_id(of_templates, templates[i]);
		array_add_text(of_names, names[i]);
	}
	if (n == 0 || !demand_log_exists())
		return last;
	values[0] = array_datum(of_templates);
	values[1] = array_datum(of_names);
	values[2] = CStringGetTextDatum(setting_control_plane_schema);
	values[3] = TimestampTzGetDatum(at);
	found = plan_execute(
		&plan,
		"SELECT k.position, d.at FROM {unnest 2} WITH ORDINALITY k (template_id, preset_name, position)"
		" CROSS JOIN LATERAL (SELECT l.at FROM {ext}prebuild_demand_log l"
		"  WHERE l.control_plane {=} $3 AND l.template_id {=} k.template_id"
		"  AND l.preset_name {=} k.preset_name AND l.at {<} $4 ORDER BY l.at DESC LIMIT 1) d",
		PLAN_READ_OWN, lengthof(argtypes), argtypes, values, NULL);
	for (uint64 i = 0; i < found; i++)
		last[DatumGetInt64(row_get(i, 1)) - 1] = DatumGetTimestampTz(row_get(i, 2));
	SPI_freetuptable(SPI_tuptable);
	return last;
}
