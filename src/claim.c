/*
 * claim.c
 *	  Give a prebuild away: the oldest eligible one of a preset that nobody else holds.
 *
 *	  A claim reads one preset and the pool (not the workspaces of people), orders the pool
 *	  members of the preset's template by age, and looks into them one by one, by a cursor, until
 *	  one can be had.
 *
 *	  Locks: pool_lock() on one candidate at a time, never waiting. What the lock keeps still is
 *	  the row of the workspace and its builds; readiness, expiry and the active version are asked
 *	  again once it is held, in a snapshot of that moment. So no two claims, and no claim and pass,
 *	  get the same workspace at any isolation level; in REPEATABLE READ and SERIALIZABLE, where a
 *	  candidate was given away since the transaction's snapshot, the claim is a serialization
 *	  failure, as it is for any other statement that locks rows there.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"

#include "arguments.h"
#include "control_plane.h"
#include "control_plane_catalog.h"
#include "plans.h"
#include "pool_lock.h"
#include "pool_sql.h"
#include "result_row.h"
#include "rows.h"

/* How long to wait for rows that others hold before looking a second time, in milliseconds. */
#define RETRY_AFTER 10

/* The control plane's column is a varchar(64). */
#define MAX_NAME_LENGTH 64

/* A time to live is in nanoseconds, as in Coder's column; less than a minute is a mistaken unit. */
#define NANOSECONDS_PER_MINUTE INT64CONST(60000000000)

PG_FUNCTION_INFO_V1(prebuild_claim);

/* What is asked for. */
typedef struct Claim
{
	Id preset_id;
	TimestampTz at;
	/* the new owner, name, autostart schedule, next start, time to live (ns), and the time again */
	Datum values[6];
	char nulls[6];
} Claim;

/*
 * Oldest eligible prebuilds first; "narrowed" restricts the pool further. The sub-selects with
 * OFFSET are there for the planner to leave them as they are: the pool by its owner, then in
 * order, then build by build for as long as rows are fetched.
 * $1 preset, $2 template, $3 active version, $4 the time before which a prebuild is expired.
 */
#define ELIGIBLE(narrowed)                                                                         \
	"SELECT w.id::pg_catalog.uuid, b.id::pg_catalog.uuid"                                          \
	" FROM (SELECT o.id, o.created_at"                                                             \
	"  FROM (SELECT w.id, w.created_at, w.template_id FROM {cp}workspaces w"                       \
	"   WHERE " IS_IN_POOL narrowed " OFFSET 0) o"                                                 \
	"  WHERE o.template_id {=} $2 AND o.created_at {>=} $4"                                        \
	"  ORDER BY o.created_at, o.id OFFSET 0) w," LATEST_BUILD " WHERE " IS_RUNNING                 \
	" AND b.template_version_id {=} $3 AND " CURRENT_PRESET " {=} $1 AND " IS_READY                \
	" ORDER BY w.created_at, w.id"

/* Raise an error unless the new owner is somebody who can own a workspace. */
static void
require_owner(Datum owner_id)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	const char *owner = DatumGetCString(DirectFunctionCall1(uuid_out, owner_id));

	if (strcmp(owner, SYSTEM_USER) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"new_owner_id\" must not be the system user, who owns "
							   "the prebuilds already")));
	if (plan_execute(&plan, "SELECT u.deleted::pg_catalog.bool FROM {cp}users u WHERE u.id {=} $1",
					 PLAN_WRITE, 1, argtypes, &owner_id, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
						errmsg("user %s, the new owner, does not exist", owner)));
	if (DatumGetBool(row_get(0, 1)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("user %s, the new owner, is deleted", owner)));
	SPI_freetuptable(SPI_tuptable);
}

/* Read what a claim needs to know of its preset. False when there is no such preset. */
static bool
read_preset(const Claim *claim, PlanMode mode, Preset *preset)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(&claim->preset_id) };
	char *statement =
		psprintf("SELECT t.id::pg_catalog.uuid, v.id::pg_catalog.uuid,"
				 " t.active_version_id::pg_catalog.uuid, t.deleted::pg_catalog.bool,"
				 " t.deprecated {<>} '',"
				 " COALESCE(p.invalidate_after_secs, 0)::pg_catalog.int4,"
				 " %s::pg_catalog.timestamptz"
				 " FROM {cp}template_version_presets p"
				 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				 " JOIN {cp}templates t ON t.id {=} v.template_id WHERE p.id {=} $1",
				 control_plane_has(FEATURE_INVALIDATION) ? "p.last_invalidated_at" : "NULL");
	bool found = plan_execute(&plan, statement, mode, 1, argtypes, values, NULL) > 0;
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
	}
	SPI_freetuptable(SPI_tuptable);
	pfree(statement);
	return found;
}

