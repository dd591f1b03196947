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
'Trigger: skip a prebuild that was given away, or got a build, since the statement began';
REVOKE ALL ON FUNCTION @extschema@.prebuild_claim_guard() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_attach(
	metadata_fanout boolean DEFAULT NULL, guard_claims boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION @extschema@.prebuild_attach(boolean, boolean) IS
'Create the extension''s triggers on the control plane''s tables, or update them; each call replaces the previous configuration';
REVOKE ALL ON FUNCTION @extschema@.prebuild_attach(boolean, boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_detach() RETURNS void
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION @extschema@.prebuild_detach() IS
'Drop the extension''s triggers on the control plane''s tables';
REVOKE ALL ON FUNCTION @extschema@.prebuild_detach() FROM PUBLIC;

