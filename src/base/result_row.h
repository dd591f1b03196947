/*
 * result_row.h
 *	  The one builder of the rows that SQL functions return.
 *
 * A function puts a row together from left to right. The builder then fits it to the type that
 * the extension's script gave the row in this database. The script may be older or newer than the
 * library. Columns that only the type has become NULL. The builder leaves out columns that only
 * the library has. A column of another type is an error.
 */
#ifndef PREBUILD_RESULT_ROW_H
#define PREBUILD_RESULT_ROW_H

#include "compat.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* More columns than any row has. */
#define RESULT_ROW_COLUMNS 48

/* A row under construction. It is empty with n = 0, whatever the other fields hold. */
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
extern void result_put_jsonb(ResultRow *row, const Jsonb *value);
extern void result_put_uuid(ResultRow *row, const void *id);

extern Datum result_row_datum(FunctionCallInfo fcinfo, const ResultRow *row);
extern void result_row_store(ReturnSetInfo *set, const ResultRow *row);
extern void result_store_rows(ReturnSetInfo *set, uint64 n);
extern HeapTuple result_row_tuple(TupleDesc columns, const ResultRow *row);
extern void result_columns_require(TupleDesc columns, TupleDesc given);

/*
 * Give a function a second C name. Scripts call it by this name since the release that made its
 * row longer than that of 0.1. The library of 0.1 does not have the name; under the old one it
 * would build the row without looking at its type, and read past its arrays. (The Makefile
 * exports what is written so.)
 */
#define FUNCTION_OF_LONGER_ROW(function, release)                                                  \
	PG_FUNCTION_INFO_V1(function##_##release);                                                     \
	Datum function##_##release(PG_FUNCTION_ARGS)                                                   \
	{                                                                                              \
		return function(fcinfo);                                                                   \
	}                                                                                              \
	extern Datum function##_##release(PG_FUNCTION_ARGS)

#endif /* PREBUILD_RESULT_ROW_H */
