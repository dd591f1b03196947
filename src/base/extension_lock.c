/*
 * extension_lock.c
 *	  Keep the extension from being dropped under a transaction.
 *
 * DROP EXTENSION locks the extension, and then its tables and those of the control plane that have
 * its triggers, in whatever order their dependencies give. Who works with several of these tables
 * would meet it halfway: a deadlock. Who holds the extension first makes it wait at its first step,
 * where it has nothing yet that anybody wants.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "base/extension_lock.h"

/* The oid of the extension's schema; InvalidOid when the extension is not installed. */
static Oid
extension_schema(void)
{
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	Oid schema = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("prebuild_ext"));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return schema;
}

/*
 * Hold the extension until the end of the transaction, whose first lock this should be; waits for
 * somebody who is dropping it. Returns the oid of its schema, InvalidOid when there is none (any
 * more).
 */
Oid
extension_hold(void)
{
	Oid extension = get_extension_oid("prebuild_ext", true);

	if (!OidIsValid(extension))
		return InvalidOid;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return extension_schema();
}
