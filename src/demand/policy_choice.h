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
#include "demand/policy_learnt.h"
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
	/* what the policy has learnt, to be written: see policy_learnt.c */
	int nlearnt;
	const double *learnt;
	TimestampTz learnt_at;
	/* the same, as it was read; NULL: nothing, or a damaged row. It is gone with the next reading */
	PolicyRecalled *recalled;
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
extern Policy policy_of_row(const char *kind, double parameter);
extern ChoiceOutcome policy_outcome_of_row(const char *name);
extern int policy_choices_compare(const void *left, const void *right);
extern bool policy_choices_hold(void);
extern const PolicyChoice *policy_choice_find(const PolicyChoices *choices, const Id *template_id,
											  const char *preset_name);
extern const char *policy_outcome_name(ChoiceOutcome outcome);
extern void policy_choice_write(const PolicyChoice *choice, const char *policy_name,
								const ChoiceFigures *figures);
extern void policy_choices_suspend(bool suspended);
extern void policy_choices_renew(const Id *template_id, const char *preset_name);
extern void policy_choices_prune(const ArrayParameter *templates, const ArrayParameter *names);

#endif /* PREBUILD_POLICY_CHOICE_H */
