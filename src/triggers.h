/*
 * triggers.h
 *	  What trigger functions share.
 */
#ifndef PREBUILD_TRIGGERS_H
#define PREBUILD_TRIGGERS_H

#include "postgres.h"

#include "commands/trigger.h"
#include "utils/uuid.h"

extern const pg_uuid_t *trigger_row_id(const TriggerData *trigger, HeapTuple row, int column);
extern bool trigger_columns_changed(const TriggerData *trigger);

#endif /* PREBUILD_TRIGGERS_H */
