/*
 * constraints.c
 *	  Deferred constraints of the control plane's tables: check them now, and leave those of the
 *	  caller alone.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/subtransaction.h"
#include "catalog/constraints.h"
#include "catalog/control_plane_catalog.h"

/* Do checks of a table's constraints wait for the end of the transaction? */
static bool
checks_wait(Oid table)
{
	return OidIsValid(table) && AfterTriggerPendingOnRel(table);
}

/* Is an oid in an array of n? */
static bool
is_among(Oid oid, const Oid *oids, int n)
{
	for (int i = 0; i < n; i++)
		if (oids[i] == oid)
			return true;
	return false;
}

/* Look for the constraints of a name in a schema: SET CONSTRAINTS takes all of them. */
static SysScanDesc
begin_namesakes(Relation catalog, const char *name, Oid schema)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_pg_constraint_conname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(name));
	ScanKeyInit(&keys[1], Anum_pg_constraint_connamespace, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(schema));
	return systable_beginscan(catalog, ConstraintNameNspIndexId, true, NULL, 2, keys);
}

/*
 * Does another table have a constraint of this name, with checks that wait? Then we must not make
 * these checks, but SET CONSTRAINTS would, because it takes every constraint of a name in a
 * schema.
 */
static bool
has_waiting_namesake(Relation catalog, Form_pg_constraint constraint, const Oid *tables,
					 int ntables)
{
	SysScanDesc scan =
		begin_namesakes(catalog, NameStr(constraint->conname), constraint->connamespace);
	HeapTuple tuple;
	bool found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint other = (Form_pg_constraint) GETSTRUCT(tuple);

		found = other->condeferrable && !is_among(other->conrelid, tables, ntables) &&
				checks_wait(other->conrelid);
	}
	systable_endscan(scan);
	return found;
}

/* Is a constraint's name in a list (of RangeVar)? */
static bool
is_named(List *names, Form_pg_constraint constraint)
{
	ListCell *cell;

	foreach (cell, names)
	{
		RangeVar *name = lfirst(cell);

		if (strcmp(name->relname, NameStr(constraint->conname)) == 0)
			return true;
	}
	return false;
}

/*
 * Add the names (RangeVar) of a table's deferrable constraints to a list. The list has each name
 * once, because all tables are in one schema.
 */
static List *
add_deferrable(List *names, Relation catalog, Oid table, const Oid *tables, int ntables)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_constraint_conrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(catalog, ConstraintRelidTypidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint constraint = (Form_pg_constraint) GETSTRUCT(tuple);

		if (constraint->condeferrable && !is_named(names, constraint) &&
			!has_waiting_namesake(catalog, constraint, tables, ntables))
			names = lappend(names, makeRangeVar(get_namespace_name(constraint->connamespace),
												pstrdup(NameStr(constraint->conname)), -1));
	}
	systable_endscan(scan);
	return names;
}

/* Tables, and the names (RangeVar) of their deferrable constraints. */
typedef struct Deferrable
{
	Oid *tables;
	int ntables;
	List *names;
} Deferrable;

/* Defer constraints, or have them checked at once, including the checks that wait. */
static void
set_constraints(List *names, bool deferred)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	statement->constraints = names;
	statement->deferred = deferred;
	AfterTriggerSetState(statement);
}

/* Find the deferrable constraints of tables. Finds none if no check of these tables waits. */
static Deferrable
find_deferrable(const char *const *tables, int n)
{
	Deferrable found = { palloc_array(Oid, n), n, NIL };
	bool any = false;

	for (int i = 0; i < n; i++)
	{
		found.tables[i] = control_plane_table(tables[i], true);
		any = any || checks_wait(found.tables[i]);
	}
	if (any)
	{
		Relation catalog = table_open(ConstraintRelationId, AccessShareLock);

		for (int i = 0; i < n; i++)
			if (OidIsValid(found.tables[i]))
				found.names =
					add_deferrable(found.names, catalog, found.tables[i], found.tables, n);
		table_close(catalog, AccessShareLock);
	}
	return found;
}

