/*
 * member_health.c
 *	  What the decision asks of members beyond the pool's columns: when their agents were seen last,
 *	  how often a delete build failed, what exactly is wrong. Each question is one statement, asked
 *	  only if a policy or a surplus makes it matter, and only of the members for which it does.
 *
 *	  An agent moves last_connected_at with every heartbeat. The kept pool does not log that. It
 *	  keeps a time since which the member's agents have been seen, and folds renew it before the
 *	  grace is over (pool_seen.c). So a reader looks at the agents of those members alone that seem
 *	  to be disconnected. It finds the agents by their resources, whose ids are kept, too. A reader
 *	  of the tables gets to the agents anyway, and finds out there (AGENTS_OF_MEMBER).
 *
 *	  All statements read the control plane's tables in the active snapshot.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "decision/member_health.h"
#include "pool/pool_sql.h"

/* A resource with agents, and the member that it belongs to. The id comes first, to sort by. */
typedef struct MemberResource
{
	Id id;
	PoolMember *member;
} MemberResource;

/* Add a member's resources to an array. Returns the array, which may have moved. */
static MemberResource *
add_resources(MemberResource *resources, int *n, int *room, PoolMember *member)
{
	ArrayType *array = DatumGetArrayTypeP(PointerGetDatum(member->resources));
	Datum *ids;
	int count;

	deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, NULL, &count);
	if (*n + count > *room)
	{
		*room = Max(2 * *room, *n + count);
		resources = repalloc(resources, *room * sizeof(MemberResource));
	}
	for (int i = 0; i < count; i++)
	{
		MemberResource *resource = &resources[(*n)++];

		memcpy(resource->id.bytes, DatumGetUUIDP(ids[i])->data, UUID_LEN);
		resource->member = member;
	}
	return resources;
}

/*
 * Find out when the agents of those members were seen last that are disconnected at a time, as far
 * as the stored pool knows. Fills their seen_at. Members from the tables know it. SPI must be
 * connected.
 */
