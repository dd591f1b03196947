/*
 * worker.h
 *	  The processes of the background workers.
 */
#ifndef PREBUILD_WORKER_H
#define PREBUILD_WORKER_H

#include "compat.h"

#include "slots/worker_slots.h"

extern void worker_init(void);
extern PGDLLEXPORT void prebuild_worker_main(Datum argument);

/* for the files that do the steps */
pg_noreturn extern void worker_exit(int number, WorkerLaneName lane, WorkerStep next,
									const char *role);
extern void worker_pause_next(int number, WorkerLaneName lane, int pause_ms);
extern bool worker_wait(long timeout_ms);
extern void worker_cancel_on_shutdown(bool cancel);

#endif /* PREBUILD_WORKER_H */
