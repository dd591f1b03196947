---- what a new prebuild is built with ---------------------------------------

CREATE TYPE @extschema@.prebuild_build_inputs_row AS (
    possible boolean,
    verdict text,
    reason text,
    parameters jsonb,
    tags jsonb
);

COMMENT ON TYPE @extschema@.prebuild_build_inputs_row IS
'Result of prebuild_build_inputs()';

CREATE FUNCTION @extschema@.prebuild_build_inputs(preset_id uuid)
RETURNS @extschema@.prebuild_build_inputs_row
LANGUAGE c STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET jit = off
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.prebuild_build_inputs(uuid) IS
'Parameters and job tags of a new prebuild of the preset, or why it cannot be built: verdict is possible, not_yet (the version is still being imported), invalid (impossible until the template changes) or unsupported (only Terraform can tell)';
REVOKE ALL ON FUNCTION @extschema@.prebuild_build_inputs(uuid) FROM PUBLIC;

