/*
 * extension_lock.c
 *	  Keep others from dropping the extension under a transaction.
 *
 * DROP EXTENSION first locks the extension. It then locks the extension's tables and those
 * control plane tables that have its triggers, in whatever order their dependencies give. A
 * transaction that works with several of these tables could meet it halfway and deadlock. A
 * transaction that holds the extension first makes DROP EXTENSION wait at its first step, where
 * it holds nothing yet that anybody wants.
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

/* Return the oid of the extension's schema, or InvalidOid if the extension is not installed. */
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
 * Hold the extension (AccessShareLock) until the end of the transaction, whose first lock this
 * should be. Waits for a session that is dropping the extension. Returns the oid of its schema,
 * or InvalidOid if the extension does not exist (any more).
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
