/*
 * auto_target.h
 *	  How many prebuilds presets in mode auto want, by the policies that passes have chosen.
 */
#ifndef PREBUILD_AUTO_TARGET_H
#define PREBUILD_AUTO_TARGET_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "demand/policy_choice.h"
#include "demand/sized_preset.h"

/* Where a target comes from. */
typedef enum AutoSource
{
	AUTO_POLICY,	   /* the chosen policy, within the bounds */
	AUTO_SAFEGUARD,	   /* the configuration: the choice says why */
	AUTO_NOT_CHOSEN,   /* the configuration: no pass has chosen yet */
	AUTO_CHOSEN_LATER, /* the configuration: at that time no pass had chosen */
	AUTO_NOT_LEARNT,   /* the configuration: what the policy has learnt is too old, or damaged */
	AUTO_SUSPENDED	   /* the configuration: another reconciler is at work */
} AutoSource;

/* A preset in mode auto. */
typedef struct AutoPreset
{
	/* the question */
	Id template_id;
	const char *name;
	const char *timezone; /* "" for none */
	const SizingRules *rules;
	int configured; /* what its number and schedules want at the time */

	/* auto_targets() fills these */
	const PolicyChoice *choice; /* NULL: none */
	AutoSource source;
	int target;
	bool by_policy;		 /* the target is not just what is configured */
	PolicyAnswer answer; /* if AUTO_POLICY */
} AutoPreset;

extern PolicySettings sizing_policy_settings(const SizingRules *rules);
extern PolicyChoices auto_targets(AutoPreset *presets, int n, const Id *template_id,
								  TimestampTz at);
extern void auto_suspend(AutoPreset *preset);
extern char *policy_reason(const Policy *policy, const PolicyAnswer *answer);
extern char *auto_reason(const AutoPreset *preset);

#endif /* PREBUILD_AUTO_TARGET_H */
