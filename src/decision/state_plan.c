/*
 * state_plan.c
 *	  SQL functions prebuild_state() and prebuild_plan(): show a judgement as rows, in the order in
 *	  which a person looks for a preset.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/ids.h"
#include "decision/judgement.h"
#include "decision/plan_reasons.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"

PG_FUNCTION_INFO_V1(prebuild_state);
PG_FUNCTION_INFO_V1(prebuild_plan);
FUNCTION_OF_LONGER_ROW(prebuild_state, 0_2);
FUNCTION_OF_LONGER_ROW(prebuild_plan, 0_2);

/* Order presets by organization, template and name, the active version's first, then by id. */
static int
compare_presets(const void *first, const void *second)
{
	const Preset *a = *(const Preset *const *) first;
	const Preset *b = *(const Preset *const *) second;
	int order = strcmp(a->details->organization_name, b->details->organization_name);

	if (order == 0)
		order = strcmp(a->details->template_name, b->details->template_name);
	if (order == 0)
		order = strcmp(a->details->name, b->details->name);
	if (order == 0)
		order = (int) b->active - (int) a->active;
	return order != 0 ? order : id_compare(&a->id, &b->id);
}

/* Return the presets of a snapshot in the order of compare_presets(). palloc'd. */
static const Preset **
presets_by_name(const PoolSnapshot *pool)
{
	const Preset **presets = palloc_array(const Preset *, pool->npresets + 1);

	for (int i = 0; i < pool->npresets; i++)
		presets[i] = &pool->presets[i];
	qsort(presets, pool->npresets, sizeof(Preset *), compare_presets);
	return presets;
}

/* prebuild_state(at timestamptz): one row per preset that has desired instances */
Datum
prebuild_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	Judgement *judgement;
	const Preset **presets;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	judgement = judgement_make(at);
	judgement_warn(judgement);
	presets = presets_by_name(judgement->pool);
	for (int i = 0; i < judgement->pool->npresets; i++)
	{
		const Preset *preset = presets[i];
		const PresetDetails *details = preset->details;
		const int32 counts[] = { preset->desired,	preset->actual,		preset->expired,
								 preset->eligible,	preset->extraneous, preset->starting,
								 preset->stopping,	preset->deleting,	preset->pending_stale,
								 preset->num_failed };
		ResultRow row;

		row.n = 0;
		result_put_uuid(&row, &preset->id);
		result_put_text(&row, details->name);
		result_put_uuid(&row, &preset->template_id);
		result_put_text(&row, details->template_name);
		result_put_uuid(&row, &preset->organization_id);
		result_put_text(&row, details->organization_name);
		result_put_uuid(&row, &preset->template_version_id);
		result_put_bool(&row, preset->active);
		for (size_t c = 0; c < lengthof(counts); c++)
			result_put_int4(&row, counts[c]);
		if (preset->has_backoff_until)
			result_put_time(&row, preset->backoff_until);
		else
			result_put_null(&row, TIMESTAMPTZOID);
		result_put_bool(&row, preset->hard_limited);
		result_put_text(&row, details->stored_status);
		result_put_text(&row, preset->kept ? details->cron_expression : NULL);
		result_put_int4(&row, preset->sick);
		result_put_bool(&row, preset->kept && !preset->active);
		result_put_text(&row, auto_sizing_source(preset));
		result_row_store(rsinfo, &row);
	}
	plans_leave();
	return (Datum) 0;
}

/* The rows of a plan, and the preset to which the next ones belong. */
typedef struct PlanRows
{
	ReturnSetInfo *rsinfo;
	const Preset *preset;
} PlanRows;

/* Put one row of the plan. workspace_ids: a uuid array, or NULL for none. */
static void
put_action(const PlanRows *rows, const char *action, int count, const ArrayParameter *workspace_ids,
		   const char *reason)
{
	const Preset *preset = rows->preset;
	ResultRow row;

	row.n = 0;
	result_put_uuid(&row, &preset->id);
	result_put_uuid(&row, &preset->template_id);
	result_put_text(&row, action);
	result_put_int4(&row, count);
	if (workspace_ids != NULL)
		result_put(&row, UUIDARRAYOID, array_datum(workspace_ids));
	else
		result_put_null(&row, UUIDARRAYOID);
	if (strcmp(action, "backoff") == 0)
		result_put_time(&row, preset->backoff_until);
	else
		result_put_null(&row, TIMESTAMPTZOID);
	result_put_text(&row, reason);
	result_put_text(&row, preset->details->template_name);
	result_put_text(&row, preset->details->name);
	result_row_store(rows->rsinfo, &row);
}

