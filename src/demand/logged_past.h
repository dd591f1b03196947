/*
 * logged_past.h
 *	  The past of some presets, from the logs of passes alone.
 */
#ifndef PREBUILD_LOGGED_PAST_H
#define PREBUILD_LOGGED_PAST_H

#include "demand/history.h"
#include "demand/sized_preset.h"

extern PresetHistory *logged_pasts_read(const SizedPreset *const *presets, int n, TimestampTz from,
										TimestampTz until);

#endif /* PREBUILD_LOGGED_PAST_H */
