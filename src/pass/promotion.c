/*
 * promotion.c
 *	  Make staged versions active, by a pass or by hand, and end the stages that are over.
 *
 *	  Becoming active is all in one transaction: templates.active_version_id and updated_at, the
 *	  stage's row, the event, and the message by which the control plane tells who watches the
 *	  template. coderd sends that message too, and writes nothing else to the database (its audit
 *	  log aside, which is about people).
 *
 *	  Locks: the rows of prebuild_stage, in the order of templates, then the rows of templates. Who
 *	  stages or unstages locks the row of prebuild_stage alone. So a stage that somebody ends or
 *	  replaces meanwhile is not carried out.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "base/events.h"
#include "base/ids.h"
#include "base/notify.h"
#include "base/plans.h"
#include "base/rows.h"
#include "catalog/constraints.h"
#include "catalog/control_plane_catalog.h"
#include "pass/lock_linger.h"
#include "pass/promotion.h"
#include "settings.h"

/* The event of each way in which a stage ends. */
static const char *const end_events[] = { NULL, "stage_expired", "stage_promoted_elsewhere",
										  "stage_dropped" };

/*
 * Return the detail of an event about a stage: the version, and the fields that "more" lists as the
 * text of JSON (or ""). palloc'd.
 */
char *
stage_event_detail(const Stage *stage, const char *more)
{
	return psprintf("{\"template_version_id\": \"%s\"%s%s}",
					DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(&stage->version_id))),
					*more != '\0' ? ", " : "", more);
}

/* Return a field of such a detail. palloc'd. */
static char *
text_field(const char *name, const char *value)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "\"%s\": ", name);
	escape_json(&json, value);
	return json.data;
}

/* The rows of stages, as parameters $1 to $3 and the control plane as $4. */
typedef struct StageRows
{
	Oid argtypes[4];
	Datum values[4];
} StageRows;

static StageRows
stage_rows(const Stage *const *stages, int n)
{
	ArrayParameter *arrays[] = { array_new(UUIDOID), array_new(UUIDOID),
								 array_new(TIMESTAMPTZOID) };
	StageRows rows = { .argtypes = { UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID } };

	for (int i = 0; i < n; i++)
	{
		array_add_id(arrays[0], &stages[i]->template_id);
		array_add_id(arrays[1], &stages[i]->version_id);
		array_add(arrays[2], TimestampTzGetDatum(stages[i]->staged_at));
	}
	for (size_t i = 0; i < lengthof(arrays); i++)
		rows.values[i] = array_datum(arrays[i]);
	rows.values[3] = CStringGetTextDatum(setting_control_plane_schema);
	return rows;
}

/* The rows "s" of prebuild_stage that are as they were read: nobody has staged anew since. */
#define AS_READ                                                                                    \
	"{unnest 3} n (template_id, version_id, staged_at)"                                            \
	" WHERE s.control_plane {=} $4 AND s.template_id {=} n.template_id"                            \
	" AND s.template_version_id {=} n.version_id AND s.staged_at {=} n.staged_at"

/*
 * Keep those of n stages whose templates the last statement returned. Frees its rows. Returns their
 * number.
 */
static int
keep_returned(const Stage **stages, int n, uint64 nrows)
{
	int kept = 0;

	for (int i = 0; i < n; i++)
		for (uint64 row = 0; row < nrows; row++)
		{
			Id template_id = row_id(row, 1);

			if (id_compare(&template_id, &stages[i]->template_id) != 0)
				continue;
			stages[kept++] = stages[i];
			break;
		}
	SPI_freetuptable(SPI_tuptable);
	return kept;
}

