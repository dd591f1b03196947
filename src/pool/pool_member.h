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
	VERDICT_DELETE_INACTIVE,   /* running, of a preset that is neither active nor staged */
	VERDICT_DELETE_EXPIRED,	   /* running, too old or invalidated */
	VERDICT_DELETE_SICK,	   /* running, sick */
	VERDICT_DELETE_EXTRANEOUS, /* running, more than desired */
	VERDICT_DELETE_LEFT,	   /* failed, canceled or stopped, kept for long enough */
	VERDICT_DELETE_AGAIN,	   /* its last delete build failed */
} Verdict;

/* Why a running member is sick, the first that holds. */
typedef enum Sickness
{
	SICK_NOT,
	SICK_STATE,		  /* an agent is in a state from which it does not get ready */
	SICK_UNREADY,	  /* an agent is not ready long after the build */
	SICK_DISCONNECTED /* an agent that was connected has not been for long */
} Sickness;

/* How the struct declares each kind of field of MEMBER_COLUMNS. */
#define FIELD_NONE
#define FIELD_ID(name) Id name;
#define FIELD_TIME(name) int64_t name;
#define FIELD_TIME_OR_NEVER(name) int64_t name; /* INT64_MAX for NULL */
#define FIELD_NUMBER(name) int32_t name;
#define FIELD_END_TIME(name) int64_t name;
#define FIELD_FLAG(name) bool name;
#define FIELD_KNOWN_FLAG(name) bool name;
#define FIELD_POINTER(name) const void *name;
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
	/*
	 * "unwell" is known of running members, if the policy of their preset asks for health or
	 * decision_needs_health(). "resources" is the reader's own. "seen_at" is known of running
	 * members, if the policy of their preset has a grace for it. If the stored pool has an earlier
	 * time, and both lie within the grace, "seen_at" is that one.
	 */
	KEPT_COLUMNS(FIELD_OF_COLUMN)

	/*
	 * Delete builds in a row, the latest included. Known for members for which
	 * decision_needs_attempts().
	 */
	int32_t delete_attempts;

	/* the decision's reader fills these */
	int32_t build_preset;	/* index of the latest build's preset in the snapshot, or -1 */
	int32_t current_preset; /* index of the current preset in the snapshot, or -1 */

	/* decision_judge() fills these */
	Verdict verdict;	   /* of extraneous members decision_settle() does */
	Sickness sickness;	   /* by the policy of its preset */
	bool is_failure;	   /* its latest build counts as failed: remember it if the member goes */
	bool deletes_given_up; /* its delete builds failed as often as the policy tries */

	/* the caller fills this after decision_settle() for sick members that go */
	const char *complaint; /* a phrase: which agent, what state, since when */
} PoolMember;

#endif /* PREBUILD_POOL_MEMBER_H */
