/*
 * replacement.c
 *	  SQL function prebuild_track_resource_replacement(). A control plane calls it when the build of
 *	  a claim destroyed resources of the prebuild and recreated them. The function counts each claim
 *	  once, in prebuild_replacement. It does not count a claim that is older than the claims that
 *	  pruning.c keeps there, because nothing tells any more whether that claim was counted.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "decision/control_plane.h"
#include "catalog/control_plane_catalog.h"
#include "base/events.h"
#include "pass/admin_messages.h"
#include "base/patience.h"
#include "base/plans.h"
#include "pass/pruning.h"
#include "base/rows.h"

/* How long a report waits for other sessions in total, in milliseconds. */
#define PATIENCE_MS 2000

PG_FUNCTION_INFO_V1(prebuild_track_resource_replacement);

/* The claim that a report is about. */
typedef struct Claim
{
	Id workspace_id;
	Id build_id;
	Id template_id;
	Id preset_id;
	bool has_preset;
	TimestampTz built_at;
} Claim;

static char *
id_text(const Id *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(id)));
}

/*
 * Join each resource's paths into one string, as the template of the notification expects. Returns
 * a jsonb object, or (Datum) 0 for an empty one. Raises an error unless the argument is an object
 * of resource names and arrays of changed paths. The result is in SPI's memory.
 */
static Datum
join_paths(Jsonb *replacements)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { JSONBOID };
	Datum values[] = { JsonbPGetDatum(replacements) };
	Datum joined;
	bool isnull;

	if (!JB_ROOT_IS_OBJECT(replacements))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"replacements\" must be a JSON object, not %s",
						JsonbToCString(NULL, &replacements->root, VARSIZE(replacements))),
				 errhint("Its keys name resources and its values are arrays of changed paths, as "
						 "in {\"docker_container.main[0]\": [\"env\", \"hostname\"]}.")));
	plan_execute(
		&plan,
		"SELECT pg_catalog.jsonb_object_agg(r.key, COALESCE(p.paths, '')),"
		" pg_catalog.min(r.key) FILTER (WHERE NOT p.valid)"
		" FROM pg_catalog.jsonb_each($1) r, LATERAL ("
		"  SELECT pg_catalog.string_agg(e.value {#>>} '{}', ', ' ORDER BY e.position),"
		"   pg_catalog.jsonb_typeof(r.value) {=} 'array'"
		"    AND COALESCE(pg_catalog.bool_and(pg_catalog.jsonb_typeof(e.value) {=} 'string'), true)"
		"  FROM pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(r.value)"
		"    WHEN 'array' THEN r.value ELSE '[]' END) WITH ORDINALITY e (value, position))"
		"  p (paths, valid)",
		PLAN_READ, 1, argtypes, values, NULL);
	row_value(0, 2, &isnull);
	if (!isnull)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("value of \"%s\" in argument \"replacements\" must be an array of "
							   "strings",
							   row_text(0, 2))));
	joined = row_value(0, 1, &isnull);
	if (isnull)
		joined = (Datum) 0;
	return joined;
}

/* Raise the error for a report that is not about a claim's build. message: a format with one %s. */
static void
not_a_claim(const char *message, const Id *id)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg(message, id_text(id))));
}

