/*
 * identity_trigger.c
 *	  The trigger that records changes of identities.
 */
#include "compat.h"

#include "commands/trigger.h"

#include "base/trigger_rows.h"
#include "identity/identity_changes.h"

PG_FUNCTION_INFO_V1(prebuild_identity_changed);

/*
 * Trigger: record that the identities with this row have changed. It fires AFTER each row on the
 * tables in attached_triggers.c. The first of its UPDATE OF columns has the id that changed.
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
						errmsg("prebuild_identity_changed() must be called by an AFTER trigger for "
							   "each row on UPDATE OF columns")));
	watched = trigger_watched(fcinfo, false);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
		!trigger_columns_changed(trigger, watched, watched->n))
		return PointerGetDatum(NULL);
	/* take the id from the old row, because cached identities have that one */
	id = trigger_id(trigger, trigger->tg_trigslot, watched->columns[0]);
	if (id != NULL)
		identity_changes_note(id);
	return PointerGetDatum(NULL);
}
