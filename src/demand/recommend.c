/*
 * recommend.c
 *	  SQL function prebuild_recommend(): what the authors of templates should write.
 *
 *	  A template can say a number and weekly schedules, no more. So of all that policies can do this
 *	  takes what can be written down: a number, or the schedule that fits the first 60 of the 90 days.
 *	  Each is then simulated as it is written, through the same code that reads schedules, on the last
 *	  30 days. These figures come again when somebody writes the block into the template.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "catalog/control_plane_catalog.h"
#include "demand/backtest.h"
#include "demand/recommend.h"
#include "demand/written_block.h"

PG_FUNCTION_INFO_V1(prebuild_recommend);

/* After so long without demand nothing should wait. Longer than a holiday: people act on it. */
#define SILENCE (14 * DEMAND_DAY)

/* Within this share of the idle time the simpler one is as good. */
#define NEAR 0.05

/* A block that could be written. */
typedef struct Option
{
	SizedPreset block;
	bool reached;			  /* the level, in the earlier part */
	SimulatorFigures earlier; /* what the choice sees */
	SimulatorFigures later;	  /* what it does not see */
} Option;

/* The options, the simplest first: what is configured, the numbers, the schedule. */
#define OPTIONS_MOST (CHOICE_CANDIDATES + 2)
typedef struct Options
{
	int n;
	Option options[OPTIONS_MOST];
} Options;

/* Advice for a preset, in the caller's memory context. */
typedef struct Advice
{
	const SizedPreset *preset;
	char *configured;
	char *recommended;
	SimulatorFigures before; /* what is configured gives */
	SimulatorFigures after;	 /* what is recommended gives */
	char *reason;
	char *terraform;
} Advice;

/* Add an option with what it gives, simulated as it is written. */
static void
add_option(Options *options, Backtest *backtest, const SizedPreset *block)
{
	Option *option = &options->options[options->n++];
	const Policy policy = { .kind = POLICY_CONFIGURED };
	DemandHistory past = backtest->past;
	SimulatorResult figures;

	preset_past_configure(&past, block, Min(past.began, backtest->settings.from),
						  backtest->settings.to + DEMAND_DAY);
	backtest_simulate(backtest, &past, &policy, &figures);
	option->block = *block;
	option->earlier = figures.before;
	option->later = figures.after;
	option->reached =
		figures.before.warm >= backtest->settings.service_level * figures.before.demands;
}

/* Simulate all that could be written. */
static void
make_options(Options *options, Backtest *backtest)
{
	const ChoiceResult *result = &backtest->result;
	const SizedPreset *preset = backtest->preset;
	const SizedPreset configured = block_as_configured(preset);
	SizedPreset block;

	options->n = 0;
	add_option(options, backtest, &configured);
	if (result->ncandidates == 1)
		return;
	for (int i = 1; i < result->ncandidates; i++)
		if (result->candidates[i].policy.kind == POLICY_FIXED)
		{
			block = block_of_level(
				preset, Min(Max(result->candidates[i].policy.level, preset->rules.min_instances),
							preset->rules.max_instances));
			add_option(options, backtest, &block);
		}
	if (block_of_week(preset, &result->advice.week, &block))
		add_option(options, backtest, &block);
}

/* What serving demands is worth, less the idle time that it takes. */
static double
value_of(const Option *option)
{
	return (double) option->earlier.warm * CHOICE_WORTH - (double) option->earlier.idle;
}

/* Does an option serve more than another one, at more than that is worth? */
static bool
spends_too_much(const Options *options, const Option *option)
{
	for (int i = 0; i < options->n; i++)
		if (options->options[i].earlier.warm < option->earlier.warm &&
			value_of(&options->options[i]) > value_of(option))
			return true;
	return false;
}

/*
 * Choose an option as choice.c chooses a policy: of those that reach the level at its worth the one
 * that waits least, or a simpler one that waits hardly longer. If none does, the one that gives most
 * for what it takes.
 */
static const Option *
choose(const Options *options)
{
	const Option *best = NULL;

	for (int i = 0; i < options->n; i++)
	{
		const Option *option = &options->options[i];

		if (option->reached && !spends_too_much(options, option) &&
			(best == NULL ||
			 (double) option->earlier.idle < (double) best->earlier.idle * (1 - NEAR)))
			best = option;
	}
	if (best != NULL)
		return best;
	best = &options->options[0];
	for (int i = 1; i < options->n; i++)
		if (value_of(&options->options[i]) > value_of(best))
			best = &options->options[i];
	return best;
}

