/*
 * demand_log.h
 *	  Bring the log of demands up to date. See demand_log.c.
 */
#ifndef PREBUILD_DEMAND_LOG_H
#define PREBUILD_DEMAND_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"

/* What a pass has to count besides demands. */
typedef struct DemandUpdate
{
	TimestampTz idle_until; /* the time that preset_idle_write() takes; 0 without a log */
	bool first;				/* there was no pass before, as far as anybody knows */
	bool counts_wait;		/* preset_counts_keep() has something to move */
} DemandUpdate;

extern DemandUpdate demand_log_update(TimestampTz at);
extern void demand_log_claim(const Id *workspace_id, const Id *template_id, const char *preset_name,
							 TimestampTz at);

#endif /* PREBUILD_DEMAND_LOG_H */
