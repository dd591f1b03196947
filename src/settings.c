/*
 * settings.c
 *	  Every setting of the extension: name, unit, range, check, description.
 */
#include "compat.h"

#include <limits.h>

#include "settings.h"

char *setting_control_plane_schema = NULL;
int setting_backoff_interval = 60;
int setting_backoff_lookback = 3600;
int setting_backoff_max = 0;
int setting_failure_hard_limit = 3;
int setting_max_creates_per_pass = 0;
int setting_max_building = 0;
int setting_event_retention = 7 * 24 * 60;
bool setting_notify_hard_limit = false;

/* A schema name has to be a possible identifier; whether it exists is asked when it is used. */
static bool
check_schema_name(char **newval, void **extra, GucSource source)
{
	size_t length = strlen(*newval);

	if (length > 0 && length < NAMEDATALEN)
		return true;
	GUC_check_errdetail("A schema name has 1 to %d bytes.", NAMEDATALEN - 1);
	return false;
}

/* Define an integer setting that any session may change for itself. */
static void
define_int(const char *name, const char *description, int *variable, int max, int flags)
{
	DefineCustomIntVariable(name, description, NULL, variable, *variable, 0, max, PGC_USERSET,
							flags, NULL, NULL, NULL);
}

/*
 * Define all settings. Called once from _PG_init; raises nothing a user can cause.
 */
void
settings_init(void)
{
	DefineCustomStringVariable(
		"prebuild.control_plane_schema", "Schema of the control plane's tables.", NULL,
		&setting_control_plane_schema, "public", PGC_USERSET, 0, check_schema_name, NULL, NULL);
	define_int("prebuild.backoff_interval",
			   "Delay before creating again, for each build that failed lately.",
			   &setting_backoff_interval, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.backoff_lookback", "How long a failed build counts for the backoff.",
			   &setting_backoff_lookback, INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.backoff_max", "Longest backoff (0: no cap).", &setting_backoff_max,
			   INT_MAX / 2, GUC_UNIT_S);
	define_int("prebuild.failure_hard_limit",
			   "Builds that must fail in a row before a preset is given up (0: never).",
			   &setting_failure_hard_limit, INT_MAX / 2, 0);
	define_int("prebuild.max_creates_per_pass", "Most prebuilds that one pass creates (0: no cap).",
			   &setting_max_creates_per_pass, INT_MAX / 2, 0);
	define_int("prebuild.max_building",
			   "Most prebuild start jobs that may be pending or running at once (0: no cap).",
			   &setting_max_building, INT_MAX / 2, 0);
	define_int("prebuild.event_retention", "How long rows of prebuild_event are kept.",
			   &setting_event_retention, INT_MAX / 2, GUC_UNIT_MIN);
	DefineCustomBoolVariable("prebuild.notify_hard_limit",
							 "Queue a notification for template admins when a preset reaches the "
							 "hard limit.",
							 NULL, &setting_notify_hard_limit, setting_notify_hard_limit,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	compat_reserve_guc_prefix("prebuild");
}
