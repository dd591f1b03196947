/*
 * claims.c
 *	  Claim prebuilds as app servers do, and tell how long it took and what came of it.
 *
 *	  claims CONNINFO STATEMENT FIRST CLIENTS RATE CLAIMS UNDONE HELD
 *
 *	  STATEMENT claims for person $1, an int4, and returns the workspace's id in its first column;
 *	  persons are numbered from FIRST. CLAIMS claims arrive, RATE a second at random times (0: all
 *	  at once; -1: each when a connection is free), and wait for one of CLIENTS connections. UNDONE of 100 are rolled back HELD
 *	  milliseconds after their answer and not counted.
 *
 *	  Prints, separated by bars: how many claims got a prebuild, got none, got one that another
 *	  claim got too, failed; the percentiles 50, 90, 99 and 100 of the time from arrival to answer
 *	  in milliseconds; the seconds from the first arrival to the last answer; how many were undone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"

/* How a connection claims: a claim that is undone needs four steps, another one needs one. */
typedef enum Step
{
	IDLE,
	BEGINNING,
	CLAIMING,
	HOLDING,
	ENDING
} Step;

typedef struct Client
{
	Step step;
	bool undone;
	double arrived;
	double until; /* where HOLDING */
} Client;

static PGconn **connections;
static Client *clients;
static int nclients;
static int next_person;
static int undone_percent;
static double held;

static double *latencies;
static char (*given)[40];
static int ngiven;
static int nnone;
static int nfailed;
static int nundone;

static void
send_statement(int i, const char *statement)
{
	if (!PQsendQuery(connections[i], statement))
		fail("%s: %s", statement, PQerrorMessage(connections[i]));
}

static void
send_claim(int i)
{
	char person[16];
	const char *values[] = { person };

	snprintf(person, sizeof(person), "%d", next_person++);
	if (!PQsendQueryPrepared(connections[i], "claim", 1, values, NULL, NULL, 0))
		fail("cannot claim: %s", PQerrorMessage(connections[i]));
	clients[i].step = CLAIMING;
}

/* Begin a claim that arrived at this time. */
static void
begin(int i, double arrived)
{
	clients[i].arrived = arrived;
	clients[i].undone = uniform() * 100 < undone_percent;
	if (!clients[i].undone)
	{
		send_claim(i);
		return;
	}
	send_statement(i, "BEGIN");
	clients[i].step = BEGINNING;
}

/* Take the answer to a claim. */
static void
take(int i, const PGresult *answer)
{
	if (clients[i].undone)
	{
		nundone++;
		clients[i].step = HOLDING;
		clients[i].until = now() + held;
		return;
	}
	clients[i].step = IDLE;
	latencies[ngiven + nnone + nfailed] = (now() - clients[i].arrived) * 1000;
	if (PQresultStatus(answer) != PGRES_TUPLES_OK)
	{
		if (nfailed++ == 0)
			fprintf(stderr, "a claim failed: %s", PQresultErrorMessage(answer));
	}
	else if (PQntuples(answer) == 0)
		nnone++;
	else
		snprintf(given[ngiven++], sizeof(given[0]), "%s", PQgetvalue(answer, 0, 0));
}

/* Go on with a connection that can be read. */
static void
advance(int i)
{
	PGresult *answer;

	if (!PQconsumeInput(connections[i]))
		fail("lost a connection: %s", PQerrorMessage(connections[i]));
	while (clients[i].step != IDLE && clients[i].step != HOLDING && !PQisBusy(connections[i]))
	{
		answer = PQgetResult(connections[i]);
		if (answer != NULL)
		{
			if (clients[i].step == CLAIMING)
			{
				take(i, answer);
				/* the end of the statement */
				PQclear(PQgetResult(connections[i]));
			}
			PQclear(answer);
			continue;
		}
		if (clients[i].step == BEGINNING)
			send_claim(i);
		else if (clients[i].step == ENDING)
			clients[i].step = IDLE;
	}
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int
count_doubled(void)
{
	int doubled = 0;

	qsort(given, ngiven, sizeof(given[0]), compare_ids);
	for (int i = 1; i < ngiven; i++)
		if (strcmp(given[i], given[i - 1]) == 0)
			doubled++;
	return doubled;
}

static void
open_clients(const char *conninfo, const char *statement)
{
	connections = calloc(nclients, sizeof(*connections));
	clients = calloc(nclients, sizeof(*clients));
	for (int i = 0; i < nclients; i++)
	{
		PGresult *result;

		connections[i] = connect_client(conninfo);
		result = PQprepare(connections[i], "claim", statement, 0, NULL);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			fail("cannot prepare: %s", PQerrorMessage(connections[i]));
		PQclear(result);
		/* an app server's connections have claimed before */
		run(connections[i], "BEGIN");
		run(connections[i], "EXECUTE claim (0)");
		run(connections[i], "ROLLBACK");
	}
}

/* Play all claims. Returns how many seconds it took. */
static double
play(double rate, int nclaims)
{
	double began = now();
	double next = began;
	int arrived = 0;
	int busy = 0;

	do
	{
		double wake = began + 1e9;

		busy = 0;
		for (int i = 0; i < nclients; i++)
		{
			if (clients[i].step == HOLDING && now() >= clients[i].until)
			{
				send_statement(i, "ROLLBACK");
				clients[i].step = ENDING;
			}
			if (clients[i].step == IDLE && arrived < nclaims && next <= now())
			{
				begin(i, rate < 0 ? now() : next);
				arrived++;
				if (rate > 0)
					next += gap(rate);
			}
			if (clients[i].step == HOLDING && clients[i].until < wake)
				wake = clients[i].until;
			busy += clients[i].step != IDLE;
		}
		if (arrived < nclaims && busy < nclients && next < wake)
			wake = next;
		if (busy > 0 || arrived < nclaims)
			sleep_until(connections, nclients, wake);
		for (int i = 0; i < nclients; i++)
			if (clients[i].step != IDLE && clients[i].step != HOLDING)
				advance(i);
	} while (busy > 0 || arrived < nclaims);
	return now() - began;
}

int
main(int argc, char **argv)
{
	int nclaims;
	int doubled;
	double seconds;

	if (argc != 9)
		fail("usage: claims CONNINFO STATEMENT FIRST CLIENTS RATE CLAIMS UNDONE HELD");
	next_person = atoi(argv[3]);
	nclients = atoi(argv[4]);
	nclaims = atoi(argv[6]);
	undone_percent = atoi(argv[7]);
	held = atof(argv[8]) / 1000;
	latencies = calloc(nclaims, sizeof(*latencies));
	given = calloc(nclaims, sizeof(*given));
	open_clients(argv[1], argv[2]);
	seconds = play(atof(argv[5]), nclaims);

	sort(latencies, ngiven + nnone + nfailed);
	doubled = count_doubled();
	printf("%d|%d|%d|%d", ngiven, nnone, doubled, nfailed);
	for (int i = 0; i < 4; i++)
		printf("|%.2f",
			   percentile(latencies, ngiven + nnone + nfailed, (double[]){ 50, 90, 99, 100 }[i]));
	printf("|%.3f|%d\n", seconds, nundone);
	return 0;
}
