/*
 * worker_task.h
 *	  The tasks of a background worker. An error in a task does not end the process.
 */
#ifndef PREBUILD_WORKER_TASK_H
#define PREBUILD_WORKER_TASK_H

#include "postgres.h"

#include "utils/timestamp.h"

typedef void (*TaskFunction)(void *argument);

/* A call of a function of the extension. */
typedef struct WorkerCall
{
	const char *function;  /* its name */
	int nargs;			   /* 0 or 1 */
	Oid argtype;		   /* type of the argument */
	const char *arguments; /* as SQL */
	bool if_permitted;	   /* do nothing without the right to call it */
	bool called;		   /* result: the extension is installed and the right was there */
} WorkerCall;

extern char *worker_run_task(int number, int task, const char *activity, TaskFunction function,
							 void *argument);
extern void worker_call(void *argument);
extern TimestampTz worker_after_ms(int64 milliseconds);

#endif /* PREBUILD_WORKER_TASK_H */
