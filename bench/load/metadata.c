/*
 * metadata.c
 *	  Report the metadata of many agents as app servers do, and tell what it cost the server and how
 *	  long listeners waited for it.
 *
 *	  metadata CONNINFO POSTMASTER WAY AGENTS ROUNDS LISTENERS
 *
 *	  Each agent reports its KEYS keys every ROUND_SECONDS, ROUNDS times. The ways:
 *
 *	  batch     reports are gathered here; one update takes BATCH_ENTRIES entries of five arrays, one
 *	            message then names their agents
 *	  each      one update and one message for each report
 *	  function  prebuild_agent_metadata_report() for each report
 *
 *	  LISTENERS connections listen: to the channel of all agents, or, where each report has its
 *	  message, to those of their share of the agents. Reports go through CLIENTS other connections,
 *	  with statements that nobody has prepared. A value ends as "WAY:ROUND:KEY", rounds numbered
 *	  from 1.
 *
 *	  Prints, separated by bars: the server's seconds of processor time, the parts of the sessions that
 *	  listen and of those that report in them, the seconds of this program; bytes of WAL; transaction ids; the percentiles 50, 99
 *	  and 100 of the milliseconds from when a report was due to a message that names its agent; how
 *	  many messages were missing; the seconds from the first report to the last answer.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "clients.h"
#include "server_cpu.h"

#define KEYS 10
#define ROUND_SECONDS 10
#define BATCH_ENTRIES 500
#define CLIENTS 16

/* A batch is written when it is full, or this many seconds after its first report. */
#define BATCH_SECONDS 5

/* Reports in a row are those of agents that lie far apart in the table: a prime. */
#define STRIDE 7919

/* Of how many listeners to all agents the messages are read. */
#define SAMPLED 10

/* How many seconds to wait for the last messages. */
#define PATIENCE 20

#define ALL_AGENTS "workspace_agent_metadata_batch"
#define ONE_AGENT "workspace_agent_metadata:"

#define UPDATE_FROM                                                                                \
	"UPDATE workspace_agent_metadata m "                                                           \
	"SET value = d.value, error = d.error, collected_at = d.collected_at FROM "

static const char *const update_batch = UPDATE_FROM
	"unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) "
	"AS d (id, key, value, error, collected_at) WHERE m.workspace_agent_id = d.id AND m.key = d.key";
static const char *const update_one = UPDATE_FROM
	"unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[]) "
	"AS d (key, value, error, collected_at) WHERE m.workspace_agent_id = $1::uuid AND m.key = d.key";
static const char *const notify = "SELECT pg_notify($1, $2)";
static const char *const report = "SELECT * FROM prebuild_agent_metadata_report($1, $2, $3, $4)";

typedef enum Way
{
	BATCH,
	EACH,
	FUNCTION
} Way;

static const char *const way_names[] = { "batch", "each", "function" };

/* A connection that writes the reports first to first + n - 1, if it is busy. */
typedef struct Writer
{
	PGconn *connection;
	bool busy;
	bool notifying; /* the update is done */
	int first;
	int n;
} Writer;

static Way way;
static int nagents;
static int nlisteners;
static int per_job; /* reports in a job of a writer */
static Writer writers[CLIENTS];
static PGconn **listeners;
static int events; /* the epoll of all connections: writers first */

/* When a report was due of which a listener has no message yet, by listener and agent; 0 if none. */
static double *waiting;
static int nwaiting;
static int nsampled;
static double *delays;
static int ndelays;

/* The arrays of a job, as text. */
static char ids[BATCH_ENTRIES * 40];
static char keys[BATCH_ENTRIES * 16];
static char values[BATCH_ENTRIES * 48];
static char errors[BATCH_ENTRIES * 4];
static char times[BATCH_ENTRIES * 32];
static char message[BATCH_ENTRIES * 22 + 1];

static int
agent_of(int number)
{
	return (int) ((int64_t) number * STRIDE % nagents);
}

/* An agent's id, as bench/metadata_scale.sql makes it: ids in a row lie far apart. */
static void
agent_id(int agent, unsigned char id[16])
{
	uint32_t spread = (uint32_t) agent * 2654435761u;

	memset(id, 0, 16);
	for (int i = 0; i < 4; i++)
	{
		id[i] = spread >> (24 - 8 * i);
		id[12 + i] = (uint32_t) agent >> (24 - 8 * i);
	}
}

