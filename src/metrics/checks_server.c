/*
 * checks_server.c
 *	  The checks of what surrounds the pools: library and script, passes, locks, workers, the buffer
 *	  of agent metadata, the stored pool, the notification queue, provisioner daemons.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "commands/async.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "catalog/provisioner_daemons.h"
#include "metadata/metadata_stats.h"
#include "metrics/checks.h"
#include "pass/pause.h"
#include "pool/pool_view.h"
#include "settings.h"

/*
 * Run a statement that gives one row of a status and a value, which may be NULL. $1: the schema of
 * the control plane; $2: the clock; $3: the real time. It gets those up to the last that it names.
 */
static void
ask(KeptPlan *plan, const char *sql, PlanMode mode, const CheckContext *context,
	CheckResult *result)
{
	static const Oid argtypes[] = { TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   TimestampTzGetDatum(context->at), TimestampTzGetDatum(context->now) };
	int nargs = strstr(sql, "$3") != NULL	? 3
				: strstr(sql, "$2") != NULL ? 2
				: strstr(sql, "$1") != NULL ? 1
											: 0;
	char *status;

	(void) plan_execute(plan, sql, mode, nargs, argtypes, values, NULL);
	status = row_text(0, 1);
	check_says(result,
			   strcmp(status, "ok") == 0	 ? CHECK_OK
			   : strcmp(status, "warn") == 0 ? CHECK_WARN
			   : strcmp(status, "fail") == 0 ? CHECK_FAIL
											 : CHECK_UNKNOWN,
			   "%s", row_text(0, 2));
	SPI_freetuptable(SPI_tuptable);
}

/* A span of time as people write it, without fractions of a second. An expression of SQL. */
#define SPAN(expression) "pg_catalog.date_trunc('second', " expression ")::pg_catalog.text"

/*
 * The library against the script, and both against the files. An old library that lacks this
 * function is what prebuild_health() itself reports.
 */
static void
look_at_versions(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN v.order_ {>} 0 THEN 'fail'"
		"  WHEN v.order_ {<} 0 OR f.default_version {<>} v.extversion THEN 'warn' ELSE 'ok' END,"
		" pg_catalog.format('library " PREBUILD_VERSION ", script %s, installed files %s',"
		"  v.extversion, COALESCE(f.default_version::pg_catalog.text, 'none'))"
		" FROM (SELECT e.extversion, CASE WHEN s.script {>} s.library THEN 1"
		"   WHEN s.script {<} s.library THEN -1 ELSE 0 END AS order_"
		"  FROM pg_catalog.pg_extension e, LATERAL (SELECT"
		"   pg_catalog.string_to_array(e.extversion, '.')::pg_catalog.int4[] AS script,"
		"   pg_catalog.string_to_array('" PREBUILD_VERSION
		"', '.')::pg_catalog.int4[] AS library) s"
		"  WHERE e.extname {=} 'prebuild_ext') v"
		" LEFT JOIN (SELECT a.default_version FROM pg_catalog.pg_available_extensions() a"
		"  WHERE a.name {=} 'prebuild_ext') f ON true",
		PLAN_READ, context, result);
}

static void
look_at_control_plane(const Check *check, const CheckContext *context, CheckResult *result)
{
	control_plane_require();
	check_says(result, CHECK_OK, "schema %s", quote_identifier(setting_control_plane_schema));
}

static void
look_at_pause(const Check *check, const CheckContext *context, CheckResult *result)
{
	if (pause_is_on())
		check_says(result, CHECK_WARN, "paused");
	else
		check_says(result, CHECK_OK, "not paused");
}

