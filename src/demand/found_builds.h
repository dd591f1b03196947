/*
 * found_builds.h
 *	  The first builds of workspaces that a step of a pass finds. See found_builds.c.
 */
#ifndef PREBUILD_FOUND_BUILDS_H
#define PREBUILD_FOUND_BUILDS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/block.h"

#include "base/id.h"
#include "demand/demand_marker.h"

/* The first build of a workspace, of a preset. */
typedef struct FoundBuild
{
	Id workspace_id;
	Id template_id;
	Id job_id;
	Datum preset_name;	  /* text */
	TimestampTz asked_at; /* of the demand; DT_NOEND: nobody has asked */
	bool by_system;		  /* it is a prebuild */
	bool is_gone;		  /* the workspace of a prebuild is deleted */
} FoundBuild;

typedef struct FoundBuilds
{
	int n;
	FoundBuild *builds;
} FoundBuilds;

extern FoundBuilds found_builds_read(const DemandMarker *marker, BlockNumber until,
									 TimestampTz since);

#endif /* PREBUILD_FOUND_BUILDS_H */
