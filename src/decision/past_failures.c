/*
 * past_failures.c
 *	  The extension's memory of failures. Backoff and hard limit look at the pool's latest builds.
 *	  When a pass takes a failed or a sick member away, its failure would be forgotten with it.
 *
 *	  prebuild_failure	  failed builds whose member a pass deleted (kind "failed" or "sick"), and
 *						  delete builds of which a pass has said that it gave up (kind "undeleted")
 *	  prebuild_forgiven	  for a preset, until when failures do not count any more
 *
 *	  Each row is of one control plane. Two of them have the same ids if one is a copy of the other.
 *
 *	  Reads and writes with the rights of the extension's owner. Passes write under lock 7.
 *	  prebuild_clean() writes beside them, but only about members whose workspaces it has locked, and
 *	  prebuild_retry() an upsert of one row.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/plans.h"
#include "decision/control_plane.h"
#include "decision/past_failures.h"
#include "settings.h"

/* How many failures of a preset to remember however old they are: as many as a run can need. */
#define FAILURES_KEPT "64"

static bool
table_exists(const char *name)
{
	return OidIsValid(get_relname_relid(name, plans_extension_schema()));
}

/* Do the tables exist? The install script of 0.1 did not have them. */
static bool
have_memory(void)
{
	return table_exists("prebuild_failure") && table_exists("prebuild_forgiven");
}

/*
 * Read the remembered failures of the snapshot's presets, and until when failures are forgiven, in
 * the active snapshot and one statement. Presets are in place. SPI must be connected. The result is
 * palloc'd in the current context.
 */
void
past_failures_read(PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };
	uint64 n;

	if (!have_memory())
		return;
	n = plan_execute(&plan,
					 "SELECT f.preset_id, f.build_id, f.built_at FROM {ext}prebuild_failure f"
					 " WHERE f.control_plane {=} $1 AND f.kind {<>} 'undeleted'"
					 " UNION ALL SELECT g.preset_id, NULL, g.until FROM {ext}prebuild_forgiven g"
					 " WHERE g.control_plane {=} $1",
					 PLAN_READ_OWN, 1, argtypes, values, NULL);
	pool->failures = palloc_array(PastFailure, n + 1);
	for (uint64 i = 0; i < n; i++)
	{
		Id preset_id = row_id(i, 1);
		Preset *preset = control_plane_find_preset(pool, &preset_id);
		TimestampTz time = DatumGetTimestampTz(row_get(i, 3));
		bool forgiven;

		(void) row_value(i, 2, &forgiven);
		if (preset == NULL)
			continue;
		if (forgiven)
		{
			preset->has_forgiven_until = true;
			preset->forgiven_until = time;
		}
		else
			pool->failures[pool->nfailures++] = (PastFailure){
				.preset = (int32_t) (preset - pool->presets),
				.build_id = row_id(i, 2),
				.build_created_at = time,
			};
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Insert builds into prebuild_failure, each once. */
static void
insert_failures(ArrayParameter *builds, ArrayParameter *presets, ArrayParameter *workspaces,
				ArrayParameter *times, ArrayParameter *kinds)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID,		   UUIDARRAYOID,
									TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID };
	Datum values[] = { array_datum(builds),		array_datum(presets),
					   array_datum(workspaces), array_datum(kinds),
					   array_datum(times),		CStringGetTextDatum(setting_control_plane_schema) };

	plan_execute(&plan,
				 "INSERT INTO {ext}prebuild_failure"
				 " (build_id, preset_id, workspace_id, kind, built_at, control_plane)"
				 " SELECT f.build_id, f.preset_id, f.workspace_id, f.kind, f.built_at, $6"
				 " FROM {unnest 5} f (build_id, preset_id, workspace_id, kind, built_at)"
				 " ON CONFLICT (control_plane, build_id) DO NOTHING",
				 PLAN_FRESH_OWN, 6, argtypes, values, NULL);
}

/*
 * Remember the failures among members that have just been deleted. SPI must be connected. Does
 * nothing with a script that has no memory.
 */
void
past_failures_remember(const PoolSnapshot *pool, PoolMember *const *members, int n)
{
	ArrayParameter *builds = array_new(UUIDOID);
	ArrayParameter *presets = array_new(UUIDOID);
	ArrayParameter *workspaces = array_new(UUIDOID);
	ArrayParameter *times = array_new(TIMESTAMPTZOID);
	ArrayParameter *kinds = array_new(TEXTOID);

	for (int i = 0; i < n; i++)
	{
		const PoolMember *member = members[i];

		if (!member->is_failure)
			continue;
		array_add_id(builds, &member->build_id);
		array_add_id(presets, &pool->presets[member->build_preset].id);
		array_add_id(workspaces, &member->id);
		array_add(times, TimestampTzGetDatum(member->build_created_at));
		array_add_text(kinds, member->sickness == SICK_NOT ? "failed" : "sick");
	}
	if (builds->n > 0 && have_memory())
		insert_failures(builds, presets, workspaces, times, kinds);
}

/*
 * Note the members whose delete build was tried as often as their policy says. Returns those of
 * which no pass has said so before, a List of PoolMember. SPI must be connected.
 */
