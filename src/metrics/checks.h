/*
 * checks.h
 *	  What can be wrong with the loop, one check for each.
 */
#ifndef PREBUILD_CHECKS_H
#define PREBUILD_CHECKS_H

#include "compat.h"

#include "datatype/timestamp.h"

#include "decision/decision.h"

typedef enum CheckStatus
{
	CHECK_OK,
	CHECK_WARN,
	CHECK_FAIL,
	CHECK_UNKNOWN /* the caller may not see it, or somebody holds what it needs */
} CheckStatus;

/* What a check found. */
typedef struct CheckResult
{
	CheckStatus status;
	char *value; /* what it saw, in words */
} CheckResult;

/* What checks share. */
typedef struct CheckContext
{
	TimestampTz at;			  /* the clock of decisions and of passes */
	TimestampTz now;		  /* the real one: of sessions and workers */
	const PoolSnapshot *pool; /* settled, or NULL */
	ErrorData *pool_error;	  /* why there is none */
} CheckContext;

typedef struct Check
{
	const char *name;
	void (*look)(const struct Check *check, const CheckContext *context, CheckResult *result);
	const char *threshold; /* from when on it warns or fails */
	const char *advice;	   /* what to do then */
	/* of checks that count presets */
	bool (*is_affected)(const Preset *preset);
	CheckStatus status;
} Check;

extern const Check pool_checks[];
extern const int pool_checks_count;
extern const Check server_checks[];
extern const int server_checks_count;

extern void check_says(CheckResult *result, CheckStatus status, const char *format, ...)
	pg_attribute_printf(3, 4);
extern bool check_sees_pool(const CheckContext *context, CheckResult *result);
extern bool checks_find_other_reconciler(const CheckContext *context);
extern int checks_count(void);
extern const Check *checks_get(int number);
extern CheckResult *checks_run(TimestampTz at);

#endif /* PREBUILD_CHECKS_H */
