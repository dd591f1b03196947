/*
 * worker_slots.h
 *	  The databases that have a background worker, in shared memory: what each worker is doing,
 *	  and how to reach it. There is a slot for each name in prebuild.databases, for good.
 */
#ifndef PREBUILD_WORKER_SLOTS_H
#define PREBUILD_WORKER_SLOTS_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#define WORKER_TEXT_SIZE 512
#define NO_SLOT (-1)

/* What a worker's next process is to do; each does one step, see worker.c. */
typedef enum WorkerStep
{
	STEP_FIND_DATABASE,
	STEP_FIND_ROLE,
	STEP_SERVE
} WorkerStep;

/* Where the worker stands; it decides what becomes of reports. */
typedef enum WorkerState
{
	WORKER_STARTING, /* not up yet, or restarting: reports are buffered */
	WORKER_SERVING,	 /* reports are buffered */
	WORKER_DRAINING, /* writing for the last time: reports are written directly */
	WORKER_UNABLE	 /* cannot serve for now: reports are written directly */
} WorkerState;

/*
 * A slot. lock protects all of it, except: database is constant; state and pass_requested are
 * changed under the lock but may be read without.
 */
typedef struct WorkerSlot
{
	char database[NAMEDATALEN];
	pg_atomic_uint32 state; /* WorkerState */
	pg_atomic_uint32 pass_requested;
	LWLock lock;

	WorkerStep step;
	Oid database_oid;
	char role[NAMEDATALEN];
	int pid;	  /* of the worker's process, 0 = none */
	Latch *latch; /* of that process: a member of its PGPROC, valid while pid is set */
	TimestampTz started_at;
	TimestampTz next_start; /* earliest time at which a new process begins its work */
	bool expected_exit;		/* the process is about to exit without an error */
	int64 starts;

	char detail[WORKER_TEXT_SIZE]; /* why it is unable */
	char last_error[WORKER_TEXT_SIZE];
	TimestampTz last_error_at; /* 0 = never */
	int64 passes;
	int64 failed_passes;
	TimestampTz last_pass_at; /* 0 = never */

	/* flushes that sessions wait for; each raises requested and waits for served to reach it */
	uint64 flush_requested;
	uint64 flush_served;
	bool flush_failed;	 /* of the last one served */
	int64 flush_written; /* of the last one served */
	ConditionVariable flush_done;
} WorkerSlot;

extern void worker_slots_init(void);
extern int worker_slots_count(void);
extern WorkerSlot *worker_slot(int number);
extern const char *worker_slot_name(int number);
extern int worker_slot_here(void);
extern bool worker_slot_buffers(int number);
extern void worker_slot_wake(int number);
extern bool worker_slot_set_state(int number, WorkerState state, const char *detail);
extern void worker_slot_note_error(int number, const char *message);
extern int64 worker_slot_flush_and_wait(int number);
extern void worker_slot_request_pass(void);
extern const char *worker_state_name(WorkerState state);

#endif /* PREBUILD_WORKER_SLOTS_H */
