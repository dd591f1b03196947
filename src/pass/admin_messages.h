/*
 * admin_messages.h
 *	  Queue notifications for template admins in the control plane's own queue.
 */
#ifndef PREBUILD_ADMIN_MESSAGES_H
#define PREBUILD_ADMIN_MESSAGES_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/rows.h"

extern void notifications_hard_limited(const ArrayParameter *preset_ids, TimestampTz at);
extern void notifications_resource_replaced(const Id *workspace_id, const Id *build_id,
											const Id *preset_id, Datum paths, TimestampTz at);

#endif /* PREBUILD_ADMIN_MESSAGES_H */
