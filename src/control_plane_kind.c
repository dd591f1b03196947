/*
 * control_plane_kind.c
 *	  Whose database this is, and where its tables are, by the catalog alone: look-ups in the
 *	  system caches, which run no SQL and take no lock.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "control_plane_kind.h"
#include "settings.h"

/*
 * Tables that coderd has had since before v2.24, that prebuild_create_control_plane() does not
 * create, and whose names nobody else would choose (schema_migrations or audit_logs might be).
 */
static const char *const coder_only[] = { "provisioner_keys", "workspace_proxies" };

/* Are the control plane's tables coderd's own? */
bool
control_plane_is_coder(void)
{
	for (size_t i = 0; i < lengthof(coder_only); i++)
		if (!OidIsValid(control_plane_table(coder_only[i], true)))
			return false;
	return true;
}

/*
 * The oid of a table of the control plane. Missing: InvalidOid with missing_ok, otherwise an
 * error that names it.
 */
Oid
control_plane_table(const char *name, bool missing_ok)
{
	Oid schema = get_namespace_oid(setting_control_plane_schema, true);
	Oid table = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(table) && !missing_ok)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("the control plane has no table \"%s.%s\"", setting_control_plane_schema, name),
			 errhint("Set prebuild.control_plane_schema to the schema of the control plane's "
					 "tables, or create them with prebuild_create_control_plane().")));
	return table;
}

/* The number of a column of the control plane; an error that names it when it is missing. */
AttrNumber
control_plane_column(Oid table, const char *name)
{
	AttrNumber number = get_attnum(table, name);

	if (number == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("the control plane's table \"%s\" has no column \"%s\"",
							   get_rel_name(table), name),
						errhint("prebuild_ext works with Coder v2.24.0 and later.")));
	return number;
}
