/*
 * state_plan.c
 *	  SQL functions prebuild_state() and prebuild_plan(): a judgement, shown as rows.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "judgement.h"
#include "plans.h"
#include "result_row.h"
#include "rows.h"

PG_FUNCTION_INFO_V1(prebuild_state);
PG_FUNCTION_INFO_V1(prebuild_plan);

/* prebuild_state(at timestamptz): one row per preset that has desired instances */
Datum
prebuild_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	ControlPlaneSnapshot *snapshot;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	snapshot = judgement_make(at)->snapshot;
	for (int i = 0; i < snapshot->pool.npresets; i++)
	{
		const Preset *preset = &snapshot->pool.presets[i];
		const PresetInfo *info = &snapshot->info[i];
		const int32 counts[] = { preset->desired,	preset->actual,		preset->expired,
								 preset->eligible,	preset->extraneous, preset->starting,
								 preset->stopping,	preset->deleting,	preset->pending_stale,
								 preset->num_failed };
		ResultRow row;

		row.n = 0;
		result_put_uuid(&row, &preset->id);
		result_put_text(&row, info->name);
		result_put_uuid(&row, &preset->template_id);
		result_put_text(&row, info->template_name);
		result_put_uuid(&row, &preset->organization_id);
		result_put_text(&row, info->organization_name);
		result_put_uuid(&row, &preset->template_version_id);
		result_put_bool(&row, preset->active);
		for (size_t c = 0; c < lengthof(counts); c++)
			result_put_int4(&row, counts[c]);
		if (preset->has_backoff_until)
			result_put_time(&row, preset->backoff_until);
		else
			result_put_null(&row, TIMESTAMPTZOID);
		result_put_bool(&row, preset->hard_limited);
		result_put_text(&row, info->stored_status);
		result_put_text(&row, preset->active ? info->cron_expression : NULL);
		result_row_store(rsinfo, &row);
	}
	plans_leave();
	return (Datum) 0;
}

/* Put one row of the plan. workspace_ids: a uuid array, or NULL for none. */
static void
put_action(ReturnSetInfo *rsinfo, const Preset *preset, const char *action, int count,
		   const ArrayParameter *workspace_ids, const char *reason)
{
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
	result_row_store(rsinfo, &row);
}

/* Say why some members of a preset go. */
static char *
reason_to_go(const Preset *preset, Verdict verdict, int count)
{
	switch (verdict)
	{
		case VERDICT_CANCEL:
			return psprintf("%d pending first builds are of a template version that is not active",
							count);
		case VERDICT_DELETE_INACTIVE:
			return psprintf("%d running, none wanted: %s", preset->actual,
							preset->template_deleted	  ? "the template is deleted"
							: preset->template_deprecated ? "the template is deprecated"
														  : "the template version is not active");
		case VERDICT_DELETE_EXPIRED:
			return psprintf("%d of %d running are expired", preset->expired, preset->actual);
		default:
			return psprintf("%d valid ones are running, %d are desired",
							preset->actual - preset->expired, preset->desired);
	}
}

/* Put the rows for the members of a preset that go: one per verdict, which are in order. */
static void
put_departures(ReturnSetInfo *rsinfo, const PoolSnapshot *pool, const Preset *preset)
{
	PoolMember *const *members = &pool->order[preset->first_action];

	for (int first = 0, end; first < preset->nactions; first = end)
	{
		Verdict verdict = members[first]->verdict;
		ArrayParameter *ids = array_new(UUIDOID);

		for (end = first; end < preset->nactions && members[end]->verdict == verdict; end++)
			array_add_id(ids, &members[end]->id);
		put_action(rsinfo, preset, verdict == VERDICT_CANCEL ? "cancel_pending" : "delete",
				   end - first, ids, reason_to_go(preset, verdict, end - first));
	}
}

/* Put the row for the instances that a preset misses, created or withheld. */
static void
put_creation(ReturnSetInfo *rsinfo, const Preset *preset, const DecisionSettings *settings)
{
	char *missing = psprintf("%d of %d desired are missing (%d valid ones running, %d starting)",
							 preset->shortfall, preset->desired, preset->actual - preset->expired,
							 preset->starting);

	if (preset->withheld == WITHHELD_BACKOFF)
		put_action(rsinfo, preset, "backoff", preset->shortfall, NULL,
				   psprintf("%d builds failed lately: nothing is created until %s; %s",
							preset->num_failed, timestamptz_to_str(preset->backoff_until),
							missing));
	else if (preset->shortfall == 0)
		return;
	else if (preset->withheld == WITHHELD_HARD_LIMITED)
		put_action(
			rsinfo, preset, "hard_limited", preset->shortfall, NULL,
			psprintf("the newest %d builds all failed; %s", settings->failure_hard_limit, missing));
	else if (preset->withheld == WITHHELD_VALIDATION_FAILED)
		put_action(rsinfo, preset, "validation_failed", preset->shortfall, NULL,
				   psprintf("%s; %s",
							preset->check == BUILD_INVALID
								? preset->check_reason
								: "the control plane marked the preset as validation_failed",
							missing));
	else if (preset->withheld == WITHHELD_UNSUPPORTED)
		put_action(rsinfo, preset, "unsupported", preset->shortfall, NULL,
				   psprintf("%s; %s", preset->check_reason, missing));
	else if (preset->withheld == WITHHELD_RETRY)
		put_action(rsinfo, preset, "create", 0, NULL,
				   psprintf("waiting: %s; %s", preset->check_reason, missing));
	else if (preset->capped > 0)
		put_action(rsinfo, preset, "create", preset->create, NULL,
				   psprintf("%s; %d withheld by %s", missing, preset->capped, preset->capped_by));
	else
		put_action(rsinfo, preset, "create", preset->create, NULL, missing);
}

/* prebuild_plan(at timestamptz): what prebuild_reconcile(at) would do */
Datum
prebuild_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	Judgement *judgement;
	PoolSnapshot *pool;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	judgement = judgement_make(at);
	pool = &judgement->snapshot->pool;
	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];

		put_departures(rsinfo, pool, preset);
		if (preset->active)
			put_creation(rsinfo, preset, &judgement->settings);
	}
	plans_leave();
	return (Datum) 0;
}
