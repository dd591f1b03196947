/*
 * pool_trust.c
 *	  Whether a reader may trust the stored pool. If unsure, bypass it and read the tables.
 *
 *	  The fingerprint identifies what the stored pool was built from: the database, the files of the
 *	  tables, the columns, and the triggers that log their changes, each as it was made. A reader
 *	  computes it in the snapshot that it answers for, from the rows of that snapshot. So every
 *	  snapshot that sees a change made while a trigger was off sees another fingerprint, because
 *	  turning a trigger off or on updates its row in pg_trigger, and takes a lock that waits for all
 *	  writers of the table. The same holds after a restore, pg_upgrade or TRUNCATE, for another
 *	  table of the same name, and for a table that was in another schema meanwhile, where its
 *	  changes were logged as that schema's. (A snapshot from before a TRUNCATE still sees the old
 *	  fingerprint, because TRUNCATE is not MVCC-safe.) The fingerprint has the ctid of catalog rows
 *	  beside their xmin, because ctid tells two changes of one transaction apart. No reader trusts
 *	  an unlogged table, because a crash empties it.
 *
 *	  If there is no fingerprint, pool_trust_fault() finds the reason by the same conditions.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "catalog/control_plane_catalog.h"
#include "base/plans.h"
#include "pool/member_columns.h"
#include "pool/pool_log.h"
#include "pool/pool_trust.h"
#include "base/rows.h"
#include "settings.h"

#define NAME_OF_TABLE(table, kind, columns) table,
static const char *const pool_tables[] = { POOL_TABLES(NAME_OF_TABLE, NAME_OF_TABLE) };

/* The same tables with the kinds and columns of their triggers, as rows of VALUES. */
#define FIRST_WATCHED(table, kind, columns) "('" table "', '" kind "', '" columns "')"
#define NEXT_WATCHED(table, kind, columns) ", " FIRST_WATCHED(table, kind, columns)
#define WATCHED                                                                                    \
	"(VALUES " POOL_TABLES(FIRST_WATCHED, NEXT_WATCHED) ") AS watched (table_, kind, names)"

/*
 * A table's trigger "t" sees every change if all of the following hold. $1 is the control plane's
 * schema, $3 the extension's. (In pg_trigger.tgtype, 1 is for each row, 2 before, 16 on update.)
 */
#define CALLS(t, function)                                                                         \
	"EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid {=} " t ".tgfoid"                        \
	" AND p.pronamespace {=} $3 AND p.proname {=} '" function "')"

/*
 * It calls our function and is on the columns by their current names; or it is on every update, and
 * calls the function that takes the columns' names as arguments.
 */
#define IS_ON_COLUMNS                                                                                                                                             \
	"CASE t.tgattr::pg_catalog.text WHEN '' THEN " CALLS(                                                                                                         \
		"t",                                                                                                                                                      \
		"prebuild_pool_touched_by_name") " AND pg_catalog.encode(t.tgargs, 'escape') {=}"                                                                         \
										 " pg_catalog.replace(pg_catalog.concat_ws(', ', watched.kind, watched.names, ''), ', ',"                                 \
										 "  E'\\\\000')"                                                                                                          \
										 " ELSE " CALLS(                                                                                                          \
											 "t",                                                                                                                 \
											 "prebuild_pool_touched") " AND watched.names {=} (SELECT pg_catalog.string_agg(a.attname, ', ' ORDER BY n.position)" \
																	  "  FROM pg_catalog.unnest(t.tgattr::pg_catalog.int2[]) WITH ORDINALITY AS n (column_,"      \
																	  "   position) JOIN pg_catalog.pg_attribute a ON a.attrelid {=} c.oid"                       \
																	  "   AND a.attnum {=} n.column_ AND NOT a.attisdropped) END"

