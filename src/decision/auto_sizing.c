/*
 * auto_sizing.c
 *	  Put what the policies of presets in mode auto want in the place of what is configured. All else
 *	  about a preset stays as it is: whether its version is active or staged, backoff, hard limit, caps.
 *	  A staged version gets its share of what the policy wants, because it serves that demand next.
 *
 *	  Without a preset in mode auto this reads nothing.
 */
#include "compat.h"

#include "utils/timestamp.h"

#include "catalog/other_reconciler.h"
#include "decision/auto_sizing.h"

/* Does a pass keep the pool of a preset, and size it? */
static bool
is_sized(const Preset *preset)
{
	return sizing_rules_are_auto(&preset->details->sizing) &&
		   (decision_is_active(preset) || (preset->staged_share > 0 && !preset->template_deleted &&
										   !preset->template_deprecated));
}

/*
 * Find a prebuild that another reconciler has made lately. It would undo what a policy wants. This
 * looks at what is there: a pass has no time to read all builds.
 */
static const PoolMember *
find_others_build(const PoolSnapshot *pool, TimestampTz at)
{
	for (int i = 0; i < pool->nmembers; i++)
	{
		const PoolMember *member = &pool->members[i];

		if (member->by_system_user && member->build_number == 1 &&
			member->build_created_at > at - OTHER_RECONCILER_LOOKBACK &&
			member->build_created_at <= at && other_reconciler_made(&member->build_id))
			return member;
	}
	return NULL;
}

/*
 * Replace what the presets in mode auto are configured to want, in a pool that has been read and not
 * judged, by a constant number of statements. SPI must be connected; everything is palloc'd in the
 * current context.
 */
void
auto_sizing_apply(PoolSnapshot *pool, TimestampTz at, AutoSizing *sizing)
{
	*sizing = (AutoSizing){ 0 };
	for (int i = 0; i < pool->npresets; i++)
		sizing->n += is_sized(&pool->presets[i]);
	if (sizing->n == 0)
		return;
	sizing->presets = palloc0_array(AutoPreset, sizing->n);
	sizing->of_pool = palloc_array(Preset *, sizing->n);
	sizing->n = 0;
	for (int i = 0; i < pool->npresets; i++)
	{
		Preset *preset = &pool->presets[i];

		if (!is_sized(preset))
			continue;
		preset->details->can_want = true;
		sizing->of_pool[sizing->n] = preset;
		sizing->presets[sizing->n++] = (AutoPreset){ .template_id = preset->template_id,
													 .name = preset->details->name,
													 .timezone = preset->details->timezone,
													 .rules = &preset->details->sizing,
													 .configured = preset->scheduled };
	}
	sizing->choices = auto_targets(sizing->presets, sizing->n, NULL, at);
	sizing->others_build = find_others_build(pool, at);
	for (int i = 0; i < sizing->n; i++)
	{
		if (sizing->others_build != NULL)
			auto_suspend(&sizing->presets[i]);
		sizing->of_pool[i]->scheduled = sizing->presets[i].target;
		sizing->of_pool[i]->details->sized = &sizing->presets[i];
	}
}

/* Return where the number of instances that a preset wants comes from; NULL if it wants none. */
const char *
auto_sizing_source(const Preset *preset)
{
	const PresetDetails *details = preset->details;

	if (!preset->kept)
		return NULL;
	if (details->sized != NULL && details->sized->by_policy)
		return "policy";
	return details->cron_expression != NULL ? "schedule" : "preset";
}
