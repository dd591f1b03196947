/*
 * pool_members.c
 *	  The reader of the pool. Reads members with their latest builds from the tables or from the
 *	  kept pool; also has the SQL functions that list members.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "pool/pool_members.h"
#include "pool/pool_sql.h"
#include "pool/pool_state.h"

PG_FUNCTION_INFO_V1(prebuild_running);
PG_FUNCTION_INFO_V1(prebuild_pool);

/*
 * Put the running prebuilds of a view of the stored pool into a result set. preset_id: NULL for all
 * presets.
 */
static void
stored_running(const PoolView *view, const Datum *preset_id, ReturnSetInfo *set)
{
	static KeptPlan all_plan, one_plan;
	Oid argtypes[] = { view->argtypes[0], view->argtypes[1], view->argtypes[2], UUIDOID };
	Datum values[] = { view->values[0], view->values[1], view->values[2],
					   preset_id != NULL ? *preset_id : (Datum) 0 };

#define STORED_RUNNING                                                                             \
	"SELECT m.id, m.name, m.template_id, m.template_version_id, m.current_preset_id, m.ready,"     \
	" m.created_at FROM" STORED_MEMBERS " WHERE " STORED_IS_RUNNING

	if (preset_id == NULL)
		plan_into_set(&all_plan, STORED_RUNNING " ORDER BY m.id", PLAN_READ_OWN, 3, argtypes,
					  values, NULL, set);
	else
		plan_into_set(&one_plan, STORED_RUNNING " AND m.current_preset_id {=} $4 ORDER BY m.id",
					  PLAN_READ_OWN, 4, argtypes, values, NULL, set);
}

/* Put the running prebuilds into a result set. preset_id: NULL for all presets. */
static void
list_running(const Datum *preset_id, ReturnSetInfo *set)
{
	static KeptPlan all_plan, one_plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[1];
	PoolView view;

#define RUNNING_COLUMNS                                                                            \
	"w.id::pg_catalog.uuid, w.name::pg_catalog.text, w.template_id::pg_catalog.uuid,"              \
	" b.template_version_id::pg_catalog.uuid, " CURRENT_PRESET " AS current_preset_id, " IS_READY  \
	" AS ready, w.created_at::pg_catalog.timestamptz"
#define RUNNING "SELECT " RUNNING_COLUMNS POOL_WITH_LATEST_BUILD " AND " IS_RUNNING

	control_plane_require();
	if (pool_state_view(&view))
		stored_running(&view, preset_id, set);
	else if (preset_id == NULL)
		plan_into_set(&all_plan, RUNNING " ORDER BY w.id", PLAN_READ, 0, NULL, NULL, NULL, set);
	else
	{
		values[0] = *preset_id;
		plan_into_set(&one_plan, RUNNING " AND " CURRENT_PRESET " {=} $1 ORDER BY w.id", PLAN_READ,
					  1, argtypes, values, NULL, set);
	}
}

/* Put every pool member, running or not, into a result set for operators. */
static void
list_pool(ReturnSetInfo *set)
{
	static KeptPlan plan;

	control_plane_require();
	plan_into_set(
		&plan,
		"SELECT m.id, m.name, m.template_id, t.name::pg_catalog.text, m.template_version_id,"
		" m.build_number, m.transition, m.job_status, m.current_preset_id,"
		" p.name::pg_catalog.text, m.ready, m.created_at, m.build_created_at, m.started_at,"
		" m.completed_at"
		" FROM (SELECT w.id::pg_catalog.uuid AS id, w.name::pg_catalog.text AS name,"
		" w.template_id::pg_catalog.uuid AS template_id,"
		" b.template_version_id::pg_catalog.uuid AS template_version_id,"
		" b.build_number::pg_catalog.int4 AS build_number,"
		" b.transition::pg_catalog.text AS transition,"
		" b.job_status::pg_catalog.text AS job_status, " CURRENT_PRESET " AS current_preset_id,"
		" " IS_READY " AS ready, w.created_at::pg_catalog.timestamptz AS created_at,"
		" b.created_at::pg_catalog.timestamptz AS build_created_at,"
		" b.started_at::pg_catalog.timestamptz AS started_at,"
		" b.completed_at::pg_catalog.timestamptz AS completed_at" POOL_JOIN_LATEST_BUILD(
			"LEFT") ") m"
					" LEFT JOIN {cp}templates t ON t.id {=} m.template_id"
					" LEFT JOIN {cp}template_version_presets p ON p.id {=} m.current_preset_id"
					" ORDER BY m.id",
		PLAN_READ, 0, NULL, NULL, NULL, set);
}

