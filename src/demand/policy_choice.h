/*
 * policy_choice.h
 *	  The policies that passes have chosen for presets in mode auto: table prebuild_policy_choice.
 */
#ifndef PREBUILD_POLICY_CHOICE_H
#define PREBUILD_POLICY_CHOICE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"
#include "base/rows.h"
#include "demand/policies.h"
#include "demand/simulator.h"

/* How a choice came out. */
typedef enum ChoiceOutcome
{
	OUTCOME_BETTER,		 /* another policy is better than the configuration */
	OUTCOME_KEPT,		 /* nothing is clearly better than the configuration */
	OUTCOME_BEST_EFFORT, /* nothing reached the level at its worth */
	OUTCOME_WORSE,		 /* the configuration: lately the better one was worse */
	OUTCOME_TOO_LITTLE,	 /* the configuration, as it is: too little demand or history */
	OUTCOME_FAILED		 /* the configuration, as it is: an error */
} ChoiceOutcome;

typedef struct PolicyChoice
{
	Id template_id;
	char *preset_name;
	Policy policy;
	ChoiceOutcome outcome;
	char *note;
	TimestampTz chosen_at;
	TimestampTz due_at; /* when to choose anew */
	bool suspended;		/* another reconciler was at work when the last pass looked */
	/* what the policy has learnt: see policy_learnt.c */
	int nlearnt;
	const double *learnt;
	TimestampTz learnt_at;
	/* when somebody asked last before the time of the question; DT_NOBEGIN: not known */
	TimestampTz last_demand;
} PolicyChoice;

typedef struct PolicyChoices
{
	int n;
	PolicyChoice *choices; /* ordered by template and name */
} PolicyChoices;

/* What the chosen policy and the configuration gave in the part that had no say in the choice. */
typedef struct ChoiceFigures
{
	SimulatorFigures chosen;
	SimulatorFigures configured;
} ChoiceFigures;

extern bool policy_choices_exist(void);
extern bool policy_choices_hold(void);
extern PolicyChoices policy_choices_read(const Id *template_id, TimestampTz at);
extern const PolicyChoice *policy_choice_find(const PolicyChoices *choices, const Id *template_id,
											  const char *preset_name);
extern const char *policy_outcome_name(ChoiceOutcome outcome);
extern void policy_choice_write(const PolicyChoice *choice, const char *policy_name,
								const ChoiceFigures *figures);
extern void policy_choices_suspend(bool suspended);
extern void policy_choices_renew(const Id *template_id, const char *preset_name);
extern void policy_choices_prune(const ArrayParameter *templates, const ArrayParameter *names);

#endif /* PREBUILD_POLICY_CHOICE_H */
