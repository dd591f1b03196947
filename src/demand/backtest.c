/*
 * backtest.c
 *	  Backtest the policies on what the database knows of a preset; SQL function
 *	  prebuild_backtest().
 *
 *	  It reads and simulates, and writes nothing: it needs no attached control plane, no preloaded
 *	  library, no pass, and runs on a hot standby. Its answer is the same before the first pass and
 *	  after, because preset_histories_read() takes from the tables what the logs do not have.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "catalog/control_plane_catalog.h"
#include "demand/auto_target.h"
#include "demand/backtest.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(prebuild_backtest);

/* Return the highest of the steps' values. */
static int
highest_step(const DemandHistory *past)
{
	int64_t highest = 0;

	for (int i = 0; i < past->nconfigured; i++)
		highest = Max(highest, past->configured[i].value);
	return (int) highest;
}

/* Allocate the room that policies and simulator work in. */
static void
make_room(Backtest *backtest, TimestampTz from, TimestampTz to)
{
	ChoiceRoom *room = &backtest->room;

	/* a pattern for each week, so that no policy learns one twice */
	room->memo.npatterns = Max(CHOICE_PATTERNS, (int) ((to - from) / DEMAND_WEEK) + 2);
	room->memo.patterns = palloc_array(PolicyPattern, room->memo.npatterns);
	room->pool.size =
		Max(backtest->settings.policy.max_instances, highest_step(&backtest->past)) + 1;
	room->pool.ready = palloc_array(int64_t, room->pool.size);
	room->pool.builds = palloc_array(SimulatorBuild, room->pool.size);
	policy_memo_init(&room->memo, room->memo.patterns, room->memo.npatterns);
}

/* Let a long simulation be canceled. It holds nothing but memory. */
static void
take_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/*
 * Make a backtest of a preset over a range: all policies, and the choice. history: what the database
 * knows of its demand, or NULL. from < to, at most BACKTEST_DAYS_MOST apart. The result is palloc'd
 * in the current context.
 */
Backtest *
backtest_make(const SizedPreset *preset, const PresetHistory *history, TimestampTz from,
			  TimestampTz to, double service_level)
{
	Backtest *backtest = palloc0_object(Backtest);

	backtest->preset = preset;
	backtest->past = preset_past(preset, history, from, to);
	backtest->settings =
		(ChoiceSettings){ .from = from,
						  .to = to,
						  .service_level = service_level,
						  .policy = sizing_policy_settings(&preset->rules),
						  /* the worker also runs a pass when something happens */
						  .prompt = setting_reconcile_interval > 0,
						  .expire_after = Max(preset->invalidate_after_secs, 0) * DEMAND_SECOND,
						  .max_creates = setting_max_creates_per_pass,
						  .pause = take_interrupts };
	make_room(backtest, from, to);
	choice_make(&backtest->past, &backtest->settings, &backtest->room, &backtest->result);
	return backtest;
}

/* Simulate one more policy on the same range, with another past if something else is configured. */
void
backtest_simulate(Backtest *backtest, const DemandHistory *past, const Policy *policy,
				  SimulatorResult *result)
{
	choice_simulate(past, &backtest->settings, backtest->result.from, backtest->result.split,
					policy, &backtest->room, result);
}

/* Return what people call a policy, palloc'd. */
char *
backtest_policy_name(const Policy *policy)
{
	switch (policy->kind)
	{
		case POLICY_CONFIGURED:
			return pstrdup("configured");
		case POLICY_FIXED:
			return psprintf("fixed %d", policy->level);
		case POLICY_SCHEDULE:
			return psprintf("schedule %.4g", policy->aim);
		case POLICY_FORECAST:
			return psprintf("forecast %.4g", policy->price);
		case POLICY_WEEK:
			break;
	}
	return pstrdup("advice");
}

/* Return a hit rate as a percentage, palloc'd. */
char *
backtest_share(const SimulatorFigures *figures)
{
	return psprintf("%.1f %%", 100 * simulator_hit_rate(figures));
}

/*
 * Return a time argument, as argument_clock() does. Also raises datetime_value_out_of_range for a time
 * with too little before it.
 */
TimestampTz
backtest_time(FunctionCallInfo fcinfo, int number, const char *name)
{
	TimestampTz at = argument_clock(fcinfo, number, name);

	if (at < MIN_TIMESTAMP + 2 * BACKTEST_DAYS * DEMAND_DAY)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"%s\" is too early: %s", name, timestamptz_to_str(at))));
	return at;
}

/* Return the service level of an argument or, if that is NULL, of a preset's rules. */
double
backtest_service_level(FunctionCallInfo fcinfo, int number, const SizedPreset *preset)
{
	double level;

	if (PG_ARGISNULL(number))
		return preset->rules.service_level;
	level = PG_GETARG_FLOAT8(number);
	/* NaN is not, either */
	if (!(level > 0 && level < 1))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"service_level\" must be above 0 and below 1, not %g", level),
			 errhint("It is the share of demands that should find a prebuild: 0.99 is 99 %%.")));
	return level;
}

