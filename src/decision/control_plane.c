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
#include "decision/past_failures.h"
#include "decision/policy.h"
#include "catalog/control_plane_catalog.h"
#include "base/ids.h"
#include "base/plans.h"
#include "pool/pool_members.h"
#include "pool/pool_sql.h"
#include "base/rows.h"
#include "cron/preset_schedule.h"
#include "settings.h"

static int
compare_id_with_preset(const void *id, const void *preset)
{
	return id_compare(id, &((const Preset *) preset)->id);
}

/* Find a preset in the snapshot, which is ordered by id. Returns NULL if it is not there. */
Preset *
control_plane_find_preset(const PoolSnapshot *pool, const Id *id)
{
	return bsearch(id, pool->presets, pool->npresets, sizeof(Preset), compare_id_with_preset);
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

/* Fill a preset from row number i of the presets statement. */
static void
read_preset(Preset *preset, uint64 i)
{
	PresetDetails *details = palloc0_object(PresetDetails);
	bool isnull;
	Datum value;

	preset->details = details;
	preset->id = row_id(i, 1);
	details->name = row_text(i, 2);
	preset->template_id = row_id(i, 3);
	details->template_name = row_text(i, 4);
	preset->organization_id = row_id(i, 5);
	details->organization_name = row_text(i, 6);
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
	details->stored_status = row_text(i, 14);
	preset->status = parse_status(details->stored_status);
	details->organization_deleted = DatumGetBool(row_get(i, 15));
	details->can_want = DatumGetBool(row_get(i, 16));
	details->timezone = row_text(i, 17);
}

/* Read the presets that have desired instances. */
static void
read_presets(PoolSnapshot *pool)
{
	static KeptPlan plan;
	char *statement =
		psprintf("SELECT p.id::pg_catalog.uuid, p.name::pg_catalog.text, t.id::pg_catalog.uuid,"
				 " t.name::pg_catalog.text, o.id::pg_catalog.uuid, o.name::pg_catalog.text,"
				 " v.id::pg_catalog.uuid, t.active_version_id::pg_catalog.uuid,"
				 " t.deleted::pg_catalog.bool,"
				 " t.deprecated {<>} '', p.desired_instances::pg_catalog.int4,"
				 " p.invalidate_after_secs::pg_catalog.int4, %s::pg_catalog.timestamptz,"
				 " p.prebuild_status::pg_catalog.text, o.deleted::pg_catalog.bool, " PRESET_CAN_WANT
				 ", COALESCE(p.scheduling_timezone::pg_catalog.text, '')"
				 " FROM {cp}template_version_presets p"
				 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				 " JOIN {cp}templates t ON t.id {=} v.template_id"
				 " JOIN {cp}organizations o ON o.id {=} t.organization_id"
				 " WHERE p.desired_instances IS NOT NULL ORDER BY p.id",
				 control_plane_has(FEATURE_INVALIDATION) ? "p.last_invalidated_at" : "NULL");
	uint64 n = plan_execute(&plan, statement, PLAN_READ, 0, NULL, NULL, NULL);

	pool->npresets = (int) n;
	pool->presets = palloc0_array(Preset, n + 1);
	for (uint64 i = 0; i < n; i++)
		read_preset(&pool->presets[i], i);
	SPI_freetuptable(SPI_tuptable);
}

/* Apply the schedules of one preset. */
static void
apply_schedules(Preset *preset, int nschedules, const PresetSchedule *schedules, TimestampTz at)
{
	int deciding;
	int desired =
		schedule_desired(preset->details->timezone, nschedules, schedules, preset->scheduled, at,
						 &deciding, &preset->details->schedules_fault);

	preset->scheduled = Max(desired, 0);
	if (deciding >= 0)
		preset->details->cron_expression = schedules[deciding].cron_expression;
}

/* Return the ids of the presets whose schedules count, those of active and of staged versions. */
static Datum
scheduled_presets(const PoolSnapshot *pool, const Stages *stages)
{
	ArrayParameter *ids = array_new(UUIDOID);

	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];

		if (preset->template_deleted || preset->template_deprecated)
			continue;
		if (id_compare(&preset->template_version_id, &preset->active_version_id) == 0 ||
			stages_find(stages, &preset->template_version_id) != NULL)
			array_add_id(ids, &preset->id);
	}
	return array_datum(ids);
}

