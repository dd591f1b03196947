/*
 * claim_guard.c
 *	  The guard of claims by plain SQL: a trigger that lets a statement give away a prebuild only if
 *	  no other claim or build came first.
 *
 *	  Such a statement picks its prebuild by its snapshot and locks nothing before it updates. In
 *	  READ COMMITTED, two of them may pick the same prebuild. The second waits for the first.
 *	  PostgreSQL then hands it the new version of the row and only checks that the id still matches,
 *	  so the second overwrites the owner. The guard compares what the statement saw with what is
 *	  there now. The statement's snapshot is the active one while its BEFORE triggers run; what is
 *	  there now is the latest version of the row, which is locked. The guard skips the row if the
 *	  statement saw a prebuild and, meanwhile,
 *	  - its owner has changed: another person, or an earlier request of the same person, has it;
 *	  - a build was added, such as a delete: it is no longer the workspace that was picked;
 *	  - another session is adding a build right now.
 *
 *	  The guard ignores a change of owner if the statement saw the workspace as a person's. An
 *	  UPDATE also skips a row that no longer matches. So a skipped statement finds no row, and its
 *	  client learns that there is no prebuild.
 *
 *	  Locks: the row, as FOR UPDATE does, without ever waiting. This lock conflicts with the key
 *	  share lock that the foreign key of builds takes. So nobody can add a build between the second
 *	  look and the end of the transaction. A builder that started from an older snapshot in
 *	  REPEATABLE READ, as coderd's do, fails when it gets to the row.
 */
#include "compat.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "base/id.h"
#include "catalog/control_plane_catalog.h"
#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"

/* An update of a row of workspaces, before it happens. */
typedef struct OwnerChange
{
	TriggerData *trigger;
	Datum workspace_id;
	bool from_pool; /* the system user owns the row's latest version */
	bool to_pool;	/* the system user would own the new version */
} OwnerChange;

/* What a snapshot shows of the workspace. */
typedef struct Sight
{
	bool in_pool;
	bool built;
	Id newest_build; /* where built */
} Sight;

/* Does the system user own a row? */
static bool
owned_by_system_user(Relation workspaces, HeapTuple row, AttrNumber owner_id)
{
	bool null;
	Datum owner = heap_getattr(row, owner_id, RelationGetDescr(workspaces), &null);

	return !null && id_is_system_user(DatumGetUUIDP(owner));
}

/* Read the update from the trigger. False for a row without an id, which is no workspace. */
static bool
read_change(TriggerData *trigger, OwnerChange *change)
{
	Relation workspaces = trigger->tg_relation;
	Oid table = RelationGetRelid(workspaces);
	AttrNumber id = control_plane_column_of_type(table, "id", UUIDOID, UUIDOID);
	AttrNumber owner_id = control_plane_column_of_type(table, "owner_id", UUIDOID, UUIDOID);
	bool null;

	change->trigger = trigger;
	change->workspace_id =
		heap_getattr(trigger->tg_trigtuple, id, RelationGetDescr(workspaces), &null);
	change->from_pool = owned_by_system_user(workspaces, trigger->tg_trigtuple, owner_id);
	change->to_pool = owned_by_system_user(workspaces, trigger->tg_newtuple, owner_id);
	return !null;
}

/* Does the statement's snapshot show the very version of the row that it updates? */
static bool
saw_this_version(const OwnerChange *change)
{
	Relation workspaces = change->trigger->tg_relation;
	TupleTableSlot *slot = table_slot_create(workspaces, NULL);
	bool seen = table_tuple_fetch_row_version(workspaces, &change->trigger->tg_trigtuple->t_self,
											  GetActiveSnapshot(), slot);

	ExecDropSingleTupleTableSlot(slot);
	return seen;
}

/*
 * Look at the workspace and its newest build, in the active snapshot or the latest one (mode).
 * Reads with the rights of the table's owner, as a foreign key does, because a user who may update
 * a workspace need not have the right to read its builds. Reads the tables in the trigger's schema,
 * whatever the session's settings. SPI is connected.
 */
