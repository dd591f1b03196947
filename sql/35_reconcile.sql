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

COMMENT ON TYPE @extschema@.prebuild_reconcile_row IS
'Result of a pass: created, deleted and canceled count prebuilt workspaces, the other numbers count presets';

CREATE FUNCTION @extschema@.prebuild_reconcile(at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_reconcile_row
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_reconcile';

COMMENT ON FUNCTION @extschema@.prebuild_reconcile(timestamptz) IS
'Run one pass: cancel, delete and create prebuilds so that every preset has as many as it wants';
REVOKE ALL ON FUNCTION @extschema@.prebuild_reconcile(timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_pause(wait boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_pause_0_2';

COMMENT ON FUNCTION @extschema@.prebuild_pause(boolean) IS
'Pause reconciliation, for every reconciler of the control plane; with wait, after the pass that is under way';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pause(boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_resume() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_resume';

COMMENT ON FUNCTION @extschema@.prebuild_resume() IS
'Resume reconciliation after prebuild_pause()';
REVOKE ALL ON FUNCTION @extschema@.prebuild_resume() FROM PUBLIC;

