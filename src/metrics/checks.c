/*
 * checks.c
 *	  SQL function prebuild_health_read(), which prebuild_health() calls: looks at everything that can
 *	  be wrong, one check after the other, each in a subtransaction of its own. So an error in one
 *	  check says what is wrong there, and the others still answer.
 *
 *	  Locks: the checks take only AccessShareLock on what they read, and wait for it at most
 *	  LONGEST_WAIT_MS. After the first wait in vain they do not wait at all.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/timestamp.h"

#include "base/arguments.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "base/subtransaction.h"
#include "decision/judgement.h"
#include "metrics/checks.h"

PG_FUNCTION_INFO_V1(prebuild_health_read);

/* How long the checks wait for a lock, in all. 1 is the least that the server knows. */
#define LONGEST_WAIT_MS "50"
#define NO_WAIT_MS "1"

static const char *const status_names[] = { "ok", "warn", "fail", "unknown" };

/* Set what a check says. The text is palloc'd in the current context. */
void
check_says(CheckResult *result, CheckStatus status, const char *format, ...)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list arguments;
		int needed;

		va_start(arguments, format);
		needed = appendStringInfoVA(&text, format, arguments);
		va_end(arguments);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	result->status = status;
	result->value = text.data;
}

/* Set a setting for the rest of the GUC nest level. */
static void
set_locally(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Return what the error of a check means for it: what the caller may not see, or what somebody
 * holds at the moment, is not known; everything else would stop a pass, too.
 */
static CheckStatus
status_of(const ErrorData *error)
{
	switch (error->sqlerrcode)
	{
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
		case ERRCODE_LOCK_NOT_AVAILABLE:
			return CHECK_UNKNOWN;
		default:
			return CHECK_FAIL;
	}
}

/* Some work of a check. */
typedef struct CheckWork
{
	const Check *check;
	CheckContext *context;
	CheckResult *result;
} CheckWork;

static bool
look(void *argument)
{
	CheckWork *work = argument;

	work->check->look(work->check, work->context, work->result);
	return true;
}

/* Judge the pool for all checks that look at it. */
static bool
judge(void *argument)
{
	CheckWork *work = argument;

	work->context->pool = judgement_make(work->context->at)->pool;
	return true;
}

/*
 * Do some work in a subtransaction. Returns its error, or NULL. Raises only what
 * ERRCODE_OPERATOR_INTERVENTION covers, such as a cancel.
 */
static ErrorData *
try_work(SubtransactionWork work, CheckWork *argument)
{
	ErrorData *error = subtransaction_run(work, argument);

	if (error == NULL)
		return NULL;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		set_locally("lock_timeout", NO_WAIT_MS);
	return error;
}

/* The number of checks. */
int
checks_count(void)
{
	return server_checks_count + pool_checks_count;
}

/* A check by its number, in the order of prebuild_health(). */
const Check *
checks_get(int number)
{
	return number < server_checks_count ? &server_checks[number]
										: &pool_checks[number - server_checks_count];
}

/*
 * Is there a pool to look at? Otherwise the check does not know. The check "plan" says why, so that
 * one fault does not make all of them fail.
 */
bool
check_sees_pool(const CheckContext *context, CheckResult *result)
{
	if (context->pool == NULL)
		check_says(result, CHECK_UNKNOWN, "see the check \"plan\"");
	return context->pool != NULL;
}

/*
 * Run all checks. at: the clock of decisions. SPI must be connected; reads in the active snapshot,
 * by a constant number of statements. Returns a result for each check, palloc'd in the current
 * context. Raises only what ERRCODE_OPERATOR_INTERVENTION covers.
 */
CheckResult *
checks_run(TimestampTz at)
{
	CheckContext context = { .at = at, .now = GetCurrentTimestamp() };
	CheckResult *results = palloc0_array(CheckResult, checks_count());
	CheckWork work = { .context = &context };
	int guc_level = NewGUCNestLevel();

	/* rows that a policy hides would make the answer wrong, and warnings are for passes */
	set_locally("row_security", "off");
	set_locally("lock_timeout", LONGEST_WAIT_MS);
	context.pool_error = try_work(judge, &work);
	for (int i = 0; i < checks_count(); i++)
	{
		ErrorData *error;

		CHECK_FOR_INTERRUPTS();
		work.check = checks_get(i);
		work.result = &results[i];
		error = try_work(look, &work);
		if (error != NULL)
			check_says(&results[i], status_of(error), "%s", error->message);
	}
	AtEOXact_GUC(true, guc_level);
	return results;
}

/* SQL: a row for each check. */
Datum
prebuild_health_read(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = argument_clock(fcinfo, 0, "at");
	CheckResult *results;

	InitMaterializedSRF(fcinfo, 0);
	plans_enter(fcinfo);
	results = checks_run(at);
	for (int i = 0; i < checks_count(); i++)
	{
		const Check *check = checks_get(i);
		const char *advice = results[i].status == CHECK_OK ? NULL : check->advice;
		ResultRow row = { .n = 0 };

		if (results[i].status == CHECK_UNKNOWN)
			advice = "Look as a role that may see this, such as the owner of the tables, or look "
					 "again.";
		result_put_text(&row, check->name);
		result_put_text(&row, status_names[results[i].status]);
		result_put_text(&row, results[i].value);
		result_put_text(&row, check->threshold);
		result_put_text(&row, advice);
		result_row_store(rsinfo, &row);
	}
	plans_leave();
	return (Datum) 0;
}