/* The age of the last pass. A pause and coderd's reconciler explain an old one. */
static void
look_at_passes(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN m.age IS NULL OR m.age {>} m.longest"
		"  THEN CASE WHEN m.age {>} (6.0::pg_catalog.float8 {*} m.longest) THEN 'fail' ELSE 'warn' END"
		"  ELSE 'ok' END, COALESCE(" SPAN(
			"m.age") " {||} ' since the last one', 'none yet')"
					 " FROM (SELECT $2 {-} (SELECT d.looked_at FROM {ext}prebuild_demand_marker d"
					 "   WHERE d.control_plane {=} $1) AS age,"
					 "  GREATEST('10 minutes'::pg_catalog.interval, (3.0::pg_catalog.float8 {*}"
					 "   pg_catalog.current_setting('prebuild.reconcile_interval')::pg_catalog.interval))"
					 "   AS longest) m",
		PLAN_READ_OWN, context, result);
	if (result->status == CHECK_OK)
		return;
	if (pause_is_on())
		check_says(result, CHECK_OK, "%s; paused", result->value);
	else if (checks_find_other_reconciler(context))
		check_says(result, CHECK_OK, "%s; coderd's reconciler works", result->value);
}

/* Another reconciler beside our own passes. One of the two alone is fine. */
static void
look_for_other_reconciler(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	if (!check_sees_pool(context, result))
		return;
	if (!checks_find_other_reconciler(context))
	{
		check_says(result, CHECK_OK, "none");
		return;
	}
	ask(&plan,
		"SELECT CASE WHEN m.looked_at {>} ($2 {-} '1 hour'::pg_catalog.interval) THEN 'warn'"
		"  ELSE 'ok' END, CASE WHEN m.looked_at {>} ($2 {-} '1 hour'::pg_catalog.interval)"
		"  THEN 'coderd''s reconciler works, and passes, too'"
		"  ELSE 'coderd''s reconciler works, and no passes' END"
		" FROM (SELECT (SELECT d.looked_at FROM {ext}prebuild_demand_marker d"
		"  WHERE d.control_plane {=} $1) AS looked_at) m",
		PLAN_READ_OWN, context, result);
}

/* Who holds the reconcilers' lock, and since when. */
static void
look_at_reconcilers_lock(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN h.held IS NULL THEN 'ok' WHEN h.held {=} 0 AND h.hidden THEN 'unknown'"
		"  WHEN h.age {>} '10 minutes'::pg_catalog.interval THEN 'fail'"
		"  WHEN h.age {>} '1 minute'::pg_catalog.interval THEN 'warn' ELSE 'ok' END,"
		" CASE WHEN h.held IS NULL THEN 'free' WHEN h.hidden THEN pg_catalog.format("
		"   'held by process %s, nobody may see since when', h.pid)"
		"  ELSE pg_catalog.format('held by %s for %s', COALESCE('process ' {||} h.pid,"
		"   'a prepared transaction'), " SPAN(
			"h.age") ") END"
					 " FROM (SELECT 1) one LEFT JOIN (SELECT 0 AS held, l.pid::pg_catalog.text AS pid,"
					 "   l.pid IS NOT NULL AND a.state IS NULL AND a.xact_start IS NULL AS hidden,"
					 "   CASE WHEN l.pid IS NULL THEN '1 day'::pg_catalog.interval"
					 "    ELSE $3 {-} COALESCE(a.xact_start, a.state_change) END AS age"
					 "  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid {=} l.pid"
					 "  WHERE l.locktype {=} 'advisory' AND l.classid {=} 0 AND l.objid {=} 7"
					 "   AND l.objsubid {=} 1 AND l.granted AND l.database {=} (SELECT d.oid"
					 "    FROM pg_catalog.pg_database d WHERE d.datname {=} pg_catalog.current_database())"
					 "   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() LIMIT 1) h ON true",
		PLAN_READ, context, result);
}

