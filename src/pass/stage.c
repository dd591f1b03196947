/*
 * stage.c
 *	  SQL functions of staged versions: prebuild_stage(), prebuild_unstage(),
 *	  prebuild_stage_status() and prebuild_promote().
 *
 *	  Locks: the row of prebuild_stage. prebuild_promote() takes the reconcilers' lock before, so
 *	  that it judges a pool in which no pass is working, and the rows as promotion.c says.
 */
#include "compat.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/events.h"
#include "base/ids.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "catalog/other_reconciler.h"
#include "decision/judgement.h"
#include "decision/policy.h"
#include "pass/pass_lock.h"
#include "pass/pass_request.h"
#include "pass/promotion.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(prebuild_stage);
PG_FUNCTION_INFO_V1(prebuild_unstage);
PG_FUNCTION_INFO_V1(prebuild_stage_status);
PG_FUNCTION_INFO_V1(prebuild_promote);

/* A version that is to be staged, as the control plane has it. */
typedef struct Target
{
	Stage stage; /* its ids and the template's name */
	bool archived;
	bool template_deleted;
	char *deprecated; /* the template's, "" if it is not */
	char *import_status;
	bool wants; /* one of its presets wants prebuilds at some time, or may in mode auto */
} Target;

static const char *
id_text(const Id *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(id)));
}

/* Return the version that argument 0 names. Raises null_value_not_allowed. */
static Id
version_argument(FunctionCallInfo fcinfo)
{
	Id id;

	argument_require(fcinfo, 0, "template_version_id");
	memcpy(id.bytes, PG_GETARG_UUID_P(0)->data, sizeof(id.bytes));
	return id;
}

/* Read a version that is to be staged. Raises invalid_parameter_value if it is none of a template. */
static void
read_target(Target *target, const Id *version_id)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(version_id) };
	char *statement =
		psprintf("SELECT v.template_id::pg_catalog.uuid, %s, t.name::pg_catalog.text,"
				 " t.deleted::pg_catalog.bool, t.deprecated::pg_catalog.text,"
				 " t.active_version_id::pg_catalog.uuid, COALESCE((SELECT"
				 "  j.job_status::pg_catalog.text FROM {cp}provisioner_jobs j"
				 "  WHERE j.id {=} v.job_id), 'unknown'),"
				 " EXISTS (SELECT FROM {cp}template_version_presets p"
				 "  WHERE p.template_version_id {=} v.id AND " PRESET_CAN_WANT "),"
				 " ARRAY(SELECT p.name::pg_catalog.text FROM {cp}template_version_presets p"
				 "  WHERE p.template_version_id {=} v.id AND p.desired_instances IS NOT NULL)"
				 " FROM {cp}template_versions v"
				 " JOIN {cp}templates t ON t.id {=} v.template_id WHERE v.id {=} $1",
				 control_plane_has(FEATURE_ARCHIVED_VERSIONS) ? "v.archived IS TRUE" : "false");

	if (plan_execute(&plan, statement, PLAN_FRESH, 1, argtypes, values, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("template version %s does not exist, or belongs to no template",
							   id_text(version_id)),
						errhint("Template versions are the rows of template_versions in schema "
								"\"%s\".",
								setting_control_plane_schema)));
	target->stage.version_id = *version_id;
	target->stage.template_id = row_id(0, 1);
	target->archived = DatumGetBool(row_get(0, 2));
	target->stage.template_name = row_text(0, 3);
	target->template_deleted = DatumGetBool(row_get(0, 4));
	target->deprecated = row_text(0, 5);
	target->stage.active_version_id = row_id(0, 6);
	target->import_status = row_text(0, 7);
	target->wants =
		DatumGetBool(row_get(0, 8)) || policy_sizes_any(&target->stage.template_id, row_get(0, 9));
}

/* Raise object_not_in_prerequisite_state unless the version can be staged. */
static void
require_stageable(const Target *target)
{
	const char *fault = NULL;
	const char *hint = NULL;

	if (target->template_deleted)
		fault = "its template is deleted";
	else if (target->deprecated[0] != '\0')
		fault = psprintf("its template is deprecated: %s", target->deprecated);
	else if (id_compare(&target->stage.active_version_id, &target->stage.version_id) == 0)
	{
		fault = "it is the template's active version";
		hint = "Passes keep its pools already.";
	}
	else if (target->archived)
		fault = "it is archived";
	else if (strcmp(target->import_status, "succeeded") != 0)
	{
		fault = psprintf("its import job is %s", target->import_status);
		hint = "Stage a version after its import has succeeded.";
	}
	else if (!target->wants)
	{
		fault = "none of its presets wants prebuilds";
		hint =
			"Give a preset desired_instances, or the mode auto by prebuild_set_policy(), or make "
			"the version active without staging it.";
	}
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("version %s of template \"%s\" cannot be staged: %s",
						id_text(&target->stage.version_id), target->stage.template_name, fault),
				 hint != NULL ? errhint("%s", hint) : 0));
}

