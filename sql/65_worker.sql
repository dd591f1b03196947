---- reports of agents, and the worker ----------------------------------------

CREATE TYPE @extschema@.prebuild_agent_metadata_report_row AS (
	queued integer,
	dropped integer,
	rejected integer
);

COMMENT ON TYPE @extschema@.prebuild_agent_metadata_report_row IS
'Result of a report; all columns count its keys';

CREATE FUNCTION @extschema@.prebuild_agent_metadata_report(
	agent_id uuid, keys text[], metadata_values text[], metadata_errors text[] DEFAULT NULL)
RETURNS @extschema@.prebuild_agent_metadata_report_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_report(uuid, text[], text[], text[]) IS
'Accept the report of one agent; goes into the buffer, or into the table if no worker writes the buffer';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_report(uuid, text[], text[], text[]) FROM PUBLIC;

-- Agents send bytes that may be invalid as text. The server refuses a whole call with an invalid text
-- argument, so this function accepts bytea.
CREATE FUNCTION @extschema@.prebuild_agent_metadata_report_bytes(
	agent_id uuid, keys bytea[], metadata_values bytea[], metadata_errors bytea[] DEFAULT NULL)
RETURNS @extschema@.prebuild_agent_metadata_report_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION
@extschema@.prebuild_agent_metadata_report_bytes(uuid, bytea[], bytea[], bytea[]) IS
'Accept the report of one agent as UTF-8 bytes; an error replaces what is not valid text';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_agent_metadata_report_bytes(uuid, bytea[], bytea[], bytea[]) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_agent_metadata_flush() RETURNS bigint
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_agent_metadata_flush() IS
'Have the worker write all buffered reports now and wait for it; returns the number of entries';
REVOKE ALL ON FUNCTION @extschema@.prebuild_agent_metadata_flush() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_metadata_stats_row AS (
	mode text,
	queued bigint,
	reported bigint,
	flushed bigint,
	skipped bigint,
	refused bigint,
	dropped bigint,
	batches_capacity bigint,
	batches_scheduled bigint,
	batches_shutdown bigint,
	batches_manual bigint,
	failed_flushes bigint,
	publish_errors bigint,
	last_error text,
	last_error_at timestamptz,
	last_flush_at timestamptz,
	buffer_size bigint
);

CREATE FUNCTION @extschema@.prebuild_metadata_stats_read()
RETURNS @extschema@.prebuild_metadata_stats_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.prebuild_metadata_stats_read() IS
'The row of the view prebuild_metadata_stats';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metadata_stats_read() FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_metadata_stats AS
SELECT s.* FROM @extschema@.prebuild_metadata_stats_read() s;

COMMENT ON VIEW @extschema@.prebuild_metadata_stats IS
'Buffered agent metadata of this database since the server started';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.mode IS
'How sessions handle a report now: buffered or direct';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.queued IS
'Distinct (agent, key) entries that wait to be written';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.reported IS
'Entries taken into the buffer, replacements of waiting ones included';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.skipped IS
'Entries that were not stored because the agent or key is unknown, a newer value is stored, or the entry is too long';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.refused IS
'Entries that a constraint or a trigger of the table refused; last_error has the error of one';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.dropped IS
'Entries dropped because the buffer was full';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.publish_errors IS
'Flushes that failed at commit, for example because the notification queue was full';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.flushed IS
'Entries written';
COMMENT ON COLUMN @extschema@.prebuild_metadata_stats.buffer_size IS
'Bytes of shared memory for the waiting reports of all databases; 0 if the server buffers none';

CREATE TYPE @extschema@.prebuild_metadata_histogram_row AS (
	histogram text,
	reason text,
	upper_bound double precision,
	count bigint,
	sum double precision
);

CREATE FUNCTION @extschema@.prebuild_metadata_histograms()
RETURNS SETOF @extschema@.prebuild_metadata_histogram_row
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.prebuild_metadata_histograms() IS
'Batch sizes (entries), keys per agent and flush durations (seconds): cumulative counts by upper bound, and sums';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metadata_histograms() FROM PUBLIC;

-- The state of both background workers of this database, in one row. 0.2 added the columns from
-- pass_state on.
CREATE TYPE @extschema@.prebuild_worker_status_row AS (
	database text,
	state text,
	detail text,
	role text,
	pid integer,
	started_at timestamptz,
	starts bigint,
	last_error text,
	last_error_at timestamptz,
	passes bigint,
	failed_passes bigint,
	last_pass_at timestamptz,
	pass_state text,
	pass_detail text,
	pass_role text,
	pass_pid integer,
	pass_started_at timestamptz,
	pass_starts bigint,
	folds bigint,
	failed_folds bigint,
	last_fold_at timestamptz,
	flush_error text,
	flush_error_code text,
	flush_error_at timestamptz,
	pass_error text,
	pass_error_code text,
	pass_error_at timestamptz,
	fold_error text,
	fold_error_code text,
	fold_error_at timestamptz,
	start_error text,
	start_error_code text,
	start_error_at timestamptz,
	pass_start_error text,
	pass_start_error_code text,
	pass_start_error_at timestamptz,
	pool_unused text
);

CREATE FUNCTION @extschema@.prebuild_worker_status_read()
RETURNS @extschema@.prebuild_worker_status_row
AS 'MODULE_PATHNAME', 'prebuild_worker_status_read_0_2'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.prebuild_worker_status_read() IS
'What the view prebuild_worker_status shows, in one row';
REVOKE ALL ON FUNCTION @extschema@.prebuild_worker_status_read() FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_worker_status AS
SELECT s.database, w.state, w.detail, w.role, w.pid, w.started_at, w.starts,
	w.last_error, w.last_error_at, w.passes, w.failed_passes, w.last_pass_at,
	w.lane, w.last_error_code, w.folds, w.failed_folds, w.last_fold_at,
	w.fold_error, w.fold_error_code, w.fold_error_at,
	w.start_error, w.start_error_code, w.start_error_at, w.pool_unused
FROM @extschema@.prebuild_worker_status_read() s, LATERAL (VALUES
	('metadata', s.state, s.detail, s.role, s.pid, s.started_at, s.starts,
		s.flush_error, s.flush_error_code, s.flush_error_at,
		NULL::bigint, NULL::bigint, NULL::timestamptz, NULL::bigint, NULL::bigint, NULL::timestamptz,
		NULL, NULL, NULL::timestamptz, s.start_error, s.start_error_code, s.start_error_at, NULL),
	('passes', s.pass_state, s.pass_detail, s.pass_role, s.pass_pid, s.pass_started_at, s.pass_starts,
		s.pass_error, s.pass_error_code, s.pass_error_at,
		s.passes, s.failed_passes, s.last_pass_at, s.folds, s.failed_folds, s.last_fold_at,
		s.fold_error, s.fold_error_code, s.fold_error_at,
		s.pass_start_error, s.pass_start_error_code, s.pass_start_error_at, s.pool_unused))
	w (lane, state, detail, role, pid, started_at, starts,
		last_error, last_error_code, last_error_at,
		passes, failed_passes, last_pass_at, folds, failed_folds, last_fold_at,
		fold_error, fold_error_code, fold_error_at, start_error, start_error_code, start_error_at,
		pool_unused)
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
'SQLSTATE of last_error';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.fold_error IS
'The last error of a fold of the stored pool';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.start_error IS
'The last error of finding the database, its owner and the extension, or of connecting';
COMMENT ON COLUMN @extschema@.prebuild_worker_status.pool_unused IS
'Why the stored pool of the attached control plane is not in use, and what repairs it; NULL if it is in use';

