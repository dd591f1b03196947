/*
 * decision.h
 *	  Desired against actual: from a snapshot of presets and pool members, computes each preset's
 *	  state and the actions that a pass takes. Pure: no server, no clock, no allocation.
 */
#ifndef PREBUILD_DECISION_H
#define PREBUILD_DECISION_H

#include <stdbool.h>
#include <stdint.h>

#include "pool/pool_member.h"

/* Times and spans are in microseconds. Times count from PostgreSQL's epoch. */
#define DECISION_USECS_PER_SEC INT64_C(1000000)

/*
 * Most prebuilds that one pass creates, whatever the settings, so that a typing error cannot
 * exhaust memory.
 */
#define DECISION_MAX_CREATES 100000

typedef enum PrebuildStatus
{
	STATUS_HEALTHY,
	STATUS_HARD_LIMITED,
	STATUS_VALIDATION_FAILED
} PrebuildStatus;

/* Why a pass withholds prebuilds from a preset that wants them, the strongest reason first. */
typedef enum Withheld
{
	WITHHELD_NOT,
	WITHHELD_BACKOFF,
	WITHHELD_HARD_LIMITED,
	WITHHELD_VALIDATION_FAILED,
	WITHHELD_UNSUPPORTED,
	WITHHELD_RETRY,			/* not known yet (an import job that still runs) */
	WITHHELD_NO_PROVISIONER /* no live daemon could build it */
} Withheld;

/* What is known of building a prebuild of a preset. Set only where it matters. */
typedef enum BuildCheck
{
	BUILD_POSSIBLE,		 /* or not checked */
	BUILD_NOT_YET,		 /* not known yet; the next pass tries again */
	BUILD_INVALID,		 /* proven impossible until the template changes */
	BUILD_UNSUPPORTED,	 /* the database cannot decide it */
	BUILD_NO_PROVISIONER /* no live daemon could build it, and the policy asks for one */
} BuildCheck;

/* A number, or a share of another one. */
typedef struct Amount
{
	int32_t value;
	bool percent;
} Amount;

/* How to keep a pool healthy. All zero except the amounts is off: the settings' defaults. */
typedef struct HealthPolicy
{
	int64_t unready_grace;		/* after which a member that is not ready is sick; 0 = off */
	int64_t disconnected_grace; /* after which a disconnected member is sick; 0 = off */
	int64_t failed_retention;	/* how long what is left of a failure stays; 0 = for ever */
	int32_t failed_keep;		/* how many of these stay as evidence, the newest */
	int32_t delete_retries;		/* how often to try a failed delete build again */
	int64_t hard_limit_retry;	/* after which a hard-limited preset gets a probe; 0 = never */
	bool require_provisioner;	/* create only what a live daemon could build */
	Amount max_unavailable;		/* of the target */
	Amount max_surge;			/* of the target */
} HealthPolicy;

/* Coder's way: what expires goes at once. */
#define HEALTH_POLICY_OFF                                                                          \
	((HealthPolicy){                                                                               \
		.failed_keep = 1, .max_unavailable = { 100, true }, .max_surge = { 100, true } })

