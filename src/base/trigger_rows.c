/*
 * trigger_rows.c
 *	  The rows that a row trigger is called for: the columns that it watches, whether an update
 *	  changed them, and ids.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "base/trigger_rows.h"

/* Is a column the same in two rows? Both slots must have extracted it. */
static bool
same_column(const TupleTableSlot *old, const TupleTableSlot *new, int number)
{
	Form_pg_attribute column = TupleDescAttr(old->tts_tupleDescriptor, number - 1);
	Datum left = old->tts_values[number - 1];
	Datum right = new->tts_values[number - 1];

	if (old->tts_isnull[number - 1] || new->tts_isnull[number - 1])
		return old->tts_isnull[number - 1] && new->tts_isnull[number - 1];
	/* a fast path, because a user's update waits for this and most columns are ids */
	if (column->attlen == UUID_LEN)
		return memcmp(DatumGetPointer(left), DatumGetPointer(right), UUID_LEN) == 0;
	return datumIsEqual(left, right, column->attbyval, column->attlen);
}

/*
 * Return the columns that a trigger watches: those that it is on or, with by_name, those that its
 * arguments name from the second one on. Finds them out at the first row of a statement and keeps
 * them in fn_mcxt for the others.
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

/* Did an update change one of the first n watched columns? The table must have all that it watches. */
bool
trigger_columns_changed(const TriggerData *trigger, const WatchedColumns *watched, int n)
{
	/* extract the columns once, instead of from the start for every column */
	slot_getsomeattrs(trigger->tg_trigslot, watched->last);
	slot_getsomeattrs(trigger->tg_newslot, watched->last);
	for (int i = 0; i < n; i++)
		if (!same_column(trigger->tg_trigslot, trigger->tg_newslot, watched->columns[i]))
			return true;
	return false;
}

/*
 * Return the id in a column of a row (one of the trigger's slots), or NULL. Raises
 * datatype_mismatch for a column of another type. prebuild_attach() names only columns of ids,
 * but anyone who may use the function can create a trigger, and must not crash the server with
 * it.
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
