/*
 * claim.c
 *	  Give a prebuild to a user: the oldest eligible one of a preset that nobody else holds.
 *
 *	  A claim reads one preset and the pool, but not the workspaces of people. It tries the members
 *	  of the preset in the order of claim_candidates.c, until it can lock one that is eligible.
 *
 *	  What no row means. A look has one snapshot. In it, every member that was eligible then is a
 *	  candidate, also one that somebody has claimed or is deleting and has not committed, because he
 *	  may roll back. The look passes over a candidate if another claim has marked it (the first look
 *	  only, see claim_marks.c), if it cannot lock it, or if it finds it changed once it has locked it.
 *	  If it passed over any, there may be a prebuild for this claim now or soon: the holder held it
 *	  only for an instant (for a foreign key), rolls back, or claimed it while another one became
 *	  ready. Then the claim looks again, in a new snapshot. So in READ
 *	  COMMITTED it returns no row only
 *	  - after a look that passed over nothing: at the moment of its snapshot no prebuild was eligible
 *	    but those that somebody took and committed;
 *	  - or when others have held all that it saw for as long as a claim looks again: LOOK_MS of pauses,
 *	    or lock_timeout if the session has set a shorter one.
 *	  No wait can promise more: nobody knows whether a transaction that holds a row will commit, or when.
 *
 *	  Claims that look again wait in a queue (claim_queue.c), of which only the first one looks. It
 *	  does so after short pauses, not when a row is free, because the server can wait for one row and
 *	  not for the first of several. A claim that comes meanwhile may take what becomes free before
 *	  it. That delays the first one in the queue, but misses nothing. To wait in the queue is not to
 *	  look, so it takes nothing from LOOK_MS.
 *
 *	  All other waits (in the queue, for a locked table, for a claim with the same name) take at most
 *	  PATIENCE_MS in total; see patience.c.
 *
 *	  Locks: pool_lock_first() locks one candidate at a time and never waits. The lock protects the
 *	  row of the workspace and its builds. Once it holds the lock, the claim checks readiness,
 *	  expiry and the active version again, in a snapshot taken at that moment. So no two claims, and
 *	  no claim and pass, get the same workspace at any isolation level. In REPEATABLE READ and
 *	  SERIALIZABLE, the claim raises a serialization failure if somebody claimed a candidate after
 *	  the transaction took its snapshot, as any other statement that locks rows does.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"

#include "base/arguments.h"
#include "decision/control_plane.h"
#include "decision/policy.h"
#include "catalog/control_plane_catalog.h"
#include "base/injected_fault.h"
#include "base/patience.h"
#include "base/plans.h"
#include "pool/pool_lock.h"
#include "pool/pool_sql.h"
#include "base/result_row.h"
#include "claim/claim_candidates.h"
#include "claim/claim_marks.h"
#include "claim/claim_queue.h"
#include "base/rows.h"
#include "demand/demand_log.h"
#include "demand/preset_counts.h"

/* How long to pause in total between looks that passed over candidates, in milliseconds. */
#define LOOK_MS 100

/* Bounds of the pause between two looks, in milliseconds. */
#define MIN_PAUSE_MS 1
#define MAX_PAUSE_MS 8

/* How long a claim waits for other sessions in total, in milliseconds. */
#define PATIENCE_MS 2000

/* Coder declares the column as varchar(64). */
#define MAX_NAME_LENGTH 64

/*
 * The lower limit of a time to live. It is in nanoseconds, as in Coder's column; a smaller value is
 * a mistaken unit.
 */
#define NANOSECONDS_PER_MINUTE INT64CONST(60000000000)

PG_FUNCTION_INFO_V1(prebuild_claim);

/* The arguments of prebuild_claim(). */
typedef struct Claim
{
	Id preset_id;
	TimestampTz at;
	/* the new owner, name, autostart schedule, next start, time to live (ns), and the time (at) */
	Datum values[6];
	char nulls[6];
	ReturnSetInfo *result;
	bool queued;	  /* it is the first in its preset's queue */
	bool passed_over; /* the last look may have missed a candidate */
} Claim;

