/*
 * worker_serve.h
 *	  What a worker does once it is connected as its role.
 */
#ifndef PREBUILD_WORKER_SERVE_H
#define PREBUILD_WORKER_SERVE_H

#include "compat.h"

pg_noreturn extern void worker_serve(int number);

#endif /* PREBUILD_WORKER_SERVE_H */
