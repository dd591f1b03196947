/*
 * preset_past.c
 *	  The past of one preset as the policies take it.
 *
 * The database remembers demands and builds, but not what was configured when. So the past has what
 * is configured now, as if it had always been: that is what an answer is compared with.
 */
#include "compat.h"

#include "utils/timestamp.h"

#include "cron/timezone.h"
#include "demand/preset_past.h"

/* Steps under construction. */
typedef struct Steps
{
	int n;
	int room;
	DemandStep *steps;
} Steps;

static void
add_step(Steps *steps, TimestampTz from, int64 value)
{
	if (steps->n > 0 && steps->steps[steps->n - 1].value == value)
		return;
	if (steps->n == steps->room)
	{
		steps->room = steps->room == 0 ? 16 : 2 * steps->room;
		steps->steps = steps->steps == NULL
						   ? palloc_array(DemandStep, steps->room)
						   : repalloc_huge(steps->steps, sizeof(DemandStep) * steps->room);
	}
	steps->steps[steps->n++] = (DemandStep){ from, value };
}

/* Take a span of a schedule's forecast as a step. */
static void
add_span(const ScheduleSpan *span, void *context)
{
	add_step(context, span->starts_at, Max(span->desired, 0));
}

/* Return the time zone of a preset's schedules; NULL for UTC. */
static const pg_tz *
zone_of(const SizedPreset *preset)
{
	return preset->timezone[0] == '\0' ? NULL : timezone_find(preset->timezone);
}

/* Make the steps of the zone's offset. */
static void
make_offsets(DemandHistory *past, const SizedPreset *preset, TimestampTz from, TimestampTz until)
{
	const pg_tz *zone = zone_of(preset);
	Steps steps = { 0 };

	for (TimestampTz at = from; zone != NULL && at < until; at = timezone_next_change(at, zone))
	{
		CHECK_FOR_INTERRUPTS();
		add_step(&steps, at, timezone_offset(at, zone));
	}
	past->offsets = steps.steps;
	past->noffsets = steps.n;
}

/*
 * Leave out the builds that had not ended before a time: nobody knew then how long they would take.
 */
static void
leave_out_open(DemandHistory *past, TimestampTz until)
{
	DemandBuild *ended = MemoryContextAllocHuge(CurrentMemoryContext,
												sizeof(DemandBuild) * ((Size) past->nbuilds + 1));
	int n = 0;

	for (int i = 0; i < past->nbuilds; i++)
		if (past->builds[i].took < until - past->builds[i].created)
			ended[n++] = past->builds[i];
	past->builds = ended;
	past->nbuilds = n;
}

/* Return when the first demand came or the first build was created; otherwise, the time given. */
static TimestampTz
first_of(const DemandHistory *past, TimestampTz otherwise)
{
	TimestampTz first = otherwise;

	if (past->ndemands > 0)
		first = Min(first, past->demands[0]);
	if (past->nbuilds > 0)
		first = Min(first, past->builds[0].created);
	return first;
}

/*
 * Return what to read for a backtest from a time until before another one: of a template's presets of
 * one name, or of all (NULL).
 */
HistoryRange
preset_past_range(const Id *template_id, const char *preset_name, TimestampTz from,
				  TimestampTz until)
{
	return (HistoryRange){ .source = HISTORY_EXACT,
						   .template_id = template_id,
						   .preset_name = preset_name,
						   .from = from - PAST_LEARNT_FROM,
						   .samples_from = from - PAST_LEARNT_FROM,
						   .until = until };
}

/*
 * Put what a preset's instances and schedules want from a time until another one into a past. The
 * times are finite, and a few years apart at most: the steps take memory. A fault of the schedules
 * gives a WARNING.
 */
void
preset_past_configure(DemandHistory *past, const SizedPreset *preset, TimestampTz from,
					  TimestampTz until)
{
	Steps steps = { 0 };
	char *fault;

	schedule_forecast(preset->timezone, preset->nschedules, preset->schedules, preset->base, from,
					  until, add_span, &steps, &fault);
	if (fault != NULL)
		schedule_warn_ignored(preset->name, preset->id.bytes, fault);
	past->configured = steps.steps;
	past->nconfigured = steps.n;
}

/*
 * Make the past of a preset that was known at "until", for policies from "from" on. history: what
 * preset_histories_read() found for it, or NULL; the result shares its demands. It is complete from
 * its first demand or build on: before that nobody could have asked. Everything else is palloc'd in
 * the current context.
 */
DemandHistory
preset_past(const SizedPreset *preset, const PresetHistory *history, TimestampTz from,
			TimestampTz until)
{
	const DemandHistory nothing = { 0 };
	DemandHistory past = demand_history_before(history == NULL ? &nothing : &history->past, until);

	leave_out_open(&past, until);
	past.began = first_of(&past, until);
	/* the configuration is no secret of the future, and a policy asks for its own time */
	preset_past_configure(&past, preset, Min(past.began, from), until + DEMAND_DAY);
	make_offsets(&past, preset, Min(past.began, from), until + DEMAND_DAY);
	return past;
}