/* The parameters of ELIGIBLE, but for the narrowing one. */
static void
eligible_parameters(const Claim *claim, const Preset *preset, Datum *values)
{
	values[0] = id_datum(&preset->id);
	values[1] = id_datum(&preset->template_id);
	values[2] = id_datum(&preset->active_version_id);
	values[3] = TimestampTzGetDatum(decision_expires_before(preset, claim->at));
}

/* True when a workspace that is held can be given away now, whatever older snapshots say. */
static bool
is_eligible_now(const Claim *claim, const Id *workspace_id)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, UUIDOID };
	Datum values[5];
	Preset preset;
	bool eligible;

	if (!read_preset(claim, PLAN_READ_LATEST, &preset) || !decision_is_active(&preset))
		return false;
	eligible_parameters(claim, &preset, values);
	values[4] = id_datum(workspace_id);
	eligible = plan_execute(&plan, ELIGIBLE(" AND w.id {=} $5"), PLAN_READ_LATEST, 5, argtypes,
							values, NULL) > 0;
	SPI_freetuptable(SPI_tuptable);
	return eligible;
}

/*
 * Give a workspace that is held to the new owner, and put the result row into a tuplestore. False
 * when a trigger of the control plane keeps it back.
 */
static bool
give(const Claim *claim, const Id *workspace_id, ReturnSetInfo *result)
{
	static KeptPlan plan;
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
						 " RETURNING w.id::pg_catalog.uuid, w.name::pg_catalog.text",
						 PLAN_WRITE, 7, argtypes, values, nulls) > 0;
	AtEOXact_GUC(true, guc_level);
	if (given)
	{
		ResultRow row;

		row.n = 0;
		result_put(&row, UUIDOID, row_get(0, 1));
		result_put(&row, TEXTOID, row_get(0, 2));
		result_row_store(result, &row);
	}
	SPI_freetuptable(SPI_tuptable);
	return given;
}

/*
 * Give the oldest candidate that can be had. False when there is none; *passed_over then tells
 * whether there were candidates that could not be had.
 */
static bool
claim_oldest(const Claim *claim, const Preset *preset, bool *passed_over, ReturnSetInfo *rsinfo)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID };
	Datum values[4];
	Portal candidates;
	bool given = false;

	*passed_over = false;
	eligible_parameters(claim, preset, values);
	candidates =
		SPI_cursor_open(NULL, plan_get(&plan, ELIGIBLE(""), 4, argtypes), values, NULL, false);
	while (!given)
	{
		PoolMember candidate = { 0 };
		PoolMember *member = &candidate;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(candidates, true, 1);
		if (SPI_processed == 0)
			break;
		candidate.id = row_id(0, 1);
		candidate.build_id = row_id(0, 2);
		SPI_freetuptable(SPI_tuptable);
		given = pool_lock(&member, 1) == 1 && is_eligible_now(claim, &candidate.id) &&
				give(claim, &candidate.id, rsinfo);
		*passed_over = !given;
	}
	SPI_cursor_close(candidates);
	return given;
}

/* Let whoever holds a row for an instant (for a foreign key, say) finish. */
static void
pause_before_retry(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RETRY_AFTER,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
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
				 errhint("As in Coder, the time to live is in nanoseconds: 8 hours are "
						 "28800000000000. NULL is none.")));

	memcpy(claim->preset_id.bytes, PG_GETARG_UUID_P(0)->data, UUID_LEN);
	claim->at = argument_time(fcinfo, 6, "at");
	for (int i = 0; i < 6; i++)
	{
		claim->values[i] = PG_GETARG_DATUM(i + 1);
		claim->nulls[i] = PG_ARGISNULL(i + 1) ? 'n' : ' ';
	}
}

/* prebuild_claim(...): give an eligible prebuild of the preset away; one row, or none */
Datum
prebuild_claim(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool passed_over = true;
	Claim claim;
	Preset preset;

	read_arguments(fcinfo, &claim);
	PreventCommandIfReadOnly("prebuild_claim()");
	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	require_owner(claim.values[0]);

	for (int attempt = 0; attempt < 2 && passed_over; attempt++)
	{
		if (attempt > 0)
			pause_before_retry();
		if (!read_preset(&claim, PLAN_WRITE, &preset))
			argument_no_such_preset(id_datum(&claim.preset_id));
		if (!decision_is_active(&preset) || claim_oldest(&claim, &preset, &passed_over, rsinfo))
			break;
	}
	plans_leave();
	return (Datum) 0;
}
