/*
 * flush_request.h
 *	  Having the background worker write what is buffered, and waiting for that.
 */
#ifndef PREBUILD_FLUSH_REQUEST_H
#define PREBUILD_FLUSH_REQUEST_H

#include "postgres.h"

extern int64 flush_request(int number);

#endif /* PREBUILD_FLUSH_REQUEST_H */
