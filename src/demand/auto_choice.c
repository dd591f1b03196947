/*
 * auto_choice.c
 *	  Choose the policy of a preset in mode auto, by a backtest of the days before, and have it learn
 *	  the weeks before. The safeguards are here: too little demand or history, and a policy that was
 *	  worse than the configuration in the last week, mean the configuration.
 */
#include "compat.h"

#include <math.h>

#include "utils/timestamp.h"

#include "demand/auto_choice.h"
#include "demand/auto_target.h"
#include "demand/backtest.h"
#include "demand/policy_learnt.h"

/* A choice holds for so long, and after an error for so long. */
#define CHOICE_HOLDS USECS_PER_DAY
#define FAILURE_HOLDS USECS_PER_HOUR
/* A choice from so long after the time is of a clock that was wrong. */
#define CLOCK_IS_WRONG USECS_PER_HOUR

/* What the chosen policy is measured by: the time before the choice. */
#define LATELY DEMAND_WEEK
/* More of the idle time than this, for the same demands served, is worse. */
#define IDLE_MORE 1.05

/* Return from when on a choice at a time wants to know the past. */
TimestampTz
auto_choice_reads_from(TimestampTz at)
{
	return at - BACKTEST_DAYS * DEMAND_DAY - PAST_LEARNT_FROM;
}

/*
 * Is it time to choose anew? Each day, when somebody has changed the policy, and when a week has begun
 * that the chosen policy has not learnt. last: the choice that holds, or NULL.
 */
bool
auto_choice_is_due(const PolicyChoice *last, TimestampTz at)
{
	return last == NULL || last->due_at <= at || last->chosen_at > at + CLOCK_IS_WRONG ||
		   (policy_learns(&last->policy) && last->learnt_at != policy_learns_at(at));
}

/* Begin a choice: the configuration, until something is better. */
static AutoChoice *
begin(const SizedPreset *preset, ChoiceOutcome outcome, const char *note, TimestampTz at,
	  int64 holds)
{
	AutoChoice *made = palloc0_object(AutoChoice);

	made->choice = (PolicyChoice){ .template_id = preset->template_id,
								   .preset_name = pstrdup(preset->name),
								   .policy = { .kind = POLICY_CONFIGURED },
								   .outcome = outcome,
								   .note = pstrdup(note),
								   .chosen_at = at,
								   .due_at = at + holds };
	made->policy_name = backtest_policy_name(&made->choice.policy);
	return made;
}

/* Return what holds after an error: the configuration. palloc'd in the current context. */
AutoChoice *
auto_choice_failed(const SizedPreset *preset, const char *error, TimestampTz at)
{
	return begin(preset, OUTCOME_FAILED, psprintf("the backtest failed: %s", error), at,
				 FAILURE_HOLDS);
}

/*
 * Has the demand stopped of a preset for which there was a choice? Then that stays, because the time
 * without demand must not bring the configuration back. A silent preset wants the least whatever its
 * policy is.
 */
static bool
stays_silent(const Backtest *backtest, const PolicyChoice *last, TimestampTz at)
{
	const DemandHistory *past = &backtest->past;

	if (last == NULL || last->outcome == OUTCOME_TOO_LITTLE || last->outcome == OUTCOME_FAILED)
		return false;
	return past->ndemands == 0 || at - past->demands[past->ndemands - 1] >= POLICY_SILENCE;
}

/* Play a policy over the last days. */
static SimulatorFigures
play_lately(Backtest *backtest, const DemandHistory *past, const Policy *policy, TimestampTz at)
{
	SimulatorResult result;

	choice_simulate(past, &backtest->settings, at - LATELY, at - LATELY, policy, &backtest->room,
					&result);
	return result.after;
}

/* Return a past whose configuration is within the bounds of the policy. palloc'd. */
static DemandHistory
within_bounds(const DemandHistory *past, const PolicySettings *settings)
{
	DemandHistory bounded = *past;
	DemandStep *steps = palloc_array(DemandStep, past->nconfigured + 1);

	for (int i = 0; i < past->nconfigured; i++)
		steps[i] = (DemandStep){ past->configured[i].from,
								 Min(Max(past->configured[i].value, settings->min_instances),
									 settings->max_instances) };
	bounded.configured = steps;
	return bounded;
}

/*
 * Say in what the chosen policy was worse than the configuration in the last week, or return NULL. It
 * missed more demands than the configuration, and more than chance lets it miss: it may miss m by its
 * level and two standard deviations and one more. Or it served no more, and waited longer by over 5 %.
 * The level is the preset's, or what the policy gave when it was chosen, if that is less. palloc'd.
 */
