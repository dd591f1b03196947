/*
 * identity_tables.c
 *	  The tables that identities come from: whether a caller may read them, and whether they are
 *	  still the ones that filled the cache.
 *
 * A backend keeps these answers until an invalidation message says that one of the tables, their
 * schema or a role may have changed. The next call then looks again. It empties the cache only if
 * the tables themselves are different, because a VACUUM sends the same message as a DROP.
 *
 * If unsure, bypass the cache and run the query.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/tupdesc.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "catalog/control_plane_catalog.h"
#include "identity/identity_cache.h"
#include "identity/identity_tables.h"
#include "settings.h"

/* The tables and columns that the query reads. attached: prebuild_attach() puts triggers there. */
static const struct
{
	const char *name;
	bool attached;
	const char *columns[9];
} tables[] = {
	{ "workspace_agents", true, { "id", "name", "resource_id", "deleted" } },
	{ "workspace_resources", false, { "id", "job_id" } },
	{ "workspace_builds", true, { "job_id", "workspace_id" } },
	{ "workspaces",
	  true,
	  { "id", "name", "owner_id", "organization_id", "template_id", "autostart_schedule",
		"deleted" } },
	{ "users", true, { "id", "username" } },
	{ "templates", true, { "id", "name" } },
};

/* A table as it was at the last look. */
typedef struct KnownTable
{
	Oid oid;
	Oid file;		   /* changes with TRUNCATE and rewrites */
	TupleDesc columns; /* in TopMemoryContext */
} KnownTable;

/* Whether a role may get answers from the cache. */
typedef struct KnownRole
{
	Oid role;
	bool may_read;
} KnownRole;

#define KNOWN_ROLES 16

static KnownTable known_tables[lengthof(tables)];
static KnownRole known_roles[KNOWN_ROLES];
static int nroles; /* looked up so far; known_roles has the newest KNOWN_ROLES */
static char known_schema[NAMEDATALEN];
static Oid known_schema_oid;
static Oid known_function;
static Oid known_row_type; /* the relation of the composite type */
static bool watched;

/* Whether all of the above is still valid. If not, the next call looks again. */
static bool valid = false;

/* The number of invalidation messages so far. */
static uint64 events = 0;

/* Record that something may have changed. Called from callbacks, so it looks nothing up. */
static void
invalidate(void)
{
	valid = false;
	events++;
}

static void
at_relation_event(Datum argument, Oid relation)
{
	bool known = !valid || !OidIsValid(relation) || relation == known_row_type;

	for (size_t i = 0; i < lengthof(tables) && !known; i++)
		known = relation == known_tables[i].oid;
	if (known)
		invalidate();
}

static void
at_catalog_event(Datum argument, int cache, uint32 hash)
{
	invalidate();
}

/* Register for invalidation messages. Called once from _PG_init. */
void
identity_tables_init(void)
{
	/* roles, memberships (that in pg_database_owner is by database), schemas with their rights */
	static const int caches[] = { AUTHOID, AUTHMEMROLEMEM, DATABASEOID, NAMESPACEOID };

	CacheRegisterRelcacheCallback(at_relation_event, (Datum) 0);
	for (size_t i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], at_catalog_event, (Datum) 0);
}

/* Raise an error that names a missing schema, table or column, or a schema that we may not use. */
void
identity_tables_require(void)
{
	for (size_t i = 0; i < lengthof(tables); i++)
	{
		Oid table = control_plane_table(tables[i].name, false);

		for (const char *const *column = tables[i].columns; *column != NULL; column++)
			(void) control_plane_column(table, *column);
	}
	/* a kept plan does not check the right to use the schema */
	(void) LookupExplicitNamespace(setting_control_plane_schema, false);
}

/* Does the table have our trigger, enabled always, also for session_replication_role = replica? */
static bool
is_watched(Relation table)
{
	TriggerDesc *triggers = table->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (strcmp(triggers->triggers[i].tgname, IDENTITY_TRIGGER) == 0)
			return triggers->triggers[i].tgenabled == TRIGGER_FIRES_ALWAYS;
	return false;
}

/* Compare a table with the known one. If it is different, empty the cache and know the new one. */
static void
compare_table(KnownTable *known, Relation table)
{
	TupleDesc old = known->columns;
	MemoryContext context;

	if (known->oid == RelationGetRelid(table) && known->file == table->rd_rel->relfilenode &&
		old != NULL && equalTupleDescs(old, RelationGetDescr(table)))
		return;
	identity_cache_reset();
	known->oid = RelationGetRelid(table);
	known->file = table->rd_rel->relfilenode;
	known->columns = NULL;
	if (old != NULL)
		FreeTupleDesc(old);
	context = MemoryContextSwitchTo(TopMemoryContext);
	known->columns = CreateTupleDescCopyConstr(RelationGetDescr(table));
	MemoryContextSwitchTo(context);
}

