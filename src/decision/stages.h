/*
 * stages.h
 *	  Staged versions: not active yet, but their pools are built beside the active version's.
 */
#ifndef PREBUILD_STAGES_H
#define PREBUILD_STAGES_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decision/decision.h"

/* Why a version is staged no longer. */
typedef enum StageEnd
{
	STAGE_GOES_ON,
	STAGE_EXPIRED,			  /* its valid_until has passed */
	STAGE_PROMOTED_ELSEWHERE, /* it is the active version */
	STAGE_DROPPED			  /* template or version can have no prebuilds any more */
} StageEnd;

typedef struct Stage
{
	/* as stored */
	Id template_id;
	Id version_id;
	Id replaces; /* the version that was active when this one was staged */
	float4 share;
	bool promote; /* a pass makes it the active version */
	bool has_valid_until;
	TimestampTz valid_until;
	TimestampTz staged_at; /* tells a row from a later one of the same template */

	/* as the control plane has it */
	char *template_name; /* NULL if the template is gone */
	Id active_version_id;
	StageEnd end;

	/* stages_settle() fills these */
	int32_t target; /* sums over the version's presets */
	int32_t eligible;
	int32_t failed;
	bool ready;
	bool promotes; /* a pass at this time makes it the active version */
	char *reason;  /* why it is ready or not, or why it ends */
} Stage;

/* The stages of a control plane, ordered by template. */
typedef struct Stages
{
	int n;
	Stage *rows;
} Stages;

extern void stages_read(PoolSnapshot *pool, TimestampTz at, Stages *stages);
extern void stages_settle(const Stages *stages, const PoolSnapshot *pool);
extern Stage *stages_find(const Stages *stages, const Id *version_id);

#endif /* PREBUILD_STAGES_H */
