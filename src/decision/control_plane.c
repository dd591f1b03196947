/*
 * control_plane.c
 *	  The reader of the control plane's tables. Reads everything on which the loop decides, in the
 *	  active snapshot, by a constant number of statements.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "decision/control_plane.h"
#include "decision/stages.h"
#include "catalog/control_plane_catalog.h"
#include "base/ids.h"
#include "base/plans.h"
#include "pool/pool_members.h"
#include "pool/pool_sql.h"
#include "base/rows.h"
#include "cron/preset_schedule.h"
#include "settings.h"

/* Find a preset in the snapshot, which is ordered by id. Returns its position or -1. */
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
	preset->policy = HEALTH_POLICY_OFF;
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

/* Return the ids of the staged versions, as a uuid array. */
static Datum
staged_versions(const ControlPlaneSnapshot *snapshot)
{
	ArrayParameter *versions = array_new(UUIDOID);

	for (int i = 0; i < snapshot->nstages; i++)
		array_add_id(versions, &snapshot->stages[i].version_id);
	return array_datum(versions);
}

/* Apply the schedules of one active or staged preset. Warns of a fault in them. */
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

/*
 * Read the schedules of presets of active and of staged versions, and compute what they want at the
 * given time.
 */
static void
read_schedules(ControlPlaneSnapshot *snapshot, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { staged_versions(snapshot) };
	uint64 n = plan_execute(
		&plan,
		"SELECT s.preset_id::pg_catalog.uuid, p.scheduling_timezone::pg_catalog.text,"
		" s.cron_expression::pg_catalog.text, s.desired_instances::pg_catalog.int4"
		" FROM {cp}template_version_preset_prebuild_schedules s"
		" JOIN {cp}template_version_presets p ON p.id {=} s.preset_id"
		" JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
		" JOIN {cp}templates t ON t.id {=} v.template_id"
		" AND (t.active_version_id {=} v.id OR v.id {=} ANY ($1))"
		" WHERE p.desired_instances IS NOT NULL AND NOT t.deleted AND t.deprecated {=} ''"
		" ORDER BY s.preset_id, s.id",
		PLAN_READ, 1, argtypes, values, NULL);
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

/* Read the members and find their presets in the snapshot. */
static void
read_members(PoolSnapshot *pool)
{
	pool->members = pool_members_read(&pool->nmembers);
	for (int i = 0; i < pool->nmembers; i++)
	{
		PoolMember *member = &pool->members[i];

		member->build_preset = member->has_build_preset
								   ? control_plane_find_preset(pool, &member->build_preset_id)
								   : -1;
		member->current_preset = member->has_current_preset
									 ? control_plane_find_preset(pool, &member->current_preset_id)
									 : -1;
	}
}

/*
 * Find out which members are sick, among those for which it matters. Reads the tables in the active
 * snapshot even if the pool is kept, because few members need it and seldom. The kept pool says the
 * same of a member as the tables in that snapshot. SPI must be connected.
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
			member->unwell = bsearch(&member->job_id, sick, nsick, sizeof(Id), id_compare) != NULL;
	}
}

/*
 * Read presets, stages, schedules and pool in the active snapshot. at: the time for which to evaluate
 * schedules. SPI must be connected. The result is palloc'd in the current context. Warns of
 * schedules that it ignores. Raises an error that names a missing table or column.
 */
ControlPlaneSnapshot *
control_plane_snapshot(TimestampTz at)
{
	ControlPlaneSnapshot *snapshot = palloc0_object(ControlPlaneSnapshot);
	PoolSnapshot *pool = &snapshot->pool;

	control_plane_require();
	read_presets(snapshot);
	stages_read(snapshot, at);
	read_schedules(snapshot, at);
	read_members(pool);
	pool->order = palloc_array(PoolMember *, pool->nmembers + 1);
	pool->heap = palloc_array(int, pool->npresets + 1);
	pool->attempts = palloc_array(Attempt, pool->nmembers + pool->nfailures + 1);
	return snapshot;
}
