/*
 * replay.c
 *	  SQL function prebuild_replay(): what a policy of a backtest would have done, hour by hour.
 *
 *	  The backtest is made first, as prebuild_backtest() makes it. Then the one policy is simulated
 *	  again, by the same code over the same time, and the simulator records each bucket of it. So the
 *	  buckets that count add up to the policy's row of prebuild_backtest().
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "catalog/control_plane_catalog.h"
#include "demand/backtest.h"
#include "demand/recommend.h"

PG_FUNCTION_INFO_V1(prebuild_replay);

/* Most buckets of an answer. It bounds its memory. */
#define BUCKETS_MOST 100000

/* The names of what is simulated that is no candidate of the choice. */
#define RECOMMENDED "recommended"
#define HINDSIGHT "hindsight"

/* Who asked, and how many found a prebuild, in a bucket: as it really was. */
typedef struct Asked
{
	int warm;
	int cold;
} Asked;

/* A policy to simulate: on this past, from a time on. */
typedef struct Replay
{
	const char *name;
	Policy policy;
	DemandHistory past;
	TimestampTz from;
} Replay;

/* Return the names of what a backtest can replay, as the list of a hint. palloc'd. */
static char *
names_of(const Backtest *backtest)
{
	const ChoiceResult *result = &backtest->result;
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < result->ncandidates; i++)
		appendStringInfo(&names, "\"%s\", ", backtest_policy_name(&result->candidates[i].policy));
	appendStringInfoString(&names, "\"" RECOMMENDED "\"");
	if (result->ncandidates > 1)
		appendStringInfoString(&names, ", \"" HINDSIGHT "\"");
	return names.data;
}

/* Find the policy with a name, or the one that was chosen (NULL). Raises an error if there is none. */
static Replay
find_policy(Backtest *backtest, const char *name)
{
	const ChoiceResult *result = &backtest->result;
	Replay replay = { .past = backtest->past, .from = result->from };

	for (int i = 0; i < result->ncandidates; i++)
	{
		replay.name = backtest_policy_name(&result->candidates[i].policy);
		replay.policy = result->candidates[i].policy;
		if (name == NULL ? i == result->chosen : strcmp(name, replay.name) == 0)
			return replay;
	}
	/* the one that was chosen is a candidate */
	Assert(name != NULL);
	replay.name = name;
	if (strcmp(name, RECOMMENDED) == 0)
	{
		replay.policy = (Policy){ .kind = POLICY_CONFIGURED };
		preset_past_configure(&replay.past, recommended_block(backtest),
							  Min(replay.past.began, backtest->settings.from),
							  backtest->settings.to + DEMAND_DAY);
	}
	else if (strcmp(name, HINDSIGHT) == 0 && result->ncandidates > 1)
	{
		replay.policy = (Policy){ .kind = POLICY_WEEK, .week = &result->bound.week };
		replay.from = result->split;
	}
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("this backtest has no policy \"%s\"", name),
						errhint("It has %s.", names_of(backtest))));
	return replay;
}

/*
 * Read the argument bucket, in microseconds: days have 24 hours. Raises an error unless it is longer
 * than 0, without months, and makes few enough buckets of the range.
 */
static int64
bucket_length(FunctionCallInfo fcinfo, int number, TimestampTz from, TimestampTz to)
{
	const Interval *bucket;
	int64 length;

	argument_require(fcinfo, number, "bucket");
	bucket = PG_GETARG_INTERVAL_P(number);
	/* longer ones are as good as the whole range */
	length =
		Min(Max(bucket->time, -BACKTEST_DAYS_MOST * DEMAND_DAY), BACKTEST_DAYS_MOST * DEMAND_DAY) +
		Min(Max(bucket->day, -BACKTEST_DAYS_MOST), BACKTEST_DAYS_MOST) * DEMAND_DAY;
	if (bucket->month != 0 || length <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"bucket\" must be longer than 0 and without months, not \"%s\"",
					DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(bucket)))),
			 errhint("Months differ in length. Use days, hours or minutes.")));
	if ((to - from) / length >= BUCKETS_MOST)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("a replay has at most %d buckets, but the range has " INT64_FORMAT " of \"%s\"",
					BUCKETS_MOST, (int64) ((to - from) / length),
					DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(bucket)))),
			 errhint("Use a longer bucket or a shorter range.")));
	return length;
}

/*
 * Cut the simulated time into buckets that begin at multiples of their length after the start of the
 * range, and where the later part begins. palloc'd.
 */
static SimulatorSeries *
make_series(const Replay *replay, const Backtest *backtest, int64 length)
{
	const ChoiceSettings *settings = &backtest->settings;
	TimestampTz split = backtest->result.split;
	SimulatorSeries *series = palloc0_object(SimulatorSeries);
	TimestampTz starts = replay->from;

	series->buckets = palloc0_array(SimulatorBucket, (settings->to - settings->from) / length + 3);
	while (starts < settings->to)
	{
		TimestampTz next = settings->from + ((starts - settings->from) / length + 1) * length;

		series->buckets[series->n++].starts = starts;
		starts = starts < split && split < next ? split : next;
	}
	return series;
}

