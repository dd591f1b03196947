/*
 * preset_past.c
 *	  The past of one preset as the policies take it.
 *
 * The database remembers demands and builds, but not what was configured when. So the past has what
 * is configured now, as if it had always been: that is what an answer is compared with.
 */
#include "compat.h"

#include <math.h>

#include "utils/timestamp.h"

#include "cron/timezone.h"
#include "demand/preset_past.h"
#include "settings.h"

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
 * Make the demands from before a time. Returns when the first one was, or the time itself.
 */
static TimestampTz
make_demands(DemandHistory *past, const DemandRecord *record, TimestampTz until)
{
	int64_t *demands = MemoryContextAllocHuge(CurrentMemoryContext,
											  sizeof(int64_t) * ((Size) record->ndemands + 1));

	for (int i = 0; i < record->ndemands && record->demands[i].at < until; i++)
		demands[past->ndemands++] = record->demands[i].at;
	past->demands = demands;
	return past->ndemands > 0 ? demands[0] : until;
}

/*
 * Make the builds that had ended before a time: nobody knew then how long others would take. How
 * long a failed one took nothing tells, so it took as long as the one before. Returns when the first
 * one was created, or the time itself.
 */
static TimestampTz
make_builds(DemandHistory *past, const DemandRecord *record, TimestampTz until)
{
	DemandBuild *builds = MemoryContextAllocHuge(
		CurrentMemoryContext, sizeof(DemandBuild) * ((Size) record->nsamples + 1));
	int64_t took = setting_default_lead_time * DEMAND_SECOND;

	for (int i = 0; i < record->nsamples; i++)
	{
		const LeadTimeSample *sample = &record->samples[i];

		if (!sample->failed)
		{
			double seconds = 0;

			for (int part = 0; part < LEAD_TIME_PARTS; part++)
				seconds += sample->parts[part];
			took = (int64_t) rint(Min(seconds, 1e9) * USECS_PER_SEC);
		}
		if (sample->built_at < until && took < until - sample->built_at)
			builds[past->nbuilds++] = (DemandBuild){ sample->built_at, took, sample->failed };
	}
	past->builds = builds;
	return past->nbuilds > 0 ? builds[0].created : until;
}

/* Return what to read for a backtest from a time until before another one. */
HistoryRange
preset_past_range(const Id *template_id, TimestampTz from, TimestampTz until)
{
	return (HistoryRange){ .source = HISTORY_EXACT,
						   .template_id = template_id,
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
 * Make the past of a preset that was known at "until", for policies from "from" on. record: what
 * demand_histories_read() found for it, or NULL. The history is complete from its first demand or
 * build on. Everything is palloc'd in the current context.
 */
DemandHistory
preset_past(const SizedPreset *preset, const DemandRecord *record, TimestampTz from,
			TimestampTz until)
{
	const DemandRecord nothing = { 0 };
	DemandHistory past = { 0 };
	TimestampTz first_demand;
	TimestampTz first_build;

	if (record == NULL)
		record = &nothing;
	first_demand = make_demands(&past, record, until);
	first_build = make_builds(&past, record, until);
	past.began = Min(first_demand, first_build);
	/* the configuration is no secret of the future, and a policy asks for its own time */
	preset_past_configure(&past, preset, Min(past.began, from), until + DEMAND_DAY);
	make_offsets(&past, preset, Min(past.began, from), until + DEMAND_DAY);
	return past;
}
