/*
 * claim_candidates.c
 *	  The prebuilds that a claim may give away, in the order in which it tries them: oldest first,
 *	  and expired ones, if they serve, after the others.
 *
 *	  A look lists the pool members of the preset's template, which costs as much as the pool is
 *	  large, and then asks for some of them at a time whether they are eligible, until one is taken.
 *	  All of that is in one snapshot. So if nobody takes any, and nothing else was in the way, no
 *	  prebuild was eligible at the moment of this snapshot.
 *
 *	  A backend remembers the list of a large pool for a moment, because reading it would be most of
 *	  the work of hundreds of claims a second. Only who is in the list can be out of date, because a
 *	  claim asks again whether a member is eligible. Members that joined the pool since then are
 *	  younger than all others, so they would come last anyway. Only a workspace that was given back
 *	  to the pool comes too late. A claim that finds nothing in a remembered list makes a look.
 *
 *	  On request a look leaves out what other claims have marked, without asking for it, and says so.
 *
 *	  Locks: none but those on the tables, and marks (claim_marks.c). The remembered list belongs to
 *	  the backend alone.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/rows.h"
#include "base/sql_arrays.h"
#include "catalog/control_plane_catalog.h"
#include "claim/claim_candidates.h"
#include "claim/claim_marks.h"
#include "decision/decision.h"
#include "decision/member_health.h"
#include "pool/pool_sql.h"

/* How many members to ask for at a time: at first, and at most. */
#define MIN_ASKED 4
#define MAX_ASKED 64

/* The lengths of the lists that a backend remembers: at least, and how much of longer ones. */
#define MIN_REMEMBERED 512
#define MAX_REMEMBERED 8192

/* How long it remembers one, in milliseconds. */
#define REMEMBERED_MS 1000

/* A member of the list. */
typedef struct Listed
{
	Id id;
	TimestampTz created_at;
	bool gone; /* it has left the pool, or it is another preset's */
} Listed;

/* Members of the pool, oldest first. */
typedef struct MemberList
{
	int n;
	int first; /* all before it are gone */
	Listed *members;
} MemberList;

/* The list that this backend remembers, and what it is good for. */
static struct Remembered
{
	MemberList list; /* n is 0 if there is none */
	TimestampTz read_at;
	Oid workspaces; /* the table */
	Oid reader;
	Id preset_id;
	Id template_id;
} remembered;

/*
 * $1: preset; $2: template; $3: active version; $4: the time before which a prebuild is not given
 * away; $5: one member by its id, or some; $6: an agent that was connected and has not been seen since
 * then makes a prebuild sick, or NULL. The other signs of sickness keep a prebuild from being ready,
 * and a sick one that is ready again is not sick.
 */
#define TYPES(ids) UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, ids, TIMESTAMPTZOID
#define IDS_PARAMETER 4

/*
 * OFFSET keeps the planner from flattening the sub-select, so that it finds the workspaces by their
 * ids and nothing else, and then the build of each by an index.
 */
#define MEMBERS_OF_PRESET(whose)                                                                   \
	" FROM (SELECT w.id, w.created_at, w.template_id, w.owner_id, w.deleted"                       \
	"  FROM {cp}workspaces w WHERE w.id {=} " whose " OFFSET 0) w," LATEST_BUILD                   \
	" WHERE " IS_IN_POOL " AND w.template_id {=} $2 AND " CURRENT_PRESET " {=} $1"
#define IS_ELIGIBLE                                                                                \
	"(" IS_RUNNING " AND b.template_version_id {=} $3 AND w.created_at {>=} $4"                    \
	" AND " IS_READY " AND ($6 IS NULL OR NOT " IS_SILENT_SINCE("$6") "))"

