/*
 * clients.c
 *	  What the programs that play app servers share.
 */
#define _GNU_SOURCE /* ppoll() */
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clients.h"

double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

double
uniform(void)
{
	return random() / (RAND_MAX + 1.0);
}

double
gap(double rate)
{
	return -log(1 - uniform()) / rate;
}

void
fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

PGconn *
connect_client(const char *conninfo)
{
	PGconn *connection = PQconnectdb(conninfo);

	if (PQstatus(connection) != CONNECTION_OK)
		fail("cannot connect: %s", PQerrorMessage(connection));
	if (PQsetnonblocking(connection, 1) != 0)
		fail("cannot stop blocking: %s", PQerrorMessage(connection));
	return connection;
}

void
run(PGconn *connection, const char *statement)
{
	PGresult *result = PQexec(connection, statement);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		fail("%s: %s", statement, PQerrorMessage(connection));
	PQclear(result);
}

void
sleep_until(PGconn *const *connections, int n, double until)
{
	static struct pollfd *sockets;
	static int nsockets;
	double left = until - now();
	struct timespec timeout;

	if (nsockets < n)
	{
		sockets = realloc(sockets, n * sizeof(*sockets));
		nsockets = n;
	}
	for (int i = 0; i < n; i++)
	{
		sockets[i].fd = connections[i] == NULL ? -1 : PQsocket(connections[i]);
		sockets[i].events = POLLIN;
		/* poll() never returns for what is not sent: a statement here fits a socket's buffer */
		sockets[i].revents = 0;
	}
	if (left < 0)
		left = 0;
	timeout.tv_sec = (time_t) left;
	timeout.tv_nsec = (long) ((left - timeout.tv_sec) * 1e9);
	(void) ppoll(sockets, n, &timeout, NULL);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

void
sort(double *numbers, int n)
{
	qsort(numbers, n, sizeof(double), compare);
}

double
percentile(const double *numbers, int n, double p)
{
	int position = (int) ceil(n * p / 100) - 1;

	if (n == 0)
		return 0;
	return numbers[position < 0 ? 0 : position];
}