/* Look up the claim of the report. Raises an error if the build is not that of a claim. */
static void
read_claim(Claim *claim)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, UUIDOID };
	Datum values[] = { id_datum(&claim->workspace_id), id_datum(&claim->build_id) };
	Datum preset;
	bool isnull;

	if (plan_execute(&plan,
					 "SELECT w.template_id::pg_catalog.uuid,"
					 " COALESCE(b.template_version_preset_id,"
					 "  first.template_version_preset_id)::pg_catalog.uuid,"
					 " w.owner_id {=} '" SYSTEM_USER "'::pg_catalog.uuid,"
					 " first.initiator_id IS NOT NULL AND"
					 "  first.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid,"
					 " b.id IS NOT NULL,"
					 " b.build_number IS NOT NULL AND b.build_number {>} 1 AND"
					 "  b.initiator_id {<>} '" SYSTEM_USER "'::pg_catalog.uuid,"
					 " b.created_at::pg_catalog.timestamptz"
					 " FROM {cp}workspaces w"
					 " LEFT JOIN {cp}workspace_builds first"
					 "  ON first.workspace_id {=} w.id AND first.build_number {=} 1"
					 " LEFT JOIN {cp}workspace_builds b ON b.workspace_id {=} w.id AND b.id {=} $2"
					 " WHERE w.id {=} $1",
					 PLAN_READ, 2, argtypes, values, NULL) == 0)
		not_a_claim("workspace %s does not exist", &claim->workspace_id);
	if (!DatumGetBool(row_get(0, 5)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("workspace %s has no build %s", id_text(&claim->workspace_id),
							   id_text(&claim->build_id))));
	if (!DatumGetBool(row_get(0, 4)))
		not_a_claim("workspace %s was not prebuilt", &claim->workspace_id);
	if (DatumGetBool(row_get(0, 3)))
		not_a_claim("workspace %s has not been claimed", &claim->workspace_id);
	if (!DatumGetBool(row_get(0, 6)))
		not_a_claim("build %s does not belong to a claim", &claim->build_id);
	claim->template_id = row_id(0, 1);
	claim->built_at = DatumGetTimestampTz(row_get(0, 7));
	preset = row_value(0, 2, &isnull);
	claim->has_preset = !isnull;
	if (!isnull)
		memcpy(claim->preset_id.bytes, DatumGetUUIDP(preset)->data, UUID_LEN);
	SPI_freetuptable(SPI_tuptable);
}

/* Count the claim. Returns false if it was, or may have been, counted before. */
static bool
count_claim(const Claim *claim, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID };
	Datum values[] = { id_datum(&claim->workspace_id), id_datum(&claim->build_id),
					   id_datum(&claim->template_id), id_datum(&claim->preset_id),
					   TimestampTzGetDatum(at) };

	if (claim->built_at < at - PRUNING_CLAIMS_KEPT)
		return false;
	return plan_execute(&plan,
						"INSERT INTO {ext}prebuild_replacement"
						"  (workspace_id, build_id, template_id, preset_id, at)"
						" VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
						PLAN_FRESH_OWN, 5, argtypes, values,
						claim->has_preset ? "     " : "   n ") > 0;
}

/* Write the event, delete old events and queue the notifications. */
static void
announce(const Claim *claim, Jsonb *replacements, Datum paths, TimestampTz at)
{
	const Id *preset_id = claim->has_preset ? &claim->preset_id : NULL;
	EventBatch batch = { 0 };

	event_add(&batch, "resource_replaced", &claim->template_id, preset_id, &claim->workspace_id,
			  psprintf("{\"build_id\": \"%s\", \"replacements\": %s}", id_text(&claim->build_id),
					   JsonbToCString(NULL, &replacements->root, VARSIZE(replacements))));
	events_write(&batch, at);
	/* here too, because no pass deletes events while reconciliation is paused */
	pruning_events(at);
	notifications_resource_replaced(&claim->workspace_id, &claim->build_id, preset_id, paths, at);
}

/* A report. */
typedef struct Report
{
	Claim claim;
	Jsonb *replacements;
	TimestampTz at;
	bool counted;
} Report;

/* Count and announce a report, unless an earlier call did. argument: the report. Returns true. */
static bool
record(void *argument)
{
	Report *report = argument;
	Datum paths = join_paths(report->replacements);

	read_claim(&report->claim);
	report->counted = paths != (Datum) 0 && count_claim(&report->claim, report->at);
	if (report->counted)
		announce(&report->claim, report->replacements, paths, report->at);
	return true;
}

/*
 * prebuild_track_resource_replacement(workspace_id uuid, build_id uuid, replacements jsonb):
 * returns whether this call counted the claim
 */
Datum
prebuild_track_resource_replacement(PG_FUNCTION_ARGS)
{
	Report report = { .at = GetCurrentTransactionStartTimestamp() };

	argument_require(fcinfo, 0, "workspace_id");
	argument_require(fcinfo, 1, "build_id");
	argument_require(fcinfo, 2, "replacements");
	memcpy(report.claim.workspace_id.bytes, PG_GETARG_UUID_P(0)->data, UUID_LEN);
	memcpy(report.claim.build_id.bytes, PG_GETARG_UUID_P(1)->data, UUID_LEN);
	report.replacements = PG_GETARG_JSONB_P(2);
	PreventCommandIfReadOnly("prebuild_track_resource_replacement()");

	plans_enter(fcinfo);
	control_plane_require();
	patience_run(PATIENCE_MS, record, &report);
	plans_leave();
	PG_RETURN_BOOL(report.counted);
}
