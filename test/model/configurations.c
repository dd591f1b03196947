/*
 * configurations.c
 *	  The pools that the model explores: each setting of section 11 alone, and combined.
 *
 *	  Pure: no server.
 */
#include "model.h"

/* Graces are half a tick: what has been so for a tick has been so for long. */
#define GRACE (TICK / 2)

/* Amounts of a policy. */
#define N(n) ((Amount){ n, false })
#define P(percent) ((Amount){ percent, true })

/* Settings of a policy. */
#define ROLLING(unavailable, surge)                                                                \
	.failed_keep = 1, .max_unavailable = unavailable, .max_surge = surge
#define OFF ROLLING(P(100), P(100))
#define GRACES .unready_grace = GRACE, .disconnected_grace = GRACE
#define RETENTION .failed_retention = TICK
#define PROBES .hard_limit_retry = TICK

/* One preset that wants two, or one. */
#define ONE .npresets = 1, .target = { 2 }, .low_target = { 1 }

/* A pool whose members are invalidated. */
#define ROLLS(unavailable, surge)                                                                  \
	{                                                                                              \
		.name = "unavailable " #unavailable ", surge " #surge, ONE, .bound = 4,                    \
		.powers = MAY_INVALIDATE | MAY_CLAIM | MAY_FAIL | MAY_BREAK | MAY_RESIZE, .policy = {      \
			ROLLING(unavailable, surge)                                                            \
		}                                                                                          \
	}

