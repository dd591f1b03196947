/*
 * rows.h
 *	  Columns of SPI result rows, and arrays for unnest() parameters.
 */
#ifndef PREBUILD_ROWS_H
#define PREBUILD_ROWS_H

#include "postgres.h"

#include "utils/array.h"

#include "base/id.h"

extern Datum row_value(uint64 row, int column, bool *isnull);
extern Datum row_get(uint64 row, int column);
extern Id row_id(uint64 row, int column);
extern char *row_text(uint64 row, int column);
extern Datum row_array(uint64 row, int column, Oid *type);

/* An array parameter that grows. array_new() fixes its element type. */
typedef struct ArrayParameter
{
	Oid element_type;
	int n;
	int room;
	Datum *values;
	bool *nulls;
} ArrayParameter;

extern ArrayParameter *array_new(Oid element_type);
extern void array_add(ArrayParameter *array, Datum value);
extern void array_add_null(ArrayParameter *array);
extern void array_add_id(ArrayParameter *array, const Id *id);
extern void array_add_text(ArrayParameter *array, const char *text);
extern Datum array_datum(const ArrayParameter *array);
extern Datum id_datum(const Id *id);

#endif /* PREBUILD_ROWS_H */
