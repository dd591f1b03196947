/*
 * provision.c
 *	  Carry out a judgement. Only this file writes builds and jobs. It writes everything in bulk:
 *	  the number of statements depends neither on the number of workspaces nor on that of presets.
 *
 *	  Locks: pool_lock() locks the rows of workspaces to delete. Canceling locks the rows of the
 *	  jobs, and skips those that another session holds, such as a provisioner that is acquiring
 *	  them.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/control_plane_catalog.h"
#include "base/ids.h"
#include "base/plans.h"
#include "pool/pool_lock.h"
#include "pass/provision.h"
#include "base/rows.h"
#include "pass/wakeup.h"

/* Input of a build's job. Every release of coderd that has the stage reads it under this name. */
#define JOB_INPUT(build_id)                                                                        \
	"pg_catalog.jsonb_build_object('workspace_build_id', " build_id                                \
	", 'dry_run', false, 'prebuilt_workspace_stage', 1)"

/*
 * The tracing column and its value, as text to append to lists. Both are empty in a control plane
 * without the column; every release of coderd has it.
 */
typedef struct TraceColumn
{
	const char *name;
	const char *value;
} TraceColumn;

static TraceColumn
trace_column(void)
{
	if (control_plane_has(FEATURE_TRACES))
		return (TraceColumn){ ", trace_metadata", ", '{}'::pg_catalog.jsonb" };
	return (TraceColumn){ "", "" };
}

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

/*
 * Make the statement that adds a delete build to each workspace after its previous build. It copies
 * the previous build's state and parameters and the properties of its job. An orphan build, of a
 * workspace that was never built, gets no state; its job is complete at once if no living
 * provisioner daemon could run it. The statement skips a workspace that has got another build
 * meanwhile. The result is palloc'd.
 */
static char *
delete_statement(void)
{
	TraceColumn trace = trace_column();

	return psprintf(
		"WITH doomed AS (SELECT d.* FROM {unnest 7}"
		"  d (workspace_id, previous_id, build_id, job_id, at, preset_id, orphan)),"
		" built AS (INSERT INTO {cp}workspace_builds"
		"  (id, created_at, updated_at, workspace_id, template_version_id, build_number,"
		"   transition, initiator_id, provisioner_state, job_id, reason,"
		"   template_version_preset_id)"
		"  SELECT d.build_id, d.at, d.at, d.workspace_id, p.template_version_id,"
		"   p.build_number {+} 1, 'delete'::{cp}workspace_transition,"
		"   '" SYSTEM_USER "'::pg_catalog.uuid,"
		"   CASE WHEN NOT d.orphan THEN p.provisioner_state END, d.job_id,"
		"   'initiator'::{cp}build_reason, d.preset_id"
		"  FROM doomed d JOIN {cp}workspace_builds p ON p.id {=} d.previous_id"
		"  ON CONFLICT (workspace_id, build_number) DO NOTHING RETURNING id),"
		" jobs AS (INSERT INTO {cp}provisioner_jobs"
		"  (id, created_at, updated_at, started_at, completed_at, organization_id, initiator_id,"
		"   provisioner, storage_method, type, input, file_id, tags%s)"
		"  SELECT d.job_id, d.at, d.at, done.at, done.at, j.organization_id,"
		"   '" SYSTEM_USER "'::pg_catalog.uuid, j.provisioner, j.storage_method,"
		"   'workspace_build'::{cp}provisioner_job_type, " JOB_INPUT(
			"d.build_id") ", j.file_id,"
						  "   j.tags%s"
						  "  FROM built JOIN doomed d ON d.build_id {=} built.id"
						  "  JOIN {cp}workspace_builds p ON p.id {=} d.previous_id"
						  "  JOIN {cp}provisioner_jobs j ON j.id {=} p.job_id,"
						  "  LATERAL (SELECT CASE WHEN d.orphan AND NOT EXISTS ("
						  "    SELECT FROM {cp}provisioner_daemons pd WHERE " DAEMON_LIVES(
							  "d.at") " AND " DAEMON_TAKES ")"
									  "   THEN d.at END AS at) done"
									  "  RETURNING id, completed_at),"
									  " parameters AS (INSERT INTO {cp}workspace_build_parameters"
									  "  (workspace_build_id, name, value) SELECT built.id, bp.name, bp.value"
									  "  FROM built JOIN doomed d ON d.build_id {=} built.id"
									  "  JOIN {cp}workspace_build_parameters bp ON bp.workspace_build_id {=} d.previous_id)"
									  " SELECT d.workspace_id, d.job_id, d.orphan, jobs.completed_at IS NOT NULL"
									  " FROM jobs JOIN doomed d ON d.job_id {=} jobs.id",
		trace.name, trace.value);
}

