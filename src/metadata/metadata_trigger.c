/*
 * metadata_trigger.c
 *	  The trigger that publishes changes of agent metadata by plain SQL.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "catalog/control_plane_catalog.h"
#include "metadata/metadata_channel.h"
#include "settings.h"

/* The changes of a statement. */
typedef struct ChangeList
{
	FanoutChange *changes;
	int n;
	int room;
	bool with_keys;
} ChangeList;

/*
 * Return the rows that the statement wrote, or for a DELETE those that it removed. Raises an error
 * if the trigger has no transition table.
 */
static Tuplestorestate *
statement_rows(TriggerData *trigger)
{
	Tuplestorestate *rows =
		trigger->tg_newtable != NULL ? trigger->tg_newtable : trigger->tg_oldtable;

	if (rows == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" needs a transition table", trigger->tg_trigger->tgname)));
	/* use a read pointer of our own, because other triggers may read the same rows */
	tuplestore_select_read_pointer(rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
	tuplestore_rescan(rows);
	return rows;
}

/* Add a change to the list. */
static void
add_change(ChangeList *list, FanoutChange change)
{
	/* rows of one agent mostly come together, so this removes most duplicates */
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

/* Collect the changes of a statement's rows. Skips rows with a null. */
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
 * Trigger: publish the agents whose metadata a statement changed, unless the extension is writing
 * and publishes them itself. It fires AFTER each statement and needs a transition table of any
 * name.
 */
Datum
prebuild_metadata_fanout(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	ChangeList list = { .room = 64 };

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_metadata_fanout() must be called by an AFTER trigger for "
							   "each statement")));
	if (fanout_is_suppressed())
		return PointerGetDatum(NULL);
	list.with_keys = (setting_metadata_notify & METADATA_NOTIFY_AGENT) != 0;
	list.changes = palloc_array(FanoutChange, list.room);
	collect_changes(trigger, &list);
	fanout_publish(list.changes, list.n);
	return PointerGetDatum(NULL);
}
