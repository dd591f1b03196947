/*
 * preset_past.h
 *	  The past of one preset as the policies take it, made of what the database knows.
 */
#ifndef PREBUILD_PRESET_PAST_H
#define PREBUILD_PRESET_PAST_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "demand/demand_history.h"
#include "demand/history.h"
#include "demand/sized_preset.h"

/* Policies learn from so much of what is before a range. */
#define PAST_LEARNT_FROM (17 * DEMAND_WEEK)

extern HistoryRange preset_past_range(const Id *template_id, const char *preset_name,
									  TimestampTz from, TimestampTz until);
extern DemandHistory preset_past(const SizedPreset *preset, const PresetHistory *history,
								 TimestampTz from, TimestampTz until);
extern void preset_past_configure(DemandHistory *past, const SizedPreset *preset, TimestampTz from,
								  TimestampTz until);

#endif /* PREBUILD_PRESET_PAST_H */
