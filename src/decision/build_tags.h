/*
 * build_tags.h
 *	  The provisioner tags of a new prebuild's job.
 */
#ifndef PREBUILD_BUILD_TAGS_H
#define PREBUILD_BUILD_TAGS_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "decision/decision.h"

typedef struct NameValue
{
	char *name;
	char *value;
} NameValue;

/* A variable of the template version; strings are never NULL. */
typedef struct TemplateVariable
{
	char *name;
	char *type;
	char *value;
	char *default_value;
	bool required;
} TemplateVariable;

typedef struct TagInputs
{
	Jsonb *job_tags;   /* the import job's, or NULL */
	List *expressions; /* of NameValue: the version's workspace tags, values in HCL */
	List *variables;   /* of TemplateVariable */
	bool dynamic;	   /* Terraform decides what parameters there are */
	int nparameters;   /* of this build */
	const NameValue *parameters;
} TagInputs;

extern BuildCheck build_tags(const TagInputs *inputs, Jsonb **tags, char **reason);
extern Jsonb *name_values_to_jsonb(int count, const NameValue *pairs);

#endif /* PREBUILD_BUILD_TAGS_H */
