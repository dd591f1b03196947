/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- agent metadata -----------------------------------------------------------

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_encode(uuid[]) IS
'Payloads of the metadata fan-out channel for these agents, each with as many as a message takes';

-- Agents send bytes, which may be no text; as such the server refuses the whole call.
CREATE FUNCTION @extschema@.prebuild_agent_metadata_report_bytes(
	agent_id uuid, keys bytea[], metadata_values bytea[], metadata_errors bytea[] DEFAULT NULL)
RETURNS @extschema@.prebuild_agent_metadata_report_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_report_bytes(uuid, bytea[], bytea[], bytea[]) IS
'Take the report of one agent in UTF-8 as it was sent: what is no text is replaced by an error';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_report_bytes(uuid, bytea[], bytea[], bytea[]) FROM PUBLIC;
