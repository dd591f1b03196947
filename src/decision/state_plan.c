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
#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"

PG_FUNCTION_INFO_V1(prebuild_state);
PG_FUNCTION_INFO_V1(prebuild_plan);
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
		result_put_text(&row, preset->active ? details->cron_expression : NULL);
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
 * Say which of too many members go first, unless that is just the oldest. members: those of one
 * preset that go, in order. palloc'd.
 */
static char *
reason_for_choice(PoolMember *const *members, int count)
{
	int sick = 0;
	int not_ready = 0;

	for (int i = 0; i < count; i++)
	{
		sick += members[i]->unwell;
		not_ready += !members[i]->unwell && !members[i]->ready;
	}
	if (sick > 0 && not_ready > 0)
		return psprintf("; %d sick and %d not ready go first", sick, not_ready);
	if (sick > 0)
		return psprintf("; %d sick go first", sick);
	if (not_ready > 0)
		return psprintf("; %d not ready go first", not_ready);
	return pstrdup("");
}

/* Say why some members of a preset go. All have the same verdict. palloc'd. */
static char *
reason_to_go(const Preset *preset, PoolMember *const *members, int count)
{
	const char *inactive = preset->template_deleted		 ? "the template is deleted"
						   : preset->template_deprecated ? "the template is deprecated"
														 : "the template version is not active";

	switch (members[0]->verdict)
	{
		case VERDICT_CANCEL:
			return psprintf("%d pending, none wanted: %s", count, inactive);
		case VERDICT_DELETE_INACTIVE:
			return psprintf("%d running, none wanted: %s", preset->actual, inactive);
		case VERDICT_DELETE_EXPIRED:
			return psprintf("%d of %d running are expired", preset->expired, preset->actual);
		default:
			return psprintf("%d valid ones are running, %d are desired%s", preset->valid,
							preset->desired, reason_for_choice(members, count));
	}
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

/* Put the row for the instances that a preset misses, whether a pass creates or withholds them. */
static void
put_creation(const PlanRows *rows, const DecisionSettings *settings)
{
	const Preset *preset = rows->preset;
	char *missing = psprintf("%d of %d desired are missing (%d valid ones running, %d starting)",
							 preset->shortfall, preset->desired, preset->valid, preset->starting);

	if (preset->withheld == WITHHELD_BACKOFF)
		put_action(rows, "backoff", preset->shortfall, NULL,
				   psprintf("%d builds failed lately: nothing is created until %s; %s",
							preset->num_failed, timestamptz_to_str(preset->backoff_until),
							missing));
	else if (preset->shortfall == 0)
		return;
	else if (preset->withheld == WITHHELD_HARD_LIMITED)
		put_action(
			rows, "hard_limited", preset->shortfall, NULL,
			psprintf("the newest %d builds all failed; %s", settings->failure_hard_limit, missing));
	else if (preset->withheld == WITHHELD_VALIDATION_FAILED)
		put_action(rows, "validation_failed", preset->shortfall, NULL,
				   psprintf("%s; %s",
							preset->check == BUILD_INVALID
								? preset->check_reason
								: "the control plane marked the preset as validation_failed",
							missing));
	else if (preset->withheld == WITHHELD_UNSUPPORTED)
		put_action(rows, "unsupported", preset->shortfall, NULL,
				   psprintf("%s; %s", preset->check_reason, missing));
	else if (preset->withheld == WITHHELD_RETRY)
		put_action(rows, "create", 0, NULL,
				   psprintf("waiting: %s; %s", preset->check_reason, missing));
	else if (preset->capped > 0)
		put_action(rows, "create", preset->create, NULL,
				   psprintf("%s; %d withheld by %s", missing, preset->capped, preset->capped_by));
	else
		put_action(rows, "create", preset->create, NULL, missing);
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
	}
	plans_leave();
	return (Datum) 0;
}