/* Set what candidates of a preset must be. at: the time of the claim. */
void
candidates_terms(CandidateTerms *terms, const Preset *preset, TimestampTz at)
{
	int64_t grace = preset->policy.disconnected_grace;

	terms->preset_id = preset->id;
	terms->template_id = preset->template_id;
	terms->expires_before = decision_expires_before(preset, at);
	/* expired ones that wait for their replacements still serve */
	terms->expired_too = decision_rolls(&preset->policy);
	terms->marked = NULL;
	terms->values[0] = id_datum(&preset->id);
	terms->values[1] = id_datum(&preset->template_id);
	terms->values[2] = id_datum(&preset->active_version_id);
	terms->values[3] = TimestampTzGetDatum(terms->expired_too ? DT_NOBEGIN : terms->expires_before);
	terms->values[IDS_PARAMETER] = (Datum) 0;
	terms->values[5] = TimestampTzGetDatum(at - grace);
	memset(terms->nulls, ' ', CANDIDATE_PARAMETERS);
	if (grace == 0)
		terms->nulls[5] = 'n';
}

/* Read the list of the pool members of a template, in the active snapshot. palloc'd. */
static MemberList
read_list(const Id *template_id)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(template_id) };
	MemberList list = { 0 };

	/* OFFSET makes the planner read the pool, not all workspaces of the template */
	list.n = (int) plan_execute(
		&plan,
		"SELECT o.id::pg_catalog.uuid, o.created_at::pg_catalog.timestamptz"
		" FROM (SELECT w.id, w.created_at, w.template_id FROM {cp}workspaces w WHERE " IS_IN_POOL
		"  OFFSET 0) o WHERE o.template_id {=} $1 ORDER BY o.created_at, o.id",
		PLAN_READ, 1, argtypes, values, NULL);
	list.members = MemoryContextAllocHuge(CurrentMemoryContext, (list.n + 1) * sizeof(Listed));
	for (int i = 0; i < list.n; i++)
	{
		list.members[i].id = row_id(i, 1);
		list.members[i].created_at = DatumGetTimestampTz(row_get(i, 2));
		list.members[i].gone = false;
	}
	SPI_freetuptable(SPI_tuptable);
	return list;
}

/*
 * Ask which of some members are eligible, and mark those that are gone. Returns how many are, and
 * sets their ids and latest builds. asked: in the order of the list.
 */
static int
ask(const CandidateTerms *terms, PlanMode mode, Listed *const *asked, int n, PoolMember *eligible)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { TYPES(UUIDARRAYOID) };
	ArrayParameter *ids = array_new(UUIDOID);
	Datum values[CANDIDATE_PARAMETERS];
	uint64 nrows;
	uint64 row = 0;
	int neligible = 0;

	memcpy(values, terms->values, sizeof(values));
	for (int i = 0; i < n; i++)
		array_add_id(ids, &asked[i]->id);
	values[IDS_PARAMETER] = array_datum(ids);
	nrows = plan_execute(&plan,
						 "SELECT w.id::pg_catalog.uuid, b.id::pg_catalog.uuid,"
						 " COALESCE(" IS_ELIGIBLE
						 ", false)" MEMBERS_OF_PRESET("ANY ($5)") " ORDER BY w.created_at, w.id",
						 mode, CANDIDATE_PARAMETERS, argtypes, values, terms->nulls);
	for (int i = 0; i < n; i++)
	{
		Id id;

		if (row < nrows)
			id = row_id(row, 1);
		asked[i]->gone = row >= nrows || memcmp(&id, &asked[i]->id, sizeof(Id)) != 0;
		if (asked[i]->gone)
			continue;
		if (DatumGetBool(row_get(row, 3)))
		{
			eligible[neligible].id = id;
			eligible[neligible++].build_id = row_id(row, 2);
		}
		row++;
	}
	SPI_freetuptable(SPI_tuptable);
	return neligible;
}

/* Is a member left out because another claim has marked it? */
static bool
leave_out(const CandidateTerms *terms, const Listed *member)
{
	if (terms->marked == NULL || !claim_is_marked(&member->id))
		return false;
	*terms->marked = true;
	return true;
}

/* Offer the eligible members among those from position "from" to before "to". */
static bool
offer_part(MemberList *list, int from, int to, const CandidateTerms *terms, PlanMode mode,
		   TakeCandidate take, void *argument)
{
	PoolMember eligible[MAX_ASKED] = { 0 };
	PoolMember *candidates[MAX_ASKED];
	Listed *asked[MAX_ASKED];

	for (int wanted = MIN_ASKED; from < to; wanted = Min(2 * wanted, MAX_ASKED))
	{
		int nasked = 0;
		int n;

		CHECK_FOR_INTERRUPTS();
		for (; from < to && nasked < wanted; from++)
			if (!list->members[from].gone && !leave_out(terms, &list->members[from]))
				asked[nasked++] = &list->members[from];
		n = nasked > 0 ? ask(terms, mode, asked, nasked, eligible) : 0;
		for (int i = 0; i < n; i++)
			candidates[i] = &eligible[i];
		if (n > 0 && take(argument, candidates, n))
			return true;
	}
	return false;
}

