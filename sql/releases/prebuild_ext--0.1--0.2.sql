/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- the workers ---------------------------------------------------------------

ALTER TYPE @extschema@.prebuild_worker_status_row
	ADD ATTRIBUTE pass_state text,
	ADD ATTRIBUTE pass_detail text,
	ADD ATTRIBUTE pass_role text,
	ADD ATTRIBUTE pass_pid integer,
	ADD ATTRIBUTE pass_started_at timestamptz,
	ADD ATTRIBUTE pass_starts bigint,
	ADD ATTRIBUTE folds bigint,
	ADD ATTRIBUTE failed_folds bigint,
	ADD ATTRIBUTE last_fold_at timestamptz,
	ADD ATTRIBUTE flush_error text,
	ADD ATTRIBUTE flush_error_code text,
	ADD ATTRIBUTE flush_error_at timestamptz,
	ADD ATTRIBUTE pass_error text,
	ADD ATTRIBUTE pass_error_code text,
	ADD ATTRIBUTE pass_error_at timestamptz,
	ADD ATTRIBUTE fold_error text,
	ADD ATTRIBUTE fold_error_code text,
	ADD ATTRIBUTE fold_error_at timestamptz,
	ADD ATTRIBUTE start_error text,
	ADD ATTRIBUTE start_error_code text,
	ADD ATTRIBUTE start_error_at timestamptz,
	ADD ATTRIBUTE pass_start_error text,
	ADD ATTRIBUTE pass_start_error_code text,
	ADD ATTRIBUTE pass_start_error_at timestamptz,
	ADD ATTRIBUTE pool_unused text;
CREATE OR REPLACE FUNCTION @extschema@.prebuild_worker_status_read()
RETURNS @extschema@.prebuild_worker_status_row
AS 'MODULE_PATHNAME', 'prebuild_worker_status_read_0_2'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.prebuild_worker_status_read() IS
'What the view prebuild_worker_status shows, in one row';

-- replace the view and do not recreate it, so that it keeps the rights on it
CREATE OR REPLACE VIEW @extschema@.prebuild_worker_status AS
SELECT s.database, w.state, w.detail, w.role, w.pid, w.started_at, w.starts,
	w.last_error, w.last_error_at, w.passes, w.failed_passes, w.last_pass_at,
	w.lane, w.last_error_code, w.folds, w.failed_folds, w.last_fold_at,
	w.fold_error, w.fold_error_code, w.fold_error_at,
	w.start_error, w.start_error_code, w.start_error_at, w.pool_unused
FROM @extschema@.prebuild_worker_status_read() s, LATERAL (VALUES
	('metadata', s.state, s.detail, s.role, s.pid, s.started_at, s.starts,
		s.flush_error, s.flush_error_code, s.flush_error_at,
		NULL::bigint, NULL::bigint, NULL::timestamptz, NULL::bigint, NULL::bigint, NULL::timestamptz,
		NULL, NULL, NULL::timestamptz, s.start_error, s.start_error_code, s.start_error_at, NULL),
	('passes', s.pass_state, s.pass_detail, s.pass_role, s.pass_pid, s.pass_started_at, s.pass_starts,
		s.pass_error, s.pass_error_code, s.pass_error_at,
		s.passes, s.failed_passes, s.last_pass_at, s.folds, s.failed_folds, s.last_fold_at,
		s.fold_error, s.fold_error_code, s.fold_error_at,
		s.pass_start_error, s.pass_start_error_code, s.pass_start_error_at, s.pool_unused))
	w (lane, state, detail, role, pid, started_at, starts,
		last_error, last_error_code, last_error_at,
		passes, failed_passes, last_pass_at, folds, failed_folds, last_fold_at,
		fold_error, fold_error_code, fold_error_at, start_error, start_error_code, start_error_at,
		pool_unused)
WHERE s.database IS NOT NULL;

COMMENT ON VIEW @extschema@.prebuild_worker_status IS
'The background workers of this database: one writes agent metadata, one runs passes and folds; no rows when prebuild.databases does not name it';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.state IS
'starting, serving, draining (writing for the last time) or unable (detail says why)';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.last_error IS
'The last error of a flush (lane metadata) or of a pass (lane passes)';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.lane IS
'What the worker is for: metadata or passes';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.last_error_code IS
'SQLSTATE of last_error';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.fold_error IS
'The last error of a fold of the stored pool';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.start_error IS
'The last error of finding the database, its owner and the extension, or of connecting';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.pool_unused IS
'Why the stored pool of the attached control plane is not in use, and what repairs it; NULL if it is in use';

---- state and plan -----------------------------------------------------------

ALTER TYPE @extschema@.prebuild_plan_row ADD ATTRIBUTE template_name text,
	ADD ATTRIBUTE preset_name text;
ALTER TYPE @extschema@.prebuild_state_row ADD ATTRIBUTE sick integer,
	ADD ATTRIBUTE staged boolean,
	ADD ATTRIBUTE desired_source text;