/* prebuild_running(preset_id uuid): the running prebuilds, of one preset or of all (NULL) */
Datum
prebuild_running(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum preset_id = PG_GETARG_DATUM(0);

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	list_running(PG_ARGISNULL(0) ? NULL : &preset_id, rsinfo);
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
	list_pool(rsinfo);
	plans_leave();
	return (Datum) 0;
}

static JobStatus
parse_job_status(const char *status)
{
	static const char *const names[] = { "pending",	  "running",  "succeeded",
										 "canceling", "canceled", "failed" };

	for (size_t i = 0; i < lengthof(names); i++)
		if (strcmp(status, names[i]) == 0)
			return (JobStatus) i;
	return JOB_UNKNOWN;
}

static Transition
parse_transition(const char *transition)
{
	static const char *const names[] = { "start", "stop", "delete" };

	for (size_t i = 0; i < lengthof(names); i++)
		if (strcmp(transition, names[i]) == 0)
			return (Transition) i;
	return TRANSITION_OTHER;
}

/*
 * Run the query for every pool member that has a build, on the tables or on a view of the stored
 * pool. Leaves the rows in SPI_tuptable and returns their number.
 */
static uint64
ask_for_members(void)
{
	static KeptPlan plan, stored_plan;
	PoolView view;

	if (pool_state_view(&view))
		return plan_execute(
			&stored_plan,
			"SELECT m.id, m.created_at, m.template_version_id, m.build_id, m.job_id,"
			" m.build_created_at, m.build_number, m.transition, m.job_status, m.by_system_user,"
			" m.job_unclaimed, CASE WHEN " STORED_IS_RUNNING " THEN m.ready ELSE false END,"
			" m.build_preset_id, m.current_preset_id FROM" STORED_MEMBERS
			" WHERE m.build_id IS NOT NULL ORDER BY m.id",
			PLAN_READ_OWN, 3, view.argtypes, view.values, NULL);
	return plan_execute(
		&plan,
		"SELECT w.id::pg_catalog.uuid, w.created_at::pg_catalog.timestamptz,"
		" b.template_version_id::pg_catalog.uuid, b.id::pg_catalog.uuid,"
		" b.job_id::pg_catalog.uuid, b.created_at::pg_catalog.timestamptz,"
		" b.build_number::pg_catalog.int4, b.transition::pg_catalog.text,"
		" b.job_status::pg_catalog.text,"
		" b.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid,"
		" " IS_UNCLAIMED ","
		" CASE WHEN " IS_RUNNING " THEN " IS_READY " ELSE false END,"
		" b.template_version_preset_id::pg_catalog.uuid, " CURRENT_PRESET POOL_WITH_LATEST_BUILD
		" ORDER BY w.id",
		PLAN_READ, 0, NULL, NULL, NULL);
}

/* Read the preset in a column of a member's row. Returns false for NULL. */
static bool
preset_column(uint64 row, int number, Id *preset)
{
	bool isnull;
	Datum value = row_value(row, number, &isnull);

	if (!isnull)
		memcpy(preset->bytes, DatumGetUUIDP(value)->data, UUID_LEN);
	return !isnull;
}

/*
 * Read every pool member that has a build, with its latest build, in the active snapshot, ordered
 * by id. *n receives their number. Fields that others fill are zero. SPI must be connected. The
 * result is palloc'd in the current context.
 */
PoolMember *
pool_members_read(int *n)
{
	uint64 rows = ask_for_members();
	PoolMember *members = palloc0_array(PoolMember, rows + 1);

	for (uint64 i = 0; i < rows; i++)
	{
		PoolMember *member = &members[i];

		member->id = row_id(i, 1);
		member->created_at = DatumGetTimestampTz(row_get(i, 2));
		member->template_version_id = row_id(i, 3);
		member->build_id = row_id(i, 4);
		member->job_id = row_id(i, 5);
		member->build_created_at = DatumGetTimestampTz(row_get(i, 6));
		member->build_number = DatumGetInt32(row_get(i, 7));
		member->transition = parse_transition(row_text(i, 8));
		member->job_status = parse_job_status(row_text(i, 9));
		member->by_system_user = DatumGetBool(row_get(i, 10));
		member->job_unclaimed = DatumGetBool(row_get(i, 11));
		member->ready = DatumGetBool(row_get(i, 12));
		member->has_build_preset = preset_column(i, 13, &member->build_preset_id);
		member->has_current_preset = preset_column(i, 14, &member->current_preset_id);
	}
	SPI_freetuptable(SPI_tuptable);
	*n = (int) rows;
	return members;
}
