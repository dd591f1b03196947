/*
 * lead_time.c
 *	  SQL function prebuild_lead_time(): how long prebuilds of a template's presets of one name have
 *	  taken lately.
 *
 *	  Its cost follows the prebuilds of the template in the 14 days, once passes have read the builds:
 *	  it reads the log and measures what has no outcome there yet. Before that it reads the tables.
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "demand/demand_marker.h"
#include "demand/history.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(prebuild_lead_time);

/* How far back to look, in days. */
#define WINDOW_DAYS 14

/* Fewer samples than this say nothing. */
#define FEWEST_SAMPLES 5

/* Builds, gathered over histories. */
typedef struct Samples
{
	int n; /* those that became ready */
	int failed;
	double *parts[LEAD_TIME_PARTS + 1]; /* the last one: in all */
} Samples;

/* Gather the samples of the histories, or only of those with a preset's name. */
static Samples
gather(const PresetHistories *histories, const char *preset_name)
{
	Samples samples = { 0 };
	int most = 0;

	for (int i = 0; i < histories->n; i++)
		most += histories->histories[i].past.nbuilds;
	for (int part = 0; part <= LEAD_TIME_PARTS; part++)
		samples.parts[part] = palloc_array(double, most + 1);
	for (int i = 0; i < histories->n; i++)
	{
		const PresetHistory *history = &histories->histories[i];

		if (preset_name != NULL && strcmp(history->preset_name, preset_name) != 0)
			continue;
		for (int s = 0; s < history->past.nbuilds; s++)
		{
			double total = 0;

			if (history->past.builds[s].failed)
			{
				samples.failed++;
				continue;
			}
			for (int part = 0; part < LEAD_TIME_PARTS; part++)
			{
				samples.parts[part][samples.n] = history->parts[s].seconds[part];
				total += history->parts[s].seconds[part];
			}
			samples.parts[LEAD_TIME_PARTS][samples.n++] = total;
		}
	}
	return samples;
}

static int
compare_seconds(const void *left, const void *right)
{
	double a = *(const double *) left;
	double b = *(const double *) right;

	return (a > b) - (a < b);
}

/* The quantile of n > 0 sorted numbers, as percentile_cont() has it. */
static double
quantile(const double *sorted, int n, double fraction)
{
	double position = fraction * (n - 1);
	int below = (int) position;
	int above = Min(below + 1, n - 1);

	return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

static void
put_seconds(ResultRow *row, double seconds)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) rint(seconds * USECS_PER_SEC);
	result_put(row, INTERVALOID, IntervalPGetDatum(interval));
}

/* Put the result row together. samples: those that the source has. */
static void
put_row(ResultRow *row, const char *source, Samples *samples)
{
	bool has_samples = strcmp(source, "default") != 0;
	int known = samples->n + samples->failed;

	row->n = 0;
	result_put_text(row, source);
	result_put_int4(row, has_samples ? samples->n : 0);
	if (known > 0)
		result_put_float8(row, (double) samples->failed / known);
	else
		result_put_null(row, FLOAT8OID);
	for (int part = 0; part <= LEAD_TIME_PARTS; part++)
	{
		qsort(samples->parts[part], samples->n, sizeof(double), compare_seconds);
		for (int i = 0; i < 2; i++)
			if (has_samples)
				put_seconds(row, quantile(samples->parts[part], samples->n, i == 0 ? 0.5 : 0.9));
			else if (part == LEAD_TIME_PARTS)
				put_seconds(row, setting_default_lead_time);
			else
				result_put_null(row, INTERVALOID);
	}
}

/* Raise undefined_object for a name that no preset in any version of the template has. */
static void
require_preset(const Id *template_id, const char *preset_name)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, TEXTOID };
	Datum values[] = { id_datum(template_id), CStringGetTextDatum(preset_name) };

	if (plan_execute(&plan,
					 "SELECT FROM {cp}template_version_presets p"
					 " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
					 " WHERE v.template_id {=} $1 AND p.name::pg_catalog.text {=} $2 LIMIT 1",
					 PLAN_READ, 2, argtypes, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no version of template %s has a preset \"%s\"",
						DatumGetCString(DirectFunctionCall1(uuid_out, values[0])), preset_name)));
	SPI_freetuptable(SPI_tuptable);
}

/* prebuild_lead_time(template_id uuid, preset_name text, at timestamptz): one row */
Datum
prebuild_lead_time(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz at = argument_time(fcinfo, 2, "at");
	HistoryRange range = { .source = HISTORY_MEASURED,
						   .from = at,
						   .samples_from = at - WINDOW_DAYS * USECS_PER_DAY,
						   .until = at };
	PresetHistories histories;
	const char *source = "preset";
	char *preset_name;
	Samples samples;
	ResultRow row;
	Datum result;

	argument_require(fcinfo, 0, "template_id");
	argument_require(fcinfo, 1, "preset_name");
	range.template_id = (const Id *) PG_GETARG_UUID_P(0);
	preset_name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	plans_enter(fcinfo);
	control_plane_require();
	demand_require_template(range.template_id);
	require_preset(range.template_id, preset_name);
	histories = preset_histories_read(&range);
	samples = gather(&histories, preset_name);
	if (samples.n < FEWEST_SAMPLES)
	{
		source = "template";
		samples = gather(&histories, NULL);
	}
	put_row(&row, samples.n < FEWEST_SAMPLES ? "default" : source, &samples);
	/* the result outlives SPI's memory */
	MemoryContextSwitchTo(caller);
	result = result_row_datum(fcinfo, &row);
	plans_leave();
	return result;
}
