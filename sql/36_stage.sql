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

