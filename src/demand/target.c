/*
 * target.c
 *	  SQL function prebuild_target(): what the policy of a preset says at a time.
 *
 *	  In mode auto the policy is the one that passes have chosen, and the answer is theirs. Otherwise
 *	  it is the one that a backtest of the days before chooses. Both see nothing from the time on: only
 *	  demands from before it are read, and of builds only those that had ended.
 */
#include "compat.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "catalog/control_plane_catalog.h"
#include "demand/auto_target.h"
#include "demand/backtest.h"

PG_FUNCTION_INFO_V1(prebuild_target);

/* Say why the configuration holds: there is too little to choose by. palloc'd, or NULL. */
static char *
too_little(const Backtest *backtest)
{
	switch (backtest->result.note)
	{
		case CHOICE_TOO_FEW:
			return psprintf("fewer than %d demands in %d days: what is configured holds",
							CHOICE_DEMANDS_MIN, BACKTEST_DAYS);
		case CHOICE_TOO_SHORT:
			return psprintf("less than %d days of history: what is configured holds",
							(int) (CHOICE_SPAN_MIN / DEMAND_DAY));
		default:
			return NULL;
	}
}

/* A target, as a row. */
typedef struct TargetRow
{
	int target;
	char *policy;
	char *reason;
} TargetRow;

/*
 * Take the target of a preset in mode auto by the policy that passes have chosen for it. Returns false
 * if no pass had chosen by that time.
 */
static bool
target_by_choice(const SizedPreset *preset, TimestampTz at, TargetRow *row)
{
	DemandHistory now = { 0 };
	AutoPreset sized = { .template_id = preset->template_id,
						 .name = preset->name,
						 .timezone = preset->timezone,
						 .rules = &preset->rules };

	preset_past_configure(&now, preset, at, at + DEMAND_DAY);
	sized.configured = (int) demand_step_value(now.configured, now.nconfigured, at, 0);
	(void) auto_targets(&sized, 1, &preset->template_id, at);
	if (sized.source == AUTO_NOT_CHOSEN || sized.source == AUTO_CHOSEN_LATER)
		return false;
	*row = (TargetRow){ sized.target, backtest_policy_name(&sized.choice->policy),
						auto_reason(&sized) };
	return true;
}

/* Take the target of a preset by the policy that a backtest of the days before chooses. */
static void
target_by_backtest(const SizedPreset *preset, TimestampTz at, TargetRow *row)
{
	HistoryRange range =
		preset_past_range(&preset->template_id, preset->name, at - BACKTEST_DAYS * DEMAND_DAY, at);
	PresetHistories histories = preset_histories_read(&range);
	Backtest *backtest =
		backtest_make(preset, preset_history_find(&histories, &preset->template_id, preset->name),
					  at - BACKTEST_DAYS * DEMAND_DAY, at, preset->rules.service_level);
	const Policy *policy = &backtest->result.candidates[backtest->result.chosen].policy;
	DemandHistory past = demand_history_before(&backtest->past, at);
	PolicyAnswer answer;

	policy_memo_next(&backtest->room.memo);
	policy_target(policy, &backtest->settings.policy, &past, at, &backtest->room.memo, &answer);
	row->target = answer.target;
	row->policy = backtest_policy_name(policy);
	row->reason = too_little(backtest);
	if (row->reason != NULL)
		return;
	/* the bounds hold for a choice; without one the configuration does, as it is */
	row->target = Min(Max(answer.target, preset->rules.min_instances), preset->rules.max_instances);
	row->reason = policy_reason(policy, &answer);
}

/* prebuild_target(preset_id uuid, at timestamptz): one row */
Datum
prebuild_target(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz at = backtest_time(fcinfo, 1, "at");
	const SizedPreset *preset;
	TargetRow target;
	ResultRow row;
	Datum result;

	argument_require(fcinfo, 0, "preset_id");
	plans_enter(fcinfo);
	control_plane_require();
	preset = sized_preset_by_id((const Id *) PG_GETARG_UUID_P(0));
	if (!sizing_rules_are_auto(&preset->rules) || !target_by_choice(preset, at, &target))
		target_by_backtest(preset, at, &target);
	row.n = 0;
	result_put_int4(&row, target.target);
	result_put_text(&row, target.policy);
	result_put_text(&row, target.reason);
	/* the result outlives SPI's memory */
	MemoryContextSwitchTo(caller);
	result = result_row_datum(fcinfo, &row);
	plans_leave();
	return result;
}