/* Raise an error unless the new owner exists, is not deleted and is not the system user. */
static void
require_owner(Datum owner_id)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDOID };
	const char *owner = DatumGetCString(DirectFunctionCall1(uuid_out, owner_id));

	if (strcmp(owner, SYSTEM_USER) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"new_owner_id\" must not be the system user, who owns "
							   "the prebuilds already")));
	if (plan_execute(&plan, "SELECT u.deleted::pg_catalog.bool FROM {cp}users u WHERE u.id {=} $1",
					 PLAN_FRESH, 1, argtypes, &owner_id, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
						errmsg("user %s, the new owner, does not exist", owner)));
	if (DatumGetBool(row_get(0, 1)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("user %s, the new owner, is deleted", owner)));
	SPI_freetuptable(SPI_tuptable);
}

/* Read what a claim needs to know about its preset. Returns false if there is no such preset. */
static bool
read_preset(const Claim *claim, PlanMode mode, Preset *preset)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(&claim->preset_id) };
	char *statement =
		psprintf("SELECT t.id::pg_catalog.uuid, v.id::pg_catalog.uuid,"
				 " t.active_version_id::pg_catalog.uuid, t.deleted::pg_catalog.bool,"
				 " t.deprecated {<>} '',"
				 " COALESCE(p.invalidate_after_secs, 0)::pg_catalog.int4,"
				 " %s::pg_catalog.timestamptz, p.name::pg_catalog.text"
				 " FROM {cp}template_version_presets p"
				 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				 " JOIN {cp}templates t ON t.id {=} v.template_id WHERE p.id {=} $1",
				 control_plane_has(FEATURE_INVALIDATION) ? "p.last_invalidated_at" : "NULL");
	bool found = plan_execute(&plan, statement, mode, 1, argtypes, values, NULL) > 0;
	char *name = NULL;
	bool isnull;
	Datum value;

	memset(preset, 0, sizeof(*preset));
	if (found)
	{
		preset->id = claim->preset_id;
		preset->template_id = row_id(0, 1);
		preset->template_version_id = row_id(0, 2);
		preset->active_version_id = row_id(0, 3);
		preset->template_deleted = DatumGetBool(row_get(0, 4));
		preset->template_deprecated = DatumGetBool(row_get(0, 5));
		preset->invalidate_after_secs = DatumGetInt32(row_get(0, 6));
		value = row_value(0, 7, &isnull);
		preset->has_last_invalidated_at = !isnull;
		preset->last_invalidated_at = isnull ? 0 : DatumGetTimestampTz(value);
		name = row_text(0, 8);
	}
	SPI_freetuptable(SPI_tuptable);
	pfree(statement);
	if (found)
		preset->policy = policy_of(&preset->template_id, name);
	return found;
}

/* True if a locked workspace is eligible now. */
static bool
is_eligible_now(const Claim *claim, const Id *workspace_id)
{
	CandidateTerms terms;
	Preset preset;

	if (!read_preset(claim, PLAN_READ_LATEST, &preset) || !decision_is_active(&preset))
		return false;
	candidates_terms(&terms, &preset, claim->at);
	return candidate_is_eligible_now(&terms, workspace_id);
}

/*
 * Record the demand of which SPI_tuptable has the workspace that was given away. It is none if the
 * workspace was not built as a prebuild.
 */
static void
record_demand(const Claim *claim, const Id *workspace_id)
{
	Id template_id = row_id(0, 3);
	bool isnull;
	Datum name = row_value(0, 4, &isnull);
	char *preset_name = isnull ? NULL : TextDatumGetCString(name);

	SPI_freetuptable(SPI_tuptable);
	if (preset_name != NULL)
		demand_log_claim(workspace_id, &template_id, preset_name, claim->at);
}

/*
 * Give a locked workspace to the new owner and put the result row into the tuplestore. Returns
 * false if a trigger of the control plane suppresses the update. Raises whatever the table raises.
 */