const Config model_configs[] = {
	/* everything off */
	{ .name = "off",
	  ONE,
	  .bound = 4,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_REAP | MAY_CANCEL | MAY_BREAK | MAY_STOP | MAY_CLAIM |
				MAY_INVALIDATE | MAY_RESIZE | MAY_RECONCILE,
	  .policy = { OFF } },
	{ .name = "off, two versions",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 1, 2 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_CANCEL | MAY_CLAIM | MAY_INVALIDATE | MAY_PROMOTE | MAY_RECONCILE,
	  .policy = { OFF } },

	/* 11.1 */
	{ .name = "unready_grace",
	  ONE,
	  .bound = 3,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_BREAK | MAY_CLAIM | MAY_RESIZE,
	  .policy = { OFF, .unready_grace = GRACE } },
	{ .name = "disconnected_grace",
	  ONE,
	  .bound = 3,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_LOSE | MAY_CLAIM | MAY_INVALIDATE,
	  .policy = { OFF, .disconnected_grace = GRACE } },
	{ .name = "both graces, no hard limit, Coder",
	  ONE,
	  .bound = 3,
	  .powers = MAY_BREAK | MAY_LOSE | MAY_CLAIM | MAY_RECONCILE,
	  .policy = { OFF, GRACES } },

	/* 11.2 */
	{ .name = "failed_retention",
	  .npresets = 1,
	  .target = { 1 },
	  .low_target = { 1 },
	  .bound = 4,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_REAP | MAY_CANCEL | MAY_STOP | MAY_CLAIM | MAY_RECONCILE,
	  .policy = { OFF, RETENTION } },
	{ .name = "failed_retention, keep none",
	  ONE,
	  .bound = 3,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_REAP | MAY_CANCEL | MAY_CLAIM,
	  .policy = { RETENTION, .max_unavailable = P(100), .max_surge = P(100) } },
	{ .name = "delete_retries",
	  ONE,
	  .bound = 4,
	  .powers = MAY_FAIL_DELETES | MAY_INVALIDATE | MAY_CLAIM | MAY_RESIZE | MAY_RECONCILE,
	  .policy = { OFF, .delete_retries = 2 } },

	{ .name = "failed_retention, two presets",
	  .npresets = 2,
	  .target = { 1, 1 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .powers = MAY_FAIL | MAY_CANCEL | MAY_CLAIM,
	  .policy = { OFF, RETENTION } },

	/* 11.3 */
	{ .name = "forgiven by hand",
	  ONE,
	  .bound = 4,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_REAP | MAY_CLAIM | MAY_FORGIVE,
	  .policy = { OFF } },
	{ .name = "hard_limit_retry",
	  ONE,
	  .bound = 3,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_REAP | MAY_CANCEL | MAY_CLAIM | MAY_FORGIVE | MAY_BREAK,
	  .policy = { OFF, PROBES } },
	{ .name = "hard_limit_retry, failed_retention",
	  ONE,
	  .bound = 3,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_CANCEL | MAY_CLAIM,
	  .policy = { RETENTION, .max_unavailable = P(100), .max_surge = P(100), PROBES } },
	{ .name = "hard_limit_retry, graces",
	  ONE,
	  .bound = 3,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_BREAK | MAY_LOSE | MAY_CLAIM,
	  .policy = { OFF, GRACES, PROBES } },
	{ .name = "hard_limit_retry, hard limit 1",
	  .npresets = 1,
	  .target = { 1 },
	  .low_target = { 1 },
	  .bound = 4,
	  .hard_limit = 1,
	  .powers = MAY_FAIL | MAY_REAP | MAY_CANCEL | MAY_CLAIM | MAY_FORGIVE | MAY_INVALIDATE |
				MAY_BREAK | MAY_STOP,
	  .policy = { OFF, PROBES } },
	{ .name = "max_building 1, two presets",
	  .npresets = 2,
	  .target = { 1, 2 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .hard_limit = 2,
	  .max_building = 1,
	  .powers = MAY_FAIL | MAY_CLAIM | MAY_INVALIDATE | MAY_RESIZE | MAY_RECONCILE,
	  .policy = { OFF, PROBES } },

	/* 11.4 */
	ROLLS(N(0), N(0)),
	ROLLS(N(0), N(1)),
	ROLLS(N(0), P(100)),
	ROLLS(N(1), N(0)),
	ROLLS(N(1), N(1)),
	ROLLS(N(1), P(100)),
	ROLLS(P(50), N(0)),
	ROLLS(P(50), P(100)),
	ROLLS(P(100), N(0)),
	ROLLS(P(100), N(1)),
	ROLLS(N(5), N(0)),
	{ .name = "three, unavailable 1, surge 0, Coder",
	  .npresets = 1,
	  .target = { 3 },
	  .low_target = { 1 },
	  .bound = 4,
	  .powers = MAY_INVALIDATE | MAY_CLAIM | MAY_BREAK | MAY_RESIZE | MAY_RECONCILE,
	  .policy = { ROLLING(N(1), N(0)) } },
	{ .name = "unavailable 0, surge 1, graces",
	  ONE,
	  .bound = 4,
	  .powers = MAY_INVALIDATE | MAY_BREAK | MAY_LOSE | MAY_CLAIM | MAY_RESIZE,
	  .policy = { ROLLING(N(0), N(1)), GRACES } },
	{ .name = "unavailable 0, surge 0, lifetime",
	  ONE,
	  .bound = 4,
	  .lifetime = 2,
	  .powers = MAY_FAIL | MAY_CLAIM | MAY_INVALIDATE,
	  .policy = { ROLLING(N(0), N(0)) } },
	{ .name = "unavailable 1, lifetime, max_building 2",
	  .npresets = 2,
	  .target = { 1, 2 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .lifetime = 2,
	  .max_building = 2,
	  .powers = MAY_CLAIM | MAY_BREAK,
	  .policy = { ROLLING(N(1), N(0)) } },
	{ .name = "unavailable 0, probes, rests, deletes",
	  ONE,
	  .bound = 4,
	  .hard_limit = 2,
	  .powers = MAY_FAIL | MAY_INVALIDATE | MAY_CLAIM | MAY_FAIL_DELETES,
	  .policy = { ROLLING(N(0), N(1)), RETENTION, .delete_retries = 1, PROBES } },
	{ .name = "unavailable 0, promotions",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 1, 2 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .powers = MAY_FAIL | MAY_INVALIDATE | MAY_CLAIM | MAY_PROMOTE,
	  .policy = { ROLLING(N(0), N(1)) } },

	/* 11.5 */
	{ .name = "stage and promote",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 1, 3 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .hard_limit = 2,
	  .share = 0.5,
	  .promote = true,
	  .powers = MAY_FAIL | MAY_CLAIM | MAY_STAGE | MAY_PROMOTE,
	  .policy = { OFF } },
	{ .name = "stage by hand, probes, resize",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 1, 2 },
	  .low_target = { 1, 0 },
	  .bound = 4,
	  .hard_limit = 2,
	  .share = 1.0,
	  .powers = MAY_FAIL | MAY_CLAIM | MAY_STAGE | MAY_PROMOTE | MAY_RESIZE,
	  .policy = { OFF, PROBES } },
	{ .name = "stage what cannot be built",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 2, 1 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .hard_limit = 2,
	  .share = 1.0,
	  .promote = true,
	  .invalid = { false, true },
	  .powers = MAY_FAIL | MAY_CLAIM | MAY_STAGE | MAY_CANCEL,
	  .policy = { OFF } },
	{ .name = "stage and promote, rolling, graces",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 1, 1 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .hard_limit = 1,
	  .share = 1.0,
	  .promote = true,
	  .powers = MAY_FAIL | MAY_CLAIM | MAY_STAGE | MAY_INVALIDATE | MAY_BREAK,
	  .policy = { ROLLING(N(0), N(1)), GRACES, PROBES } },

	{ .name = "stage and promote, unavailable 1",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 1, 1 },
	  .low_target = { 1, 0 },
	  .bound = 3,
	  .share = 1.0,
	  .promote = true,
	  .powers = MAY_CLAIM | MAY_STAGE | MAY_INVALIDATE | MAY_RESIZE,
	  .policy = { ROLLING(N(1), N(0)) } },

	/* all of it */
	{ .name = "everything",
	  .npresets = 2,
	  .two_versions = true,
	  .target = { 2, 1 },
	  .low_target = { 1, 1 },
	  .bound = 4,
	  .hard_limit = 2,
	  .max_building = 1,
	  .lifetime = 2,
	  .share = 1.0,
	  .promote = true,
	  .powers = ~0u,
	  .policy = { ROLLING(N(1), N(1)), GRACES, RETENTION, .delete_retries = 1, PROBES } },
};

const int model_nconfigs = sizeof(model_configs) / sizeof(model_configs[0]);
