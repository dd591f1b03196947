/*
 * pool_members.c
 *	  The reader of the pool. Reads members with their latest builds from the tables or from the
 *	  kept pool; also has the SQL functions that list members.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/datum.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "pool/pool_members.h"
#include "pool/pool_sql.h"
#include "pool/pool_view.h"

PG_FUNCTION_INFO_V1(prebuild_running);
PG_FUNCTION_INFO_V1(prebuild_pool);

/* The running prebuilds among members "m", and those of the preset in a parameter. */
#define RUNNING(members)                                                                           \
	"SELECT m.id, m.name, m.template_id, m.template_version_id, m.current_preset_id, m.ready,"     \
	" m.created_at FROM" members " WHERE " MEMBER_IS_RUNNING
#define IN_ORDER " ORDER BY m.id"
#define OF_PRESET(parameter) " AND m.current_preset_id {=} " parameter

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

	if (preset_id == NULL)
		plan_into_set(&all_plan, RUNNING(STORED_MEMBERS) IN_ORDER, PLAN_READ_OWN, 3, argtypes,
					  values, NULL, set);
	else
		plan_into_set(&one_plan, RUNNING(STORED_MEMBERS) OF_PRESET("$4") IN_ORDER, PLAN_READ_OWN, 4,
					  argtypes, values, NULL, set);
}

/* Put the running prebuilds into a result set. preset_id: NULL for all presets. */
static void
list_running(const Datum *preset_id, ReturnSetInfo *set)
{
	static KeptPlan all_plan, one_plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[1];
	PoolView view;

	control_plane_require();
	if (pool_view_open(&view))
		stored_running(&view, preset_id, set);
	else if (preset_id == NULL)
		plan_into_set(&all_plan, RUNNING(TABLE_MEMBERS) IN_ORDER, PLAN_READ, 0, NULL, NULL, NULL,
					  set);
	else
	{
		values[0] = *preset_id;
		plan_into_set(&one_plan, RUNNING(TABLE_MEMBERS) OF_PRESET("$1") IN_ORDER, PLAN_READ, 1,
					  argtypes, values, NULL, set);
	}
}

