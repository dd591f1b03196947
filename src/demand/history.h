/*
 * history.h
 *	  The past of demand and lead times, as the policies and the backtest see it.
 *
 *	  preset_histories_read() reads the past of all presets of a template, or of all templates, at
 *	  once; preset_history_find() finds that of one (template, preset name) in it.
 */
#ifndef PREBUILD_HISTORY_H
#define PREBUILD_HISTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"
#include "demand/demand_history.h"
#include "demand/lead_time_log.h"

/* The parts of a build's lead time, in seconds. Of a build that failed: until it did. */
typedef struct LeadTimeParts
{
	double seconds[LEAD_TIME_PARTS];
} LeadTimeParts;

/*
 * The past of a template's presets of one name. "past" is what the policies take: it has the
 * demands and the builds, and began at the range's start; the caller adds configuration and
 * offsets.
 */
typedef struct PresetHistory
{
	Id template_id;
	char *preset_name;
	DemandHistory past;
	bool *warm;			  /* for each demand */
	LeadTimeParts *parts; /* for each build */
} PresetHistory;

typedef struct PresetHistories
{
	int n;
	PresetHistory *histories; /* sorted by template and name */
} PresetHistories;

/* Where to read. */
typedef enum HistorySource
{
	HISTORY_EXACT,	 /* the log, and the tables for what it does not have yet: for reports */
	HISTORY_LOGGED,	 /* the log alone, in which passes have everything soon: for passes */
	HISTORY_MEASURED /* the log, if passes have read everything once, with lead times of now */
} HistorySource;

/*
 * What to read: demands from "from" to before "until", and builds from samples_from to before
 * "until", of one template or (NULL) all, and in it of the presets of one name or (NULL) all.
 */
typedef struct HistoryRange
{
	HistorySource source;
	const Id *template_id;
	const char *preset_name;
	TimestampTz from;
	TimestampTz samples_from;
	TimestampTz until;
} HistoryRange;

extern PresetHistories preset_histories_read(const HistoryRange *range);
extern const PresetHistory *preset_history_find(const PresetHistories *histories,
												const Id *template_id, const char *preset_name);
extern int history_plan_for_values(void);
extern void demand_require_template(const Id *template_id);

#endif /* PREBUILD_HISTORY_H */
