/*
 * control_plane_catalog.c
 *	  What the control plane has, according to the catalog: whose database it is, which tables,
 *	  columns and enum labels must exist and which may be missing. This only looks into the system
 *	  caches, which runs no SQL and takes no lock.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "catalog/control_plane_catalog.h"
#include "settings.h"

/*
 * Tables that only a Coder database has. coderd has had them since before v2.24,
 * prebuild_create_control_plane() does not create them, and nobody else would choose their names
 * (somebody might choose schema_migrations or audit_logs).
 */
static const char *const coder_only[] = { "provisioner_keys", "workspace_proxies" };

/* Who needs a table. */
typedef enum Need
{
	NEED_ALWAYS,	 /* everything about prebuilds */
	NEED_IF_CODER,	 /* the same, if coderd's own tables exist; others do without */
	NEED_IF_PRESENT, /* the same, if the control plane has it; others do without */
	NEED_BY_NAME	 /* whoever asks for it by name */
} Need;

/* Tables with the columns that the extension must have if it uses the table. */
static const struct
{
	const char *table;
	Need need;
	const char *columns[24];
} needed_tables[] = {
	{ "organizations", NEED_ALWAYS, { "id", "name", "deleted" } },
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
	{ "template_version_workspace_tags", NEED_ALWAYS, { "template_version_id", "key", "value" } },
	{ "template_version_variables",
	  NEED_ALWAYS,
	  { "template_version_id", "name", "type", "value", "default_value", "required" } },
	{ "template_version_terraform_values",
	  NEED_IF_CODER,
	  { "template_version_id", "provisionerd_version" } },
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
	  { "id", "name", "resource_id", "lifecycle_state", "deleted", "parent_id", "started_at",
		"ready_at", "first_connected_at", "last_connected_at", "disconnected_at" } },
	{ "workspace_agent_metadata",
	  NEED_BY_NAME,
	  { "workspace_agent_id", "key", "display_name", "script", "timeout", "interval", "value",
		"error", "collected_at" } },
	{ "site_configs", NEED_ALWAYS, { "key", "value" } },
};

/* Labels that a column of an enum type must have, in the order of needed_tables. */
static const struct
{
	const char *table;
	const char *column;
	const char *labels[7];
} needed_labels[] = {
	{ "template_version_presets",
	  "prebuild_status",
	  { "healthy", "hard_limited", "validation_failed" } },
	{ "provisioner_jobs", "type", { "workspace_build" } },
	{ "provisioner_jobs",
	  "job_status",
	  { "pending", "running", "succeeded", "canceling", "canceled", "failed" } },
	{ "workspaces", "automatic_updates", { "never" } },
	{ "workspace_builds", "transition", { "start", "stop", "delete" } },
	{ "workspace_builds", "reason", { "initiator" } },
	{ "workspace_agents", "lifecycle_state", { "ready" } },
};

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
 * Return the oid of a table (or view) of the control plane. If it is missing, returns InvalidOid
 * with missing_ok and otherwise raises undefined_schema or undefined_table, naming it.
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

/*
 * Return the number of a column of a control plane table. Raises undefined_column, naming it, if
 * it is missing.
 */
AttrNumber
control_plane_column(Oid table, const char *name)
{
	AttrNumber number = get_attnum(table, name);

	if (number == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of control plane table \"%s.%s\" does not exist",
							   name, setting_control_plane_schema, get_rel_name(table)),
						errhint("This version of prebuild_ext does not support this version of the "
								"control plane's schema.")));
	return number;
}

/*
 * As control_plane_column(). Also raises datatype_mismatch unless the column is of one of two
 * types.
 */
AttrNumber
control_plane_column_of_type(Oid table, const char *name, Oid type, Oid other_type)
{
	AttrNumber number = control_plane_column(table, name);
	Oid actual = get_atttype(table, number);

	if (actual != type && actual != other_type)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of table \"%s\" is of type %s, not %s", name,
							   get_rel_name(table), format_type_be(actual), format_type_be(type))));
	return number;
}

/* Does the control plane have a table (or view) of that name? */
static bool
has_table(const char *table)
{
	return OidIsValid(control_plane_table(table, true));
}

/* Does the control plane have a table of that name with a column of that name? */
static bool
has_column(const char *table, const char *column)
{
	Oid relation = control_plane_table(table, true);

	return OidIsValid(relation) && get_attnum(relation, column) != InvalidAttrNumber;
}

/* Does this control plane have a feature that not all of them have? */
bool
control_plane_has(ControlPlaneFeature feature)
{
	switch (feature)
	{
		case FEATURE_CLASSIC_CHOICE:
			return has_column("templates", "use_classic_parameter_flow");
		case FEATURE_TERRAFORM_VALUES:
			return has_column("template_version_terraform_values", "provisionerd_version");
		case FEATURE_TERRAFORM_PLAN:
			return has_column("template_version_terraform_values", "cached_plan");
		case FEATURE_TAGS_BY_FLOW:
			/* this column has no part in tags, but it came with the same release of Coder, v2.25 */
			return has_column("template_version_presets", "description");
		case FEATURE_LEGACY_PARAMETERS:
			return has_table("parameter_schemas");
		case FEATURE_ARCHIVED_VERSIONS:
			return has_column("template_versions", "archived");
		case FEATURE_INVALIDATION:
			/* Coder v2.29 */
			return has_column("template_version_presets", "last_invalidated_at");
		case FEATURE_TRACES:
			return has_column("provisioner_jobs", "trace_metadata");
		case FEATURE_NOTIFICATIONS:
			return has_table("notification_messages") && has_table("notification_templates") &&
				   has_table("notification_preferences");
	}
	pg_unreachable();
}

/* Raise undefined_object, naming the first label that a column's enum type must have and lacks. */
static void
require_labels(Oid table, const char *column, const char *const *labels)
{
	Oid type = get_atttype(table, control_plane_column(table, column));

	/* a view may show it as text */
	if (!type_is_enum(type))
		return;
	for (; *labels != NULL; labels++)
		if (!OidIsValid(GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type),
										CStringGetDatum(*labels))))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("type of column \"%s\" of control plane table \"%s.%s\" has no value "
							"\"%s\"",
							column, setting_control_plane_schema, get_rel_name(table), *labels),
					 errhint("This version of prebuild_ext does not support this version of the "
							 "control plane's schema.")));
}

/*
 * Raise an error that names the first missing table, column or enum label that the extension
 * needs for prebuilds, if any. We look at every call, because look-ups in the catalog's caches
 * cost less than being wrong.
 */
void
control_plane_require(void)
{
	bool is_coder = control_plane_is_coder();

	for (size_t i = 0; i < lengthof(needed_tables); i++)
	{
		Need need = needed_tables[i].need;

		if (need == NEED_ALWAYS || (need == NEED_IF_CODER && is_coder) ||
			(need == NEED_IF_PRESENT && has_table(needed_tables[i].table)))
			control_plane_require_table(needed_tables[i].table);
	}
}

/* As control_plane_require() for one table, whoever needs it. */
void
control_plane_require_table(const char *name)
{
	Oid table = control_plane_table(name, false);

	for (size_t i = 0; i < lengthof(needed_tables); i++)
		if (strcmp(needed_tables[i].table, name) == 0)
			for (const char *const *column = needed_tables[i].columns; *column != NULL; column++)
				control_plane_column(table, *column);
	for (size_t i = 0; i < lengthof(needed_labels); i++)
		if (strcmp(needed_labels[i].table, name) == 0)
			require_labels(table, needed_labels[i].column, needed_labels[i].labels);
}
