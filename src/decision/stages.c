/*
 * stages.c
 *	  Staged versions: reads the table prebuild_stage, tells the decision which presets it staged,
 *	  and says afterwards which versions are ready to become active.
 *
 *	  At most two statements read all stages. A database without stages pays for one that finds
 *	  nothing.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "decision/control_plane.h"
#include "decision/stages.h"
#include "settings.h"

/* Read the stored rows of this control plane, ordered by template. */
static void
read_rows(Stages *stages)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };
	uint64 n = plan_execute(&plan,
							"SELECT s.template_id::pg_catalog.uuid,"
							" s.template_version_id::pg_catalog.uuid,"
							" s.replaces::pg_catalog.uuid, s.share::pg_catalog.float4,"
							" s.promote::pg_catalog.bool, s.valid_until::pg_catalog.timestamptz,"
							" s.staged_at::pg_catalog.timestamptz FROM {ext}prebuild_stage s"
							" WHERE s.control_plane {=} $1 ORDER BY s.template_id",
							PLAN_READ_OWN, 1, argtypes, values, NULL);

	stages->n = (int) n;
	stages->rows = palloc0_array(Stage, n + 1);
	for (uint64 i = 0; i < n; i++)
	{
		Stage *stage = &stages->rows[i];
		bool isnull;
		Datum value;

		stage->template_id = row_id(i, 1);
		stage->version_id = row_id(i, 2);
		stage->replaces = row_id(i, 3);
		stage->share = DatumGetFloat4(row_get(i, 4));
		stage->promote = DatumGetBool(row_get(i, 5));
		value = row_value(i, 6, &isnull);
		stage->has_valid_until = !isnull;
		stage->valid_until = isnull ? 0 : DatumGetTimestampTz(value);
		stage->staged_at = DatumGetTimestampTz(row_get(i, 7));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Say that a stage ends. reason: a constant or palloc'd. */
static void
end_stage(Stage *stage, StageEnd end, const char *reason)
{
	stage->end = end;
	stage->reason = unconstify(char *, reason);
}

/*
 * Judge one stage by row number i of the statement about its template and version: template's name
 * (NULL: gone), deleted, deprecated, active version, version there, archived.
 */
static void
judge_row(Stage *stage, uint64 i, TimestampTz at)
{
	bool isnull;
	Datum name = row_value(i, 2, &isnull);

	if (isnull)
	{
		end_stage(stage, STAGE_DROPPED, "the template is gone");
		return;
	}
	stage->template_name = TextDatumGetCString(name);
	stage->active_version_id = row_id(i, 5);
	if (!DatumGetBool(row_get(i, 6)))
		end_stage(stage, STAGE_DROPPED, "the template version is gone");
	else if (DatumGetBool(row_get(i, 3)))
		end_stage(stage, STAGE_DROPPED, "the template is deleted");
	else if (id_compare(&stage->active_version_id, &stage->version_id) == 0)
		end_stage(stage, STAGE_PROMOTED_ELSEWHERE, "it is the template's active version");
	else if (DatumGetBool(row_get(i, 4)))
		end_stage(stage, STAGE_DROPPED, "the template is deprecated");
	else if (DatumGetBool(row_get(i, 7)))
		end_stage(stage, STAGE_DROPPED, "the template version is archived");
	else if (stage->has_valid_until && at > stage->valid_until)
		end_stage(stage, STAGE_EXPIRED,
				  psprintf("it was valid until %s", timestamptz_to_str(stage->valid_until)));
}

/* Find out what has become of the templates and versions of all stages. */
static void
judge_rows(const Stages *stages, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID };
	ArrayParameter *templates = array_new(UUIDOID);
	ArrayParameter *versions = array_new(UUIDOID);
	Datum values[2];
	uint64 n;

	for (int i = 0; i < stages->n; i++)
	{
		array_add_id(templates, &stages->rows[i].template_id);
		array_add_id(versions, &stages->rows[i].version_id);
	}
	values[0] = array_datum(templates);
	values[1] = array_datum(versions);
	n = plan_execute(
		&plan,
		psprintf("SELECT s.position, t.name::pg_catalog.text, t.deleted::pg_catalog.bool,"
				 " t.deprecated {<>} '', t.active_version_id::pg_catalog.uuid,"
				 " v.id IS NOT NULL, %s"
				 " FROM {unnest 2} WITH ORDINALITY s (template_id, version_id, position)"
				 " LEFT JOIN {cp}templates t ON t.id {=} s.template_id"
				 " LEFT JOIN {cp}template_versions v"
				 "  ON v.id {=} s.version_id AND v.template_id {=} s.template_id"
				 " ORDER BY s.position",
				 control_plane_has(FEATURE_ARCHIVED_VERSIONS) ? "v.archived IS TRUE" : "false"),
		PLAN_READ, 2, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
		judge_row(&stages->rows[DatumGetInt64(row_get(i, 1)) - 1], i, at);
	SPI_freetuptable(SPI_tuptable);
}

/* Find the stage of a version. Returns NULL if it is not staged. */
Stage *
stages_find(const Stages *stages, const Id *version_id)
{
	for (int i = 0; i < stages->n; i++)
		if (id_compare(&stages->rows[i].version_id, version_id) == 0)
			return &stages->rows[i];
	return NULL;
}

/*
 * Read the stages of this control plane in the active snapshot, and mark their presets in the pool,
 * which must have been read. at: the time at which stages must be valid. SPI is connected. There are
 * none where the extension's script is older than stages.
 */
void
stages_read(PoolSnapshot *pool, TimestampTz at, Stages *stages)
{
	*stages = (Stages){ 0 };
	if (!OidIsValid(get_relname_relid("prebuild_stage", plans_extension_schema())))
		return;
	read_rows(stages);
	if (stages->n == 0)
		return;
	judge_rows(stages, at);
	for (int i = 0; i < pool->npresets; i++)
	{
		Stage *stage = stages_find(stages, &pool->presets[i].template_version_id);

		if (stage != NULL && stage->end == STAGE_GOES_ON)
			pool->presets[i].staged_share = stage->share;
	}
}

/* Does a preset keep its version in a state? Those states are a preset's own fault. */
static bool
is_in_state(const Preset *preset, StageState state)
{
	switch (state)
	{
		case STAGE_HARD_LIMITED:
			return preset->hard_limited;
		case STAGE_VALIDATION_FAILED:
			return preset->new_status == STATUS_VALIDATION_FAILED;
		case STAGE_UNSUPPORTED:
			return preset->withheld == WITHHELD_UNSUPPORTED;
		default:
			return preset->remaining < preset->desired;
	}
}

/* Say why a preset misses instances and gets none now, or NULL if it gets them. palloc'd. */
static char *
reason_to_wait(const Preset *preset)
{
	switch (preset->withheld)
	{
		case WITHHELD_BACKOFF:
			return psprintf("builds failed lately, and nothing is created until %s",
							timestamptz_to_str(preset->backoff_until));
		case WITHHELD_RETRY:
		case WITHHELD_NO_PROVISIONER:
			return pstrdup(preset->check_reason);
		default:
			return preset->capped == 0
					   ? NULL
					   : psprintf("%d are withheld by %s", preset->capped, preset->capped_by);
	}
}

/* Say in what way a preset keeps its version from becoming active. NULL: it just takes time. */
static char *
reason_of_preset(const Preset *preset, StageState state)
{
	switch (state)
	{
		case STAGE_HARD_LIMITED:
			return pstrdup("it is hard-limited, its newest builds all failed");
		case STAGE_VALIDATION_FAILED:
			return pstrdup(preset->check == BUILD_INVALID
							   ? preset->check_reason
							   : "the control plane marked it as validation_failed");
		case STAGE_UNSUPPORTED:
			return pstrdup(preset->check_reason);
		default:
			return reason_to_wait(preset);
	}
}

/* Say why a version is not ready. palloc'd. */
static char *
reason_not_ready(const PoolSnapshot *pool, const Stage *stage, StageState state)
{
	bool stays_short = state == STAGE_INCOMPLETE && stage->eligible >= stage->target;
	char *numbers = psprintf("%d of %d are eligible%s", stage->eligible, stage->target,
							 stays_short ? ", but too few of a preset stay" : "");

	if (state == STAGE_EMPTY)
		return pstrdup("its presets want no prebuilds at this time");
	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];
		char *reason;

		if (!preset->kept || id_compare(&preset->template_version_id, &stage->version_id) != 0 ||
			!is_in_state(preset, state))
			continue;
		reason = reason_of_preset(preset, state);
		if (reason != NULL)
			return psprintf("%s; preset \"%s\": %s", numbers, preset->details->name, reason);
	}
	return numbers;
}

/*
 * Has another version become active since this one was staged? Then somebody has decided anew, and
 * a pass must not undo that.
 */
static bool
is_overtaken(const Stage *stage)
{
	return id_compare(&stage->replaces, &stage->active_version_id) != 0;
}

/* Say of each stage whether the version is ready, and why. The pool must be settled. */
void
stages_settle(const Stages *stages, const PoolSnapshot *pool)
{
	for (int i = 0; i < stages->n; i++)
	{
		Stage *stage = &stages->rows[i];
		StageState state = decision_stage_state(pool, &stage->version_id, &stage->target,
												&stage->eligible, &stage->failed);

		if (stage->end != STAGE_GOES_ON)
			continue;
		stage->ready = state == STAGE_READY;
		stage->promotes = stage->ready && stage->promote && !is_overtaken(stage);
		if (!stage->ready)
			stage->reason = reason_not_ready(pool, stage, state);
		else
			stage->reason = psprintf("%d of %d are eligible", stage->eligible, stage->target);
		if (stage->promote && is_overtaken(stage))
			stage->reason = psprintf("%s; no pass promotes it, because another version has become "
									 "active since it was staged",
									 stage->reason);
	}
}