static char *
worse_lately(Backtest *backtest, const ChoiceCandidate *chosen, TimestampTz at)
{
	const Policy configured = { .kind = POLICY_CONFIGURED };
	DemandHistory bounded = within_bounds(&backtest->past, &backtest->settings.policy);
	SimulatorFigures policys = play_lately(backtest, &backtest->past, &chosen->policy, at);
	SimulatorFigures configureds = play_lately(backtest, &bounded, &configured, at);
	double level = Min(backtest->settings.service_level, simulator_hit_rate(&chosen->earlier));
	double may_miss = (1 - level) * policys.demands;

	if (policys.demands == 0)
		return NULL;
	if (policys.warm < configureds.warm &&
		policys.demands - policys.warm > may_miss + 2 * sqrt(may_miss) + 1)
		return psprintf("\"%s\" served %s of %d demands in the last %d days, and what is "
						"configured %s",
						backtest_policy_name(&chosen->policy), backtest_share(&policys),
						policys.demands, (int) (LATELY / DEMAND_DAY), backtest_share(&configureds));
	if (policys.warm <= configureds.warm &&
		(double) policys.idle > IDLE_MORE * (double) configureds.idle)
		return psprintf("\"%s\" waited %.0f idle hours in the last %d days, and what is "
						"configured %.0f, which served no less",
						backtest_policy_name(&chosen->policy), (double) policys.idle / DEMAND_HOUR,
						(int) (LATELY / DEMAND_DAY), (double) configureds.idle / DEMAND_HOUR);
	return NULL;
}

/* Have the chosen policy learn the weeks before. */
static void
learn(AutoChoice *made, Backtest *backtest, TimestampTz at)
{
	DemandHistory past = demand_history_before(&backtest->past, at);
	double *numbers = palloc_array(double, POLICY_LEARNT_MOST);

	policy_memo_next(&backtest->room.memo);
	made->choice.nlearnt = policy_learnt(&made->choice.policy, &backtest->settings.policy, &past,
										 at, &backtest->room.memo, numbers);
	made->choice.learnt = numbers;
	made->choice.learnt_at = policy_learns_at(at);
}

/* Keep the policy that was chosen last. */
static void
keep_last(AutoChoice *made, Backtest *backtest, const PolicyChoice *last, TimestampTz at)
{
	made->choice.policy = last->policy;
	made->choice.outcome = last->outcome;
	made->choice.note =
		psprintf("%s; nobody has asked for %d days, so the last choice stays",
				 backtest_choice_note(backtest), (int) (POLICY_SILENCE / DEMAND_DAY));
	made->policy_name = backtest_policy_name(&last->policy);
	learn(made, backtest, at);
}

/* Take what the backtest has chosen, unless it was worse lately. */
static void
take_chosen(AutoChoice *made, Backtest *backtest, TimestampTz at)
{
	const ChoiceResult *result = &backtest->result;
	const ChoiceCandidate *chosen = &result->candidates[result->chosen];
	char *worse =
		chosen->policy.kind == POLICY_CONFIGURED ? NULL : worse_lately(backtest, chosen, at);

	made->has_figures = true;
	made->figures = (ChoiceFigures){ chosen->later, result->candidates[0].later };
	if (worse != NULL)
	{
		made->choice.outcome = OUTCOME_WORSE;
		made->choice.note = worse;
		made->figures.chosen = made->figures.configured;
		return;
	}
	made->choice.outcome = result->note == CHOICE_MADE	 ? OUTCOME_BETTER
						   : result->note == CHOICE_KEPT ? OUTCOME_KEPT
														 : OUTCOME_BEST_EFFORT;
	made->choice.note = backtest_choice_note(backtest);
	made->choice.policy = chosen->policy;
	made->policy_name = backtest_policy_name(&chosen->policy);
	learn(made, backtest, at);
}

/*
 * Choose the policy of a preset at a time, from its past: what is in the logs since
 * auto_choice_reads_from(). last: the choice that holds, or NULL. Takes some ten simulations of
 * BACKTEST_DAYS. The result is palloc'd in the current context.
 */
AutoChoice *
auto_choice_make(const SizedPreset *preset, const PresetHistory *history, const PolicyChoice *last,
				 TimestampTz at)
{
	AutoChoice *made = begin(preset, OUTCOME_TOO_LITTLE, "", at, CHOICE_HOLDS);
	Backtest *backtest = backtest_make(preset, history, at - BACKTEST_DAYS * DEMAND_DAY, at,
									   preset->rules.service_level);
	ChoiceNote note = backtest->result.note;

	if (note != CHOICE_TOO_FEW && note != CHOICE_TOO_SHORT)
		take_chosen(made, backtest, at);
	else if (stays_silent(backtest, last, at))
		keep_last(made, backtest, last, at);
	else
		made->choice.note = backtest_choice_note(backtest);
	return made;
}
