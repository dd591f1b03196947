/*
 * status.c
 *	  Write what a pass finds out about presets: the control plane's prebuild_status, the
 *	  extension's marks, and an event when a condition begins or ends. While a condition lasts, no
 *	  pass repeats its event.
 */
#include "compat.h"

#include "utils/timestamp.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"

#include "pass/admin_messages.h"
#include "base/plans.h"
#include "base/rows.h"
#include "settings.h"
#include "pass/status.h"
#include "decision/past_failures.h"

static const char *const status_labels[] = { "healthy", "hard_limited", "validation_failed" };

/* True if the database cannot decide a preset, and no mark says so yet for the same reason. */
static bool
is_news_unsupported(const Preset *preset)
{
	const Mark *mark = preset->details->unsupported;

	return preset->check == BUILD_UNSUPPORTED &&
		   (mark == NULL || strcmp(mark->detail, preset->check_reason) != 0);
}

/* True if a preset that was reported as unsupported no longer is. */
static bool
is_supported_again(const Preset *preset)
{
	return preset->details->unsupported != NULL && preset->details->inputs != NULL &&
		   preset->check != BUILD_UNSUPPORTED && preset->check != BUILD_NOT_YET;
}

/*
 * True if the mark of our validation_failed must go, because somebody else has changed the status.
 */
static bool
is_mark_outlived(const Preset *preset)
{
	return preset->details->invalid != NULL && preset->new_status != STATUS_VALIDATION_FAILED;
}

/* True if there is something to write about a preset. */
bool
status_has_changed(const Preset *preset)
{
	return preset->new_status != preset->status || is_news_unsupported(preset) ||
		   is_supported_again(preset) || is_mark_outlived(preset) ||
		   preset->details->failed != NULL;
}

/* Add the events and the mark for a preset whose stored status changes to the batch. */
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

/* Store the new status of presets. */
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
 * Write status, marks and events of some presets, in a constant number of statements, and queue the
 * notifications. SPI is connected. Raises whatever the control plane's tables raise.
 */
void
status_write(const Judgement *judgement, Preset *const *presets, int npresets)
{
	EventBatch batch = { 0 };
	ArrayParameter *ids = array_new(UUIDOID);
	ArrayParameter *labels = array_new(TEXTOID);
	ArrayParameter *hard_limited = array_new(UUIDOID);
	ArrayParameter *forgiven = array_new(UUIDOID);
	ArrayParameter *until = array_new(TIMESTAMPTZOID);

	for (int i = 0; i < npresets; i++)
	{
		const Preset *preset = presets[i];

		if (preset->new_status != preset->status)
		{
			if (preset->new_status == STATUS_HARD_LIMITED)
				array_add_id(hard_limited, &preset->id);
			array_add_id(ids, &preset->id);
			array_add_text(labels, status_labels[preset->new_status]);
			describe_status_change(&batch, preset, &judgement->settings);
		}
		if (preset->forgive)
		{
			array_add_id(forgiven, &preset->id);
			array_add(until, TimestampTzGetDatum(preset->forgive_until));
		}
		if (is_mark_outlived(preset))
			mark_unset(&batch, &preset->id, MARK_VALIDATION_FAILED);
		if (is_news_unsupported(preset))
		{
			mark_set(&batch, &preset->id, MARK_UNSUPPORTED, preset->check_reason);
			event_add(&batch, "unsupported", &preset->template_id, &preset->id, NULL,
					  event_detail("reason", preset->check_reason));
		}
		if (is_supported_again(preset))
			mark_unset(&batch, &preset->id, MARK_UNSUPPORTED);
		if (preset->details->failed != NULL)
			mark_unset(&batch, &preset->id, MARK_PRESET_FAILED);
	}
	update_status(ids, labels);
	past_failures_forgive(forgiven, until);
	events_write(&batch, judgement->settings.at);
	if (setting_notify_hard_limit && hard_limited->n > 0)
		notifications_hard_limited(hard_limited, judgement->settings.at);
}

/*
 * Report a preset whose changes an error rolled back. Reports the error once, as long as the
 * SQLSTATE stays the same, because the message may name another workspace in each pass. at: the
 * time of the pass. SPI is connected.
 */
void
status_write_failure(const Preset *preset, const ErrorData *error, TimestampTz at)
{
	const char *kind = unpack_sql_state(error->sqlerrcode);
	const Mark *mark = preset->details->failed;
	EventBatch batch = { 0 };

	if (mark != NULL && strcmp(mark->detail, kind) == 0)
		return;
	mark_set(&batch, &preset->id, MARK_PRESET_FAILED, kind);
	event_add(&batch, "preset_failed", &preset->template_id, &preset->id, NULL,
			  event_detail("error", error->message));
	events_write(&batch, at);
}

/* Write the summary event of a pass, if the pass changed something. SPI is connected. */
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

/*
 * Write an event for each sick member among those that a pass has just deleted. at: the time of the
 * pass. SPI is connected.
 */
void
status_write_sick(const PoolSnapshot *pool, PoolMember *const *members, int n, TimestampTz at)
{
	EventBatch batch = { 0 };

	for (int i = 0; i < n; i++)
		if (members[i]->verdict == VERDICT_DELETE_SICK)
		{
			const Preset *preset = &pool->presets[decision_acting_preset(members[i])];

			event_add(&batch, "sick_replaced", &preset->template_id, &preset->id, &members[i]->id,
					  event_detail("reason", members[i]->complaint));
		}
	events_write(&batch, at);
}

/*
 * Write an event for each member whose delete build failed as often as its policy tries, once. SPI
 * is connected.
 */
void
status_write_given_up(const Judgement *judgement)
{
	const PoolSnapshot *pool = judgement->pool;
	EventBatch batch = { 0 };
	ListCell *cell;

	foreach (cell, past_failures_give_up(pool))
	{
		const PoolMember *member = lfirst(cell);
		const Preset *preset = &pool->presets[decision_acting_preset(member)];

		event_add(&batch, "delete_failed", &preset->template_id, &preset->id, &member->id,
				  psprintf("{\"attempts\": %d}", member->delete_attempts));
	}
	events_write(&batch, judgement->settings.at);
}
