/*
 * model.h
 *	  The model of small pools: what explorer.c and its parts share.
 *
 *	  Time goes by in ticks of half a day, so that the core's longest delays (a day) are two ticks.
 *	  A state has the entries of its pools in the order of their builds, the oldest first. An entry
 *	  is a member of the pool or a failed build whose member is gone.
 */
#ifndef PREBUILD_MODEL_H
#define PREBUILD_MODEL_H

#include "decision/decision.h"

#define TICK (INT64_C(12) * 3600 * DECISION_USECS_PER_SEC)
#define MODEL_PRESETS 2
#define MODEL_ENTRIES 24 /* room; what is explored has a bound of its own */

typedef enum Kind
{
	KIND_NONE,
	/* start builds on their way */
	KIND_PENDING,
	KIND_RUNNING,
	KIND_CANCELING,
	/* running members */
	KIND_STARTING, /* not ready yet */
	KIND_READY,
	KIND_UNWELL, /* an agent is in start_error */
	KIND_LOST,	 /* ready, but disconnected */
	/* what is left of failures */
	KIND_FAILED,
	KIND_REAPED, /* failed without ever having had a worker */
	KIND_CANCELED,
	KIND_STOPPED,
	/* delete builds */
	KIND_DELETING,
	KIND_UNDELETED, /* failed */
	/* no member any more: a past failure */
	KIND_GONE
} Kind;

/* One bit a kind. */
#define IS(entry, kinds) (((kinds) >> (entry)->kind & 1) != 0)
#define BIT(kind) (1u << (kind))
#define BUILDING (BIT(KIND_PENDING) | BIT(KIND_RUNNING))
#define UP (BIT(KIND_STARTING) | BIT(KIND_READY) | BIT(KIND_UNWELL) | BIT(KIND_LOST))
#define LEFT (BIT(KIND_FAILED) | BIT(KIND_REAPED) | BIT(KIND_CANCELED) | BIT(KIND_STOPPED))
#define DELETE (BIT(KIND_DELETING) | BIT(KIND_UNDELETED))

typedef struct Entry
{
	uint8_t kind;
	uint8_t preset;
	uint8_t age;   /* of the latest build, in ticks, as far as it matters */
	uint8_t since; /* ticks since the job ended or the agent was lost */
	uint8_t attempts;
	bool invalidated;
	bool forgiven;
	uint8_t handle; /* during a step: which member it is; 0 otherwise */
} Entry;

typedef struct State
{
	uint8_t active; /* the version */
	bool staged;	/* the other version is */
	bool low;		/* the lower target holds */
	uint8_t status[MODEL_PRESETS];
	uint8_t n;
	Entry entries[MODEL_ENTRIES];
} State;

/* What the environment may do in a configuration. What helps, it may always do. */
typedef enum Power
{
	MAY_FAIL = 1,
	MAY_REAP = 2,
	MAY_CANCEL = 4,
	MAY_BREAK = 8, /* agents end up in start_error */
	MAY_LOSE = 16, /* agents disconnect */
	MAY_STOP = 32,
	MAY_FAIL_DELETES = 64,
	MAY_CLAIM = 128,
	MAY_INVALIDATE = 256,
	MAY_PROMOTE = 512,
	MAY_STAGE = 1024,
	MAY_FORGIVE = 2048,
	MAY_RESIZE = 4096,	  /* the target changes, as by a schedule */
	MAY_RECONCILE = 8192, /* Coder's reconciler runs as well */
} Power;

typedef struct Config
{
	const char *name;
	int npresets;
	bool two_versions; /* preset 1 is of version 1 */
	int target[MODEL_PRESETS];
	int low_target[MODEL_PRESETS];
	int bound; /* members in an explored state */
	unsigned powers;
	HealthPolicy policy;
	int hard_limit;
	int max_building;
	int lifetime; /* in ticks; 0 = for ever */
	double share;
	bool promote;
	bool invalid[MODEL_PRESETS]; /* cannot be built: proven */
} Config;

typedef enum Actor
{
	ACTOR_START,
	ACTOR_ENVIRONMENT,
	ACTOR_PASS,
	ACTOR_CODER
} Actor;

typedef enum Event
{
	EVENT_NONE,
	EVENT_TICK,
	EVENT_INVALIDATE, /* of a preset, as the next */
	EVENT_FORGIVE,
	EVENT_PROMOTE,
	EVENT_STAGE,
	EVENT_UNSTAGE,
	EVENT_RESIZE,
	EVENT_TAKE, /* of an entry, as all that follow */
	EVENT_SUCCEED,
	EVENT_FAIL,
	EVENT_REAP,
	EVENT_CANCEL,
	EVENT_GET_READY,
	EVENT_BREAK,
	EVENT_LOSE,
	EVENT_RECONNECT,
	EVENT_STOP,
	EVENT_CLAIM,
	EVENT_END
} Event;

typedef struct Step
{
	uint8_t actor;
	uint8_t event; /* of the environment; with a pass between its judgement and its writes */
	uint8_t index;
} Step;

/* A judgement of a state, and what it needs. */
typedef struct Pass
{
	const Config *config;
	bool coder;
	State state; /* as judged, with handles: the entry's index + 1 */
	PoolSnapshot snapshot;
	DecisionSettings settings;
	Preset presets[MODEL_PRESETS];
	PoolMember members[MODEL_ENTRIES];
	int entry_of[MODEL_ENTRIES]; /* of each member */
	PastFailure failures[MODEL_ENTRIES];
	PoolMember *order[MODEL_ENTRIES];
	Attempt attempts[MODEL_ENTRIES];
	int heap[MODEL_PRESETS];
	bool promotes;
} Pass;

/* state.c */
extern int state_version(const Config *config, int preset);
extern int state_target(const Config *config, const State *state, int preset);
extern bool state_is_kept(const Config *config, const State *state, int preset, bool coder);
extern bool state_is_expired(const Config *config, const Entry *entry);
extern bool state_is_sick(const Config *config, const Entry *entry);
extern int state_count(const State *state, int preset, unsigned kinds);
extern void state_normalize(const Config *config, State *state);
extern void state_print(const State *state);
extern void step_print(const Step *step);

/* environment.c */
extern bool environment_step(const Config *config, State *state, Event event, int index);
extern bool environment_calm(State *state, bool slowly);

/* pass.c */
extern void pass_judge(Pass *pass, const Config *config, const State *state, bool coder);
extern bool pass_is_idle(const Pass *pass);
extern void pass_apply(const Pass *pass, State *state);

/* properties.c */
extern const char *property_broken_by_judgement(const Pass *pass);
extern const char *property_broken_by_writes(const Pass *pass, const State *after);
extern const char *property_not_idempotent(const Pass *first, const Pass *second);
extern const char *goal_missed(const Pass *pass);

/* configurations.c */
extern const Config model_configs[];
extern const int model_nconfigs;

#endif /* PREBUILD_MODEL_H */