/* Say why there is nothing to advise, or return NULL. palloc'd. */
static char *
too_little(const Backtest *backtest, int demands)
{
	if (backtest->result.note == CHOICE_TOO_FEW)
		return psprintf("%d demand%s in %d days is too little to advise by; %d are needed", demands,
						demands == 1 ? "" : "s", BACKTEST_DAYS, CHOICE_DEMANDS_MIN);
	if (backtest->result.note == CHOICE_TOO_SHORT)
		return psprintf(
			"%d days of history are too short to advise by; %d are needed",
			(int) ((backtest->settings.to - Max(backtest->past.began, backtest->settings.from)) /
				   DEMAND_DAY),
			(int) (CHOICE_SPAN_MIN / DEMAND_DAY));
	return NULL;
}

/* Say what the policy that was chosen would give beyond what can be written down. palloc'd. */
static char *
beyond(const Backtest *backtest, const Option *option)
{
	const ChoiceResult *result = &backtest->result;
	const ChoiceCandidate *chosen = &result->candidates[result->chosen];

	if (chosen->policy.kind != POLICY_FORECAST && chosen->policy.kind != POLICY_SCHEDULE)
		return pstrdup("");
	return psprintf("; policy \"%s\" would serve %s with %.0f idle hours",
					backtest_policy_name(&chosen->policy), backtest_share(&chosen->later),
					(double) chosen->later.idle / DEMAND_HOUR);
}

/* Say why an option is recommended. palloc'd. */
static char *
reason_of(const Backtest *backtest, const Options *options, const Option *option)
{
	const Option *configured = &options->options[0];
	const char *level = option->reached ? "" : ", as nothing that can be written reaches the level";

	if (option == configured)
		return psprintf("what is configured served %s of %d demands with %.0f idle hours; nothing "
						"that can be written is clearly better%s%s",
						backtest_share(&option->later), option->later.demands,
						(double) option->later.idle / DEMAND_HOUR, level, beyond(backtest, option));
	return psprintf(
		"serves %s instead of %s of %d demands with %.0f instead of %.0f idle hours%s%s",
		backtest_share(&option->later), backtest_share(&configured->later), option->later.demands,
		(double) option->later.idle / DEMAND_HOUR, (double) configured->later.idle / DEMAND_HOUR,
		level, beyond(backtest, option));
}

/* Has the demand stopped? Then the least is enough. */
static const Option *
silence(Options *options, Backtest *backtest)
{
	const DemandHistory *past = &backtest->past;
	SizedPreset block;

	if (past->ndemands == 0 || backtest->settings.to - past->demands[past->ndemands - 1] < SILENCE)
		return NULL;
	block = block_of_level(backtest->preset, backtest->preset->rules.min_instances);
	add_option(options, backtest, &block);
	return &options->options[options->n - 1];
}

/* Decide what to recommend, and why: options gets all that could be written. palloc'd reason. */
static const Option *
decide(Backtest *backtest, Options *options, char **reason)
{
	const DemandHistory *past = &backtest->past;
	const Option *option;

	make_options(options, backtest);
	*reason =
		too_little(backtest, past->ndemands - demand_count_before(past->demands, past->ndemands,
																  backtest->settings.from));
	if (*reason != NULL)
		return &options->options[0];
	option = silence(options, backtest);
	if (option != NULL)
	{
		*reason = psprintf("nobody has asked since %s: the least",
						   timestamptz_to_str(past->demands[past->ndemands - 1]));
		return option;
	}
	option = choose(options);
	*reason = reason_of(backtest, options, option);
	return option;
}

/* Return what prebuild_recommend() says of a backtest: the preset as it should be. palloc'd. */
SizedPreset *
recommended_block(Backtest *backtest)
{
	Options *options = palloc_object(Options);
	SizedPreset *block = palloc_object(SizedPreset);
	char *reason;

	*block = decide(backtest, options, &reason)->block;
	return block;
}

