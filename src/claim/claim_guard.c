/*
 * claim_guard.c
 *	  The guard of claims that are made by plain SQL: a trigger that lets a statement give a
 *	  prebuild away only if nobody was faster.
 *
 *	  Such a statement picks its prebuild by its snapshot and locks nothing before it updates. In
 *	  READ COMMITTED two of them pick the same one; the second waits for the first, PostgreSQL hands
 *	  it the row as it is then and asks only whether the id still fits, and the second overwrites
 *	  the owner. The guard compares what the statement saw (by its snapshot, which is the active one
 *	  while its BEFORE triggers run) with what is there now (the row is locked, in its latest
 *	  version): it skips the row when the statement saw a prebuild, and meanwhile
 *	  - the owner has changed: somebody else, or an earlier request of the same person, has it;
 *	  - a build was added, such as a delete: it is not the workspace that was picked;
 *	  - somebody is adding a build right now.
 *	  A change of owner of what the statement saw as a person's own is none of the guard's business.
 *	  To skip is what an UPDATE does with a row that no longer fits: it finds no row, so whoever
 *	  wants a prebuild is told that there is none.
 *
 *	  Locks: the row as FOR UPDATE would, never waiting. It conflicts with the key share lock of the
 *	  foreign key of builds, so nothing is added between the second look and the end of the
 *	  transaction, and a builder that started from an older snapshot in REPEATABLE READ, as coderd's
 *	  do, fails when it comes to it.
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

/* An update of a row of workspaces, about to be made. */
typedef struct OwnerChange
{
	TriggerData *trigger;
	Datum workspace_id;
	bool from_pool; /* the row's latest version is the system user's */
	bool to_pool;	/* the new version would be */
} OwnerChange;

/* What a snapshot shows of the workspace. */
typedef struct Sight
{
	bool in_pool;
	bool built;
	Id newest_build; /* where built */
} Sight;

/* Is a row's owner the system user? */
static bool
owned_by_system_user(Relation workspaces, HeapTuple row, AttrNumber owner_id)
{
	bool null;
	Datum owner = heap_getattr(row, owner_id, RelationGetDescr(workspaces), &null);

	return !null && id_is_system_user(DatumGetUUIDP(owner));
}

/* What the trigger is about; false for a row without an id, which is no workspace. */
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

/* Does the statement's snapshot show the very version of the row that is to be updated? */
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
 * Look at the workspace and its newest build, in the active snapshot or the latest, with the
 * rights of the table's owner, as a foreign key does: whoever may update a workspace need not be
 * able to read its builds. The tables are those of the trigger, whatever the session's settings.
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

	/* an error resets it with its (sub)transaction */
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

/* Keep others from adding builds until the end of the transaction; false when somebody is at it. */
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
	/* the row is locked for the update already: only a key share lock can be in the way */
	return result != TM_WouldBlock;
}

/* Why the row must be left to somebody else, or NULL. SPI is connected. */
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
		return "Another session holds it for a foreign key, such as that of a new build.";
	now = look(change, PLAN_READ_LATEST);
	if (now.built != seen.built ||
		(now.built && memcmp(&now.newest_build, &seen.newest_build, sizeof(Id)) != 0))
		return "A build was added to it since the statement began.";
	return NULL;
}

PG_FUNCTION_INFO_V1(prebuild_claim_guard);

/*
 * Trigger: skip the row of a prebuild that the statement gives to somebody although it is not what
 * the statement saw any more. Before each row, on UPDATE OF owner_id.
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
						errmsg("prebuild_claim_guard() is called by BEFORE UPDATE triggers for "
							   "each row only")));
	/* what is no claim, or cannot be too late, costs next to nothing */
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
