/*
 * provision.c
 *	  Carry out a judgement. Only this file and deletion.c write builds and jobs. They write
 *	  everything in bulk: the number of statements depends neither on the number of workspaces nor
 *	  on that of presets.
 *
 *	  Locks: pool_lock() locks the rows of workspaces to delete. Canceling locks the rows of the
 *	  jobs, and skips those that another session holds, such as a provisioner that is acquiring
 *	  them.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/control_plane_catalog.h"
#include "base/ids.h"
#include "base/plans.h"
#include "decision/past_failures.h"
#include "pass/build_rows.h"
#include "pass/deletion.h"
#include "pass/provision.h"
#include "pass/status.h"
#include "pool/pool_lock.h"
#include "base/rows.h"

#define NAME_PREFIX "prebuild-"
#define NAME_RANDOM_BYTES 9

/* Collect the members of some presets that need an action. The array is palloc'd. */
static PoolMember **
gather_members(const PoolSnapshot *pool, Preset *const *presets, int npresets, int *nmembers)
{
	PoolMember **members = palloc_array(PoolMember *, pool->nmembers + 1);

	*nmembers = 0;
	for (int i = 0; i < npresets; i++)
	{
		for (int k = 0; k < presets[i]->nactions; k++)
			members[(*nmembers)++] = pool->order[presets[i]->first_action + k];
	}
	return members;
}

/*
 * Cancel the jobs of the members to cancel, if the jobs are still pending and nobody has taken
 * them. Removes the members whose job could not be canceled from the array. Returns the number of
 * members left.
 */
static int
cancel_jobs(PoolMember **members, int n, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	ArrayParameter *jobs = array_new(UUIDOID);
	Datum values[2];
	Id *canceled;
	uint64 ncanceled;
	int kept = 0;

	for (int i = 0; i < n; i++)
		if (members[i]->verdict == VERDICT_CANCEL)
			array_add_id(jobs, &members[i]->job_id);
	if (jobs->n == 0)
		return n;

	/* set started_at too: older releases of coderd hand out any job without it, canceled or not */
	values[0] = array_datum(jobs);
	values[1] = TimestampTzGetDatum(at);
	ncanceled = plan_execute(
		&plan,
		"WITH pending AS (SELECT j.id FROM {cp}provisioner_jobs j WHERE j.id {=} ANY ($1)"
		"  AND j.job_status {=} 'pending' AND j.worker_id IS NULL AND j.started_at IS NULL"
		"  AND j.canceled_at IS NULL AND j.completed_at IS NULL"
		"  ORDER BY j.id FOR NO KEY UPDATE SKIP LOCKED),"
		" canceled AS (UPDATE {cp}provisioner_jobs j"
		"  SET started_at = $2, canceled_at = $2, completed_at = $2, updated_at = $2"
		"  FROM pending WHERE j.id {=} pending.id RETURNING j.id)"
		" SELECT canceled.id::pg_catalog.uuid FROM canceled ORDER BY canceled.id",
		PLAN_FRESH, 2, argtypes, values, NULL);
	canceled = palloc_array(Id, ncanceled + 1);
	for (uint64 i = 0; i < ncanceled; i++)
		canceled[i] = row_id(i, 1);
	SPI_freetuptable(SPI_tuptable);

	for (int i = 0; i < n; i++)
		if (members[i]->verdict != VERDICT_CANCEL ||
			bsearch(&members[i]->job_id, canceled, ncanceled, sizeof(Id), id_compare) != NULL)
			members[kept++] = members[i];
	return kept;
}

/* The rows of new prebuilds, one array per column. */
typedef struct NewPrebuilds
{
	ArrayParameter *workspace_ids;
	ArrayParameter *build_ids;
	ArrayParameter *job_ids;
	ArrayParameter *times;
	ArrayParameter *names;
	ArrayParameter *organization_ids;
	ArrayParameter *template_ids;
	ArrayParameter *version_ids;
	ArrayParameter *preset_ids;
	ArrayParameter *provisioners;
	ArrayParameter *storage_methods;
	ArrayParameter *file_ids;
	ArrayParameter *tags;
	ArrayParameter *parameter_builds;
	ArrayParameter *parameter_names;
	ArrayParameter *parameter_values;
} NewPrebuilds;

/*
 * Make a new name, palloc'd: the prefix and 9 random bytes in lower-case unpadded base32 (RFC
 * 4648). Raises internal_error if the server has no random bytes.
 */
