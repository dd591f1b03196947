/*
 * events.c
 *	  The extension's own tables, which it reads and writes with its owner's rights:
 *
 *	  prebuild_event	what happened, for people and dashboards; channel prebuild_events
 *						announces each row
 *	  prebuild_mark		what the extension last reported about a preset, so that it reports
 *						a lasting fault when the fault begins, not in every pass
 *
 *	  pruning.c deletes what is too old.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/events.h"
#include "base/notify.h"
#include "base/plans.h"
#include "base/rows.h"
#include "settings.h"

#define EVENT_CHANNEL "prebuild_events"

static const char *const mark_kinds[] = { "validation_failed", "unsupported", "preset_failed" };

/* Add an event to a batch. kind, ids and detail must outlive the batch. */
void
event_add(EventBatch *batch, const char *kind, const Id *template_id, const Id *preset_id,
		  const Id *workspace_id, char *detail)
{
	Event *event = palloc_object(Event);

	*event = (Event){ kind, template_id, preset_id, workspace_id, detail };
	batch->events = lappend(batch->events, event);
}

static Mark *
make_mark(const Id *preset_id, MarkKind kind, const char *detail)
{
	Mark *mark = palloc_object(Mark);

	mark->preset_id = *preset_id;
	mark->kind = kind;
	mark->detail = pstrdup(detail);
	return mark;
}

/* Have a batch set a mark. Copies preset_id and detail. */
void
mark_set(EventBatch *batch, const Id *preset_id, MarkKind kind, const char *detail)
{
	batch->marks = lappend(batch->marks, make_mark(preset_id, kind, detail));
}

/* Have a batch remove a mark. Copies preset_id. */
void
mark_unset(EventBatch *batch, const Id *preset_id, MarkKind kind)
{
	batch->unmarks = lappend(batch->unmarks, make_mark(preset_id, kind, ""));
}

/* Return the text of a JSON object with one string, palloc'd. */
char *
event_detail(const char *key, const char *value)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	escape_json(&json, key);
	appendStringInfoString(&json, ": ");
	escape_json(&json, value);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* Read the marks of some presets in the active snapshot. Returns a List of Mark. */
List *
marks_read(ArrayParameter *presets)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { array_datum(presets) };
	List *marks = NIL;
	uint64 n = plan_execute(&plan,
							"SELECT m.preset_id::pg_catalog.uuid, m.kind::pg_catalog.text,"
							" m.detail::pg_catalog.text FROM {ext}prebuild_mark m"
							" WHERE m.preset_id {=} ANY ($1)",
							PLAN_READ_OWN, 1, argtypes, values, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		char *kind = row_text(i, 2);
		Id preset_id = row_id(i, 1);

		for (size_t k = 0; k < lengthof(mark_kinds); k++)
			if (strcmp(kind, mark_kinds[k]) == 0)
				marks = lappend(marks, make_mark(&preset_id, (MarkKind) k, row_text(i, 3)));
	}
	SPI_freetuptable(SPI_tuptable);
	return marks;
}

/* Does prebuild_mark name the control plane of a mark? Not with the install script of 0.1. */
bool
marks_have_control_plane(void)
{
	Oid table = get_relname_relid("prebuild_mark", plans_extension_schema());

	return OidIsValid(table) && get_attnum(table, "control_plane") != InvalidAttrNumber;
}

/* Set or remove marks, in one statement. */
static void
write_marks(KeptPlan *plan, const char *statement, List *marks, TimestampTz at)
{
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID,
									TEXTOID };
	ArrayParameter *ids = array_new(UUIDOID);
	ArrayParameter *kinds = array_new(TEXTOID);
	ArrayParameter *details = array_new(TEXTOID);
	Datum values[5];
	ListCell *cell;

	if (marks == NIL)
		return;
	foreach (cell, marks)
	{
		Mark *mark = lfirst(cell);

		array_add_id(ids, &mark->preset_id);
		array_add_text(kinds, mark_kinds[mark->kind]);
		array_add_text(details, mark->detail);
	}
	values[0] = array_datum(ids);
	values[1] = array_datum(kinds);
	values[2] = array_datum(details);
	values[3] = TimestampTzGetDatum(at);
	values[4] = CStringGetTextDatum(setting_control_plane_schema);
	plan_execute(plan, statement, PLAN_FRESH_OWN, 5, argtypes, values, NULL);
}

