/*
 * pool_view.c
 *	  The kept pool as its readers see it: the stored rows of the members that nobody touched since
 *	  the last fold, and the others as the tables have them now. All of it in the active snapshot.
 *
 *	  Locks: readers lock nothing. A reader in SERIALIZABLE reads the tables, so that it never
 *	  conflicts with a writer of the log. In REPEATABLE READ, a transaction that has written reads
 *	  the tables, because it may have written after the triggers of its snapshot were gone. In READ
 *	  COMMITTED, the lock that it takes on the table to write keeps the triggers as they were.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "catalog/control_plane_catalog.h"
#include "base/plans.h"
#include "pool/member_columns.h"
#include "pool/pool_touched.h"
#include "pool/pool_trust.h"
#include "pool/pool_view.h"
#include "settings.h"

/* Reason: a fold will make the stored pool trusted again. */
#define NOT_BUILT                                                                                  \
	"it was not built from the current tables; the next pass or prebuild_fold() rebuilds it"

/* The view that pool_view_keep() keeps, and its snapshot, or NULL. */
static struct
{
	Snapshot snapshot;
	PoolView view;
} kept;

PG_FUNCTION_INFO_V1(prebuild_verify);

/*
 * Return the view of a stored pool that has just been folded: all stored rows, and no member that
 * was touched since. The result is palloc'd in the current context.
 */
PoolView
pool_view_of_fold(Oid control_plane)
{
	Oid type = pool_member_type();
	PoolView view = {
		.argtypes = { OIDOID, UUIDARRAYOID, get_array_type(type) },
		.values = { ObjectIdGetDatum(control_plane),
					PointerGetDatum(construct_empty_array(UUIDOID)),
					PointerGetDatum(construct_empty_array(type)) },
	};

	return view;
}

/*
 * Have readers in the active snapshot use this view, without a look at fingerprint and log. The
 * caller calls pool_view_forget() before it gives up the snapshot or the memory of the view.
 *
 * pool_state_fold_for_pass() returns such a view, for its snapshot F with the changes of the fold
 * itself added: F'. That is exact, and what F' says of fingerprint and log needs no statement:
 *
 *	1. F' sees of other transactions what F saw. So changes and DDL that were committed since do not
 *	   count, as for every reader whose snapshot is from before them.
 *	2. In between, this transaction changed nothing but the stored pool and its log. So tables,
 *	   triggers and fingerprint are the same in F and F', and the fold stored that fingerprint or
 *	   found it stored.
 *	3. The fold stored what F says of all members that were touched, and deleted all entries that F
 *	   sees. So the stored rows are those of F', and the log has no entry in F'.
 *	4. What snapshots do not show is a TRUNCATE, a table that is written anew, and another table of
 *	   the same name. The fold's pool_tables_hold() took locks before F that keep these out.
 */
void
pool_view_keep(const PoolView *view)
{
	kept.snapshot = GetActiveSnapshot();
	kept.view = *view;
}

/* Forget the view of pool_view_keep(), if there is one. Raises nothing. */
void
pool_view_forget(void)
{
	kept.snapshot = NULL;
}

/* Is the kept view one of the active snapshot and of the present control plane? */
static bool
is_kept(void)
{
	return kept.snapshot != NULL && kept.snapshot == GetActiveSnapshot() &&
		   DatumGetObjectId(kept.view.values[0]) ==
			   get_namespace_oid(setting_control_plane_schema, true);
}

/*
 * Do what pool_view_open() says. If the stored pool cannot be used, *reason receives the reason,
 * as the end of a sentence, or NULL if there is no fingerprint: then pool_view_distrust_reason()
 * knows more.
 */
static bool
open_view(PoolView *view, const char **reason)
{
	PoolTrust trust;
	Touched touched;

	if (XactIsoLevel == XACT_SERIALIZABLE)
		*reason = "the transaction is SERIALIZABLE";
	else if (!pool_member_known())
		*reason =
			"the loaded library and the installed version of the extension define pool members "
			"differently";
	else if (!pool_tables_readable())
		*reason = "the current role may not read all rows of its tables";
	else if (!pool_tables_at_rest())
		*reason = "a statement of this session is changing its tables";
	/* the triggers that logged its writes may not be the ones that its snapshot sees */
	else if (IsolationUsesXactSnapshot() && TransactionIdIsValid(GetTopTransactionIdIfAny()))
		*reason = "the transaction is REPEATABLE READ and has written";
	else if (is_kept())
	{
		*view = kept.view;
		return true;
	}
	else if (!(trust = pool_trust()).trusted)
		*reason = trust.fingerprint != NULL ? NOT_BUILT : NULL;
	else if (!pool_touched_find(&trust, POOL_FEW_ENTRIES + trust.members / 2, &touched))
		*reason = "too much has changed since the last fold";
	else
	{
		view->argtypes[0] = OIDOID;
		view->values[0] = ObjectIdGetDatum(trust.control_plane);
		view->argtypes[1] = UUIDARRAYOID;
		view->values[1] = touched.ids;
		view->argtypes[2] = touched.array_type;
		view->values[2] = touched.members;
		return true;
	}
	return false;
}

