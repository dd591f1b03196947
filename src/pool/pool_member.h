/*
 * pool_member.h
 *	  A member of the pool with its latest build. Pure: no server.
 */
#ifndef PREBUILD_POOL_MEMBER_H
#define PREBUILD_POOL_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

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

/* A workspace of the system user that is not deleted, with its latest build. */
typedef struct PoolMember
{
	Id id;
	int64_t created_at;
	Id template_version_id; /* of the latest build, as are all the following */
	Id build_id;
	Id job_id;
	int64_t build_created_at;
	int32_t build_number;
	Transition transition;
	JobStatus job_status;
	bool by_system_user;   /* initiated by the system user */
	bool job_unclaimed;	   /* nobody has taken, started, canceled or completed its job */
	bool ready;			   /* has agents and all are ready; known for running members only */
	bool has_build_preset; /* the latest build carries a preset: */
	Id build_preset_id;
	bool has_current_preset; /* a start build carries a preset; the newest one's: */
	Id current_preset_id;

	/* the decision's reader fills these */
	int32_t build_preset;	/* index of the latest build's preset in the snapshot, or -1 */
	int32_t current_preset; /* index of the current preset in the snapshot, or -1 */
	Verdict verdict; /* from decision_judge(); of extraneous members from decision_settle() */

	/* the caller fills this before decision_settle(), if decision_needs_health() */
	bool sick; /* one of its agents is in a state from which it does not get ready */
} PoolMember;

#endif /* PREBUILD_POOL_MEMBER_H */
