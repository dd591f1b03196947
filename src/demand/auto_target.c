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
 *	  is constant, and the rows read are those of a day, one of each preset that had no demand in it,
 *	  and no build. The backend keeps the demands of the day and the choices, and reads what is new of
 *	  them (kept_demands.c, kept_choices.c).
 */
#include "compat.h"

#include "utils/timestamp.h"

#include "cron/timezone.h"
#include "demand/auto_target.h"
#include "demand/backtest.h"
#include "demand/day_demands.h"
#include "demand/kept_choices.h"
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

/* A preset whose policy is asked. */
typedef struct Question
{
	AutoPreset *preset;
	const PresetDemands *day; /* NULL: none in the last day; */
	TimestampTz last_demand;  /* then, when the last one came, or DT_NOBEGIN */
} Question;

/*
 * Make the demands of a past: those of the last day, which may be none, and before them enough for a
 * policy to see that there was demand at all. Of these only the last one counts, if it is the last of
 * all. palloc'd.
 */
static void
make_demands(DemandHistory *past, const Question *question, TimestampTz at)
{
	int recent = question->day == NULL ? 0 : question->day->n;
	int64_t *demands = palloc_array(int64_t, POLICY_DEMANDS_MIN + recent);
	/* later than the earliest time that there is, so that sums do not overflow */
	int64_t before = Max(question->last_demand, at - 10 * POLICY_SILENCE);

	for (int i = 0; i < POLICY_DEMANDS_MIN; i++)
		demands[i] = Min(before, at - DEMAND_DAY - 1);
	if (recent > 0)
		memcpy(demands + POLICY_DEMANDS_MIN, question->day->times, sizeof(int64_t) * recent);
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

/* Ask the chosen policy of a preset. */
static void
ask_policy(const Question *question, TimestampTz at, PolicyMemo *memo)
{
	AutoPreset *preset = question->preset;
	const PolicyChoice *choice = preset->choice;
	const Policy *policy = &choice->policy;
	const SizingRules *rules = preset->rules;
	PolicySettings settings = sizing_policy_settings(rules);
	ShortPast past = { .configured = { INT64_MIN, preset->configured } };
	bool silent;

	past.past.configured = &past.configured;
	past.past.nconfigured = 1;
	make_demands(&past.past, question, at);
	make_offsets(&past, preset->timezone, at);
	/* the configuration does not come down by itself */
	silent = policy_is_silent(&past.past, at);
	if (!silent && policy_learns(policy) &&
		(choice->learnt_at < policy_learns_at(at) - LEARNT_HOLDS || choice->recalled == NULL))
	{
		keep_configured(preset, AUTO_NOT_LEARNT);
		return;
	}
	policy_memo_next(memo);
	if (silent)
		preset->answer = (PolicyAnswer){ .reason = POLICY_SILENT };
	else
	{
		policy_remember(policy, choice->recalled, at, memo);
		policy_target(policy, &settings, &past.past, at, memo, &preset->answer);
	}
	preset->source = AUTO_POLICY;
	preset->target = Min(Max(preset->answer.target, rules->min_instances), rules->max_instances);
	preset->by_policy = silent || preset->target != preset->configured ||
						(policy->kind != POLICY_CONFIGURED && preset->answer.reason == POLICY_SAYS);
	pfree(unconstify(int64_t *, past.past.demands));
}

/* Does a policy answer for a preset? Else what is configured does, now. */
static bool
has_policy(AutoPreset *preset, const PolicyChoices *choices, TimestampTz at)
{
	preset->choice = policy_choice_find(choices, &preset->template_id, preset->name);
	if (preset->choice == NULL)
		keep_configured(preset, AUTO_NOT_CHOSEN);
	else if (preset->choice->chosen_at > at + CHOSEN_LATER_BY)
		keep_configured(preset, AUTO_CHOSEN_LATER);
	else if (preset->choice->outcome == OUTCOME_TOO_LITTLE ||
			 preset->choice->outcome == OUTCOME_FAILED)
		keep_configured(preset, AUTO_SAFEGUARD);
	else
		return true;
	return false;
}

/* Look up when somebody asked last for the presets for which nobody has asked in the last day. */
static void
find_last_demands(Question *questions, int n, TimestampTz at)
{
	const Id **templates = palloc_array(const Id *, n + 1);
	const char **names = palloc_array(const char *, n + 1);
	TimestampTz *last;
	int quiet = 0;

	for (int i = 0; i < n; i++)
		if (questions[i].day == NULL)
		{
			templates[quiet] = &questions[i].preset->template_id;
			names[quiet++] = questions[i].preset->name;
		}
	last = last_demands_read(templates, names, quiet, at);
	quiet = 0;
	for (int i = 0; i < n; i++)
		if (questions[i].day == NULL)
			questions[i].last_demand = last[quiet++];
}

/*
 * Answer how many prebuilds n presets want at a time, in the active snapshot, by a constant number of
 * statements. template_id: that of all presets, or NULL if they have several. SPI must be connected.
 * Returns the choices; everything is palloc'd in the current context.
 */
PolicyChoices
auto_targets(AutoPreset *presets, int n, const Id *template_id, TimestampTz at)
{
	PolicyChoices choices = policy_choices_read(template_id);
	Question *questions = palloc_array(Question, n + 1);
	PolicyMemo *memo = palloc_object(PolicyMemo);
	PolicyPattern *pattern = palloc_object(PolicyPattern);
	int asked = 0;

	for (int i = 0; i < n; i++)
		if (has_policy(&presets[i], &choices, at))
			questions[asked++] = (Question){ .preset = &presets[i], .last_demand = DT_NOBEGIN };
	if (asked > 0)
	{
		const DemandTable *day = day_demands_read(template_id, at);

		for (int i = 0; i < asked; i++)
			questions[i].day = demand_table_find(day, &questions[i].preset->template_id,
												 questions[i].preset->name);
		find_last_demands(questions, asked, at);
	}
	policy_memo_init(memo, pattern, 1);
	for (int i = 0; i < asked; i++)
		ask_policy(&questions[i], at, memo);
	pfree(pattern);
	pfree(memo);
	/* what they have learnt is gone with the next reading */
	for (int i = 0; i < choices.n; i++)
		choices.choices[i].recalled = NULL;
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