/* A BEFORE trigger "x" may change a row in an update for which "t" does not fire. */
#define IS_UNSEEN                                                                                  \
	"x.tgrelid {=} c.oid AND (x.tgtype {&} 19::pg_catalog.int2) {=} 19 AND x.tgenabled {<>} 'D'"   \
	" AND t.tgattr::pg_catalog.text {<>} '' AND (x.tgattr::pg_catalog.text {=} ''"                 \
	"  OR NOT x.tgattr::pg_catalog.int2[] {<@} t.tgattr::pg_catalog.int2[])"

#define TRUNCATE_TRIGGER(t) t ".tgrelid {=} c.oid AND " t ".tgname {=} '" POOL_TRUNCATE_TRIGGER "'"

#define SEES_EVERYTHING                                                                                                     \
	"t.tgenabled {=} 'A' AND " IS_ON_COLUMNS                                                                                \
	" AND EXISTS (SELECT FROM pg_catalog.pg_trigger u WHERE " TRUNCATE_TRIGGER("u") "  AND u.tgenabled {=} 'A' AND " CALLS( \
		"u",                                                                                                                \
		"prebuild_pool_touched") ")"                                                                                        \
								 " AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger x WHERE " IS_UNSEEN                    \
								 ")"

#define HAS_CHILDREN "EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent {=} c.oid)"

/* The types of the watched columns. */
#define TYPES                                                                                      \
	"(SELECT pg_catalog.string_agg(pg_catalog.format('%s:%s', a.attnum, a.atttypid), ','"          \
	"  ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid {=} c.oid"               \
	"  AND a.attname {=} ANY (pg_catalog.string_to_array(watched.names, ', ')::pg_catalog.name[]))"

/* The extension's own tables that the stored pool needs; both must be logged. */
#define OWN_TABLES                                                                                 \
	"pg_catalog.pg_class own WHERE own.relnamespace {=} $3 AND own.relname {=} ANY"                \
	" ('{prebuild_pool_log,prebuild_pool_state}'::pg_catalog.name[])"

/*
 * The fingerprint, or NULL unless every table is watched. $1: the control plane's schema, $2: the
 * database, $3: the extension's schema.
 */
#define FINGERPRINT                                                                                \
	"SELECT pg_catalog.format('%s / %s / %s', $2::pg_catalog.text,"                                \
	"  pg_catalog.string_agg(pg_catalog.format('%s %s %s%s %s %s%s %s', c.oid, c.relfilenode,"     \
	"   c.xmin, c.ctid, t.oid, t.xmin, t.ctid, " TYPES "), ' / ' ORDER BY c.oid),"                 \
	"  (SELECT pg_catalog.string_agg(pg_catalog.format('%s %s', own.oid, own.relfilenode), ' '"    \
	"   ORDER BY own.oid) FROM " OWN_TABLES "))"                                                   \
	"  AS fingerprint"                                                                             \
	" FROM " WATCHED                                                                               \
	" JOIN pg_catalog.pg_class c ON c.relname {=} watched.table_::pg_catalog.name"                 \
	"  AND c.relnamespace {=} $1 AND c.relkind {=} 'r' AND c.relpersistence {=} 'p'"               \
	"  AND NOT " HAS_CHILDREN " JOIN pg_catalog.pg_trigger t ON t.tgrelid {=} c.oid"               \
	"  AND t.tgname {=} '" POOL_LOG_TRIGGER "'"                                                    \
	" WHERE " SEES_EVERYTHING " HAVING pg_catalog.count(*) {=} (SELECT pg_catalog.count(*)"        \
	"  FROM " WATCHED ") AND (SELECT pg_catalog.count(*)"                                          \
	"  FROM " OWN_TABLES " AND own.relpersistence {=} 'p') {=} 2"

/*
 * Returns false while a statement of this session may be writing to one of the tables, or while one
 * of its triggers runs, because such a statement logs its changed rows only when it ends. A
 * statement keeps its tables open. The lock on the table tells a writer from a reader, unless this
 * transaction has written before. Takes AccessShareLock on each table and releases it.
 */
