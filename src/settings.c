/*
 * settings.c
 *	  Every setting of the extension: name, unit, range, check, description.
 */
#include "compat.h"

#include <limits.h>

#include "nodes/pg_list.h"
#include "utils/varlena.h"

#include "decision/amount.h"
#include "settings.h"

char *setting_control_plane_schema = NULL;
int setting_backoff_interval = 60;
int setting_backoff_lookback = 3600;
int setting_backoff_max = 0;
int setting_failure_hard_limit = 3;
int setting_max_creates_per_pass = 0;
char *setting_max_building = NULL;
int setting_lock_linger = 20;
int setting_event_retention = 7 * 24 * 60;
bool setting_notify_hard_limit = false;

/* demand */
int setting_demand_retention = 400 * 24 * 60;
int setting_default_lead_time = 5 * 60;
int setting_scale_in_delay = 15 * 60;

/* healthy pools */
int setting_unready_grace = 0;
int setting_disconnected_grace = 0;
int setting_failed_retention = 0;
int setting_failed_keep = 1;
int setting_delete_retries = 0;
int setting_hard_limit_retry = 0;
bool setting_require_provisioner = false;
char *setting_max_unavailable = NULL;
char *setting_max_surge = NULL;

/* agent metadata and the worker */
int setting_metadata_flush_interval = 5000;
int setting_metadata_batch_size = 500;
int setting_metadata_buffer_size = 32 * 1024;
int setting_metadata_insert_missing = INSERT_MISSING_AUTO;
int setting_metadata_notify = METADATA_NOTIFY_BATCH;
char *setting_databases = NULL;
char *setting_worker_role = NULL;
int setting_reconcile_interval = 0;
int setting_fold_interval = 60;
int setting_attach_timeout = 30 * 1000;

/* identities of agents */
int setting_identity_cache_ttl = 5 * 60 * 1000;
int setting_identity_cache_size = 8192;

static const struct config_enum_entry insert_missing_options[] = {
	{ "off", INSERT_MISSING_OFF, false },	{ "on", INSERT_MISSING_ON, false },
	{ "auto", INSERT_MISSING_AUTO, false }, { "false", INSERT_MISSING_OFF, true },
	{ "true", INSERT_MISSING_ON, true },	{ NULL, 0, false }
};

static const struct config_enum_entry metadata_notify_options[] = {
	{ "batch", METADATA_NOTIFY_BATCH, false },
	{ "agent", METADATA_NOTIFY_AGENT, false },
	{ "both", METADATA_NOTIFY_BOTH, false },
	{ NULL, 0, false }
};

/* Accept any possible identifier. Whoever uses the schema checks that it exists. */
static bool
check_schema_name(char **newval, void **extra, GucSource source)
{
	size_t length = strlen(*newval);

	if (length > 0 && length < NAMEDATALEN)
		return true;
	GUC_check_errdetail("A schema name has 1 to %d bytes.", NAMEDATALEN - 1);
	return false;
}

/* Accept the text of an amount. */
static bool
check_amount(char **newval, void **extra, GucSource source)
{
	Amount amount;

	if (amount_parse(*newval, &amount))
		return true;
	GUC_check_errdetail("It has to be a number from 0 to %d, or a percentage from 0%% to %d%%, in "
						"digits alone.",
						AMOUNT_MOST, AMOUNT_MOST_PERCENT);
	return false;
}

/* As check_amount(), for a cap: 0 is no cap, so that nobody knows what 0% would be. */
static bool
check_cap(char **newval, void **extra, GucSource source)
{
	if (strcmp(*newval, "0%") != 0)
		return check_amount(newval, extra, source);
	GUC_check_errdetail("A cap of 0%% would be no cap and the smallest one at once.");
	GUC_check_errhint("Use 0 for no cap, and 1%% for the smallest one.");
	return false;
}

/* Define a setting that takes an amount and that any session may change for itself. */
static void
define_amount(const char *name, const char *description, char **variable, const char *value,
			  GucStringCheckHook check)
{
	DefineCustomStringVariable(name, description, "A number, or a percentage such as 25%.",
							   variable, value, PGC_USERSET, 0, check, NULL, NULL);
}

/* Define an integer setting that any session may change for itself. */
static void
define_int(const char *name, const char *description, int *variable, int max, int flags)
{
	DefineCustomIntVariable(name, description, NULL, variable, *variable, 0, max, PGC_USERSET,
							flags, NULL, NULL, NULL);
}

