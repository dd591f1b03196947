/*
 * membership.c
 *	  The system user's membership in organizations. It must be a member of each organization that
 *	  has prebuilds, or that its templates may give some, and of that organization's group for
 *	  prebuilds. Administrators use the group to give prebuilds their quota. The system user joins
 *	  no other organization, because Coder does not delete one that still has members or groups.
 *
 *	  Several sessions may do this at the same time: each insert skips what its unique key finds,
 *	  and nothing updates a row.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/timestamp.h"

#include "decision/control_plane.h"
#include "base/ids.h"
#include "pass/membership.h"
#include "base/plans.h"
#include "base/rows.h"

#define GROUP_NAME "coderprebuiltworkspaces"
#define GROUP_DISPLAY_NAME "Prebuilt Workspaces"

/*
 * Does a preset need the system user in its organization? Not if its version is neither active nor
 * staged, or its template deleted, even while prebuilds of it remain to be deleted. Whoever deletes
 * an organization deletes its templates first, and the organization must not get a member again
 * then.
 */
static bool
needs_place(const Preset *preset)
{
	const PresetDetails *details = preset->details;

	return !details->organization_deleted && !preset->template_deleted &&
		   (id_compare(&preset->template_version_id, &preset->active_version_id) == 0 ||
			preset->staged_share > 0) &&
		   (details->can_want || details->has_members);
}

/*
 * Write the distinct ids of the organizations that the system user must join into organizations, in
 * order, and return their number. organizations: the caller's array, with room for one id per
 * preset.
 */
int
membership_organizations(const PoolSnapshot *pool, Id *organizations)
{
	int found = 0;
	int n = 0;

	for (int i = 0; i < pool->npresets; i++)
		if (needs_place(&pool->presets[i]))
			organizations[found++] = pool->presets[i].organization_id;
	qsort(organizations, found, sizeof(Id), id_compare);
	for (int i = 0; i < found; i++)
		if (n == 0 || id_compare(&organizations[n - 1], &organizations[i]) != 0)
			organizations[n++] = organizations[i];
	return n;
}

/* Raise an error if the system user does not exist. SPI is connected. */
void
membership_require_system_user(void)
{
	static KeptPlan plan;

	if (plan_execute(&plan, "SELECT FROM {cp}users WHERE id {=} '" SYSTEM_USER "'::pg_catalog.uuid",
					 PLAN_FRESH, 0, NULL, NULL, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
						errmsg("the system user %s does not exist", SYSTEM_USER),
						errhint("The control plane's users table must have the owner of prebuilt "
								"workspaces.")));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Make the system user a member of n organizations, create their groups and add the user to them.
 * Skips whatever exists. at: the time of new rows. SPI is connected. Raises whatever the tables'
 * constraints and triggers raise.
 */
void
membership_ensure(const Id *organizations, int n, int64_t at)
{
	static KeptPlan member_plan, group_plan, group_member_plan;
	static const Oid argtypes[] = { UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID };
	ArrayParameter *ids = array_new(UUIDOID);
	ArrayParameter *group_ids = array_new(UUIDOID);
	Datum values[3];

	for (int i = 0; i < n; i++)
	{
		array_add_id(ids, &organizations[i]);
		array_add_id(group_ids, id_new());
	}
	values[0] = array_datum(ids);
	values[1] = array_datum(group_ids);
	values[2] = TimestampTzGetDatum(at);

	plan_execute(&member_plan,
				 "INSERT INTO {cp}organization_members"
				 " (user_id, organization_id, created_at, updated_at, roles)"
				 " SELECT '" SYSTEM_USER "'::pg_catalog.uuid, o.id, $3, $3, '{}'::pg_catalog.text[]"
				 " FROM {unnest 2} o (id, group_id) WHERE NOT EXISTS ("
				 "  SELECT FROM {cp}organization_members m WHERE m.organization_id {=} o.id"
				 "  AND m.user_id {=} '" SYSTEM_USER "'::pg_catalog.uuid)"
				 " ON CONFLICT DO NOTHING",
				 PLAN_FRESH, 3, argtypes, values, NULL);
	plan_execute(&group_plan,
				 "INSERT INTO {cp}groups"
				 " (id, name, organization_id, display_name, quota_allowance)"
				 " SELECT o.group_id, '" GROUP_NAME "', o.id, '" GROUP_DISPLAY_NAME "', 0"
				 " FROM {unnest 2} o (id, group_id) WHERE $3 IS NOT NULL"
				 " AND NOT EXISTS (SELECT FROM {cp}groups g"
				 "  WHERE g.organization_id {=} o.id AND g.name {=} '" GROUP_NAME "')"
				 " ON CONFLICT DO NOTHING",
				 PLAN_FRESH, 3, argtypes, values, NULL);
	plan_execute(&group_member_plan,
				 "INSERT INTO {cp}group_members (user_id, group_id)"
				 " SELECT '" SYSTEM_USER "'::pg_catalog.uuid, g.id FROM {cp}groups g"
				 " WHERE g.organization_id {=} ANY ($1) AND g.name {=} '" GROUP_NAME "'"
				 " AND NOT EXISTS (SELECT FROM {cp}group_members m WHERE m.group_id {=} g.id"
				 "  AND m.user_id {=} '" SYSTEM_USER "'::pg_catalog.uuid)"
				 " ON CONFLICT DO NOTHING",
				 PLAN_FRESH, 1, argtypes, values, NULL);
}