static char *
new_name(void)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint8 random[NAME_RANDOM_BYTES];
	StringInfoData name;
	uint32 bits = 0;
	int nbits = 0;

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	initStringInfo(&name);
	appendStringInfoString(&name, NAME_PREFIX);
	for (size_t i = 0; i < sizeof(random); i++)
	{
		bits = (bits << 8 | random[i]) & 0xFFF;
		for (nbits += 8; nbits >= 5; nbits -= 5)
			appendStringInfoChar(&name, alphabet[(bits >> (nbits - 5)) & 31]);
	}
	if (nbits > 0)
		appendStringInfoChar(&name, alphabet[(bits << (5 - nbits)) & 31]);
	return name.data;
}

/* Add the values of one new prebuild of a preset. */
static void
add_prebuild(NewPrebuilds *new, const Preset *preset, TimestampTz at)
{
	const BuildInputs *inputs = preset->details->inputs;
	Id *build_id = id_new();

	array_add_id(new->workspace_ids, id_new());
	array_add_id(new->build_ids, build_id);
	array_add_id(new->job_ids, id_new());
	array_add(new->times, TimestampTzGetDatum(at));
	array_add_text(new->names, new_name());
	array_add_id(new->organization_ids, &preset->organization_id);
	array_add_id(new->template_ids, &preset->template_id);
	array_add_id(new->version_ids, &preset->template_version_id);
	array_add_id(new->preset_ids, &preset->id);
	array_add_text(new->provisioners, inputs->provisioner);
	array_add_text(new->storage_methods, inputs->storage_method);
	array_add(new->file_ids, UUIDPGetDatum(&inputs->file_id));
	array_add(new->tags, JsonbPGetDatum(inputs->tags));
	for (int p = 0; p < inputs->nparameters; p++)
	{
		array_add_id(new->parameter_builds, build_id);
		array_add_text(new->parameter_names, inputs->parameters[p].name);
		array_add_text(new->parameter_values, inputs->parameters[p].value);
	}
}

/* Make the values of all new prebuilds of some presets, in the current memory context. */
static NewPrebuilds
make_prebuilds(Preset *const *presets, int npresets, int64_t *clock)
{
	NewPrebuilds new = {
		.workspace_ids = array_new(UUIDOID),
		.build_ids = array_new(UUIDOID),
		.job_ids = array_new(UUIDOID),
		.times = array_new(TIMESTAMPTZOID),
		.names = array_new(TEXTOID),
		.organization_ids = array_new(UUIDOID),
		.template_ids = array_new(UUIDOID),
		.version_ids = array_new(UUIDOID),
		.preset_ids = array_new(UUIDOID),
		.provisioners = array_new(TEXTOID),
		.storage_methods = array_new(TEXTOID),
		.file_ids = array_new(UUIDOID),
		.tags = array_new(JSONBOID),
		.parameter_builds = array_new(UUIDOID),
		.parameter_names = array_new(TEXTOID),
		.parameter_values = array_new(TEXTOID),
	};

	for (int i = 0; i < npresets; i++)
		for (int k = 0; k < presets[i]->create; k++)
		{
			CHECK_FOR_INTERRUPTS();
			add_prebuild(&new, presets[i], (*clock)++);
		}
	return new;
}

static void
insert_workspaces(const NewPrebuilds *new)
{
	static KeptPlan plan;
	ArrayParameter *columns[] = { new->workspace_ids, new->times, new->names, new->organization_ids,
								  new->template_ids };

	build_insert_rows(&plan,
					  "INSERT INTO {cp}workspaces (id, created_at, updated_at, owner_id,"
					  " organization_id, template_id, name, last_used_at, automatic_updates)"
					  " SELECT n.id, n.at, n.at, '" SYSTEM_USER
					  "'::pg_catalog.uuid, n.organization_id,"
					  " n.template_id, n.name, n.at, 'never'::{cp}automatic_updates"
					  " FROM {unnest 5} n (id, at, name, organization_id, template_id)",
					  lengthof(columns), columns);
}