/* Tables that somebody has locked so that passes and claims wait. */
static void
look_at_locked_tables(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN h.tables IS NULL THEN 'ok' WHEN h.hidden THEN 'unknown'"
		"  WHEN h.age {>} '1 minute'::pg_catalog.interval THEN 'fail'"
		"  WHEN h.age {>} '10 seconds'::pg_catalog.interval THEN 'warn' ELSE 'ok' END,"
		" COALESCE(h.tables {||} CASE WHEN h.hidden THEN ', nobody may see since when'"
		"  ELSE ', for ' {||} " SPAN(
			"h.age") " END, 'none')"
					 " FROM (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%s by %s', c.relname,"
					 "    COALESCE('process ' {||} l.pid::pg_catalog.text, 'a prepared transaction')), ', ')"
					 "    AS tables,"
					 "   pg_catalog.bool_or(l.pid IS NOT NULL AND a.state IS NULL AND a.xact_start IS NULL)"
					 "    AS hidden,"
					 "   pg_catalog.max(CASE WHEN l.pid IS NULL THEN '1 day'::pg_catalog.interval"
					 "    ELSE $3 {-} COALESCE(a.xact_start, a.state_change) END) AS age"
					 "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid {=} l.relation"
					 "  JOIN pg_catalog.pg_namespace n ON n.oid {=} c.relnamespace"
					 "  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid {=} l.pid"
					 "  WHERE l.locktype {=} 'relation' AND l.granted AND l.database {=} (SELECT d.oid"
					 "    FROM pg_catalog.pg_database d WHERE d.datname {=} pg_catalog.current_database())"
					 "   AND l.mode {=} ANY ('{ShareLock,ShareRowExclusiveLock,ExclusiveLock,"
					 "AccessExclusiveLock}') AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
					 "   AND c.relkind {=} ANY ('{r,p}') AND (n.nspname {=} $1::pg_catalog.name"
					 "     AND c.relname {~} '^(templates?|template_version.*|workspaces?|workspace_.*|"
					 "provisioner_.*|users|groups|group_members|organizations|organization_members|"
					 "site_configs|notification_.*)$'"
					 "    OR EXISTS (SELECT FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_extension e"
					 "      ON e.oid {=} p.refobjid AND e.extname {=} 'prebuild_ext'"
					 "     WHERE p.refclassid {=} 'pg_catalog.pg_extension'::pg_catalog.regclass"
					 "      AND p.classid {=} 'pg_catalog.pg_class'::pg_catalog.regclass"
					 "      AND p.objid {=} c.oid AND p.deptype {=} 'e'))) h",
		PLAN_READ, context, result);
}

/*
 * The worker notes the end of a pass or fold right after its error, if it has one. The next one ends
 * at least a second later.
 */
#define NOTED_WITHIN "'500 milliseconds'::pg_catalog.interval"

/* Both lanes of the worker: their states, and errors since their last success. */
static void
look_at_worker(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN s.database IS NULL OR pg_catalog.pg_is_in_recovery() THEN 'ok'"
		"  WHEN s.state {=} 'unable' OR s.pass_state {=} 'unable' OR f.error THEN 'fail'"
		"  WHEN s.state {<>} 'serving' OR s.pass_state {<>} 'serving' OR f.fold_error THEN 'warn'"
		"  ELSE 'ok' END,"
		" CASE WHEN s.database IS NULL THEN 'none: prebuild.databases does not name this database'"
		"  WHEN pg_catalog.pg_is_in_recovery() THEN 'none on a standby'"
		"  WHEN s.state {=} 'unable' THEN COALESCE(s.detail, s.state)"
		"  WHEN s.pass_state {=} 'unable' THEN COALESCE(s.pass_detail, s.pass_state)"
		"  WHEN f.error THEN 'last pass: ' {||} s.pass_error"
		"  WHEN f.fold_error THEN 'last fold: ' {||} s.fold_error"
		"  ELSE pg_catalog.format('metadata %s, passes %s', s.state, s.pass_state) END"
		" FROM {ext}prebuild_worker_status_read() s, LATERAL (SELECT"
		"  s.pass_error IS NOT NULL AND (s.pass_error_at {+} " NOTED_WITHIN ") {>} s.last_pass_at,"
		"  s.fold_error IS NOT NULL AND (s.fold_error_at {+} " NOTED_WITHIN ") {>} s.last_fold_at)"
		"  f (error, fold_error)",
		PLAN_READ_OWN, context, result);
}

