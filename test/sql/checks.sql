-- prebuild_health(): each thing that can be wrong is shown as such, and nothing else is.
\set ECHO none
\i test/fixture/fixture.sql

-- whether the pool is kept depends on the stage; 013_pool_state and 056_checks look at it
CREATE FUNCTION fixture.health(at timestamptz DEFAULT t0()) RETURNS SETOF prebuild_health_row LANGUAGE sql AS
$$ SELECT h.* FROM prebuild_health(at) h WHERE h.name NOT IN ('pool_log', 'stored_pool') $$;
CREATE FUNCTION fixture.bad(at timestamptz DEFAULT t0()) RETURNS SETOF text LANGUAGE plpgsql AS
$$ BEGIN RETURN QUERY SELECT concat_ws(' | ', h.name, h.status, h.value) FROM health(at) h WHERE h.status <> 'ok'; END $$;
-- what is bad after a statement, which is undone
CREATE FUNCTION fixture.after(statement text, at timestamptz DEFAULT t0()) RETURNS SETOF text LANGUAGE plpgsql AS
$$
DECLARE
	seen text[];
BEGIN
	BEGIN
		EXECUTE statement;
		seen := ARRAY(SELECT bad(at));
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	END;
	RETURN QUERY SELECT unnest(seen);
END
$$;

DO $$ BEGIN
	PERFORM control_plane('cp_checks');
	PERFORM simple('fine', 1);
	PERFORM prebuild('fine', 'fine-1', created => t0() - interval '5 hours');
	PERFORM simple('other', 2);
	PERFORM prebuild('other', 'other-2', created => t0() - interval '5 hours');
	PERFORM prebuild('other', 'other-1', created => t0() - interval '5 hours');
	PERFORM daemon('d', 'org', '{terraform}', '{"scope": "organization", "owner": ""}', t0());
END $$;
\echo before the first pass
SELECT bad();
SELECT pass();
\echo all is well
SELECT * FROM health();

\echo passes end: 10 minutes, 11 minutes, an hour later
SELECT bad(t0() + interval '10 minutes');
SELECT bad(t0() + interval '11 minutes');
SELECT bad(t0() + interval '61 minutes');
\echo paused, and a pause that nobody can read
SELECT after('SELECT prebuild_pause()');
SELECT after('SELECT prebuild_pause()', t0() + interval '2 hours');
SELECT after($$INSERT INTO site_configs VALUES ('prebuilds_settings', 'x') ON CONFLICT (key) DO UPDATE SET value = 'x'$$);
\echo a missing table, a missing column
SELECT after('ALTER TABLE site_configs RENAME TO gone');
SELECT after('ALTER TABLE templates RENAME deprecated TO gone');
SELECT after('ALTER TABLE provisioner_daemons RENAME TO gone');

\echo presets
SELECT after($$SET prebuild.backoff_lookback = '3h'; SET prebuild.backoff_interval = '2h';
	SELECT prebuild('fine', 'f-' || n, status => 'failed', created => t0() - interval '2 hours') FROM generate_series(1, 2) n$$);
SELECT after($$SELECT prebuild('fine', 'f-' || n, status => 'failed', created => t0() - interval '2 hours') FROM generate_series(1, 3) n$$);
SELECT after($$UPDATE template_version_presets SET prebuild_status = 'validation_failed', desired_instances = 2 WHERE name = 'fine'$$);
SELECT after($$SELECT parameter('fine-v1', 'must', required => true); UPDATE template_version_presets SET desired_instances = 2 WHERE name = 'fine'$$);
SELECT after($$UPDATE template_version_presets SET desired_instances = 2 WHERE name = 'fine';
	INSERT INTO template_version_workspace_tags VALUES (v('fine-v1'), 'a', 'file("b")')$$);
SELECT after($$UPDATE template_version_presets SET desired_instances = 2 WHERE name = 'fine';
	INSERT INTO prebuild_mark (preset_id, kind, detail, since, control_plane) VALUES (p('fine'), 'preset_failed', 'x', t0(), 'cp_checks')$$);
SELECT after($$SET prebuild.require_provisioner = on; UPDATE template_version_presets SET desired_instances = 2 WHERE name = 'fine';
	UPDATE provisioner_daemons SET last_seen_at = t0() - interval '1 hour'$$);
RESET prebuild.require_provisioner;
SELECT after($$SELECT schedule('fine', '1 * * * *', 1)$$);
SELECT after($$SET prebuild.unready_grace = '10min'; SELECT agent('other-1', 'start_error')$$);
SELECT after($$UPDATE template_version_presets SET desired_instances = 2 WHERE name = 'fine'$$);
SELECT after($$SELECT build('fine-1', 'delete', 'failed', 'fine', t0() - interval '3 hours')$$);
\echo many presets: three names
SELECT after($$SELECT simple('empty-' || n, 1) FROM generate_series(1, 5) n$$);

\echo another reconciler, beside passes and alone
SELECT after($$SELECT prebuild('other', 'theirs', created => t0() - interval '10 minutes')$$);
SELECT after($$SELECT prebuild('other', 'theirs', created => t0() + interval '2 hours')$$, t0() + interval '2 hours');
\echo jobs that wait, with and without a daemon
SELECT after($$SELECT prebuild('other', 'waits', status => 'pending', created => t0() - interval '2 hours')$$);
SELECT after($$SELECT prebuild('other', 'waits', status => 'pending', created => t0() - interval '2 hours');
	UPDATE provisioner_daemons SET last_seen_at = t0() - interval '1 hour'$$);

\echo versions: a newer script, other files, and a library that is too old
SET allow_system_table_mods = on;
SELECT after($$UPDATE pg_catalog.pg_extension SET extversion = '9.9' WHERE extname = 'prebuild_ext'$$);
SELECT after($$UPDATE pg_catalog.pg_extension SET extversion = '0.1' WHERE extname = 'prebuild_ext'$$);
BEGIN;
UPDATE pg_catalog.pg_proc SET prosrc = 'of_the_future' WHERE proname = 'prebuild_health_read';
SELECT name, status, regexp_replace(value, '"[^"]*prebuild_ext[^"]*"', 'the library'), threshold, advice FROM prebuild_health(t0());
ROLLBACK;
RESET allow_system_table_mods;

\echo a role that may see little
CREATE ROLE checks_little;
SELECT prebuild_grant('checks_little') \g /dev/null
GRANT USAGE ON SCHEMA fixture TO checks_little;
SET ROLE checks_little;
SELECT bad();
RESET ROLE;
GRANT USAGE ON SCHEMA cp_checks TO checks_little;
SET ROLE checks_little;
SELECT bad();
RESET ROLE;
\echo and what the advice is then
SET ROLE checks_little;
SELECT DISTINCT advice FROM health() WHERE status = 'unknown';
RESET ROLE;
SELECT raises('SELECT prebuild_health(NULL)', '22004', 'at', NULL, 'no time');
SELECT raises('SELECT prebuild_health(''infinity'')', '22008', NULL, NULL, 'nor an infinite one');

\echo as metrics
SELECT is((SELECT count(*) FROM prebuild_metrics_read(t0(), 'health')), (SELECT count(*) FROM prebuild_health(t0())), 'each is a metric');
DO $$ BEGIN PERFORM prebuild_pause(); END $$;
SELECT labels ->> 'check', value FROM prebuild_metrics_read(t0(), 'health') WHERE value <> 0;
DO $$ BEGIN PERFORM prebuild_resume(); END $$;
DROP OWNED BY checks_little;
DROP ROLE checks_little;
