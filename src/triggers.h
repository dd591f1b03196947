/*
 * triggers.h
 *	  What trigger functions share.
 */
#ifndef PREBUILD_TRIGGERS_H
#define PREBUILD_TRIGGERS_H

#include "postgres.h"

#include "commands/trigger.h"
#include "utils/uuid.h"

extern bool trigger_columns_changed(const TriggerData *trigger);
extern const pg_uuid_t *trigger_id(const TriggerData *trigger, TupleTableSlot *row, int column);

#endif /* PREBUILD_TRIGGERS_H */
