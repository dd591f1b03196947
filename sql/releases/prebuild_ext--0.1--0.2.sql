/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- state and plan -----------------------------------------------------------

ALTER TYPE @extschema@.prebuild_plan_row ADD ATTRIBUTE template_name text,
	ADD ATTRIBUTE preset_name text;

COMMENT ON FUNCTION @extschema@.prebuild_state(timestamptz) IS
'State of each preset that has desired instances, at a time; ordered by organization, template and preset';
COMMENT ON FUNCTION @extschema@.prebuild_plan(timestamptz) IS
'What prebuild_reconcile() would do at a time, and why; changes nothing. Ordered by organization, template and preset, and then as it would be done';
