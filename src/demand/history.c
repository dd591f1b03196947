/*
 * history.c
 *	  Read the past of demand and lead times; SQL function prebuild_demand().
 *
 *	  A reader takes the logs, and what the tables have beyond them (unlogged.c), in one snapshot. So
 *	  its answer is the same before the first pass, between two and after all. Passes themselves read
 *	  the logs alone: a pass must not read the whole table of builds, and new rows are in the logs
 *	  soon.
 *
 *	  The logs are read with the rights of the extension's owner, all else with the caller's.
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/ids.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "demand/demand_marker.h"
#include "demand/demand_table.h"
#include "demand/history.h"
#include "demand/unlogged.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(prebuild_demand);

/*
 * The demands of a range, each once. $1 to $5: unlogged demands; $6: control plane, $7: template or
 * NULL, $8: from, $9: until, $10: preset's name or NULL.
 */
#define UNLOGGED_DEMANDS                                                                           \
	"SELECT u.template_id, u.preset_name, u.at, u.warm"                                            \
	" FROM {unnest 5} u (workspace_id, template_id, preset_name, at, warm)"
#define ALL_DEMANDS                                                                                \
	"(SELECT l.template_id, l.preset_name, l.at, l.warm FROM {ext}prebuild_demand_log l"           \
	"  WHERE l.control_plane {=} $6 AND ($7 IS NULL OR l.template_id {=} $7)"                      \
	"  AND l.at {>=} $8 AND l.at {<} $9 AND ($10 IS NULL OR l.preset_name {=} $10)"                \
	" UNION ALL " UNLOGGED_DEMANDS " WHERE NOT EXISTS (SELECT FROM {ext}prebuild_demand_log k"     \
	"  WHERE k.control_plane {=} $6 AND k.workspace_id {=} u.workspace_id)) d"

#define RANGE_PARAMETERS 10
#define RANGE_TYPES                                                                                \
	UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID, TEXTOID, UUIDOID, \
		TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID

/* Set the parameters of ALL_DEMANDS. nulls: as SPI takes them, terminated. */
static void
range_parameters(const Unlogged *unlogged, const Id *template_id, const char *preset_name,
				 TimestampTz from, TimestampTz until, Datum *values, char *nulls)
{
	values[0] = array_datum(unlogged->workspaces);
	values[1] = array_datum(unlogged->templates);
	values[2] = array_datum(unlogged->presets);
	values[3] = array_datum(unlogged->times);
	values[4] = array_datum(unlogged->warm);
	values[5] = CStringGetTextDatum(setting_control_plane_schema);
	values[6] = template_id == NULL ? (Datum) 0 : id_datum(template_id);
	values[7] = TimestampTzGetDatum(from);
	values[8] = TimestampTzGetDatum(until);
	values[9] = preset_name == NULL ? (Datum) 0 : CStringGetTextDatum(preset_name);
	memset(nulls, ' ', RANGE_PARAMETERS);
	if (template_id == NULL)
		nulls[6] = 'n';
	if (preset_name == NULL)
		nulls[9] = 'n';
}

/*
 * Have statements planned for the values of their parameters until AtEOXact_GUC() with the result. A
 * plan for any template, name and range takes an index on times, and reads the demands of all.
 */
int
history_plan_for_values(void)
{
	int guc_level = NewGUCNestLevel();

	set_config_option("plan_cache_mode", "force_custom_plan", PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SAVE, true, 0, false);
	return guc_level;
}

/* Nothing unlogged. */
static Unlogged
nothing(void)
{
	return (Unlogged){ array_new(UUIDOID),		  array_new(UUIDOID), array_new(TEXTOID),
					   array_new(TIMESTAMPTZOID), array_new(BOOLOID), array_new(UUIDOID) };
}

/* Order by template and name. */
static int
compare_histories(const void *left, const void *right)
{
	const PresetHistory *a = left;
	const PresetHistory *b = right;
	int order = id_compare(&a->template_id, &b->template_id);

	return order != 0 ? order : strcmp(a->preset_name, b->preset_name);
}

/* Order lead times by template, name and time. */
static int
compare_lead_times(const void *left, const void *right)
{
	const LeadTime *a = left;
	const LeadTime *b = right;
	int order = id_compare(&a->template_id, &b->template_id);

	if (order == 0)
		order = strcmp(a->preset_name, b->preset_name);
	return order != 0 ? order : (a->built_at > b->built_at) - (a->built_at < b->built_at);
}

/*
 * Find the history of one (template, preset name). Returns NULL if neither a demand nor a build is
 * known.
 */
const PresetHistory *
preset_history_find(const PresetHistories *histories, const Id *template_id,
					const char *preset_name)
{
	const PresetHistory key = { .template_id = *template_id,
								.preset_name = unconstify(char *, preset_name) };

	return histories->n == 0 ? NULL
							 : bsearch(&key, histories->histories, histories->n,
									   sizeof(PresetHistory), compare_histories);
}

