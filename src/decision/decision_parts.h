/*
 * decision_parts.h
 *	  What the files of the decision share with each other: decision.c, failures.c, health.c and
 *	  caps.c. Pure: no server.
 */
#ifndef PREBUILD_DECISION_PARTS_H
#define PREBUILD_DECISION_PARTS_H

#include <string.h>

#include "decision/decision.h"

static inline bool
ids_equal(const Id *a, const Id *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline int
compare_int64(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

/* How long ago a time is, 0 if it is to come. Exact for all times, the infinite ones included. */
static inline uint64_t
age_of(int64_t time, int64_t at)
{
	return time < at ? (uint64_t) at - (uint64_t) time : 0;
}

/* True for a pool member that serves, or will serve once its agents are ready. */
static inline bool
is_running(const PoolMember *member)
{
	return member->transition == TRANSITION_START && member->job_status == JOB_SUCCEEDED;
}

/* True while the latest build's job waits or runs. */
static inline bool
is_building(const PoolMember *member)
{
	return member->job_status == JOB_PENDING || member->job_status == JOB_RUNNING;
}

/* True for a version whose pool a pass keeps: the active one, or the preset's, staged. */
static inline bool
is_kept_version(const Id *version, const Preset *preset)
{
	return ids_equal(version, &preset->active_version_id) ||
		   (preset->staged_share > 0 && ids_equal(version, &preset->template_version_id));
}

/* decision.c */
extern int decision_compare_age(const PoolMember *a, const PoolMember *b);

/* failures.c */
extern void failures_judge(PoolSnapshot *snapshot, const DecisionSettings *settings);

/* health.c */
extern Sickness health_sickness(const PoolMember *member, const HealthPolicy *policy, int64_t at);
extern void health_judge_leaks(PoolSnapshot *snapshot, const DecisionSettings *settings);
extern void health_roll(PoolSnapshot *snapshot);
extern int32_t health_room(const Preset *preset, int32_t valid);

/* caps.c */
extern void caps_apply(PoolSnapshot *snapshot, const DecisionSettings *settings);

#endif /* PREBUILD_DECISION_PARTS_H */
