/*
 * pool_log.h
 *	  The triggers of the pool's log. member_columns.h has the columns that they watch.
 */
#ifndef PREBUILD_POOL_LOG_H
#define PREBUILD_POOL_LOG_H

#define POOL_LOG_TRIGGER "prebuild_pool_log"
#define POOL_TRUNCATE_TRIGGER "prebuild_pool_truncated"

#endif /* PREBUILD_POOL_LOG_H */
