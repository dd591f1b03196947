/*
 * auto_choice.h
 *	  Choose the policy of a preset in mode auto.
 */
#ifndef PREBUILD_AUTO_CHOICE_H
#define PREBUILD_AUTO_CHOICE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "demand/history.h"
#include "demand/policy_choice.h"
#include "demand/preset_past.h"
#include "demand/sized_preset.h"

/* A choice, as it is to be written. */
typedef struct AutoChoice
{
	PolicyChoice choice;
	char *policy_name;
	bool has_figures;
	ChoiceFigures figures;
} AutoChoice;

extern TimestampTz auto_choice_reads_from(TimestampTz at);
extern AutoChoice *auto_choice_make(const SizedPreset *preset, const PresetHistory *history,
									const PolicyChoice *last, TimestampTz at);
extern AutoChoice *auto_choice_failed(const SizedPreset *preset, const char *error, TimestampTz at);
extern bool auto_choice_is_due(const PolicyChoice *last, TimestampTz at);

#endif /* PREBUILD_AUTO_CHOICE_H */
