/*
 * lead_time_log.h
 *	  Measure lead times of prebuilds, and keep them. See lead_time_log.c.
 */
#ifndef PREBUILD_LEAD_TIME_LOG_H
#define PREBUILD_LEAD_TIME_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"
#include "base/rows.h"

/* What came of the first build of a prebuild. */
typedef enum LeadTimeOutcome
{
	LEAD_TIME_OPEN, /* not known yet */
	LEAD_TIME_READY,
	LEAD_TIME_FAILED,
	LEAD_TIME_CANCELED /* the prebuild went before anybody could know */
} LeadTimeOutcome;

/* The parts of a lead time. */
enum
{
	LEAD_TIME_WAITING,
	LEAD_TIME_BUILDING,
	LEAD_TIME_STARTING,
	LEAD_TIME_PARTS
};

/* The first build of a prebuild. */
typedef struct LeadTime
{
	Id workspace_id;
	Id template_id;
	char *preset_name;
	TimestampTz built_at; /* creation of the job */
	LeadTimeOutcome outcome;
	double parts[LEAD_TIME_PARTS]; /* in seconds; only if ready or failed */
} LeadTime;

/* First builds of prebuilds of which everything is known but how long they took, as columns. */
typedef struct KnownPrebuilds
{
	ArrayParameter *workspaces;
	ArrayParameter *templates;
	ArrayParameter *presets; /* names */
	ArrayParameter *jobs;
	ArrayParameter *gone; /* is the workspace deleted */
} KnownPrebuilds;

/* Upper bounds of the buckets of claims, in seconds. One more bucket has all. */
#define CLAIM_TIME_BOUNDS                                                                          \
	"'{60,300,900,1800,3600,7200,14400,28800,57600,86400,172800,345600,604800,Infinity}'"

/* The buckets of a kept histogram "s" with those of a new one, as an expression of SQL. */
#define ADDED_BUCKETS                                                                              \
	"ARRAY(SELECT u.was {+} u.is_new FROM ROWS FROM (pg_catalog.unnest(s.buckets),"                \
	" pg_catalog.unnest(excluded.buckets)) WITH ORDINALITY u (was, is_new, position)"              \
	" ORDER BY u.position)"

/* The columns of lead_times_metrics() and claim_times_metrics(). */
#define LEAD_TIME_METRIC_COLUMNS 6

extern LeadTime lead_time_of_row(uint64 row);
extern KnownPrebuilds known_prebuilds_none(void);
extern LeadTime *lead_times_measure(const KnownPrebuilds *known, const ArrayParameter *workspaces,
									TimestampTz at, int *n);
extern void lead_times_write(const LeadTime *times, int n, TimestampTz oldest);
extern void lead_times_prune(TimestampTz oldest, TimestampTz at);
extern uint64 lead_times_metrics(void);
extern uint64 claim_times_metrics(void);

#endif /* PREBUILD_LEAD_TIME_LOG_H */
