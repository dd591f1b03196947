---- the pool -----------------------------------------------------------------

CREATE FUNCTION @extschema@.prebuild_system_user() RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'c42fdf75-3097-471c-8c33-fb52454d81c0'::uuid;

COMMENT ON FUNCTION @extschema@.prebuild_system_user() IS
'The system user that owns prebuilt workspaces';
REVOKE ALL ON FUNCTION @extschema@.prebuild_system_user() FROM PUBLIC;