static Sight
look(const OwnerChange *change, PlanMode mode)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Relation workspaces = change->trigger->tg_relation;
	char *schema = get_namespace_name(RelationGetNamespace(workspaces));
	char *query = psprintf("SELECT w.owner_id {=} '" SYSTEM_USER "'::pg_catalog.uuid,"
						   " (SELECT b.id::pg_catalog.uuid FROM %s b WHERE b.workspace_id {=} w.id"
						   "  ORDER BY b.build_number DESC LIMIT 1)"
						   " FROM %s w WHERE w.id {=} $1",
						   quote_qualified_identifier(schema, "workspace_builds"),
						   quote_qualified_identifier(schema, RelationGetRelationName(workspaces)));
	Datum values[] = { change->workspace_id };
	Sight sight = { 0 };
	Oid caller;
	int security_context;

	/* an error resets the user when it ends the (sub)transaction */
	GetUserIdAndSecContext(&caller, &security_context);
	SetUserIdAndSecContext(workspaces->rd_rel->relowner,
						   security_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	if (plan_execute(&plan, query, mode, 1, argtypes, values, NULL) > 0)
	{
		bool null;

		sight.in_pool = DatumGetBool(row_value(0, 1, &null)) && !null;
		(void) row_value(0, 2, &null);
		sight.built = !null;
		if (sight.built)
			sight.newest_build = row_id(0, 2);
	}
	SetUserIdAndSecContext(caller, security_context);
	SPI_freetuptable(SPI_tuptable);
	return sight;
}

/*
 * Keep others from adding builds until the end of the transaction. Returns false if another session
 * is adding one.
 */
static bool
lock_builds_out(const OwnerChange *change)
{
	Relation workspaces = change->trigger->tg_relation;
	TupleTableSlot *slot = table_slot_create(workspaces, NULL);
	TM_FailureData failure;
	TM_Result result = table_tuple_lock(workspaces, &change->trigger->tg_trigtuple->t_self,
										GetActiveSnapshot(), slot, GetCurrentCommandId(false),
										LockTupleExclusive, LockWaitSkip, 0, &failure);

	ExecDropSingleTupleTableSlot(slot);
	/* the update holds a lock on the row already: only a key share lock can conflict */
	return result != TM_WouldBlock;
}

/* Why the trigger must skip the row, or NULL. SPI is connected. */
static const char *
why_too_late(const OwnerChange *change)
{
	Sight seen = look(change, PLAN_READ);
	Sight now;

	if (!seen.in_pool)
		return NULL;
	if (!change->from_pool)
		return "Its owner has changed since the statement began.";
	if (!lock_builds_out(change))
		return "Another session has locked it for a foreign key, such as that of a new build.";
	now = look(change, PLAN_READ_LATEST);
	if (now.built != seen.built ||
		(now.built && memcmp(&now.newest_build, &seen.newest_build, sizeof(Id)) != 0))
		return "A build was added to it since the statement began.";
	return NULL;
}

PG_FUNCTION_INFO_V1(prebuild_claim_guard);

/*
 * Trigger, BEFORE UPDATE OF owner_id for each row: skip the row if the statement gives away a
 * prebuild that is no longer what the statement saw.
 */
Datum
prebuild_claim_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	OwnerChange change;
	const char *reason;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("prebuild_claim_guard() must be called by a BEFORE UPDATE trigger "
							   "for each row")));
	/* return early, at little cost, if this is no claim or cannot be too late */
	if (!read_change(trigger, &change) ||
		(change.from_pool ? change.to_pool : saw_this_version(&change)))
		return PointerGetDatum(trigger->tg_newtuple);

	plans_enter(fcinfo);
	reason = why_too_late(&change);
	if (reason != NULL)
		ereport(LOG, (errmsg("prebuilt workspace %s was not given away",
							 DatumGetCString(DirectFunctionCall1(uuid_out, change.workspace_id))),
					  errdetail("%s", reason)));
	plans_leave();
	return PointerGetDatum(reason == NULL ? trigger->tg_newtuple : NULL);
}
