/* prebuild_ext: install script; one file per area of sql/, concatenated by the Makefile. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION prebuild_ext" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- the pool -----------------------------------------------------------------

CREATE FUNCTION @extschema@.prebuild_system_user() RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'c42fdf75-3097-471c-8c33-fb52454d81c0'::uuid;

COMMENT ON FUNCTION @extschema@.prebuild_system_user() IS
'The system user that owns prebuilt workspaces';
REVOKE ALL ON FUNCTION @extschema@.prebuild_system_user() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_running_row AS (
	id uuid,
	name text,
	template_id uuid,
	template_version_id uuid,
	current_preset_id uuid,
	ready boolean,
	created_at timestamptz
);

CREATE FUNCTION @extschema@.prebuild_running(preset_id uuid DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_running_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_running';

COMMENT ON FUNCTION @extschema@.prebuild_running(uuid) IS
'Running prebuilds, ordered by id; of one preset where it is given';
REVOKE ALL ON FUNCTION @extschema@.prebuild_running(uuid) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_pool_row AS (
	id uuid,
	name text,
	template_id uuid,
	template_name text,
	template_version_id uuid,
	build_number integer,
	transition text,
	job_status text,
	preset_id uuid,
	preset_name text,
	ready boolean,
	created_at timestamptz,
	build_created_at timestamptz,
	build_started_at timestamptz,
	build_completed_at timestamptz
);

CREATE FUNCTION @extschema@.prebuild_pool()
RETURNS SETOF @extschema@.prebuild_pool_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_pool';

COMMENT ON FUNCTION @extschema@.prebuild_pool() IS
'Every prebuilt workspace, running or not, with its latest build';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool() FROM PUBLIC;

---- the kept pool ------------------------------------------------------------

-- A pool member with its latest build, as the control plane's tables have it: what pool_sql.h
-- defines. control_plane is the oid of their schema, so that a database may have several.
CREATE TYPE @extschema@.prebuild_pool_member AS (
	control_plane oid,
	id uuid,
	name text,
	template_id uuid,
	created_at timestamptz,
	build_id uuid,
	template_version_id uuid,
	build_number integer,
	transition text,
	job_status text,
	by_system_user boolean,
	job_unclaimed boolean,
	job_id uuid,
	build_created_at timestamptz,
	build_preset_id uuid,
	current_preset_id uuid,
	ready boolean
);

CREATE TABLE @extschema@.prebuild_pool_state OF @extschema@.prebuild_pool_member (
	PRIMARY KEY (control_plane, id)
);
ALTER TABLE @extschema@.prebuild_pool_state REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.prebuild_pool_state IS
'The pool as of the last fold of prebuild_pool_log; for attached control planes';

-- What the triggers of prebuild_attach() write: rows that were touched since, by the id that leads
-- from them to a workspace. kind: w(orkspace), j(ob), r(esource); t(runcated): all of them. Dead
-- entries in front of what an old snapshot still sees would be in the way of every reader; the index
-- begins behind them.
CREATE TABLE @extschema@.prebuild_pool_log (
	xid xid8 NOT NULL,
	control_plane oid NOT NULL,
	kind "char" NOT NULL,
	id uuid NOT NULL
) WITH (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
	autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000);
CREATE INDEX prebuild_pool_log_xid_idx ON @extschema@.prebuild_pool_log (xid);
ALTER TABLE @extschema@.prebuild_pool_log REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.prebuild_pool_log IS
'Rows of the control plane that were touched since the last fold';

-- The stored pool is believed where this row says so: what tables and triggers it was built from,
-- the transaction id from which on the log is to be read, and the earlier ones that were under way.
CREATE TABLE @extschema@.prebuild_pool_marker (
	control_plane oid PRIMARY KEY,
	fingerprint text NOT NULL,
	log_from xid8 NOT NULL,
	log_open xid8[] NOT NULL,
	members integer NOT NULL
);

COMMENT ON TABLE @extschema@.prebuild_pool_marker IS
'What the stored pools were built from; another fingerprint, and the tables are asked instead';

CREATE FUNCTION @extschema@.prebuild_pool_touched() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pool_touched() IS
'Trigger: log a row that the pool may depend on';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool_touched() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_pool_not_replicated() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pool_not_replicated() IS
'Trigger: skip what a publisher sends of its own kept pool';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool_not_replicated() FROM PUBLIC;

-- all three or none, so that nothing replicated is believed
CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_pool_state
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_pool_state ENABLE REPLICA TRIGGER not_replicated;
CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_pool_log
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_pool_log ENABLE REPLICA TRIGGER not_replicated;
CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_pool_marker
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_pool_marker ENABLE REPLICA TRIGGER not_replicated;

CREATE FUNCTION @extschema@.prebuild_fold() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_fold';

COMMENT ON FUNCTION @extschema@.prebuild_fold() IS
'Bring the stored pool of an attached control plane up to date, as every pass and the worker do; returns the log entries it took';
REVOKE ALL ON FUNCTION @extschema@.prebuild_fold() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_rebuild() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_rebuild';

COMMENT ON FUNCTION @extschema@.prebuild_rebuild() IS
'Build the stored pool of an attached control plane anew from its tables; returns its members';
REVOKE ALL ON FUNCTION @extschema@.prebuild_rebuild() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_verify_row AS (
	id uuid,
	stored @extschema@.prebuild_pool_member,
	defined @extschema@.prebuild_pool_member
);

CREATE FUNCTION @extschema@.prebuild_verify()
RETURNS SETOF @extschema@.prebuild_verify_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_verify';

COMMENT ON FUNCTION @extschema@.prebuild_verify() IS
'Compare the stored pool with the tables, in the snapshot of the statement: the differences, none when all is well';
REVOKE ALL ON FUNCTION @extschema@.prebuild_verify() FROM PUBLIC;

---- cron ranges and schedules -----------------------------------------------

CREATE FUNCTION @extschema@.prebuild_cron_matches(cron text, timezone text, at timestamptz)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'prebuild_cron_matches';

COMMENT ON FUNCTION @extschema@.prebuild_cron_matches(text, text, timestamptz) IS
'Whether a time is within a cron expression read as a continuous range in a time zone';

CREATE FUNCTION @extschema@.prebuild_schedules_check(cron text[]) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'prebuild_schedules_check';

COMMENT ON FUNCTION @extschema@.prebuild_schedules_check(text[]) IS
'What is wrong with the cron expressions of one preset''s schedules, or NULL when they are fine';

CREATE FUNCTION @extschema@.prebuild_desired_instances(preset_id uuid, at timestamptz)
RETURNS integer
LANGUAGE C STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_desired_instances';

COMMENT ON FUNCTION @extschema@.prebuild_desired_instances(uuid, timestamptz) IS
'Instances that a preset asks for at a time, its schedules considered';
REVOKE ALL ON FUNCTION @extschema@.prebuild_desired_instances(uuid, timestamptz) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_forecast_row AS (
	starts_at timestamptz,
	ends_at timestamptz,
	desired integer,
	cron_expression text
);

COMMENT ON TYPE @extschema@.prebuild_forecast_row IS
'A span of time, its end excluded, with the instances wanted and the schedule that decides';

CREATE FUNCTION @extschema@.prebuild_forecast(preset_id uuid, range_start timestamptz,
	range_end timestamptz)
RETURNS SETOF @extschema@.prebuild_forecast_row
LANGUAGE C STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_forecast';

COMMENT ON FUNCTION @extschema@.prebuild_forecast(uuid, timestamptz, timestamptz) IS
'Instances that a preset will ask for, as adjacent spans that cover a range of time';
REVOKE ALL ON FUNCTION @extschema@.prebuild_forecast(uuid, timestamptz, timestamptz) FROM PUBLIC;

---- what a new prebuild is built with ---------------------------------------

CREATE TYPE @extschema@.prebuild_build_inputs_row AS (
    possible boolean,
    verdict text,
    reason text,
    parameters jsonb,
    tags jsonb
);

COMMENT ON TYPE @extschema@.prebuild_build_inputs_row IS
'What prebuild_build_inputs() returns';

CREATE FUNCTION @extschema@.prebuild_build_inputs(preset_id uuid)
RETURNS @extschema@.prebuild_build_inputs_row
LANGUAGE c STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET jit = off
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.prebuild_build_inputs(uuid) IS
'The parameters and job tags that a new prebuild of the preset would be built with, or why it would not be: verdict is possible, not_yet (the version is still being imported), invalid (impossible until the template changes) or unsupported (only Terraform can tell)';
REVOKE ALL ON FUNCTION @extschema@.prebuild_build_inputs(uuid) FROM PUBLIC;

---- state and plan -----------------------------------------------------------

CREATE TYPE @extschema@.prebuild_state_row AS (
	preset_id uuid,
	preset_name text,
	template_id uuid,
	template_name text,
	organization_id uuid,
	organization_name text,
	template_version_id uuid,
	active boolean,
	desired integer,
	actual integer,
	expired integer,
	eligible integer,
	extraneous integer,
	starting integer,
	stopping integer,
	deleting integer,
	pending_stale integer,
	num_failed integer,
	backoff_until timestamptz,
	hard_limited boolean,
	prebuild_status text,
	cron_expression text
);

CREATE FUNCTION @extschema@.prebuild_state(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_state_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_state';

COMMENT ON FUNCTION @extschema@.prebuild_state(timestamptz) IS
'State of each preset that has desired instances, at a time';
REVOKE ALL ON FUNCTION @extschema@.prebuild_state(timestamptz) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_plan_row AS (
	preset_id uuid,
	template_id uuid,
	action text,
	count integer,
	workspace_ids uuid[],
	backoff_until timestamptz,
	reason text
);

CREATE FUNCTION @extschema@.prebuild_plan(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_plan_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_plan';

COMMENT ON FUNCTION @extschema@.prebuild_plan(timestamptz) IS
'What prebuild_reconcile() would do at a time, and why; changes nothing';
REVOKE ALL ON FUNCTION @extschema@.prebuild_plan(timestamptz) FROM PUBLIC;

---- reconcile ----------------------------------------------------------------

CREATE TYPE @extschema@.prebuild_reconcile_row AS (
	lock_acquired boolean,
	paused boolean,
	presets_total integer,
	presets_reconciled integer,
	created integer,
	deleted integer,
	canceled integer,
	backing_off integer,
	failed integer,
	elapsed interval
);

CREATE FUNCTION @extschema@.prebuild_reconcile(at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_reconcile_row
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_reconcile';

COMMENT ON FUNCTION @extschema@.prebuild_reconcile(timestamptz) IS
'One pass: cancel, delete and create prebuilds until the pools are as the presets want them';
REVOKE ALL ON FUNCTION @extschema@.prebuild_reconcile(timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_pause() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_pause';

COMMENT ON FUNCTION @extschema@.prebuild_pause() IS
'Pause reconciliation, for every reconciler of the control plane';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pause() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_resume() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_resume';

COMMENT ON FUNCTION @extschema@.prebuild_resume() IS
'Let reconciliation go on after prebuild_pause()';
REVOKE ALL ON FUNCTION @extschema@.prebuild_resume() FROM PUBLIC;

---- claims and presets -------------------------------------------------------

CREATE TYPE @extschema@.prebuild_claim_row AS (
	id uuid,
	name text
);

COMMENT ON TYPE @extschema@.prebuild_claim_row IS
'The workspace that prebuild_claim() gave away, under its new name';

CREATE FUNCTION @extschema@.prebuild_claim(preset_id uuid, new_owner_id uuid, new_name text,
	autostart_schedule text DEFAULT NULL, next_start_at timestamptz DEFAULT NULL,
	ttl bigint DEFAULT NULL, at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_claim_row
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_claim';

COMMENT ON FUNCTION @extschema@.prebuild_claim(uuid, uuid, text, text, timestamptz, bigint,
	timestamptz) IS
'Give the oldest eligible prebuild of a preset that nobody else holds to a new owner, under a new name; no row when there is none. In REPEATABLE READ and SERIALIZABLE a prebuild that was given away since the transaction''s snapshot is a serialization failure';
REVOKE ALL ON FUNCTION @extschema@.prebuild_claim(uuid, uuid, text, text, timestamptz, bigint,
	timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_find_preset(template_version_id uuid, parameter_names text[],
	parameter_values text[])
RETURNS uuid
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_find_preset';

COMMENT ON FUNCTION @extschema@.prebuild_find_preset(uuid, text[], text[]) IS
'The preset of a template version with the most parameters of which each, name and value, is among those given, or NULL; a name that is given more than once stands for each of its values';
REVOKE ALL ON FUNCTION @extschema@.prebuild_find_preset(uuid, text[], text[]) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_invalidate(preset_id uuid) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_invalidate';

COMMENT ON FUNCTION @extschema@.prebuild_invalidate(uuid) IS
'Make the prebuilds that a preset has now expired: none of them is given away, the next pass replaces them; returns the time before which they were created';
REVOKE ALL ON FUNCTION @extschema@.prebuild_invalidate(uuid) FROM PUBLIC;
---- events and marks ---------------------------------------------------------

CREATE TABLE @extschema@.prebuild_event (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL,
	kind text NOT NULL,
	template_id uuid,
	preset_id uuid,
	workspace_id uuid,
	detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX prebuild_event_at_idx ON @extschema@.prebuild_event (at);

COMMENT ON TABLE @extschema@.prebuild_event IS
'What happened to prebuilt workspaces; each row is announced on channel prebuild_events';

CREATE TABLE @extschema@.prebuild_mark (
	preset_id uuid NOT NULL,
	kind text NOT NULL,
	detail text NOT NULL,
	since timestamptz NOT NULL,
	PRIMARY KEY (preset_id, kind)
);

COMMENT ON TABLE @extschema@.prebuild_mark IS
'What the extension last said of a preset, so that a fault that lasts is reported once';

-- One row for each claim that replaced resources, for good: what makes the counter of them exact,
-- never smaller than it was, and deaf to a claim that is reported twice.
CREATE TABLE @extschema@.prebuild_replacement (
	workspace_id uuid NOT NULL,
	build_id uuid NOT NULL,
	template_id uuid NOT NULL,
	preset_id uuid,
	at timestamptz NOT NULL,
	PRIMARY KEY (workspace_id, build_id)
);

COMMENT ON TABLE @extschema@.prebuild_replacement IS
'Claims that replaced resources, each once';

-- The durations of passes, in the one row there is; each pass that did not find the loop paused
-- counts itself in its own transaction. buckets: how many were in each bucket of the histogram,
-- the last one without a bound; the bounds are in pass_stats.c.
CREATE TABLE @extschema@.prebuild_pass_stats (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	passes bigint NOT NULL,
	seconds double precision NOT NULL,
	buckets bigint[] NOT NULL
) WITH (fillfactor = 10);

COMMENT ON TABLE @extschema@.prebuild_pass_stats IS
'How long passes took: number, sum and histogram';

-- They are data: a dump carries them.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND c.relname OPERATOR(pg_catalog.=) ANY
			('{prebuild_event,prebuild_event_id_seq,prebuild_mark,prebuild_replacement,prebuild_pass_stats}')
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(relation, '');
	END LOOP;
END
$$;

CREATE FUNCTION @extschema@.prebuild_track_resource_replacement(
	workspace_id uuid, build_id uuid, replacements jsonb)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_track_resource_replacement';

COMMENT ON FUNCTION @extschema@.prebuild_track_resource_replacement(uuid, uuid, jsonb) IS
'Record that the build of a claim replaced resources; false when it did not or is known already';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_track_resource_replacement(uuid, uuid, jsonb) FROM PUBLIC;
---- identities of agents -----------------------------------------------------

CREATE TYPE @extschema@.prebuild_agent_identity_row AS (
	agent_id uuid,
	agent_name text,
	workspace_id uuid,
	workspace_name text,
	owner_id uuid,
	owner_username text,
	organization_id uuid,
	template_id uuid,
	template_name text,
	autostart_schedule text
);

-- No search_path of its own, which would take longer than the rest of it: the query names every
-- schema.
CREATE FUNCTION @extschema@.prebuild_agent_identity(agent_id uuid)
RETURNS SETOF @extschema@.prebuild_agent_identity_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1;

COMMENT ON FUNCTION @extschema@.prebuild_agent_identity(uuid) IS
'Whose agent it is: its workspace, owner and template; no row for an agent without a workspace';
REVOKE ALL ON FUNCTION @extschema@.prebuild_agent_identity(uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_identity_changed() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_identity_changed() IS
'Trigger: what identities say of this row has changed';
REVOKE ALL ON FUNCTION @extschema@.prebuild_identity_changed() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_identity_stats_row AS (
	scope text,
	hits bigint,
	misses bigint,
	invalidations bigint
);

CREATE FUNCTION @extschema@.prebuild_identity_stats_read()
RETURNS @extschema@.prebuild_identity_stats_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_identity_stats_read() IS
'The row of the view prebuild_identity_stats';
REVOKE ALL ON FUNCTION @extschema@.prebuild_identity_stats_read() FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_identity_stats AS
SELECT s.* FROM @extschema@.prebuild_identity_stats_read() s;

COMMENT ON VIEW @extschema@.prebuild_identity_stats IS
'How well the identity cache does';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.scope IS
'database: all sessions since the server started; session: this one, as the library is not preloaded';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.hits IS
'Identities given from the cache';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.misses IS
'Identities for which the tables were asked';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.invalidations IS
'Entries dropped because what they say may have changed';

---- a control plane of one's own ----------------------------------------------

/*
 * The tables belong to whoever calls this and not to the extension, because nothing of the
 * extension's depends on them: they are dumped as any other table and outlive DROP EXTENSION.
 *
 * Names are unqualified below the first block, in a search_path that holds the schema alone (and
 * pg_catalog, which is always searched first); the function's SET clause restores the caller's.
 * Whatever else the schema contains must not be picked up on the way. Tables and types of ours are
 * refused at the start, so their names can only mean the ones made here; functions and operators
 * are called with exactly the types that pg_catalog declares, as a better match in the schema
 * would win over a function of pg_catalog that needs a cast.
 */
