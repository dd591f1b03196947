/*
 * history.h
 *	  The past of demand and lead times, as the policies and the backtest see it.
 *
 *	  demand_histories_read() reads the past of all presets of a template, or of all templates, at
 *	  once; demand_history_find() finds that of one (template, preset name) in it.
 */
#ifndef PREBUILD_HISTORY_H
#define PREBUILD_HISTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"
#include "demand/lead_time_log.h"

/* A demand. */
typedef struct DemandEvent
{
	int64_t at; /* microseconds, as TimestampTz */
	bool warm;
} DemandEvent;

/* The first build of a prebuild. */
typedef struct LeadTimeSample
{
	int64_t built_at; /* microseconds, as TimestampTz */
	bool failed;
	double parts[LEAD_TIME_PARTS]; /* seconds; only if it did not fail */
} LeadTimeSample;

/* The past of a template's presets of one name. Both arrays are in the order of their times. */
typedef struct DemandRecord
{
	Id template_id;
	char *preset_name;
	int ndemands;
	DemandEvent *demands;
	int nsamples;
	LeadTimeSample *samples;
} DemandRecord;

typedef struct DemandHistories
{
	int n;
	DemandRecord *histories; /* sorted by template and name */
} DemandHistories;

/* Where to read. */
typedef enum HistorySource
{
	HISTORY_EXACT,	 /* the log, and the tables for what it does not have yet: for reports */
	HISTORY_LOGGED,	 /* the log alone, in which passes have everything soon: for passes */
	HISTORY_MEASURED /* the log, if passes have read everything once, with lead times of now */
} HistorySource;

/*
 * What to read: demands from "from" to before "until", and builds from samples_from to before
 * "until", of one template or (NULL) all.
 */
typedef struct HistoryRange
{
	HistorySource source;
	const Id *template_id;
	TimestampTz from;
	TimestampTz samples_from;
	TimestampTz until;
} HistoryRange;

extern DemandHistories demand_histories_read(const HistoryRange *range);
extern const DemandRecord *demand_history_find(const DemandHistories *histories,
											   const Id *template_id, const char *preset_name);
extern void demand_require_template(const Id *template_id);

#endif /* PREBUILD_HISTORY_H */