/* Read the demands as histories, sorted by template and name. */
static PresetHistories
read_demands(const HistoryRange *range, const Unlogged *unlogged)
{
	static KeptPlan plan, bare_plan;
	static const Oid argtypes[] = { RANGE_TYPES };
	Datum values[RANGE_PARAMETERS];
	char nulls[RANGE_PARAMETERS];
	DemandTable *table = demand_table_new();
	PresetDemands *presets;
	PresetHistories result = { 0 };

	range_parameters(unlogged, range->template_id, range->preset_name, range->from, range->until,
					 values, nulls);
	if (demand_log_exists())
		plan_each(&plan, "SELECT d.template_id, d.preset_name, d.at, d.warm FROM " ALL_DEMANDS,
				  PLAN_READ_OWN, RANGE_PARAMETERS, argtypes, values, nulls, demand_table_take,
				  table);
	else
		plan_each(&bare_plan, UNLOGGED_DEMANDS, PLAN_READ_OWN, 5, argtypes, values, nulls,
				  demand_table_take, table);
	presets = demand_table_sort(table, &result.n);
	result.histories = palloc_array(PresetHistory, result.n + 1);
	for (int i = 0; i < result.n; i++)
		result.histories[i] = (PresetHistory){
			.template_id = presets[i].template_id,
			.preset_name = unconstify(char *, presets[i].preset_name),
			.past = { .began = range->from, .demands = presets[i].times, .ndemands = presets[i].n },
			.warm = presets[i].warm
		};
	qsort(result.histories, result.n, sizeof(PresetHistory), compare_histories);
	return result;
}

/*
 * Add the prebuilds of the log with an outcome, and the workspaces of those without one. Returns
 * the number of them in *times, which grows.
 */
static int
read_logged(const HistoryRange *range, LeadTime **times, ArrayParameter *open)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   range->template_id == NULL ? (Datum) 0 : id_datum(range->template_id),
					   TimestampTzGetDatum(range->samples_from), TimestampTzGetDatum(range->until),
					   range->preset_name == NULL ? (Datum) 0
												  : CStringGetTextDatum(range->preset_name) };
	const char nulls[] = { ' ', range->template_id == NULL ? 'n' : ' ', ' ', ' ',
						   range->preset_name == NULL ? 'n' : ' ' };
	int kept = 0;
	uint64 n;

	if (!demand_log_exists())
		return 0;
	n = plan_execute(&plan,
					 "SELECT l.workspace_id, l.template_id, l.preset_name, l.built_at, l.outcome,"
					 " l.waiting, l.building, l.starting FROM {ext}prebuild_lead_time_log l"
					 " WHERE l.control_plane {=} $1 AND ($2 IS NULL OR l.template_id {=} $2)"
					 " AND l.built_at {>=} $3 AND l.built_at {<} $4"
					 " AND ($5 IS NULL OR l.preset_name {=} $5)",
					 PLAN_READ_OWN, 5, argtypes, values, nulls);
	*times = palloc_array(LeadTime, n + 1);
	for (uint64 i = 0; i < n; i++)
	{
		LeadTime time = lead_time_of_row(i);

		if (time.outcome == LEAD_TIME_OPEN)
			array_add_id(open, &time.workspace_id);
		else
			(*times)[kept++] = time;
	}
	SPI_freetuptable(SPI_tuptable);
	return kept;
}

/* Take measured builds in the range that are not among the first n of "times" to its end. */
static int
add_measured(const HistoryRange *range, LeadTime **times, int n, ArrayParameter *workspaces)
{
	const KnownPrebuilds none = known_prebuilds_none();
	int measured_n;
	LeadTime *measured = lead_times_measure(&none, workspaces, range->until, &measured_n);
	int known = n;

	*times = *times == NULL ? palloc_array(LeadTime, measured_n + 1)
							: repalloc(*times, (n + measured_n + 1) * sizeof(LeadTime));
	/* the logged ones by workspace, to find each measured one among them */
	qsort(*times, known, sizeof(LeadTime), id_compare);
	for (int i = 0; i < measured_n; i++)
		if (measured[i].built_at >= range->samples_from && measured[i].built_at < range->until &&
			bsearch(&measured[i].workspace_id, *times, known, sizeof(LeadTime), id_compare) == NULL)
			(*times)[n++] = measured[i];
	return n;
}

