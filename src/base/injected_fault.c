/*
 * injected_fault.c
 *	  Faults on demand, for tests: the setting prebuild.inject_fault, which a superuser sets to
 *	  "KIND N". The Nth statement that the extension then begins in this session fails, once. "KIND
 *	  N+" makes all later ones fail, too. Kinds:
 *
 *	  error			what a trigger raises: the fault of a preset
 *	  internal		an internal error, which ends a pass
 *	  deadlock		this session is the victim of a deadlock
 *	  lock_timeout	another session does not give up a lock
 *	  cancel		somebody cancels the statement
 *	  exit			somebody terminates the backend
 *	  kill			the process dies at once, as from lack of memory
 *
 *	  Reading the setting gives what is left: "KIND N" with the number still to come, "KIND 0" once
 *	  it has failed, or nothing. The setting exists only in builds with assertions, because it would
 *	  let a superuser's mistake in a file of settings fail everything.
 */
#include "compat.h"

#include "base/injected_fault.h"

#ifdef USE_ASSERT_CHECKING

#include <signal.h>

#include "utils/guc.h"

/* A fault to come. */
typedef struct InjectedFault
{
	char kind[16]; /* empty: none */
	int left;	   /* statements until it, or 0: it has happened */
	bool lasting;  /* every statement after it fails, too */
} InjectedFault;

static char *setting_inject_fault = NULL;
static InjectedFault fault;
static char shown[64];

/* The kinds that raise an error, with what they raise. */
static const struct
{
	const char *kind;
	int sqlstate;
	const char *message;
} raised[] = {
	{ "error", ERRCODE_RAISE_EXCEPTION, "injected fault" },
	{ "internal", ERRCODE_INTERNAL_ERROR, "injected internal fault" },
	{ "deadlock", ERRCODE_T_R_DEADLOCK_DETECTED, "deadlock detected" },
	{ "lock_timeout", ERRCODE_LOCK_NOT_AVAILABLE, "canceling statement due to lock timeout" },
};

/* Read a value of the setting. Returns false if it is none. */
static bool
parse(const char *value, InjectedFault *parsed)
{
	static const char *const others[] = { "cancel", "exit", "kill" };
	char plus = '\0';
	char rest = '\0';
	int n;

	memset(parsed, 0, sizeof(*parsed));
	if (value[0] == '\0')
		return true;
	/* nine digits fit; NOLINTNEXTLINE(cert-err34-c) */
	n = sscanf(value, "%15[a-z_] %9d%c%c", parsed->kind, &parsed->left, &plus, &rest);
	if (n < 2 || n > 3 || parsed->left < 1 || (n == 3 && plus != '+'))
		return false;
	parsed->lasting = n == 3;
	for (size_t i = 0; i < lengthof(raised); i++)
		if (strcmp(parsed->kind, raised[i].kind) == 0)
			return true;
	for (size_t i = 0; i < lengthof(others); i++)
		if (strcmp(parsed->kind, others[i]) == 0)
			return true;
	return false;
}

static bool
check_fault(char **newval, void **extra, GucSource source)
{
	InjectedFault parsed;

	return parse(*newval, &parsed);
}

static void
assign_fault(const char *newval, void *extra)
{
	(void) parse(newval, &fault);
}

static const char *
show_fault(void)
{
	if (fault.kind[0] == '\0')
		return "";
	snprintf(shown, sizeof(shown), "%s %d%s", fault.kind, fault.left, fault.lasting ? "+" : "");
	return shown;
}

/* Define the setting. _PG_init calls this once, before the prefix of our settings is reserved. */
void
injected_fault_init(void)
{
	DefineCustomStringVariable(
		"prebuild.inject_fault", "Fails at a statement of the extension, for tests.", NULL,
		&setting_inject_fault, "", PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, check_fault,
		assign_fault, show_fault);
}

/*
 * A statement of the extension is about to begin: fail if this is the one. Raises the fault that
 * the setting names, or ends the process.
 */
void
injected_fault_point(void)
{
	if (fault.kind[0] == '\0' || (fault.left == 0 && !fault.lasting))
		return;
	if (fault.left > 0 && --fault.left > 0)
		return;
	for (size_t i = 0; i < lengthof(raised); i++)
		if (strcmp(fault.kind, raised[i].kind) == 0)
			ereport(ERROR, (errcode(raised[i].sqlstate), errmsg("%s", raised[i].message)));
	/* the real thing: the signals that pg_cancel_backend() and the others send */
	(void) kill(MyProcPid, strcmp(fault.kind, "cancel") == 0 ? SIGINT
						   : strcmp(fault.kind, "exit") == 0 ? SIGTERM
															 : SIGKILL);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
}

#endif /* USE_ASSERT_CHECKING */