bool
pool_tables_at_rest(void)
{
	if (DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 0)
		return false;
	for (size_t i = 0; i < lengthof(pool_tables); i++)
	{
		Oid oid = control_plane_table(pool_tables[i], true);
		Relation table = OidIsValid(oid) ? try_relation_open(oid, AccessShareLock) : NULL;
		bool at_rest = table != NULL && (table->rd_refcnt == 1 ||
										 !CheckRelationLockedByMe(table, RowExclusiveLock, true));

		if (table != NULL)
			relation_close(table, AccessShareLock);
		if (!at_rest)
			return false;
	}
	return true;
}

/*
 * Lock the tables of which the pool is computed until the end of the transaction. Decide on the
 * pool in a snapshot that is taken afterwards: while we wait for a table, somebody may write it
 * anew, as many an ALTER TABLE does, and a snapshot from before then finds it empty. Takes
 * AccessShareLock on each table; raises lock_not_available if it has to wait for too long.
 */
void
pool_tables_lock(void)
{
	for (size_t i = 0; i < lengthof(pool_tables); i++)
		(void) RangeVarGetRelid(
			makeRangeVar(pstrdup(setting_control_plane_schema), pstrdup(pool_tables[i]), -1),
			AccessShareLock, true);
}

/*
 * Keep the tables, and those of the stored pool, from being truncated, written anew or replaced
 * until the end of the transaction, which a snapshot from before does not show. Returns false, and
 * locks nothing, unless the log's trigger exists. Takes AccessShareLock on each table; raises
 * lock_not_available if it has to wait for too long. The caller may read the tables, see
 * pool_tables_readable().
 */
bool
pool_tables_hold(void)
{
	Oid schema = plans_extension_schema();
	Oid workspaces = control_plane_table(pool_tables[0], true);
	Oid log = get_relname_relid("prebuild_pool_log", schema);
	Oid state = get_relname_relid("prebuild_pool_state", schema);

	if (!OidIsValid(workspaces) || !OidIsValid(log) || !OidIsValid(state) ||
		!OidIsValid(get_trigger_oid(workspaces, POOL_LOG_TRIGGER, true)))
		return false;
	pool_tables_lock();
	LockRelationOid(log, AccessShareLock);
	LockRelationOid(state, AccessShareLock);
	return true;
}

/*
 * May the current user read all rows of the tables? If not, read the tables, which apply the user's
 * rights.
 */
bool
pool_tables_readable(void)
{
	Oid role = GetUserId();
	Oid schema = get_namespace_oid(setting_control_plane_schema, true);

	if (!OidIsValid(schema) || !compat_may_use_schema(schema, role))
		return false;
	for (size_t i = 0; i < lengthof(pool_tables); i++)
	{
		Oid table = control_plane_table(pool_tables[i], true);

		if (!OidIsValid(table) || pg_class_aclcheck(table, role, ACL_SELECT) != ACLCHECK_OK ||
			check_enable_rls(table, role, true) == RLS_ENABLED)
			return false;
	}
	return true;
}

/* Return the oid of prebuild_pool_member in this database, or InvalidOid. */
Oid
pool_member_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("prebuild_pool_member"),
						   ObjectIdGetDatum(plans_extension_schema()));
}

/* The oids of the types that MEMBER_COLUMNS names. */
#define OID_OF_uuid UUIDOID
#define OID_OF_text TEXTOID
#define OID_OF_int4 INT4OID
#define OID_OF_bool BOOLOID
#define OID_OF_timestamptz TIMESTAMPTZOID
#define OID_OF__uuid UUIDARRAYOID
#define KNOWN_COLUMN(name, type, value, field) { #name, OID_OF_##type },

/*
 * Does prebuild_pool_member in this database have the columns that this library gives a member
 * (MEMBER_COLUMNS)? An older or newer script may define others: then read the tables.
 */
