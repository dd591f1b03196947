/*
 * worker_slots.h
 *	  The databases that have background workers, in shared memory: what each worker does, and how
 *	  to reach it. Each name in prebuild.databases has a slot, for good. A slot has two lanes, a
 *	  process each, so that what one process does never waits for what the other does.
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

/* What a process is for. If there is none for passes, the one for metadata does both. */
typedef enum WorkerLaneName
{
	LANE_METADATA, /* finds the database and the role; writes buffered agent metadata */
	LANE_PASSES	   /* follows the other's lead; runs passes and folds */
} WorkerLaneName;

#define WORKER_LANES (LANE_PASSES + 1)

/* What the next process for metadata does. Each process does one step, see worker.c. */
typedef enum WorkerStep
{
	STEP_FIND_DATABASE,
	STEP_FIND_ROLE,
	STEP_SERVE
} WorkerStep;

/* What a worker does. The state of the one for metadata decides what sessions do with reports. */
typedef enum WorkerState
{
	WORKER_STARTING, /* not up yet, or restarting: sessions buffer reports, for a while */
	WORKER_SERVING,	 /* sessions buffer reports */
	WORKER_DRAINING, /* writing for the last time: sessions write reports directly */
	WORKER_UNABLE	 /* cannot serve for now: sessions write reports directly */
} WorkerState;

/* What an error belongs to. A slot keeps the last error of each. */
typedef enum WorkerTask
{
	TASK_FLUSH,
	TASK_PASS,
	TASK_FOLD,
	TASK_START /* + lane: finding the database, the role, the extension, and connecting */
} WorkerTask;

#define WORKER_TASKS (TASK_START + WORKER_LANES)

typedef struct WorkerError
{
	char message[WORKER_TEXT_SIZE];
	int sqlstate;	/* as MAKE_SQLSTATE() makes it */
	TimestampTz at; /* 0 = never */
} WorkerError;

/*
 * A lane. The slot's lock protects all of it, with these exceptions. registered is constant. Who
 * changes state, starting_since or pid holds the lock, but readers need not. The lock does not
 * protect postmaster_woken.
 */
typedef struct WorkerLane
{
	bool registered;				 /* max_worker_processes had room for it */
	pg_atomic_uint32 state;			 /* WorkerState */
	pg_atomic_uint64 starting_since; /* a time, for a worker that is starting or draining */
	pg_atomic_uint64 postmaster_woken;
	WorkerStep step;
	char role[NAMEDATALEN]; /* of the worker's connection */
	int pid;				/* of the worker's process, 0 = none */
	Latch *latch;			/* of that process: a member of its PGPROC, valid while pid is set */
	TimestampTz started_at;
	TimestampTz next_start; /* earliest time at which a new process begins its work */
	bool expected_exit;		/* the process is about to exit without an error */
	int64 starts;
	char detail[WORKER_TEXT_SIZE]; /* why it is unable */
} WorkerLane;

/*
 * A slot. lock protects all of it, with these exceptions. database is constant. The lock does not
 * protect pass_requested and check_requested.
 */
typedef struct WorkerSlot
{
	char database[NAMEDATALEN];
	pg_atomic_uint32 pass_requested;
	pg_atomic_uint32 check_requested; /* the worker for metadata must look whether it can serve */
	LWLock lock;

	Oid database_oid;
	WorkerLane lanes[WORKER_LANES];
	WorkerError errors[WORKER_TASKS];
	int64 passes;
	int64 failed_passes;
	TimestampTz last_pass_at; /* 0 = never */
	int64 folds;
	int64 failed_folds;
	TimestampTz last_fold_at; /* 0 = never */

	/*
	 * flushes that sessions wait for: each session raises flush_requested and waits for
	 * flush_served to reach it
	 */
	uint64 flush_requested;
	uint64 flush_served;
	bool flush_failed;	 /* of the last one served */
	int64 flush_written; /* of the last one served */
	ConditionVariable flush_done;
} WorkerSlot;

extern void worker_slots_init(void);
extern void worker_slots_registered(int number, WorkerLaneName lane);
extern int worker_slots_count(void);
extern WorkerSlot *worker_slot(int number);
extern const char *worker_slot_name(int number);
extern int worker_slot_here(void);
extern bool worker_slot_does_both(int number);
extern bool worker_slot_buffers(int number);
extern bool worker_slot_expected(int number);
extern void worker_slot_wake(int number, WorkerLaneName lane);
extern void worker_slot_look_after(int number, WorkerLaneName lane);
extern void worker_slots_look_after_all(void);
extern bool worker_slot_set_state(int number, WorkerLaneName lane, WorkerState state,
								  const char *detail);
extern WorkerState worker_slot_state(int number, WorkerLaneName lane, char *detail);
extern void worker_slot_note_error(int number, int task, int sqlstate, const char *message);
extern const char *worker_state_name(WorkerState state);

#endif /* PREBUILD_WORKER_SLOTS_H */
