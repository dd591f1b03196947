/*
 * pool_lock.c
 *	  Holds pool members still: lock, then look again. All code that takes a workspace out of the
 *	  pool (a delete, a cancel, a claim) locks it here.
 *
 *	  Locks: FOR UPDATE on the rows of workspaces that are in the pool, without waiting. This
 *	  conflicts with the key share lock that the foreign key of a new build takes. So nobody can add
 *	  a build to a workspace that is locked here, and a workspace that is getting a new build is
 *	  skipped. The second look is a statement of its own, in a snapshot taken after the lock at
 *	  every isolation level. So it sees what committed between the judgement and the lock; a single
 *	  statement would see the builds of the snapshot from before the lock. In REPEATABLE READ and
 *	  SERIALIZABLE, a row that changed since the transaction's snapshot raises a serialization
 *	  failure, as in any other statement that locks rows.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/uuid.h"

#include "base/ids.h"
#include "base/plans.h"
#include "pool/pool_lock.h"
#include "pool/pool_sql.h"
#include "base/rows.h"

/*
 * Lock the members that no other transaction holds, or only the first of them. Skips workspaces
 * that have left the pool. Returns the ids of the locked workspaces.
 */
static ArrayParameter *
lock_workspaces(PoolMember *const *members, int n, bool first_only)
{
	static KeptPlan all_plan;
	static KeptPlan first_plan = { .generic = true };
	static const Oid argtypes[] = { UUIDARRAYOID };
	ArrayParameter *ids = array_new(UUIDOID);
	ArrayParameter *locked = array_new(UUIDOID);
	Datum values[1];
	uint64 nlocked;

	/* IS TRUE keeps the planner from reading the index on the owner, too, that is, the whole pool */
#define LOCKABLE                                                                                   \
	"SELECT w.id::pg_catalog.uuid FROM {cp}workspaces w"                                           \
	" WHERE w.id {=} ANY ($1) AND " IS_IN_POOL " IS TRUE ORDER BY "
	for (int i = 0; i < n; i++)
		array_add_id(ids, &members[i]->id);
	values[0] = array_datum(ids);
	if (first_only)
		nlocked = plan_execute(&first_plan,
							   LOCKABLE "pg_catalog.array_position($1, w.id::pg_catalog.uuid)"
										" LIMIT 1 FOR UPDATE SKIP LOCKED",
							   PLAN_FRESH, 1, argtypes, values, NULL);
	else
		nlocked = plan_execute(&all_plan, LOCKABLE "w.id FOR UPDATE SKIP LOCKED", PLAN_FRESH, 1,
							   argtypes, values, NULL);
	for (uint64 i = 0; i < nlocked; i++)
	{
		Id *id = palloc_object(Id);

		*id = row_id(i, 1);
		array_add_id(locked, id);
	}
	SPI_freetuptable(SPI_tuptable);
	return locked;
}

/*
 * Keep those members, of locked workspaces, whose latest build is still the one that was judged.
 * Preserves the order of the array. Returns how many are left.
 */
static int
look_again(PoolMember **members, int n, const ArrayParameter *locked)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { array_datum(locked) };
	Id *unchanged;
	uint64 nunchanged;
	int kept = 0;

	nunchanged =
		plan_execute(&plan,
					 "SELECT b.id::pg_catalog.uuid FROM {cp}workspaces w, LATERAL ("
					 "  SELECT wb.id FROM {cp}workspace_builds wb WHERE wb.workspace_id {=} w.id"
					 "  ORDER BY wb.build_number DESC LIMIT 1) b"
					 " WHERE w.id {=} ANY ($1) AND " IS_IN_POOL " IS TRUE ORDER BY b.id",
					 PLAN_READ_LATEST, 1, argtypes, values, NULL);
	unchanged = palloc_array(Id, nunchanged + 1);
	for (uint64 i = 0; i < nunchanged; i++)
		unchanged[i] = row_id(i, 1);
	SPI_freetuptable(SPI_tuptable);

	for (int i = 0; i < n; i++)
		if (bsearch(&members[i]->build_id, unchanged, nunchanged, sizeof(Id), id_compare) != NULL)
			members[kept++] = members[i];
	return kept;
}

/*
 * Lock members and keep those that are still what was judged: in the pool, with the same latest
 * build. Drops from the array the members that another transaction holds and those that have
 * changed, and preserves the order of the others. Returns how many are left. The locks last until
 * the end of the (sub)transaction, also those on dropped members. SPI must be connected. Raises a
 * serialization failure as the head comment says.
 */
int
pool_lock(PoolMember **members, int n)
{
	if (n == 0)
		return 0;
	return look_again(members, n, lock_workspaces(members, n, false));
}

/*
 * Lock the first member that is in the pool and that no other transaction holds. Returns its
 * position, or n if there is none. *unchanged tells whether the member is still what was judged.
 * The lock lasts until the end of the (sub)transaction. SPI must be connected.
 */
int
pool_lock_first(PoolMember *const *members, int n, bool *unchanged)
{
	ArrayParameter *locked = n > 0 ? lock_workspaces(members, n, true) : NULL;
	PoolMember *member;
	int position = 0;

	*unchanged = false;
	if (locked == NULL || locked->n == 0)
		return n;
	while (memcmp(&members[position]->id, DatumGetUUIDP(locked->values[0]), sizeof(Id)) != 0)
		position++;
	member = members[position];
	*unchanged = look_again(&member, 1, locked) == 1;
	return position;
}
