/*
 * triggers.c
 *	  Entry points of the extension's triggers; attached_triggers.c says which tables they are put on.
 */
#include "compat.h"

#include "access/table.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "control_plane_catalog.h"
#include "fanout.h"
#include "identity_changes.h"
#include "settings.h"
#include "triggers.h"

/* Changes of a statement, collected. */
typedef struct ChangeList
{
	FanoutChange *changes;
	int n;
	int room;
	bool with_keys;
} ChangeList;

/* The rows of the statement: what it wrote, or for a DELETE what it removed. */
static Tuplestorestate *
statement_rows(TriggerData *trigger)
{
	Tuplestorestate *rows =
		trigger->tg_newtable != NULL ? trigger->tg_newtable : trigger->tg_oldtable;

	if (rows == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" needs a transition table", trigger->tg_trigger->tgname)));
	/* others may read the same rows: a read pointer of our own leaves theirs alone */
	tuplestore_select_read_pointer(rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
	tuplestore_rescan(rows);
	return rows;
}

/* Add a change to the list. */
static void
add_change(ChangeList *list, FanoutChange change)
{
	/* rows of one agent mostly come together */
	if (!list->with_keys && list->n > 0 &&
		memcmp(&list->changes[list->n - 1].agent, &change.agent, sizeof(pg_uuid_t)) == 0)
		return;
	if (list->n == list->room)
	{
		list->room *= 2;
		list->changes = repalloc_huge(list->changes, sizeof(FanoutChange) * list->room);
	}
	list->changes[list->n++] = change;
}

/* Collect the changes that a statement's rows are. */
static void
collect_changes(TriggerData *trigger, ChangeList *list)
{
	Relation table = trigger->tg_relation;
	Oid oid = RelationGetRelid(table);
	AttrNumber agent = control_plane_column_of_type(oid, "workspace_agent_id", UUIDOID, UUIDOID);
	AttrNumber key = control_plane_column_of_type(oid, "key", VARCHAROID, TEXTOID);
	AttrNumber collected_at =
		control_plane_column_of_type(oid, "collected_at", TIMESTAMPTZOID, TIMESTAMPTZOID);
	Tuplestorestate *rows = statement_rows(trigger);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsMinimalTuple);

	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		FanoutChange change = { .key = "", .key_length = 0 };
		bool null;
		Datum id = slot_getattr(slot, agent, &null);

		CHECK_FOR_INTERRUPTS();
		if (null || slot_attisnull(slot, key) || slot_attisnull(slot, collected_at))
			continue;
		change.agent = *DatumGetUUIDP(id);
		if (list->with_keys)
		{
			char *name = TextDatumGetCString(slot_getattr(slot, key, &null));

			change.key = name;
			change.key_length = (int) strlen(name);
			change.collected_at = DatumGetTimestampTz(slot_getattr(slot, collected_at, &null));
		}
		add_change(list, change);
	}
	ExecDropSingleTupleTableSlot(slot);
}

PG_FUNCTION_INFO_V1(prebuild_metadata_fanout);

/*
 * Trigger: publish the agents whose metadata a statement changed, unless the extension's own
 * writing does that. After the statement, with a transition table named as one likes.
 */
Datum
prebuild_metadata_fanout(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	ChangeList list = { .room = 64 };

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_metadata_fanout() is called by AFTER triggers for each "
							   "statement only")));
	if (fanout_is_suppressed())
		return PointerGetDatum(NULL);
	list.with_keys = (setting_metadata_notify & METADATA_NOTIFY_AGENT) != 0;
	list.changes = palloc_array(FanoutChange, list.room);
	collect_changes(trigger, &list);
	fanout_publish(list.changes, list.n);
	return PointerGetDatum(NULL);
}

