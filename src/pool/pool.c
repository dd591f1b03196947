/*
 * pool.c
 *	  SQL functions that list the pool: prebuild_running() and prebuild_pool().
 */
#include "compat.h"

#include "decision/control_plane.h"
#include "base/plans.h"

PG_FUNCTION_INFO_V1(prebuild_running);
PG_FUNCTION_INFO_V1(prebuild_pool);

/* prebuild_running(preset_id uuid): the running prebuilds, of one preset where it is given */
Datum
prebuild_running(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum preset_id = PG_GETARG_DATUM(0);

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_running(PG_ARGISNULL(0) ? NULL : &preset_id, rsinfo);
	plans_leave();
	return (Datum) 0;
}

/* prebuild_pool(): every pool member with its latest build */
Datum
prebuild_pool(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_pool(rsinfo);
	plans_leave();
	return (Datum) 0;
}
