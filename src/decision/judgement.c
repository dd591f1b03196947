/*
 * judgement.c
 *	  What a pass at a given time would do. One code path serves "what would happen" and "make it
 *	  happen": read the snapshot, judge it, find out whether missing prebuilds can be built and
 *	  which of too many members are sick, settle.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "cron/preset_schedule.h"
#include "decision/amount.h"
#include "decision/judgement.h"
#include "decision/member_health.h"
#include "decision/provisioners.h"
#include "settings.h"

/* The most builds at once, by a setting that may ask for a part of the live daemons. */
static int32
max_building(TimestampTz at)
{
	Amount amount = { 0, false };

	/* the setting's check has parsed it before */
	(void) amount_parse(setting_max_building, &amount);
	if (!amount.percent)
		return amount.value;
	return Max(amount_of(amount, provisioners_alive(at)), 1);
}

static DecisionSettings
current_settings(TimestampTz at)
{
	DecisionSettings settings = {
		.at = at,
		.backoff_interval = setting_backoff_interval * DECISION_USECS_PER_SEC,
		.backoff_lookback = setting_backoff_lookback * DECISION_USECS_PER_SEC,
		.backoff_max = setting_backoff_max * DECISION_USECS_PER_SEC,
		.failure_hard_limit = setting_failure_hard_limit,
		.max_creates_per_pass = setting_max_creates_per_pass,
		.max_building = max_building(at),
	};

	return settings;
}

/* Give each preset the marks that the extension stored earlier. */
static void
apply_marks(PoolSnapshot *pool)
{
	ArrayParameter *presets = array_new(UUIDOID);
	ListCell *cell;

	for (int i = 0; i < pool->npresets; i++)
		array_add_id(presets, &pool->presets[i].id);
	foreach (cell, marks_read(presets))
	{
		Mark *mark = lfirst(cell);
		Preset *preset = control_plane_find_preset(pool, &mark->preset_id);

		if (preset == NULL)
			continue;
		switch (mark->kind)
		{
			case MARK_VALIDATION_FAILED:
				preset->details->invalid = mark;
				preset->marked_invalid_by_us = preset->status == STATUS_VALIDATION_FAILED;
				break;
			case MARK_UNSUPPORTED:
				preset->details->unsupported = mark;
				break;
			case MARK_PRESET_FAILED:
				preset->details->failed = mark;
				break;
		}
	}
}

/* Find out whether the presets that miss instances can be built, all of them together. */
static void
check_builds(PoolSnapshot *pool)
{
	Preset **presets = palloc_array(Preset *, pool->npresets + 1);
	pg_uuid_t *ids = palloc_array(pg_uuid_t, pool->npresets + 1);
	BuildInputs *inputs;
	int n = 0;

	for (int i = 0; i < pool->npresets; i++)
		if (decision_needs_check(&pool->presets[i]))
		{
			presets[n] = &pool->presets[i];
			memcpy(ids[n++].data, pool->presets[i].id.bytes, UUID_LEN);
		}
	if (n == 0)
		return;
	inputs = build_inputs_read(n, ids);
	for (int i = 0; i < n; i++)
	{
		presets[i]->details->inputs = &inputs[i];
		presets[i]->check = inputs[i].check;
		presets[i]->check_reason = inputs[i].reason;
	}
}

/*
 * Judge the control plane at a time, in the active snapshot, by a constant number of statements.
 * SPI must be connected. The result is palloc'd in the current context. Raises what
 * control_plane_snapshot() raises.
 */
Judgement *
judgement_make(TimestampTz at)
{
	Judgement *judgement = palloc_object(Judgement);
	PoolSnapshot *pool = control_plane_snapshot(at, &judgement->stages);

	judgement->pool = pool;
	judgement->settings = current_settings(at);
	apply_marks(pool);
	auto_sizing_apply(pool, at, &judgement->sizing);
	member_health_find_seen(pool, at);
	member_health_find_attempts(pool);
	decision_judge(pool, &judgement->settings);
	check_builds(pool);
	provisioners_check(pool, at);
	member_health_find_unwell(pool);
	decision_settle(pool, &judgement->settings);
	member_health_find_complaints(pool);
	stages_settle(&judgement->stages, pool);
	return judgement;
}

/* Warn of the presets whose schedules a judgement ignored. */
void
judgement_warn(const Judgement *judgement)
{
	const PoolSnapshot *pool = judgement->pool;

	for (int i = 0; i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];
		const PresetDetails *details = preset->details;

		if (details->schedules_fault != NULL)
			schedule_warn_ignored(details->name, preset->id.bytes, details->schedules_fault);
	}
}
