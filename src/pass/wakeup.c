/*
 * wakeup.c
 *	  Wake the provisioners for new jobs. A message is only a hint: the daemons also ask by
 *	  themselves, but only every 30 seconds.
 *
 *	  For each message, coderd wakes one group of daemons with equal tags and types. It takes the
 *	  first group that it finds among those that could run the job, and that group continues until
 *	  it finds no job. So one message for many jobs leaves the other groups asleep. As many messages
 *	  as jobs wake every group; more messages than daemons wake no further one.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "base/notify.h"
#include "base/plans.h"
#include "catalog/provisioner_daemons.h"
#include "pass/wakeup.h"

#define JOB_CHANNEL "provisioner_job_posted"

/*
 * The messages for jobs, with the number of their kind. A kind is an organization, a provisioner
 * and tags. Each kind gets one message per job, but no more messages than living daemons that could
 * run them, and at least one. The server drops equal messages of a transaction, so each carries the
 * id of another job; nobody reads it. $1: the jobs' ids; $2: the time at which daemons must be
 * alive.
 */
#define MESSAGES                                                                                      \
	"WITH live AS MATERIALIZED (SELECT pd.organization_id, pd.provisioners, pd.tags"                  \
	"  FROM {cp}provisioner_daemons pd WHERE " DAEMON_LIVES(                                          \
		"$2") "),"                                                                                    \
			  " kinds AS MATERIALIZED (SELECT j.organization_id, j.provisioner, j.tags,"              \
			  "  pg_catalog.array_agg(j.id) AS jobs, pg_catalog.row_number() OVER () AS number"       \
			  "  FROM {cp}provisioner_jobs j WHERE j.id {=} ANY ($1)"                                 \
			  "  GROUP BY j.organization_id, j.provisioner, j.tags)"                                  \
			  " SELECT j.number, pg_catalog.jsonb_build_object('organization_id', j.organization_id," \
			  "  'type', j.provisioner, 'tags', j.tags, 'job_id', job.id)::pg_catalog.text"           \
			  " FROM kinds j, LATERAL pg_catalog.unnest(j.jobs[1:("                                   \
			  "  SELECT GREATEST(pg_catalog.count(*), 1)::pg_catalog.int4 FROM live pd"               \
			  "  WHERE " DAEMON_TAKES ")])"                                                           \
			  "  AS job (id) ORDER BY j.number"

/*
 * Announce jobs at commit. jobs: a uuid array of their ids; at: the time at which daemons must be
 * alive. SPI is connected. Leaves out a message that is too long, with one WARNING for all of its
 * kind. Raises whatever reading the tables raises.
 */
void
wakeup_provisioners(const ArrayParameter *jobs, int64_t at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum values[2];
	int64 too_long = 0;
	uint64 n;

	if (jobs->n == 0 || !notify_possible())
		return;
	values[0] = array_datum(jobs);
	values[1] = TimestampTzGetDatum(at);
	n = plan_execute(&plan, MESSAGES, PLAN_FRESH, 2, argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		int64 kind = DatumGetInt64(row_get(i, 1));

		CHECK_FOR_INTERRUPTS();
		if (kind != too_long && !notify_send(JOB_CHANNEL, row_text(i, 2)))
			too_long = kind;
	}
	SPI_freetuptable(SPI_tuptable);
}