bool
pool_member_known(void)
{
	static const struct
	{
		const char *name;
		Oid type;
	} known[] = { { "control_plane", OIDOID }, { "id", UUIDOID }, KEPT_COLUMNS(KNOWN_COLUMN) };
	Oid type = pool_member_type();
	TupleDesc columns = OidIsValid(type) ? lookup_rowtype_tupdesc_noerror(type, -1, true) : NULL;
	bool same = columns != NULL && columns->natts == lengthof(known);

	for (size_t i = 0; i < lengthof(known) && same; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		same = strcmp(NameStr(column->attname), known[i].name) == 0 &&
			   column->atttypid == known[i].type;
	}
	if (columns != NULL)
		ReleaseTupleDesc(columns);
	return same;
}

/*
 * Read what the active snapshot says of the stored pool. Reads only catalogs and own tables, with
 * the rights of the extension's owner. SPI must be connected. The result is palloc'd in the current
 * context. Raises an error if the control plane's schema does not exist.
 */
PoolTrust
pool_trust(void)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, TEXTOID, OIDOID };
	PoolTrust trust = { .control_plane = get_namespace_oid(setting_control_plane_schema, false) };
	char *database = psprintf(UINT64_FORMAT " %u", GetSystemIdentifier(), MyDatabaseId);
	Datum values[] = { ObjectIdGetDatum(trust.control_plane), CStringGetTextDatum(database),
					   ObjectIdGetDatum(plans_extension_schema()) };
	bool null;
	Datum value;

	plan_execute(
		&plan,
		"SELECT f.fingerprint, m.fingerprint {=} f.fingerprint, m.members::pg_catalog.int8,"
		" m.log_from::pg_catalog.xid8, m.log_open::pg_catalog.xid8[],"
		" m.control_plane IS NOT NULL,"
		" COALESCE(pg_catalog.starts_with(m.fingerprint, '" POOL_GIVEN_UP "'), false)"
		" FROM (SELECT (" FINGERPRINT ") AS fingerprint OFFSET 0) f"
		" LEFT JOIN {ext}prebuild_pool_marker m ON m.control_plane {=} $1",
		PLAN_READ_OWN, 3, argtypes, values, NULL);
	value = row_value(0, 1, &null);
	trust.fingerprint = null ? NULL : TextDatumGetCString(value);
	value = row_value(0, 2, &null);
	trust.trusted = !null && DatumGetBool(value);
	if (trust.trusted)
	{
		trust.members = DatumGetInt64(row_get(0, 3));
		trust.log_from = datumCopy(row_get(0, 4), FLOAT8PASSBYVAL, 8);
		trust.log_open = datumCopy(row_get(0, 5), false, -1);
	}
	trust.marked = DatumGetBool(row_get(0, 6));
	trust.given_up = DatumGetBool(row_get(0, 7));
	SPI_freetuptable(SPI_tuptable);
	return trust;
}

/*
 * Find out why no reader trusts the stored pool, in the active snapshot. Returns the reason as the
 * end of a sentence, or NULL if there is none or the control plane is not attached. *hint receives
 * what to do about it, or NULL; it is set only with a reason. SPI must be connected. Results are
 * palloc'd in the current context.
 */
char *
pool_trust_fault(Oid control_plane, char **hint)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { OIDOID, OIDOID, OIDOID };
	/* only the fingerprint uses the second one */
	Datum values[] = { ObjectIdGetDatum(control_plane), ObjectIdGetDatum(InvalidOid),
					   ObjectIdGetDatum(plans_extension_schema()) };
	char *fault = NULL;