/* Accept a list of names, as in search_path. The worker checks that the databases exist. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char *copy = pstrdup(*newval);
	List *names = NIL;
	bool valid = SplitIdentifierString(copy, ',', &names);

	if (!valid)
		GUC_check_errdetail("List syntax is invalid.");
	list_free(names);
	pfree(copy);
	return valid;
}

/* Define the settings that only a server that preloads the library has: they need shared memory. */
static void
define_preload_settings(void)
{
	DefineCustomIntVariable("prebuild.metadata_buffer_size",
							"Sets the shared memory for reports of agent metadata that wait to be "
							"written.",
							NULL, &setting_metadata_buffer_size, setting_metadata_buffer_size, 1024,
							4 * 1024 * 1024 - 1, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"prebuild.databases", "Sets the databases (comma-separated) that get two workers each.",
		NULL, &setting_databases, "", PGC_POSTMASTER, GUC_LIST_INPUT, check_databases, NULL, NULL);
}

/* Define the settings of agent metadata, of the worker and of attaching. */
static void
define_metadata_settings(void)
{
	if (process_shared_preload_libraries_in_progress)
		define_preload_settings();
	DefineCustomIntVariable("prebuild.metadata_flush_interval",
							"Sets the longest time that a report of agent metadata waits to be "
							"written.",
							NULL, &setting_metadata_flush_interval, setting_metadata_flush_interval,
							10, 60 * 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("prebuild.metadata_batch_size",
							"Sets the number of distinct (agent, key) entries in a full batch of "
							"agent metadata.",
							"The worker writes the buffered entries when it has this many. If more "
							"have come meanwhile, it writes up to ten times as many at once.",
							&setting_metadata_batch_size, setting_metadata_batch_size, 1, 100000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"prebuild.metadata_insert_missing",
		"Inserts a row for a metadata key that an agent has no row for.",
		"auto means not in a Coder database, where the row would enter the agent's manifest.",
		&setting_metadata_insert_missing, setting_metadata_insert_missing, insert_missing_options,
		PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("prebuild.metadata_notify",
							 "Sets the channels on which changed agent metadata is published.",
							 "batch means workspace_agent_metadata_batch, agent means one channel "
							 "per agent.",
							 &setting_metadata_notify, setting_metadata_notify,
							 metadata_notify_options, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"prebuild.worker_role", "Sets the role that the background workers connect as.",
		"Empty means the owner of the control plane's workspaces table, unless that is a "
		"superuser.",
		&setting_worker_role, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("prebuild.reconcile_interval",
							"Sets the time between the passes that the background worker runs (0 "
							"for none).",
							NULL, &setting_reconcile_interval, setting_reconcile_interval, 0,
							24 * 60 * 60, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("prebuild.fold_interval",
							"Sets the time between the background worker's folds of changes into "
							"the stored pool of an attached control plane.",
							NULL, &setting_fold_interval, setting_fold_interval, 1, 24 * 60 * 60,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("prebuild.attach_timeout",
							"Sets how long prebuild_attach() tries to get its locks.", NULL,
							&setting_attach_timeout, setting_attach_timeout, 0, 60 * 60 * 1000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* Define the settings that keep pools healthy. prebuild_policy has values of single presets. */
static void
define_health_settings(void)
{
	define_int("prebuild.unready_grace",
			   "Sets how long after its build a prebuild may be not ready (0 for no limit).",
			   &setting_unready_grace, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.disconnected_grace",
			   "Sets how long an agent of a prebuild may be disconnected (0 for no limit).",
			   &setting_disconnected_grace, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.failed_retention",
			   "Sets how long a prebuild stays after its build failed, was canceled or stopped it "
			   "(0 for no limit).",
			   &setting_failed_retention, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.failed_keep",
			   "Sets how many of these prebuilds stay for each preset, whatever their age.",
			   &setting_failed_keep, INT_MAX / 2, 0);
	define_int("prebuild.delete_retries", "Sets how often passes retry a failed delete build.",
			   &setting_delete_retries, INT_MAX / 2, 0);
	define_int("prebuild.hard_limit_retry",
			   "Sets the time from the last failure of a hard-limited preset to a build that tries "
			   "it again (0 for never).",
			   &setting_hard_limit_retry, 24 * 60 * 60, GUC_UNIT_S);
	DefineCustomBoolVariable("prebuild.require_provisioner",
							 "Creates a prebuild only while a live provisioner daemon can build "
							 "it.",
							 NULL, &setting_require_provisioner, setting_require_provisioner,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	define_amount("prebuild.max_unavailable",
				  "Sets how many of a preset's desired prebuilds may be missing while passes "
				  "replace expired ones.",
				  &setting_max_unavailable, "100%", check_amount);
	define_amount("prebuild.max_surge",
				  "Sets how many prebuilds beyond its desired ones a preset may have while passes "
				  "replace expired ones.",
				  &setting_max_surge, "100%", check_amount);
}

/* Define the settings of demand. */
static void
define_demand_settings(void)
{
	DefineCustomIntVariable("prebuild.demand_retention",
							"Sets how long passes keep rows of prebuild_demand_log and "
							"prebuild_lead_time_log.",
							NULL, &setting_demand_retention, setting_demand_retention, 0,
							INT_MAX / 2, PGC_SUSET, GUC_UNIT_MIN, NULL, NULL, NULL);
	define_int("prebuild.default_lead_time",
			   "Sets the lead time of prebuilds of a template that has built too few.",
			   &setting_default_lead_time, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.scale_in_delay",
			   "Sets how long a forecast keeps prebuilds that it needs no more.",
			   &setting_scale_in_delay, INT_MAX / 2, GUC_UNIT_S);
}

/*
 * Define all settings. _PG_init calls this once. Raises no error that a user can cause.
 *
 * Only superusers may set three of them, because these reach beyond the caller's own rights.
 * prebuild.control_plane_schema chooses the tables that a pass works on, and whoever runs the
 * pass runs the triggers of these tables. prebuild.event_retention and prebuild.demand_retention
 * decide when the extension deletes its own rows.
 */
void
settings_init(void)
{
	DefineCustomStringVariable(
		"prebuild.control_plane_schema", "Sets the schema of the control plane's tables.", NULL,
		&setting_control_plane_schema, "public", PGC_SUSET, 0, check_schema_name, NULL, NULL);
	define_int("prebuild.backoff_interval",
			   "Sets the delay per recently failed build before a pass creates prebuilds again.",
			   &setting_backoff_interval, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.backoff_lookback", "Sets how long a failed build counts for the backoff.",
			   &setting_backoff_lookback, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.backoff_max", "Sets the longest backoff (0 for no cap).",
			   &setting_backoff_max, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.failure_hard_limit",
			   "Sets how many builds in a row must fail before passes give up a preset (0 for "
			   "never).",
			   &setting_failure_hard_limit, INT_MAX / 2, 0);
	define_int("prebuild.max_creates_per_pass",
			   "Sets the maximum number of prebuilds that one pass creates (0 for no cap).",
			   &setting_max_creates_per_pass, INT_MAX / 2, 0);
	define_amount("prebuild.max_building",
				  "Sets the maximum number of pending and running prebuild start jobs, as a number "
				  "or part of the live daemons (0 for no cap).",
				  &setting_max_building, "0", check_cap);
	define_int("prebuild.lock_linger",
			   "Sets the longest time that a pass keeps the reconcilers' lock after its commit (0 "
			   "for none).",
			   &setting_lock_linger, 10 * 1000, GUC_UNIT_MS);
	DefineCustomIntVariable("prebuild.event_retention",
							"Sets how long passes keep rows of prebuild_event.", NULL,
							&setting_event_retention, setting_event_retention, 0, INT_MAX / 2,
							PGC_SUSET, GUC_UNIT_MIN, NULL, NULL, NULL);
	define_int("prebuild.identity_cache_ttl",
			   "Sets the longest time that a session uses an agent's identity without reading the "
			   "tables (0 for no cache).",
			   &setting_identity_cache_ttl, 24 * 60 * 60 * 1000, GUC_UNIT_MS);
	define_int("prebuild.identity_cache_size",
			   "Sets the maximum number of agent identities that a session keeps (0 for no cache).",
			   &setting_identity_cache_size, 1000000, 0);
	DefineCustomBoolVariable("prebuild.notify_hard_limit",
							 "Queues a notification for template admins when a preset reaches the "
							 "hard limit.",
							 NULL, &setting_notify_hard_limit, setting_notify_hard_limit,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	define_health_settings();
	define_demand_settings();
	define_metadata_settings();
	compat_reserve_guc_prefix("prebuild");
}