static void
print_id(int agent, char text[37])
{
	unsigned char id[16];
	char *end = text;

	agent_id(agent, id);
	for (int i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
}

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Put an agent's id into a message of ids. */
static void
encode_id(int agent, char *text)
{
	unsigned char id[16];

	agent_id(agent, id);
	for (int i = 0; i < 22; i++)
	{
		int bit = i * 6;
		int two = id[bit / 8] << 8 | (bit / 8 + 1 < 16 ? id[bit / 8 + 1] : 0);

		text[i] = base64[two >> (10 - bit % 8) & 63];
	}
}

/* The agent of 22 characters of a message: the last four bytes of its id tell. */
static int
decode_id(const char *text)
{
	uint64_t bits = 0;

	for (int i = 16; i < 22; i++)
	{
		const char *digit = strchr(base64, text[i]);

		if (digit == NULL || text[i] == '\0')
			fail("not a message of ids: %s", text);
		bits = bits << 6 | (uint64_t) (digit - base64);
	}
	return (int) (bits >> 4);
}

/* Make the arrays of a job. If it has one report, its agent's id is alone in ids. */
static void
make_arrays(int first, int n)
{
	char *ends[5] = { ids, keys, values, errors, times };
	char at[32];
	time_t seconds = time(NULL);

	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
	for (int i = 0; i < n; i++)
	{
		int agent = agent_of(first + i);
		char id[37];

		print_id(agent, id);
		for (int key = 1; key <= KEYS; key++)
		{
			char separator = i == 0 && key == 1 ? '{' : ',';

			ends[0] += sprintf(ends[0], "%c%s", separator, id);
			ends[1] += sprintf(ends[1], "%ckey_%d", separator, key);
			ends[2] += sprintf(ends[2], "%c%s:%d:key_%d", separator, way_names[way],
							   (first + i) / nagents + 1, key);
			ends[3] += sprintf(ends[3], "%c\"\"", separator);
			ends[4] += sprintf(ends[4], "%c%s", separator, at);
		}
	}
	for (int i = 0; i < 5; i++)
		strcpy(ends[i], "}");
	if (way != BATCH)
		print_id(agent_of(first), ids);
}

static void
send_statement(Writer *writer, const char *statement, int n, const char *const *arguments)
{
	if (!PQsendQueryParams(writer->connection, statement, n, NULL, arguments, NULL, NULL, 0))
		fail("cannot send: %s", PQerrorMessage(writer->connection));
	/* a batch is more than a socket takes at once */
	while (PQflush(writer->connection) > 0)
		;
}

static void
begin_job(Writer *writer, int first, int n)
{
	const char *const arguments[] = { ids, keys, values, errors, times };

	make_arrays(first, n);
	writer->busy = true;
	writer->notifying = false;
	writer->first = first;
	writer->n = n;
	if (way == FUNCTION)
		send_statement(writer, report, 4, arguments);
	else
		send_statement(writer, way == BATCH ? update_batch : update_one, 5, arguments);
}

/* After the update of a job, send its message. */
static void
send_message(Writer *writer)
{
	char channel[sizeof(ONE_AGENT) + 37] = ALL_AGENTS;
	const char *const arguments[] = { channel, message };

	if (way == EACH)
	{
		strcpy(channel, ONE_AGENT);
		print_id(agent_of(writer->first), channel + strlen(channel));
		strcpy(message, "{\"collected_at\":\"2026-01-01T00:00:00.000000Z\",\"keys\":[");
		for (int key = 1; key <= KEYS; key++)
			sprintf(message + strlen(message), "\"key_%d\"%s", key, key < KEYS ? "," : "]}");
	}
	else
	{
		/* a full batch names fewer agents than a message takes */
		for (int i = 0; i < writer->n; i++)
			encode_id(agent_of(writer->first + i), message + i * 22);
		message[writer->n * 22] = '\0';
	}
	writer->notifying = true;
	send_statement(writer, notify, 2, arguments);
}

/* Take what came for a writer. */
static void
take_answer(Writer *writer)
{
	PGresult *answer;

	if (!PQconsumeInput(writer->connection))
		fail("lost a connection: %s", PQerrorMessage(writer->connection));
	while (writer->busy && !PQisBusy(writer->connection))
	{
		answer = PQgetResult(writer->connection);
		if (answer == NULL)
		{
			if (way != FUNCTION && !writer->notifying)
				send_message(writer);
			else
				writer->busy = false;
			continue;
		}
		if (PQresultStatus(answer) != PGRES_COMMAND_OK && PQresultStatus(answer) != PGRES_TUPLES_OK)
			fail("a report failed: %s", PQresultErrorMessage(answer));
		PQclear(answer);
	}
}

/* From now on, listeners wait for a message that names the agent. */
static void
expect(int agent, double due)
{
	for (int i = 0; i < nsampled; i++)
		if (waiting[i * nagents + agent] == 0)
		{
			waiting[i * nagents + agent] = due;
			nwaiting++;
		}
}

/* A sampled listener got a message that names the agent. */
static void
told(int listener, int agent)
{
	double *due = &waiting[listener * nagents + agent];

	if (agent >= nagents)
		fail("a message names an unknown agent");
	if (*due == 0)
		return;
	delays[ndelays++] = (now() - *due) * 1000;
	*due = 0;
	nwaiting--;
}

static void
take_messages(int listener)
{
	PGnotify *notification;

	if (!PQconsumeInput(listeners[listener]))
		fail("lost a listener: %s", PQerrorMessage(listeners[listener]));
	while ((notification = PQnotifies(listeners[listener])) != NULL)
	{
		if (way == EACH)
			told(0, (int) strtoul(notification->relname + strlen(ONE_AGENT) + 28, NULL, 16));
		else if (listener < nsampled)
			for (const char *id = notification->extra; *id != '\0'; id += 22)
				told(listener, decode_id(id));
		PQfreemem(notification);
	}
}

static void
watch(PGconn *connection, int number)
{
	struct epoll_event event = { .events = EPOLLIN, .data = { .u32 = number } };

	if (epoll_ctl(events, EPOLL_CTL_ADD, PQsocket(connection), &event) != 0)
		fail("cannot watch a connection");
}

static void
listen_to_share(int listener)
{
	char *statements = malloc((nagents / nlisteners + 2) * 90);
	char *end = statements;

	*end = '\0';
	for (int agent = listener; agent < nagents; agent += nlisteners)
	{
		char id[37];

		print_id(agent, id);
		end += sprintf(end, "LISTEN \"" ONE_AGENT "%s\";", id);
	}
	run(listeners[listener], statements);
	free(statements);
}

/* Sleep until something comes, but not past a time of now(), and take it. */
static void
take_what_comes(double until)
{
	struct epoll_event ready[64];
	double left = (until - now()) * 1000;
	int n = epoll_wait(events, ready, 64, left > 0 ? (int) ceil(left) : 0);

	for (int i = 0; i < n; i++)
	{
		int number = (int) ready[i].data.u32;

		if (number < CLIENTS)
			take_answer(&writers[number]);
		else
			take_messages(number - CLIENTS);
	}
}

static void
open_connections(const char *conninfo)
{
	events = epoll_create1(0);
	for (int i = 0; i < CLIENTS; i++)
	{
		writers[i].connection = connect_client(conninfo);
		watch(writers[i].connection, i);
		/* an app server's connections have reported before */
		begin_job(&writers[i], i * per_job, per_job);
		while (writers[i].busy)
			take_what_comes(now() + 1);
	}
	listeners = calloc(nlisteners, sizeof(*listeners));
	for (int i = 0; i < nlisteners; i++)
	{
		listeners[i] = connect_client(conninfo);
		if (way == EACH)
			listen_to_share(i);
		else
			run(listeners[i], "LISTEN " ALL_AGENTS);
		watch(listeners[i], CLIENTS + i);
	}
}

/* Start jobs with the reports that have arrived since *sent, as far as connections are free. */
static void
start_jobs(int *sent, int arrived, bool all)
{
	for (int i = 0; i < CLIENTS; i++)
	{
		int n = arrived - *sent < per_job ? arrived - *sent : per_job;

		if (writers[i].busy || n == 0 || (n < per_job && !all))
			continue;
		begin_job(&writers[i], *sent, n);
		*sent += n;
	}
}

/* Play the reports. Returns how many seconds it took. */
static double
play(int nreports)
{
	double began = now();
	double step = (double) ROUND_SECONDS / nagents;
	int arrived = 0;
	int sent = 0;
	bool busy = true;

	while (busy)
	{
		bool late;

		while (arrived < nreports && began + arrived * step <= now())
		{
			expect(agent_of(arrived), began + arrived * step);
			arrived++;
		}
		late = now() >= began + sent * step + BATCH_SECONDS;
		start_jobs(&sent, arrived, late || arrived == nreports);
		busy = sent < nreports;
		for (int i = 0; i < CLIENTS; i++)
			busy |= writers[i].busy;
		if (busy)
			take_what_comes(arrived < nreports ? began + arrived * step : now() + 1);
	}
	return now() - began;
}

static double
own_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		   (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* The counters of the server and of this program. */
typedef struct Counters
{
	double server;
	double listening;
	double reporting;
	double own;
	double wal;
	double transactions;
} Counters;

static Counters
count(PGconn *connection, int postmaster)
{
	Counters counters = { .server = server_cpu(postmaster), .own = own_cpu() };
	PGresult *result = PQexec(connection, "SELECT pg_current_wal_insert_lsn() - '0/0', "
										  "pg_snapshot_xmax(pg_current_snapshot())");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("cannot count: %s", PQerrorMessage(connection));
	counters.wal = atof(PQgetvalue(result, 0, 0));
	counters.transactions = atof(PQgetvalue(result, 0, 1));
	PQclear(result);
	for (int i = 0; i < nlisteners; i++)
		counters.listening += process_cpu(PQbackendPID(listeners[i]));
	for (int i = 0; i < CLIENTS; i++)
		counters.reporting += process_cpu(PQbackendPID(writers[i].connection));
	return counters;
}

static void
choose_way(const char *name)
{
	while (strcmp(way_names[way], name) != 0)
		if (++way > FUNCTION)
			fail("no such way: %s", name);
	per_job = way == BATCH ? BATCH_ENTRIES / KEYS : 1;
	nsampled = way == EACH ? 1 : nlisteners < SAMPLED ? nlisteners : SAMPLED;
}

int
main(int argc, char **argv)
{
	int postmaster;
	int rounds;
	PGconn *counting;
	Counters before;
	Counters after;
	double seconds;
	double patience;

	if (argc != 7)
		fail("usage: metadata CONNINFO POSTMASTER WAY AGENTS ROUNDS LISTENERS");
	postmaster = atoi(argv[2]);
	nagents = atoi(argv[4]);
	rounds = atoi(argv[5]);
	nlisteners = atoi(argv[6]);
	choose_way(argv[3]);
	if (nagents % STRIDE == 0 || nagents < per_job * CLIENTS || nlisteners < 1 || rounds < 1)
		fail("give %d agents or more, a listener or more and a round or more", per_job * CLIENTS);
	waiting = calloc((size_t) nsampled * nagents, sizeof(*waiting));
	delays = calloc((size_t) nsampled * nagents * rounds, sizeof(*delays));
	open_connections(argv[1]);
	counting = connect_client(argv[1]);

	/* messages of the first reports are on their way */
	patience = now() + 7;
	while (now() < patience)
		take_what_comes(patience);
	before = count(counting, postmaster);
	seconds = play(nagents * rounds);
	patience = now() + PATIENCE;
	while (nwaiting > 0 && now() < patience)
		take_what_comes(now() + 0.1);
	after = count(counting, postmaster);

	sort(delays, ndelays);
	printf("%.2f|%.2f|%.2f|%.2f|%.0f|%.0f|%.1f|%.1f|%.1f|%d|%.1f\n", after.server - before.server,
		   after.listening - before.listening, after.reporting - before.reporting,
		   after.own - before.own, after.wal - before.wal, after.transactions - before.transactions,
		   percentile(delays, ndelays, 50), percentile(delays, ndelays, 99),
		   percentile(delays, ndelays, 100), nwaiting, seconds);
	return 0;
}
