/*
 * flush_request.h
 *	  Have the background worker flush the buffer, and wait for it.
 */
#ifndef PREBUILD_FLUSH_REQUEST_H
#define PREBUILD_FLUSH_REQUEST_H

#include "postgres.h"

extern int64 flush_request(int number);

#endif /* PREBUILD_FLUSH_REQUEST_H */