/* Put every pool member, running or not, into a result set for operators. */
static void
list_pool(ReturnSetInfo *set)
{
	static KeptPlan plan;

	control_plane_require();
	plan_into_set(&plan,
				  "SELECT m.id, m.name, m.template_id, t.name::pg_catalog.text,"
				  " m.template_version_id, m.build_number, m.transition, m.job_status,"
				  " m.current_preset_id, p.name::pg_catalog.text, m.ready, m.created_at,"
				  " m.build_created_at, m.started_at, m.completed_at FROM" TABLE_MEMBERS
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

/* The columns of MEMBERS_WITH_BUILD, which name all kept ones after the id. */
#define NAME_IN_M(name, type, value, field) ", m." #name
#define NUMBER_OF_COLUMN(name, type, value, field) COLUMN_##name,
enum
{
	COLUMN_id = 1,
	KEPT_COLUMNS(NUMBER_OF_COLUMN)
};

/* Every member that has a build. "agents" and "health" name the columns that come from its agents. */
#define NULL_COLUMN(name, type, value, field) ", NULL::pg_catalog." #type
#define NAME_IN_G(name, type, value, field) ", g." #name
#define MEMBERS_WITH_BUILD(agents, health, members)                                                \
	"SELECT m.id" MEMBER_COLUMNS(NAME_IN_M, agents, health, health,                                \
								 NOT_KEPT) " FROM" members                                         \
										   " WHERE m.build_id IS NOT NULL ORDER BY m.id"

/*
 * Run the query for every pool member that has a build, on the tables or on a view of the stored
 * pool. health: also look up what only health needs, which the stored pool has. Leaves the rows in
 * SPI_tuptable and returns their number.
 */
static uint64
ask_for_members(bool health)
{
	static KeptPlan plan, health_plan, stored_plan;
	PoolView view;

	if (pool_view_open(&view))
		return plan_execute(&stored_plan, MEMBERS_WITH_BUILD(NAME_IN_M, NAME_IN_M, STORED_MEMBERS),
							PLAN_READ_OWN, lengthof(view.values), view.argtypes, view.values, NULL);
	if (health)
		return plan_execute(
			&health_plan,
			MEMBERS_WITH_BUILD(NAME_IN_G, NAME_IN_G, TABLE_MEMBERS "," AGENTS_OF_MEMBER), PLAN_READ,
			0, NULL, NULL, NULL);
	return plan_execute(&plan, MEMBERS_WITH_BUILD(NAME_IN_M, NULL_COLUMN, TABLE_MEMBERS), PLAN_READ,
						0, NULL, NULL, NULL);
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

/* Copy a column's value, unless it is NULL. */
static const void *
pointer_column(uint64 row, int number)
{
	bool isnull;
	Datum value = row_value(row, number, &isnull);

	return isnull ? NULL : DatumGetPointer(datumCopy(value, false, -1));
}

/* Read a column, or return a value for NULL. */
static Datum
column_or(uint64 row, int number, Datum value_for_null)
{
	bool isnull;
	Datum value = row_value(row, number, &isnull);

	return isnull ? value_for_null : value;
}

/* How to read each kind of field of MEMBER_COLUMNS from its column. */
#define READ_NONE
#define READ_ID(name) member->name = row_id(row, COLUMN_##name);
#define READ_TIME(name) member->name = DatumGetTimestampTz(row_get(row, COLUMN_##name));
#define READ_TIME_OR_NEVER(name)                                                                   \
	member->name =                                                                                 \
		DatumGetTimestampTz(column_or(row, COLUMN_##name, TimestampTzGetDatum(DT_NOEND)));
#define READ_NUMBER(name) member->name = DatumGetInt32(row_get(row, COLUMN_##name));
#define READ_END_TIME(name)                                                                        \
	member->name = DatumGetTimestampTz(                                                            \
		column_or(row, COLUMN_##name, TimestampTzGetDatum(member->build_created_at)));
#define READ_FLAG(name) member->name = DatumGetBool(row_get(row, COLUMN_##name));
#define READ_KNOWN_FLAG(name)                                                                      \
	member->name = DatumGetBool(column_or(row, COLUMN_##name, BoolGetDatum(false)));
#define READ_POINTER(name) member->name = pointer_column(row, COLUMN_##name);
#define READ_TRANSITION(name) member->name = parse_transition(row_text(row, COLUMN_##name));
#define READ_JOB_STATUS(name) member->name = parse_job_status(row_text(row, COLUMN_##name));
#define READ_PRESET(name)                                                                          \
	member->has_##name = preset_column(row, COLUMN_##name##_id, &member->name##_id);
#define READ_COLUMN(name, type, value, field) READ_##field

/* Read a member from its row. */
static void
read_member(uint64 row, PoolMember *member)
{
	member->id = row_id(row, COLUMN_id);
	KEPT_COLUMNS(READ_COLUMN)
	if (member->transition != TRANSITION_START || member->job_status != JOB_SUCCEEDED)
		member->ready = member->unwell = false;
}

/*
 * Read every pool member that has a build, with its latest build, in the active snapshot, ordered
 * by id. *n receives their number. health: also find out what only health needs. Fields that others
 * fill are zero. SPI must be connected. The result is palloc'd in the current context.
 */
PoolMember *
pool_members_read(int *n, bool health)
{
	uint64 rows = ask_for_members(health);
	PoolMember *members = palloc0_array(PoolMember, rows + 1);

	for (uint64 i = 0; i < rows; i++)
		read_member(i, &members[i]);
	SPI_freetuptable(SPI_tuptable);
	*n = (int) rows;
	return members;
}