static void
insert_jobs(const NewPrebuilds *new)
{
	static KeptPlan plan;
	ArrayParameter *columns[] = { new->job_ids,			 new->times,		new->build_ids,
								  new->organization_ids, new->provisioners, new->storage_methods,
								  new->file_ids,		 new->tags };
	BuildTraceColumn trace = build_trace_column();

	build_insert_rows(
		&plan,
		psprintf("INSERT INTO {cp}provisioner_jobs (id, created_at, updated_at,"
				 " organization_id, initiator_id, provisioner, storage_method, type, input,"
				 " file_id, tags%s)"
				 " SELECT n.id, n.at, n.at, n.organization_id,"
				 " '" SYSTEM_USER "'::pg_catalog.uuid, n.provisioner::{cp}provisioner_type,"
				 " n.storage_method::{cp}provisioner_storage_method,"
				 " 'workspace_build'::{cp}provisioner_job_type, " BUILD_JOB_INPUT(
					 "n.build_id") ","
								   " n.file_id, n.tags%s"
								   " FROM {unnest 8} n (id, at, build_id, organization_id,"
								   "  provisioner, storage_method, file_id, tags)",
				 trace.name, trace.value),
		lengthof(columns), columns);
}

static void
insert_builds(const NewPrebuilds *new)
{
	static KeptPlan plan;
	ArrayParameter *columns[] = { new->build_ids, new->times,		new->workspace_ids,
								  new->job_ids,	  new->version_ids, new->preset_ids };

	build_insert_rows(
		&plan,
		"INSERT INTO {cp}workspace_builds (id, created_at, updated_at, workspace_id,"
		" template_version_id, build_number, transition, initiator_id, job_id, reason,"
		" template_version_preset_id)"
		" SELECT n.id, n.at, n.at, n.workspace_id, n.version_id, 1,"
		" 'start'::{cp}workspace_transition, '" SYSTEM_USER "'::pg_catalog.uuid, n.job_id,"
		" 'initiator'::{cp}build_reason, n.preset_id"
		" FROM {unnest 6} n (id, at, workspace_id, job_id, version_id, preset_id)",
		lengthof(columns), columns);
}

static void
insert_parameters(const NewPrebuilds *new)
{
	static KeptPlan plan;
	ArrayParameter *columns[] = { new->parameter_builds, new->parameter_names,
								  new->parameter_values };

	if (new->parameter_builds->n > 0)
		build_insert_rows(
			&plan,
			"INSERT INTO {cp}workspace_build_parameters (workspace_build_id, name, value)"
			" SELECT n.build_id, n.name, n.value FROM {unnest 3} n (build_id, name, value)",
			lengthof(columns), columns);
}

/* Create the missing prebuilds of some presets. jobs: receives the new jobs. */
static void
create_prebuilds(Preset *const *presets, int npresets, int64_t *clock, PassTotals *totals,
				 ArrayParameter *jobs)
{
	NewPrebuilds new = make_prebuilds(presets, npresets, clock);

	if (new.workspace_ids->n == 0)
		return;
	insert_workspaces(&new);
	insert_jobs(&new);
	insert_builds(&new);
	insert_parameters(&new);
	totals->created += new.workspace_ids->n;
	for (int i = 0; i < new.job_ids->n; i++)
		array_add(jobs, new.job_ids->values[i]);
}

/*
 * Cancel, delete and create what the judgement says for some presets. Skips members that have
 * changed since. clock: the time of the next new row; advances by a microsecond per row. jobs:
 * receives the ids of new jobs that wait for a provisioner; the caller wakes the provisioners. The
 * caller has connected SPI. Allocates in the current memory context. Raises whatever the control
 * plane's tables, constraints and triggers raise, so the caller must run it in a subtransaction.
 */
PassTotals
provision_presets(const Judgement *judgement, Preset *const *presets, int npresets, int64_t *clock,
				  ArrayParameter *jobs)
{
	PassTotals totals = { .waiting = -jobs->n };
	int nmembers;
	PoolMember **members = gather_members(judgement->pool, presets, npresets, &nmembers);

	nmembers = pool_lock(members, nmembers);
	nmembers = cancel_jobs(members, nmembers, judgement->settings.at);
	deletion_write(members, nmembers, judgement->settings.at, clock, &totals, jobs);
	deletion_count(judgement->pool, members, nmembers);
	past_failures_remember(judgement->pool, members, nmembers);
	status_write_sick(judgement->pool, members, nmembers, judgement->settings.at);
	create_prebuilds(presets, npresets, clock, &totals, jobs);
	totals.waiting += jobs->n;
	return totals;
}
