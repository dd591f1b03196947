/*
 * attach.c
 *	  SQL functions prebuild_attach() and prebuild_detach().
 */
#include "compat.h"

#include "access/xact.h"

#include "attach/attach.h"
#include "attach/attach_locks.h"
#include "catalog/control_plane_catalog.h"
#include "identity/identity_tables.h"
#include "base/plans.h"
#include "pool/pool_state.h"

/* Let folds put triggers right. Called once, from _PG_init. */
void
attach_init(void)
{
	pool_state_mend_triggers = attach_mend;
}

PG_FUNCTION_INFO_V1(prebuild_attach);

/*
 * SQL: prebuild_attach(metadata_fanout boolean, guard_claims boolean). metadata_fanout NULL: not
 * in a Coder database. What is not asked for is taken off.
 */
Datum
prebuild_attach(PG_FUNCTION_ARGS)
{
	AttachOptions options = { 0 };

	plans_enter(fcinfo);
	/* what a trigger would not find has a better name here */
	control_plane_require();
	identity_tables_require();
	options.metadata_fanout = PG_ARGISNULL(0) ? !control_plane_is_coder() : PG_GETARG_BOOL(0);
	options.guard_claims = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	/* in an older snapshot than that of the locks the next pass builds the stored pool */
	if (attach_apply(&options) && !IsolationUsesXactSnapshot())
		pool_state_fold(true);
	plans_leave();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(prebuild_detach);

/* SQL: prebuild_detach(). */
Datum
prebuild_detach(PG_FUNCTION_ARGS)
{
	plans_enter(fcinfo);
	if (attach_apply(NULL))
		pool_state_forget();
	plans_leave();
	PG_RETURN_VOID();
}