/*
 * Whether reports of agents get from the buffer into the table, and whether all find room. The error of a
 * refused entry is noted right after the batch that it was in, perhaps in the same microsecond.
 */
static void
look_at_buffer(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;
	BufferRoom room = metadata_stats_room();

	if (room.full_at > context->now - 10 * USECS_PER_MINUTE)
		check_says(result, CHECK_FAIL, "full at %s: reports were dropped",
				   timestamptz_to_str(room.full_at));
	else if (room.half_full)
		check_says(result, CHECK_WARN, "more than half full");
	else
		ask(&plan,
			"SELECT CASE WHEN s.queued {>} 0 AND f.error THEN 'fail' WHEN f.error THEN 'warn'"
			"  ELSE 'ok' END,"
			" CASE WHEN s.buffer_size {=} 0 THEN 'none: reports go into the table at once'"
			"  ELSE pg_catalog.format('%s entries wait', s.queued) {||} CASE WHEN f.error"
			"   THEN '; last write: ' {||} s.last_error ELSE '' END END"
			" FROM {ext}prebuild_metadata_stats_read() s, LATERAL (SELECT"
			"  s.last_error IS NOT NULL AND s.last_error_at {>=} COALESCE(s.last_flush_at,"
			"   '-infinity')) f (error)",
			PLAN_READ_OWN, context, result);
}

/* Entries that wait for a fold. It counts no more than it needs. */
static void
look_at_pool_log(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN l.entries {>} 1000000 THEN 'fail' WHEN l.entries {>} 100000 THEN 'warn'"
		"  ELSE 'ok' END, pg_catalog.format('%s%s entries', CASE WHEN l.entries {>} 1000000"
		"  THEN 'more than ' ELSE '' END, LEAST(l.entries, 1000000))"
		" FROM (SELECT pg_catalog.count(*) AS entries FROM (SELECT FROM {ext}prebuild_pool_log p"
		"  WHERE p.control_plane {=} (SELECT n.oid FROM pg_catalog.pg_namespace n"
		"   WHERE n.nspname {=} $1::pg_catalog.name) LIMIT 1000001) some_) l",
		PLAN_READ_OWN, context, result);
}

/* Whether readers use the stored pool of an attached control plane, and the age of the last fold. */
static void
look_at_stored_pool(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;
	char *hint;
	const char *reason = pool_view_distrust_reason(&hint);

	if (reason != NULL)
	{
		check_says(result, CHECK_WARN, hint != NULL ? "%s (%s)" : "%s", reason, hint);
		return;
	}
	ask(&plan,
		"SELECT CASE WHEN f.late THEN 'warn' ELSE 'ok' END,"
		" CASE WHEN NOT EXISTS (SELECT FROM {ext}prebuild_pool_marker m WHERE m.control_plane {=}"
		"   (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname {=} $1::pg_catalog.name))"
		"  THEN 'not attached'"
		"  WHEN f.late THEN 'the worker''s last fold was ' {||} " SPAN(
			"$3 {-} s.last_fold_at") " {||} ' ago'"
									 "  ELSE 'in use' END"
									 " FROM {ext}prebuild_worker_status_read() s, LATERAL (SELECT"
									 "  NOT pg_catalog.pg_is_in_recovery() AND s.last_fold_at {<} ($3 {-}"
									 "   GREATEST('10 minutes'::pg_catalog.interval, (5.0::pg_catalog.float8 {*}"
									 "    pg_catalog.current_setting('prebuild.fold_interval')::pg_catalog.interval)))) f (late)",
		PLAN_READ_OWN, context, result);
}

static void
look_at_notification_queue(const Check *check, const CheckContext *context, CheckResult *result)
{
	double usage = DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0));

	check_says(result,
			   usage > 0.5	  ? CHECK_FAIL
			   : usage > 0.25 ? CHECK_WARN
							  : CHECK_OK,
			   "%.0f%% full", usage * 100);
}