typedef struct Preset
{
	/* the reader fills these */
	Id id;
	Id template_id;
	Id organization_id;
	Id template_version_id;
	Id active_version_id; /* the template's */
	bool template_deleted;
	bool template_deprecated;
	/* instances wanted at the time, by number, schedule or policy (active or not) */
	int32_t scheduled;
	int32_t invalidate_after_secs;
	bool has_last_invalidated_at;
	int64_t last_invalidated_at;
	PrebuildStatus status;	   /* as stored */
	bool marked_invalid_by_us; /* the extension wrote the stored validation_failed */
	double staged_share;	   /* part of its target that its staged version gets; 0 = not staged */
	bool has_forgiven_until;
	int64_t forgiven_until; /* failures of builds up to this time do not count */
	HealthPolicy policy;
	/* the reader's own; the decision does not look at them */
	struct PresetDetails *details;

	/* decision_judge() fills these: the state */
	bool active; /* a claim may take its prebuilds */
	bool kept;	 /* active or staged: a pass keeps its pool */
	int32_t desired;
	int32_t actual;
	int32_t expired;
	int32_t sick;  /* expired ones included */
	int32_t valid; /* neither expired nor sick */
	int32_t eligible;
	int32_t extraneous;
	int32_t starting;
	int32_t stopping;
	int32_t deleting;
	int32_t pending_stale;
	int32_t num_failed;
	bool has_backoff_until;
	int64_t backoff_until;
	bool backing_off; /* kept and at <= backoff_until */
	bool hard_limited;
	bool probe_due;		/* hard-limited, and it is time to try one build */
	int64_t next_probe; /* if hard-limited and the policy has probes: when it is time */
	bool forgive;		/* a probe ended the limit: store forgive_until as forgiven_until */
	int64_t forgive_until;
	int32_t shortfall; /* instances missing, before withholding any */
	int32_t serving;   /* expired ones that stay until their replacements are ready */
	int32_t waiting;   /* part of the shortfall that has to wait until some of these go */

	/* the caller fills these before decision_settle(), if decision_needs_check() */
	BuildCheck check;
	const char *check_reason; /* unless BUILD_POSSIBLE */

	/* decision_settle() fills these: what to do about the shortfall */
	Withheld withheld;
	int32_t create;			   /* to create now */
	int32_t capped;			   /* part of the shortfall that a cap holds back */
	const char *capped_by;	   /* that cap: a setting or a phrase */
	PrebuildStatus new_status; /* what the stored status should be */
	int32_t remaining;		   /* eligible ones that the pass leaves alone */
	int first_action;		   /* its members to act on: a slice of the snapshot's order */
	int nactions;
} Preset;

typedef struct DecisionSettings
{
	int64_t at;
	int64_t backoff_interval;
	int64_t backoff_lookback;
	int64_t backoff_max; /* 0 = no cap */
	int32_t failure_hard_limit;
	int32_t max_creates_per_pass; /* 0 = no cap */
	int32_t max_building;		  /* 0 = no cap */
} DecisionSettings;

/* A build that failed and whose member is gone. */
typedef struct PastFailure
{
	int32_t preset; /* index in the snapshot */
	Id build_id;
	int64_t build_created_at;
} PastFailure;

/* A start build that counts for backoff and hard limit. */
typedef struct Attempt
{
	int32_t preset;
	Id build_id;
	int64_t created_at;
	bool failed;
	bool ready;
	bool building;	 /* its job waits or runs, and the pass leaves it alone */
	int64_t over_at; /* when it ended, as far as known, if the pass leaves it alone */
} Attempt;

typedef struct PoolSnapshot
{
	int npresets;
	Preset *presets;
	int nmembers;
	PoolMember *members;
	int nfailures;
	PastFailure *failures; /* of members that are gone */
	Attempt *attempts;	   /* the caller's: room for nmembers + nfailures */
	PoolMember **order;	   /* the caller's: room for nmembers pointers; see decision_settle() */
	int *heap;			   /* the caller's: room for npresets indexes */
} PoolSnapshot;

/* Whether a staged version may become active, or the first reason why not. */
typedef enum StageState
{
	STAGE_READY,
	STAGE_EMPTY, /* its presets want no prebuilds now: nothing shows that it can be built */
	STAGE_HARD_LIMITED,
	STAGE_VALIDATION_FAILED,
	STAGE_UNSUPPORTED,
	STAGE_INCOMPLETE
} StageState;

extern bool decision_is_active(const Preset *preset);
extern int64_t decision_expires_before(const Preset *preset, int64_t at);
extern void decision_judge(PoolSnapshot *snapshot, const DecisionSettings *settings);
extern bool decision_needs_check(const Preset *preset);
extern bool decision_keeps_health(const Preset *preset);
extern bool decision_rolls(const HealthPolicy *policy);
extern bool decision_needs_attempts(const PoolSnapshot *snapshot, const PoolMember *member);
extern bool decision_needs_seen_at(const PoolSnapshot *snapshot, const PoolMember *member,
								   int64_t at);
extern bool decision_needs_health(const PoolSnapshot *snapshot, const PoolMember *member);
extern int decision_acting_preset(const PoolMember *member);
extern void decision_settle(PoolSnapshot *snapshot, const DecisionSettings *settings);
extern StageState decision_stage_state(const PoolSnapshot *snapshot, const Id *version,
									   int32_t *target, int32_t *eligible, int32_t *failed);

#endif /* PREBUILD_DECISION_H */
