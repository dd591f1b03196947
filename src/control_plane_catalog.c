/*
 * control_plane_catalog.c
 *	  What the control plane has, by the catalog: whose database it is, which tables and columns
 *	  must exist and which may be missing. Look-ups in the system caches, which run no SQL and
 *	  take no lock.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "control_plane_catalog.h"
#include "settings.h"

/*
 * Tables that coderd has had since before v2.24, that prebuild_create_control_plane() does not
 * create, and whose names nobody else would choose (schema_migrations or audit_logs might be).
 */
static const char *const coder_only[] = { "provisioner_keys", "workspace_proxies" };

/* Who needs a table. */
typedef enum Need
{
	NEED_ALWAYS,	 /* everything about prebuilds */
	NEED_IF_PRESENT, /* the same, on control planes that have it; what it adds is left out on others */
	NEED_BY_NAME	 /* whoever asks for it by name */
} Need;

/* Tables with the columns that the extension cannot do without where it uses the table. */
static const struct
{
	const char *table;
	Need need;
	const char *columns[24];
} needed_tables[] = {
	{ "organizations", NEED_ALWAYS, { "id", "name" } },
	{ "users", NEED_ALWAYS, { "id", "deleted" } },
	{ "organization_members",
	  NEED_ALWAYS,
	  { "user_id", "organization_id", "created_at", "updated_at", "roles" } },
	{ "groups",
	  NEED_ALWAYS,
	  { "id", "name", "organization_id", "display_name", "quota_allowance" } },
	{ "group_members", NEED_ALWAYS, { "user_id", "group_id" } },
	{ "templates",
	  NEED_ALWAYS,
	  { "id", "name", "organization_id", "deleted", "deprecated", "provisioner",
		"active_version_id" } },
	{ "template_versions", NEED_ALWAYS, { "id", "template_id", "job_id" } },
	{ "template_version_parameters",
	  NEED_ALWAYS,
	  { "template_version_id", "name", "type", "form_type", "default_value", "required", "options",
		"validation_min", "validation_max", "validation_monotonic" } },
	{ "template_version_presets",
	  NEED_ALWAYS,
	  { "id", "name", "template_version_id", "created_at", "desired_instances",
		"invalidate_after_secs", "prebuild_status", "scheduling_timezone" } },
	{ "template_version_preset_parameters",
	  NEED_ALWAYS,
	  { "id", "template_version_preset_id", "name", "value" } },
	{ "template_version_preset_prebuild_schedules",
	  NEED_ALWAYS,
	  { "id", "preset_id", "cron_expression", "desired_instances" } },
	{ "template_version_workspace_tags",
	  NEED_IF_PRESENT,
	  { "template_version_id", "key", "value" } },
	{ "template_version_variables",
	  NEED_IF_PRESENT,
	  { "template_version_id", "name", "type", "value", "default_value", "required" } },
	{ "template_version_terraform_values", NEED_IF_PRESENT, { "template_version_id" } },
	{ "parameter_schemas", NEED_IF_PRESENT, { "job_id" } },
	{ "provisioner_daemons",
	  NEED_ALWAYS,
	  { "organization_id", "provisioners", "tags", "last_seen_at" } },
	{ "provisioner_jobs",
	  NEED_ALWAYS,
	  { "id", "created_at", "updated_at", "started_at", "canceled_at", "completed_at",
		"organization_id", "initiator_id", "provisioner", "storage_method", "type", "input",
		"worker_id", "file_id", "tags", "job_status" } },
	{ "workspaces",
	  NEED_ALWAYS,
	  { "id", "created_at", "updated_at", "owner_id", "organization_id", "template_id", "deleted",
		"name", "autostart_schedule", "ttl", "last_used_at", "dormant_at", "deleting_at",
		"automatic_updates", "next_start_at" } },
	{ "workspace_builds",
	  NEED_ALWAYS,
	  { "id", "created_at", "updated_at", "workspace_id", "template_version_id", "build_number",
		"transition", "initiator_id", "provisioner_state", "job_id", "reason",
		"template_version_preset_id" } },
	{ "workspace_build_parameters", NEED_ALWAYS, { "workspace_build_id", "name", "value" } },
	{ "workspace_resources", NEED_ALWAYS, { "id", "job_id" } },
	{ "workspace_agents",
	  NEED_ALWAYS,
	  { "id", "resource_id", "lifecycle_state", "deleted", "parent_id" } },
	{ "workspace_agent_metadata",
	  NEED_BY_NAME,
	  { "workspace_agent_id", "key", "display_name", "script", "timeout", "interval", "value",
		"error", "collected_at" } },
	{ "site_configs", NEED_ALWAYS, { "key", "value" } },
};

/* Are the control plane's tables coderd's own? */
bool
control_plane_is_coder(void)
{
	for (size_t i = 0; i < lengthof(coder_only); i++)
		if (!control_plane_has_table(coder_only[i]))
			return false;
	return true;
}

/*
 * The oid of a table (or view) of the control plane. Missing: InvalidOid with missing_ok,
 * otherwise an error that names it.
 */
Oid
control_plane_table(const char *name, bool missing_ok)
{
	Oid schema = get_namespace_oid(setting_control_plane_schema, true);
	Oid table = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (OidIsValid(table) || missing_ok)
		return table;
	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("control plane schema \"%s\" does not exist", setting_control_plane_schema),
				 errhint("Set prebuild.control_plane_schema to the schema of the control "
						 "plane's tables.")));
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
					errmsg("control plane table \"%s.%s\" does not exist",
						   setting_control_plane_schema, name),
					errhint("Set prebuild.control_plane_schema to the schema of the control "
							"plane's tables, or create them with "
							"prebuild_create_control_plane().")));
}

/* The number of a column of the control plane; an error that names it when it is missing. */
AttrNumber
control_plane_column(Oid table, const char *name)
{
	AttrNumber number = get_attnum(table, name);

	if (number == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of control plane table \"%s.%s\" does not exist",
							   name, setting_control_plane_schema, get_rel_name(table)),
						errhint("The control plane's schema is older or newer than this version "
								"of prebuild_ext knows.")));
	return number;
}

/* True when the control plane has a table (or view) of that name. */
bool
control_plane_has_table(const char *table)
{
	return OidIsValid(control_plane_table(table, true));
}

/* True when the control plane has a table of that name with a column of that name. */
bool
control_plane_has_column(const char *table, const char *column)
{
	Oid relation = control_plane_table(table, true);

	return OidIsValid(relation) && get_attnum(relation, column) != InvalidAttrNumber;
}

/*
 * Raise an error that names the first table or column that the extension needs for prebuilds and
 * that is missing, if any. Asked at every call, as look-ups in the catalog's caches cost less than
 * being wrong.
 */
void
control_plane_require(void)
{
	for (size_t i = 0; i < lengthof(needed_tables); i++)
		if (needed_tables[i].need == NEED_ALWAYS ||
			(needed_tables[i].need == NEED_IF_PRESENT &&
			 control_plane_has_table(needed_tables[i].table)))
			control_plane_require_table(needed_tables[i].table);
}

/* The same for one of the tables, whoever needs it. */
void
control_plane_require_table(const char *name)
{
	Oid table = control_plane_table(name, false);

	for (size_t i = 0; i < lengthof(needed_tables); i++)
		if (strcmp(needed_tables[i].table, name) == 0)
			for (const char *const *column = needed_tables[i].columns; *column != NULL; column++)
				control_plane_column(table, *column);
}