/* Merge n lead times into histories that have the demands. */
static void
add_builds(const HistoryRange *range, PresetHistories *result, LeadTime *times, int n)
{
	DemandBuild *builds = palloc_array(DemandBuild, n + 1);
	LeadTimeParts *parts = palloc_array(LeadTimeParts, n + 1);
	const PresetHistories demanded = {
		result->n, repalloc_huge(result->histories, (result->n + n + 1) * sizeof(PresetHistory))
	};
	PresetHistory *history = NULL;

	result->histories = demanded.histories;
	qsort(times, n, sizeof(LeadTime), compare_lead_times);
	for (int i = 0; i < n; i++)
	{
		const LeadTime *time = &times[i];
		double took = 0;

		if (time->outcome != LEAD_TIME_READY && time->outcome != LEAD_TIME_FAILED)
			continue;
		if (history == NULL || id_compare(&history->template_id, &time->template_id) != 0 ||
			strcmp(history->preset_name, time->preset_name) != 0)
		{
			history = unconstify(PresetHistory *, preset_history_find(&demanded, &time->template_id,
																	  time->preset_name));
			if (history == NULL)
			{
				history = &result->histories[result->n++];
				*history = (PresetHistory){ .template_id = time->template_id,
											.preset_name = time->preset_name,
											.past = { .began = range->from } };
			}
			history->past.builds = builds + i;
			history->parts = parts + i;
		}
		for (int part = 0; part < LEAD_TIME_PARTS; part++)
			took += time->parts[part];
		/* canceled ones leave gaps in front of the next preset's only */
		memcpy(history->parts[history->past.nbuilds].seconds, time->parts, sizeof(time->parts));
		unconstify(DemandBuild *, history->past.builds)[history->past.nbuilds++] =
			(DemandBuild){ time->built_at, (int64_t) rint(took * USECS_PER_SEC),
						   time->outcome == LEAD_TIME_FAILED };
	}
	qsort(result->histories, result->n, sizeof(PresetHistory), compare_histories);
}

/*
 * Read the past in the active snapshot, in a constant number of statements. Raises what reading the
 * tables raises. SPI must be connected. The result is palloc'd in the current context. Lead times
 * that are not known yet, and those of builds that were canceled, are not in it.
 */
PresetHistories
preset_histories_read(const HistoryRange *range)
{
	Unlogged unlogged = range->source == HISTORY_EXACT ||
								(range->source == HISTORY_MEASURED && !demand_log_is_complete())
							? unlogged_read(range->template_id, range->preset_name, range->from,
											range->until, range->samples_from - USECS_PER_DAY)
							: nothing();
	int guc_level = history_plan_for_values();
	PresetHistories result = read_demands(range, &unlogged);
	LeadTime *times = NULL;
	int n = read_logged(range, &times, unlogged.prebuilds);

	AtEOXact_GUC(true, guc_level);
	if (range->source != HISTORY_LOGGED)
		n = add_measured(range, &times, n, unlogged.prebuilds);
	if (n > 0)
		add_builds(range, &result, times, n);
	return result;
}

/* Raise undefined_object for a template that does not exist. SPI must be connected. */
void
demand_require_template(const Id *template_id)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID };
	Datum values[] = { id_datum(template_id) };

	if (plan_execute(&plan, "SELECT FROM {cp}templates t WHERE t.id {=} $1", PLAN_READ, 1, argtypes,
					 values, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("template %s does not exist",
							   DatumGetCString(DirectFunctionCall1(uuid_out, values[0]))),
						errhint("Templates are the rows of table templates in schema \"%s\".",
								setting_control_plane_schema)));
	SPI_freetuptable(SPI_tuptable);
}

/* About 270,000 years. The server cannot divide time into buckets that are much longer. */
#define LONGEST_BUCKET_DAYS 100000000

/* The arguments of prebuild_demand(). */
typedef struct DemandArguments
{
	TimestampTz from;
	TimestampTz until;
	Datum bucket;
	const Id *template_id; /* NULL: all */
} DemandArguments;

/* Raise an error unless the bucket is longer than 0, has no months, and is one that date_bin() takes. */
static void
check_bucket(FunctionCallInfo fcinfo)
{
	const Interval nothing_at_all = { 0 };
	const Interval longest = { .day = LONGEST_BUCKET_DAYS };
	const Interval *bucket;

	argument_require(fcinfo, 2, "bucket");
	bucket = PG_GETARG_INTERVAL_P(2);
	if (bucket->month != 0 ||
		!DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(bucket),
										  IntervalPGetDatum(&nothing_at_all))))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"bucket\" must be longer than 0 and without months, not "
					"\"%s\"",
					DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(bucket)))),
			 errhint("Months differ in length. Use days, hours or minutes.")));
	if (abs(bucket->day) > LONGEST_BUCKET_DAYS ||
		DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(bucket),
										 IntervalPGetDatum(&longest))))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"bucket\" must be at most %d days, not \"%s\"",
							   LONGEST_BUCKET_DAYS,
							   DatumGetCString(
								   DirectFunctionCall1(interval_out, IntervalPGetDatum(bucket))))));
}

