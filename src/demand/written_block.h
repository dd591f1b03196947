/*
 * written_block.h
 *	  The block "prebuilds" of a preset, as the author of a template writes it.
 */
#ifndef PREBUILD_WRITTEN_BLOCK_H
#define PREBUILD_WRITTEN_BLOCK_H

#include "postgres.h"

#include "demand/sized_preset.h"
#include "demand/week_schedule.h"

extern SizedPreset block_of_level(const SizedPreset *preset, int level);
extern bool block_of_week(const SizedPreset *preset, const WeekSchedule *week, SizedPreset *block);
extern SizedPreset block_as_configured(const SizedPreset *preset);
extern char *block_summary(const SizedPreset *block);
extern char *block_terraform(const SizedPreset *block);

#endif /* PREBUILD_WRITTEN_BLOCK_H */
