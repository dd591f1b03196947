/*
 * worker_requests.h
 *	  What sessions ask of the background workers.
 */
#ifndef PREBUILD_WORKER_REQUESTS_H
#define PREBUILD_WORKER_REQUESTS_H

#include "postgres.h"

extern int64 worker_request_flush(int number);
extern void worker_request_pass(int number);

#endif /* PREBUILD_WORKER_REQUESTS_H */