/* Read and check the arguments of prebuild_demand(). */
static DemandArguments
read_arguments(FunctionCallInfo fcinfo)
{
	DemandArguments arguments = { .from = argument_time(fcinfo, 0, "range_start"),
								  .until = argument_time(fcinfo, 1, "range_end") };

	if (arguments.until < arguments.from)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"range_end\" (%s) must not be before \"range_start\" (%s)",
						pstrdup(timestamptz_to_str(arguments.until)),
						pstrdup(timestamptz_to_str(arguments.from)))));
	check_bucket(fcinfo);
	arguments.bucket = PG_GETARG_DATUM(2);
	if (!PG_ARGISNULL(3))
		arguments.template_id = (const Id *) PG_GETARG_UUID_P(3);
	return arguments;
}

/* Count the demands by bucket. Returns columns for unnest(): template, preset, bucket, warm, cold. */
static void
count_demands(const DemandArguments *arguments, const Unlogged *unlogged, ArrayParameter **columns)
{
	static KeptPlan plan, bare_plan;
	static const Oid argtypes[] = { RANGE_TYPES, INTERVALOID };
	Datum values[RANGE_PARAMETERS + 1];
	char nulls[RANGE_PARAMETERS + 1];
	uint64 n;

#define COUNTED                                                                                    \
	"SELECT d.template_id, d.preset_name, pg_catalog.date_bin($11, d.at, $8) AS starts_at,"        \
	" pg_catalog.count(*) FILTER (WHERE d.warm), pg_catalog.count(*) FILTER (WHERE NOT d.warm)"    \
	" FROM "
	range_parameters(unlogged, arguments->template_id, NULL, arguments->from, arguments->until,
					 values, nulls);
	values[RANGE_PARAMETERS] = arguments->bucket;
	nulls[RANGE_PARAMETERS] = ' ';
	n = demand_log_exists()
			? plan_execute(&plan, COUNTED ALL_DEMANDS " GROUP BY 1, 2, 3", PLAN_READ_OWN,
						   RANGE_PARAMETERS + 1, argtypes, values, nulls)
			: plan_execute(&bare_plan,
						   COUNTED "(" UNLOGGED_DEMANDS " WHERE $6 IS NOT NULL OR $7 IS NOT NULL"
								   " OR $9 IS NOT NULL) d GROUP BY 1, 2, 3",
						   PLAN_READ_OWN, RANGE_PARAMETERS + 1, argtypes, values, nulls);
	for (uint64 i = 0; i < n; i++)
	{
		Id template_id = row_id(i, 1);

		array_add_id(columns[0], &template_id);
		array_add_text(columns[1], row_text(i, 2));
		array_add(columns[2], row_get(i, 3));
		array_add(columns[3], row_get(i, 4));
		array_add(columns[4], row_get(i, 5));
	}
	SPI_freetuptable(SPI_tuptable);
#undef COUNTED
}

/*
 * prebuild_demand(range_start timestamptz, range_end timestamptz, bucket interval, template_id
 * uuid): demands by template, preset name and bucket
 */
Datum
prebuild_demand(PG_FUNCTION_ARGS)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
									INT8ARRAYOID };
	DemandArguments arguments = read_arguments(fcinfo);
	ArrayParameter *columns[5];
	Datum values[lengthof(columns)];
	Unlogged unlogged;
	int guc_level;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	control_plane_require();
	if (arguments.template_id != NULL)
		demand_require_template(arguments.template_id);
	unlogged =
		unlogged_read(arguments.template_id, NULL, arguments.from, arguments.until, DT_NOEND);
	columns[0] = array_new(UUIDOID);
	columns[1] = array_new(TEXTOID);
	columns[2] = array_new(TIMESTAMPTZOID);
	columns[3] = array_new(INT8OID);
	columns[4] = array_new(INT8OID);
	guc_level = history_plan_for_values();
	count_demands(&arguments, &unlogged, columns);
	AtEOXact_GUC(true, guc_level);
	for (size_t i = 0; i < lengthof(columns); i++)
		values[i] = array_datum(columns[i]);
	result_store_rows((ReturnSetInfo *) fcinfo->resultinfo,
					  plan_execute(&plan,
								   "SELECT d.template_id, t.name::pg_catalog.text, d.preset_name,"
								   " d.starts_at, d.warm, d.cold"
								   " FROM {unnest 5} d (template_id, preset_name, starts_at, warm,"
								   "  cold)"
								   " LEFT JOIN {cp}templates t ON t.id {=} d.template_id"
								   " ORDER BY t.name, d.template_id, d.preset_name, d.starts_at",
								   PLAN_READ, lengthof(columns), argtypes, values, NULL));
	plans_leave();
	return (Datum) 0;
}
