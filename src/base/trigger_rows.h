/*
 * trigger_rows.h
 *	  The rows that a row trigger is called for.
 */
#ifndef PREBUILD_TRIGGER_ROWS_H
#define PREBUILD_TRIGGER_ROWS_H

#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/uuid.h"

/* The columns that a trigger watches. */
typedef struct WatchedColumns
{
	int n;
	int last;	   /* the highest of them */
	bool complete; /* the table has all of them */
	int16 columns[FLEXIBLE_ARRAY_MEMBER];
} WatchedColumns;

extern const WatchedColumns *trigger_watched(FunctionCallInfo fcinfo, bool by_name);
extern bool trigger_columns_changed(const TriggerData *trigger, const WatchedColumns *watched,
									int n);
extern const pg_uuid_t *trigger_id(const TriggerData *trigger, TupleTableSlot *row, int column);

#endif /* PREBUILD_TRIGGER_ROWS_H */
