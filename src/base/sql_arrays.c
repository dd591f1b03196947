/*
 * sql_arrays.c
 *	  SQL's array arguments as C arrays, with errors that name the argument.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "base/sql_arrays.h"

/* Get how the server stores elements of the types that this file takes. */
static void
element_storage(Oid type, int16 *length, bool *by_value, char *align)
{
	*by_value = false;
	switch (type)
	{
		case UUIDOID:
			*length = UUID_LEN;
			*align = TYPALIGN_CHAR;
			break;
		case TEXTOID:
		case BYTEAOID:
			*length = -1;
			*align = TYPALIGN_INT;
			break;
		case TIMESTAMPTZOID:
			*length = 8;
			*by_value = FLOAT8PASSBYVAL;
			*align = TYPALIGN_DOUBLE;
			break;
		default:
			elog(ERROR, "unexpected element type %u", type);
	}
}

/*
 * Detoast an array. Raises array_subscript_error for more than one dimension and
 * null_value_not_allowed for NULL elements. name: that of the argument.
 */
static ArrayType *
plain_array(Datum array, const char *name)
{
	ArrayType *elements = DatumGetArrayTypeP(array);

	if (ARR_NDIM(elements) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("argument \"%s\" must be a one-dimensional array", name),
						errdetail("It has %d dimensions.", ARR_NDIM(elements))));
	if (array_contains_nulls(elements))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not contain nulls", name)));
	return elements;
}

/*
 * Return the elements of a one-dimensional array of uuid, text, bytea or timestamptz. *n receives
 * their number. name: that of the argument, for errors. Raises array_subscript_error for more
 * dimensions and null_value_not_allowed for NULL elements. The result is palloc'd and points into
 * the array.
 */
Datum *
sql_array_elements(Datum array, Oid type, const char *name, int *n)
{
	ArrayType *elements = plain_array(array, name);
	int16 length;
	bool by_value;
	char align;
	Datum *values;

	element_storage(type, &length, &by_value, &align);
	deconstruct_array(elements, type, length, by_value, align, &values, NULL, n);
	return values;
}

/*
 * As sql_array_elements() for timestamptz. Raises datetime_value_out_of_range, naming the
 * argument and the element, if an element is infinite.
 */
Datum *
sql_array_times(Datum array, const char *name, int *n)
{
	Datum *times = sql_array_elements(array, TIMESTAMPTZOID, name, n);

	for (int i = 0; i < *n; i++)
	{
		TimestampTz at = DatumGetTimestampTz(times[i]);

		if (TIMESTAMP_NOT_FINITE(at))
			ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
							errmsg("argument \"%s\" must contain finite times only, not %s", name,
								   timestamptz_to_str(at)),
							errdetail("It is the element at position %d.", i + 1)));
	}
	return times;
}

/* As sql_array_elements() for ids. The result lies in the array; do not change it. */
const pg_uuid_t *
sql_array_uuids(Datum array, const char *name, int *n)
{
	ArrayType *elements = plain_array(array, name);
	/* ARR_DATA_PTR() mixes signed and unsigned */
	Size offset = ARR_HASNULL(elements) ? (Size) elements->dataoffset
										: ARR_OVERHEAD_NONULLS(ARR_NDIM(elements));

	*n = ArrayGetNItems(ARR_NDIM(elements), ARR_DIMS(elements));
	/* elements of a fixed length lie side by side */
	return (const pg_uuid_t *) ((char *) elements + offset);
}

/* Raise array_subscript_error unless an array is as long as the first one. */
void
sql_array_same_length(int n, int expected, const char *name, const char *first)
{
	if (n != expected)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arguments \"%s\" and \"%s\" must be of the same length", first, name),
				 errdetail("They have %d and %d elements.", expected, n)));
}
