/*
 * provisioners.c
 *	  The provisioner daemons that live: how many there are, and what they could build.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/provisioner_daemons.h"
#include "decision/control_plane.h"
#include "decision/provisioners.h"

/*
 * Count the daemons that are alive at a time, in the active snapshot. SPI must be connected. Raises
 * what reading the table raises.
 */
int64
provisioners_alive(TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIMESTAMPTZOID };
	Datum values[] = { TimestampTzGetDatum(at) };
	int64 alive;

	plan_execute(&plan,
				 "SELECT pg_catalog.count(*) FROM {cp}provisioner_daemons pd"
				 " WHERE " DAEMON_LIVES("$1"),
				 PLAN_READ, 1, argtypes, values, NULL);
	alive = DatumGetInt64(row_get(0, 1));
	SPI_freetuptable(SPI_tuptable);
	return alive;
}

/* True for a preset that could be built, if the policy allows to build it without a daemon. */
static bool
needs_daemon(const Preset *preset)
{
	return preset->policy.require_provisioner && preset->check == BUILD_POSSIBLE &&
		   preset->details->inputs != NULL;
}

/*
 * The jobs that no live daemon takes: the number of each, its provisioner, how many live daemons of
 * its organization run that, its tags that none of these has, and all its tags. The tags that every
 * job has are left out. $1: the templates; $2: the jobs' tags; $3: the time at which daemons must be
 * alive.
 */
#define UNTAKEN                                                                                     \
	"WITH live AS MATERIALIZED (SELECT pd.organization_id, pd.provisioners, pd.tags"                \
	"  FROM {cp}provisioner_daemons pd WHERE " DAEMON_LIVES(                                        \
		"$3") "),"                                                                                  \
			  " jobs AS MATERIALIZED (SELECT g.position, t.organization_id, t.provisioner,"         \
			  "   g.tags, t.provisioner::pg_catalog.text AS name"                                   \
			  "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2))"                     \
			  "   WITH ORDINALITY g (template_id, tags, position)"                                  \
			  "  JOIN {cp}templates t ON t.id {=} g.template_id)"                                   \
			  " SELECT j.position, j.name,"                                                         \
			  "  (SELECT pg_catalog.count(*) FROM live pd WHERE " DAEMON_OF_KIND "),"               \
			  "  tags.missing, tags.present"                                                        \
			  " FROM jobs j, LATERAL (SELECT"                                                       \
			  "  pg_catalog.string_agg(e.pair, ', ' ORDER BY e.pair) FILTER (WHERE e.missing),"     \
			  "  pg_catalog.string_agg(e.pair, ', ' ORDER BY e.pair)"                               \
			  "  FROM (SELECT pg_catalog.format('%s=%s', tag.key, tag.value) AS pair,"              \
			  "    NOT EXISTS (SELECT FROM live pd WHERE " DAEMON_OF_KIND                           \
			  "     AND pd.tags {@>} pg_catalog.jsonb_build_object(tag.key, tag.value)) AS missing" \
			  "   FROM pg_catalog.jsonb_each_text(j.tags) tag (key, value)"                         \
			  "   WHERE NOT (tag.key {=} 'scope' AND tag.value {=} 'organization')"                 \
			  "    AND NOT (tag.key {=} 'owner' AND tag.value {=} '')) e)"                          \
			  "  tags (missing, present)"                                                           \
			  " WHERE NOT EXISTS (SELECT FROM live pd WHERE " DAEMON_TAKES ")"                      \
			  " ORDER BY j.position"

/* Column of row i as a text, palloc'd, or NULL. */
static char *
text_or_null(uint64 i, int column)
{
	bool isnull;

	(void) row_value(i, column, &isnull);
	return isnull ? NULL : row_text(i, column);
}

/* Say why no live daemon takes a job. Row i of UNTAKEN. palloc'd. */
static char *
reason_untaken(uint64 i)
{
	char *missing = text_or_null(i, 4);
	char *tags = text_or_null(i, 5);

	if (DatumGetInt64(row_get(i, 3)) == 0)
		return psprintf("no provisioner daemon that runs %s is alive in the organization%s%s",
						row_text(i, 2), tags ? "; the build asks for the tags " : "",
						tags ? tags : "");
	if (missing != NULL)
		return psprintf("no live provisioner daemon has the tags %s", missing);
	if (tags != NULL)
		return psprintf("no live provisioner daemon has all of the tags %s", tags);
	return pstrdup("all live provisioner daemons have tags, and take no build without");
}

/*
 * Find out which presets no live daemon could build, of those that could be built otherwise and
 * whose policy asks for a daemon. Fills their check and its reason, palloc'd in the current context.
 * at: the time at which daemons must be alive. One statement for all; reads in the active snapshot.
 * SPI must be connected. Raises what reading the tables raises.
 */
void
provisioners_check(PoolSnapshot *pool, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID };
	Preset **presets = palloc_array(Preset *, pool->npresets + 1);
	ArrayParameter *templates = array_new(UUIDOID);
	ArrayParameter *tags = array_new(JSONBOID);
	Datum values[3];
	uint64 n;

	for (int i = 0; i < pool->npresets; i++)
		if (needs_daemon(&pool->presets[i]))
		{
			presets[templates->n] = &pool->presets[i];
			array_add_id(templates, &pool->presets[i].template_id);
			array_add(tags, JsonbPGetDatum(pool->presets[i].details->inputs->tags));
		}
	if (templates->n == 0)
		return;
	values[0] = array_datum(templates);
	values[1] = array_datum(tags);
	values[2] = TimestampTzGetDatum(at);
	n = plan_execute(&plan, UNTAKEN, PLAN_READ, 3, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		Preset *preset = presets[DatumGetInt64(row_get(i, 1)) - 1];

		preset->check = BUILD_NO_PROVISIONER;
		preset->check_reason = reason_untaken(i);
	}
	SPI_freetuptable(SPI_tuptable);
}
