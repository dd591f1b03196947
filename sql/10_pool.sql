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
'Running prebuilds, ordered by id; only those of one preset if it is given';
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

