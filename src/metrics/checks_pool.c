/*
 * checks_pool.c
 *	  The checks of presets and of the members of their pools. All look at one judgement, so that
 *	  they cost together what prebuild_plan() costs.
 */
#include "compat.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "decision/control_plane.h"
#include "metrics/checks.h"

/* How many names a value has. */
#define MOST_NAMES 3

/* How long a build by another reconciler shows that it works. */
#define OTHER_RECONCILER_WORKS USECS_PER_HOUR

static bool
is_backing_off(const Preset *preset)
{
	return preset->kept && preset->backing_off;
}

static bool
is_hard_limited(const Preset *preset)
{
	return preset->kept && preset->hard_limited;
}

static bool
is_invalid(const Preset *preset)
{
	return preset->kept && preset->new_status == STATUS_VALIDATION_FAILED;
}

static bool
is_unsupported(const Preset *preset)
{
	return preset->withheld == WITHHELD_UNSUPPORTED;
}

static bool
lacks_provisioner(const Preset *preset)
{
	return preset->withheld == WITHHELD_NO_PROVISIONER;
}

static bool
is_refused(const Preset *preset)
{
	return preset->kept && preset->details->failed != NULL;
}

static bool
is_empty(const Preset *preset)
{
	return preset->active && preset->desired > 0 && preset->eligible == 0;
}

static bool
has_faulty_schedules(const Preset *preset)
{
	return preset->kept && preset->details->schedules_fault != NULL;
}

static bool
has_sick_members(const Preset *preset)
{
	return preset->kept && preset->sick > 0;
}

/* Order presets by their templates' and their own names. */
static int
compare_names(const void *first, const void *second)
{
	const PresetDetails *a = (*(const Preset *const *) first)->details;
	const PresetDetails *b = (*(const Preset *const *) second)->details;
	int order = strcmp(a->template_name, b->template_name);

	return order != 0 ? order : strcmp(a->name, b->name);
}

/* Count the presets that a check is about, and name some of them. */
static void
look_at_presets(const Check *check, const CheckContext *context, CheckResult *result)
{
	const PoolSnapshot *pool = context->pool;
	const Preset **affected;
	StringInfoData names;
	int n = 0;
	int kept = 0;

	if (!check_sees_pool(context, result))
		return;
	affected = palloc_array(const Preset *, pool->npresets + 1);
	for (int i = 0; i < pool->npresets; i++)
	{
		kept += pool->presets[i].kept;
		if (check->is_affected(&pool->presets[i]))
			affected[n++] = &pool->presets[i];
	}
	qsort(affected, n, sizeof(Preset *), compare_names);
	initStringInfo(&names);
	for (int i = 0; i < Min(n, MOST_NAMES); i++)
		appendStringInfo(&names, "%s%s/%s", i == 0 ? ": " : ", ",
						 affected[i]->details->template_name, affected[i]->details->name);
	if (n > MOST_NAMES)
		appendStringInfo(&names, " and %d more", n - MOST_NAMES);
	check_says(result, n == 0 ? CHECK_OK : check->status, "%d of %d presets%s", n, kept,
			   names.data);
}

/* Whether a plan can be made at all. */
static void
look_at_plan(const Check *check, const CheckContext *context, CheckResult *result)
{
	if (context->pool == NULL)
		ReThrowError(context->pool_error);
	check_says(result, CHECK_OK, "%d prebuilds of %d presets", context->pool->nmembers,
			   context->pool->npresets);
}

/* Count the members whose deletion failed: what they used in the cloud may be left. */
static void
look_for_failed_deletes(const Check *check, const CheckContext *context, CheckResult *result)
{
	const PoolSnapshot *pool = context->pool;
	int failed = 0;

	if (!check_sees_pool(context, result))
		return;
	for (int i = 0; i < pool->nmembers; i++)
		failed += pool->members[i].transition == TRANSITION_DELETE &&
				  pool->members[i].job_status == JOB_FAILED;
	check_says(result, failed == 0 ? CHECK_OK : CHECK_WARN, "failed: %d", failed);
}

/*
 * Has another reconciler built or deleted prebuilds lately? Its builds have other ids than ours,
 * which are of version 5: see ids.c. False if we do not see the pool.
 */
bool
checks_find_other_reconciler(const CheckContext *context)
{
	const PoolSnapshot *pool = context->pool;

	for (int i = 0; pool != NULL && i < pool->nmembers; i++)
	{
		const PoolMember *member = &pool->members[i];

		if (member->by_system_user && member->build_id.bytes[6] >> 4 != 5 &&
			member->build_created_at > context->at - OTHER_RECONCILER_WORKS)
			return true;
	}
	return false;
}

const Check pool_checks[] = {
	{ "plan", look_at_plan, "no error", "Passes fail by this error, too: repair what it names.",
	  NULL, CHECK_OK },
	{ "hard_limits", look_at_presets, "no preset",
	  "Builds of these presets fail: look at their jobs. After the repair call prebuild_retry().",
	  is_hard_limited, CHECK_FAIL },
	{ "backoff", look_at_presets, "no preset",
	  "Builds of these presets failed lately: look at their jobs; prebuild_plan() says until when.",
	  is_backing_off, CHECK_WARN },
	{ "invalid_presets", look_at_presets, "no preset",
	  "prebuild_build_inputs() says what to change in the template.", is_invalid, CHECK_FAIL },
	{ "unsupported_presets", look_at_presets, "no preset",
	  "prebuild_build_inputs() says what the database cannot decide; coderd's reconciler builds such "
	  "presets.",
	  is_unsupported, CHECK_WARN },
	{ "refused_presets", look_at_presets, "no preset",
	  "A constraint or a trigger refused the rows of these presets: read the event preset_failed.",
	  is_refused, CHECK_FAIL },
	{ "missing_provisioners", look_at_presets, "no preset",
	  "No live provisioner daemon takes these builds: start one with the tags that prebuild_plan() "
	  "names.",
	  lacks_provisioner, CHECK_FAIL },
	{ "schedules", look_at_presets, "no preset",
	  "These schedules are ignored: prebuild_schedules_check() says what is wrong.",
	  has_faulty_schedules, CHECK_WARN },
	{ "empty_pools", look_at_presets, "no preset",
	  "Nobody can claim a prebuild of these presets: prebuild_overview says why.", is_empty,
	  CHECK_WARN },
	{ "sick_prebuilds", look_at_presets, "no preset",
	  "Look at the agents of these prebuilds; the settings of docs/health.md replace them.",
	  has_sick_members, CHECK_WARN },
	{ "failed_deletes", look_for_failed_deletes, "no prebuild",
	  "Resources may be left in the cloud: look at the jobs. prebuild.delete_retries tries again.",
	  NULL, CHECK_WARN },
};

const int pool_checks_count = lengthof(pool_checks);
