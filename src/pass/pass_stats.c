/*
 * pass_stats.c
 *	  Statistics of the durations of passes: number, sum and histogram, in the one row of
 *	  prebuild_pass_stats.
 *
 *	  A pass counts itself in its own transaction, so that a rollback also undoes the count. Nobody
 *	  waits for the row, because a pass holds the reconcilers' lock until it commits.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"

#include "pass/pass_stats.h"
#include "base/plans.h"
#include "base/rows.h"

/* Upper bounds of the buckets, in seconds. One more bucket counts longer passes. */
static const double bounds[] = { 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 };

/* Count a pass that took this long. SPI is connected. */
void
pass_stats_add(int64 microseconds)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { FLOAT8OID, INT4OID, INT8ARRAYOID };
	double seconds = (double) microseconds / USECS_PER_SEC;
	ArrayParameter *first = array_new(INT8OID);
	Datum values[3];
	size_t bucket = 0;

	while (bucket < lengthof(bounds) && seconds > bounds[bucket])
		bucket++;
	for (size_t i = 0; i <= lengthof(bounds); i++)
		array_add(first, Int64GetDatum(i == bucket));
	values[0] = Float8GetDatum(seconds);
	values[1] = Int32GetDatum((int32) bucket + 1);
	values[2] = array_datum(first);
	plan_execute(&plan,
				 "INSERT INTO {ext}prebuild_pass_stats AS s (passes, seconds, buckets)"
				 " VALUES (1, $1, $3)"
				 " ON CONFLICT (only_row) DO UPDATE SET passes = s.passes {+} 1,"
				 "  seconds = s.seconds {+} $1, buckets[$2] = s.buckets[$2] {+} 1",
				 PLAN_FRESH_OWN, 3, argtypes, values, NULL);
}

/*
 * Leave the histogram in SPI_tuptable, as rows of prebuild_metrics, and return their number, which
 * is 0 before the first pass. name, help: of the metric. SPI is connected.
 */
uint64
pass_stats_metrics(const char *name, const char *help)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { FLOAT8ARRAYOID, TEXTOID, TEXTOID };
	ArrayParameter *upper = array_new(FLOAT8OID);
	Datum values[3];

	for (size_t i = 0; i < lengthof(bounds); i++)
		array_add(upper, Float8GetDatum(bounds[i]));
	values[0] = array_datum(upper);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(help);
	return plan_execute(
		&plan,
		"SELECT m.name, m.labels, m.value, 'histogram'::pg_catalog.text, $3::pg_catalog.text"
		" FROM {ext}prebuild_pass_stats s, LATERAL ("
		"  SELECT $2 {||} '_bucket', pg_catalog.jsonb_build_object('le',"
		"    COALESCE(b.bound::pg_catalog.text, '+Inf')),"
		"   (pg_catalog.sum(b.passes) OVER (ORDER BY b.position))::pg_catalog.float8"
		"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest(s.buckets))"
		"   WITH ORDINALITY b (bound, passes, position)"
		"  UNION ALL"
		"  SELECT $2 {||} '_sum', '{}'::pg_catalog.jsonb, s.seconds"
		"  UNION ALL"
		"  SELECT $2 {||} '_count', '{}'::pg_catalog.jsonb, s.passes::pg_catalog.float8)"
		"  m (name, labels, value)",
		PLAN_READ_OWN, 3, argtypes, values, NULL);
}
