/*
 * pool_log.c
 *	  The triggers that log the rows on which the pool may depend. pool_touched.c resolves the log.
 *
 *	  Locks: a trigger appends the raw id of the touched row and does nothing else. It looks nothing
 *	  up, locks no row, and writes no row that another transaction writes. So it adds no lock
 *	  conflict and no serialization failure to the application, at any isolation level. It bypasses
 *	  the executor, as the server does when it writes catalogs, so that the application needs no
 *	  privilege on the log.
 *
 *	  If an update moves a row, the trigger logs both ids, so that a reader finds what the row led
 *	  to before and what it leads to now: see the proof in README.md.
 *
 *	  An agent moves the times of its connection with every heartbeat. The stored pool has a time
 *	  since which an agent has been seen, so the trigger logs only a step back.
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
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "base/ids.h"
#include "base/result_row.h"
#include "base/trigger_rows.h"
#include "base/versions.h"
#include "pool/member_columns.h"

PG_FUNCTION_INFO_V1(prebuild_pool_touched);
PG_FUNCTION_INFO_V1(prebuild_pool_touched_by_name);

/*
 * Raise object_not_in_prerequisite_state unless the log has the n columns that this library writes,
 * and any further columns of a newer script may be NULL. No entry may be lost or wrong.
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
				 errmsg("columns of table prebuild_pool_log do not match the loaded library"),
				 errhint(VERSIONS_HINT)));
}

/* Append one entry. kind: as in the table's column. Raises what require_columns() raises. */
static void
append(FunctionCallInfo fcinfo, char kind, const pg_uuid_t *id)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Oid log = get_relname_relid("prebuild_pool_log", get_func_namespace(fcinfo->flinfo->fn_oid));
	Relation relation = OidIsValid(log) ? try_relation_open(log, RowExclusiveLock) : NULL;
	ResultRow row;
	HeapTuple entry;

	/* without the log no reader trusts the stored pool, so let the application go on */
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

/* Does this column of a row of workspaces hold the system user's id? */
static bool
is_systems(const TriggerData *trigger, TupleTableSlot *row, int column)
{
	const pg_uuid_t *owner = trigger_id(trigger, row, column);

	return owner != NULL && id_is_system_user(owner);
}

/*
 * When an agent was seen last, of a row of workspace_agents; DT_NOEND if it has never been connected.
 * times: the columns AGENT_TIMES. Like AGENT_SEEN_AT in pool_sql.h. Raises nothing.
 */
static TimestampTz
seen_at(TupleTableSlot *row, const int16 *times)
{
	TimestampTz latest = DT_NOBEGIN;

	if (slot_attisnull(row, times[0]))
		return DT_NOEND;
	for (int i = 0; i < NUMBER_OF_AGENT_TIMES; i++)
	{
		bool null;
		Datum time = slot_getattr(row, times[i], &null);

		if (!null)
			latest = Max(latest, DatumGetTimestampTz(time));
	}
	return latest;
}

/*
 * After an update, has an agent been seen less lately than before? times: the columns AGENT_TIMES. If
 * they are of another type, any change may mean that.
 */
static bool
is_seen_earlier(const TriggerData *trigger, const WatchedColumns *watched, const int16 *times)
{
	TupleDesc columns = RelationGetDescr(trigger->tg_relation);

	for (int i = 0; i < NUMBER_OF_AGENT_TIMES; i++)
		if (TupleDescAttr(columns, times[i] - 1)->atttypid != TIMESTAMPTZOID)
			return trigger_columns_changed(trigger, watched, watched->n);
	return seen_at(trigger->tg_newslot, times) < seen_at(trigger->tg_trigslot, times);
}

/* Has an update changed what the pool depends on? kind: see prebuild_pool_touched(). */
static bool
is_changed(const TriggerData *trigger, const char *kind, const WatchedColumns *watched)
{
	int others = watched->n - NUMBER_OF_AGENT_TIMES;

	if (strcmp(kind, KIND_OF_AGENT) != 0 || others <= 0)
		return trigger_columns_changed(trigger, watched, watched->n);
	return trigger_columns_changed(trigger, watched, others) ||
		   is_seen_earlier(trigger, watched, watched->columns + others);
}

/* Log a row. argument: the kind, see prebuild_pool_touched(). */
static void
log_row(FunctionCallInfo fcinfo, const char *argument, const WatchedColumns *watched)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool updated = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	char kind = argument[0];
	const pg_uuid_t *id;
	const pg_uuid_t *new_id;

	if (kind == 'p')
	{
		if (!is_systems(trigger, trigger->tg_trigslot, watched->columns[1]) &&
			!(updated && is_systems(trigger, trigger->tg_newslot, watched->columns[1])))
			return;
		kind = 'w';
	}
	if (updated && !is_changed(trigger, argument, watched))
		return;

	id = trigger_id(trigger, trigger->tg_trigslot, watched->columns[0]);
	if (id != NULL)
		append(fcinfo, kind, id);
	new_id = updated ? trigger_id(trigger, trigger->tg_newslot, watched->columns[0]) : NULL;
	if (new_id != NULL && (id == NULL || memcmp(id, new_id, sizeof(*id)) != 0))
		append(fcinfo, kind, new_id);
}

/* Log only that something has changed, without saying what. */
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
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("%s() must be called by a trigger that prebuild_attach() created", function)));
}

/*
 * Trigger: log the row. Runs after each row of the tables that attached_triggers.c lists. The
 * argument is the kind of the id: workspace, job or resource, or pool for the ids of workspaces
 * themselves, of which it logs only the system user's. With KIND_OF_AGENT, the trigger's last columns
 * are AGENT_TIMES. The first of the trigger's columns holds the id.
 *
 * After a TRUNCATE, log only that something has changed. The fingerprint does not show a TRUNCATE
 * if the same transaction made the table's file, because then the table keeps the file.
 */
Datum
prebuild_pool_touched(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		log_anything(fcinfo);
	else if (called_for_row(fcinfo, 1, 1, 2))
		log_row(fcinfo, trigger->tg_trigger->tgargs[0], trigger_watched(fcinfo, false));
	else
		not_attached("prebuild_pool_touched");
	return PointerGetDatum(NULL);
}

/*
 * Trigger: the same on every update, with the names of the columns as further arguments. If a
 * column is missing, the trigger cannot compare rows, so it logs only that something has changed.
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
		log_row(fcinfo, trigger->tg_trigger->tgargs[0], watched);
	else
		log_anything(fcinfo);
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(prebuild_pool_not_replicated);

/*
 * Trigger: skip the rows of another server's kept pool, which a publication of all tables includes.
 * They would collide with our own rows, because our triggers fire for the replicated tables. Runs
 * before each row, in sessions that replay a replication stream.
 */
Datum
prebuild_pool_not_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_pool_not_replicated() must be called by a BEFORE trigger "
							   "for each row")));
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
																	  : trigger->tg_trigtuple);
}
