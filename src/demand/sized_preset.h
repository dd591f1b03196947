/*
 * sized_preset.h
 *	  Presets whose pools may be sized: what is configured, and what prebuild_policy says of it.
 */
#ifndef PREBUILD_SIZED_PRESET_H
#define PREBUILD_SIZED_PRESET_H

#include "postgres.h"

#include "base/id.h"
#include "cron/preset_schedule.h"

/* Most instances that anything here thinks of. It bounds the memory of a backtest. */
#define SIZED_MOST 1000

/* What prebuild_policy says of the number of prebuilds. */
typedef struct SizingRules
{
	const char *mode;
	int min_instances;
	int max_instances;	  /* at least min_instances, at most SIZED_MOST */
	double service_level; /* above 0 and below 1 */
} SizingRules;

typedef struct SizedPreset
{
	Id id;
	Id template_id;
	char *template_name;
	char *name;
	bool configured; /* a version that was asked for has the preset */
	char *timezone;	 /* "" for none */
	int base;		 /* desired_instances */
	int invalidate_after_secs;
	int nschedules;
	PresetSchedule *schedules; /* ordered by id */
	SizingRules rules;
} SizedPreset;

typedef struct SizedPresets
{
	int n;
	SizedPreset *presets; /* ordered by the name of the template, its id, the name of the preset */
} SizedPresets;

extern SizingRules sizing_rules_default(void);
extern void sizing_rules_overlay(SizingRules *rules, uint64 row, int column);
extern void sizing_rules_settle(SizingRules *rules);
extern bool sizing_rules_are_auto(const SizingRules *rules);
extern SizedPresets sized_presets_active(void);
extern SizedPreset *sized_preset_by_id(const Id *id);
extern SizedPreset *sized_preset_by_name(const Id *template_id, const char *name);

#endif /* PREBUILD_SIZED_PRESET_H */