/*
 * Open the stored pool in the active snapshot. Returns false if it cannot be used or is not worth
 * it; then read the tables, which give the same answers. SPI must be connected. The view is
 * palloc'd in the current context.
 */
bool
pool_view_open(PoolView *view)
{
	const char *reason;

	return open_view(view, &reason);
}

/*
 * Find out why no reader uses the stored pool of the control plane. Returns the reason as the end
 * of a sentence, or NULL if readers use it or the control plane is not attached. *hint receives
 * what to do about it, or NULL. Reads only catalogs and own tables, with the rights of the
 * extension's owner, in the active snapshot. SPI must be connected (plans_enter()). Results are
 * palloc'd in the current context.
 */
const char *
pool_view_distrust_reason(char **hint)
{
	PoolTrust trust;

	*hint = NULL;
	if (!OidIsValid(get_namespace_oid(setting_control_plane_schema, true)))
		return NULL;
	trust = pool_trust();
	if (trust.trusted)
		return NULL;
	return trust.fingerprint != NULL ? NOT_BUILT : pool_trust_fault(trust.control_plane, hint);
}

/*
 * Report that there is nothing to compare, and why: as a WARNING if an operator has to act,
 * otherwise as a NOTICE. reason: from open_view().
 */
static void
say_not_in_use(const char *reason)
{
	char *hint = NULL;
	const char *fault = reason ? NULL : pool_view_distrust_reason(&hint);

	ereport(
		fault ? WARNING : NOTICE,
		(errcode(fault ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_SUCCESSFUL_COMPLETION),
		 errmsg("the stored pool of the control plane in schema \"%s\" is not in use: %s",
				setting_control_plane_schema,
				fault	 ? fault
				: reason ? reason
						 : "the control plane is not attached"),
		 errdetail("The extension reads the control plane's tables instead."),
		 hint ? errhint("%s", hint) : 0));
}

/*
 * All of a row of prebuild_pool_member except the columns of kind BOUND, and whether one of these
 * is stored as a later time than it is.
 */
#define KEPT_OF_M(name, type, value, field) ", m." #name
#define KEPT_OF_D(name, type, value, field) ", d." #name
#define NOT_EXACT(name, type, value, field)
#define EXACT_OF_M                                                                                 \
	"ROW(m.control_plane, m.id" MEMBER_COLUMNS(KEPT_OF_M, KEPT_OF_M, KEPT_OF_M, NOT_EXACT,         \
											   NOT_KEPT) ")"
#define EXACT_OF_D                                                                                 \
	"ROW(d.control_plane, d.id" MEMBER_COLUMNS(KEPT_OF_D, KEPT_OF_D, KEPT_OF_D, NOT_EXACT,         \
											   NOT_KEPT) ")"
#define OR_PASSED(name, type, value, field)                                                        \
	" OR COALESCE(m." #name ", 'infinity') {>} COALESCE(d." #name ", 'infinity')"
#define IS_DIFFERENT                                                                               \
	EXACT_OF_M " IS DISTINCT FROM " EXACT_OF_D MEMBER_COLUMNS(NOT_EXACT, NOT_EXACT, NOT_EXACT,     \
															  OR_PASSED, NOT_KEPT)

/* SQL: prebuild_verify() */
Datum
prebuild_verify(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *reason;
	PoolView view;
	Touched all;
	Oid argtypes[4];
	Datum values[4];

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	if (open_view(&view, &reason))
	{
		pool_touched_all(DatumGetObjectId(view.values[0]), &all);
		memcpy(argtypes, view.argtypes, sizeof(view.argtypes));
		memcpy(values, view.values, sizeof(view.values));
		argtypes[3] = all.array_type;
		values[3] = all.members;
		plan_into_set(&plan,
					  "SELECT COALESCE(m.id, d.id), m::{ext}prebuild_pool_member,"
					  " d::{ext}prebuild_pool_member FROM" STORED_MEMBERS
					  " FULL JOIN pg_catalog.unnest($4) AS d ON d.id {=} m.id"
					  " WHERE " IS_DIFFERENT " ORDER BY 1",
					  PLAN_READ_OWN, 4, argtypes, values, NULL, rsinfo);
	}
	else
		say_not_in_use(reason);
	plans_leave();
	return (Datum) 0;
}