static void
add_id_or_null(ArrayParameter *array, const Id *id)
{
	if (id != NULL)
		array_add_id(array, id);
	else
		array_add_null(array);
}

/* Insert the events and announce them. */
static void
write_events(List *events, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTARRAYOID, UUIDARRAYOID, UUIDARRAYOID,
									UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID };
	ArrayParameter *arrays[] = { array_new(TEXTOID), array_new(UUIDOID), array_new(UUIDOID),
								 array_new(UUIDOID), array_new(TEXTOID) };
	Datum values[6];
	ListCell *cell;
	uint64 n;

	if (events == NIL)
		return;
	foreach (cell, events)
	{
		Event *event = lfirst(cell);

		array_add_text(arrays[0], event->kind);
		add_id_or_null(arrays[1], event->template_id);
		add_id_or_null(arrays[2], event->preset_id);
		add_id_or_null(arrays[3], event->workspace_id);
		array_add_text(arrays[4], event->detail);
	}
	for (size_t i = 0; i < lengthof(arrays); i++)
		values[i] = array_datum(arrays[i]);
	values[5] = TimestampTzGetDatum(at);
	n = plan_execute(
		&plan,
		"WITH new AS ("
		" INSERT INTO {ext}prebuild_event (at, kind, template_id, preset_id, workspace_id, detail)"
		" SELECT $6, e.kind, e.template_id, e.preset_id, e.workspace_id,"
		" e.detail::pg_catalog.jsonb"
		" FROM {unnest 5}"
		"  WITH ORDINALITY e (kind, template_id, preset_id, workspace_id, detail, position)"
		" ORDER BY e.position RETURNING id, kind, template_id, preset_id, workspace_id)"
		" SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.to_jsonb(new))::pg_catalog.text"
		" FROM new ORDER BY new.id",
		PLAN_FRESH_OWN, 6, argtypes, values, NULL);
	if (notify_possible())
		for (uint64 i = 0; i < n; i++)
			notify_send(EVENT_CHANNEL, row_text(i, 1));
	SPI_freetuptable(SPI_tuptable);
}

/* Write a batch in a constant number of statements. at: the time of its events and marks. */
void
events_write(const EventBatch *batch, TimestampTz at)
{
	static KeptPlan set_plan, unset_plan;

#define SET_MARKS(column, value)                                                                   \
	"INSERT INTO {ext}prebuild_mark AS m (since, preset_id, kind, detail" column ")"               \
	" SELECT $4, n.preset_id, n.kind, n.detail" value                                              \
	" FROM {unnest 3} n (preset_id, kind, detail) WHERE $5 IS NOT NULL"                            \
	" ON CONFLICT (preset_id, kind) DO UPDATE"                                                     \
	" SET since = excluded.since, detail = excluded.detail"
	write_marks(&set_plan,
				marks_have_control_plane() ? SET_MARKS(", control_plane", ", $5")
										   : SET_MARKS("", ""),
				batch->marks, at);
	write_marks(&unset_plan,
				"DELETE FROM {ext}prebuild_mark m"
				" USING {unnest 3} n (preset_id, kind, detail)"
				" WHERE m.preset_id {=} n.preset_id AND m.kind {=} n.kind"
				" AND $4 IS NOT NULL AND $5 IS NOT NULL AND n.detail IS NOT NULL",
				batch->unmarks, at);
	write_events(batch->events, at);
}