/* Is a column of two rows, both of which have it at hand, the same? */
static bool
same_column(const TupleTableSlot *old, const TupleTableSlot *new, int number)
{
	Form_pg_attribute column = TupleDescAttr(old->tts_tupleDescriptor, number - 1);
	Datum left = old->tts_values[number - 1];
	Datum right = new->tts_values[number - 1];

	if (old->tts_isnull[number - 1] || new->tts_isnull[number - 1])
		return old->tts_isnull[number - 1] && new->tts_isnull[number - 1];
	/* a user's update waits for this, and most columns are ids */
	if (column->attlen == UUID_LEN)
		return memcmp(DatumGetPointer(left), DatumGetPointer(right), UUID_LEN) == 0;
	return datumIsEqual(left, right, column->attbyval, column->attlen);
}

/*
 * The columns that a trigger is for: those that it is on or, where by_name, those whose names are its
 * arguments from the second one on. Found out at the first row of a statement.
 */
const WatchedColumns *
trigger_watched(FunctionCallInfo fcinfo, bool by_name)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const Trigger *trigger = data->tg_trigger;
	WatchedColumns *watched = fcinfo->flinfo->fn_extra;
	int n = by_name ? Max(trigger->tgnargs - 1, 0) : trigger->tgnattr;

	if (watched != NULL)
		return watched;
	watched = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt,
								 offsetof(WatchedColumns, columns) + sizeof(int16) * n);
	*watched = (WatchedColumns){ .n = n, .complete = true };
	for (int i = 0; i < n; i++)
	{
		int column = by_name
						 ? SPI_fnumber(RelationGetDescr(data->tg_relation), trigger->tgargs[1 + i])
						 : trigger->tgattr[i];

		watched->columns[i] = (int16) column;
		watched->last = Max(watched->last, column);
		watched->complete = watched->complete && column > 0;
	}
	fcinfo->flinfo->fn_extra = watched;
	return watched;
}

/* Did an update change one of the columns that its trigger is for, all of which are there? */
bool
trigger_columns_changed(const TriggerData *trigger, const WatchedColumns *watched)
{
	/* take the rows apart once, instead of from the start for every column */
	slot_getsomeattrs(trigger->tg_trigslot, watched->last);
	slot_getsomeattrs(trigger->tg_newslot, watched->last);
	for (int i = 0; i < watched->n; i++)
		if (!same_column(trigger->tg_trigslot, trigger->tg_newslot, watched->columns[i]))
			return true;
	return false;
}

/*
 * The id in a column of a row (one of the trigger's slots), or NULL. Raises datatype_mismatch for
 * another type: prebuild_attach() names columns of ids only, but anyone who may use the function
 * can make a trigger, and must not crash the server by it.
 */
const pg_uuid_t *
trigger_id(const TriggerData *trigger, TupleTableSlot *row, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(row->tts_tupleDescriptor, column - 1);
	bool null;
	Datum id;

	if (attribute->atttypid != UUIDOID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of trigger \"%s\" is not of type uuid",
							   NameStr(attribute->attname), trigger->tg_trigger->tgname)));
	id = slot_getattr(row, column, &null);
	return null ? NULL : DatumGetUUIDP(id);
}

PG_FUNCTION_INFO_V1(prebuild_identity_changed);

/*
 * Trigger: what the identities that a row is part of say has changed. After each row of the tables
 * that attached_triggers.c lists; of the columns that the trigger is for, the first one has the id.
 */
Datum
prebuild_identity_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const WatchedColumns *watched;
	const pg_uuid_t *id;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || trigger->tg_trigger->tgnattr == 0)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_identity_changed() is called by AFTER triggers for each "
							   "row, on UPDATE OF columns, only")));
	watched = trigger_watched(fcinfo, false);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) && !trigger_columns_changed(trigger, watched))
		return PointerGetDatum(NULL);
	/* the row as it was: what is cached is about that one */
	id = trigger_id(trigger, trigger->tg_trigslot, watched->columns[0]);
	if (id != NULL)
		identity_changes_note(id);
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(prebuild_pool_not_replicated);

/*
 * Trigger: skip the rows of another server's kept pool, which a publication of all tables sends
 * along. They would be in the way of our own, whose triggers fire for the replicated tables.
 * Before each row, in sessions that replay a replication stream.
 */
Datum
prebuild_pool_not_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_pool_not_replicated() is called by BEFORE triggers for "
							   "each row only")));
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
																	  : trigger->tg_trigtuple);
}