CREATE FUNCTION @extschema@.prebuild_create_control_plane() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	-- the library, which defines the setting and its default, may not be loaded in this session yet
	target text := coalesce(pg_catalog.current_setting('prebuild.control_plane_schema', true), 'public');
	target_oid oid;
	our_types CONSTANT text[] := ARRAY[
		'agent_key_scope_enum', 'app_sharing_level', 'automatic_updates', 'build_reason',
		'display_app', 'group_source', 'login_type', 'parameter_form_type', 'prebuild_status',
		'provisioner_job_status', 'provisioner_job_type', 'provisioner_storage_method',
		'provisioner_type', 'user_status', 'workspace_agent_lifecycle_state',
		'workspace_agent_subsystem', 'workspace_transition'];
	our_tables CONSTANT text[] := ARRAY[
		'group_members', 'groups', 'organization_members', 'organizations', 'provisioner_daemons',
		'provisioner_jobs', 'site_configs', 'template_version_parameters',
		'template_version_preset_parameters', 'template_version_preset_prebuild_schedules',
		'template_version_presets', 'template_version_variables',
		'template_version_workspace_tags', 'template_versions', 'templates', 'users',
		'workspace_agent_metadata', 'workspace_agents', 'workspace_build_parameters',
		'workspace_builds', 'workspace_resources', 'workspaces'];
	tables_in_the_way text;
	types_in_the_way text;
