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

/* Let folds mend the triggers. _PG_init calls this once. */
void
attach_init(void)
{
	pool_state_mend_triggers = attach_mend;
}

PG_FUNCTION_INFO_V1(prebuild_attach);

/*
 * SQL: prebuild_attach(metadata_fanout boolean, guard_claims boolean). metadata_fanout NULL: on,
 * unless this is a Coder database. Each call replaces the previous configuration.
 */
Datum
prebuild_attach(PG_FUNCTION_ARGS)
{
	uint32 options = ATTACH_BASE;

	plans_enter(fcinfo);
	/* report what is missing here, because a trigger would report it less clearly */
	control_plane_require();
	identity_tables_require();
	if (PG_ARGISNULL(0) ? !control_plane_is_coder() : PG_GETARG_BOOL(0))
		options |= ATTACH_FANOUT;
	if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1))
		options |= ATTACH_GUARD;
	/* if our snapshot is older than the locks, the next pass builds the stored pool */
	if (attach_apply(options) && !IsolationUsesXactSnapshot())
		pool_state_fold();
	plans_leave();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(prebuild_detach);

/* SQL: prebuild_detach(). */
Datum
prebuild_detach(PG_FUNCTION_ARGS)
{
	plans_enter(fcinfo);
	if (attach_apply(0))
		pool_state_forget();
	plans_leave();
	PG_RETURN_VOID();
}
