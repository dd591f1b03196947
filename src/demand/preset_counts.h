/*
 * preset_counts.h
 *	  Count what happens to presets, for the metrics. See preset_counts.c.
 */
#ifndef PREBUILD_PRESET_COUNTS_H
#define PREBUILD_PRESET_COUNTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"
#include "base/rows.h"

/* What is counted. */
#define COUNT_WARM "warm"		/* demands that got a prebuild */
#define COUNT_COLD "cold"		/* demands that got none */
#define COUNT_NOTHING "nothing" /* calls of prebuild_claim() that returned no row */
#define COUNT_IDLE "idle"		/* seconds that eligible prebuilds waited: preset_idle_write() */
#define COUNT_RETRIES "retries" /* calls of prebuild_retry() */
#define COUNT_WAITING "waiting" /* seconds of the parts of lead times */
#define COUNT_BUILDING "building"
#define COUNT_STARTING "starting"
#define COUNT_DELETED "deleted_" /* and a reason: deletes that were queued */

/* Counts to add: an array for each column. */
typedef struct PresetCounts
{
	ArrayParameter *templates;
	ArrayParameter *presets; /* names */
	ArrayParameter *counters;
	ArrayParameter *values;
} PresetCounts;

/* The columns of preset_counts_metrics(). */
#define PRESET_COUNT_COLUMNS 4

extern PresetCounts preset_counts_new(void);
extern void preset_counts_add(PresetCounts *counts, const Id *template_id, const char *preset_name,
							  const char *counter, double value);
extern void preset_counts_write(const PresetCounts *counts);
extern void preset_counts_keep(const PresetCounts *counts);
extern void preset_idle_write(const PresetCounts *eligible, TimestampTz at, bool first);
extern void preset_counts_note(const Id *preset_id, const char *counter);
extern uint64 preset_counts_metrics(void);
extern uint64 recent_demands(TimestampTz at);

#endif /* PREBUILD_PRESET_COUNTS_H */
