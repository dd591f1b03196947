/*
 * demand_log.h
 *	  Bring the log of demands up to date. See demand_log.c.
 */
#ifndef PREBUILD_DEMAND_LOG_H
#define PREBUILD_DEMAND_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"

extern void demand_log_update(TimestampTz at);
extern void demand_log_claim(const Id *workspace_id, const Id *template_id, const char *preset_name,
							 TimestampTz at);

#endif /* PREBUILD_DEMAND_LOG_H */
