/*
 * triggers.h
 *	  What trigger functions share.
 */
#ifndef PREBUILD_TRIGGERS_H
#define PREBUILD_TRIGGERS_H

#include "postgres.h"

#include "commands/trigger.h"

extern bool trigger_columns_changed(const TriggerData *trigger);

#endif /* PREBUILD_TRIGGERS_H */