/* Mark workspaces whose delete job is complete as deleted, and their agents too. */
static void
bury_workspaces(const ArrayParameter *workspaces, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum values[2];

	if (workspaces->n == 0)
		return;
	values[0] = array_datum(workspaces);
	values[1] = TimestampTzGetDatum(at);
	plan_execute(&plan,
				 "WITH gone AS (UPDATE {cp}workspaces SET deleted = true, updated_at = $2"
				 "  WHERE id {=} ANY ($1))"
				 " UPDATE {cp}workspace_agents a SET deleted = true"
				 " FROM {cp}workspace_builds b"
				 " JOIN {cp}workspace_resources r ON r.job_id {=} b.job_id"
				 " WHERE b.workspace_id {=} ANY ($1) AND a.resource_id {=} r.id"
				 " AND NOT a.deleted",
				 PLAN_FRESH, 2, argtypes, values, NULL);
}

/* Execute a statement on rows given as one array per column. Returns the number of result rows. */
static uint64
insert_rows(KeptPlan *plan, const char *statement, int ncolumns, ArrayParameter *const *columns)
{
	Oid *argtypes = palloc_array(Oid, ncolumns);
	Datum *values = palloc_array(Datum, ncolumns);

	for (int i = 0; i < ncolumns; i++)
	{
		argtypes[i] = get_array_type(columns[i]->element_type);
		values[i] = array_datum(columns[i]);
	}
	return plan_execute(plan, statement, PLAN_FRESH, ncolumns, argtypes, values, NULL);
}

/* Add delete builds for locked members, in order. jobs: receives the new jobs that wait. */
static void
delete_members(const Judgement *judgement, PoolMember **members, int n, int64_t *clock,
			   PassTotals *totals, ArrayParameter *jobs)
{
	static KeptPlan plan;
	ArrayParameter *columns[] = { array_new(UUIDOID), array_new(UUIDOID),		 array_new(UUIDOID),
								  array_new(UUIDOID), array_new(TIMESTAMPTZOID), array_new(UUIDOID),
								  array_new(BOOLOID) };
	ArrayParameter *buried = array_new(UUIDOID);
	uint64 nbuilt;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		const Preset *preset = &judgement->pool->presets[decision_acting_preset(members[i])];

		array_add_id(columns[0], &members[i]->id);
		array_add_id(columns[1], &members[i]->build_id);
		array_add_id(columns[2], id_new());
		array_add_id(columns[3], id_new());
		array_add(columns[4], TimestampTzGetDatum((*clock)++));
		array_add_id(columns[5], &preset->id);
		array_add(columns[6], BoolGetDatum(members[i]->verdict == VERDICT_CANCEL));
	}

	nbuilt = insert_rows(&plan, delete_statement(), lengthof(columns), columns);
	for (uint64 i = 0; i < nbuilt; i++)
	{
		Id *ids = palloc_array(Id, 2);

		ids[0] = row_id(i, 1);
		ids[1] = row_id(i, 2);
		if (DatumGetBool(row_get(i, 3)))
			totals->canceled++;
		else
			totals->deleted++;
		if (DatumGetBool(row_get(i, 4)))
			array_add_id(buried, &ids[0]);
		else
			array_add_id(jobs, &ids[1]);
	}
	SPI_freetuptable(SPI_tuptable);
	bury_workspaces(buried, judgement->settings.at);
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
	array_add_text(new->names, prebuild_name_new());
	array_add_id(new->organization_ids, &preset->organization_id);
	array_add_id(new->template_ids, &preset->template_id);
	array_add_id(new->version_ids, &preset->template_version_id);
	array_add_id(new->preset_ids, &preset->id);
	array_add_text(new->provisioners, inputs->provisioner);
	array_add_text(new->storage_methods, inputs->storage_method);
	array_add(new->file_ids, UUIDPGetDatum(&inputs->file_id));
	array_add_text(new->tags, inputs->tags);
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
		.tags = array_new(TEXTOID),
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

	insert_rows(&plan,
				"INSERT INTO {cp}workspaces (id, created_at, updated_at, owner_id,"
				" organization_id, template_id, name, last_used_at, automatic_updates)"
				" SELECT n.id, n.at, n.at, '" SYSTEM_USER "'::pg_catalog.uuid, n.organization_id,"
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
	TraceColumn trace = trace_column();

	insert_rows(&plan,
				psprintf("INSERT INTO {cp}provisioner_jobs (id, created_at, updated_at,"
						 " organization_id, initiator_id, provisioner, storage_method, type, input,"
						 " file_id, tags%s)"
						 " SELECT n.id, n.at, n.at, n.organization_id,"
						 " '" SYSTEM_USER "'::pg_catalog.uuid, n.provisioner::{cp}provisioner_type,"
						 " n.storage_method::{cp}provisioner_storage_method,"
						 " 'workspace_build'::{cp}provisioner_job_type, " JOB_INPUT(
							 "n.build_id") ","
										   " n.file_id, n.tags::pg_catalog.jsonb%s"
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

	insert_rows(&plan,
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
		insert_rows(&plan,
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
	delete_members(judgement, members, nmembers, clock, &totals, jobs);
	create_prebuilds(presets, npresets, clock, &totals, jobs);
	totals.waiting += jobs->n;
	return totals;
}
