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

-- This function does not set search_path, because that would take longer than the rest of a call. The
-- query qualifies every name.
CREATE FUNCTION @extschema@.prebuild_agent_identity(agent_id uuid)
RETURNS SETOF @extschema@.prebuild_agent_identity_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1;

COMMENT ON FUNCTION @extschema@.prebuild_agent_identity(uuid) IS
'Workspace, owner and template of an agent; no row for an agent without a workspace';
REVOKE ALL ON FUNCTION @extschema@.prebuild_agent_identity(uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_identity_changed() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_identity_changed() IS
'Trigger: invalidate the cached identities that depend on the row';
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
'Statistics of the identity cache';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.scope IS
'database: all sessions since the server started; session: this session, because the server does not preload the library';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.hits IS
'Look-ups that the cache answered';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.misses IS
'Look-ups that read the tables';
COMMENT ON COLUMN @extschema@.prebuild_identity_stats.invalidations IS
'Entries dropped because the identity may have changed';

