/*
 * result_row.h
 *	  The one builder of the rows that SQL functions return.
 *
 * A row is put together from left to right and then fitted to the type that the script of the
 * extension gave it in this database, which may be older or newer than the library: columns that
 * only the type has are NULL, columns that only the library has are left out, and a column of
 * another type is an error.
 */
#ifndef PREBUILD_RESULT_ROW_H
#define PREBUILD_RESULT_ROW_H

#include "compat.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "utils/uuid.h"

/* More than any row has. */
#define RESULT_ROW_COLUMNS 48

/* A row under construction; empty with n = 0, whatever else is in it. */
typedef struct ResultRow
{
	int n;
	Oid types[RESULT_ROW_COLUMNS];
	Datum values[RESULT_ROW_COLUMNS];
	bool nulls[RESULT_ROW_COLUMNS];
} ResultRow;

extern void result_put(ResultRow *row, Oid type, Datum value);
extern void result_put_null(ResultRow *row, Oid type);
extern void result_put_bool(ResultRow *row, bool value);
extern void result_put_int4(ResultRow *row, int32 value);
extern void result_put_int8(ResultRow *row, int64 value);
extern void result_put_float8(ResultRow *row, double value);
extern void result_put_time(ResultRow *row, TimestampTz at);
extern void result_put_text(ResultRow *row, const char *text);
extern void result_put_json(ResultRow *row, const char *json);
extern void result_put_uuid(ResultRow *row, const void *id);

extern Datum result_row_datum(FunctionCallInfo fcinfo, const ResultRow *row);
extern void result_row_store(ReturnSetInfo *set, const ResultRow *row);
extern void result_store_rows(ReturnSetInfo *set, uint64 n);
extern HeapTuple result_row_tuple(TupleDesc columns, const ResultRow *row);
extern void result_columns_require(TupleDesc columns, TupleDesc given);

/*
 * Give a function a second C name, by which scripts call it since a release whose row is longer than
 * that of 0.1. The library of 0.1 does not have the name: it would build the row without a look at
 * its type, and read past its arrays. (The Makefile exports what is written so.)
 */
#define FUNCTION_OF_LONGER_ROW(function, release)                                                  \
	PG_FUNCTION_INFO_V1(function##_##release);                                                     \
	Datum function##_##release(PG_FUNCTION_ARGS)                                                   \
	{                                                                                              \
		return function(fcinfo);                                                                   \
	}                                                                                              \
	extern Datum function##_##release(PG_FUNCTION_ARGS)

#endif /* PREBUILD_RESULT_ROW_H */
