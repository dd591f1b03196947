/*
 * control_plane.c
 *	  The reader of the control plane's tables. Everything that the loop decides on comes from
 *	  here, in the active snapshot, by a constant number of statements.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "decision/control_plane.h"
#include "catalog/control_plane_catalog.h"
#include "base/ids.h"
#include "base/plans.h"
#include "pool/pool_sql.h"
#include "pool/pool_state.h"
#include "base/rows.h"
#include "cron/preset_schedule.h"
#include "settings.h"

/* Put the running prebuilds of a view of the stored pool into a result set. */
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

/*
 * Put the running prebuilds into a result set, all of them or those of one preset.
 */
void
control_plane_running(const Datum *preset_id, ReturnSetInfo *set)
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

/*
 * Put every pool member, running or not, into a result set: what an operator looks at.
 */
void
control_plane_pool(ReturnSetInfo *set)
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

/* Position of a preset in the snapshot, which is ordered by id, or -1. */
int
control_plane_find_preset(const PoolSnapshot *pool, const Id *id)
{
	int low = 0;
	int high = pool->npresets;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		int order = memcmp(pool->presets[middle].id.bytes, id->bytes, sizeof(id->bytes));

		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

static PrebuildStatus
parse_status(const char *status)
{
	if (strcmp(status, "hard_limited") == 0)
		return STATUS_HARD_LIMITED;
	if (strcmp(status, "validation_failed") == 0)
		return STATUS_VALIDATION_FAILED;
	return STATUS_HEALTHY;
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

/* Fill one preset from row number i of the presets statement. */
static void
read_preset(ControlPlaneSnapshot *snapshot, uint64 i)
{
	Preset *preset = &snapshot->pool.presets[i];
	PresetInfo *info = &snapshot->info[i];
	bool isnull;
	Datum value;

	preset->id = row_id(i, 1);
	info->name = row_text(i, 2);
	preset->template_id = row_id(i, 3);
	info->template_name = row_text(i, 4);
	preset->organization_id = row_id(i, 5);
	info->organization_name = row_text(i, 6);
	preset->template_version_id = row_id(i, 7);
	preset->active_version_id = row_id(i, 8);
	preset->template_deleted = DatumGetBool(row_get(i, 9));
	preset->template_deprecated = DatumGetBool(row_get(i, 10));
	preset->scheduled = Max(DatumGetInt32(row_get(i, 11)), 0);
	value = row_value(i, 12, &isnull);
	preset->invalidate_after_secs = isnull ? 0 : DatumGetInt32(value);
	value = row_value(i, 13, &isnull);
	preset->has_last_invalidated_at = !isnull;
	preset->last_invalidated_at = isnull ? 0 : DatumGetTimestampTz(value);
	info->stored_status = row_text(i, 14);
	preset->status = parse_status(info->stored_status);
	info->organization_deleted = DatumGetBool(row_get(i, 15));
	info->can_want = DatumGetBool(row_get(i, 16));
}

/* Read the presets that have desired instances. */
static void
read_presets(ControlPlaneSnapshot *snapshot)
{
	static KeptPlan plan;
	PoolSnapshot *pool = &snapshot->pool;
	char *statement =
		psprintf("SELECT p.id::pg_catalog.uuid, p.name::pg_catalog.text, t.id::pg_catalog.uuid,"
				 " t.name::pg_catalog.text, o.id::pg_catalog.uuid, o.name::pg_catalog.text,"
				 " v.id::pg_catalog.uuid, t.active_version_id::pg_catalog.uuid,"
				 " t.deleted::pg_catalog.bool,"
				 " t.deprecated {<>} '', p.desired_instances::pg_catalog.int4,"
				 " p.invalidate_after_secs::pg_catalog.int4, %s::pg_catalog.timestamptz,"
				 " p.prebuild_status::pg_catalog.text, o.deleted::pg_catalog.bool, " PRESET_CAN_WANT
				 " FROM {cp}template_version_presets p"
				 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				 " JOIN {cp}templates t ON t.id {=} v.template_id"
				 " JOIN {cp}organizations o ON o.id {=} t.organization_id"
				 " WHERE p.desired_instances IS NOT NULL ORDER BY p.id",
				 control_plane_has(FEATURE_INVALIDATION) ? "p.last_invalidated_at" : "NULL");
	uint64 n = plan_execute(&plan, statement, PLAN_READ, 0, NULL, NULL, NULL);

	pool->npresets = (int) n;
	pool->presets = palloc0_array(Preset, n + 1);
	snapshot->info = palloc0_array(PresetInfo, n + 1);
	for (uint64 i = 0; i < n; i++)
		read_preset(snapshot, i);
	SPI_freetuptable(SPI_tuptable);
}

/* Apply the schedules of one active preset; a fault in them is a warning. */
static void
apply_schedules(ControlPlaneSnapshot *snapshot, int preset, const char *timezone, int nschedules,
				const PresetSchedule *schedules, TimestampTz at)
{
	Preset *decided;
	PresetInfo *info;
	int deciding;
	char *fault;
	int desired;

	if (preset < 0)
		return;
	decided = &snapshot->pool.presets[preset];
	info = &snapshot->info[preset];
	desired = schedule_desired(timezone, nschedules, schedules, decided->scheduled, at, &deciding,
							   &fault);
	decided->scheduled = Max(desired, 0);
	if (deciding >= 0)
		info->cron_expression = schedules[deciding].cron_expression;
	if (fault != NULL)
		schedule_warn_ignored(info->name, decided->id.bytes, fault);
}

/* Read the schedules of presets of active versions and work out what they want at a time. */
static void
read_schedules(ControlPlaneSnapshot *snapshot, TimestampTz at)
{
	static KeptPlan plan;
	uint64 n = plan_execute(
		&plan,
		"SELECT s.preset_id::pg_catalog.uuid, p.scheduling_timezone::pg_catalog.text,"
		" s.cron_expression::pg_catalog.text, s.desired_instances::pg_catalog.int4"
		" FROM {cp}template_version_preset_prebuild_schedules s"
		" JOIN {cp}template_version_presets p ON p.id {=} s.preset_id"
		" JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
		" JOIN {cp}templates t ON t.id {=} v.template_id AND t.active_version_id {=} v.id"
		" WHERE p.desired_instances IS NOT NULL AND NOT t.deleted AND t.deprecated {=} ''"
		" ORDER BY s.preset_id, s.id",
		PLAN_READ, 0, NULL, NULL, NULL);
	PresetSchedule *schedules = palloc_array(PresetSchedule, n + 1);
	uint64 first = 0;

	for (uint64 i = 0; i < n; i++)
	{
		Id id = row_id(i, 1);
		Id next;

		schedules[i].cron_expression = row_text(i, 3);
		schedules[i].desired_instances = DatumGetInt32(row_get(i, 4));
		if (i + 1 < n)
			next = row_id(i + 1, 1);
		if (i + 1 < n && memcmp(&id, &next, sizeof(id)) == 0)
			continue;
		apply_schedules(snapshot, control_plane_find_preset(&snapshot->pool, &id), row_text(i, 2),
						(int) (i + 1 - first), &schedules[first], at);
		first = i + 1;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Position of the preset in a column, or -1 when it is NULL or has no desired instances. */
static int
preset_column(const PoolSnapshot *pool, uint64 row, int number)
{
	bool isnull;
	Datum value = row_value(row, number, &isnull);
	Id id;

	if (isnull)
		return -1;
	memcpy(id.bytes, DatumGetUUIDP(value)->data, UUID_LEN);
	return control_plane_find_preset(pool, &id);
}

/*
 * Ask for every pool member with its latest build: by the tables, or from a view of the stored
 * pool. Rows are in SPI_tuptable; returns their number.
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

/* Read every pool member with its latest build. */
static void
read_members(PoolSnapshot *pool)
{
	uint64 n = ask_for_members();

	pool->nmembers = (int) n;
	pool->members = palloc0_array(PoolMember, n + 1);
	for (uint64 i = 0; i < n; i++)
	{
		PoolMember *member = &pool->members[i];

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
		member->build_preset = preset_column(pool, i, 13);
		member->current_preset = preset_column(pool, i, 14);
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Find out which members are sick, of those for which it matters, in the active snapshot. From the
 * tables, also where the pool is kept: it is asked for few members and seldom, and what the kept
 * pool says of a member is as true of the tables in the same snapshot. SPI is connected.
 */
void
control_plane_find_sick(PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	ArrayParameter *jobs = array_new(UUIDOID);
	Datum values[1];
	uint64 nsick;
	Id *sick;

	for (int i = 0; i < pool->nmembers; i++)
		if (decision_needs_health(pool, &pool->members[i]))
			array_add_id(jobs, &pool->members[i].job_id);
	if (jobs->n == 0)
		return;
	values[0] = array_datum(jobs);
	nsick = plan_execute(&plan,
						 "SELECT b.job_id FROM pg_catalog.unnest($1) AS b (job_id) WHERE " IS_SICK
						 " ORDER BY b.job_id",
						 PLAN_READ, 1, argtypes, values, NULL);
	sick = palloc_array(Id, nsick + 1);
	for (uint64 i = 0; i < nsick; i++)
		sick[i] = row_id(i, 1);
	SPI_freetuptable(SPI_tuptable);

	for (int i = 0; i < pool->nmembers; i++)
	{
		PoolMember *member = &pool->members[i];

		if (decision_needs_health(pool, member))
			member->sick = bsearch(&member->job_id, sick, nsick, sizeof(Id), id_compare) != NULL;
	}
}

/*
 * Read presets, schedules and pool in the active snapshot. SPI is connected; the result is
 * palloc'd in the current context. at: the time at which schedules are asked. Warns of schedules
 * that are ignored; raises an error that names a missing table or column.
 */
ControlPlaneSnapshot *
control_plane_snapshot(TimestampTz at)
{
	ControlPlaneSnapshot *snapshot = palloc0_object(ControlPlaneSnapshot);
	PoolSnapshot *pool = &snapshot->pool;

	control_plane_require();
	read_presets(snapshot);
	read_schedules(snapshot, at);
	read_members(pool);
	pool->order = palloc_array(PoolMember *, pool->nmembers + 1);
	pool->heap = palloc_array(int, pool->npresets + 1);
	return snapshot;
}
