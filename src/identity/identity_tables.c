/*
 * identity_tables.c
 *	  The tables that identities come from: whether a caller may read them, and whether they are
 *	  still the ones that the cache was filled from.
 *
 * What is found out here is kept until the server says that something about these tables, their
 * schema or a role may have changed. Then it is found out again, at the next call; the cache is
 * emptied only when the tables themselves are others. (A vacuum says as much as a DROP.)
 *
 * In doubt the answer is no: then the query is run, which knows best.
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

/* What the query reads, and whether prebuild_attach() puts triggers there. */
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

/* A table as it was when we looked. */
typedef struct KnownTable
{
	Oid oid;
	Oid file;		   /* another one after TRUNCATE and rewrites */
	TupleDesc columns; /* in TopMemoryContext */
} KnownTable;

/* Whether a role may be answered from the cache. */
typedef struct KnownRole
{
	Oid role;
	bool may_read;
} KnownRole;

#define KNOWN_ROLES 16

static KnownTable known_tables[lengthof(tables)];
static KnownRole known_roles[KNOWN_ROLES];
static int nroles; /* that were asked about so far; the newest KNOWN_ROLES are known */
static char known_schema[NAMEDATALEN];
static Oid known_schema_oid;
static Oid known_function;
static Oid known_row_type; /* as a relation */
static bool watched;

/* False: all of the above is to be found out again. */
static bool valid = false;

/* How often the server said that something may have changed. */
static uint64 events = 0;

/* Take note that something may have changed. No look-ups here. */
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

/* Ask the server to tell us. Called once from _PG_init. */
void
identity_tables_init(void)
{
	/* roles, memberships (one of them by owning the database), and schemas with their rights */
	static const int caches[] = { AUTHOID, AUTHMEMROLEMEM, DATABASEOID, NAMESPACEOID };

	CacheRegisterRelcacheCallback(at_relation_event, (Datum) 0);
	for (size_t i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], at_catalog_event, (Datum) 0);
}

/* Raise an error that names what is missing or out of reach: schema, table or column. */
void
identity_tables_require(void)
{
	for (size_t i = 0; i < lengthof(tables); i++)
	{
		Oid table = control_plane_table(tables[i].name, false);

		for (const char *const *column = tables[i].columns; *column != NULL; column++)
			(void) control_plane_column(table, *column);
	}
	/* a kept plan would not ask for the right to use the schema */
	(void) LookupExplicitNamespace(setting_control_plane_schema, false);
}

/* Has a table our trigger, in force in every session? */
static bool
is_watched(Relation table)
{
	TriggerDesc *triggers = table->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (strcmp(triggers->triggers[i].tgname, IDENTITY_TRIGGER) == 0)
			return triggers->triggers[i].tgenabled == TRIGGER_FIRES_ALWAYS;
	return false;
}

/* Compare a table with what is known of it; the cache is emptied when it is another one. */
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

/* Has a table every column that the query reads? */
static bool
has_columns(int number, Oid table)
{
	for (const char *const *column = tables[number].columns; *column != NULL; column++)
		if (get_attnum(table, *column) == InvalidAttrNumber)
			return false;
	return true;
}

/*
 * Look at a table: is it one whose rows may be cached? Unsets all_watched when it lacks a trigger
 * that it should have.
 */
static bool
look_at_table(int number, bool *all_watched)
{
	Oid oid = get_relname_relid(tables[number].name, known_schema_oid);
	Relation table = OidIsValid(oid) ? try_relation_open(oid, AccessShareLock) : NULL;
	bool ordinary;

	if (table == NULL)
		return false;
	/* what is a view or a foreign table changes unseen */
	ordinary = table->rd_rel->relkind == RELKIND_RELATION;
	if (ordinary)
		compare_table(&known_tables[number], table);
	if (tables[number].attached)
		*all_watched = *all_watched && is_watched(table);
	relation_close(table, AccessShareLock);
	return ordinary && has_columns(number, oid);
}

/* Find out all about the tables, for a call of the function of that oid. */
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
	/* with other triggers, other changes have gone unseen */
	if (all_watched != watched)
		identity_cache_reset();
	watched = all_watched;
	/* what happened while we looked may be in what we saw, or not */
	valid = complete && events == events_before;
}

/* May a role read every column of a table that the query reads, and every row? */
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

/* Find out whether a role may be answered from the cache. */
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
 * May a role be answered from the cache, as it may read all that the query reads? Also brings
 * this backend up to date with what others did to the tables, and empties the cache where that
 * matters. function: the oid of prebuild_agent_identity(), another one after the extension was
 * created anew.
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
 * Are all triggers in place that note changes? As of the last identity_tables_readable().
 */
bool
identity_tables_watched(void)
{
	return watched;
}
