/*
 * control_plane_catalog.h
 *	  What the control plane has, according to the catalog.
 */
#ifndef PREBUILD_CONTROL_PLANE_CATALOG_H
#define PREBUILD_CONTROL_PLANE_CATALOG_H

#include "postgres.h"

#include "access/attnum.h"

/* What control planes differ in, as far as it matters to the extension. */
typedef enum ControlPlaneFeature
{
	FEATURE_CLASSIC_CHOICE,	   /* a template says whether its parameter flow is the classic one */
	FEATURE_TERRAFORM_VALUES,  /* an import stores what Terraform made of the version */
	FEATURE_TERRAFORM_PLAN,	   /* it also stores Terraform's plan */
	FEATURE_TAGS_BY_FLOW,	   /* the parameter flow decides where workspace tags come from */
	FEATURE_LEGACY_PARAMETERS, /* parameters from before template versions had their own */
	FEATURE_ARCHIVED_VERSIONS, /* somebody can archive a template version */
	FEATURE_INVALIDATION,	   /* somebody can invalidate a preset's prebuilds */
	FEATURE_TRACES,			   /* a job carries data for tracing */
	FEATURE_NOTIFICATIONS	   /* there is a queue of notifications */
} ControlPlaneFeature;

extern bool control_plane_is_coder(void);
extern Oid control_plane_table(const char *name, bool missing_ok);
extern AttrNumber control_plane_column(Oid table, const char *name);
extern AttrNumber control_plane_column_of_type(Oid table, const char *name, Oid type,
											   Oid other_type);
extern bool control_plane_has(ControlPlaneFeature feature);
extern void control_plane_require(void);
extern void control_plane_require_table(const char *name);

#endif /* PREBUILD_CONTROL_PLANE_CATALOG_H */