static bool
give(const Claim *claim, const Id *workspace_id, ReturnSetInfo *result)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDOID, TEXTOID,		 TEXTOID, TIMESTAMPTZOID,
									INT8OID, TIMESTAMPTZOID, UUIDOID };
	Datum values[7];
	char nulls[7];
	bool given;
	int guc_level = plans_control_plane_path();

	memcpy(values, claim->values, sizeof(claim->values));
	memcpy(nulls, claim->nulls, sizeof(claim->nulls));
	values[6] = id_datum(workspace_id);
	nulls[6] = ' ';
	given = plan_execute(&plan,
						 "UPDATE {cp}workspaces AS w SET owner_id = $1, name = $2,"
						 " autostart_schedule = $3, next_start_at = $4, ttl = $5,"
						 " updated_at = $6, last_used_at = $6, dormant_at = NULL,"
						 " deleting_at = NULL WHERE w.id {=} $7 AND " IS_IN_POOL
						 " RETURNING w.id::pg_catalog.uuid, w.name::pg_catalog.text,"
						 " w.template_id::pg_catalog.uuid, (SELECT p.name::pg_catalog.text"
						 "  FROM {cp}workspace_builds f JOIN {cp}template_version_presets p"
						 "  ON p.id {=} f.template_version_preset_id"
						 "  WHERE f.workspace_id {=} w.id AND f.build_number {=} 1"
						 "  AND f.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid)",
						 PLAN_FRESH, 7, argtypes, values, nulls) > 0;
	AtEOXact_GUC(true, guc_level);
	if (given)
	{
		ResultRow row;

		row.n = 0;
		result_put(&row, UUIDOID, row_get(0, 1));
		result_put(&row, TEXTOID, row_get(0, 2));
		result_row_store(result, &row);
		record_demand(claim, workspace_id);
	}
	else
		SPI_freetuptable(SPI_tuptable);
	return given;
}

/* Leave the queue, if the claim is in it. */
static void
leave_queue(Claim *claim)
{
	if (claim->queued)
		claim_queue_leave(&claim->preset_id);
	claim->queued = false;
}

/*
 * Give away the first candidate that can be locked and is eligible. Returns false if there is none.
 * Sets passed_over if it may have missed a candidate. argument: the claim.
 */
static bool
claim_one_of(void *argument, PoolMember *const *candidates, int n)
{
	Claim *claim = argument;

	for (int first = 0; first < n;)
	{
		bool unchanged;
		int position = first + pool_lock_first(candidates + first, n - first, &unchanged);

		CHECK_FOR_INTERRUPTS();
		/* others hold the ones in front, or claimed them since the look began */
		if (position > first)
			claim->passed_over = true;
		if (position == n)
			return false;
		if (unchanged && is_eligible_now(claim, &candidates[position]->id))
		{
			claim_mark(&candidates[position]->id);
			/* a write may wait for others */
			leave_queue(claim);
			if (give(claim, &candidates[position]->id, claim->result))
				return true;
		}
		else if (!IsolationUsesXactSnapshot())
			/* this one has changed since the look began, so others may have, too */
			claim->passed_over = true;
		first = position + 1;
	}
	return false;
}

/*
 * Give away the oldest candidate that can be locked. Returns false if there is none, and sets
 * passed_over if the look may have missed one. is_first: this is the claim's first look.
 */
static bool
claim_oldest(Claim *claim, const Preset *preset, bool is_first)
{
	CandidateTerms terms;

	injected_fault_point();
	candidates_terms(&terms, preset, claim->at);
	terms.marked = is_first ? &claim->passed_over : NULL;
	if (is_first && candidates_offer_remembered(&terms, claim_one_of, claim))
		return true;
	claim->passed_over = false;
	return candidates_offer(&terms, claim_one_of, claim);
}

/*
 * Let whoever holds a row go on. The first time, this waits for the claims in front, which does not
 * count, and later it pauses. Returns how much counts, in microseconds: of a pause no more than it
 * asked for, because on a busy machine a process that holds a row gets as little of the processor as
 * this one.
 */
