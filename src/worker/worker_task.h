/*
 * worker_task.h
 *	  What a background worker does is done as tasks, whose errors do not end the process.
 */
#ifndef PREBUILD_WORKER_TASK_H
#define PREBUILD_WORKER_TASK_H

#include "postgres.h"

#include "utils/timestamp.h"

typedef void (*TaskFunction)(void *argument);

/* A function of the extension to call. */
typedef struct WorkerCall
{
	const char *function;  /* its name */
	int nargs;			   /* 0 or 1 */
	Oid argtype;		   /* of the one */
	const char *arguments; /* as SQL */
	bool if_permitted;	   /* without the right to call it nothing happens */
	bool called;		   /* it was: the extension is there, and the right, too */
} WorkerCall;

extern char *worker_run_task(int number, int task, const char *activity, TaskFunction function,
							 void *argument);
extern void worker_call(void *argument);
extern TimestampTz worker_after_ms(int64 milliseconds);

#endif /* PREBUILD_WORKER_TASK_H */
