/*
 * pruning.c
 *	  Keep the extension's own tables small, at the end of each pass. The number of statements is
 *	  constant, and each takes at most ROWS_AT_ONCE rows. So a pass ends in time however much has
 *	  piled up, and the next pass continues.
 *
 *	  prebuild_event		deletes what is older than prebuild.event_retention
 *	  prebuild_mark			deletes marks of presets that are gone or not active
 *	  prebuild_stage		deletes the rows of control planes that are gone
 *	  prebuild_replacement	moves old claims into prebuild_replacement_count, which has one row
 *	  						for each preset that had any
 *
 *	  prebuild_pass_stats has one row. The kept pool keeps itself small (pool_forget.c).
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/events.h"
#include "base/plans.h"
#include "pass/pruning.h"
#include "base/rows.h"
#include "settings.h"

#define ROWS_AT_ONCE "10000"

/*
 * The time that is microseconds before the pass, or before the real time if that is earlier. So a
 * caller that names a future time does not delete too much.
 */
static Datum
time_before(TimestampTz at, int64 microseconds)
{
	return TimestampTzGetDatum(Min(at, GetCurrentTimestamp()) - microseconds);
}

/*
 * Delete events that are older than prebuild.event_retention. at: the time of the pass. Skips rows
 * that another session is deleting at the same time. SPI is connected.
 */
void
pruning_events(TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIMESTAMPTZOID };
	Datum values[] = { time_before(at, setting_event_retention * INT64CONST(60) * USECS_PER_SEC) };

	plan_execute(&plan,
				 "DELETE FROM {ext}prebuild_event e WHERE e.id {=} ANY (ARRAY("
				 " SELECT o.id FROM {ext}prebuild_event o WHERE o.at {<} $1"
				 " ORDER BY o.at LIMIT " ROWS_AT_ONCE " FOR UPDATE SKIP LOCKED))",
				 PLAN_FRESH_OWN, 1, argtypes, values, NULL);
}

/* Does the table with the counts of claims exist? The install script of 0.1 did not have it. */
bool
pruning_has_claim_counts(void)
{
	return OidIsValid(get_relname_relid("prebuild_replacement_count", plans_extension_schema()));
}

/* Turn old claims that replaced resources into counts. Claims without a preset do not count. */
static void
count_claims(TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIMESTAMPTZOID };
	Datum values[] = { time_before(at, PRUNING_CLAIMS_KEPT) };

	if (!pruning_has_claim_counts())
		return;
	plan_execute(
		&plan,
		"WITH old AS (DELETE FROM {ext}prebuild_replacement r WHERE r.ctid {=} ANY (ARRAY("
		"  SELECT o.ctid FROM {ext}prebuild_replacement o WHERE o.at {<} $1"
		"  ORDER BY o.at LIMIT " ROWS_AT_ONCE "))"
		"  RETURNING r.template_id, r.preset_id)"
		" INSERT INTO {ext}prebuild_replacement_count AS c (template_id, preset_id, claims)"
		" SELECT old.template_id, old.preset_id, pg_catalog.count(*) FROM old"
		" WHERE old.preset_id IS NOT NULL GROUP BY old.template_id, old.preset_id"
		" ON CONFLICT (template_id, preset_id)"
		" DO UPDATE SET claims = c.claims {+} excluded.claims",
		PLAN_FRESH_OWN, 1, argtypes, values, NULL);
}

/*
 * Collect the presets of a judgement, and those whose marks must stay because they are active or staged, or
 * still have members to act on.
 */
static void
gather_presets(const Judgement *judgement, ArrayParameter *judged, ArrayParameter *kept)
{
	const PoolSnapshot *pool = judgement->pool;

	for (int i = 0; i < pool->npresets; i++)
	{
		array_add_id(judged, &pool->presets[i].id);
		if (pool->presets[i].kept || pool->presets[i].nactions > 0)
			array_add_id(kept, &pool->presets[i].id);
	}
}

/*
 * Set presets with our stored validation_failed back to healthy. If one becomes active again, a
 * pass checks it again.
 */
static void
forgive(ArrayParameter *presets)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { array_datum(presets) };

	if (presets->n > 0)
		plan_execute(&plan,
					 "UPDATE {cp}template_version_presets p SET prebuild_status = 'healthy'"
					 " WHERE p.id {=} ANY ($1)"
					 " AND p.prebuild_status::pg_catalog.text {=} 'validation_failed'",
					 PLAN_FRESH, 1, argtypes, values, NULL);
}

/*
 * Delete the marks of this control plane's presets that are gone or not active, and all marks of
 * control planes that are gone. A mark from before marks named their control plane may belong to
 * any of them: it is deleted too, but a validation_failed only if the judgement has its preset. SPI
 * is connected.
 */
void
pruning_marks(const Judgement *judgement)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID, TEXTOID };
	ArrayParameter *judged = array_new(UUIDOID);
	ArrayParameter *kept = array_new(UUIDOID);
	ArrayParameter *invalid = array_new(UUIDOID);
	Datum values[3];
	uint64 n;

	if (!marks_have_control_plane())
		return;
	gather_presets(judgement, judged, kept);
	values[0] = array_datum(judged);
	values[1] = array_datum(kept);
	values[2] = CStringGetTextDatum(setting_control_plane_schema);
	n = plan_execute(
		&plan,
		"DELETE FROM {ext}prebuild_mark m WHERE m.ctid {=} ANY (ARRAY("
		" SELECT o.ctid FROM {ext}prebuild_mark o"
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.unnest($2) AS k (id) WHERE k.id {=} o.preset_id)"
		" AND CASE WHEN o.control_plane IS NULL THEN o.kind {<>} 'validation_failed'"
		"  OR EXISTS (SELECT FROM pg_catalog.unnest($1) AS j (id) WHERE j.id {=} o.preset_id)"
		"  ELSE o.control_plane {=} $3 OR NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n"
		"   WHERE n.nspname {=} o.control_plane::pg_catalog.name) END"
		" LIMIT " ROWS_AT_ONCE "))"
		" RETURNING m.preset_id::pg_catalog.uuid, m.kind {=} 'validation_failed'",
		PLAN_FRESH_OWN, 3, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
		if (DatumGetBool(row_get(i, 2)))
		{
			Id id = row_id(i, 1);

			array_add_id(invalid, &id);
		}
	SPI_freetuptable(SPI_tuptable);
	forgive(invalid);
}

/* Delete the stages of control planes that are gone. A pass ends those of its own. */
static void
delete_lost_stages(void)
{
	static KeptPlan plan;

	if (OidIsValid(get_relname_relid("prebuild_stage", plans_extension_schema())))
		plan_execute(&plan,
					 "DELETE FROM {ext}prebuild_stage s WHERE NOT EXISTS ("
					 "SELECT FROM pg_catalog.pg_namespace n"
					 " WHERE n.nspname {=} s.control_plane::pg_catalog.name)",
					 PLAN_FRESH_OWN, 0, NULL, NULL, NULL);
}

/*
 * Delete events, and count claims, that are too old at the time of a pass, and delete stages of
 * control planes that are gone. SPI is connected.
 */
void
pruning_old(TimestampTz at)
{
	pruning_events(at);
	count_claims(at);
	delete_lost_stages();
}
