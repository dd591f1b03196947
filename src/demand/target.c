/*
 * target.c
 *	  SQL function prebuild_target(): what the policy of a preset says at a time.
 *
 *	  The policy is the one that a backtest of the days before chooses. Both see nothing from the time
 *	  on: only demands from before it are read, and of builds only those that had ended.
 */
#include "compat.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "catalog/control_plane_catalog.h"
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

/* Say why a policy wants what it wants. palloc'd. */
static char *
reason_of(const Backtest *backtest, const Policy *policy, const PolicyAnswer *answer)
{
	char *why = too_little(backtest);

	if (why != NULL)
		return why;
	if (answer->reason == POLICY_SILENT)
		return psprintf("nobody has asked for %d days: the least",
						(int) (POLICY_SILENCE / DEMAND_DAY));
	if (answer->reason == POLICY_TOO_LITTLE)
		return pstrdup("too little demand to learn from yet: what is configured holds");
	switch (policy->kind)
	{
		case POLICY_CONFIGURED:
			return psprintf("nothing was better by more than 5 %% over %d days", BACKTEST_DAYS);
		case POLICY_FORECAST:
			return psprintf(
				"for %.2f demands an hour, %.2f times what the weeks before say of this time, and "
				"the %.0f s that a new prebuild takes",
				answer->rate, answer->factor, (double) answer->lead / DEMAND_SECOND);
		case POLICY_SCHEDULE:
		case POLICY_WEEK:
			return pstrdup("the level of this hour in the schedule that fits the weeks before");
		case POLICY_FIXED:
			break;
	}
	return psprintf("the least number that would have been enough over %d days", BACKTEST_DAYS);
}

/* prebuild_target(preset_id uuid, at timestamptz): one row */
Datum
prebuild_target(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz at = backtest_time(fcinfo, 1, "at");
	const SizedPreset *preset;
	HistoryRange range;
	PresetHistories histories;
	DemandHistory past;
	Backtest *backtest;
	const Policy *policy;
	PolicyAnswer answer;
	ResultRow row;
	Datum result;

	argument_require(fcinfo, 0, "preset_id");
	plans_enter(fcinfo);
	control_plane_require();
	preset = sized_preset_by_id((const Id *) PG_GETARG_UUID_P(0));
	range =
		preset_past_range(&preset->template_id, preset->name, at - BACKTEST_DAYS * DEMAND_DAY, at);
	histories = preset_histories_read(&range);
	backtest =
		backtest_make(preset, preset_history_find(&histories, &preset->template_id, preset->name),
					  at - BACKTEST_DAYS * DEMAND_DAY, at, preset->rules.service_level);
	policy = &backtest->result.candidates[backtest->result.chosen].policy;
	past = demand_history_before(&backtest->past, at);
	policy_memo_next(&backtest->room.memo);
	policy_target(policy, &backtest->settings.policy, &past, at, &backtest->room.memo, &answer);
	/* the bounds hold for a choice; without one the configuration does, as it is */
	if (too_little(backtest) == NULL)
		answer.target =
			Min(Max(answer.target, preset->rules.min_instances), preset->rules.max_instances);

	row.n = 0;
	result_put_int4(&row, answer.target);
	result_put_text(&row, backtest_policy_name(policy));
	result_put_text(&row, reason_of(backtest, policy, &answer));
	/* the result outlives SPI's memory */
	MemoryContextSwitchTo(caller);
	result = result_row_datum(fcinfo, &row);
	plans_leave();
	return result;
}