/*
 * Read the schedules of presets of active and of staged versions, and compute what they want at the
 * given time. The presets go into the statement as an array, because no statistics tell the planner
 * how few of all versions are active.
 */
static void
read_schedules(PoolSnapshot *pool, const Stages *stages, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { scheduled_presets(pool, stages) };
	uint64 n =
		plan_execute(&plan,
					 "SELECT s.preset_id::pg_catalog.uuid, s.cron_expression::pg_catalog.text,"
					 " s.desired_instances::pg_catalog.int4"
					 " FROM {cp}template_version_preset_prebuild_schedules s"
					 " JOIN pg_catalog.unnest($1) AS p (id) ON p.id {=} s.preset_id"
					 " ORDER BY s.preset_id, s.id",
					 PLAN_READ, 1, argtypes, values, NULL);
	PresetSchedule *schedules = palloc_array(PresetSchedule, n + 1);
	uint64 first = 0;

	for (uint64 i = 0; i < n; i++)
	{
		Id id = row_id(i, 1);
		Id next;
		Preset *preset;

		schedules[i].cron_expression = row_text(i, 2);
		schedules[i].desired_instances = DatumGetInt32(row_get(i, 3));
		if (i + 1 < n)
			next = row_id(i + 1, 1);
		if (i + 1 < n && memcmp(&id, &next, sizeof(id)) == 0)
			continue;
		preset = control_plane_find_preset(pool, &id);
		/* the statement was asked for presets of the snapshot */
		Assert(preset != NULL);
		apply_schedules(preset, (int) (i + 1 - first), &schedules[first], at);
		first = i + 1;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Note that a preset has a member. Returns its number in the snapshot; -1 if it is not there. */
static int
preset_of_member(const PoolSnapshot *pool, const Id *id)
{
	Preset *preset = control_plane_find_preset(pool, id);

	if (preset == NULL)
		return -1;
	preset->details->has_members = true;
	return (int) (preset - pool->presets);
}

/* Read the members and find their presets in the snapshot. */
static void
read_members(PoolSnapshot *pool)
{
	bool health = false;

	for (int i = 0; i < pool->npresets; i++)
		health |= decision_keeps_health(&pool->presets[i]);
	pool->members = pool_members_read(&pool->nmembers, health);
	for (int i = 0; i < pool->nmembers; i++)
	{
		PoolMember *member = &pool->members[i];

		member->build_preset =
			member->has_build_preset ? preset_of_member(pool, &member->build_preset_id) : -1;
		member->current_preset =
			member->has_current_preset ? preset_of_member(pool, &member->current_preset_id) : -1;
	}
}

/*
 * Read presets, policies, stages, schedules and pool in the active snapshot. at: the time for which
 * to evaluate schedules; stages: receives the stages. SPI must be connected. The result is palloc'd
 * in the current context; its presets and its members are ordered by id. Raises an error that names
 * a missing table or column.
 */
PoolSnapshot *
control_plane_snapshot(TimestampTz at, Stages *stages)
{
	PoolSnapshot *pool = palloc0_object(PoolSnapshot);

	control_plane_require();
	read_presets(pool);
	policies_read(pool);
	stages_read(pool, at, stages);
	read_schedules(pool, stages, at);
	read_members(pool);
	past_failures_read(pool);
	pool->order = palloc_array(PoolMember *, pool->nmembers + 1);
	pool->heap = palloc_array(int, pool->npresets + 1);
	pool->attempts = palloc_array(Attempt, pool->nmembers + pool->nfailures + 1);
	return pool;
}
