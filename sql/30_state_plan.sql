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
	cron_expression text,
	sick integer,
	staged boolean,
	desired_source text
);

COMMENT ON TYPE @extschema@.prebuild_state_row IS
'Result of prebuild_state(): the columns desired to pending_stale and sick count prebuilt workspaces, num_failed counts builds';

CREATE FUNCTION @extschema@.prebuild_state(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_state_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_state_0_2';

COMMENT ON FUNCTION @extschema@.prebuild_state(timestamptz) IS
'State of each preset that has desired instances, at a time; ordered by organization, template and preset';
REVOKE ALL ON FUNCTION @extschema@.prebuild_state(timestamptz) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_plan_row AS (
	preset_id uuid,
	template_id uuid,
	action text,
	count integer,
	workspace_ids uuid[],
	backoff_until timestamptz,
	reason text,
	template_name text,
	preset_name text
);

COMMENT ON TYPE @extschema@.prebuild_plan_row IS
'An action of a pass; count is the number of prebuilt workspaces';

CREATE FUNCTION @extschema@.prebuild_plan(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_plan_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_plan_0_2';

COMMENT ON FUNCTION @extschema@.prebuild_plan(timestamptz) IS
'What prebuild_reconcile() would do at a time, and why; changes nothing. Ordered by organization, template and preset, and then in the order of execution';
REVOKE ALL ON FUNCTION @extschema@.prebuild_plan(timestamptz) FROM PUBLIC;

