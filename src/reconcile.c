/*
 * reconcile.c
 *	  The pass: make a judgement true in one transaction.
 *
 *	  Locks: advisory lock 7 of the database, transaction-wide, which every reconciler of the
 *	  control plane takes; never waited for. The snapshot of the pass is taken after it, so that
 *	  the pass sees all that the previous holder has committed.
 *
 *	  Faults: all presets are written in one subtransaction. When that fails, the presets are
 *	  halved until the faulty one alone is rolled back and reported. What is not the fault of a
 *	  preset (a cancel, a deadlock, a missing right) ends the whole pass without a trace.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "judgement.h"
#include "membership.h"
#include "pass_stats.h"
#include "pause.h"
#include "plans.h"
#include "provision.h"
#include "rows.h"
#include "status.h"

/* The reconcilers' lock, the same for all of them. */
#define RECONCILE_LOCK INT64CONST(7)

PG_FUNCTION_INFO_V1(prebuild_reconcile);

/* A pass under way. */
typedef struct Pass
{
	Judgement *judgement;
	int64_t clock; /* time of the next new row */
	MemoryContext context;
	int npresets; /* presets with something to do */
	PassTotals totals;
	int reconciled;
	int backing_off;
	int failed;
	bool paused;
} Pass;

/*
 * True for an error that may be the fault of one preset: bad values, constraints, whatever
 * triggers raise. The others are nobody's fault, or everybody's: they end the pass.
 */
static bool
may_be_one_presets_fault(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return false;
		default:
			return sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE &&
				   sqlstate != ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

/*
 * Write some presets in a subtransaction. Returns NULL, or the error that undid it and that may
 * be the fault of one of them; other errors are raised.
 */
static ErrorData *
try_presets(Pass *pass, const int *presets, int npresets)
{
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(pass->context);
	PG_TRY();
	{
		PassTotals totals = provision_presets(pass->judgement, presets, npresets, &pass->clock);

		status_write(pass->judgement, presets, npresets);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(pass->context);
		CurrentResourceOwner = owner;
		pass->totals.created += totals.created;
		pass->totals.deleted += totals.deleted;
		pass->totals.canceled += totals.canceled;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(pass->context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(pass->context);
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
	if (error != NULL && !may_be_one_presets_fault(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/* Report a preset that was rolled back. */
static void
report_failure(Pass *pass, int preset, const ErrorData *error)
{
	const PresetInfo *info = &pass->judgement->snapshot->info[preset];

	pass->failed++;
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("preset \"%s\" of template \"%s\" failed and was left as it is: %s",
							 info->name, info->template_name, error->message),
					  error->detail ? errdetail("%s", error->detail) : 0));
	status_write_failure(pass->judgement, preset, error->message);
}

/* Write some presets, halving them on faults until only the faulty ones are left out. */
static void
write_presets(Pass *pass, const int *presets, int npresets)
{
	ErrorData *error = npresets > 0 ? try_presets(pass, presets, npresets) : NULL;

	CHECK_FOR_INTERRUPTS();
	if (error == NULL)
		pass->reconciled += npresets;
	else if (npresets == 1)
		report_failure(pass, presets[0], error);
	else
	{
		write_presets(pass, presets, npresets / 2);
		write_presets(pass, presets + npresets / 2, npresets - npresets / 2);
	}
}

/* The presets for which the pass has something to write; returns their number. */
static int
presets_with_work(Pass *pass, int *presets)
{
	const Judgement *judgement = pass->judgement;
	const PoolSnapshot *pool = &judgement->snapshot->pool;
	int n = 0;

	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];

		pass->backing_off += preset->backing_off;
		if (preset->nactions > 0 || preset->create > 0 || status_has_changed(judgement, i))
			presets[n++] = i;
	}
	return n;
}

/* Run the pass, the lock being held and the active snapshot taken after it. */
static void
run_pass(Pass *pass, TimestampTz at)
{
	const PoolSnapshot *pool;
	int *presets;
	int npresets;

	control_plane_require();
	pass->paused = pause_is_on();
	if (pass->paused)
		return;
	pass->judgement = judgement_make(at);
	pool = &pass->judgement->snapshot->pool;
	membership_ensure(pool, at);
	presets = palloc_array(int, pool->npresets + 1);
	npresets = presets_with_work(pass, presets);
	write_presets(pass, presets, npresets);
	pass->npresets = pool->npresets;
	status_write_summary(at, pass->totals.created, pass->totals.deleted, pass->totals.canceled,
						 pass->failed);
}

/* The result row of prebuild_reconcile(). */
static Datum
result_row(FunctionCallInfo fcinfo, const Pass *pass, bool locked, TimestampTz began)
{
	const int counts[] = { pass->npresets,		 pass->reconciled,		pass->totals.created,
						   pass->totals.deleted, pass->totals.canceled, pass->backing_off,
						   pass->failed };
	Datum values[10];
	bool nulls[10] = { 0 };
	TupleDesc descriptor;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(locked);
	values[1] = BoolGetDatum(pass->paused);
	for (size_t i = 0; i < lengthof(counts); i++)
		values[2 + i] = Int32GetDatum(counts[i]);
	values[9] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
									TimestampTzGetDatum(began));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

/* prebuild_reconcile(at timestamptz): one pass */
Datum
prebuild_reconcile(PG_FUNCTION_ARGS)
{
	TimestampTz at = argument_time(fcinfo, 0, "at");
	TimestampTz began = GetCurrentTimestamp();
	Pass pass = { .clock = at };
	bool locked;

	PreventCommandIfReadOnly("prebuild_reconcile()");
	if (IsolationUsesXactSnapshot())
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("prebuild_reconcile() cannot run in a transaction of isolation level %s",
					XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
			 errhint("A pass has to see what was committed before it took its lock. Run it in a "
					 "READ COMMITTED transaction.")));

	locked = DatumGetBool(
		DirectFunctionCall1(pg_try_advisory_xact_lock_int8, Int64GetDatum(RECONCILE_LOCK)));
	if (locked)
	{
		plans_enter(fcinfo);
		pass.context = CurrentMemoryContext;
		PushActiveSnapshot(GetTransactionSnapshot());
		run_pass(&pass, at);
		if (!pass.paused)
			pass_stats_add(GetCurrentTimestamp() - began);
		PopActiveSnapshot();
		plans_leave();
	}
	return result_row(fcinfo, &pass, locked, began);
}
