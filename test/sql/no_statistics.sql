-- Without statistics, as after a restore or pg_upgrade, the cost still follows the pool: large
-- tables are reached by their indexes.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_fresh'); PERFORM simple('one', 50); END $$;
SET session_replication_role = replica;
DO $$ BEGIN
	FOR n IN 1 .. 50 LOOP PERFORM prebuild('one', 'w' || n); END LOOP;
END $$;
-- other people's
CREATE TABLE fixture.ids AS SELECT gen_random_uuid() AS id, gen_random_uuid() AS job_id
	FROM generate_series(1, 30000);
INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
SELECT id, now(), job_id, 'start', 'machine', 'main' FROM fixture.ids;
INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token, architecture,
	operating_system)
SELECT gen_random_uuid(), now(), now(), 'main', id, gen_random_uuid(), 'amd64', 'linux' FROM fixture.ids;
RESET session_replication_role;
-- sizes are known, contents are not
VACUUM workspace_agents, workspace_resources;
DELETE FROM pg_statistic WHERE starelid IN ('workspace_agents'::regclass, 'workspace_resources'::regclass);

CREATE FUNCTION scans() RETURNS bigint LANGUAGE sql VOLATILE AS $$
	SELECT sum(seq_scan)::bigint FROM pg_stat_xact_user_tables
	WHERE relid IN ('workspace_agents'::regclass, 'workspace_resources'::regclass)
$$;
-- on an attached control plane the stored pool answers
SELECT prebuild_fold() \g /dev/null
-- what this transaction did, and what is not reported yet of those before
BEGIN;
SELECT scans() AS before \gset
SELECT is((SELECT count(*) FROM prebuild_running() WHERE ready), 50, 'all of the pool are ready');
SELECT is(scans() - :before, 0, 'prebuild_running() scans no large table');
SELECT scans() AS before \gset
SELECT is((SELECT count(*) FROM prebuild_plan(t0())), 0, 'nothing is to be done');
SELECT is(scans() - :before, 0, 'prebuild_plan() scans no large table');
COMMIT;
