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

/* The columns of lead_times_metrics(). */
#define LEAD_TIME_METRIC_COLUMNS 6

extern LeadTime lead_time_of_row(uint64 row);
extern LeadTime *lead_times_measure(const ArrayParameter *workspaces, TimestampTz at, int *n);
extern void lead_times_write(const LeadTime *times, int n, TimestampTz oldest);
extern void lead_times_prune(TimestampTz oldest, TimestampTz at);
extern uint64 lead_times_metrics(void);

#endif /* PREBUILD_LEAD_TIME_LOG_H */
