/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- units of numbers ---------------------------------------------------------

COMMENT ON FUNCTION @extschema@.prebuild_rebuild() IS
'Build the stored pool of an attached control plane anew from its tables; returns the number of its members';
COMMENT ON FUNCTION @extschema@.prebuild_fold() IS
'Bring the stored pool of an attached control plane up to date, as every pass and the worker do; returns the number of log entries it took';
COMMENT ON TYPE @extschema@.prebuild_state_row IS
'A preset as prebuild_state() sees it; desired to pending_stale count prebuilt workspaces, num_failed builds';
COMMENT ON TYPE @extschema@.prebuild_plan_row IS
'An action of a pass; count is of prebuilt workspaces';
COMMENT ON TYPE @extschema@.prebuild_reconcile_row IS
'What a pass did; created, deleted and canceled count prebuilt workspaces, the other numbers presets';
COMMENT ON FUNCTION @extschema@.prebuild_claim(uuid, uuid, text, text, timestamptz, bigint,
	timestamptz) IS
'Give the oldest eligible prebuild of a preset that nobody else holds to a new owner, under a new name; no row when there is none. ttl is in nanoseconds, as in Coder: 8 hours are 28800000000000; NULL is none. In REPEATABLE READ and SERIALIZABLE a prebuild that was given away since the transaction''s snapshot is a serialization failure';
COMMENT ON FUNCTION @extschema@.prebuild_find_preset(uuid, text[], text[]) IS
'The preset of a template version with the most parameters of which each, name and value, is among those given, or NULL; of several one that wants prebuilds, then the oldest; a name that is given more than once stands for each of its values';
COMMENT ON TABLE @extschema@.prebuild_pass_stats IS
'How long passes took: their number, the sum in seconds, and a histogram';
COMMENT ON TYPE @extschema@.prebuild_agent_metadata_upsert_row IS
'What became of a batch: updated, inserted and skipped count its (agent, key) entries, notified the messages that were sent';
COMMENT ON TYPE @extschema@.prebuild_agent_metadata_report_row IS
'What became of a report; all three count its keys';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.flushed IS
'Entries written';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.buffer_size IS
'Bytes of shared memory for reports that wait, of all databases together; 0 where none are buffered';
COMMENT ON FUNCTION @extschema@.prebuild_metadata_histograms() IS
'Batch sizes (entries), keys per agent and flush durations (seconds): cumulative counts by upper bound, and sums';

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