#define ATTACH " 'Call prebuild_attach() as the owner of the tables.'"
#define LOG_TRIGGER "trigger \"" POOL_LOG_TRIGGER "\" of table \"%s\""
	/* in the order in which to mend them; return the first one */
	if (plan_execute(
			&plan,
			"SELECT f.fault, CASE f.rank WHEN 1 THEN 'Run ALTER TABLE ... SET LOGGED.'"
			"  WHEN 2 THEN NULL ELSE" ATTACH " END"
			" FROM (SELECT 1 AS rank, own.relname AS table_,"
			"   pg_catalog.format('the extension''s table \"%s\" is unlogged', own.relname) AS fault"
			"  FROM " OWN_TABLES " AND own.relpersistence {<>} 'p'"
			" UNION ALL SELECT CASE WHEN c.relpersistence {<>} 'p' THEN 1"
			"    WHEN c.oid IS NULL OR c.relkind {<>} 'r' OR " HAS_CHILDREN
			"    THEN 2 ELSE 3 END, watched.table_,"
			"   pg_catalog.format(CASE WHEN c.oid IS NULL THEN 'table \"%s\" does not exist'"
			"    WHEN c.relkind {<>} 'r' THEN '\"%s\" is not an ordinary table'"
			"    WHEN c.relpersistence {<>} 'p' THEN 'table \"%s\" is unlogged'"
			"    WHEN " HAS_CHILDREN " THEN 'other tables inherit from table \"%s\"'"
			"    WHEN t.oid IS NULL THEN 'table \"%s\" lacks trigger \"" POOL_LOG_TRIGGER "\"'"
			"    WHEN NOT " IS_ON_COLUMNS "    THEN '" LOG_TRIGGER
			" is not the one that prebuild_attach() creates'"
			"    WHEN t.tgenabled {=} 'D' THEN '" LOG_TRIGGER " is disabled'"
			"    WHEN t.tgenabled {<>} 'A' THEN '" LOG_TRIGGER " does not fire in all sessions'"
			"    WHEN u.oid IS NULL OR NOT " CALLS(
				"u",
				"prebuild_pool_touched") "    THEN 'table \"%s\" lacks trigger \"" POOL_TRUNCATE_TRIGGER
										 "\"'"
										 "    WHEN u.tgenabled {<>} 'A'"
										 "    THEN 'trigger \"" POOL_TRUNCATE_TRIGGER
										 "\" of table \"%s\" does not fire in all"
										 " sessions' WHEN unseen.tgname IS NOT NULL THEN 'trigger \"%2$s\" of table \"%1$s\" may"
										 " change columns that a statement does not name, which trigger \"" POOL_LOG_TRIGGER
										 "\" does not see'"
										 "    END, watched.table_, unseen.tgname)"
										 "  FROM " WATCHED " LEFT JOIN pg_catalog.pg_class c"
										 "   ON c.relname {=} watched.table_::pg_catalog.name AND c.relnamespace {=} $1"
										 "  LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid {=} c.oid"
										 "   AND t.tgname {=} '" POOL_LOG_TRIGGER "'"
										 "  LEFT JOIN pg_catalog.pg_trigger u ON " TRUNCATE_TRIGGER(
											 "u") "  LEFT JOIN LATERAL (SELECT x.tgname FROM pg_catalog.pg_trigger x WHERE " IS_UNSEEN
												  "   ORDER BY x.tgname LIMIT 1) unseen ON true) f"
												  " WHERE f.fault IS NOT NULL AND EXISTS ("
												  "  SELECT FROM pg_catalog.pg_trigger a JOIN pg_catalog.pg_class o ON o.oid {=} a.tgrelid"
												  "  WHERE o.relnamespace {=} $1 AND a.tgname {=} ANY ('{" POOL_LOG_TRIGGER
												  "," POOL_TRUNCATE_TRIGGER
												  "}'::pg_catalog.name[]))"
												  " ORDER BY f.rank, f.table_ LIMIT 1",
			PLAN_READ_OWN, 3, argtypes, values, NULL) > 0)
	{
		bool null;

		fault = row_text(0, 1);
		(void) row_value(0, 2, &null);
		*hint = null ? NULL : row_text(0, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return fault;
}
