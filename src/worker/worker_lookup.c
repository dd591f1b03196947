/*
 * worker_lookup.c
 *	  What a worker finds out before it connects as a role: by the catalog alone, without SQL.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "catalog/control_plane_catalog.h"
#include "metadata/metadata_batcher.h"
#include "settings.h"
#include "worker/worker_lookup.h"

/*
 * The oid of a database, or InvalidOid; *open receives whether it takes connections. By a scan of
 * the whole catalog where the index is not known yet, as just after a server's start.
 */
static Oid
look_up_database(const char *name, bool *open)
{
	Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
	Oid database = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_database_datname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(name));
	scan = systable_beginscan(catalog, DatabaseNameIndexId, criticalSharedRelcachesBuilt, NULL, 1,
							  &key);
	*open = false;
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		database = form->oid;
		/* below -1: a DROP DATABASE of it was interrupted */
		*open = form->datallowconn && form->datconnlimit >= -1;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return database;
}

/*
 * Does somebody rename, copy, move or drop the database just now? That needs a lock on it which
 * keeps new connections out, and waits a few seconds for those that are there to go. In a
 * transaction, which keeps no lock because of it.
 */
bool
worker_database_wanted(Oid database)
{
	LOCKTAG tag;

	/* what a process that connects takes */
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, false);
	return false;
}

/* Can the role log in? Otherwise result->detail says so. */
static bool
role_can_log_in(Oid role, const char *name, LookupResult *result)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool can = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (!HeapTupleIsValid(tuple))
		snprintf(result->detail, WORKER_TEXT_SIZE, "role \"%s\" does not exist", name);
	else
	{
		ReleaseSysCache(tuple);
		if (!can)
			snprintf(result->detail, WORKER_TEXT_SIZE,
					 "role \"%s\" is not permitted to log in; name another in "
					 "prebuild.worker_role",
					 name);
	}
	return can;
}

/* Note which database has the slot's name; what waits for another one of that name is void. */
static void
note_database(int number, Oid database)
{
	WorkerSlot *slot = worker_slot(number);
	Oid before;

	LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
	before = slot->database_oid;
	slot->database_oid = database;
	LWLockRelease(&slot->lock);
	if (OidIsValid(before) && before != database)
		batcher_forget_all(number);
}

/* Find the database, and the role where one is named. In a transaction without a database. */
bool
worker_find_database(int number, LookupResult *result)
{
	const char *name = worker_slot_name(number);
	bool open;
	Oid database = look_up_database(name, &open);

	if (OidIsValid(database) && worker_database_wanted(database))
	{
		snprintf(result->detail, WORKER_TEXT_SIZE,
				 "database \"%s\" is being renamed, copied, moved or dropped", name);
		return false;
	}
	if (OidIsValid(database) || !worker_slot_buffers(number))
		note_database(number, database);
	if (!open)
	{
		snprintf(result->detail, WORKER_TEXT_SIZE,
				 OidIsValid(database) ? "database \"%s\" does not accept connections"
									  : "database \"%s\" does not exist",
				 name);
		return false;
	}
	if (setting_worker_role[0] == '\0')
	{
		result->next = STEP_FIND_ROLE;
		return true;
	}
	strlcpy(result->role, setting_worker_role, NAMEDATALEN);
	result->next = STEP_SERVE;
	return role_can_log_in(get_role_oid(setting_worker_role, true), setting_worker_role, result);
}

/* The owner of a table. */
static Oid
table_owner(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * Find the owner of the control plane's workspaces table, who must be no superuser: a trigger of
 * the tables would run as one. In a transaction as the bootstrap superuser: look-ups only. Where a
 * role is named meanwhile, or somebody wants the database for himself, result->next says to begin
 * again.
 */
bool
worker_find_role(int number, LookupResult *result)
{
	Oid table = control_plane_table("workspaces", true);
	Oid owner = OidIsValid(table) ? table_owner(table) : InvalidOid;
	char *name = OidIsValid(owner) ? GetUserNameFromId(owner, true) : NULL;

	if (setting_worker_role[0] != '\0' || worker_database_wanted(MyDatabaseId))
		return true;
	if (!OidIsValid(get_extension_oid("prebuild_ext", true)))
		snprintf(result->detail, WORKER_TEXT_SIZE, "extension prebuild_ext is not installed");
	else if (name == NULL)
		snprintf(result->detail, WORKER_TEXT_SIZE, "there is no table \"%s.workspaces\"",
				 setting_control_plane_schema);
	else if (superuser_arg(owner))
		snprintf(result->detail, WORKER_TEXT_SIZE,
				 "the owner of workspaces, \"%s\", is a superuser; name a role in "
				 "prebuild.worker_role",
				 name);
	else if (role_can_log_in(owner, name, result))
	{
		result->next = STEP_SERVE;
		strlcpy(result->role, name, NAMEDATALEN);
		return true;
	}
	return false;
}
