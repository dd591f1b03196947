/*
 * clients.h
 *	  What the programs that play app servers share: many connections in one process, which sends
 *	  statements without waiting and sleeps until an answer comes or something is due. So the load
 *	  takes little of the processors that the server needs.
 */
#ifndef PREBUILD_BENCH_CLIENTS_H
#define PREBUILD_BENCH_CLIENTS_H

#include <stdbool.h>

#include <libpq-fe.h>

/* Seconds of a clock that only moves forward. */
extern double now(void);

/* A number between 0 (included) and 1 (not included). */
extern double uniform(void);

/* The time until the next arrival, in seconds, of a Poisson process of a rate per second. */
extern double gap(double rate);

/* Print a message like printf() and end the program with 1. */
extern void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A new connection that never blocks. conninfo: as for PQconnectdb(). */
extern PGconn *connect_client(const char *conninfo);

/* Run a statement and wait for its end. Ends the program with 1 if it fails. */
extern void run(PGconn *connection, const char *statement);

/* Sleep until one of n connections can be read or a time of now() has come. Skips NULLs. */
extern void sleep_until(PGconn *const *connections, int n, double until);

/* Sort n numbers. */
extern void sort(double *numbers, int n);

/* The p-th percentile of n sorted numbers; 0 if there are none. */
extern double percentile(const double *numbers, int n, double p);

#endif /* PREBUILD_BENCH_CLIENTS_H */