BEGIN
	SELECT n.oid INTO target_oid FROM pg_catalog.pg_namespace n WHERE n.nspname = target;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'schema "%" does not exist', target
			USING ERRCODE = 'invalid_schema_name',
				HINT = 'Create it, or name another one in prebuild.control_plane_schema.';
	END IF;

	SELECT string_agg(quote_ident(c.relname), ', ' ORDER BY c.relname COLLATE "C")
	INTO tables_in_the_way
	FROM pg_catalog.pg_class c
	WHERE c.relnamespace = target_oid AND c.relname = ANY (our_tables || our_types);
	-- a relation brings a type of its own name, which was just reported
	SELECT string_agg(quote_ident(t.typname), ', ' ORDER BY t.typname COLLATE "C")
	INTO types_in_the_way
	FROM pg_catalog.pg_type t
	LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
	WHERE t.typnamespace = target_oid AND t.typname = ANY (our_tables || our_types)
		AND (c.oid IS NULL OR c.relkind = 'c');
	IF tables_in_the_way IS NOT NULL OR types_in_the_way IS NOT NULL THEN
		RAISE EXCEPTION 'schema "%" already contains %', target,
				concat_ws('; ', 'relations: ' || tables_in_the_way, 'types: ' || types_in_the_way)
			USING ERRCODE = CASE WHEN tables_in_the_way IS NOT NULL THEN 'duplicate_table'
					ELSE 'duplicate_object' END,
				DETAIL = 'Nothing was created.',
				HINT = 'A Coder database has these tables and needs no others; otherwise name an '
					'empty schema in prebuild.control_plane_schema.';
	END IF;

	PERFORM pg_catalog.set_config('search_path', quote_ident(target) || ', pg_temp', true);
	-- without USAGE the schema is silently left out, and "$user" means another one
	IF pg_catalog.current_schema() IS DISTINCT FROM target THEN
		RAISE EXCEPTION 'schema "%" cannot be used', target
			USING ERRCODE = 'insufficient_privilege',
				HINT = 'The caller needs the privileges USAGE and CREATE on it.';
	END IF;

	CREATE TYPE agent_key_scope_enum AS ENUM ('all', 'no_user_data');
	CREATE TYPE app_sharing_level AS ENUM ('owner', 'authenticated', 'organization', 'public');
	CREATE TYPE automatic_updates AS ENUM ('always', 'never');
	CREATE TYPE build_reason AS ENUM (
		'initiator', 'autostart', 'autostop', 'dormancy', 'failedstop', 'autodelete', 'dashboard',
		'cli', 'ssh_connection', 'vscode_connection', 'jetbrains_connection', 'task_auto_pause',
		'task_manual_pause', 'task_resume');
	CREATE TYPE display_app AS ENUM (
		'vscode', 'vscode_insiders', 'web_terminal', 'ssh_helper', 'port_forwarding_helper');
	CREATE TYPE group_source AS ENUM ('user', 'oidc');
	CREATE TYPE login_type AS ENUM (
		'password', 'github', 'oidc', 'token', 'none', 'oauth2_provider_app');
	CREATE TYPE parameter_form_type AS ENUM (
		'', 'error', 'radio', 'dropdown', 'input', 'textarea', 'slider', 'checkbox', 'switch',
		'tag-select', 'multi-select');
	CREATE TYPE prebuild_status AS ENUM ('healthy', 'hard_limited', 'validation_failed');
	CREATE TYPE provisioner_job_status AS ENUM (
		'pending', 'running', 'succeeded', 'canceling', 'canceled', 'failed', 'unknown');
	CREATE TYPE provisioner_job_type AS ENUM (
		'template_version_import', 'workspace_build', 'template_version_dry_run');
	CREATE TYPE provisioner_storage_method AS ENUM ('file');
	CREATE TYPE provisioner_type AS ENUM ('echo', 'terraform');
	CREATE TYPE user_status AS ENUM ('active', 'suspended', 'dormant');
	CREATE TYPE workspace_agent_lifecycle_state AS ENUM (
		'created', 'starting', 'start_timeout', 'start_error', 'ready', 'shutting_down',
		'shutdown_timeout', 'shutdown_error', 'off');
	CREATE TYPE workspace_agent_subsystem AS ENUM ('envbuilder', 'envbox', 'none', 'exectrace');
	CREATE TYPE workspace_transition AS ENUM ('start', 'stop', 'delete');

	-- people and their organizations

	CREATE TABLE organizations (
		id uuid NOT NULL,
		name text NOT NULL,
		description text NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		is_default boolean NOT NULL DEFAULT false,
		display_name text NOT NULL,
		icon text NOT NULL DEFAULT '',
		deleted boolean NOT NULL DEFAULT false,
		default_org_member_roles text[] NOT NULL,
		CONSTRAINT organizations_pkey PRIMARY KEY (id)
	);
	CREATE UNIQUE INDEX idx_organization_name_lower ON organizations (lower(name))
		WHERE deleted = false;
	CREATE UNIQUE INDEX organizations_single_default_org ON organizations (is_default)
		WHERE is_default = true;

	CREATE TABLE users (
		id uuid NOT NULL,
		email text NOT NULL,
		username text NOT NULL DEFAULT '',
		hashed_password bytea NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		status user_status NOT NULL DEFAULT 'dormant',
		rbac_roles text[] NOT NULL DEFAULT '{}',
		login_type login_type NOT NULL DEFAULT 'password',
		avatar_url text NOT NULL DEFAULT '',
		deleted boolean NOT NULL DEFAULT false,
		last_seen_at timestamp NOT NULL DEFAULT '0001-01-01 00:00:00',
		quiet_hours_schedule text NOT NULL DEFAULT '',
		name text NOT NULL DEFAULT '',
		github_com_user_id bigint,
		hashed_one_time_passcode bytea,
		one_time_passcode_expires_at timestamptz,
		is_system boolean NOT NULL DEFAULT false,
		is_service_account boolean NOT NULL DEFAULT false,
		CONSTRAINT users_pkey PRIMARY KEY (id),
		CONSTRAINT one_time_passcode_set CHECK (
			(hashed_one_time_passcode IS NULL) = (one_time_passcode_expires_at IS NULL)),
		CONSTRAINT users_email_not_empty CHECK (is_service_account = (email = ''::text)),
		CONSTRAINT users_service_account_login_type CHECK (
			NOT is_service_account OR login_type OPERATOR(pg_catalog.=) 'none'::login_type),
		CONSTRAINT users_username_min_length CHECK (username <> ''::text)
	);
	CREATE UNIQUE INDEX idx_users_email ON users (email) WHERE deleted = false AND email <> ''::text;
	CREATE UNIQUE INDEX idx_users_username ON users (username) WHERE deleted = false;
	CREATE UNIQUE INDEX users_email_lower_idx ON users (lower(email))
		WHERE deleted = false AND email <> ''::text;
	CREATE UNIQUE INDEX users_username_lower_idx ON users (lower(username)) WHERE deleted = false;

	CREATE TABLE organization_members (
		user_id uuid NOT NULL,
		organization_id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		roles text[] NOT NULL DEFAULT '{}',
		CONSTRAINT organization_members_pkey PRIMARY KEY (organization_id, user_id),
		CONSTRAINT organization_members_organization_id_uuid_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE,
		CONSTRAINT organization_members_user_id_uuid_fkey
			FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
	);
	CREATE INDEX idx_organization_member_organization_id_uuid
		ON organization_members (organization_id);
	CREATE INDEX idx_organization_member_user_id_uuid ON organization_members (user_id);

	CREATE TABLE groups (
		id uuid NOT NULL,
		name text NOT NULL,
		organization_id uuid NOT NULL,
		avatar_url text NOT NULL DEFAULT '',
		quota_allowance integer NOT NULL DEFAULT 0,
		display_name text NOT NULL DEFAULT '',
		source group_source NOT NULL DEFAULT 'user',
		CONSTRAINT groups_pkey PRIMARY KEY (id),
		CONSTRAINT groups_name_organization_id_key UNIQUE (name, organization_id),
		CONSTRAINT groups_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);

	CREATE TABLE group_members (
		user_id uuid NOT NULL,
		group_id uuid NOT NULL,
		CONSTRAINT group_members_user_id_group_id_key UNIQUE (user_id, group_id),
		CONSTRAINT group_members_group_id_fkey
			FOREIGN KEY (group_id) REFERENCES groups (id) ON DELETE CASCADE,
		CONSTRAINT group_members_user_id_fkey
			FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
	);

	-- provisioners and what they are asked to do

	-- there are no provisioner keys here: a daemon gets the id of Coder's built-in key unless told
	CREATE TABLE provisioner_daemons (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		name varchar(64) NOT NULL,
		provisioners provisioner_type[] NOT NULL,
		replica_id uuid,
		tags jsonb NOT NULL DEFAULT '{}',
		last_seen_at timestamptz,
		version text NOT NULL DEFAULT '',
		api_version text NOT NULL DEFAULT '1.0',
		organization_id uuid NOT NULL,
		key_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000001',
		CONSTRAINT provisioner_daemons_pkey PRIMARY KEY (id),
		CONSTRAINT provisioner_daemons_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);
	CREATE UNIQUE INDEX idx_provisioner_daemons_org_name_owner_key ON provisioner_daemons
		(organization_id, name, lower(COALESCE(tags ->> 'owner'::text, ''::text)));

	CREATE TABLE provisioner_jobs (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		started_at timestamptz,
		canceled_at timestamptz,
		completed_at timestamptz,
		error text,
		organization_id uuid NOT NULL,
		initiator_id uuid NOT NULL,
		provisioner provisioner_type NOT NULL,
		storage_method provisioner_storage_method NOT NULL,
		type provisioner_job_type NOT NULL,
		input jsonb NOT NULL,
		worker_id uuid,
		file_id uuid NOT NULL,
		tags jsonb NOT NULL DEFAULT '{"scope": "organization"}',
		error_code text,
		trace_metadata jsonb,
		job_status provisioner_job_status NOT NULL GENERATED ALWAYS AS (
			CASE
				WHEN error <> ''::text THEN 'failed'::provisioner_job_status
				WHEN completed_at IS NOT NULL AND canceled_at IS NOT NULL
					THEN 'canceled'::provisioner_job_status
				WHEN completed_at IS NOT NULL THEN 'succeeded'::provisioner_job_status
				WHEN canceled_at IS NOT NULL THEN 'canceling'::provisioner_job_status
				WHEN started_at IS NOT NULL THEN 'running'::provisioner_job_status
				ELSE 'pending'::provisioner_job_status
			END) STORED,
		logs_length integer NOT NULL DEFAULT 0,
		logs_overflowed boolean NOT NULL DEFAULT false,
		CONSTRAINT provisioner_jobs_pkey PRIMARY KEY (id),
		CONSTRAINT max_provisioner_logs_length CHECK (logs_length <= 1048576),
		CONSTRAINT provisioner_jobs_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);
	CREATE INDEX idx_provisioner_jobs_status ON provisioner_jobs (job_status);
	CREATE INDEX provisioner_jobs_started_at_idx ON provisioner_jobs (started_at)
		WHERE started_at IS NULL;
	CREATE INDEX provisioner_jobs_worker_id_organization_id_completed_at_idx
		ON provisioner_jobs (worker_id, organization_id, completed_at DESC);

	-- templates, their versions and presets

	CREATE TABLE templates (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		organization_id uuid NOT NULL,
		deleted boolean NOT NULL DEFAULT false,
		name varchar(64) NOT NULL,
		provisioner provisioner_type NOT NULL,
		active_version_id uuid NOT NULL,
		description varchar(128) NOT NULL DEFAULT '',
		default_ttl bigint NOT NULL DEFAULT 604800000000000,
		created_by uuid NOT NULL,
		icon varchar(256) NOT NULL DEFAULT '',
		user_acl jsonb NOT NULL DEFAULT '{}',
		group_acl jsonb NOT NULL DEFAULT '{}',
		display_name varchar(64) NOT NULL DEFAULT '',
		allow_user_cancel_workspace_jobs boolean NOT NULL DEFAULT true,
		allow_user_autostart boolean NOT NULL DEFAULT true,
		allow_user_autostop boolean NOT NULL DEFAULT true,
		failure_ttl bigint NOT NULL DEFAULT 0,
		time_til_dormant bigint NOT NULL DEFAULT 0,
		time_til_dormant_autodelete bigint NOT NULL DEFAULT 0,
		autostop_requirement_days_of_week smallint NOT NULL DEFAULT 0,
		autostop_requirement_weeks bigint NOT NULL DEFAULT 0,
		autostart_block_days_of_week smallint NOT NULL DEFAULT 0,
		require_active_version boolean NOT NULL DEFAULT false,
		deprecated text NOT NULL DEFAULT '',
		activity_bump bigint NOT NULL DEFAULT 3600000000000,
		max_port_sharing_level app_sharing_level NOT NULL DEFAULT 'owner',
		use_classic_parameter_flow boolean NOT NULL DEFAULT false,
		disable_module_cache boolean NOT NULL DEFAULT false,
		time_til_autostop_notify bigint NOT NULL DEFAULT 0,
		CONSTRAINT templates_pkey PRIMARY KEY (id),
		CONSTRAINT templates_created_by_fkey
			FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
		CONSTRAINT templates_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);
	CREATE UNIQUE INDEX templates_organization_id_name_idx
		ON templates (organization_id, lower(name::text)) WHERE deleted = false;

	CREATE TABLE template_versions (
		id uuid NOT NULL,
		template_id uuid,
		organization_id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		name varchar(64) NOT NULL,
		readme varchar(1048576) NOT NULL,
		job_id uuid NOT NULL,
		created_by uuid NOT NULL,
		external_auth_providers jsonb NOT NULL DEFAULT '[]',
		message varchar(1048576) NOT NULL DEFAULT '',
		archived boolean NOT NULL DEFAULT false,
		source_example_id text,
		has_ai_task boolean,
		has_external_agent boolean,
		CONSTRAINT template_versions_pkey PRIMARY KEY (id),
		CONSTRAINT template_versions_template_id_name_key UNIQUE (template_id, name),
		CONSTRAINT template_versions_created_by_fkey
			FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
		CONSTRAINT template_versions_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE,
		CONSTRAINT template_versions_template_id_fkey
			FOREIGN KEY (template_id) REFERENCES templates (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_parameters (
		template_version_id uuid NOT NULL,
		name text NOT NULL,
		description text NOT NULL,
		type text NOT NULL,
		mutable boolean NOT NULL,
		default_value text NOT NULL,
		icon text NOT NULL,
		options jsonb NOT NULL DEFAULT '[]',
		validation_regex text NOT NULL,
		validation_min integer,
		validation_max integer,
		validation_error text NOT NULL DEFAULT '',
		validation_monotonic text NOT NULL DEFAULT '',
		required boolean NOT NULL DEFAULT true,
		display_name text NOT NULL DEFAULT '',
		display_order integer NOT NULL DEFAULT 0,
		ephemeral boolean NOT NULL DEFAULT false,
		form_type parameter_form_type NOT NULL DEFAULT '',
		CONSTRAINT template_version_parameters_template_version_id_name_key
			UNIQUE (template_version_id, name),
		CONSTRAINT validation_monotonic_order CHECK (
			validation_monotonic IN ('increasing'::text, 'decreasing'::text, ''::text)),
		CONSTRAINT template_version_parameters_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_presets (
		id uuid NOT NULL DEFAULT gen_random_uuid(),
		template_version_id uuid NOT NULL,
		name text NOT NULL,
		created_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
		desired_instances integer,
		invalidate_after_secs integer DEFAULT 0,
		prebuild_status prebuild_status NOT NULL DEFAULT 'healthy',
		scheduling_timezone text NOT NULL DEFAULT '',
		is_default boolean NOT NULL DEFAULT false,
		description varchar(128) NOT NULL DEFAULT '',
		icon varchar(256) NOT NULL DEFAULT '',
		last_invalidated_at timestamptz,
		CONSTRAINT template_version_presets_pkey PRIMARY KEY (id),
		CONSTRAINT template_version_presets_id_template_version_id_key
			UNIQUE (id, template_version_id),
		CONSTRAINT template_version_presets_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);
	CREATE UNIQUE INDEX idx_template_version_presets_default
		ON template_version_presets (template_version_id) WHERE is_default = true;
	CREATE UNIQUE INDEX idx_unique_preset_name
		ON template_version_presets (name, template_version_id);

	CREATE TABLE template_version_preset_parameters (
		id uuid NOT NULL DEFAULT gen_random_uuid(),
		template_version_preset_id uuid NOT NULL,
		name text NOT NULL,
		value text NOT NULL,
		CONSTRAINT template_version_preset_parameters_pkey PRIMARY KEY (id),
		CONSTRAINT template_version_preset_paramet_template_version_preset_id_fkey
			FOREIGN KEY (template_version_preset_id) REFERENCES template_version_presets (id)
			ON DELETE CASCADE
	);

	CREATE TABLE template_version_preset_prebuild_schedules (
		id uuid NOT NULL DEFAULT gen_random_uuid(),
		preset_id uuid NOT NULL,
		cron_expression text NOT NULL,
		desired_instances integer NOT NULL,
		CONSTRAINT template_version_preset_prebuild_schedules_pkey PRIMARY KEY (id),
		CONSTRAINT template_version_preset_prebuild_schedules_preset_id_fkey
			FOREIGN KEY (preset_id) REFERENCES template_version_presets (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_workspace_tags (
		template_version_id uuid NOT NULL,
		key text NOT NULL,
		value text NOT NULL,
		CONSTRAINT template_version_workspace_tags_template_version_id_key_key
			UNIQUE (template_version_id, key),
		CONSTRAINT template_version_workspace_tags_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_variables (
		template_version_id uuid NOT NULL,
		name text NOT NULL,
		description text NOT NULL,
		type text NOT NULL,
		value text NOT NULL,
		default_value text NOT NULL,
		required boolean NOT NULL,
		sensitive boolean NOT NULL,
		CONSTRAINT template_version_variables_template_version_id_name_key
			UNIQUE (template_version_id, name),
		CONSTRAINT template_version_variables_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);

	-- workspaces, their builds and what the builds made

	CREATE TABLE workspaces (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		owner_id uuid NOT NULL,
		organization_id uuid NOT NULL,
		template_id uuid NOT NULL,
		deleted boolean NOT NULL DEFAULT false,
		name varchar(64) NOT NULL,
		autostart_schedule text,
		ttl bigint,
		last_used_at timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		dormant_at timestamptz,
		deleting_at timestamptz,
		automatic_updates automatic_updates NOT NULL DEFAULT 'never',
		favorite boolean NOT NULL DEFAULT false,
		next_start_at timestamptz,
		group_acl jsonb NOT NULL DEFAULT '{}',
		user_acl jsonb NOT NULL DEFAULT '{}',
		CONSTRAINT workspaces_pkey PRIMARY KEY (id),
		CONSTRAINT group_acl_is_object CHECK (jsonb_typeof(group_acl) = 'object'::text),
		CONSTRAINT user_acl_is_object CHECK (jsonb_typeof(user_acl) = 'object'::text),
		CONSTRAINT workspaces_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE RESTRICT,
		CONSTRAINT workspaces_owner_id_fkey
			FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE RESTRICT,
		CONSTRAINT workspaces_template_id_fkey
			FOREIGN KEY (template_id) REFERENCES templates (id) ON DELETE RESTRICT
	);
	CREATE UNIQUE INDEX workspaces_owner_id_lower_idx
		ON workspaces (owner_id, lower(name::text)) WHERE deleted = false;
	CREATE INDEX workspace_template_id_idx ON workspaces (template_id) WHERE deleted = false;
	CREATE INDEX workspace_next_start_at_idx ON workspaces (next_start_at) WHERE deleted = false;

	CREATE TABLE workspace_builds (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		workspace_id uuid NOT NULL,
		template_version_id uuid NOT NULL,
		build_number integer NOT NULL,
		transition workspace_transition NOT NULL,
		initiator_id uuid NOT NULL,
		provisioner_state bytea,
		job_id uuid NOT NULL,
		deadline timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		reason build_reason NOT NULL DEFAULT 'initiator',
		daily_cost integer NOT NULL DEFAULT 0,
		max_deadline timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		template_version_preset_id uuid,
		has_ai_task boolean,
		has_external_agent boolean,
		notified_autostop_deadline timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		CONSTRAINT workspace_builds_pkey PRIMARY KEY (id),
		CONSTRAINT workspace_builds_id_workspace_id_key UNIQUE (id, workspace_id),
		CONSTRAINT workspace_builds_job_id_key UNIQUE (job_id),
		CONSTRAINT workspace_builds_workspace_id_build_number_key
			UNIQUE (workspace_id, build_number),
		-- year 1 stands for "none"; a build with a latest deadline needs a deadline before it
		CONSTRAINT workspace_builds_deadline_below_max_deadline CHECK (
			max_deadline = '0001-01-01 00:00:00+00'::timestamptz
			OR (deadline <= max_deadline AND deadline <> '0001-01-01 00:00:00+00'::timestamptz)),
		CONSTRAINT workspace_builds_job_id_fkey
			FOREIGN KEY (job_id) REFERENCES provisioner_jobs (id) ON DELETE CASCADE,
		CONSTRAINT workspace_builds_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE,
		CONSTRAINT workspace_builds_template_version_preset_id_fkey
			FOREIGN KEY (template_version_preset_id) REFERENCES template_version_presets (id)
			ON DELETE SET NULL,
		CONSTRAINT workspace_builds_workspace_id_fkey
			FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
	);
	CREATE INDEX idx_workspace_builds_initiator_id ON workspace_builds (initiator_id);

	CREATE TABLE workspace_build_parameters (
		workspace_build_id uuid NOT NULL,
		name text NOT NULL,
		value text NOT NULL,
		CONSTRAINT workspace_build_parameters_workspace_build_id_name_key
			UNIQUE (workspace_build_id, name),
		CONSTRAINT workspace_build_parameters_workspace_build_id_fkey
			FOREIGN KEY (workspace_build_id) REFERENCES workspace_builds (id) ON DELETE CASCADE
	);

	CREATE TABLE workspace_resources (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		job_id uuid NOT NULL,
		transition workspace_transition NOT NULL,
		type varchar(192) NOT NULL,
		name varchar(64) NOT NULL,
		hide boolean NOT NULL DEFAULT false,
		icon varchar(256) NOT NULL DEFAULT '',
		instance_type varchar(256),
		daily_cost integer NOT NULL DEFAULT 0,
		module_path text,
		CONSTRAINT workspace_resources_pkey PRIMARY KEY (id),
		CONSTRAINT workspace_resources_job_id_fkey
			FOREIGN KEY (job_id) REFERENCES provisioner_jobs (id) ON DELETE CASCADE
	);
	CREATE INDEX workspace_resources_job_id_idx ON workspace_resources (job_id);

	CREATE TABLE workspace_agents (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		name varchar(64) NOT NULL,
		first_connected_at timestamptz,
		last_connected_at timestamptz,
		disconnected_at timestamptz,
		resource_id uuid NOT NULL,
		auth_token uuid NOT NULL,
		auth_instance_id varchar,
		architecture varchar(64) NOT NULL,
		environment_variables jsonb,
		operating_system varchar(64) NOT NULL,
		instance_metadata jsonb,
		resource_metadata jsonb,
		directory varchar(4096) NOT NULL DEFAULT '',
		version text NOT NULL DEFAULT '',
		last_connected_replica_id uuid,
		connection_timeout_seconds integer NOT NULL DEFAULT 0,
		troubleshooting_url text NOT NULL DEFAULT '',
		motd_file text NOT NULL DEFAULT '',
		lifecycle_state workspace_agent_lifecycle_state NOT NULL DEFAULT 'created',
		expanded_directory varchar(4096) NOT NULL DEFAULT '',
		logs_length integer NOT NULL DEFAULT 0,
		logs_overflowed boolean NOT NULL DEFAULT false,
		started_at timestamptz,
		ready_at timestamptz,
		subsystems workspace_agent_subsystem[] DEFAULT '{}',
		display_apps display_app[]
			DEFAULT '{vscode,vscode_insiders,web_terminal,ssh_helper,port_forwarding_helper}',
		api_version text NOT NULL DEFAULT '',
		display_order integer NOT NULL DEFAULT 0,
		parent_id uuid,
		api_key_scope agent_key_scope_enum NOT NULL DEFAULT 'all',
		deleted boolean NOT NULL DEFAULT false,
		CONSTRAINT workspace_agents_pkey PRIMARY KEY (id),
		CONSTRAINT max_logs_length CHECK (logs_length <= 1048576),
		CONSTRAINT subsystems_not_none CHECK (
			NOT 'none'::workspace_agent_subsystem OPERATOR(pg_catalog.=) ANY (subsystems)),
		CONSTRAINT workspace_agents_parent_id_fkey
			FOREIGN KEY (parent_id) REFERENCES workspace_agents (id) ON DELETE CASCADE,
		CONSTRAINT workspace_agents_resource_id_fkey
			FOREIGN KEY (resource_id) REFERENCES workspace_resources (id) ON DELETE CASCADE
	);
	CREATE INDEX workspace_agents_resource_id_idx ON workspace_agents (resource_id);
	CREATE INDEX workspace_agents_auth_token_idx ON workspace_agents (auth_token);

	-- rewritten all the time and worth nothing after a crash
	CREATE UNLOGGED TABLE workspace_agent_metadata (
		workspace_agent_id uuid NOT NULL,
		display_name varchar(127) NOT NULL,
		key varchar(127) NOT NULL,
		script varchar(65535) NOT NULL,
		value varchar(65535) NOT NULL DEFAULT '',
		error varchar(65535) NOT NULL DEFAULT '',
		timeout bigint NOT NULL,
		interval bigint NOT NULL,
		collected_at timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		display_order integer NOT NULL DEFAULT 0,
		CONSTRAINT workspace_agent_metadata_pkey PRIMARY KEY (workspace_agent_id, key),
		CONSTRAINT workspace_agent_metadata_workspace_agent_id_fkey
			FOREIGN KEY (workspace_agent_id) REFERENCES workspace_agents (id) ON DELETE CASCADE
	);

	CREATE TABLE site_configs (
		key varchar(256) NOT NULL,
		value text NOT NULL,
		CONSTRAINT site_configs_key_key UNIQUE (key)
	);

	-- the owner of every prebuilt workspace; prebuild_system_user() returns this id
	INSERT INTO users (id, email, username, name, hashed_password, created_at, updated_at, status,
		login_type, is_system)
	VALUES ('c42fdf75-3097-471c-8c33-fb52454d81c0', 'prebuilds@system', 'prebuilds',
		'Prebuilds Owner', ''::bytea, now(), now(), 'active', 'none', true);
END
$function$;

COMMENT ON FUNCTION @extschema@.prebuild_create_control_plane() IS
'Create the tables of a control plane in the schema that prebuild.control_plane_schema names';
REVOKE ALL ON FUNCTION @extschema@.prebuild_create_control_plane() FROM PUBLIC;
---- agent metadata -----------------------------------------------------------

CREATE FUNCTION @extschema@.prebuild_agent_ids_encode(agent_ids uuid[]) RETURNS SETOF text
AS 'MODULE_PATHNAME'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_encode(uuid[]) IS
'Payloads of the metadata fan-out channel for these agents, at most 363 ids each';

CREATE FUNCTION @extschema@.prebuild_agent_ids_decode(encoded text) RETURNS SETOF uuid
AS 'MODULE_PATHNAME'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_decode(text) IS
'Agents that a payload of the metadata fan-out channel names';

CREATE FUNCTION @extschema@.prebuild_agent_ids_notify(agent_ids uuid[]) RETURNS integer
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_notify(uuid[]) IS
'Publish at commit that the metadata of these agents changed; returns the number of messages';
REVOKE ALL ON FUNCTION @extschema@.prebuild_agent_ids_notify(uuid[]) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_agent_metadata_upsert_row AS (
	updated bigint,
	inserted bigint,
	skipped bigint,
	notified integer
);

CREATE FUNCTION @extschema@.prebuild_agent_metadata_upsert(
	agent_ids uuid[], keys text[], metadata_values text[], metadata_errors text[],
	collected_at timestamptz[])
RETURNS @extschema@.prebuild_agent_metadata_upsert_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_upsert(uuid[], text[], text[], text[], timestamptz[]) IS
'Write a batch of agent metadata, the newest value of each key winning, and publish what changed';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_upsert(uuid[], text[], text[], text[], timestamptz[])
FROM PUBLIC;

---- reports of agents, and the worker ----------------------------------------

CREATE TYPE @extschema@.prebuild_agent_metadata_report_row AS (
	queued integer,
	dropped integer,
	rejected integer
);

CREATE FUNCTION @extschema@.prebuild_agent_metadata_report(
	agent_id uuid, keys text[], metadata_values text[], metadata_errors text[] DEFAULT NULL)
RETURNS @extschema@.prebuild_agent_metadata_report_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_report(uuid, text[], text[], text[]) IS
'Take the report of one agent: into the buffer, or into the table where no worker writes that';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_report(uuid, text[], text[], text[]) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_agent_metadata_flush() RETURNS bigint
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_metadata_flush() IS
'Have the worker write all buffered reports now and wait for it; returns the number of entries';
REVOKE ALL ON FUNCTION @extschema@.prebuild_agent_metadata_flush() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_metadata_stats_row AS (
	mode text,
	queued bigint,
	reported bigint,
	flushed bigint,
	skipped bigint,
	refused bigint,
	dropped bigint,
	batches_capacity bigint,
	batches_scheduled bigint,
	batches_shutdown bigint,
	batches_manual bigint,
	failed_flushes bigint,
	publish_errors bigint,
	last_error text,
	last_error_at timestamptz,
	last_flush_at timestamptz,
	buffer_size bigint
);

CREATE FUNCTION @extschema@.prebuild_metadata_stats_read()
RETURNS @extschema@.prebuild_metadata_stats_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.prebuild_metadata_stats_read() IS
'The row of the view prebuild_metadata_stats';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metadata_stats_read() FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_metadata_stats AS
SELECT s.* FROM @extschema@.prebuild_metadata_stats_read() s;

COMMENT ON VIEW @extschema@.prebuild_metadata_stats IS
'Buffered agent metadata of this database since the server started';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.mode IS
'What becomes of a report now: buffered or direct';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.queued IS
'Distinct (agent, key) entries that wait to be written';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.reported IS
'Entries taken into the buffer, replacements of waiting ones included';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.skipped IS
'Entries that were not stored: of unknown agents or keys, older than what was stored, too long';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.refused IS
'Entries that a constraint or a trigger of the table refused; last_error has one''s error';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.dropped IS
'Entries refused because the buffer was full';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.publish_errors IS
'Failed flushes of which the commit failed, as it does when the notification queue is full';

CREATE TYPE @extschema@.prebuild_metadata_histogram_row AS (
	histogram text,
	reason text,
	upper_bound double precision,
	count bigint,
	sum double precision
);

CREATE FUNCTION @extschema@.prebuild_metadata_histograms()
RETURNS SETOF @extschema@.prebuild_metadata_histogram_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.prebuild_metadata_histograms() IS
'Batch sizes, keys per agent and flush durations: cumulative counts by upper bound, and sums';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metadata_histograms() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_worker_status_row AS (
	database text,
	state text,
	detail text,
	role text,
	pid integer,
	started_at timestamptz,
	starts bigint,
	last_error text,
	last_error_at timestamptz,
	passes bigint,
	failed_passes bigint,
	last_pass_at timestamptz
);

CREATE FUNCTION @extschema@.prebuild_worker_status_read()
RETURNS @extschema@.prebuild_worker_status_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.prebuild_worker_status_read() IS
'The row of the view prebuild_worker_status';
REVOKE ALL ON FUNCTION @extschema@.prebuild_worker_status_read() FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_worker_status AS
SELECT s.* FROM @extschema@.prebuild_worker_status_read() s WHERE s.database IS NOT NULL;

COMMENT ON VIEW @extschema@.prebuild_worker_status IS
'The background worker of this database; no row when prebuild.databases does not name it';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.state IS
'starting, serving, draining (writing for the last time) or unable (detail says why)';

---- triggers on the control plane's tables -----------------------------------

CREATE FUNCTION @extschema@.prebuild_metadata_fanout() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_metadata_fanout() IS
'Trigger: publish the agents whose metadata a statement changed';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metadata_fanout() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_pass_wanted() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pass_wanted() IS
'Trigger: have the worker run a pass within a second of the commit';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pass_wanted() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_claim_guard() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_claim_guard() IS
'Trigger: leave a prebuild alone that was given away, or got a build, since the statement looked';
REVOKE ALL ON FUNCTION @extschema@.prebuild_claim_guard() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_attach(
	metadata_fanout boolean DEFAULT NULL, guard_claims boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION @extschema@.prebuild_attach(boolean, boolean) IS
'Put the extension''s triggers on the control plane''s tables, or bring them up to date; what is not asked for is taken off';
REVOKE ALL ON FUNCTION @extschema@.prebuild_attach(boolean, boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_detach() RETURNS void
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION @extschema@.prebuild_detach() IS
'Take the extension''s triggers off the control plane''s tables';
REVOKE ALL ON FUNCTION @extschema@.prebuild_detach() FROM PUBLIC;

---- metrics ------------------------------------------------------------------

CREATE TYPE @extschema@.prebuild_metrics_row AS (
	name text,
	labels jsonb,
	value double precision,
	type text,
	help text
);

CREATE FUNCTION @extschema@.prebuild_metrics_read(
	at timestamptz DEFAULT now(), part text DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_metrics_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 200000
SET search_path = pg_catalog, pg_temp SET jit = off SET extra_float_digits = 1
AS 'MODULE_PATHNAME', 'prebuild_metrics_read';

COMMENT ON FUNCTION @extschema@.prebuild_metrics_read(timestamptz, text) IS
'Metrics at a time, of one part (pool, history, loop, metadata) or all';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metrics_read(timestamptz, text) FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_metrics AS
SELECT m.* FROM @extschema@.prebuild_metrics_read() m;

COMMENT ON VIEW @extschema@.prebuild_metrics IS
'Metrics now; of a histogram the series of its buckets (label le), its sum and its count';

CREATE FUNCTION @extschema@.prebuild_metrics_text(at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql STABLE PARALLEL RESTRICTED COST 200000
SET search_path = pg_catalog, pg_temp SET jit = off SET extra_float_digits = 1
BEGIN ATOMIC
	WITH metrics AS (
		SELECT m.name, m.type, m.help, m.value, m.position,
			-- the name that HELP and TYPE go by
			CASE m.type WHEN 'histogram' THEN regexp_replace(m.name, '_(bucket|sum|count)$', '')
				ELSE m.name END AS family,
			(SELECT '{' || string_agg(format('%s="%s"', l.key,
				replace(replace(replace(l.value, E'\\', E'\\\\'), E'\n', E'\\n'), '"', E'\\"')),
				',' ORDER BY l.key) || '}'
			FROM jsonb_each_text(m.labels) l (key, value)) AS labels
		FROM @extschema@.prebuild_metrics_read(at) WITH ORDINALITY
			m (name, labels, value, type, help, position)
	), families AS (
		SELECT m.family, concat(
			'# HELP ', m.family, ' ',
				replace(replace(min(m.help), E'\\', E'\\\\'), E'\n', E'\\n'), E'\n',
			'# TYPE ', m.family, ' ', min(m.type), E'\n',
			string_agg(concat(m.name, m.labels, ' ', CASE m.value
				WHEN 'Infinity' THEN '+Inf' WHEN '-Infinity' THEN '-Inf' ELSE m.value::text END,
				E'\n'), '' ORDER BY m.position)) AS lines
		FROM metrics m GROUP BY m.family
	)
	SELECT coalesce(string_agg(f.lines, '' ORDER BY f.family), '') FROM families f;
END;

COMMENT ON FUNCTION @extschema@.prebuild_metrics_text(timestamptz) IS
'Metrics at a time in the Prometheus text format';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metrics_text(timestamptz) FROM PUBLIC;

---- passes driven by pg_cron -------------------------------------------------

-- The job's name carries the database, as all databases share pg_cron's one list of jobs.

CREATE FUNCTION @extschema@.prebuild_schedule(cron text DEFAULT '* * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	database text := pg_catalog.current_database();
	job text := 'prebuild_reconcile@' OPERATOR(pg_catalog.||) database;
	command text;
	job_id bigint;
BEGIN
	IF cron IS NULL THEN
		RAISE EXCEPTION 'argument "cron" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT pg_catalog.format('SELECT %I.prebuild_reconcile(pg_catalog.now())', n.nspname) INTO STRICT command
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext';

	-- not any schema of that name: pg_cron's own
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
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO STRICT job_id USING job, cron, command;
	RETURN job_id;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_schedule(text) IS
'Register prebuild_reconcile() with pg_cron, or change its schedule; returns the job''s id';
REVOKE ALL ON FUNCTION @extschema@.prebuild_schedule(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_unschedule() RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	database text := pg_catalog.current_database();
	job text := 'prebuild_reconcile@' OPERATOR(pg_catalog.||) database;
	found_id bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
			WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron') THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', database
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = pg_catalog.format(
					'pg_cron lives in one database (cron.database_name, here %s). Run there:'
					' SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = %L;',
					coalesce(pg_catalog.current_setting('cron.database_name', true), 'not set'), job);
	END IF;
	EXECUTE 'SELECT j.jobid FROM cron.job j WHERE j.jobname OPERATOR(pg_catalog.=) $1'
		' AND j.username OPERATOR(pg_catalog.=) CURRENT_USER'
	INTO found_id USING job;
	IF found_id IS NOT NULL THEN
		EXECUTE 'SELECT cron.unschedule($1)' USING found_id;
	END IF;
	RETURN found_id IS NOT NULL;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_unschedule() IS
'Take the job of prebuild_schedule() away from pg_cron; false when there is none';
REVOKE ALL ON FUNCTION @extschema@.prebuild_unschedule() FROM PUBLIC;

---- rights -------------------------------------------------------------------

-- What an app server calls. Nothing on the extension's tables, and nothing on the control
-- plane's: those are the operator's affair.
CREATE FUNCTION @extschema@.prebuild_grant(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	granted regprocedure;
	granted_view regclass;
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed';
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
		AND p.prorettype OPERATOR(pg_catalog.<>) 'pg_catalog.trigger'::pg_catalog.regtype
		-- the owner's: what creates, attaches, schedules and grants
		AND p.proname OPERATOR(pg_catalog.<>) ALL ('{prebuild_create_control_plane,prebuild_grant,
			prebuild_attach,prebuild_detach,prebuild_rebuild,prebuild_schedule,
			prebuild_unschedule}'::pg_catalog.name[])
	LOOP
		EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', granted, role);
	END LOOP;
	-- views show what functions return, and no table
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
	LOOP
		EXECUTE pg_catalog.format('GRANT SELECT ON %s TO %s', granted_view, role);
	END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_grant(regrole) IS
'Give a role EXECUTE on the functions that an app server calls, and SELECT on the views';
REVOKE ALL ON FUNCTION @extschema@.prebuild_grant(regrole) FROM PUBLIC;