List *
past_failures_give_up(const PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTOID };
	ArrayParameter *builds = array_new(UUIDOID);
	ArrayParameter *presets = array_new(UUIDOID);
	ArrayParameter *workspaces = array_new(UUIDOID);
	ArrayParameter *times = array_new(TIMESTAMPTZOID);
	ArrayParameter *kinds = array_new(TEXTOID);
	List *news = NIL;
	Datum values[2];
	Id *known;
	uint64 n;

	for (int i = 0; i < pool->nmembers; i++)
		if (pool->members[i].deletes_given_up)
			array_add_id(builds, &pool->members[i].build_id);
	if (builds->n == 0 || !have_memory())
		return NIL;
	values[0] = array_datum(builds);
	values[1] = CStringGetTextDatum(setting_control_plane_schema);
	n = plan_execute(&plan,
					 "SELECT f.build_id FROM {ext}prebuild_failure f"
					 " WHERE f.control_plane {=} $2 AND f.build_id {=} ANY ($1)"
					 " ORDER BY f.build_id",
					 PLAN_FRESH_OWN, 2, argtypes, values, NULL);
	known = palloc_array(Id, n + 1);
	for (uint64 i = 0; i < n; i++)
		known[i] = row_id(i, 1);
	SPI_freetuptable(SPI_tuptable);
	builds = array_new(UUIDOID);
	for (int i = 0; i < pool->nmembers; i++)
	{
		PoolMember *member = &pool->members[i];

		if (!member->deletes_given_up ||
			bsearch(&member->build_id, known, n, sizeof(Id), id_compare) != NULL)
			continue;
		news = lappend(news, member);
		array_add_id(builds, &member->build_id);
		array_add_id(presets, &pool->presets[decision_acting_preset(member)].id);
		array_add_id(workspaces, &member->id);
		array_add(times, TimestampTzGetDatum(member->build_created_at));
		array_add_text(kinds, "undeleted");
	}
	if (news != NIL)
		insert_failures(builds, presets, workspaces, times, kinds);
	return news;
}

/*
 * Let failures of presets' builds up to a time, one for each preset, count no more. presets: uuids;
 * until: timestamptz. SPI must be connected. Does nothing with a script that has no memory: then the
 * failures count until their members go.
 */
void
past_failures_forgive(ArrayParameter *presets, ArrayParameter *until)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID };
	Datum values[3];

	if (presets->n == 0 || !have_memory())
		return;
	values[0] = array_datum(presets);
	values[1] = array_datum(until);
	values[2] = CStringGetTextDatum(setting_control_plane_schema);
	plan_execute(&plan,
				 "INSERT INTO {ext}prebuild_forgiven AS g (preset_id, until, control_plane)"
				 " SELECT n.preset_id, n.until, $3 FROM {unnest 2} n (preset_id, until)"
				 " ON CONFLICT (control_plane, preset_id) DO UPDATE"
				 " SET until = GREATEST(g.until, excluded.until)",
				 PLAN_FRESH_OWN, 3, argtypes, values, NULL);
}

/*
 * Delete what no decision needs any more: of presets that are gone or not kept, of control planes
 * that are gone, and failures that are forgiven, or too old for a backoff and too many for a hard
 * limit. Notes of delete builds go with their workspace. SPI must be connected.
 */
void
past_failures_prune(const PoolSnapshot *pool, const DecisionSettings *settings)
{
	static KeptPlan failures_plan, forgiven_plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID, TEXTOID };
	ArrayParameter *kept = array_new(UUIDOID);
	ArrayParameter *members = array_new(UUIDOID);
	Datum values[4];

	if (!have_memory())
		return;
	for (int i = 0; i < pool->npresets; i++)
		if (pool->presets[i].kept)
			array_add_id(kept, &pool->presets[i].id);
	for (int i = 0; i < pool->nmembers; i++)
		if (pool->members[i].deletes_given_up)
			array_add_id(members, &pool->members[i].id);
	values[0] = array_datum(kept);
	values[1] = array_datum(members);
	values[2] = TimestampTzGetDatum(settings->at - settings->backoff_lookback);
	values[3] = CStringGetTextDatum(setting_control_plane_schema);
	plan_execute(&failures_plan,
				 "DELETE FROM {ext}prebuild_failure f WHERE (f.control_plane {=} $4"
				 "  OR NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n"
				 "   WHERE n.nspname {=} f.control_plane::pg_catalog.name)) AND CASE"
				 " WHEN f.kind {=} 'undeleted' THEN NOT f.workspace_id {=} ANY ($2)"
				 " WHEN NOT f.preset_id {=} ANY ($1) THEN true"
				 " WHEN EXISTS (SELECT FROM {ext}prebuild_forgiven g"
				 "  WHERE g.control_plane {=} f.control_plane AND g.preset_id {=} f.preset_id"
				 "  AND g.until {>=} f.built_at) THEN true"
				 " ELSE f.built_at {<} $3 AND (SELECT pg_catalog.count(*)"
				 "  FROM {ext}prebuild_failure n WHERE n.preset_id {=} f.preset_id"
				 "  AND n.control_plane {=} f.control_plane"
				 "  AND n.built_at {>} f.built_at) {>=} " FAILURES_KEPT " END",
				 PLAN_FRESH_OWN, 4, argtypes, values, NULL);
	plan_execute(&forgiven_plan,
				 "DELETE FROM {ext}prebuild_forgiven g WHERE g.control_plane {=} $2"
				 " AND NOT g.preset_id {=} ANY ($1)"
				 " OR NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n"
				 "  WHERE n.nspname {=} g.control_plane::pg_catalog.name)",
				 PLAN_FRESH_OWN, 2, (const Oid[]){ UUIDARRAYOID, TEXTOID },
				 (Datum[]){ values[0], values[3] }, NULL);
}
