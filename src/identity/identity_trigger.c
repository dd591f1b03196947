/*
 * identity_trigger.c
 *	  The trigger that notes changes of what identities say.
 */
#include "compat.h"

#include "commands/trigger.h"

#include "base/trigger_rows.h"
#include "identity/identity_changes.h"

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
