/*
 * worker_lookup.c
 *	  The look-ups of a worker before it connects as a role. They read the catalogs only and run no
 *	  SQL.
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
 * Return the OID of a database, or InvalidOid if there is none. *open receives whether it accepts
 * connections. Scans the whole catalog while the index is not known yet, as just after the server
 * has started.
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
		/* DROP DATABASE sets a limit below -1, which stays if it is interrupted */
		*open = form->datallowconn && form->datconnlimit >= -1;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return database;
}

/*
 * Is another session renaming, copying, moving or dropping the database? Such a command takes a
 * lock on the database that keeps out new connections, and then waits a few seconds until the
 * existing connections are gone. Call it in a transaction. It takes that lock without waiting and
 * releases it at once.
 */
bool
worker_database_wanted(Oid database)
{
	LOCKTAG tag;

	/* the lock that a connecting process takes */
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, false);
	return false;
}

/* Can the role log in? If not, result->detail says why. name: of the role. */
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

/*
 * Record which database has the slot's name. If it is a new database of that name, discard what is
 * buffered for the old one. Takes the slot's lock.
 */
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

/*
 * Find the database and, if prebuild.worker_role names one, the role. Returns whether the next step
 * is known: then result has that step and the role, otherwise result->detail says why not. Call it
 * in a transaction, without a database.
 */
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

/* Return the owner of a table, or InvalidOid if the table is gone. */
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
 * Find the owner of the control plane's workspaces table. A superuser is not accepted, because the
 * tables' triggers would run as superuser. Returns whether the next step is known: then result has
 * that step and the role, otherwise result->detail says why not. If prebuild.worker_role names a
 * role by now, or another session wants the database for itself, the next step is the first one.
 * Call it in a transaction. As it may run as the bootstrap superuser, it only looks up catalogs.
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