/* Jobs of prebuilds that nobody takes, and how many daemons there are. */
static void
look_at_waiting_jobs(const Check *check, const CheckContext *context, CheckResult *result)
{
	static KeptPlan plan;

	ask(&plan,
		"SELECT CASE WHEN j.waiting {=} 0 THEN 'ok' WHEN d.alive {=} 0 THEN 'fail' ELSE 'warn' END,"
		" pg_catalog.format('waiting jobs of prebuilds: %s; live daemons: %s', j.waiting, d.alive)"
		" FROM (SELECT pg_catalog.count(*) FROM {cp}provisioner_jobs p"
		"  WHERE p.started_at IS NULL AND p.completed_at IS NULL AND p.canceled_at IS NULL"
		"   AND p.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid"
		"   AND p.created_at {<} ($2 {-} '5 minutes'::pg_catalog.interval)) j (waiting),"
		" (SELECT pg_catalog.count(*) FROM {cp}provisioner_daemons pd WHERE " DAEMON_LIVES(
			"$2") ") d (alive)",
		PLAN_READ, context, result);
}

const Check server_checks[] = {
	{ "versions", look_at_versions, "all the same",
	  "Restart the server or reconnect to load the installed library, then run ALTER EXTENSION "
	  "prebuild_ext UPDATE (docs/upgrading.md).",
	  NULL, CHECK_OK },
	{ "control_plane", look_at_control_plane, "all tables and columns",
	  "Set prebuild.control_plane_schema, or create the tables.", NULL, CHECK_OK },
	{ "paused", look_at_pause, "not paused", "Call prebuild_resume() when passes may work again.",
	  NULL, CHECK_OK },
	{ "passes", look_at_passes, "10 min or 3 reconcile intervals, fails after six times that",
	  "Nothing runs passes: look at the worker, at cron.job_run_details, or at your app server.",
	  NULL, CHECK_OK },
	{ "other_reconciler", look_for_other_reconciler, "one of the two alone",
	  "Two reconcilers agree on most, but not on health, stages and auto: docs/coder.md says how to "
	  "turn coderd's off.",
	  NULL, CHECK_OK },
	{ "reconcilers_lock", look_at_reconcilers_lock, "1 min, fails after 10 min",
	  "pg_stat_activity shows what this session does; no pass runs until it lets go of advisory "
	  "lock 7.",
	  NULL, CHECK_OK },
	{ "locked_tables", look_at_locked_tables, "10 s, fails after 1 min",
	  "pg_stat_activity shows what these sessions do; passes and claims wait 2 s and then do without.",
	  NULL, CHECK_OK },
	{ "worker", look_at_worker, "serving, no error since the last success",
	  "prebuild_worker_status has the details, and README what to change.", NULL, CHECK_OK },
	{ "buffer", look_at_buffer, "half full, or an error since the last write",
	  "prebuild_metadata_stats has the details; raise prebuild.metadata_buffer_size if it is too "
	  "small.",
	  NULL, CHECK_OK },
	{ "pool_log", look_at_pool_log, "100000 entries, fails after 1000000",
	  "Let a pass or the worker fold, call prebuild_fold() or prebuild_rebuild(), or detach.", NULL,
	  CHECK_OK },
	{ "stored_pool", look_at_stored_pool, "in use, or not attached",
	  "Answers are right but slower until the next pass or prebuild_rebuild() repairs it.", NULL,
	  CHECK_OK },
	{ "notification_queue", look_at_notification_queue, "25 %, fails after 50 %",
	  "Look for sessions that listen and stay in a transaction.", NULL, CHECK_OK },
	{ "waiting_jobs", look_at_waiting_jobs, "5 min, fails without a daemon",
	  "Start provisioner daemons, or look why they do not take these jobs (their tags).", NULL,
	  CHECK_OK },
};

const int server_checks_count = lengthof(server_checks);