/* Count the real demands of each bucket. palloc'd. */
static Asked *
count_asked(const SimulatorSeries *series, const DemandHistory *past, const bool *warm)
{
	Asked *asked = palloc0_array(Asked, series->n);
	int bucket = 0;

	for (int i = demand_count_before(past->demands, past->ndemands, series->buckets[0].starts);
		 i < past->ndemands; i++)
	{
		while (bucket + 1 < series->n && series->buckets[bucket + 1].starts <= past->demands[i])
			bucket++;
		if (warm[i])
			asked[bucket].warm++;
		else
			asked[bucket].cold++;
	}
	return asked;
}

/* Return the most that is configured in a part of the time. */
static int
most_configured(const DemandHistory *past, int64_t from, int64_t to)
{
	int64_t most = 0;

	for (int64_t at = from; at < to;
		 at = demand_step_until(past->configured, past->nconfigured, at))
		most = Max(most, demand_step_value(past->configured, past->nconfigured, at, 0));
	return (int) most;
}

/* Store a row of the result. */
static void
store(ReturnSetInfo *set, const Backtest *backtest, const Replay *replay,
	  const SimulatorBucket *bucket, TimestampTz ends, const Asked *asked)
{
	Interval *idle = palloc0_object(Interval);
	ResultRow row;

	idle->time = bucket->idle;
	row.n = 0;
	result_put_time(&row, bucket->starts);
	result_put_time(&row, ends);
	result_put_text(&row, replay->name);
	result_put_bool(&row, bucket->starts >= backtest->result.split);
	result_put_int4(&row, asked->warm);
	result_put_int4(&row, asked->cold);
	result_put_int4(&row, most_configured(&backtest->past, bucket->starts, ends));
	result_put_int4(&row, bucket->target);
	result_put_float8(&row, (double) bucket->idle / (double) (ends - bucket->starts));
	result_put_int4(&row, bucket->demands - bucket->warm);
	result_put(&row, INTERVALOID, IntervalPGetDatum(idle));
	result_put_int4(&row, bucket->created);
	result_put_int4(&row, bucket->deleted);
	result_put_int4(&row, bucket->peak);
	result_row_store(set, &row);
	pfree(idle);
}

/* Simulate a policy of a backtest again, and store its buckets. */
static void
replay_policy(ReturnSetInfo *set, Backtest *backtest, const PresetHistory *history,
			  const Replay *replay, int64 length)
{
	ChoiceSettings settings = backtest->settings;
	SimulatorSeries *series = make_series(replay, backtest, length);
	SimulatorResult figures;
	Asked *asked;

	settings.series = series;
	choice_simulate(&replay->past, &settings, replay->from, backtest->result.split, &replay->policy,
					&backtest->room, &figures);
	asked = count_asked(series, &backtest->past, history == NULL ? NULL : history->warm);
	for (int i = 0; i < series->n; i++)
		store(set, backtest, replay, &series->buckets[i],
			  i + 1 < series->n ? series->buckets[i + 1].starts : settings.to, &asked[i]);
}

/*
 * prebuild_replay(template_id uuid, preset_name text, range_start timestamptz, range_end timestamptz,
 * policy text, bucket interval, service_level float8): what a policy would have done, by time
 */
Datum
prebuild_replay(PG_FUNCTION_ARGS)
{
	const Id *template_id;
	const SizedPreset *preset;
	const PresetHistory *history;
	TimestampTz from = backtest_time(fcinfo, 2, "range_start");
	TimestampTz to = backtest_time(fcinfo, 3, "range_end");
	char *policy = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	char *name;
	int64 length;
	HistoryRange range;
	PresetHistories histories;
	Backtest *backtest;
	Replay replay;

	argument_require(fcinfo, 0, "template_id");
	argument_require(fcinfo, 1, "preset_name");
	backtest_check_range(from, to);
	length = bucket_length(fcinfo, 5, from, to);
	template_id = (const Id *) PG_GETARG_UUID_P(0);
	name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	demand_require_template(template_id);
	preset = sized_preset_by_name(template_id, name);
	range = preset_past_range(template_id, name, from, to);
	histories = preset_histories_read(&range);
	history = preset_history_find(&histories, template_id, name);
	backtest = backtest_make(preset, history, from, to, backtest_service_level(fcinfo, 6, preset));
	replay = find_policy(backtest, policy);
	replay_policy((ReturnSetInfo *) fcinfo->resultinfo, backtest, history, &replay, length);
	plans_leave();
	return (Datum) 0;
}
