/*
 * rows.c
 *	  Columns of SPI result rows, and arrays for unnest() parameters. Everything is palloc'd in
 *	  the current context.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "base/rows.h"

/* Return a column of a row of SPI_tuptable. Columns count from 1. */
Datum
row_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* Return a column that the statement never leaves NULL. */
Datum
row_get(uint64 row, int column)
{
	bool isnull;
	Datum value = row_value(row, column, &isnull);

	if (isnull)
		elog(ERROR, "unexpected NULL in column %d", column);
	return value;
}

/* Return a uuid column that is never NULL. */
Id
row_id(uint64 row, int column)
{
	Id id;

	memcpy(id.bytes, DatumGetUUIDP(row_get(row, column))->data, UUID_LEN);
	return id;
}

/* Return a copy of a text column that is never NULL. */
char *
row_text(uint64 row, int column)
{
	return TextDatumGetCString(row_get(row, column));
}

/* Return a copy of an array column; an empty array for NULL, which array_agg() says of no rows. */
Datum
row_array(uint64 row, int column, Oid *type)
{
	bool isnull;
	Datum value = row_value(row, column, &isnull);

	*type = SPI_gettypeid(SPI_tuptable->tupdesc, column);
	if (isnull)
		return PointerGetDatum(construct_empty_array(get_element_type(*type)));
	return datumCopy(value, false, -1);
}

/* Return a uuid datum that points to the id itself. */
Datum
id_datum(const Id *id)
{
	return UUIDPGetDatum((const pg_uuid_t *) id);
}

/* Make an empty array parameter. */
ArrayParameter *
array_new(Oid element_type)
{
	ArrayParameter *array = palloc0_object(ArrayParameter);

	array->element_type = element_type;
	array->room = 16;
	array->values = palloc_array(Datum, array->room);
	array->nulls = palloc_array(bool, array->room);
	return array;
}

static void
array_extend(ArrayParameter *array, Datum value, bool isnull)
{
	if (array->n == array->room)
	{
		array->room *= 2;
		array->values = repalloc(array->values, array->room * sizeof(Datum));
		array->nulls = repalloc(array->nulls, array->room * sizeof(bool));
	}
	array->values[array->n] = value;
	array->nulls[array->n++] = isnull;
}

/* Append a value. What it points to must outlive the array. */
void
array_add(ArrayParameter *array, Datum value)
{
	array_extend(array, value, false);
}

void
array_add_null(ArrayParameter *array)
{
	array_extend(array, (Datum) 0, true);
}

/* Append a copy of an id to a uuid array. */
void
array_add_id(ArrayParameter *array, const Id *id)
{
	Id *copy = palloc(sizeof(Id));

	*copy = *id;
	array_extend(array, id_datum(copy), false);
}

/* Append a copy of a string to a text array. */
void
array_add_text(ArrayParameter *array, const char *text)
{
	array_extend(array, CStringGetTextDatum(text), false);
}

/* Return the array as a parameter value. */
Datum
array_datum(const ArrayParameter *array)
{
	int lower_bound = 1;
	int16 length;
	bool by_value;
	char alignment;

	get_typlenbyvalalign(array->element_type, &length, &by_value, &alignment);
	return PointerGetDatum(construct_md_array(array->values, array->nulls, 1, (int *) &array->n,
											  &lower_bound, array->element_type, length, by_value,
											  alignment));
}