/* Lock the rows of stages. Keeps those that are as they were read. Returns their number. */
static int
lock_stages(const Stage **stages, int n)
{
	static KeptPlan plan;
	StageRows rows = stage_rows(stages, n);
	uint64 nrows = plan_execute(&plan,
								"SELECT s.template_id::pg_catalog.uuid"
								" FROM {ext}prebuild_stage s, " AS_READ
								" ORDER BY s.template_id FOR UPDATE OF s",
								PLAN_FRESH_OWN, 4, rows.argtypes, rows.values, NULL);

	return keep_returned(stages, n, nrows);
}

/* Delete the rows of stages. Keeps those that were deleted. Returns their number. */
static int
delete_stages(const Stage **stages, int n)
{
	static KeptPlan plan;
	StageRows rows = stage_rows(stages, n);
	uint64 nrows = plan_execute(&plan,
								"DELETE FROM {ext}prebuild_stage s USING " AS_READ
								" RETURNING s.template_id::pg_catalog.uuid",
								PLAN_FRESH_OWN, 4, rows.argtypes, rows.values, NULL);

	return keep_returned(stages, n, nrows);
}

/*
 * Make the versions of stages active, unless the template has changed since. Keeps the stages whose
 * version is active now. Returns their number.
 */
static int
activate(const Stage **stages, int n, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID };
	ArrayParameter *arrays[] = { array_new(UUIDOID), array_new(UUIDOID), array_new(UUIDOID) };
	Datum values[4];
	uint64 nrows;

	control_plane_column(control_plane_table("templates", false), "updated_at");
	for (int i = 0; i < n; i++)
	{
		array_add_id(arrays[0], &stages[i]->template_id);
		array_add_id(arrays[1], &stages[i]->version_id);
		array_add_id(arrays[2], &stages[i]->active_version_id);
	}
	for (size_t i = 0; i < lengthof(arrays); i++)
		values[i] = array_datum(arrays[i]);
	values[3] = TimestampTzGetDatum(at);
	nrows = plan_execute(
		&plan,
		psprintf("UPDATE {cp}templates t SET active_version_id = n.version_id, updated_at = $4"
				 " FROM {unnest 3} n (template_id, version_id, active_version_id)"
				 " WHERE t.id {=} n.template_id AND t.active_version_id {=} n.active_version_id"
				 " AND NOT t.deleted AND t.deprecated {=} ''"
				 " AND EXISTS (SELECT FROM {cp}template_versions v WHERE v.id {=} n.version_id"
				 "  AND v.template_id {=} t.id AND %s)"
				 " RETURNING t.id::pg_catalog.uuid",
				 control_plane_has(FEATURE_ARCHIVED_VERSIONS) ? "v.archived IS NOT TRUE" : "true"),
		PLAN_FRESH, 4, argtypes, values, NULL);
	return keep_returned(stages, n, nrows);
}

/* Tell who watches a template that it has changed, as coderd does. */
static void
tell_watchers(const Stage *stage)
{
	char *channel =
		psprintf("template:%s",
				 DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(&stage->template_id))));

	if (notify_possible())
		notify_send(channel, "");
}

/* Add the event of a promotion to a batch. by: a field of the detail, as the text of JSON. */
static void
describe_promotion(EventBatch *batch, const Stage *stage, const char *by)
{
	char *more = psprintf(
		"\"previous_version_id\": \"%s\", \"target\": %d, \"eligible\": %d, %s",
		DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(&stage->active_version_id))),
		stage->target, stage->eligible, by);

	event_add(batch, "promoted", &stage->template_id, NULL, NULL, stage_event_detail(stage, more));
}

/*
 * Make staged versions active, in a constant number of statements. Leaves out stages and templates
 * that have changed since the judgement; the next one sees them. Returns how many became active. SPI
 * is connected. Raises whatever the table of templates raises.
 */
