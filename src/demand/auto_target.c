/*
 * auto_target.c
 *	  How many prebuilds presets in mode auto want at a time.
 *
 *	  It asks the chosen policy by policy_target(), as the backtest does that has chosen it. Months of
 *	  demand would take longer to read than a pass takes. So passes keep what the policy has learnt of
 *	  the weeks (see policy_learnt.c), and here the policy gets a past that has the demands of the last
 *	  day, and before that as many as its answer may depend on. The answer is the same; a unit test
 *	  compares both.
 *
 *	  The demands come from the log alone, which passes bring up to date. So the number of statements
 *	  is constant, and the rows read are those of a day, one of each choice, and no build.
 */
#include "compat.h"

#include "utils/timestamp.h"

#include "cron/timezone.h"
#include "demand/auto_target.h"
#include "demand/backtest.h"
#include "demand/history.h"
#include "demand/policy_learnt.h"
#include "settings.h"

/* How often passes come that nobody has set, in seconds: as coderd's do, and those of pg_cron. */
#define USUAL_PASS_INTERVAL 60

/* A transaction may have begun so long before the pass whose choice it sees. */
#define CHOSEN_LATER_BY USECS_PER_HOUR

/* What a policy has learnt holds for the week, and for one more while passes learn the next one. */
#define LEARNT_HOLDS DEMAND_WEEK

/* The past as a policy with its memory needs it. */
typedef struct ShortPast
{
	DemandHistory past;
	DemandStep configured;
	DemandStep offsets[3]; /* one day has one change of the offset at most, and there may be more */
} ShortPast;

/* Return the settings of the policies, of the session and of a preset. */
PolicySettings
sizing_policy_settings(const SizingRules *rules)
{
	int pass_interval =
		setting_reconcile_interval > 0 ? setting_reconcile_interval : USUAL_PASS_INTERVAL;

	return (PolicySettings){ .min_instances = rules->min_instances,
							 .max_instances = rules->max_instances,
							 .scale_in_delay = setting_scale_in_delay * DEMAND_SECOND,
							 .pass_interval = pass_interval * DEMAND_SECOND,
							 .default_lead = Max(setting_default_lead_time, 1) * DEMAND_SECOND };
}

/*
 * Make the demands of a past: those of the last day, which may be none, and before them enough for a
 * policy to see that there was demand at all. Of these only the last one counts, if it is the last of
 * all. palloc'd.
 */
static void
make_demands(DemandHistory *past, const PolicyChoice *choice, const DemandHistory *day,
			 TimestampTz at)
{
	int recent = day == NULL ? 0 : day->ndemands;
	int64_t *demands = palloc_array(int64_t, POLICY_DEMANDS_MIN + recent);
	/* later than the earliest time that there is, so that sums do not overflow */
	int64_t before = Max(choice->last_demand, at - 10 * POLICY_SILENCE);

	for (int i = 0; i < POLICY_DEMANDS_MIN; i++)
		demands[i] = Min(before, at - DEMAND_DAY - 1);
	if (recent > 0)
		memcpy(demands + POLICY_DEMANDS_MIN, day->demands, sizeof(int64_t) * recent);
	past->demands = demands;
	past->ndemands = POLICY_DEMANDS_MIN + recent;
}

/* Make the steps of the zone's offset for a day before a time and the time itself. */
static void
make_offsets(ShortPast *past, const char *timezone, TimestampTz at)
{
	const pg_tz *zone = timezone[0] == '\0' ? NULL : timezone_find(timezone);
	TimestampTz from = at - DEMAND_DAY;
	int n = 0;

	for (; zone != NULL && from <= at && n < (int) lengthof(past->offsets);
		 from = timezone_next_change(from, zone))
		past->offsets[n++] = (DemandStep){ from, timezone_offset(from, zone) };
	past->past.offsets = past->offsets;
	past->past.noffsets = n;
}

/* Let the configuration hold, as it is. */
static void
keep_configured(AutoPreset *preset, AutoSource source)
{
	preset->source = source;
	preset->target = preset->configured;
	preset->by_policy = false;
}

/* Let the configuration hold, because another reconciler is at work. */
void
auto_suspend(AutoPreset *preset)
{
	keep_configured(preset, AUTO_SUSPENDED);
}

