---- the stored pool ----------------------------------------------------------

-- A pool member with its latest build. The columns after the key (control_plane, id) are those that
-- src/pool/member_columns.h lists as KEPT, in the same order. control_plane is the oid of the tables'
-- schema, because a database may have several control planes.
CREATE TYPE @extschema@.prebuild_pool_member AS (
	control_plane oid,
	id uuid,
	name text,
	template_id uuid,
	created_at timestamptz,
	build_id uuid,
	template_version_id uuid,
	build_number integer,
	transition text,
	job_status text,
	by_system_user boolean,
	job_unclaimed boolean,
	job_id uuid,
	build_created_at timestamptz,
	build_preset_id uuid,
	current_preset_id uuid,
	ready boolean,
	completed_at timestamptz,
	job_never_taken boolean,
	unwell boolean,
	resources uuid[],
	seen_at timestamptz
);

CREATE TABLE @extschema@.prebuild_pool_state OF @extschema@.prebuild_pool_member (
	PRIMARY KEY (control_plane, id)
);
ALTER TABLE @extschema@.prebuild_pool_state REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.prebuild_pool_state IS
'The pool as of the last fold of prebuild_pool_log; for attached control planes';

-- The triggers of prebuild_attach() write this table: for each row that a statement touched, the id
-- that leads from the row to a workspace. kind is w(orkspace), j(ob) or r(esource), or t(runcated) for
-- all rows. While an old snapshot keeps dead entries, every reader would have to skip them. The index
-- lets a reader begin after them.
CREATE TABLE @extschema@.prebuild_pool_log (
	xid xid8 NOT NULL,
	control_plane oid NOT NULL,
	kind "char" NOT NULL,
	id uuid NOT NULL
) WITH (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
	autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000);
CREATE INDEX prebuild_pool_log_xid_idx ON @extschema@.prebuild_pool_log (xid);
ALTER TABLE @extschema@.prebuild_pool_log REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.prebuild_pool_log IS
'Rows of the control plane that statements have touched since the last fold';

-- Readers trust a stored pool only if its row here matches: fingerprint says from which tables and
-- triggers the pool was built. A reader reads the log entries of transactions from log_from on, and
-- of the earlier transactions in log_open, which were in progress then.
CREATE TABLE @extschema@.prebuild_pool_marker (
	control_plane oid PRIMARY KEY,
	fingerprint text NOT NULL,
	log_from xid8 NOT NULL,
	log_open xid8[] NOT NULL,
	members integer NOT NULL
);

COMMENT ON TABLE @extschema@.prebuild_pool_marker IS
'What the stored pools were built from; readers use the tables instead if the fingerprint differs';

CREATE FUNCTION @extschema@.prebuild_pool_touched() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pool_touched() IS
'Trigger: log a row that the pool may depend on';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool_touched() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_pool_touched_by_name() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pool_touched_by_name() IS
'Trigger: log a row on every update, because a BEFORE trigger may change columns that the statement does not name';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool_touched_by_name() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_pool_not_replicated() RETURNS trigger
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.prebuild_pool_not_replicated() IS
'Trigger: skip the rows of a publisher''s own stored pool';
REVOKE ALL ON FUNCTION @extschema@.prebuild_pool_not_replicated() FROM PUBLIC;

-- on all three tables, so that no reader trusts replicated rows
CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_pool_state
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_pool_state ENABLE REPLICA TRIGGER not_replicated;
CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_pool_log
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_pool_log ENABLE REPLICA TRIGGER not_replicated;
CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_pool_marker
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_pool_marker ENABLE REPLICA TRIGGER not_replicated;

CREATE FUNCTION @extschema@.prebuild_fold() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_fold';

COMMENT ON FUNCTION @extschema@.prebuild_fold() IS
'Bring the stored pool of an attached control plane up to date, as every pass and the worker do; returns the number of log entries that it processed';
REVOKE ALL ON FUNCTION @extschema@.prebuild_fold() FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_rebuild() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_rebuild';

COMMENT ON FUNCTION @extschema@.prebuild_rebuild() IS
'Rebuild the stored pool of an attached control plane from the tables; returns the number of its members';
REVOKE ALL ON FUNCTION @extschema@.prebuild_rebuild() FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_verify_row AS (
	id uuid,
	stored @extschema@.prebuild_pool_member,
	defined @extschema@.prebuild_pool_member
);

CREATE FUNCTION @extschema@.prebuild_verify()
RETURNS SETOF @extschema@.prebuild_verify_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_verify';

COMMENT ON FUNCTION @extschema@.prebuild_verify() IS
'Compare the stored pool with the tables in the snapshot of the statement; returns each member that differs';
REVOKE ALL ON FUNCTION @extschema@.prebuild_verify() FROM PUBLIC;