static int
promote(const Stage **stages, int n, EventBatch *batch, TimestampTz at, const char *by)
{
	int promoted = n > 0 ? lock_stages(stages, n) : 0;

	if (promoted > 0)
		promoted = activate(stages, promoted, at);
	if (promoted == 0)
		return 0;
	if (delete_stages(stages, promoted) != promoted)
		elog(ERROR, "a locked row of prebuild_stage is gone");
	for (int i = 0; i < promoted; i++)
	{
		describe_promotion(batch, stages[i], by);
		tell_watchers(stages[i]);
	}
	/* a reconciler that took its snapshot before would go by the version that was active */
	lock_linger_after_commit();
	return promoted;
}

/* May the current user update a column of a table? */
static bool
may_update(Oid table, const char *column)
{
	return pg_class_aclcheck(table, GetUserId(), ACL_UPDATE) == ACLCHECK_OK ||
		   pg_attribute_aclcheck(table, control_plane_column(table, column), GetUserId(),
								 ACL_UPDATE) == ACLCHECK_OK;
}

/*
 * May the current user write the active version of templates? Warns of each time that a promotion is
 * due and impossible. A pass must not fail for it.
 */
static bool
may_promote(const Stage *stage)
{
	Oid templates = control_plane_table("templates", false);

	if (may_update(templates, "active_version_id") && may_update(templates, "updated_at"))
		return true;
	ereport(
		WARNING,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("could not promote the staged version of template \"%s\"", stage->template_name),
		 errdetail("Role \"%s\" may not update table templates.",
				   GetUserNameFromId(GetUserId(), false)),
		 errhint("Grant what prebuild_required_rights() lists, or call prebuild_promote() as "
				 "another role.")));
	return false;
}

/*
 * Collect the stages for which a pass has something to write: those that end and those that it
 * promotes. n: receives their number. The array is palloc'd.
 */
const Stage **
promotion_due(const Stages *stages, int *n)
{
	const Stage **due = palloc_array(const Stage *, stages->n + 1);

	*n = 0;
	for (int i = 0; i < stages->n; i++)
	{
		const Stage *stage = &stages->rows[i];

		if (stage->end != STAGE_GOES_ON || (stage->promotes && may_promote(stage)))
			due[(*n)++] = stage;
	}
	return due;
}

/*
 * Promote and end n stages, for a pass, in a subtransaction. at: the time of the pass. SPI is
 * connected. Raises whatever the table of templates, its triggers and deferred constraints raise.
 */
void
promotion_write(const Stage *const *stages, int n, TimestampTz at)
{
	static const char *const written[] = { "templates" };
	const Stage **promoted = palloc_array(const Stage *, n + 1);
	const Stage **ended = palloc_array(const Stage *, n + 1);
	EventBatch batch = { 0 };
	int npromoted = 0;
	int nended = 0;

	for (int i = 0; i < n; i++)
		if (stages[i]->end == STAGE_GOES_ON)
			promoted[npromoted++] = stages[i];
		else
			ended[nended++] = stages[i];
	if (promote(promoted, npromoted, &batch, at, "\"by_pass\": true") > 0)
		constraints_check(written, lengthof(written));
	nended = nended > 0 ? delete_stages(ended, nended) : 0;
	for (int i = 0; i < nended; i++)
		event_add(&batch, end_events[ended[i]->end], &ended[i]->template_id, NULL, NULL,
				  stage_event_detail(ended[i], text_field("reason", ended[i]->reason)));
	events_write(&batch, at);
}

/*
 * Promote one stage by hand, as it was judged. at: the time of the change. Returns false, and changes
 * nothing, if the stage or the template has changed since. SPI is connected.
 */
bool
promotion_by_hand(const Stage *stage, TimestampTz at, bool forced)
{
	EventBatch batch = { 0 };
	char *by =
		psprintf("%s, \"forced\": %s", text_field("by", GetUserNameFromId(GetUserId(), false)),
				 forced ? "true" : "false");
	int guc_level = plans_control_plane_path();
	bool done = promote(&stage, 1, &batch, at, by) > 0;

	events_write(&batch, at);
	AtEOXact_GUC(true, guc_level);
	return done;
}
