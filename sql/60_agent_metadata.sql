---- agent metadata -----------------------------------------------------------

CREATE FUNCTION @extschema@.prebuild_agent_ids_encode(agent_ids uuid[]) RETURNS SETOF text
AS 'MODULE_PATHNAME'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_encode(uuid[]) IS
'Payloads of the metadata fan-out channel for these agents, each with as many as a message takes';

CREATE FUNCTION @extschema@.prebuild_agent_ids_decode(encoded text) RETURNS SETOF uuid
AS 'MODULE_PATHNAME'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_decode(text) IS
'Agents that a payload of the metadata fan-out channel names';

CREATE FUNCTION @extschema@.prebuild_agent_ids_notify(agent_ids uuid[]) RETURNS integer
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_ids_notify(uuid[]) IS
'Publish at commit that the metadata of these agents changed; returns the number of messages';
REVOKE ALL ON FUNCTION @extschema@.prebuild_agent_ids_notify(uuid[]) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_agent_metadata_upsert_row AS (
	updated bigint,
	inserted bigint,
	skipped bigint,
	notified integer
);

COMMENT ON TYPE @extschema@.prebuild_agent_metadata_upsert_row IS
'Result of a batch: updated, inserted and skipped count its (agent, key) entries, notified counts the messages sent';

CREATE FUNCTION @extschema@.prebuild_agent_metadata_upsert(
	agent_ids uuid[], keys text[], metadata_values text[], metadata_errors text[],
	collected_at timestamptz[])
RETURNS @extschema@.prebuild_agent_metadata_upsert_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_upsert(uuid[], text[], text[], text[], timestamptz[]) IS
'Write a batch of agent metadata and publish what changed; the newest value of each key wins';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_upsert(uuid[], text[], text[], text[], timestamptz[])
FROM PUBLIC;