CREATE OR REPLACE FUNCTION @extschema@.prebuild_state(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_state_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_state_0_2';
CREATE OR REPLACE FUNCTION @extschema@.prebuild_plan(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_plan_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_plan_0_2';

COMMENT ON FUNCTION @extschema@.prebuild_state(timestamptz) IS
'State of each preset that has desired instances, at a time; ordered by organization, template and preset';
COMMENT ON FUNCTION @extschema@.prebuild_plan(timestamptz) IS
'What prebuild_reconcile() would do at a time, and why; changes nothing. Ordered by organization, template and preset, and then in the order of execution';

---- passes driven by pg_cron -------------------------------------------------

CREATE OR REPLACE FUNCTION @extschema@.prebuild_schedule(cron text DEFAULT '* * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	database text := pg_catalog.current_database();
	job text := 'prebuild_reconcile@' OPERATOR(pg_catalog.||) database;
	command text;
	job_id bigint;
	last_run record;
BEGIN
	IF cron IS NULL THEN
		RAISE EXCEPTION 'argument "cron" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT pg_catalog.format('SELECT %I.prebuild_reconcile(pg_catalog.now())', n.nspname) INTO STRICT command
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext';

	-- look for the extension, because anybody may have made a schema named cron
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
			WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron') THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', database
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = pg_catalog.format(
					'pg_cron lives in one database (cron.database_name, here %s). Run there:'
					' SELECT cron.schedule_in_database(%L, %L, %L, %L, %L);',
					coalesce(pg_catalog.current_setting('cron.database_name', true), 'not set'),
					job, cron, command, database, CURRENT_USER);
	END IF;
	BEGIN
		EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO STRICT job_id USING job, cron, command;
	EXCEPTION WHEN invalid_parameter_value THEN
		-- pg_cron releases that support seconds accept 1 to 59 of them
		IF cron OPERATOR(pg_catalog.!~*) '^\s*([1-9]|[1-5][0-9])\s+seconds?\s*$' THEN
			RAISE;
		END IF;
		RAISE EXCEPTION 'pg_cron % has no schedules in seconds: "%"', (SELECT e.extversion
				FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron'), cron
			USING ERRCODE = 'feature_not_supported',
				HINT = 'Upgrade pg_cron to 1.5 or later, or have the extension''s worker run the passes'
					' (prebuild.reconcile_interval).';
	END;

	-- Even if pg_cron cannot connect, scheduling succeeds, but then no run ever starts.
	IF NOT coalesce(pg_catalog.has_table_privilege(
			pg_catalog.to_regclass('cron.job_run_details'), 'SELECT'), false) THEN
		RETURN job_id;
	END IF;
	EXECUTE 'SELECT d.status, d.return_message, d.start_time FROM cron.job_run_details d'
		' WHERE d.jobid OPERATOR(pg_catalog.=) $1'
		' AND d.status OPERATOR(pg_catalog.=) ANY (''{succeeded,failed}''::text[])'
		' ORDER BY d.runid DESC LIMIT 1'
	INTO last_run USING job_id;
	IF last_run.status OPERATOR(pg_catalog.=) 'failed' THEN
		RAISE WARNING 'the last run of pg_cron''s job "%" failed: %', job,
			coalesce(pg_catalog.rtrim(last_run.return_message, E' \r\n'), 'pg_cron does not say why')
			USING HINT = CASE
				WHEN last_run.return_message OPERATOR(pg_catalog.~~) 'connection failed%' THEN pg_catalog.format(
					'pg_cron connects to host "%s" as role "%s", without asking for a password. Set'
					' cron.use_background_workers = on and restart the server, or let the role in by a'
					' line in the .pgpass file of the server''s user.',
					coalesce(pg_catalog.current_setting('cron.host', true), 'localhost'), CURRENT_USER)
				WHEN last_run.return_message OPERATOR(pg_catalog.~~) '%slots%' THEN
					'pg_cron found no free slot for a background worker: raise max_worker_processes and'
					' restart the server.'
				ELSE 'The table cron.job_run_details has all runs. Call the function again after the'
					' next one.' END;
	END IF;
	RETURN job_id;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_schedule(text) IS
'Register prebuild_reconcile() with pg_cron, or change its schedule; warns when the job''s last run failed; returns the job''s id';

---- units of numbers ---------------------------------------------------------

COMMENT ON FUNCTION @extschema@.prebuild_rebuild() IS
'Rebuild the stored pool of an attached control plane from the tables; returns the number of its members';
COMMENT ON FUNCTION @extschema@.prebuild_fold() IS
'Bring the stored pool of an attached control plane up to date, as every pass and the worker do; returns the number of log entries that it processed';
COMMENT ON TYPE @extschema@.prebuild_state_row IS
'Result of prebuild_state(): the columns desired to pending_stale and sick count prebuilt workspaces, num_failed counts builds';
COMMENT ON TYPE @extschema@.prebuild_plan_row IS
'An action of a pass; count is the number of prebuilt workspaces';
COMMENT ON TYPE @extschema@.prebuild_reconcile_row IS
'Result of a pass: created, deleted and canceled count prebuilt workspaces, the other numbers count presets';
COMMENT ON FUNCTION @extschema@.prebuild_claim(uuid, uuid, text, text, timestamptz, bigint,
	timestamptz) IS
'Give the oldest eligible prebuild of a preset to a new owner, under a new name; skips prebuilds that another session has locked, and returns no row if there is no other. ttl is in nanoseconds, as in Coder: 8 hours are 28800000000000; NULL means none. In REPEATABLE READ and SERIALIZABLE, raises a serialization failure for a prebuild that was given away since the transaction''s snapshot';
COMMENT ON FUNCTION @extschema@.prebuild_find_preset(uuid, text[], text[]) IS
'Find the preset of a template version whose parameters, name and value, are all among those given; returns NULL if there is none. Of several, takes the one with the most parameters, then one that wants prebuilds, then the oldest. A name that is given more than once matches each of its values';
COMMENT ON TABLE @extschema@.prebuild_pass_stats IS
'Durations of passes: their number, the sum in seconds, and a histogram';
COMMENT ON TYPE @extschema@.prebuild_agent_metadata_upsert_row IS
'Result of a batch: updated, inserted and skipped count its (agent, key) entries, notified counts the messages sent';
COMMENT ON TYPE @extschema@.prebuild_agent_metadata_report_row IS
'Result of a report; all columns count its keys';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.flushed IS
'Entries written';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.buffer_size IS
'Bytes of shared memory for the waiting reports of all databases; 0 if the server buffers none';
COMMENT ON FUNCTION @extschema@.prebuild_metadata_histograms() IS
'Batch sizes (entries), keys per agent and flush durations (seconds): cumulative counts by upper bound, and sums';

---- agent metadata -----------------------------------------------------------

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_encode(uuid[]) IS
'Payloads of the metadata fan-out channel for these agents, each with as many as a message takes';

-- Agents send bytes that may be invalid as text. The server refuses a whole call with an invalid text
-- argument, so this function accepts bytea.
CREATE FUNCTION @extschema@.prebuild_agent_metadata_report_bytes(
	agent_id uuid, keys bytea[], metadata_values bytea[], metadata_errors bytea[] DEFAULT NULL)
RETURNS @extschema@.prebuild_agent_metadata_report_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_report_bytes(uuid, bytea[], bytea[], bytea[]) IS
'Accept the report of one agent as UTF-8 bytes; an error replaces what is not valid text';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_report_bytes(uuid, bytea[], bytea[], bytea[]) FROM PUBLIC;

---- rights -------------------------------------------------------------------

-- This also drops the rights on the old function. Grant them on the new one again.
DROP FUNCTION @extschema@.prebuild_grant(regrole);

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

---- the stored pool ----------------------------------------------------------

-- the stored members lack the new columns, so discard them; a fold rebuilds them
DELETE FROM @extschema@.prebuild_pool_marker;
DELETE FROM @extschema@.prebuild_pool_state;
ALTER TYPE @extschema@.prebuild_pool_member ADD ATTRIBUTE completed_at timestamptz CASCADE;
ALTER TYPE @extschema@.prebuild_pool_member ADD ATTRIBUTE job_never_taken boolean CASCADE;
ALTER TYPE @extschema@.prebuild_pool_member ADD ATTRIBUTE unwell boolean CASCADE;
ALTER TYPE @extschema@.prebuild_pool_member ADD ATTRIBUTE resources uuid[] CASCADE;
ALTER TYPE @extschema@.prebuild_pool_member ADD ATTRIBUTE seen_at timestamptz CASCADE;

CREATE FUNCTION @extschema@.prebuild_pool_touched_by_name() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pool_touched_by_name() IS
'Trigger: log a row on every update, because a BEFORE trigger may change columns that the statement does not name';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool_touched_by_name() FROM PUBLIC;

---- events and marks ---------------------------------------------------------

ALTER TABLE @extschema@.prebuild_mark ADD COLUMN control_plane text;
COMMENT ON COLUMN @extschema@.prebuild_mark.control_plane IS
'Schema of the control plane that has the preset; NULL in marks from before 0.2';

CREATE INDEX prebuild_replacement_at_idx ON @extschema@.prebuild_replacement (at);
COMMENT ON TABLE @extschema@.prebuild_replacement IS
'Claims of the last 30 days that replaced resources, each once';

CREATE TABLE @extschema@.prebuild_replacement_count (
	template_id uuid NOT NULL,
	preset_id uuid NOT NULL,
	claims bigint NOT NULL,
	PRIMARY KEY (template_id, preset_id)
);

COMMENT ON TABLE @extschema@.prebuild_replacement_count IS
'How many earlier claims replaced resources, by preset';

DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_replacement_count';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;

---- policies -----------------------------------------------------------------

-- How passes keep the pools of a template, or of its presets of one name, whatever their version.
CREATE TABLE @extschema@.prebuild_policy (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text,
	mode text NOT NULL DEFAULT 'advise' CONSTRAINT prebuild_policy_mode
		CHECK (mode OPERATOR(pg_catalog.=) ANY ('{off,advise,auto}')),
	min_instances integer CONSTRAINT prebuild_policy_min_instances
		CHECK (min_instances OPERATOR(pg_catalog.>=) 0),
	max_instances integer CONSTRAINT prebuild_policy_max_instances
		CHECK (max_instances OPERATOR(pg_catalog.>=) 0
			AND NOT max_instances OPERATOR(pg_catalog.<) min_instances),
	service_level double precision CONSTRAINT prebuild_policy_service_level
		CHECK (service_level OPERATOR(pg_catalog.>=) 0.5::double precision
			AND service_level OPERATOR(pg_catalog.<) 1::double precision),
	unready_grace interval CONSTRAINT prebuild_policy_unready_grace
		CHECK (unready_grace OPERATOR(pg_catalog.>=) '0'::interval
			AND unready_grace OPERATOR(pg_catalog.<=) '12427 days'::interval),
	disconnected_grace interval CONSTRAINT prebuild_policy_disconnected_grace
		CHECK (disconnected_grace OPERATOR(pg_catalog.>=) '0'::interval
			AND disconnected_grace OPERATOR(pg_catalog.<=) '12427 days'::interval),
	failed_retention interval CONSTRAINT prebuild_policy_failed_retention
		CHECK (failed_retention OPERATOR(pg_catalog.>=) '0'::interval
			AND failed_retention OPERATOR(pg_catalog.<=) '12427 days'::interval),
	failed_keep integer CONSTRAINT prebuild_policy_failed_keep
		CHECK (failed_keep OPERATOR(pg_catalog.>=) 0),
	delete_retries integer CONSTRAINT prebuild_policy_delete_retries
		CHECK (delete_retries OPERATOR(pg_catalog.>=) 0),
	hard_limit_retry interval CONSTRAINT prebuild_policy_hard_limit_retry
		CHECK (hard_limit_retry OPERATOR(pg_catalog.>=) '0'::interval
			AND hard_limit_retry OPERATOR(pg_catalog.<=) '1 day'::interval),
	require_provisioner boolean,
	max_unavailable text CONSTRAINT prebuild_policy_max_unavailable
		CHECK (max_unavailable OPERATOR(pg_catalog.~)
			'^((0|[1-9][0-9]{0,8})|(0|[1-9][0-9]{0,2}|1000)%)$'),
	max_surge text CONSTRAINT prebuild_policy_max_surge
		CHECK (max_surge OPERATOR(pg_catalog.~)
			'^((0|[1-9][0-9]{0,8})|(0|[1-9][0-9]{0,2}|1000)%)$')
);

-- two indexes, because a single one would treat NULLs as distinct
CREATE UNIQUE INDEX prebuild_policy_preset_idx
	ON @extschema@.prebuild_policy (control_plane, template_id, preset_name)
	WHERE preset_name IS NOT NULL;
CREATE UNIQUE INDEX prebuild_policy_template_idx
	ON @extschema@.prebuild_policy (control_plane, template_id)
	WHERE preset_name IS NULL;

COMMENT ON TABLE @extschema@.prebuild_policy IS
'How passes keep the pools of a template''s presets; prebuild_set_policy() writes it';
COMMENT ON COLUMN @extschema@.prebuild_policy.control_plane IS
'Schema of the control plane that has the template';
COMMENT ON COLUMN @extschema@.prebuild_policy.preset_name IS
'Name of the presets, in all versions; the row with NULL applies to presets without a row of their own, and to what their row leaves NULL';
COMMENT ON COLUMN @extschema@.prebuild_policy.mode IS
'What to do about the number of prebuilds: nothing (off), advise a number (advise) or set it (auto)';
COMMENT ON COLUMN @extschema@.prebuild_policy.service_level IS
'Share of demands that should find a prebuild; NULL means 0.99';
COMMENT ON COLUMN @extschema@.prebuild_policy.unready_grace IS
'Like the setting prebuild.unready_grace; NULL means the value of the template''s row, and then the setting. The following columns work the same way';

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_policy';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;

CREATE FUNCTION @extschema@.prebuild_set_policy(
	template_id uuid, preset_name text DEFAULT NULL, mode text DEFAULT 'advise',
	min_instances integer DEFAULT NULL, max_instances integer DEFAULT NULL,
	service_level double precision DEFAULT NULL,
	unready_grace interval DEFAULT NULL, disconnected_grace interval DEFAULT NULL,
	failed_retention interval DEFAULT NULL, failed_keep integer DEFAULT NULL,
	delete_retries integer DEFAULT NULL, hard_limit_retry interval DEFAULT NULL,
	require_provisioner boolean DEFAULT NULL, max_unavailable text DEFAULT NULL,
	max_surge text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_set_policy';

COMMENT ON FUNCTION @extschema@.prebuild_set_policy(uuid, text, text, integer, integer,
	double precision, interval, interval, interval, integer, integer, interval, boolean, text, text) IS
'Set how passes keep the pools of a template''s presets, or of its presets of one name; replaces what an earlier call set';
REVOKE ALL ON FUNCTION @extschema@.prebuild_set_policy(uuid, text, text, integer, integer,
	double precision, interval, interval, interval, integer, integer, interval, boolean, text, text)
FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_unset_policy(template_id uuid, preset_name text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_unset_policy';

COMMENT ON FUNCTION @extschema@.prebuild_unset_policy(uuid, text) IS
'Undo prebuild_set_policy(); returns false if there is nothing to undo';
REVOKE ALL ON FUNCTION @extschema@.prebuild_unset_policy(uuid, text) FROM PUBLIC;

---- failures -----------------------------------------------------------------

-- Builds that failed (kind "failed" or "sick") still count for backoff and hard limit after their
-- member is gone. "undeleted" is a delete build that passes do not try again.
CREATE TABLE @extschema@.prebuild_failure (
	build_id uuid NOT NULL,
	preset_id uuid NOT NULL,
	workspace_id uuid NOT NULL,
	kind text NOT NULL,
	built_at timestamptz NOT NULL,
	control_plane text NOT NULL,
	PRIMARY KEY (control_plane, build_id)
);
CREATE INDEX prebuild_failure_preset_id_built_at_idx
	ON @extschema@.prebuild_failure (preset_id, built_at);

COMMENT ON TABLE @extschema@.prebuild_failure IS
'Failed builds that a pass remembers after it deleted their member';

CREATE TABLE @extschema@.prebuild_forgiven (
	preset_id uuid NOT NULL,
	until timestamptz NOT NULL,
	control_plane text NOT NULL,
	PRIMARY KEY (control_plane, preset_id)
);

COMMENT ON TABLE @extschema@.prebuild_forgiven IS
'Until when the failures of a preset do not count';

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND c.relname OPERATOR(pg_catalog.=) ANY ('{prebuild_failure,prebuild_forgiven}')
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(relation, '');
	END LOOP;
END
$$;

CREATE TYPE @extschema@.prebuild_clean_row AS (
	failed integer,
	canceled integer,
	stopped integer
);

CREATE FUNCTION @extschema@.prebuild_clean(template_id uuid DEFAULT NULL, preset_id uuid DEFAULT NULL,
	states text[] DEFAULT '{failed,canceled,stopped}', at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_clean_row
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_clean';

COMMENT ON FUNCTION @extschema@.prebuild_clean(uuid, uuid, text[], timestamptz) IS
'Delete the pool members that failed, canceled or stopped builds left behind, of all presets or of one template or preset; returns how many of each';
REVOKE ALL ON FUNCTION @extschema@.prebuild_clean(uuid, uuid, text[], timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_retry(preset_id uuid, at timestamptz DEFAULT now())
RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_retry';

COMMENT ON FUNCTION @extschema@.prebuild_retry(uuid, timestamptz) IS
'Forgive the failures that a preset has had until now, so that the next pass ends its hard limit and its backoff; returns the time';
REVOKE ALL ON FUNCTION @extschema@.prebuild_retry(uuid, timestamptz) FROM PUBLIC;

---- demand and lead times ----------------------------------------------------

-- A workspace is one demand, however often it is built. Its id is part of the key, so that whoever
-- finds a demand again (a pass, a claim, a pass after a restore) does not count it twice.
-- The indexes of the logs begin with the column that differs most: mostly it alone decides where a row
-- belongs. The control plane is only where it has to be, because it has its templates to itself.
CREATE TABLE @extschema@.prebuild_demand_log (
	control_plane text NOT NULL,
	workspace_id uuid NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	at timestamptz NOT NULL,
	warm boolean NOT NULL,
	counted boolean NOT NULL DEFAULT true,
	PRIMARY KEY (workspace_id, control_plane)
);
CREATE INDEX prebuild_demand_log_preset_idx
	ON @extschema@.prebuild_demand_log (template_id, preset_name, at);
CREATE INDEX prebuild_demand_log_at_idx ON @extschema@.prebuild_demand_log (at);
CREATE INDEX prebuild_demand_log_uncounted_idx
	ON @extschema@.prebuild_demand_log (control_plane) WHERE NOT counted;

COMMENT ON TABLE @extschema@.prebuild_demand_log IS
'Who asked for a preset, as far as passes have read it from the tables: one row for each workspace, without its user';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.control_plane IS
'Schema of the control plane that has the workspace';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.at IS
'When somebody asked: the claim of a prebuild, or the first build of a workspace that got none';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.warm IS
'Was there a prebuild to give away';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.counted IS
'Is it in prebuild_preset_count; false from a claim until the next pass';

-- The first build of each prebuild. outcome is NULL until it is known, then ready, failed, or canceled
-- if the prebuild went before anybody could know.
CREATE TABLE @extschema@.prebuild_lead_time_log (
	control_plane text NOT NULL,
	workspace_id uuid NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	built_at timestamptz NOT NULL,
	outcome text,
	waiting double precision,
	building double precision,
	starting double precision,
	PRIMARY KEY (workspace_id, control_plane)
);
CREATE INDEX prebuild_lead_time_log_preset_idx
	ON @extschema@.prebuild_lead_time_log (template_id, preset_name, built_at);
CREATE INDEX prebuild_lead_time_log_built_at_idx ON @extschema@.prebuild_lead_time_log (built_at);
CREATE INDEX prebuild_lead_time_log_open_idx
	ON @extschema@.prebuild_lead_time_log (control_plane, built_at) WHERE outcome IS NULL;

COMMENT ON TABLE @extschema@.prebuild_lead_time_log IS
'How long the builds of prebuilds took, as far as passes have read it from the tables';
COMMENT ON COLUMN @extschema@.prebuild_lead_time_log.waiting IS
'Seconds from the creation of the job until a daemon took it';
COMMENT ON COLUMN @extschema@.prebuild_lead_time_log.building IS
'Seconds from then until the job was complete';
COMMENT ON COLUMN @extschema@.prebuild_lead_time_log.starting IS
'Seconds from then until all agents were ready';

CREATE TABLE @extschema@.prebuild_lead_time_stats (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	builds bigint NOT NULL,
	seconds double precision NOT NULL,
	buckets bigint[] NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name)
);

COMMENT ON TABLE @extschema@.prebuild_lead_time_stats IS
'Histograms of lead times since the first pass, for the metrics';

-- Like prebuild_lead_time_stats, of the prebuilds that somebody got.
CREATE TABLE @extschema@.prebuild_claim_time_stats (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	claims bigint NOT NULL,
	seconds double precision NOT NULL,
	buckets bigint[] NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name)
);

COMMENT ON TABLE @extschema@.prebuild_claim_time_stats IS
'Histograms of how long claimed prebuilds had waited since the first pass, for the metrics';

CREATE TABLE @extschema@.prebuild_preset_count (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	counter text NOT NULL,
	value double precision NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name, counter)
);

COMMENT ON TABLE @extschema@.prebuild_preset_count IS
'What passes have counted for the metrics of presets; it only grows';

-- A row changes only when the number of eligible ones does.
CREATE TABLE @extschema@.prebuild_idle (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	eligible bigint NOT NULL,
	since timestamptz NOT NULL,
	seconds double precision NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name)
);

COMMENT ON TABLE @extschema@.prebuild_idle IS
'How long prebuilds have waited, in seconds, until "since"; and how many have been eligible from then on';

-- Claims that find nothing must not wait for each other's row of the table above.
CREATE TABLE @extschema@.prebuild_preset_count_log (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	counter text NOT NULL,
	value double precision NOT NULL
);
ALTER TABLE @extschema@.prebuild_preset_count_log REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.prebuild_preset_count_log IS
'What the next pass adds to prebuild_preset_count';

-- How far passes have read the builds of a control plane. It speaks of transaction ids and of a file,
-- so a dump leaves it out, and a restored database reads everything again.
CREATE TABLE @extschema@.prebuild_demand_marker (
	control_plane text PRIMARY KEY,
	builds oid NOT NULL,
	filenode oid NOT NULL,
	done_from xid8,
	round_from xid8 NOT NULL,
	next_block bigint NOT NULL,
	looked_at timestamptz NOT NULL,
	idle_until timestamptz NOT NULL
);

COMMENT ON TABLE @extschema@.prebuild_demand_marker IS
'How far passes have read the builds: all rows from before transaction done_from, and up to a block those from before round_from';

CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_demand_marker
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_demand_marker ENABLE REPLICA TRIGGER not_replicated;

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND c.relname OPERATOR(pg_catalog.=) ANY
			('{prebuild_demand_log,prebuild_lead_time_log,prebuild_lead_time_stats,prebuild_claim_time_stats,
				prebuild_idle,prebuild_preset_count,prebuild_preset_count_log}')
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(relation, '');
	END LOOP;
END
$$;

CREATE TYPE @extschema@.prebuild_demand_row AS (
	template_id uuid,
	template_name text,
	preset_name text,
	starts_at timestamptz,
	warm bigint,
	cold bigint
);

CREATE FUNCTION @extschema@.prebuild_demand(range_start timestamptz, range_end timestamptz,
	bucket interval DEFAULT '1 hour', template_id uuid DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_demand_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_demand';

COMMENT ON FUNCTION @extschema@.prebuild_demand(timestamptz, timestamptz, interval, uuid) IS
'Demands from range_start until before range_end, for each template, preset name and bucket that has any: how many got a prebuild (warm) and how many did not (cold). Buckets begin at range_start';
REVOKE ALL ON FUNCTION @extschema@.prebuild_demand(timestamptz, timestamptz, interval, uuid) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_lead_time_row AS (
	source text,
	samples integer,
	failure_rate double precision,
	waiting_p50 interval,
	waiting_p90 interval,
	building_p50 interval,
	building_p90 interval,
	starting_p50 interval,
	starting_p90 interval,
	total_p50 interval,
	total_p90 interval
);

CREATE FUNCTION @extschema@.prebuild_lead_time(template_id uuid, preset_name text,
	at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_lead_time_row
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_lead_time';

COMMENT ON FUNCTION @extschema@.prebuild_lead_time(uuid, text, timestamptz) IS
'How long prebuilds took in the 14 days before a time, from the creation of their job until their agents were ready. source says of what: the preset, the template if the preset has fewer than 5, or the default (prebuild.default_lead_time) if the template has fewer, too';
REVOKE ALL ON FUNCTION @extschema@.prebuild_lead_time(uuid, text, timestamptz) FROM PUBLIC;

---- descriptions -------------------------------------------------------------

COMMENT ON FUNCTION @extschema@.prebuild_running(uuid) IS
'Running prebuilds, ordered by id; only those of one preset if it is given';
COMMENT ON TABLE @extschema@.prebuild_pool_log IS
'Rows of the control plane that statements have touched since the last fold';
COMMENT ON TABLE @extschema@.prebuild_pool_marker IS
'What the stored pools were built from; readers use the tables instead if the fingerprint differs';
COMMENT ON FUNCTION @extschema@.prebuild_pool_not_replicated() IS
'Trigger: skip the rows of a publisher''s own stored pool';
COMMENT ON FUNCTION @extschema@.prebuild_verify() IS
'Compare the stored pool with the tables in the snapshot of the statement; returns each member that differs';
COMMENT ON FUNCTION @extschema@.prebuild_schedules_check(text[]) IS
'What is wrong with the cron expressions of one preset''s schedules, or NULL if they are valid';
COMMENT ON FUNCTION @extschema@.prebuild_desired_instances(uuid, timestamptz) IS
'Instances that a preset wants at a time, with its schedules taken into account';
COMMENT ON FUNCTION @extschema@.prebuild_forecast(uuid, timestamptz, timestamptz) IS
'Instances that a preset will want, as adjacent spans that cover a range of time';
COMMENT ON TYPE @extschema@.prebuild_build_inputs_row IS
'Result of prebuild_build_inputs()';
COMMENT ON FUNCTION @extschema@.prebuild_build_inputs(uuid) IS
'Parameters and job tags of a new prebuild of the preset, or why it cannot be built: verdict is possible, not_yet (the version is still being imported), invalid (impossible until the template changes) or unsupported (only Terraform can tell)';
COMMENT ON FUNCTION @extschema@.prebuild_reconcile(timestamptz) IS
'Run one pass: cancel, delete and create prebuilds so that every preset has as many as it wants';
COMMENT ON FUNCTION @extschema@.prebuild_resume() IS
'Resume reconciliation after prebuild_pause()';
COMMENT ON FUNCTION @extschema@.prebuild_invalidate(uuid) IS
'Expire the current prebuilds of a preset, so that nobody can claim them and the next pass replaces them; returns the time before which they were created';
COMMENT ON TABLE @extschema@.prebuild_event IS
'What happened to prebuilt workspaces; the extension announces each row on channel prebuild_events';
COMMENT ON TABLE @extschema@.prebuild_mark IS
'The last report about a preset, so that the extension reports a lasting fault once';
COMMENT ON FUNCTION @extschema@.prebuild_track_resource_replacement(uuid, uuid, jsonb) IS
'Record that the build of a claim replaced resources; returns false if it did not or was recorded before';
COMMENT ON FUNCTION @extschema@.prebuild_agent_identity(uuid) IS
'Workspace, owner and template of an agent; no row for an agent without a workspace';
COMMENT ON FUNCTION @extschema@.prebuild_identity_changed() IS
'Trigger: invalidate the cached identities that depend on the row';
COMMENT ON VIEW @extschema@.prebuild_identity_stats IS
'Statistics of the identity cache';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.scope IS
'database: all sessions since the server started; session: this session, because the server does not preload the library';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.hits IS
'Look-ups that the cache answered';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.misses IS
'Look-ups that read the tables';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.invalidations IS
'Entries dropped because the identity may have changed';
COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_upsert(uuid[], text[], text[], text[], timestamptz[]) IS
'Write a batch of agent metadata and publish what changed; the newest value of each key wins';
COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_report(uuid, text[], text[], text[]) IS
'Accept the report of one agent; goes into the buffer, or into the table if no worker writes the buffer';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.mode IS
'How sessions handle a report now: buffered or direct';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.skipped IS
'Entries that were not stored because the agent or key is unknown, a newer value is stored, or the entry is too long';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.refused IS
'Entries that a constraint or a trigger of the table refused; last_error has the error of one';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.dropped IS
'Entries dropped because the buffer was full';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.publish_errors IS
'Flushes that failed at commit, for example because the notification queue was full';
COMMENT ON FUNCTION @extschema@.prebuild_claim_guard() IS
'Trigger: skip a prebuild that was given away, or got a build, since the statement began';
COMMENT ON FUNCTION @extschema@.prebuild_attach(boolean, boolean) IS
'Create the extension''s triggers on the control plane''s tables, or update them; each call replaces the previous configuration';
COMMENT ON FUNCTION @extschema@.prebuild_detach() IS
'Drop the extension''s triggers on the control plane''s tables';
COMMENT ON FUNCTION @extschema@.prebuild_metrics_read(timestamptz, text) IS
'Metrics at a time, of one part (pool, history, demand, times, loop, metadata, identity or health) or all';
COMMENT ON VIEW @extschema@.prebuild_metrics IS
'Metrics now; a histogram has a row for each of its buckets (label le), its sum and its count';
COMMENT ON FUNCTION @extschema@.prebuild_unschedule() IS
'Remove the job of prebuild_schedule() from pg_cron; returns false if there is none';

---- pausing -------------------------------------------------------------------

DROP FUNCTION @extschema@.prebuild_pause();
CREATE FUNCTION @extschema@.prebuild_pause(wait boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_pause_0_2';

COMMENT ON FUNCTION @extschema@.prebuild_pause(boolean) IS
'Pause reconciliation, for every reconciler of the control plane; with wait, after the pass that is under way';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pause(boolean) FROM PUBLIC;

---- staged versions -----------------------------------------------------------

CREATE TABLE @extschema@.prebuild_stage (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	template_version_id uuid NOT NULL,
	replaces uuid NOT NULL,
	share real NOT NULL CHECK (share > 0 AND share <= 1),
	promote boolean NOT NULL,
	valid_until timestamptz,
	staged_at timestamptz NOT NULL,
	PRIMARY KEY (control_plane, template_id)
);

COMMENT ON TABLE @extschema@.prebuild_stage IS
'Template versions whose pools passes build before the versions are active, one for each template';
COMMENT ON COLUMN @extschema@.prebuild_stage.control_plane IS
'The schema of the control plane that the template is of';
COMMENT ON COLUMN @extschema@.prebuild_stage.replaces IS
'The version that was active when this one was staged; no pass promotes over another one';

CREATE FUNCTION @extschema@.prebuild_stage(
	template_version_id uuid, share real DEFAULT 1.0, promote boolean DEFAULT false,
	valid_until timestamptz DEFAULT NULL, force boolean DEFAULT false)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_stage';

COMMENT ON FUNCTION @extschema@.prebuild_stage(uuid, real, boolean, timestamptz, boolean) IS
'Have passes build the pools of a version that is not active yet, to a share of their targets; with promote, a pass makes it active when they are ready';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_stage(uuid, real, boolean, timestamptz, boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_unstage(template_version_id uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_unstage';

COMMENT ON FUNCTION @extschema@.prebuild_unstage(uuid) IS
'Take back prebuild_stage(): the next pass deletes the staged pools';
REVOKE ALL ON FUNCTION @extschema@.prebuild_unstage(uuid) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_stage_status_row AS (
	template_id uuid,
	template_name text,
	template_version_id uuid,
	share real,
	promote boolean,
	valid_until timestamptz,
	target integer,
	eligible integer,
	failed integer,
	ready boolean,
	reason text
);

COMMENT ON TYPE @extschema@.prebuild_stage_status_row IS
'A staged version; target, eligible and failed are sums over its presets';

CREATE FUNCTION @extschema@.prebuild_stage_status(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_stage_status_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_stage_status';

COMMENT ON FUNCTION @extschema@.prebuild_stage_status(timestamptz) IS
'Each staged version, and whether its pools are ready for it to become active';
REVOKE ALL ON FUNCTION @extschema@.prebuild_stage_status(timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_promote(template_version_id uuid, force boolean DEFAULT false)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_promote';

COMMENT ON FUNCTION @extschema@.prebuild_promote(uuid, boolean) IS
'Make a staged version the active one, if its pools are ready or with force';
REVOKE ALL ON FUNCTION @extschema@.prebuild_promote(uuid, boolean) FROM PUBLIC;

-- They are data: a dump carries them.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_stage';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;

---- sizing by demand ----------------------------------------------------------

CREATE TYPE @extschema@.prebuild_backtest_row AS (
	policy text,
	chosen boolean,
	demand integer,
	warm integer,
	hit_rate double precision,
	idle interval,
	created integer,
	deleted integer,
	peak integer,
	note text
);

COMMENT ON TYPE @extschema@.prebuild_backtest_row IS
'What a policy would have given in the later part of a range, which had no say in the choice';

CREATE FUNCTION @extschema@.prebuild_backtest(template_id uuid, preset_name text,
	range_start timestamptz, range_end timestamptz, service_level double precision DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_backtest_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_backtest';

COMMENT ON FUNCTION @extschema@.prebuild_backtest(uuid, text, timestamptz, timestamptz, double precision) IS
'What each policy would have given a preset. The first two thirds of the range choose; the figures are of the last third';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_backtest(uuid, text, timestamptz, timestamptz, double precision) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_replay_row AS (
	starts_at timestamptz,
	ends_at timestamptz,
	policy text,
	counted boolean,
	demand_warm integer,
	demand_cold integer,
	configured integer,
	target integer,
	pool double precision,
	missed integer,
	idle interval,
	created integer,
	deleted integer,
	peak integer
);

COMMENT ON TYPE @extschema@.prebuild_replay_row IS
'What a policy would have done in a part of the time. The rows that are counted add up to its row of prebuild_backtest()';

CREATE FUNCTION @extschema@.prebuild_replay(template_id uuid, preset_name text,
	range_start timestamptz, range_end timestamptz, policy text DEFAULT NULL,
	bucket interval DEFAULT '1 hour', service_level double precision DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_replay_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_replay';

COMMENT ON FUNCTION @extschema@.prebuild_replay(uuid, text, timestamptz, timestamptz, text, interval, double precision) IS
'The demand for a preset in each bucket of a range, and what a policy of its backtest would have done then: the chosen one, or the one that is named as prebuild_backtest() names it, or what is recommended. It changes nothing';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_replay(uuid, text, timestamptz, timestamptz, text, interval, double precision) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_target_row AS (
	target integer,
	policy text,
	reason text
);

CREATE FUNCTION @extschema@.prebuild_target(preset_id uuid, at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_target_row
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_target';

COMMENT ON FUNCTION @extschema@.prebuild_target(uuid, timestamptz) IS
'How many prebuilds of a preset its best policy wants at a time, and why; from what was known before that time. It changes nothing';
REVOKE ALL ON FUNCTION @extschema@.prebuild_target(uuid, timestamptz) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_recommend_row AS (
	template_name text,
	preset_name text,
	configured text,
	recommended text,
	expected_hit_rate double precision,
	configured_hit_rate double precision,
	idle_saved interval,
	reason text,
	terraform text
);

COMMENT ON TYPE @extschema@.prebuild_recommend_row IS
'Advice for a preset; rates and idle_saved are of the last 30 of 90 days, which had no say in it';

CREATE FUNCTION @extschema@.prebuild_recommend(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_recommend_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 COST 100000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_recommend';

COMMENT ON FUNCTION @extschema@.prebuild_recommend(timestamptz) IS
'The prebuilds block to write into each template whose presets people ask for, the worst preset first; from the 90 days before a time. It changes nothing';
REVOKE ALL ON FUNCTION @extschema@.prebuild_recommend(timestamptz) FROM PUBLIC;

-- What passes have chosen for presets in mode auto. kind and parameter are the policy: level, aim or
-- price. learnt is what the policy has learnt of the weeks before learnt_at: policy_learnt.c reads it.
CREATE TABLE @extschema@.prebuild_policy_choice (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	policy text NOT NULL,
	kind text NOT NULL,
	parameter double precision NOT NULL,
	outcome text NOT NULL,
	note text NOT NULL,
	chosen_at timestamptz NOT NULL,
	due_at timestamptz NOT NULL,
	suspended boolean NOT NULL DEFAULT false,
	demand integer,
	hit_rate double precision,
	idle interval,
	configured_hit_rate double precision,
	configured_idle interval,
	learnt_at timestamptz,
	learnt double precision[],
	PRIMARY KEY (control_plane, template_id, preset_name)
);
-- the numbers do not compress, and passes read them all
ALTER TABLE @extschema@.prebuild_policy_choice ALTER COLUMN learnt SET STORAGE EXTERNAL;

COMMENT ON TABLE @extschema@.prebuild_policy_choice IS
'The policy by which passes size each pool in mode auto, and what the backtest that chose it gave; passes write it';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.control_plane IS
'Schema of the control plane that has the template';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.outcome IS
'How the choice came out: another policy is better, the configuration was kept, best_effort (nothing reached the level at its worth), or, with what is configured, worse, too_little or failed';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.due_at IS
'When a pass chooses anew';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.suspended IS
'Another reconciler was at work when the last pass looked, so what is configured holds';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.demand IS
'Demands in the last third of the backtest, of which hit_rate to configured_idle speak';

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_policy_choice';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;

---- one look -----------------------------------------------------------------

CREATE TYPE @extschema@.prebuild_health_row AS (
	name text,
	status text,
	value text,
	threshold text,
	advice text
);

COMMENT ON TYPE @extschema@.prebuild_health_row IS
'A thing that can be wrong; status is ok, warn, fail or, if the caller cannot see it, unknown';

CREATE FUNCTION @extschema@.prebuild_health_read(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_health_row
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 25 COST 200000
SET search_path = pg_catalog, pg_temp SET jit = off SET intervalstyle = postgres
AS 'MODULE_PATHNAME', 'prebuild_health_read';

COMMENT ON FUNCTION @extschema@.prebuild_health_read(timestamptz) IS
'The rows of prebuild_health(), from a library that has them';
REVOKE ALL ON FUNCTION @extschema@.prebuild_health_read(timestamptz) FROM PUBLIC;

-- It is not in the library, so that it can say that the library is too old.
CREATE FUNCTION @extschema@.prebuild_health(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_health_row
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 25 COST 200000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	checks regprocedure;
BEGIN
	SELECT p.oid INTO checks
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
	JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
	AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
	AND d.deptype OPERATOR(pg_catalog.=) 'e'
	AND p.proname OPERATOR(pg_catalog.=) 'prebuild_health_read';
	IF checks IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object',
			MESSAGE = 'function prebuild_health_read(timestamptz) does not exist',
			HINT = 'The extension''s script in this database is older than the loaded library: run ALTER EXTENSION prebuild_ext UPDATE.';
	END IF;
	RETURN QUERY EXECUTE pg_catalog.format('SELECT h.* FROM %s($1) h', checks::pg_catalog.regproc)
	USING at;
EXCEPTION WHEN undefined_function OR undefined_file THEN
	RETURN QUERY SELECT 'versions', 'fail', SQLERRM, 'all the same',
		'The loaded library is older than the extension''s script: restart the server or reconnect to'
		' load the installed one (docs/upgrading.md).';
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_health(timestamptz) IS
'What can be wrong with the loop, a row each: status ok, warn, fail or unknown, what was seen, from when on it is wrong, and what to do. It changes nothing and waits for nobody';
REVOKE ALL ON FUNCTION @extschema@.prebuild_health(timestamptz) FROM PUBLIC;

-- For psql: its lines fit into 120 columns. So names are cut, and the reason comes in short lines.
CREATE VIEW @extschema@.prebuild_overview AS
WITH demand AS MATERIALIZED (
	SELECT d.template_id, d.preset_name, sum(d.warm) AS warm, sum(d.cold) AS cold
	FROM @extschema@.prebuild_demand(now() - interval '24 hours', now(), interval '24 hours') d
	GROUP BY d.template_id, d.preset_name
), plan AS MATERIALIZED (
	SELECT DISTINCT ON (p.preset_id) p.preset_id, p.action, p.count
	FROM @extschema@.prebuild_plan() p
	WHERE p.action NOT IN ('promote', 'cancel_pending', 'delete')
	ORDER BY p.preset_id
), oldest AS MATERIALIZED (
	SELECT r.current_preset_id, date_trunc('minute', now() - min(r.created_at)) AS age
	FROM @extschema@.prebuild_running() r
	GROUP BY r.current_preset_id
), judged AS (
	SELECT s.*, coalesce(d.warm, 0) AS warm, coalesce(d.cold, 0) AS cold, o.age,
		CASE WHEN s.active OR s.staged THEN p.action END AS action, p.count AS missing,
		greatest(s.desired - s.eligible, 0) AS short
	FROM @extschema@.prebuild_state() s
	LEFT JOIN demand d ON d.template_id = s.template_id AND d.preset_name = s.preset_name
		AND s.active
	LEFT JOIN plan p ON p.preset_id = s.preset_id
	LEFT JOIN oldest o ON o.current_preset_id = s.preset_id
	WHERE s.active OR s.staged OR s.actual + s.starting + s.stopping + s.deleting + s.pending_stale > 0
), explained AS (
	SELECT j.*, w.rank, w.why
	FROM judged j, LATERAL (SELECT * FROM (VALUES
		(1, j.action = 'hard_limited' OR j.hard_limited, 'the newest builds all failed'),
		(2, j.action = 'validation_failed', 'its inputs are invalid'),
		(3, j.action = 'unsupported', 'the database cannot decide its inputs'),
		(4, j.action = 'no_provisioner', 'no live daemon takes the build'),
		(5, j.action = 'backoff', format('%s failed; nothing is built until %s', j.num_failed,
			to_char(j.backoff_until, 'HH24:MI'))),
		(6, j.short > 0 AND j.eligible = 0 AND j.starting = 0, CASE WHEN j.actual > 0
			THEN 'none is ready' ELSE 'none is there' END),
		(7, j.sick > 0, format('%s of %s running are sick', j.sick, j.actual)),
		(8, j.short > 0 AND j.action = 'create' AND j.missing = 0, 'it waits: see prebuild_plan()'),
		(9, j.short > 0 AND j.starting = 0 AND j.action IS NULL, 'some do not get ready'),
		(10, j.cold > 0, format('%s found none', j.cold)),
		(11, j.short > 0 AND j.action = 'create', 'the next pass builds'),
		(12, j.short > 0, 'builds are under way'),
		(13, NOT j.active AND NOT j.staged, 'an old version goes'),
		(14, j.staged, 'staged'),
		(15, true, '')) w (rank, holds, why)
		WHERE w.holds ORDER BY w.rank LIMIT 1) w
)
SELECT
	CASE WHEN length(e.template_name) + length(e.preset_name) < 19
		THEN e.template_name || '/' || e.preset_name
		ELSE n.template || E'/\n' || n.preset END AS preset,
	e.desired || coalesce(CASE e.desired_source WHEN 'schedule' THEN E'\n' ELSE ' ' END || e.desired_source, '') AS desired,
	e.eligible AS ready,
	e.starting AS soon,
	e.sick,
	rtrim(regexp_replace(e.why, '(.{1,19})(?: +|$)', E'\\1\n', 'g'), E'\n') AS why,
	e.warm AS claims,
	e.cold AS miss,
	CASE WHEN e.warm + e.cold > 0 THEN floor(100 * e.warm / (e.warm + e.cold)) || '%' END AS hit,
	CASE WHEN e.age >= interval '100 hours' THEN floor(extract(epoch FROM e.age) / 86400) || 'd'
		ELSE to_char(e.age, 'HH24:MI') END AS age,
	next.change AS next
FROM explained e, LATERAL (SELECT
	CASE WHEN length(e.template_name) > 18 THEN left(e.template_name, 16) || '..' ELSE e.template_name END,
	CASE WHEN length(e.preset_name) > 19 THEN left(e.preset_name, 17) || '..' ELSE e.preset_name END)
	n (template, preset)
LEFT JOIN LATERAL (
	SELECT to_char(f.starts_at, CASE WHEN f.starts_at < now() + interval '20 hours'
		THEN 'HH24:MI' ELSE 'Dy HH24:MI' END) || E'\nto ' || f.desired AS change
	FROM @extschema@.prebuild_forecast(e.preset_id, now(), now() + interval '7 days') f
	WHERE e.active AND e.desired_source IS DISTINCT FROM 'policy' AND f.starts_at > now() AND f.desired <> e.desired
	ORDER BY f.starts_at LIMIT 1) next ON true
ORDER BY e.rank, e.short DESC, e.cold DESC, e.template_name, e.preset_name, e.preset_id;

COMMENT ON VIEW @extschema@.prebuild_overview IS
'The pools at a glance: a line for each preset, first those that somebody should worry about';
COMMENT ON COLUMN @extschema@.prebuild_overview.desired IS
'How many prebuilds the preset should have now, and what says so: preset, schedule or policy';
COMMENT ON COLUMN @extschema@.prebuild_overview.ready IS
'Prebuilds that somebody can claim';
COMMENT ON COLUMN @extschema@.prebuild_overview.soon IS
'Prebuilds that are being built';
COMMENT ON COLUMN @extschema@.prebuild_overview.claims IS
'People who got a prebuild in the last 24 hours';
COMMENT ON COLUMN @extschema@.prebuild_overview.miss IS
'People who asked for one in the last 24 hours and got none';
COMMENT ON COLUMN @extschema@.prebuild_overview.hit IS
'Share of these who got one';
COMMENT ON COLUMN @extschema@.prebuild_overview.age IS
'Age of the oldest running prebuild, in hours and minutes, or in days';
COMMENT ON COLUMN @extschema@.prebuild_overview.next IS
'When schedules next change the desired number within a week, and to what';
