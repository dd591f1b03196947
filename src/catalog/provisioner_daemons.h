/*
 * provisioner_daemons.h
 *	  Which provisioner daemons live, and which jobs they take: parts of SQL statements.
 */
#ifndef PREBUILD_PROVISIONER_DAEMONS_H
#define PREBUILD_PROVISIONER_DAEMONS_H

/* A provisioner daemon that has not been seen for so long counts as dead. */
#define DAEMON_TIMEOUT "90 seconds"

/* Is the daemon "pd" alive at the time given by an expression? */
#define DAEMON_LIVES(at)                                                                           \
	"pd.last_seen_at {>=} (" at " {-} '" DAEMON_TIMEOUT "'::pg_catalog.interval)"

/* Does the daemon "pd" run the provisioner of a job like "j", in its organization? */
#define DAEMON_OF_KIND                                                                             \
	"(pd.organization_id {=} j.organization_id AND j.provisioner {=} ANY (pd.provisioners))"

/*
 * Does the daemon "pd" take a job like "j"? The daemon's tags must contain the job's. A job without
 * tags of its own goes only to daemons without tags of their own.
 */
#define DAEMON_TAKES                                                                               \
	"(" DAEMON_OF_KIND                                                                             \
	" AND CASE WHEN j.tags {=} '{\"scope\": \"organization\", \"owner\": \"\"}'::pg_catalog.jsonb" \
	"  THEN pd.tags {=} j.tags ELSE pd.tags {@>} j.tags END)"

#endif /* PREBUILD_PROVISIONER_DAEMONS_H */
