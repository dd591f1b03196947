/*
 * pool_log.c
 *	  The trigger that logs what the pool may depend on, for pool_state.c to resolve.
 *
 *	  It appends the raw id of the row that was touched and does nothing else: it looks nothing up,
 *	  locks nothing and writes no row that anybody else writes, so that it adds no lock conflict
 *	  and no serialization failure to the application, at any isolation level. It writes past the
 *	  executor, as the system writes its catalogs: the application needs no right on the log.
 *
 *	  Both ids are logged where an update moves a row, so that whatever the row led to before
 *	  and leads to now is found: see the proof in pool_state.c.
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "base/ids.h"
#include "base/result_row.h"
#include "base/trigger_rows.h"
#include "base/versions.h"

PG_FUNCTION_INFO_V1(prebuild_pool_touched);
PG_FUNCTION_INFO_V1(prebuild_pool_touched_by_name);

/*
 * Raise object_not_in_prerequisite_state unless the log has the n columns that are written, and
 * others of a newer script only where these may be NULL: no entry may be lost or wrong.
 */
static void
require_columns(TupleDesc columns, int n)
{
	bool fits = columns->natts >= n;

	for (int i = n; i < columns->natts; i++)
		fits = fits && !TupleDescAttr(columns, i)->attnotnull;
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table prebuild_pool_log has other columns than this library writes"),
				 errhint(VERSIONS_HINT)));
}

/* Append one entry. kind: as in the table's column. */
static void
append(FunctionCallInfo fcinfo, char kind, const pg_uuid_t *id)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Oid log = get_relname_relid("prebuild_pool_log", get_func_namespace(fcinfo->flinfo->fn_oid));
	Relation relation = OidIsValid(log) ? try_relation_open(log, RowExclusiveLock) : NULL;
	ResultRow row;
	HeapTuple entry;

	/* without the log nobody believes the stored pool, and the application is to go on */
	if (relation == NULL)
		return;
	row.n = 0;
	result_put(&row, XID8OID, FullTransactionIdGetDatum(GetTopFullTransactionId()));
	result_put(&row, OIDOID, ObjectIdGetDatum(RelationGetNamespace(trigger->tg_relation)));
	result_put(&row, CHAROID, CharGetDatum(kind));
	result_put_uuid(&row, id);
	require_columns(RelationGetDescr(relation), row.n);
	entry = result_row_tuple(RelationGetDescr(relation), &row);
	CatalogTupleInsert(relation, entry);
	heap_freetuple(entry);
	relation_close(relation, NoLock);
}

/* Does, in a row of workspaces, a column have the system user? */
static bool
is_systems(const TriggerData *trigger, TupleTableSlot *row, int column)
{
	const pg_uuid_t *owner = trigger_id(trigger, row, column);

	return owner != NULL && id_is_system_user(owner);
}

/* Log a row. kind: see prebuild_pool_touched(). */
static void
log_row(FunctionCallInfo fcinfo, char kind, const WatchedColumns *watched)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool updated = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	const pg_uuid_t *id;
	const pg_uuid_t *new_id;

	if (kind == 'p')
	{
		if (!is_systems(trigger, trigger->tg_trigslot, watched->columns[1]) &&
			!(updated && is_systems(trigger, trigger->tg_newslot, watched->columns[1])))
			return;
		kind = 'w';
	}
	if (updated && !trigger_columns_changed(trigger, watched))
		return;

	id = trigger_id(trigger, trigger->tg_trigslot, watched->columns[0]);
	if (id != NULL)
		append(fcinfo, kind, id);
	new_id = updated ? trigger_id(trigger, trigger->tg_newslot, watched->columns[0]) : NULL;
	if (new_id != NULL && (id == NULL || memcmp(id, new_id, sizeof(*id)) != 0))
		append(fcinfo, kind, new_id);
}

/* Log that all that is known is that something has changed. */
static void
log_anything(FunctionCallInfo fcinfo)
{
	static const pg_uuid_t nothing = { { 0 } };

	append(fcinfo, 't', &nothing);
}

/* Is the function called after each row, by a trigger with that many arguments and columns? */
static bool
called_for_row(FunctionCallInfo fcinfo, int least_arguments, int most_arguments, int least_columns)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	return CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_AFTER(trigger->tg_event) &&
		   TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		   trigger->tg_trigger->tgnargs >= least_arguments &&
		   trigger->tg_trigger->tgnargs <= most_arguments &&
		   trigger->tg_trigger->tgnattr >= least_columns;
}

static void
not_attached(const char *function)
{
	ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					errmsg("%s() is called by the triggers of prebuild_attach() only", function)));
}

/*
 * Trigger: log the row. After each row of the tables that attached_triggers.c lists, with the kind of
 * the id as argument: workspace, job, resource, or pool for the ids of workspaces themselves, of
 * which only those of the system user are logged. The first of the trigger's columns has the id.
 * After a TRUNCATE: log that much, as it shows nowhere else where the table's file is of the same
 * transaction, and then stays.
 */
Datum
prebuild_pool_touched(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		log_anything(fcinfo);
	else if (called_for_row(fcinfo, 1, 1, 2))
		log_row(fcinfo, trigger->tg_trigger->tgargs[0][0], trigger_watched(fcinfo, false));
	else
		not_attached("prebuild_pool_touched");
	return PointerGetDatum(NULL);
}

/*
 * Trigger: the same, on every update, with the names of the columns as further arguments. Where one is
 * missing, rows cannot be compared: all that is known then is that something has changed.
 */
Datum
prebuild_pool_touched_by_name(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const WatchedColumns *watched;

	if (!called_for_row(fcinfo, 3, INT16_MAX, 0))
		not_attached("prebuild_pool_touched_by_name");
	watched = trigger_watched(fcinfo, true);
	if (watched->complete)
		log_row(fcinfo, trigger->tg_trigger->tgargs[0][0], watched);
	else
		log_anything(fcinfo);
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
