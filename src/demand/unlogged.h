/*
 * unlogged.h
 *	  What the tables have and the logs do not have yet. See unlogged.c.
 */
#ifndef PREBUILD_UNLOGGED_H
#define PREBUILD_UNLOGGED_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/id.h"
#include "base/rows.h"

/*
 * Demands, as columns for unnest(): those that the log does not have, and some that it has. And the
 * prebuilds (workspaces) whose lead time the log may not have.
 */
typedef struct Unlogged
{
	ArrayParameter *workspaces;
	ArrayParameter *templates;
	ArrayParameter *presets;
	ArrayParameter *times;
	ArrayParameter *warm;
	ArrayParameter *prebuilds;
} Unlogged;

extern Unlogged unlogged_read(const Id *template_id, const char *preset_name, TimestampTz from,
							  TimestampTz until, TimestampTz built_from);

#endif /* PREBUILD_UNLOGGED_H */
