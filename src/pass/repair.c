/*
 * repair.c
 *	  What an operator does by hand about failures: delete what they left behind, and let a preset
 *	  that they stopped try again.
 *
 *	  Locks: prebuild_clean() locks workspaces as a pass does (pool_lock.c) and skips those that
 *	  another session holds. So it may run beside a pass.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/events.h"
#include "base/patience.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"
#include "base/sql_arrays.h"
#include "catalog/control_plane_catalog.h"
#include "decision/judgement.h"
#include "decision/past_failures.h"
#include "demand/preset_counts.h"
#include "pass/deletion.h"
#include "pass/wakeup.h"
#include "pool/pool_lock.h"

/* How long each function waits for other sessions in total, in milliseconds. */
#define PATIENCE_MS 2000

PG_FUNCTION_INFO_V1(prebuild_clean);
PG_FUNCTION_INFO_V1(prebuild_retry);

/* What a member may be left as. */
typedef enum Rest
{
	REST_FAILED,
	REST_CANCELED,
	REST_STOPPED,
	REST_NONE /* it runs, or something happens to it */
} Rest;

static const char *const rest_names[] = { "failed", "canceled", "stopped" };

/* A prebuild_clean() under way. */
typedef struct Cleaning
{
	const Id *template_id; /* NULL: all */
	const Id *preset_id;   /* NULL: all */
	bool wanted[REST_NONE];
	int deleted[REST_NONE];
	TimestampTz at;
} Cleaning;

/* The text of a JSON object with the role that calls and, unless NULL, more members. palloc'd. */
static char *
detail_by(const char *more)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"by\": ");
	escape_json(&json, GetUserNameFromId(GetSessionUserId(), false));
	appendStringInfo(&json, "%s}", more != NULL ? more : "");
	return json.data;
}

static Rest
rest_of(const PoolMember *member)
{
	if (member->job_status == JOB_FAILED)
		return REST_FAILED;
	if (member->job_status == JOB_CANCELED)
		return REST_CANCELED;
	if (member->transition == TRANSITION_STOP && member->job_status == JOB_SUCCEEDED)
		return REST_STOPPED;
	return REST_NONE;
}

/* True for a member that the call wants to be deleted. */
static bool
is_wanted(const Cleaning *cleaning, const PoolMember *member)
{
	Rest rest = rest_of(member);
	const Id *preset_id = member->has_current_preset ? &member->current_preset_id
						  : member->has_build_preset ? &member->build_preset_id
													 : NULL;

	if (rest == REST_NONE || !cleaning->wanted[rest])
		return false;
	if (cleaning->template_id != NULL &&
		memcmp(cleaning->template_id, &member->template_id, sizeof(Id)) != 0)
		return false;
	return cleaning->preset_id == NULL ||
		   (preset_id != NULL && memcmp(cleaning->preset_id, preset_id, sizeof(Id)) == 0);
}

/* Raise an error unless a table of the control plane has a row with this id. */
static void
require_row(const char *table, const char *what, const Id *id)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(id) };

	if (plan_execute(&plan, psprintf("SELECT FROM {cp}%s t WHERE t.id {=} $1", table), PLAN_FRESH,
					 1, argtypes, values, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("%s %s does not exist", what,
							   DatumGetCString(DirectFunctionCall1(uuid_out, values[0])))));
	SPI_freetuptable(SPI_tuptable);
}

/* Write the delete builds, the memory of the failures and the event. argument: the call. */
static bool
clean(void *argument)
{
	Cleaning *cleaning = argument;
	Judgement *judgement;
	PoolSnapshot *pool;
	PoolMember **members;
	PassTotals totals = { 0 };
	ArrayParameter *jobs = array_new(UUIDOID);
	int64_t clock = cleaning->at;
	EventBatch batch = { 0 };
	int guc_level;
	int n = 0;

	if (cleaning->template_id != NULL)
		require_row("templates", "template", cleaning->template_id);
	if (cleaning->preset_id != NULL)
		require_row("template_version_presets", "preset", cleaning->preset_id);
	judgement = judgement_make(cleaning->at);
	pool = judgement->pool;
	members = palloc_array(PoolMember *, pool->nmembers + 1);
	for (int i = 0; i < pool->nmembers; i++)
		if (is_wanted(cleaning, &pool->members[i]))
		{
			pool->members[i].verdict = VERDICT_DELETE_LEFT;
			members[n++] = &pool->members[i];
		}
	n = pool_lock(members, n);
	if (n == 0)
		return true;
	guc_level = plans_control_plane_path();
	deletion_write(members, n, cleaning->at, &clock, &totals, jobs);
	deletion_count(pool, members, n);
	past_failures_remember(pool, members, n);
	AtEOXact_GUC(true, guc_level);
	for (int i = 0; i < n; i++)
		cleaning->deleted[rest_of(members[i])]++;
	event_add(&batch, "cleaned", cleaning->template_id, cleaning->preset_id, NULL,
			  detail_by(psprintf(", \"failed\": %d, \"canceled\": %d, \"stopped\": %d",
								 cleaning->deleted[REST_FAILED], cleaning->deleted[REST_CANCELED],
								 cleaning->deleted[REST_STOPPED])));
	events_write(&batch, cleaning->at);
	wakeup_provisioners(jobs, cleaning->at);
	return true;
}

