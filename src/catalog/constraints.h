/*
 * constraints.h
 *	  Deferred constraints of the control plane's tables.
 */
#ifndef PREBUILD_CONSTRAINTS_H
#define PREBUILD_CONSTRAINTS_H

#include "postgres.h"

extern void constraints_check(const char *const *tables, int n);
extern bool constraints_hold(const char *table, bool (*is_fault)(const ErrorData *error));

#endif /* PREBUILD_CONSTRAINTS_H */
