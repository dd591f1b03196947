/*
 * sql_arrays.h
 *	  SQL's array arguments as C arrays, with errors that name the argument.
 */
#ifndef PREBUILD_SQL_ARRAYS_H
#define PREBUILD_SQL_ARRAYS_H

#include "postgres.h"

#include "utils/uuid.h"

extern Datum *sql_array_elements(Datum array, Oid type, const char *name, int *n);
extern Datum *sql_array_times(Datum array, const char *name, int *n);
extern const pg_uuid_t *sql_array_uuids(Datum array, const char *name, int *n);
extern void sql_array_same_length(int n, int expected, const char *name, const char *first);

#endif /* PREBUILD_SQL_ARRAYS_H */