/* Offer the eligible members of a list. */
static bool
offer(MemberList *list, const CandidateTerms *terms, PlanMode mode, TakeCandidate take,
	  void *argument)
{
	int fresh;

	while (list->first < list->n && list->members[list->first].gone)
		list->first++;
	fresh = list->first;
	while (fresh < list->n && list->members[fresh].created_at < terms->expires_before)
		fresh++;
	return offer_part(list, fresh, list->n, terms, mode, take, argument) ||
		   (terms->expired_too &&
			offer_part(list, list->first, fresh, terms, mode, take, argument));
}

/* Remember a list, or at least its beginning, if that is worth it. */
static void
remember(const MemberList *list, const CandidateTerms *terms)
{
	if (list->n - list->first < MIN_REMEMBERED)
		return;
	if (remembered.list.members == NULL)
		remembered.list.members =
			MemoryContextAlloc(TopMemoryContext, MAX_REMEMBERED * sizeof(Listed));
	remembered.list.n = Min(list->n - list->first, MAX_REMEMBERED);
	remembered.list.first = 0;
	memcpy(remembered.list.members, list->members + list->first,
		   remembered.list.n * sizeof(Listed));
	remembered.read_at = GetCurrentTimestamp();
	remembered.workspaces = control_plane_table("workspaces", false);
	remembered.reader = GetUserId();
	remembered.preset_id = terms->preset_id;
	remembered.template_id = terms->template_id;
}

/* Is the remembered list good for these terms? */
static bool
remembers(const CandidateTerms *terms)
{
	return remembered.list.n > 0 && !IsolationUsesXactSnapshot() &&
		   !TimestampDifferenceExceeds(remembered.read_at, GetCurrentTimestamp(), REMEMBERED_MS) &&
		   remembered.reader == GetUserId() &&
		   memcmp(&remembered.preset_id, &terms->preset_id, sizeof(Id)) == 0 &&
		   memcmp(&remembered.template_id, &terms->template_id, sizeof(Id)) == 0 &&
		   remembered.workspaces == control_plane_table("workspaces", false);
}

/*
 * Offer candidates of the list that this backend remembers, if any. Returns true if one was taken.
 * SPI must be connected. Raises what the callback raises.
 */
bool
candidates_offer_remembered(const CandidateTerms *terms, TakeCandidate take, void *argument)
{
	if (!remembers(terms))
		return false;
	if (offer(&remembered.list, terms, PLAN_FRESH, take, argument))
		return true;
	remembered.list.n = 0;
	return false;
}

/*
 * Offer all candidates of one moment. Returns true if one was taken. SPI must be connected. Raises
 * what the callback raises.
 */
bool
candidates_offer(const CandidateTerms *terms, TakeCandidate take, void *argument)
{
	MemberList list;
	bool taken;

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	list = read_list(&terms->template_id);
	taken = offer(&list, terms, PLAN_READ, take, argument);
	PopActiveSnapshot();
	if (taken)
		remember(&list, terms);
	pfree(list.members);
	return taken;
}

/*
 * True if a locked workspace is a candidate now. Reads in a snapshot of this moment, at any isolation
 * level.
 */
bool
candidate_is_eligible_now(const CandidateTerms *terms, const Id *workspace_id)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { TYPES(UUIDOID) };
	Datum values[CANDIDATE_PARAMETERS];
	bool eligible;

	memcpy(values, terms->values, sizeof(values));
	values[IDS_PARAMETER] = id_datum(workspace_id);
	eligible =
		plan_execute(&plan, "SELECT" MEMBERS_OF_PRESET("$5") " AND " IS_ELIGIBLE, PLAN_READ_LATEST,
					 CANDIDATE_PARAMETERS, argtypes, values, terms->nulls) > 0;
	SPI_freetuptable(SPI_tuptable);
	return eligible;
}