/* Does the table have every column that the query reads? */
static bool
has_columns(int number, Oid table)
{
	for (const char *const *column = tables[number].columns; *column != NULL; column++)
		if (get_attnum(table, *column) == InvalidAttrNumber)
			return false;
	return true;
}

/*
 * Look at a table. Returns whether its rows may be cached. Sets *all_watched to false if the table
 * lacks a trigger that prebuild_attach() puts there. Holds AccessShareLock meanwhile.
 */
static bool
look_at_table(int number, bool *all_watched)
{
	Oid oid = get_relname_relid(tables[number].name, known_schema_oid);
	Relation table = OidIsValid(oid) ? try_relation_open(oid, AccessShareLock) : NULL;
	bool ordinary;

	if (table == NULL)
		return false;
	/* the rows of a view or of a foreign table change without our triggers */
	ordinary = table->rd_rel->relkind == RELKIND_RELATION;
	if (ordinary)
		compare_table(&known_tables[number], table);
	if (tables[number].attached)
		*all_watched = *all_watched && is_watched(table);
	relation_close(table, AccessShareLock);
	return ordinary && has_columns(number, oid);
}

/* Look at all tables again, for a call of the function with that OID. */
static void
look(Oid function)
{
	uint64 events_before = events;
	bool all_watched = true;
	bool complete = true;

	if (function != known_function || strcmp(known_schema, setting_control_plane_schema) != 0)
		identity_cache_reset();
	known_function = function;
	known_row_type = get_typ_typrelid(get_func_rettype(function));
	strlcpy(known_schema, setting_control_plane_schema, NAMEDATALEN);
	known_schema_oid = get_namespace_oid(known_schema, true);
	nroles = 0;
	complete = OidIsValid(known_schema_oid);
	for (size_t i = 0; i < lengthof(tables) && complete; i++)
		complete = look_at_table(i, &all_watched);
	/* while triggers were missing, changes may have gone unseen */
	if (all_watched != watched)
		identity_cache_reset();
	watched = all_watched;
	/* we may have missed a change that came while we looked */
	valid = complete && events == events_before;
}

/* May a role read every row of a table, and every column that the query reads? */
static bool
may_read_table(int number, Oid role)
{
	Oid table = known_tables[number].oid;

	if (pg_class_aclcheck(table, role, ACL_SELECT) != ACLCHECK_OK)
		for (const char *const *column = tables[number].columns; *column != NULL; column++)
		{
			AttrNumber attribute = get_attnum(table, *column);

			if (attribute == InvalidAttrNumber ||
				pg_attribute_aclcheck(table, attribute, role, ACL_SELECT) != ACLCHECK_OK)
				return false;
		}
	return check_enable_rls(table, role, true) != RLS_ENABLED;
}

/* Look up whether a role may read all that the query reads. */
static bool
may_read(Oid role)
{
	if (!compat_may_use_schema(known_schema_oid, role))
		return false;
	for (size_t i = 0; i < lengthof(tables); i++)
		if (!may_read_table(i, role))
			return false;
	return true;
}

/*
 * May a role get answers from the cache, because it may read all that the query reads? First
 * accepts invalidation messages, and looks at the tables again if needed, which empties the cache
 * if they are different. function: the OID of prebuild_agent_identity(), which differs after the
 * extension was dropped and created again.
 */
bool
identity_tables_readable(Oid function, Oid role)
{
	KnownRole answer = { .role = role };

	AcceptInvalidationMessages();
	if (!valid || function != known_function ||
		strcmp(known_schema, setting_control_plane_schema) != 0)
		look(function);
	if (!valid)
		return false;
	for (int i = 0; i < Min(nroles, KNOWN_ROLES); i++)
		if (known_roles[i].role == role)
			return known_roles[i].may_read;
	answer.may_read = may_read(role);
	if (!valid)
		return false;
	known_roles[nroles++ % KNOWN_ROLES] = answer;
	return answer.may_read;
}

/*
 * Are all triggers that record changes in place? As of the last identity_tables_readable().
 */
bool
identity_tables_watched(void)
{
	return watched;
}
