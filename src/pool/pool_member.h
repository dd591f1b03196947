/*
 * pool_member.h
 *	  A member of the pool with its latest build. Pure: no server.
 */
#ifndef PREBUILD_POOL_MEMBER_H
#define PREBUILD_POOL_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "pool/member_columns.h"

typedef enum Transition
{
	TRANSITION_START,
	TRANSITION_STOP,
	TRANSITION_DELETE,
	TRANSITION_OTHER /* one that a later control plane may have */
} Transition;

typedef enum JobStatus
{
	JOB_PENDING,
	JOB_RUNNING,
	JOB_SUCCEEDED,
	JOB_CANCELING,
	JOB_CANCELED,
	JOB_FAILED,
	JOB_UNKNOWN
} JobStatus;

/* What decision_judge() says should happen to a pool member. */
typedef enum Verdict
{
	VERDICT_LEAVE,
	VERDICT_CANCEL,			   /* a pending first build that nobody will want */
	VERDICT_DELETE_INACTIVE,   /* running, of a preset that is not active */
	VERDICT_DELETE_EXPIRED,	   /* running, too old or invalidated */
	VERDICT_DELETE_EXTRANEOUS, /* running, more than desired */
} Verdict;

/* How the struct declares each kind of field of MEMBER_COLUMNS. */
#define FIELD_NONE
#define FIELD_ID(name) Id name;
#define FIELD_TIME(name) int64_t name;
#define FIELD_NUMBER(name) int32_t name;
#define FIELD_FLAG(name) bool name;
#define FIELD_TRANSITION(name) Transition name;
#define FIELD_JOB_STATUS(name) JobStatus name;
#define FIELD_PRESET(name)                                                                         \
	bool has_##name;                                                                               \
	Id name##_id;
#define FIELD_OF_COLUMN(name, type, value, field) FIELD_##field

/* A workspace of the system user that is not deleted, with its latest build. */
typedef struct PoolMember
{
	Id id;
	MEMBER_COLUMNS(FIELD_OF_COLUMN, NOT_KEPT)

	/* the decision's reader fills these */
	int32_t build_preset;	/* index of the latest build's preset in the snapshot, or -1 */
	int32_t current_preset; /* index of the current preset in the snapshot, or -1 */
	Verdict verdict; /* from decision_judge(); of extraneous members from decision_settle() */

	/* the caller fills this before decision_settle(), if decision_needs_health() */
	bool sick; /* one of its agents is in a state from which it does not get ready */
} PoolMember;

#endif /* PREBUILD_POOL_MEMBER_H */
