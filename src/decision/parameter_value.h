/*
 * parameter_value.h
 *	  Whether a template version's parameter accepts a value.
 */
#ifndef PREBUILD_PARAMETER_VALUE_H
#define PREBUILD_PARAMETER_VALUE_H

#include "utils/jsonb.h"

/* What a parameter demands. Strings are never NULL. */
typedef struct ParameterRule
{
	char *name;
	char *type; /* string, number, bool or list(string) */
	char *form_type;
	char *default_value;
	bool required;
	Jsonb *options; /* an array of objects with a "value"; NULL or empty: no restriction */
	bool has_min;
	int32 min;
	bool has_max;
	int32 max;
	bool monotonic; /* later builds may only raise (or only lower) it */
} ParameterRule;

extern char *parameter_value_fault(const ParameterRule *rule, const char *given);
extern char *parameter_value_excerpt(const char *value);
extern bool parameter_parse_integer(const char *text, int64 *number);

#endif /* PREBUILD_PARAMETER_VALUE_H */
