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

#include "decision/judgement.h"
#include "decision/stages.h"
#include "settings.h"

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
		.max_building = setting_max_building,
	};

	return settings;
}

/* Give each preset the marks that the extension stored earlier. */
static void
apply_marks(Judgement *judgement)
{
	PoolSnapshot *pool = &judgement->snapshot->pool;
	ArrayParameter *presets = array_new(UUIDOID);
	ListCell *cell;

	for (int i = 0; i < pool->npresets; i++)
		array_add_id(presets, &pool->presets[i].id);
	foreach (cell, marks_read(presets))
	{
		Mark *mark = lfirst(cell);
		int preset = control_plane_find_preset(pool, &mark->preset_id);

		if (preset < 0)
			continue;
		switch (mark->kind)
		{
			case MARK_VALIDATION_FAILED:
				judgement->invalid[preset] = mark;
				pool->presets[preset].marked_invalid_by_us =
					pool->presets[preset].status == STATUS_VALIDATION_FAILED;
				break;
			case MARK_UNSUPPORTED:
				judgement->unsupported[preset] = mark;
				break;
			case MARK_PRESET_FAILED:
				judgement->failed[preset] = mark;
				break;
		}
	}
}

/* Find out whether the presets that miss instances can be built, all of them together. */
static void
check_builds(Judgement *judgement)
{
	PoolSnapshot *pool = &judgement->snapshot->pool;
	pg_uuid_t *ids = palloc_array(pg_uuid_t, pool->npresets + 1);
	int *positions = palloc_array(int, pool->npresets + 1);
	BuildInputs *inputs;
	int n = 0;

	for (int i = 0; i < pool->npresets; i++)
		if (decision_needs_check(&pool->presets[i]))
		{
			memcpy(ids[n].data, pool->presets[i].id.bytes, UUID_LEN);
			positions[n++] = i;
		}
	if (n == 0)
		return;
	inputs = build_inputs_read(n, ids);
	for (int i = 0; i < n; i++)
	{
		judgement->inputs[positions[i]] = &inputs[i];
		pool->presets[positions[i]].check = inputs[i].check;
		pool->presets[positions[i]].check_reason = inputs[i].reason;
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
	Judgement *judgement = palloc0_object(Judgement);
	PoolSnapshot *pool;

	judgement->settings = current_settings(at);
	judgement->snapshot = control_plane_snapshot(at);
	pool = &judgement->snapshot->pool;
	judgement->inputs = palloc0_array(BuildInputs *, pool->npresets + 1);
	judgement->invalid = palloc0_array(Mark *, pool->npresets + 1);
	judgement->unsupported = palloc0_array(Mark *, pool->npresets + 1);
	judgement->failed = palloc0_array(Mark *, pool->npresets + 1);

	apply_marks(judgement);
	decision_judge(pool, &judgement->settings);
	check_builds(judgement);
	control_plane_find_sick(pool);
	decision_settle(pool, &judgement->settings);
	stages_settle(judgement->snapshot);
	return judgement;
}
