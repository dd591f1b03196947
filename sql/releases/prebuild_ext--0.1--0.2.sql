/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- the workers ---------------------------------------------------------------

ALTER TYPE @extschema@.prebuild_worker_status_row
	ADD ATTRIBUTE pass_state text,
	ADD ATTRIBUTE pass_detail text,
	ADD ATTRIBUTE pass_role text,
	ADD ATTRIBUTE pass_pid integer,
	ADD ATTRIBUTE pass_started_at timestamptz,
	ADD ATTRIBUTE pass_starts bigint,
	ADD ATTRIBUTE folds bigint,
	ADD ATTRIBUTE failed_folds bigint,
	ADD ATTRIBUTE last_fold_at timestamptz,
	ADD ATTRIBUTE flush_error text,
	ADD ATTRIBUTE flush_error_code text,
	ADD ATTRIBUTE flush_error_at timestamptz,
	ADD ATTRIBUTE pass_error text,
	ADD ATTRIBUTE pass_error_code text,
	ADD ATTRIBUTE pass_error_at timestamptz,
	ADD ATTRIBUTE fold_error text,
	ADD ATTRIBUTE fold_error_code text,
	ADD ATTRIBUTE fold_error_at timestamptz,
	ADD ATTRIBUTE start_error text,
	ADD ATTRIBUTE start_error_code text,
	ADD ATTRIBUTE start_error_at timestamptz,
	ADD ATTRIBUTE pass_start_error text,
	ADD ATTRIBUTE pass_start_error_code text,
	ADD ATTRIBUTE pass_start_error_at timestamptz;
COMMENT ON FUNCTION @extschema@.prebuild_worker_status_read() IS
'What the view prebuild_worker_status shows, in one row';

-- replaced, not made again: who may read it stays
CREATE OR REPLACE VIEW @extschema@.prebuild_worker_status AS
SELECT s.database, w.state, w.detail, w.role, w.pid, w.started_at, w.starts,
	w.last_error, w.last_error_at, w.passes, w.failed_passes, w.last_pass_at,
	w.lane, w.last_error_code, w.folds, w.failed_folds, w.last_fold_at,
	w.fold_error, w.fold_error_code, w.fold_error_at,
	w.start_error, w.start_error_code, w.start_error_at
FROM @extschema@.prebuild_worker_status_read() s, LATERAL (VALUES
	('metadata', s.state, s.detail, s.role, s.pid, s.started_at, s.starts,
		s.flush_error, s.flush_error_code, s.flush_error_at,
		NULL::bigint, NULL::bigint, NULL::timestamptz, NULL::bigint, NULL::bigint, NULL::timestamptz,
		NULL, NULL, NULL::timestamptz, s.start_error, s.start_error_code, s.start_error_at),
	('passes', s.pass_state, s.pass_detail, s.pass_role, s.pass_pid, s.pass_started_at, s.pass_starts,
		s.pass_error, s.pass_error_code, s.pass_error_at,
		s.passes, s.failed_passes, s.last_pass_at, s.folds, s.failed_folds, s.last_fold_at,
		s.fold_error, s.fold_error_code, s.fold_error_at,
		s.pass_start_error, s.pass_start_error_code, s.pass_start_error_at))
	w (lane, state, detail, role, pid, started_at, starts,
		last_error, last_error_code, last_error_at,
		passes, failed_passes, last_pass_at, folds, failed_folds, last_fold_at,
		fold_error, fold_error_code, fold_error_at, start_error, start_error_code, start_error_at)
WHERE s.database IS NOT NULL;

COMMENT ON VIEW @extschema@.prebuild_worker_status IS
'The background workers of this database: one writes agent metadata, one runs passes and folds; no rows when prebuild.databases does not name it';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.state IS
'starting, serving, draining (writing for the last time) or unable (detail says why)';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.last_error IS
'The last error of a flush (lane metadata) or of a pass (lane passes)';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.lane IS
'What the worker is for: metadata or passes';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.last_error_code IS
'Its SQLSTATE';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.fold_error IS
'The last error of bringing the kept pool up to date';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.start_error IS
'The last error of finding the database, its owner and the extension, and of connecting';

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
