/*
 * result_row.c
 *	  The one builder of the rows that SQL functions return.
 *
 * It pallocs everything in the current context, except what goes into a tuplestore.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/result_row.h"
#include "base/versions.h"

/* Put a column that has a value. What the value points to must outlive the row. */
void
result_put(ResultRow *row, Oid type, Datum value)
{
	if (row->n == RESULT_ROW_COLUMNS)
		elog(ERROR, "a row has more than %d columns", RESULT_ROW_COLUMNS);
	row->types[row->n] = type;
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

/* Put a column that is NULL. */
void
result_put_null(ResultRow *row, Oid type)
{
	result_put(row, type, (Datum) 0);
	row->nulls[row->n - 1] = true;
}

void
result_put_bool(ResultRow *row, bool value)
{
	result_put(row, BOOLOID, BoolGetDatum(value));
}

void
result_put_int4(ResultRow *row, int32 value)
{
	result_put(row, INT4OID, Int32GetDatum(value));
}

void
result_put_int8(ResultRow *row, int64 value)
{
	result_put(row, INT8OID, Int64GetDatum(value));
}

void
result_put_float8(ResultRow *row, double value)
{
	result_put(row, FLOAT8OID, Float8GetDatum(value));
}

/* Put a time. */
void
result_put_time(ResultRow *row, TimestampTz at)
{
	result_put(row, TIMESTAMPTZOID, TimestampTzGetDatum(at));
}

/* Put a copy of a text, or NULL for a null pointer. */
void
result_put_text(ResultRow *row, const char *text)
{
	if (text != NULL)
		result_put(row, TEXTOID, CStringGetTextDatum(text));
	else
		result_put_null(row, TEXTOID);
}

/* Put a text as jsonb, or NULL for a null pointer. */
void
result_put_json(ResultRow *row, const char *json)
{
	if (json != NULL)
		result_put(row, JSONBOID, DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
	else
		result_put_null(row, JSONBOID);
}

/* Put a jsonb value, which must outlive the row, or NULL. */
void
result_put_jsonb(ResultRow *row, const Jsonb *value)
{
	if (value != NULL)
		result_put(row, JSONBOID, PointerGetDatum(value));
	else
		result_put_null(row, JSONBOID);
}

/* Put an id, which must outlive the row: the 16 bytes of an Id or of a pg_uuid_t. */
void
result_put_uuid(ResultRow *row, const void *id)
{
	result_put(row, UUIDOID, UUIDPGetDatum((const pg_uuid_t *) id));
}

/* Raise object_not_in_prerequisite_state unless a column has the type that the library gives it. */
static void
require_type(Form_pg_attribute column, Oid type)
{
	if (column->attisdropped || column->atttypid != type)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("column \"%s\" of a row of prebuild_ext is of type %s, not %s",
							   NameStr(column->attname),
							   column->attisdropped ? "-" : format_type_be(column->atttypid),
							   format_type_be(type)),
						errhint(VERSIONS_HINT)));
}

/* The values of a row for each column of a type. */
typedef struct Fitted
{
	Datum *values;
	bool *nulls;
} Fitted;

/* Fit a row to the columns of a type, as result_row.h says. */
static Fitted
fit(TupleDesc columns, const ResultRow *row)
{
	Fitted fitted = { palloc0_array(Datum, columns->natts + 1),
					  palloc_array(bool, columns->natts + 1) };

	for (int i = 0; i < columns->natts; i++)
	{
		fitted.nulls[i] = i >= row->n || row->nulls[i];
		if (i >= row->n)
			continue;
		require_type(TupleDescAttr(columns, i), row->types[i]);
		fitted.values[i] = row->values[i];
	}
	return fitted;
}

static void
free_fitted(Fitted *fitted)
{
	pfree(fitted->values);
	pfree(fitted->nulls);
}

/* Return the row as a tuple of these columns. */
HeapTuple
result_row_tuple(TupleDesc columns, const ResultRow *row)
{
	Fitted fitted = fit(columns, row);
	HeapTuple tuple = heap_form_tuple(columns, fitted.values, fitted.nulls);

	free_fitted(&fitted);
	return tuple;
}

/* Return the row as the result of a function that returns one row. */
Datum
result_row_datum(FunctionCallInfo fcinfo, const ResultRow *row)
{
	TupleDesc columns = lookup_rowtype_tupdesc(get_func_rettype(fcinfo->flinfo->fn_oid), -1);
	Datum result = HeapTupleGetDatum(result_row_tuple(columns, row));

	ReleaseTupleDesc(columns);
	return result;
}

/* Add the row to the result of a function that returns a set. */
void
result_row_store(ReturnSetInfo *set, const ResultRow *row)
{
	Fitted fitted = fit(set->setDesc, row);

	tuplestore_putvalues(set->setResult, set->setDesc, fitted.values, fitted.nulls);
	free_fitted(&fitted);
}

/*
 * Raise object_not_in_prerequisite_state unless rows of the given columns can serve, as they are,
 * where rows of these columns are expected: columns that both have must be of the same type. A
 * reader of a row takes columns that the row does not have for NULL, and ignores surplus ones.
 */
void
result_columns_require(TupleDesc columns, TupleDesc given)
{
	for (int i = 0; i < Min(columns->natts, given->natts); i++)
		require_type(TupleDescAttr(columns, i), TupleDescAttr(given, i)->atttypid);
}

/* Add the n rows that a statement left in SPI_tuptable, and free them. */
void
result_store_rows(ReturnSetInfo *set, uint64 n)
{
	result_columns_require(set->setDesc, SPI_tuptable->tupdesc);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(set->setResult, SPI_tuptable->vals[i]);
	SPI_freetuptable(SPI_tuptable);
}