static int64
wait_before_look(Claim *claim, int pause)
{
	TimestampTz began = GetCurrentTimestamp();

	if (!claim->queued)
	{
		claim->queued = claim_queue_enter(&claim->preset_id);
		/* without patience, this is the last look */
		return claim->queued ? 0 : PG_INT32_MAX;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return Min(GetCurrentTimestamp() - began, pause * INT64CONST(1000));
}

/* Look for a candidate, repeatedly, and give it away. argument: the claim. Always returns true. */
static bool
look_and_give(void *argument)
{
	Claim *claim = argument;
	/* patience.c has set the timeout, if the session has not */
	int64 most = Min(LockTimeout, LOOK_MS) * INT64CONST(1000);
	int64 waited = 0;
	bool is_first = true;

	require_owner(claim->values[0]);
	for (int pause = MIN_PAUSE_MS;; pause = Min(2 * pause, MAX_PAUSE_MS))
	{
		Preset preset;

		if (!read_preset(claim, PLAN_FRESH, &preset))
			argument_no_such_preset(id_datum(&claim->preset_id));
		if (!decision_is_active(&preset) || claim_oldest(claim, &preset, is_first) ||
			!claim->passed_over || waited >= most)
			break;
		waited += wait_before_look(claim, pause);
		is_first = false;
	}
	leave_queue(claim);
	return true;
}

/* Read and check the arguments of prebuild_claim(). */
static void
read_arguments(FunctionCallInfo fcinfo, Claim *claim)
{
	int64 ttl;
	int length;

	argument_require(fcinfo, 0, "preset_id");
	argument_require(fcinfo, 1, "new_owner_id");
	argument_require(fcinfo, 2, "new_name");
	length = DatumGetInt32(DirectFunctionCall1(textlen, PG_GETARG_DATUM(2)));
	if (length == 0 || length > MAX_NAME_LENGTH)
		ereport(ERROR, (errcode(length == 0 ? ERRCODE_INVALID_PARAMETER_VALUE
											: ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
						errmsg("argument \"new_name\" must have 1 to %d characters, not %d",
							   MAX_NAME_LENGTH, length)));
	if (!PG_ARGISNULL(4))
		(void) argument_time(fcinfo, 4, "next_start_at");
	ttl = PG_ARGISNULL(5) ? NANOSECONDS_PER_MINUTE : PG_GETARG_INT64(5);
	if (ttl < NANOSECONDS_PER_MINUTE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"ttl\" must be at least a minute in nanoseconds, " INT64_FORMAT
						", not " INT64_FORMAT,
						NANOSECONDS_PER_MINUTE, ttl),
				 errhint("The time to live is in nanoseconds, as in Coder: 8 hours are "
						 "28800000000000. NULL means none.")));

	memcpy(claim->preset_id.bytes, PG_GETARG_UUID_P(0)->data, UUID_LEN);
	claim->at = argument_time(fcinfo, 6, "at");
	for (int i = 0; i < 6; i++)
	{
		claim->values[i] = PG_GETARG_DATUM(i + 1);
		claim->nulls[i] = PG_ARGISNULL(i + 1) ? 'n' : ' ';
	}
}

/* prebuild_claim(...): give away an eligible prebuild of the preset; returns one row, or none */
Datum
prebuild_claim(PG_FUNCTION_ARGS)
{
	Claim claim;

	read_arguments(fcinfo, &claim);
	claim.queued = false;
	PreventCommandIfReadOnly("prebuild_claim()");
	InitMaterializedSRF(fcinfo, 0);
	claim.result = (ReturnSetInfo *) fcinfo->resultinfo;
	plans_enter(fcinfo);
	control_plane_require();
	patience_run(PATIENCE_MS, look_and_give, &claim);
	if (tuplestore_tuple_count(claim.result->setResult) == 0)
		preset_counts_note(&claim.preset_id, COUNT_NOTHING);
	plans_leave();
	return (Datum) 0;
}