/* What to do with a version that is staged. */
typedef struct Options
{
	float4 share;
	bool promote;
	bool has_valid_until;
	TimestampTz valid_until;
} Options;

/* Read arguments 1 to 3 of prebuild_stage(). Raises errors that name the argument. */
static Options
option_arguments(FunctionCallInfo fcinfo)
{
	Options options = { 0 };

	argument_require(fcinfo, 1, "share");
	argument_require(fcinfo, 2, "promote");
	argument_require(fcinfo, 4, "force");
	options.share = PG_GETARG_FLOAT4(1);
	if (isnan(options.share) || options.share <= 0 || options.share > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"share\" must be above 0 and at most 1, not %g", options.share),
				 errhint("It is the part of its target that each of the version's pools "
						 "gets.")));
	options.promote = PG_GETARG_BOOL(2);
	options.has_valid_until = !PG_ARGISNULL(3);
	if (!options.has_valid_until)
		return options;
	options.valid_until = argument_time(fcinfo, 3, "valid_until");
	if (options.valid_until < GetCurrentTimestamp())
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"valid_until\" has passed: %s",
							   timestamptz_to_str(options.valid_until))));
	return options;
}

/*
 * Delete what else is staged of the template and is over: the active version, or one whose time has
 * passed. No pass has been there yet to do it.
 */
static void
end_old_stage(const Target *target, EventBatch *batch)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   id_datum(&target->stage.template_id), id_datum(&target->stage.version_id),
					   id_datum(&target->stage.active_version_id),
					   TimestampTzGetDatum(GetCurrentTimestamp()) };
	uint64 n = plan_execute(&plan,
							"DELETE FROM {ext}prebuild_stage s WHERE s.control_plane {=} $1"
							" AND s.template_id {=} $2 AND s.template_version_id {<>} $3"
							" AND (s.template_version_id {=} $4 OR s.valid_until {<} $5)"
							" RETURNING s.template_version_id::pg_catalog.uuid,"
							" s.template_version_id {=} $4",
							PLAN_FRESH_OWN, 5, argtypes, values, NULL);

	if (n > 0)
	{
		Stage old = { .version_id = row_id(0, 1) };
		bool promoted = DatumGetBool(row_get(0, 2));

		event_add(batch, promoted ? "stage_promoted_elsewhere" : "stage_expired",
				  &target->stage.template_id, NULL, NULL, stage_event_detail(&old, ""));
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Store a stage, or other options of the one that is there. Raises object_not_in_prerequisite_state
 * if another version of the template is staged.
 */
static void
store_stage(const Target *target, const Options *options)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID,   UUIDOID, UUIDOID,	   UUIDOID,
									FLOAT4OID, BOOLOID, TIMESTAMPTZOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   id_datum(&target->stage.template_id),
					   id_datum(&target->stage.version_id),
					   id_datum(&target->stage.active_version_id),
					   Float4GetDatum(options->share),
					   BoolGetDatum(options->promote),
					   TimestampTzGetDatum(options->valid_until) };
	const char *nulls = options->has_valid_until ? NULL : "      n";

	if (plan_execute(
			&plan,
			"INSERT INTO {ext}prebuild_stage AS s (control_plane, template_id,"
			" template_version_id, replaces, share, promote, valid_until, staged_at)"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, pg_catalog.clock_timestamp())"
			" ON CONFLICT (control_plane, template_id) DO UPDATE"
			" SET replaces = excluded.replaces, share = excluded.share, promote = excluded.promote,"
			" valid_until = excluded.valid_until, staged_at = excluded.staged_at"
			" WHERE s.template_version_id {=} excluded.template_version_id",
			PLAN_FRESH_OWN, 7, argtypes, values, nulls) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("another version of template \"%s\" is staged", target->stage.template_name),
			 errhint("Only one version of a template can be staged. prebuild_stage_status() "
					 "shows it; prebuild_unstage() or prebuild_promote() makes room.")));
}

/* Return the name of the current user as the field "by" of an event's detail. palloc'd. */
static char *
by_field(void)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "\"by\": ");
	escape_json(&json, GetUserNameFromId(GetUserId(), false));
	return json.data;
}

/*
 * prebuild_stage(template_version_id, share, promote, valid_until, force): have passes build a
 * version's pools before it is active
 */
Datum
prebuild_stage(PG_FUNCTION_ARGS)
{
	Id version_id = version_argument(fcinfo);
	Options options = option_arguments(fcinfo);
	Target target = { 0 };
	EventBatch batch = { 0 };

	PreventCommandIfReadOnly("prebuild_stage()");
	plans_enter(fcinfo);
	control_plane_require();
	read_target(&target, &version_id);
	require_stageable(&target);
	if (!PG_GETARG_BOOL(4))
		other_reconciler_refuse("coderd's reconciler deletes prebuilds of versions that are not "
								"active, staged ones too. Turn it off, and stage an hour later or "
								"with force => true.");
	end_old_stage(&target, &batch);
	store_stage(&target, &options);
	event_add(&batch, "staged", &target.stage.template_id, NULL, NULL,
			  stage_event_detail(
				  &target.stage,
				  psprintf("\"share\": %g, \"promote\": %s, %s%s%s%s", options.share,
						   options.promote ? "true" : "false",
						   options.has_valid_until ? "\"valid_until\": \"" : "",
						   options.has_valid_until ? timestamptz_to_str(options.valid_until) : "",
						   options.has_valid_until ? "\", " : "", by_field())));
	events_write(&batch, GetCurrentTimestamp());
	pass_request_at_commit();
	plans_leave();
	PG_RETURN_VOID();
}

