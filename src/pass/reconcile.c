/*
 * reconcile.c
 *	  prebuild_reconcile(): one pass in the caller's transaction. pass.c has its steps.
 *
 *	  Locks: advisory lock 7 of the database, for the transaction. Every reconciler of the control
 *	  plane takes this lock, and a pass never waits for it. The pass takes its snapshot after the
 *	  lock, so that it sees everything that the previous holder committed, and after it has locked
 *	  the tables of the pool (pool_tables_lock()), which a snapshot from before might find empty.
 *
 *	  A pass that wrote something keeps the lock for a moment after its commit: see lock_linger.c.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/patience.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "catalog/control_plane_catalog.h"
#include "pass/lock_linger.h"
#include "pass/pass.h"
#include "pass/pass_lock.h"
#include "pass/pause.h"
#include "pool/pool_state.h"

PG_FUNCTION_INFO_V1(prebuild_reconcile);

/*
 * True during a pass. The lock does not stop a trigger in this session from starting another pass.
 */
static bool in_pass = false;

/* Has a pass of this session begun and not ended? Then a trigger or a rule runs. */
bool
pass_is_under_way(void)
{
	return in_pass;
}

/* Run the pass with its own snapshot and patience. The caller holds the lock. */
static void
run_locked(FunctionCallInfo fcinfo, Pass *pass)
{
	int guc_level = NewGUCNestLevel();

	patience_begin(PASS_PATIENCE_MS);
	PG_TRY();
	{
		patience_arm();
		plans_enter(fcinfo);
		initStringInfo(&pass->left);
		control_plane_require();
		pass_refresh_pool(pass);
		pass_run(pass);
		/* last, because it locks tables; the next pass builds the stored pool */
		pool_state_mend();
		PopActiveSnapshot();
		plans_leave();
	}
	PG_FINALLY();
	{
		pool_view_forget();
		patience_end();
	}
	PG_END_TRY();
	AtEOXact_GUC(true, guc_level);
	if (pass->totals.created + pass->totals.deleted + pass->totals.canceled > 0)
		lock_linger_after_commit();
}

/* The result row of prebuild_reconcile(). */
static Datum
result_row(FunctionCallInfo fcinfo, const Pass *pass, bool locked)
{
	const int counts[] = { pass->njudged,		 pass->reconciled,		pass->totals.created,
						   pass->totals.deleted, pass->totals.canceled, pass->backing_off,
						   pass->failed };
	ResultRow row;

	row.n = 0;
	result_put_bool(&row, locked);
	result_put_bool(&row, pass->paused);
	for (size_t i = 0; i < lengthof(counts); i++)
		result_put_int4(&row, counts[i]);
	result_put(&row, INTERVALOID,
			   DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
								   TimestampTzGetDatum(pass->began)));
	return result_row_datum(fcinfo, &row);
}

/* prebuild_reconcile(at timestamptz): one pass */
Datum
prebuild_reconcile(PG_FUNCTION_ARGS)
{
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	Pass pass = { .at = at, .clock = at, .began = GetCurrentTimestamp() };
	bool locked;

	PreventCommandIfReadOnly("prebuild_reconcile()");
	if (IsolationUsesXactSnapshot())
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("prebuild_reconcile() cannot run in a transaction of isolation level %s",
					XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
			 errhint("A pass must see what was committed before it took its lock. Run it in a READ "
					 "COMMITTED transaction.")));

	locked = !in_pass && DatumGetBool(DirectFunctionCall1(pg_try_advisory_xact_lock_int8,
														  Int64GetDatum(RECONCILE_LOCK)));
	if (locked)
	{
		in_pass = true;
		PG_TRY();
		{
			run_locked(fcinfo, &pass);
		}
		PG_FINALLY();
		{
			in_pass = false;
		}
		PG_END_TRY();
	}
	return result_row(fcinfo, &pass, locked);
}
