/*
 * worker_serve.h
 *	  The loop of a worker that is connected.
 */
#ifndef PREBUILD_WORKER_SERVE_H
#define PREBUILD_WORKER_SERVE_H

#include "compat.h"

#include "slots/worker_slots.h"

pg_noreturn extern void worker_serve(int number, WorkerLaneName lane);

#endif /* PREBUILD_WORKER_SERVE_H */