/* Raise object_not_in_prerequisite_state: the version is not staged. */
static void
not_staged(const Id *version_id)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("template version %s is not staged", id_text(version_id)),
					errhint("prebuild_stage_status() shows what is staged.")));
}

/* prebuild_unstage(template_version_id): let the next pass delete the staged pools */
Datum
prebuild_unstage(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID };
	Stage stage = { .version_id = version_argument(fcinfo) };
	Datum values[2];
	EventBatch batch = { 0 };

	PreventCommandIfReadOnly("prebuild_unstage()");
	plans_enter(fcinfo);
	values[0] = CStringGetTextDatum(setting_control_plane_schema);
	values[1] = id_datum(&stage.version_id);
	if (plan_execute(&plan,
					 "DELETE FROM {ext}prebuild_stage s WHERE s.control_plane {=} $1"
					 " AND s.template_version_id {=} $2 RETURNING s.template_id::pg_catalog.uuid",
					 PLAN_FRESH_OWN, 2, argtypes, values, NULL) == 0)
		not_staged(&stage.version_id);
	stage.template_id = row_id(0, 1);
	SPI_freetuptable(SPI_tuptable);
	event_add(&batch, "unstaged", &stage.template_id, NULL, NULL,
			  stage_event_detail(&stage, by_field()));
	events_write(&batch, GetCurrentTimestamp());
	pass_request_at_commit();
	plans_leave();
	PG_RETURN_VOID();
}

/* prebuild_stage_status(at): one row per staged version */
Datum
prebuild_stage_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	const Judgement *judgement;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	judgement = judgement_make(at);
	for (int i = 0; i < judgement->stages.n; i++)
	{
		const Stage *stage = &judgement->stages.rows[i];
		ResultRow row;

		row.n = 0;
		result_put_uuid(&row, &stage->template_id);
		result_put_text(&row, stage->template_name);
		result_put_uuid(&row, &stage->version_id);
		result_put(&row, FLOAT4OID, Float4GetDatum(stage->share));
		result_put_bool(&row, stage->promote);
		if (stage->has_valid_until)
			result_put_time(&row, stage->valid_until);
		else
			result_put_null(&row, TIMESTAMPTZOID);
		result_put_int4(&row, stage->target);
		result_put_int4(&row, stage->eligible);
		result_put_int4(&row, stage->failed);
		result_put_bool(&row, stage->ready);
		result_put_text(&row, stage->reason);
		result_row_store(rsinfo, &row);
	}
	plans_leave();
	return (Datum) 0;
}

/* Raise object_not_in_prerequisite_state unless a stage may become active by hand. */
static void
require_promotable(const Stage *stage, bool force)
{
	bool impossible = stage->end == STAGE_DROPPED || stage->end == STAGE_PROMOTED_ELSEWHERE;

	if (stage->ready || (force && !impossible))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("version %s of template \"%s\" cannot become active: %s",
				id_text(&stage->version_id),
				stage->template_name != NULL ? stage->template_name : "?", stage->reason),
		 impossible
			 ? 0
			 : errhint("Wait until prebuild_stage_status() says that it is ready, or promote it "
					   "with force => true.")));
}

/*
 * prebuild_promote(template_version_id, force): make a staged version the active one. Holds the
 * reconcilers' lock and judges in a snapshot that was taken after it.
 */
Datum
prebuild_promote(PG_FUNCTION_ARGS)
{
	Id version_id = version_argument(fcinfo);
	TimestampTz at;
	Stage *stage;
	bool force;

	argument_require(fcinfo, 1, "force");
	force = PG_GETARG_BOOL(1);
	PreventCommandIfReadOnly("prebuild_promote()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("prebuild_promote() cannot run in a transaction of isolation level %s",
						XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errhint("It has to see what was committed before it took the reconcilers' lock. "
						 "Run it in a READ COMMITTED transaction.")));
	pass_lock_wait("prebuild_promote()", "");
	plans_enter(fcinfo);
	PushActiveSnapshot(GetTransactionSnapshot());
	at = GetCurrentTimestamp();
	stage = stages_find(&judgement_make(at)->stages, &version_id);
	if (stage == NULL)
		not_staged(&version_id);
	require_promotable(stage, force);
	if (!promotion_by_hand(stage, at, force && !stage->ready))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("template \"%s\" or its stage has changed meanwhile", stage->template_name),
				 errhint("Look at prebuild_stage_status() and try again.")));
	PopActiveSnapshot();
	pass_request_at_commit();
	plans_leave();
	PG_RETURN_VOID();
}
