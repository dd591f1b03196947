/*
 * prebuild_ext.c
 *	  Module magic and _PG_init, which only calls each module's *_init().
 */
#include "compat.h"

#include "attach/attach.h"
#include "base/injected_fault.h"
#include "identity/identity_changes.h"
#include "identity/identity_stats.h"
#include "identity/identity_tables.h"
#include "pass/lock_linger.h"
#include "metadata/metadata_batcher.h"
#include "pass/pass_request.h"
#include "settings.h"
#include "worker/worker.h"
#include "slots/worker_slots.h"

PREBUILD_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	injected_fault_init();
	settings_init();
	lock_linger_init();
	identity_changes_init();
	identity_stats_init();
	identity_tables_init();
	pass_request_init();
	attach_init();
	if (process_shared_preload_libraries_in_progress)
	{
		worker_slots_init();
		batcher_init();
		worker_init();
	}
}