/* A test of which checks wait while some constraints do not. */
typedef struct Probe
{
	const Deferrable *deferrable;
	List *immediate; /* the constraints to check */
	bool left;		 /* checks of other constraints wait */
} Probe;

/* Check some constraints and see what is left. Returns false to have this undone. */
static bool
probe(void *argument)
{
	Probe *probe = argument;

	set_constraints(probe->immediate, false);
	for (int i = 0; i < probe->deferrable->ntables; i++)
		probe->left = probe->left || checks_wait(probe->deferrable->tables[i]);
	return false;
}

/*
 * Return the constraints whose checks wait, which must therefore be deferred. PostgreSQL does not
 * tell how a constraint is set. But rolling back a subtransaction undoes SET CONSTRAINTS and
 * makes the checks due again. So check, for each constraint, all others, and see whether a check
 * is left. Raises what the checks raise.
 */
static List *
those_that_wait(const Deferrable *deferrable)
{
	List *waiting = NIL;
	ListCell *cell;

	foreach (cell, deferrable->names)
	{
		Probe look = { deferrable, list_delete_ptr(list_copy(deferrable->names), lfirst(cell)),
					   false };
		ErrorData *error = NULL;

		if (look.immediate == NIL)
			look.left = true;
		else
			error = subtransaction_run(probe, &look);
		if (error != NULL)
			ReThrowError(error);
		if (look.left)
			waiting = lappend(waiting, lfirst(cell));
	}
	return waiting;
}

/*
 * Those of the constraints that SET CONSTRAINTS refuses to defer again, because another constraint
 * of the same name cannot be deferred.
 */
static List *
those_with_fixed_namesakes(List *names)
{
	Relation catalog = table_open(ConstraintRelationId, AccessShareLock);
	List *fixed = NIL;
	ListCell *cell;

	foreach (cell, names)
	{
		RangeVar *name = lfirst(cell);
		SysScanDesc scan =
			begin_namesakes(catalog, name->relname, get_namespace_oid(name->schemaname, false));
		HeapTuple tuple;
		bool found = false;

		while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
			found = !((Form_pg_constraint) GETSTRUCT(tuple))->condeferrable;
		systable_endscan(scan);
		if (found)
			fixed = lappend(fixed, name);
	}
	table_close(catalog, AccessShareLock);
	return fixed;
}

/*
 * Check the deferred constraints of some control plane tables now. A violation then fails in the
 * subtransaction and not at the commit, and deferred triggers run with the search_path that our
 * caller has set for them.
 *
 * This checks only the constraints of these tables, because the transaction's owner may violate
 * those of his own tables for a while. It defers the constraints again afterwards and leaves
 * alone those that were not deferred, so that his own SET CONSTRAINTS holds as before. (It may
 * take a constraint for a deferred one if he changed keys of these tables to which a table of his
 * own refers by a deferred foreign key.)
 */
void
constraints_check(const char *const *tables, int n)
{
	Deferrable deferrable = find_deferrable(tables, n);
	List *waiting = those_that_wait(&deferrable);
	List *fixed = waiting == NIL ? NIL : those_with_fixed_namesakes(waiting);
	List *settable = list_difference_ptr(waiting, fixed);

	if (settable != NIL)
	{
		set_constraints(settable, false);
		set_constraints(settable, true);
	}
	/* nothing but undoing the check defers these again: the commit checks them once more */
	if (fixed != NIL)
	{
		Probe look = { &deferrable, fixed, false };
		ErrorData *error = subtransaction_run(probe, &look);

		if (error != NULL)
			ReThrowError(error);
	}
}

/*
 * Does a control plane table satisfy its deferred constraints as it is? Asking changes nothing.
 * Raises errors that do not come from the constraints (is_fault tells).
 */
bool
constraints_hold(const char *table, bool (*is_fault)(const ErrorData *error))
{
	Deferrable deferrable = find_deferrable(&table, 1);
	Probe look = { &deferrable, deferrable.names, false };
	ErrorData *error = deferrable.names == NIL ? NULL : subtransaction_run(probe, &look);

	if (error != NULL && !is_fault(error))
		ReThrowError(error);
	return error == NULL;
}
