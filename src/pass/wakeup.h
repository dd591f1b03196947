/*
 * wakeup.h
 *	  Wake the provisioners for new jobs.
 */
#ifndef PREBUILD_WAKEUP_H
#define PREBUILD_WAKEUP_H

#include "base/rows.h"

/* A provisioner daemon that has not been seen for so long counts as dead. */
#define DAEMON_TIMEOUT "90 seconds"

/* Is the daemon "pd" alive at the time given by an expression? */
#define DAEMON_LIVES(at)                                                                           \
	"pd.last_seen_at {>=} (" at " {-} '" DAEMON_TIMEOUT "'::pg_catalog.interval)"

/*
 * Does the daemon "pd" take a job like "j"? The daemon's tags must contain the job's. A job without
 * tags of its own goes only to daemons without tags of their own.
 */
#define DAEMON_TAKES                                                                               \
	"(pd.organization_id {=} j.organization_id AND j.provisioner {=} ANY (pd.provisioners)"        \
	" AND CASE WHEN j.tags {=} '{\"scope\": \"organization\", \"owner\": \"\"}'::pg_catalog.jsonb" \
	"  THEN pd.tags {=} j.tags ELSE pd.tags {@>} j.tags END)"

extern void wakeup_provisioners(const ArrayParameter *jobs, int64_t at);

#endif /* PREBUILD_WAKEUP_H */
