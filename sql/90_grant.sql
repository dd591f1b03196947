---- rights -------------------------------------------------------------------

-- The lists below name everything that this function grants. It grants nothing on the extension's
-- tables, because no caller needs that, and nothing on the control plane's tables, because these
-- belong to the operator.
CREATE FUNCTION @extschema@.prebuild_grant(role regrole, owner boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- what an app server, an operator's tools and the worker call
	app_server CONSTANT name[] := '{
		prebuild_agent_identity,
		prebuild_agent_ids_decode,
		prebuild_agent_ids_encode,
		prebuild_agent_ids_notify,
		prebuild_agent_metadata_flush,
		prebuild_agent_metadata_report,
		prebuild_agent_metadata_report_bytes,
		prebuild_agent_metadata_upsert,
		prebuild_backtest,
		prebuild_build_inputs,
		prebuild_claim,
		prebuild_clean,
		prebuild_cron_matches,
		prebuild_demand,
		prebuild_desired_instances,
		prebuild_find_preset,
		prebuild_fold,
		prebuild_forecast,
		prebuild_health,
		prebuild_health_read,
		prebuild_identity_stats_read,
		prebuild_invalidate,
		prebuild_lead_time,
		prebuild_metadata_histograms,
		prebuild_metadata_stats_read,
		prebuild_metrics_read,
		prebuild_metrics_text,
		prebuild_pause,
		prebuild_plan,
		prebuild_pool,
		prebuild_promote,
		prebuild_recommend,
		prebuild_reconcile,
		prebuild_replay,
		prebuild_required_rights,
		prebuild_resume,
		prebuild_retry,
		prebuild_running,
		prebuild_schedules_check,
		prebuild_set_policy,
		prebuild_stage,
		prebuild_stage_status,
		prebuild_state,
		prebuild_system_user,
		prebuild_target,
		prebuild_track_resource_replacement,
		prebuild_unset_policy,
		prebuild_unstage,
		prebuild_verify,
		prebuild_worker_status_read}';
	-- these views read functions only, and no table
	views CONSTANT name[] := '{
		prebuild_identity_stats,
		prebuild_metadata_stats,
		prebuild_metrics,
		prebuild_overview,
		prebuild_worker_status}';
	-- what the control plane's owner calls, and the functions of the triggers that it attaches
	of_owner CONSTANT name[] := '{
		prebuild_attach,
		prebuild_claim_guard,
		prebuild_create_control_plane,
		prebuild_detach,
		prebuild_identity_changed,
		prebuild_metadata_fanout,
		prebuild_pass_wanted,
		prebuild_pool_touched,
		prebuild_pool_touched_by_name,
		prebuild_rebuild,
		prebuild_schedule,
		prebuild_unschedule}';
	functions name[] := app_server;
	granted regprocedure;
	granted_view regclass;
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF owner IS NULL THEN
		RAISE EXCEPTION 'argument "owner" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) role) THEN
		RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object';
	END IF;
	IF owner THEN
		functions := functions OPERATOR(pg_catalog.||) of_owner;
	END IF;
	FOR granted IN
		SELECT p.oid
		FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
		JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
		AND d.deptype OPERATOR(pg_catalog.=) 'e'
		AND p.proname OPERATOR(pg_catalog.=) ANY (functions)
	LOOP
		EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', granted, role);
	END LOOP;
	FOR granted_view IN
		SELECT c.oid
		FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
		JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
		AND d.deptype OPERATOR(pg_catalog.=) 'e'
		AND c.relkind OPERATOR(pg_catalog.=) 'v'
		AND c.relname OPERATOR(pg_catalog.=) ANY (views)
	LOOP
		EXECUTE pg_catalog.format('GRANT SELECT ON %s TO %s', granted_view, role);
	END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_grant(regrole, boolean) IS
'Give a role EXECUTE on the functions that an app server calls, and SELECT on the views; with owner, EXECUTE also on what the owner of the control plane''s tables calls';
REVOKE ALL ON FUNCTION @extschema@.prebuild_grant(regrole, boolean) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_required_rights_row AS (
	relation regclass,
	privileges text[]
);

-- Some tables exist only in some control planes. The result has those that exist.
CREATE FUNCTION @extschema@.prebuild_required_rights()
RETURNS SETOF @extschema@.prebuild_required_rights_row
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.oid::regclass, required.privileges
	FROM (VALUES
		('group_members', '{SELECT,INSERT}'::text[]),
		('groups', '{SELECT,INSERT}'),
		('notification_messages', '{INSERT}'),
		('notification_preferences', '{SELECT}'),
		('notification_templates', '{SELECT}'),
		('organization_members', '{SELECT,INSERT}'),
		('organizations', '{SELECT}'),
		('parameter_schemas', '{SELECT}'),
		('provisioner_daemons', '{SELECT}'),
		('provisioner_jobs', '{SELECT,INSERT,UPDATE}'),
		('site_configs', '{SELECT,INSERT,UPDATE}'),
		('template_version_parameters', '{SELECT}'),
		('template_version_preset_parameters', '{SELECT}'),
		('template_version_preset_prebuild_schedules', '{SELECT}'),
		('template_version_presets', '{SELECT,UPDATE}'),
		('template_version_terraform_values', '{SELECT}'),
		('template_version_variables', '{SELECT}'),
		('template_version_workspace_tags', '{SELECT}'),
		('template_versions', '{SELECT}'),
		('templates', '{SELECT,UPDATE}'),
		('users', '{SELECT}'),
		('workspace_agent_metadata', '{SELECT,INSERT,UPDATE}'),
		('workspace_agents', '{SELECT,UPDATE}'),
		('workspace_build_parameters', '{SELECT,INSERT}'),
		('workspace_builds', '{SELECT,INSERT}'),
		('workspace_resources', '{SELECT}'),
		('workspaces', '{SELECT,INSERT,UPDATE}')) required (name, privileges)
	JOIN pg_class c ON c.relname = required.name AND c.relkind IN ('r', 'p', 'v', 'f')
	JOIN pg_namespace n ON n.oid = c.relnamespace
	-- the library, which defines the setting and its default, may not be loaded in this session yet
	WHERE n.nspname = coalesce(current_setting('prebuild.control_plane_schema', true), 'public')
	ORDER BY required.name;
END;

COMMENT ON FUNCTION @extschema@.prebuild_required_rights() IS
'Exactly the rights on the control plane''s tables that a role needs to call everything that an app server calls, in addition to those of prebuild_grant() and USAGE on the schema';
REVOKE ALL ON FUNCTION @extschema@.prebuild_required_rights() FROM PUBLIC;