/*
 * Put the rows for the members of a preset that go: one for each verdict. Members are in order of
 * verdict.
 */
static void
put_departures(const PlanRows *rows, const PoolSnapshot *pool)
{
	const Preset *preset = rows->preset;
	PoolMember *const *members = &pool->order[preset->first_action];

	for (int first = 0, end; first < preset->nactions; first = end)
	{
		Verdict verdict = members[first]->verdict;
		ArrayParameter *ids = array_new(UUIDOID);

		for (end = first; end < preset->nactions && members[end]->verdict == verdict; end++)
			array_add_id(ids, &members[end]->id);
		put_action(rows, verdict == VERDICT_CANCEL ? "cancel_pending" : "delete", end - first, ids,
				   reason_to_go(preset, &members[first], end - first));
	}
}

/* What a plan calls the row for missing instances. */
static const char *
creation_name(Withheld withheld)
{
	switch (withheld)
	{
		case WITHHELD_NOT:
		case WITHHELD_RETRY:
			break;
		case WITHHELD_BACKOFF:
			return "backoff";
		case WITHHELD_HARD_LIMITED:
			return "hard_limited";
		case WITHHELD_VALIDATION_FAILED:
			return "validation_failed";
		case WITHHELD_UNSUPPORTED:
			return "unsupported";
		case WITHHELD_NO_PROVISIONER:
			return "no_provisioner";
	}
	return "create";
}

/*
 * Put the row for the instances that a preset misses, whether a pass creates or withholds them. A
 * backoff shows even if nothing is missing.
 */
static void
put_creation(const PlanRows *rows, const DecisionSettings *settings)
{
	const Preset *preset = rows->preset;
	bool creates = preset->withheld == WITHHELD_NOT || preset->withheld == WITHHELD_RETRY;

	if (preset->shortfall > 0 || preset->withheld == WITHHELD_BACKOFF)
		put_action(rows, creation_name(preset->withheld),
				   creates ? preset->create : preset->shortfall, NULL,
				   reason_to_create(preset, settings));
}

/* Put the row for the staged version of a template, if a pass makes it the active one. */
static void
put_promotion(ReturnSetInfo *rsinfo, const Stages *stages, const Id *template_id)
{
	for (int i = 0; i < stages->n; i++)
	{
		const Stage *stage = &stages->rows[i];
		ResultRow row;

		if (!stage->promotes || id_compare(&stage->template_id, template_id) != 0)
			continue;
		row.n = 0;
		result_put_null(&row, UUIDOID);
		result_put_uuid(&row, &stage->template_id);
		result_put_text(&row, "promote");
		result_put_int4(&row, stage->eligible);
		result_put_null(&row, UUIDARRAYOID);
		result_put_null(&row, TIMESTAMPTZOID);
		result_put_text(&row, psprintf("the staged version becomes active: %s", stage->reason));
		result_put_text(&row, stage->template_name);
		result_put_null(&row, TEXTOID);
		result_row_store(rsinfo, &row);
	}
}

/* Is number i of n presets, in the order of the plan, the last one of its template? */
static bool
is_last_of_template(const Preset **presets, int i, int n)
{
	const Id *template_id = &presets[i]->template_id;

	while (++i < n)
		if (id_compare(&presets[i]->template_id, template_id) == 0)
			return false;
	return true;
}

/* prebuild_plan(at timestamptz): what prebuild_reconcile(at) would do */
Datum
prebuild_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	Judgement *judgement;
	const Preset **presets;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	judgement = judgement_make(at);
	judgement_warn(judgement);
	presets = presets_by_name(judgement->pool);
	for (int i = 0; i < judgement->pool->npresets; i++)
	{
		const PlanRows rows = { rsinfo, presets[i] };

		put_departures(&rows, judgement->pool);
		if (rows.preset->kept)
			put_creation(&rows, &judgement->settings);
		if (judgement->stages.n > 0 && is_last_of_template(presets, i, judgement->pool->npresets))
			put_promotion(rsinfo, &judgement->stages, &rows.preset->template_id);
	}
	plans_leave();
	return (Datum) 0;
}
