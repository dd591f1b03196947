/*
 * deletion.c
 *	  Write delete builds. A pass and prebuild_clean() use it; both hold the workspaces' locks
 *	  (pool_lock.c), so that nobody else adds a build.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "decision/control_plane.h"
#include "demand/preset_counts.h"
#include "pass/build_rows.h"
#include "pass/deletion.h"
#include "catalog/provisioner_daemons.h"

/*
 * The newest state of a workspace that is not empty, or else that of its previous build "p". A build
 * that failed early may have stored an empty one over a full one.
 */
#define NEWEST_STATE                                                                               \
	"CASE WHEN p.provisioner_state {<>} '' THEN p.provisioner_state ELSE COALESCE(("               \
	" SELECT s.provisioner_state FROM {cp}workspace_builds s"                                      \
	" WHERE s.workspace_id {=} p.workspace_id AND s.build_number {<} p.build_number"               \
	" AND s.provisioner_state {<>} '' ORDER BY s.build_number DESC LIMIT 1),"                      \
	" p.provisioner_state) END"

/*
 * Make the statement that adds a delete build to each workspace after its previous build. It copies
 * the previous build's parameters and the properties of its job, and the newest state that is not
 * empty, without which the provisioner would destroy nothing. An orphan build, of a
 * workspace that was never built, gets no state; its job is complete at once if no living
 * provisioner daemon could run it. The statement skips a workspace that has got another build
 * meanwhile. The result is palloc'd.
 */
static char *
delete_statement(void)
{
	BuildTraceColumn trace = build_trace_column();

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
		"   CASE WHEN NOT d.orphan THEN " NEWEST_STATE " END, d.job_id,"
		"   'initiator'::{cp}build_reason, d.preset_id"
		"  FROM doomed d JOIN {cp}workspace_builds p ON p.id {=} d.previous_id"
		"  ON CONFLICT (workspace_id, build_number) DO NOTHING RETURNING id),"
		" jobs AS (INSERT INTO {cp}provisioner_jobs"
		"  (id, created_at, updated_at, started_at, completed_at, organization_id, initiator_id,"
		"   provisioner, storage_method, type, input, file_id, tags%s)"
		"  SELECT d.job_id, d.at, d.at, done.at, done.at, j.organization_id,"
		"   '" SYSTEM_USER "'::pg_catalog.uuid, j.provisioner, j.storage_method,"
		"   'workspace_build'::{cp}provisioner_job_type, " BUILD_JOB_INPUT(
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

/* Add the preset that a member's delete build carries: the one that it belongs to, or NULL. */
static void
add_preset(ArrayParameter *presets, const PoolMember *member)
{
	if (member->has_current_preset && member->verdict != VERDICT_CANCEL)
		array_add_id(presets, &member->current_preset_id);
	else if (member->has_build_preset)
		array_add_id(presets, &member->build_preset_id);
	else
		array_add_null(presets);
}

/*
 * Add delete builds for locked members, in order. A member whose verdict is VERDICT_CANCEL gets an
 * orphan build. at: the time of the pass; clock: the time of the next new row; totals: receives the
 * numbers; jobs: receives the new jobs that wait for a provisioner. SPI must be connected. Allocates
 * in the current memory context. Raises what the control plane's tables raise.
 */
void
deletion_write(PoolMember *const *members, int n, TimestampTz at, int64_t *clock,
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
		CHECK_FOR_INTERRUPTS();
		array_add_id(columns[0], &members[i]->id);
		array_add_id(columns[1], &members[i]->build_id);
		array_add_id(columns[2], id_new());
		array_add_id(columns[3], id_new());
		array_add(columns[4], TimestampTzGetDatum((*clock)++));
		add_preset(columns[5], members[i]);
		array_add(columns[6], BoolGetDatum(members[i]->verdict == VERDICT_CANCEL));
	}

	nbuilt = build_insert_rows(&plan, delete_statement(), lengthof(columns), columns);
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
	bury_workspaces(buried, at);
}

/* The reasons of the counters, by verdict. */
static const char *const reasons[] = { [VERDICT_CANCEL] = COUNT_DELETED "canceled",
									   [VERDICT_DELETE_INACTIVE] = COUNT_DELETED "inactive",
									   [VERDICT_DELETE_EXPIRED] = COUNT_DELETED "expired",
									   [VERDICT_DELETE_SICK] = COUNT_DELETED "sick",
									   [VERDICT_DELETE_EXTRANEOUS] = COUNT_DELETED "extraneous",
									   [VERDICT_DELETE_LEFT] = COUNT_DELETED "cleaned",
									   [VERDICT_DELETE_AGAIN] = COUNT_DELETED "again" };

/*
 * Count members that have just got delete builds, for the metrics. One that belongs to no preset that
 * is left has no name to be counted by. SPI must be connected.
 */
void
deletion_count(const PoolSnapshot *pool, PoolMember *const *members, int n)
{
	PresetCounts counts = preset_counts_new();

	for (int i = 0; i < n; i++)
	{
		int preset = decision_acting_preset(members[i]);

		if (preset >= 0)
			preset_counts_add(&counts, &pool->presets[preset].template_id,
							  pool->presets[preset].details->name, reasons[members[i]->verdict], 1);
	}
	preset_counts_write(&counts);
}
