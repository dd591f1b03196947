/*
 * build_inputs.h
 *	  What a new prebuild of a preset is built with, or why it cannot be built.
 */
#ifndef PREBUILD_BUILD_INPUTS_H
#define PREBUILD_BUILD_INPUTS_H

#include "utils/uuid.h"

#include "decision/build_tags.h"
#include "decision/decision.h"

typedef struct BuildInputs
{
	bool found; /* the preset exists */
	BuildCheck check;
	char *reason; /* a sentence for a person; NULL when possible */

	/* only when possible */
	int nparameters;
	NameValue *parameters; /* for workspace_build_parameters */
	Jsonb *tags;		   /* the job's: an object of strings */
	pg_uuid_t file_id;	   /* the import job's, as is the storage method */
	char *storage_method;
	char *provisioner; /* the template's */
} BuildInputs;

extern BuildInputs *build_inputs_read(int npresets, const pg_uuid_t *preset_ids);

#endif /* PREBUILD_BUILD_INPUTS_H */