/* Make the advice for a preset with demand, in the current context. */
static void
advise(const SizedPreset *preset, const PresetHistory *history, TimestampTz at, Advice *advice)
{
	Backtest *backtest = backtest_make(preset, history, at - BACKTEST_DAYS * DEMAND_DAY, at,
									   preset->rules.service_level);
	Options *options = palloc_object(Options);
	const Option *option = decide(backtest, options, &advice->reason);

	advice->preset = preset;
	advice->configured = block_summary(&options->options[0].block);
	advice->recommended = block_summary(&option->block);
	advice->before = options->options[0].later;
	advice->after = option->later;
	advice->terraform = block_terraform(&option->block);
}

/* Copy the texts of advice into the current context. */
static void
keep_texts(Advice *advice)
{
	advice->configured = pstrdup(advice->configured);
	advice->recommended = pstrdup(advice->recommended);
	advice->reason = pstrdup(advice->reason);
	advice->terraform = pstrdup(advice->terraform);
}

static int
missed(const Advice *advice)
{
	return advice->before.demands - advice->before.warm;
}

/* The worst first: whose configuration misses most demands, then whose waits longest in vain. */
static int
compare_advice(const void *left, const void *right)
{
	const Advice *a = left;
	const Advice *b = right;
	int64 a_saved = a->before.idle - a->after.idle;
	int64 b_saved = b->before.idle - b->after.idle;

	if (missed(a) != missed(b))
		return missed(a) > missed(b) ? -1 : 1;
	if (a_saved != b_saved)
		return a_saved > b_saved ? -1 : 1;
	/* presets are in the order of their names */
	return (a->preset > b->preset) - (a->preset < b->preset);
}

static void
put_rate(ResultRow *row, const SimulatorFigures *figures)
{
	if (figures->demands > 0)
		result_put_float8(row, simulator_hit_rate(figures));
	else
		result_put_null(row, FLOAT8OID);
}

static void
store(ReturnSetInfo *set, const Advice *advice)
{
	Interval *saved = palloc0_object(Interval);
	ResultRow row;

	saved->time = advice->before.idle - advice->after.idle;
	row.n = 0;
	result_put_text(&row, advice->preset->template_name);
	result_put_text(&row, advice->preset->name);
	result_put_text(&row, advice->configured);
	result_put_text(&row, advice->recommended);
	put_rate(&row, &advice->after);
	put_rate(&row, &advice->before);
	result_put(&row, INTERVALOID, IntervalPGetDatum(saved));
	result_put_text(&row, advice->reason);
	result_put_text(&row, advice->terraform);
	result_row_store(set, &row);
}

/* Does a history have a demand from a time on? */
static bool
has_demand(const PresetHistory *history, TimestampTz from)
{
	return history != NULL && history->past.ndemands > 0 &&
		   history->past.demands[history->past.ndemands - 1] >= from;
}

/* prebuild_recommend(at timestamptz): one row for each preset with demand */
Datum
prebuild_recommend(PG_FUNCTION_ARGS)
{
	TimestampTz at = backtest_time(fcinfo, 0, "at");
	HistoryRange range = preset_past_range(NULL, NULL, at - BACKTEST_DAYS * DEMAND_DAY, at);
	PresetHistories histories;
	SizedPresets presets;
	Advice *advice;
	MemoryContext outer;
	MemoryContext scratch;
	int n = 0;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	presets = sized_presets_active();
	histories = preset_histories_read(&range);
	advice = palloc0_array(Advice, presets.n + 1);
	outer = CurrentMemoryContext;
	scratch = AllocSetContextCreate(outer, "advice for a preset", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < presets.n; i++)
	{
		const SizedPreset *preset = &presets.presets[i];
		const PresetHistory *history =
			preset_history_find(&histories, &preset->template_id, preset->name);

		CHECK_FOR_INTERRUPTS();
		if (!has_demand(history, at - BACKTEST_DAYS * DEMAND_DAY))
			continue;
		MemoryContextSwitchTo(scratch);
		advise(preset, history, at, &advice[n]);
		MemoryContextSwitchTo(outer);
		keep_texts(&advice[n++]);
		MemoryContextReset(scratch);
	}
	qsort(advice, n, sizeof(Advice), compare_advice);
	for (int i = 0; i < n; i++)
		store((ReturnSetInfo *) fcinfo->resultinfo, &advice[i]);
	plans_leave();
	return (Datum) 0;
}