void
member_health_find_seen(PoolSnapshot *pool, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	ArrayParameter *ids = array_new(UUIDOID);
	int room = 16;
	MemberResource *resources = palloc_array(MemberResource, room);
	Datum values[1];
	int n = 0;
	uint64 nagents;

	for (int i = 0; i < pool->nmembers; i++)
	{
		PoolMember *member = &pool->members[i];

		if (member->resources == NULL || !decision_needs_seen_at(pool, member, at))
			continue;
		resources = add_resources(resources, &n, &room, member);
		member->seen_at = INT64_MAX;
	}
	if (n == 0)
		return;
	qsort(resources, n, sizeof(MemberResource), id_compare);
	for (int i = 0; i < n; i++)
		array_add_id(ids, &resources[i].id);
	values[0] = array_datum(ids);
	nagents = plan_execute(&plan,
						   "SELECT wa.resource_id::pg_catalog.uuid,"
						   " " AGENT_SEEN_AT "::pg_catalog.timestamptz"
						   " FROM {cp}workspace_agents wa WHERE wa.resource_id {=} ANY ($1)"
						   " AND NOT wa.deleted AND wa.parent_id IS NULL AND " HAS_BEEN_CONNECTED,
						   PLAN_READ, 1, argtypes, values, NULL);
	for (uint64 i = 0; i < nagents; i++)
	{
		Id id = row_id(i, 1);
		int64_t seen_at = DatumGetTimestampTz(row_get(i, 2));
		MemberResource *resource = bsearch(&id, resources, n, sizeof(MemberResource), id_compare);

		if (resource != NULL && seen_at < resource->member->seen_at)
			resource->member->seen_at = seen_at;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* A member by the job of its latest build. The job's id comes first, to sort by. */
typedef struct MemberJob
{
	Id job_id;
	PoolMember *member;
} MemberJob;

/*
 * Collect the jobs of the members that a test picks, into an array parameter and, in order, into a
 * palloc'd array of the same length.
 */
static MemberJob *
gather_jobs(PoolSnapshot *pool, bool (*test)(const PoolSnapshot *pool, const PoolMember *member),
			ArrayParameter *jobs)
{
	MemberJob *members = palloc_array(MemberJob, pool->nmembers + 1);
	int n = 0;

	for (int i = 0; i < pool->nmembers; i++)
		if (test(pool, &pool->members[i]))
			members[n++] = (MemberJob){ pool->members[i].job_id, &pool->members[i] };
	qsort(members, n, sizeof(MemberJob), id_compare);
	for (int i = 0; i < n; i++)
		array_add_id(jobs, &members[i].job_id);
	return members;
}

/* The member whose job is in the first column of a row. */
static PoolMember *
member_of_row(uint64 row, const MemberJob *members, int n)
{
	Id job_id = row_id(row, 1);
	const MemberJob *found = bsearch(&job_id, members, n, sizeof(MemberJob), id_compare);

	if (found == NULL)
		elog(ERROR, "a job that nobody asked for");
	return found->member;
}

/*
 * Count the delete builds in a row of the members for which decision_needs_attempts(). Fills their
 * delete_attempts. SPI must be connected.
 */
void
member_health_find_attempts(PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	ArrayParameter *jobs = array_new(UUIDOID);
	MemberJob *members = gather_jobs(pool, decision_needs_attempts, jobs);
	Datum values[1];
	uint64 n;

	if (jobs->n == 0)
		return;
	values[0] = array_datum(jobs);
	n = plan_execute(&plan,
					 "SELECT b.job_id::pg_catalog.uuid, (SELECT pg_catalog.count(*)"
					 "   FROM {cp}workspace_builds wb WHERE wb.workspace_id {=} b.workspace_id"
					 "   AND wb.build_number {>} COALESCE((SELECT pg_catalog.max(o.build_number)"
					 "    FROM {cp}workspace_builds o WHERE o.workspace_id {=} b.workspace_id"
					 "    AND o.transition {<>} 'delete'), 0))::pg_catalog.int4"
					 " FROM {cp}workspace_builds b WHERE b.job_id {=} ANY ($1)",
					 PLAN_READ, 1, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
		member_of_row(i, members, jobs->n)->delete_attempts = DatumGetInt32(row_get(i, 2));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Find out which members are unwell, among those for which decision_needs_health(). Reads the
 * tables even if the pool is kept, because few members need it and seldom. SPI must be connected.
 */
void
member_health_find_unwell(PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	ArrayParameter *jobs = array_new(UUIDOID);
	MemberJob *members = gather_jobs(pool, decision_needs_health, jobs);
	Datum values[1];
	uint64 n;

	if (jobs->n == 0)
		return;
	values[0] = array_datum(jobs);
	n = plan_execute(&plan,
					 "SELECT b.job_id FROM pg_catalog.unnest($1) AS b (job_id) WHERE " IS_SICK,
					 PLAN_READ, 1, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
		member_of_row(i, members, jobs->n)->unwell = true;
	SPI_freetuptable(SPI_tuptable);
}

/* True for a member that goes because it is sick. */
static bool
goes_as_sick(const PoolSnapshot *pool, const PoolMember *member)
{
	return member->verdict == VERDICT_DELETE_SICK;
}

/* Say what is wrong with a member, from the row of the agent that shows it best. palloc'd. */
static char *
complaint_of_row(const PoolMember *member, uint64 row)
{
	char *agent = row_text(row, 2);
	const char *state = row_text(row, 3);
	bool isnull;
	Datum since = row_value(row, 4, &isnull);
	TimestampTz since_time = isnull ? member->completed_at : DatumGetTimestampTz(since);

	if (member->sickness == SICK_DISCONNECTED)
		return psprintf("agent \"%s\" has been disconnected since %s", agent,
						timestamptz_to_str(member->seen_at));
	if (member->sickness == SICK_UNREADY)
		return psprintf("agent \"%s\" is still in state %s, built at %s", agent, state,
						timestamptz_to_str(member->completed_at));
	return psprintf("agent \"%s\" is in state %s since %s", agent, state,
					timestamptz_to_str(since_time));
}

/*
 * Find out what is wrong with the sick members that go: which agent, what state, since when. Fills
 * their complaint, in the current memory context. SPI must be connected.
 */
void
member_health_find_complaints(PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, BOOLARRAYOID };
	ArrayParameter *jobs = array_new(UUIDOID);
	ArrayParameter *disconnected = array_new(BOOLOID);
	MemberJob *members = gather_jobs(pool, goes_as_sick, jobs);
	Datum values[2];
	uint64 n;

	if (jobs->n == 0)
		return;
	for (int i = 0; i < jobs->n; i++)
	{
		PoolMember *member = members[i].member;

		member->complaint =
			psprintf("it has no agents, built at %s", timestamptz_to_str(member->completed_at));
		array_add(disconnected, BoolGetDatum(member->sickness == SICK_DISCONNECTED));
	}
	values[0] = array_datum(jobs);
	values[1] = array_datum(disconnected);
	/* the agent with the worst state, unless it is silence; then the one seen the longest ago */
	n = plan_execute(
		&plan,
		"SELECT b.job_id, a.name::pg_catalog.text, a.state, a.since::pg_catalog.timestamptz"
		" FROM {unnest 2} b (job_id, disconnected), LATERAL ("
		"  SELECT wa.name, wa.lifecycle_state::pg_catalog.text AS state,"
		"   COALESCE(wa.ready_at, wa.started_at) AS since"
		"  FROM {cp}workspace_resources r JOIN {cp}workspace_agents wa ON wa.resource_id {=} r.id"
		"  WHERE r.job_id {=} b.job_id AND NOT wa.deleted AND wa.parent_id IS NULL"
		"  ORDER BY (NOT b.disconnected"
		"    AND wa.lifecycle_state::pg_catalog.text {=} ANY (" SICK_STATES ")) DESC,"
		"   (NOT b.disconnected AND wa.lifecycle_state::pg_catalog.text {<>} 'ready') DESC,"
		"   CASE WHEN wa.first_connected_at IS NOT NULL THEN " AGENT_SEEN_AT " END,"
		"   wa.name LIMIT 1) a",
		PLAN_READ, 2, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		PoolMember *member = member_of_row(i, members, jobs->n);

		member->complaint = complaint_of_row(member, i);
	}
	SPI_freetuptable(SPI_tuptable);
}