/* Read the argument "states". */
static void
read_states(FunctionCallInfo fcinfo, Cleaning *cleaning)
{
	int n;
	Datum *states;

	argument_require(fcinfo, 2, "states");
	states = sql_array_elements(PG_GETARG_DATUM(2), TEXTOID, "states", &n);
	for (int i = 0; i < n; i++)
	{
		char *state = TextDatumGetCString(states[i]);
		size_t rest = 0;

		while (rest < lengthof(rest_names) && strcmp(state, rest_names[rest]) != 0)
			rest++;
		if (rest == lengthof(rest_names))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("argument \"states\" has an unknown state: \"%s\"", state),
							errhint("The states are failed, canceled and stopped.")));
		cleaning->wanted[rest] = true;
	}
}

/*
 * prebuild_clean(template_id uuid, preset_id uuid, states text[], at timestamptz): delete the pool
 * members that failed, canceled or stopped builds left behind; returns how many of each
 */
Datum
prebuild_clean(PG_FUNCTION_ARGS)
{
	Cleaning cleaning = { 0 };
	ResultRow row;

	PreventCommandIfReadOnly("prebuild_clean()");
	cleaning.at = argument_clock(fcinfo, 3, "at");
	read_states(fcinfo, &cleaning);
	if (!PG_ARGISNULL(0))
		cleaning.template_id = (const Id *) PG_GETARG_UUID_P(0);
	if (!PG_ARGISNULL(1))
		cleaning.preset_id = (const Id *) PG_GETARG_UUID_P(1);
	plans_enter(fcinfo);
	control_plane_require();
	patience_run(PATIENCE_MS, clean, &cleaning);
	plans_leave();
	row.n = 0;
	for (int rest = 0; rest < REST_NONE; rest++)
		result_put_int4(&row, cleaning.deleted[rest]);
	return result_row_datum(fcinfo, &row);
}

/*
 * prebuild_retry(preset_id uuid, at timestamptz): from now on, failures of builds up to this time do
 * not count; returns the time
 */
Datum
prebuild_retry(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	TimestampTz at = argument_clock(fcinfo, 1, "at");
	EventBatch batch = { 0 };
	ArrayParameter *presets;
	ArrayParameter *until;
	Datum values[1];
	Id preset_id;
	Id template_id;

	argument_require(fcinfo, 0, "preset_id");
	PreventCommandIfReadOnly("prebuild_retry()");
	values[0] = PG_GETARG_DATUM(0);
	memcpy(preset_id.bytes, PG_GETARG_UUID_P(0)->data, UUID_LEN);
	plans_enter(fcinfo);
	control_plane_require();
	if (plan_execute(&plan,
					 "SELECT v.template_id::pg_catalog.uuid FROM {cp}template_version_presets p"
					 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
					 " WHERE p.id {=} $1",
					 PLAN_FRESH, 1, argtypes, values, NULL) == 0)
		argument_no_such_preset(values[0]);
	template_id = row_id(0, 1);
	presets = array_new(UUIDOID);
	until = array_new(TIMESTAMPTZOID);
	array_add_id(presets, &preset_id);
	array_add(until, TimestampTzGetDatum(at));
	past_failures_forgive(presets, until);
	preset_counts_note(&preset_id, COUNT_RETRIES);
	event_add(&batch, "retried", &template_id, &preset_id, NULL, detail_by(NULL));
	events_write(&batch, at);
	plans_leave();
	PG_RETURN_TIMESTAMPTZ(at);
}
