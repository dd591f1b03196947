/*
 * status.c
 *	  What a pass says of presets: the control plane's prebuild_status, the extension's marks, and
 *	  an event for each thing that begins or ends. Something that lasts is said once.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"

#include "pass/admin_messages.h"
#include "base/plans.h"
#include "base/rows.h"
#include "settings.h"
#include "pass/status.h"

static const char *const status_labels[] = { "healthy", "hard_limited", "validation_failed" };

/* True when a preset that the database cannot decide has not been reported as such. */
static bool
is_news_unsupported(const Judgement *judgement, int preset)
{
	const Preset *judged = &judgement->snapshot->pool.presets[preset];
	const Mark *mark = judgement->unsupported[preset];

	return judged->check == BUILD_UNSUPPORTED &&
		   (mark == NULL || strcmp(mark->detail, judged->check_reason) != 0);
}

/* True when a preset that was reported as unsupported is no longer. */
static bool
is_supported_again(const Judgement *judgement, int preset)
{
	const Preset *judged = &judgement->snapshot->pool.presets[preset];

	return judgement->unsupported[preset] != NULL && judgement->inputs[preset] != NULL &&
		   judged->check != BUILD_UNSUPPORTED && judged->check != BUILD_NOT_YET;
}

/* True when the mark of our validation_failed has outlived it: somebody else has changed it. */
static bool
is_mark_outlived(const Judgement *judgement, int preset)
{
	const Preset *judged = &judgement->snapshot->pool.presets[preset];

	return judgement->invalid[preset] != NULL && judged->new_status != STATUS_VALIDATION_FAILED;
}

/* True when there is something to write about a preset. */
bool
status_has_changed(const Judgement *judgement, int preset)
{
	const Preset *judged = &judgement->snapshot->pool.presets[preset];

	return judged->new_status != judged->status || is_news_unsupported(judgement, preset) ||
		   is_supported_again(judgement, preset) || is_mark_outlived(judgement, preset) ||
		   judgement->failed[preset] != NULL;
}

/* Gather the event and marks for a preset whose stored status changes. */
static void
describe_status_change(EventBatch *batch, const Preset *preset, const DecisionSettings *settings)
{
	const Id *id = &preset->id;

	if (preset->status == STATUS_HARD_LIMITED)
		event_add(batch, "hard_limit_cleared", &preset->template_id, id, NULL,
				  psprintf("{\"failure_hard_limit\": %d}", settings->failure_hard_limit));
	if (preset->new_status == STATUS_HARD_LIMITED)
		event_add(batch, "hard_limited", &preset->template_id, id, NULL,
				  psprintf("{\"failure_hard_limit\": %d}", settings->failure_hard_limit));
	if (preset->new_status == STATUS_VALIDATION_FAILED)
	{
		mark_set(batch, id, MARK_VALIDATION_FAILED, preset->check_reason);
		event_add(batch, "validation_failed", &preset->template_id, id, NULL,
				  event_detail("reason", preset->check_reason));
	}
}

/* Store the status of presets whose status changes. */
static void
update_status(ArrayParameter *ids, ArrayParameter *labels)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID };
	Datum values[2];

	if (ids->n == 0)
		return;
	values[0] = array_datum(ids);
	values[1] = array_datum(labels);
	plan_execute(&plan,
				 "UPDATE {cp}template_version_presets p"
				 " SET prebuild_status = n.status::{cp}prebuild_status"
				 " FROM {unnest 2} n (id, status) WHERE p.id {=} n.id",
				 PLAN_FRESH, 2, argtypes, values, NULL);
}

/*
 * Write what there is to say of some presets, in a constant number of statements. SPI is
 * connected.
 */
void
status_write(const Judgement *judgement, const int *presets, int npresets)
{
	EventBatch batch = { 0 };
	ArrayParameter *ids = array_new(UUIDOID);
	ArrayParameter *labels = array_new(TEXTOID);
	ArrayParameter *hard_limited = array_new(UUIDOID);

	for (int i = 0; i < npresets; i++)
	{
		const Preset *preset = &judgement->snapshot->pool.presets[presets[i]];

		if (preset->new_status != preset->status)
		{
			if (preset->new_status == STATUS_HARD_LIMITED)
				array_add_id(hard_limited, &preset->id);
			array_add_id(ids, &preset->id);
			array_add_text(labels, status_labels[preset->new_status]);
			describe_status_change(&batch, preset, &judgement->settings);
		}
		if (is_mark_outlived(judgement, presets[i]))
			mark_unset(&batch, &preset->id, MARK_VALIDATION_FAILED);
		if (is_news_unsupported(judgement, presets[i]))
		{
			mark_set(&batch, &preset->id, MARK_UNSUPPORTED, preset->check_reason);
			event_add(&batch, "unsupported", &preset->template_id, &preset->id, NULL,
					  event_detail("reason", preset->check_reason));
		}
		if (is_supported_again(judgement, presets[i]))
			mark_unset(&batch, &preset->id, MARK_UNSUPPORTED);
		if (judgement->failed[presets[i]] != NULL)
			mark_unset(&batch, &preset->id, MARK_PRESET_FAILED);
	}
	update_status(ids, labels);
	events_write(&batch, judgement->settings.at);
	if (setting_notify_hard_limit && hard_limited->n > 0)
		notifications_hard_limited(hard_limited, judgement->settings.at);
}

/*
 * Report a preset that failed with an error and was rolled back: once while the error stays of
 * one kind, as its words may name a new workspace each time.
 */
void
status_write_failure(const Judgement *judgement, int preset, const ErrorData *error)
{
	const char *kind = unpack_sql_state(error->sqlerrcode);
	const Preset *failed = &judgement->snapshot->pool.presets[preset];
	const Mark *mark = judgement->failed[preset];
	EventBatch batch = { 0 };

	if (mark != NULL && strcmp(mark->detail, kind) == 0)
		return;
	mark_set(&batch, &failed->id, MARK_PRESET_FAILED, kind);
	event_add(&batch, "preset_failed", &failed->template_id, &failed->id, NULL,
			  event_detail("error", error->message));
	events_write(&batch, judgement->settings.at);
}

/* Write the summary of a pass that changed something. */
void
status_write_summary(TimestampTz at, int created, int deleted, int canceled, int failed)
{
	EventBatch batch = { 0 };

	if (created + deleted + canceled > 0)
		event_add(&batch, "pass", NULL, NULL, NULL,
				  psprintf("{\"created\": %d, \"deleted\": %d, \"canceled\": %d, \"failed\": %d}",
						   created, deleted, canceled, failed));
	events_write(&batch, at);
}