/* Ask the chosen policy of a preset. day: the history of the last day, or NULL. */
static void
ask_policy(AutoPreset *preset, const DemandHistory *day, TimestampTz at, PolicyMemo *memo)
{
	const PolicyChoice *choice = preset->choice;
	const Policy *policy = &choice->policy;
	const SizingRules *rules = preset->rules;
	PolicySettings settings = sizing_policy_settings(rules);
	ShortPast past = { .configured = { INT64_MIN, preset->configured } };
	bool silent;

	past.past.configured = &past.configured;
	past.past.nconfigured = 1;
	make_demands(&past.past, choice, day, at);
	make_offsets(&past, preset->timezone, at);
	/* the configuration does not come down by itself */
	silent = policy_is_silent(&past.past, at);
	policy_memo_next(memo);
	if (!silent && policy_learns(policy) &&
		(choice->learnt_at < policy_learns_at(at) - LEARNT_HOLDS ||
		 !policy_recall(policy, choice->learnt, choice->nlearnt, at, memo)))
	{
		keep_configured(preset, AUTO_NOT_LEARNT);
		return;
	}
	if (silent)
		preset->answer = (PolicyAnswer){ .reason = POLICY_SILENT };
	else
		policy_target(policy, &settings, &past.past, at, memo, &preset->answer);
	preset->source = AUTO_POLICY;
	preset->target = Min(Max(preset->answer.target, rules->min_instances), rules->max_instances);
	preset->by_policy = silent || preset->target != preset->configured ||
						(policy->kind != POLICY_CONFIGURED && preset->answer.reason == POLICY_SAYS);
	pfree(unconstify(int64_t *, past.past.demands));
}

/* Answer for one preset. */
static void
answer(AutoPreset *preset, const PolicyChoices *choices, const PresetHistories *histories,
	   TimestampTz at, PolicyMemo *memo)
{
	const PresetHistory *history =
		preset_history_find(histories, &preset->template_id, preset->name);

	preset->choice = policy_choice_find(choices, &preset->template_id, preset->name);
	if (preset->choice == NULL)
		keep_configured(preset, AUTO_NOT_CHOSEN);
	else if (preset->choice->chosen_at > at + CHOSEN_LATER_BY)
		keep_configured(preset, AUTO_CHOSEN_LATER);
	else if (preset->choice->outcome == OUTCOME_TOO_LITTLE ||
			 preset->choice->outcome == OUTCOME_FAILED)
		keep_configured(preset, AUTO_SAFEGUARD);
	else
		ask_policy(preset, history == NULL ? NULL : &history->past, at, memo);
}

/*
 * Answer how many prebuilds n presets want at a time, in the active snapshot, by a constant number of
 * statements. template_id: that of all presets, or NULL if they have several. SPI must be connected.
 * Returns the choices; everything is palloc'd in the current context.
 */
PolicyChoices
auto_targets(AutoPreset *presets, int n, const Id *template_id, TimestampTz at)
{
	const HistoryRange last_day = { .source = HISTORY_LOGGED,
									.template_id = template_id,
									.from = at - DEMAND_DAY,
									.samples_from = at,
									.until = at };
	PolicyChoices choices = policy_choices_read(template_id, at);
	PresetHistories histories = { 0 };
	PolicyMemo *memo = palloc_object(PolicyMemo);
	PolicyPattern *pattern = palloc_object(PolicyPattern);

	if (choices.n > 0)
		histories = preset_histories_read(&last_day);
	policy_memo_init(memo, pattern, 1);
	for (int i = 0; i < n; i++)
		answer(&presets[i], &choices, &histories, at, memo);
	pfree(pattern);
	pfree(memo);
	return choices;
}

/* Say why a policy wants what it wants. palloc'd. */
char *
policy_reason(const Policy *policy, const PolicyAnswer *answer)
{
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

/* Say why a preset in mode auto wants what it wants. palloc'd. */
char *
auto_reason(const AutoPreset *preset)
{
	switch (preset->source)
	{
		case AUTO_POLICY:
			break;
		case AUTO_SAFEGUARD:
			return psprintf("%s: what is configured holds", preset->choice->note);
		case AUTO_NOT_CHOSEN:
			return pstrdup("no pass has chosen a policy yet: what is configured holds");
		case AUTO_CHOSEN_LATER:
			return psprintf("no pass had chosen a policy before %s: what is configured holds",
							timestamptz_to_str(preset->choice->chosen_at));
		case AUTO_NOT_LEARNT:
			return pstrdup("no pass has learnt the weeks before yet: what is configured holds");
		case AUTO_SUSPENDED:
			return pstrdup("another reconciler has made prebuilds in the last hour: what is "
						   "configured holds");
	}
	if (preset->choice->outcome == OUTCOME_WORSE && preset->answer.reason == POLICY_SAYS)
		return pstrdup(preset->choice->note);
	return policy_reason(&preset->choice->policy, &preset->answer);
}