/* Say how the choice came out. palloc'd. */
char *
backtest_choice_note(const Backtest *backtest)
{
	const ChoiceResult *result = &backtest->result;
	const ChoiceCandidate *chosen = &result->candidates[result->chosen];
	const DemandHistory *past = &backtest->past;
	int demands = past->ndemands -
				  demand_count_before(past->demands, past->ndemands, backtest->settings.from);

	switch (result->note)
	{
		case CHOICE_TOO_FEW:
			return psprintf("%d demands in the range; a choice needs %d", demands,
							CHOICE_DEMANDS_MIN);
		case CHOICE_TOO_SHORT:
			return psprintf("the history in the range is shorter than the %d days that a choice "
							"needs",
							(int) (CHOICE_SPAN_MIN / DEMAND_DAY));
		case CHOICE_KEPT:
			return pstrdup("nothing is better by more than 5 %");
		case CHOICE_BEST_EFFORT:
			return psprintf(
				"nothing reached %g %% before %s at its worth; this gives most for what "
				"it takes (%s)",
				100 * backtest->settings.service_level, timestamptz_to_str(result->split),
				backtest_share(&chosen->earlier));
		case CHOICE_MADE:
			break;
	}
	return psprintf("least idle time of those that reached %g %% before %s",
					100 * backtest->settings.service_level, timestamptz_to_str(result->split));
}

/* Say what became of a policy that was not chosen. palloc'd, or NULL. */
static char *
candidate_note(const Backtest *backtest, const ChoiceCandidate *candidate)
{
	if (candidate->too_dear)
		return psprintf("reached the level at more than it is worth: %d idle hours a demand",
						(int) (CHOICE_WORTH / DEMAND_HOUR));
	if (!candidate->reached)
		return psprintf("served %s before %s, less than %g %%", backtest_share(&candidate->earlier),
						timestamptz_to_str(backtest->result.split),
						100 * backtest->settings.service_level);
	return NULL;
}

static void
put_span(ResultRow *row, int64 microseconds)
{
	Interval *interval = palloc0_object(Interval);

	interval->time = microseconds;
	result_put(row, INTERVALOID, IntervalPGetDatum(interval));
}

/* Store a row of the result. */
static void
store(ReturnSetInfo *set, const char *policy, bool chosen, const SimulatorFigures *figures,
	  const char *note)
{
	ResultRow row;

	row.n = 0;
	result_put_text(&row, policy);
	result_put_bool(&row, chosen);
	result_put_int4(&row, figures->demands);
	result_put_int4(&row, figures->warm);
	if (figures->demands > 0)
		result_put_float8(&row, simulator_hit_rate(figures));
	else
		result_put_null(&row, FLOAT8OID);
	put_span(&row, figures->idle);
	result_put_int4(&row, figures->created);
	result_put_int4(&row, figures->deleted);
	result_put_int4(&row, figures->peak);
	result_put_text(&row, note);
	result_row_store(set, &row);
}

/* Store the rows of a backtest: the candidates, what could be written down, the bound. */
static void
store_rows(ReturnSetInfo *set, const Backtest *backtest)
{
	const ChoiceResult *result = &backtest->result;

	for (int i = 0; i < result->ncandidates; i++)
	{
		const ChoiceCandidate *candidate = &result->candidates[i];
		bool chosen = i == result->chosen;
		char *note = chosen ? backtest_choice_note(backtest) : candidate_note(backtest, candidate);

		if (i == 0 && !backtest->preset->configured)
			note = psprintf("the active version has no such preset; %s", note != NULL ? note : "");
		store(set, backtest_policy_name(&candidate->policy), chosen, &candidate->later, note);
	}
	if (result->ncandidates == 1)
		return;
	store(set, "hindsight", false, &result->bound.later,
		  result->bound.reached ? "the cheapest weekly schedule, for somebody who knew the future"
								: "no weekly schedule reaches the level, even in hindsight");
}

/* Raise an error unless a range is one that a backtest takes. */
void
backtest_check_range(TimestampTz from, TimestampTz to)
{
	if (to <= from)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"range_end\" (%s) must be after \"range_start\" (%s)",
						pstrdup(timestamptz_to_str(to)), pstrdup(timestamptz_to_str(from)))));
	if (to - from > BACKTEST_DAYS_MOST * DEMAND_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a backtest is over at most %d days", BACKTEST_DAYS_MOST),
				 errhint("Policies learn from a few months; %d days are usual.", BACKTEST_DAYS)));
}

/*
 * prebuild_backtest(template_id uuid, preset_name text, range_start timestamptz, range_end
 * timestamptz, service_level float8): what each policy would have given
 */
Datum
prebuild_backtest(PG_FUNCTION_ARGS)
{
	const Id *template_id;
	const SizedPreset *preset;
	char *name;
	TimestampTz from = backtest_time(fcinfo, 2, "range_start");
	TimestampTz to = backtest_time(fcinfo, 3, "range_end");
	double service_level;
	HistoryRange range;
	PresetHistories histories;

	argument_require(fcinfo, 0, "template_id");
	argument_require(fcinfo, 1, "preset_name");
	backtest_check_range(from, to);
	template_id = (const Id *) PG_GETARG_UUID_P(0);
	name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	demand_require_template(template_id);
	preset = sized_preset_by_name(template_id, name);
	service_level = backtest_service_level(fcinfo, 4, preset);
	range = preset_past_range(template_id, name, from, to);
	histories = preset_histories_read(&range);
	store_rows((ReturnSetInfo *) fcinfo->resultinfo,
			   backtest_make(preset, preset_history_find(&histories, template_id, name), from, to,
							 service_level));
	plans_leave();
	return (Datum) 0;
}
