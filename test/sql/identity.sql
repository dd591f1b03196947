-- Identities of agents: the cache gives every caller exactly what the query gives.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_identity');
	-- attached later on
	PERFORM prebuild_detach();
END $$;

-- an agent by its workspace's name; workspaces keep their ids when they are renamed
CREATE TABLE fixture.known (label text PRIMARY KEY, agent uuid, workspace uuid);
CREATE FUNCTION fixture.a(wanted text) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT k.agent FROM fixture.known k WHERE k.label = wanted $$;
CREATE FUNCTION fixture.workspace(label text, owner uuid, schedule text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM prebuild('go', label, owner => owner);
	UPDATE workspaces x SET autostart_schedule = schedule WHERE x.name = label;
	INSERT INTO fixture.known
	SELECT label, g.id, b.workspace_id FROM workspace_agents g
	JOIN workspace_resources r ON r.id = g.resource_id JOIN workspace_builds b ON b.job_id = r.job_id
	WHERE b.workspace_id = w(label);
	UPDATE workspace_agents g SET name = 'main' WHERE g.id = a(label);
END
$$;
DO $$ BEGIN
	PERFORM simple('go', 0);
	PERFORM workspace('one', usr('ada'), 'CRON_TZ=UTC 0 9 * * 1-5');
	PERFORM workspace('two', usr('ada'));
	PERFORM workspace('three', usr('grace'));
	PERFORM workspace('spare', prebuild_system_user());
END $$;
VACUUM ANALYZE;

-- in words, by the function and by the tables
CREATE FUNCTION fixture.says(label text) RETURNS text LANGUAGE sql AS
$$
	SELECT format('%s/%s of %s by %s at %s', i.workspace_name, i.agent_name, i.owner_username,
		i.template_name, coalesce(i.autostart_schedule, 'no time'))
	FROM prebuild_agent_identity(a(label)) i
$$;
CREATE TYPE fixture.counts AS (hits bigint, misses bigint, invalidations bigint);
CREATE FUNCTION fixture.counts() RETURNS fixture.counts LANGUAGE sql AS
$$ SELECT hits, misses, invalidations FROM prebuild_identity_stats $$;
-- how the next look-up of an agent is answered
CREATE FUNCTION fixture.answered(label text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	before fixture.counts := counts();
	after fixture.counts;
BEGIN
	PERFORM prebuild_agent_identity(a(label));
	after := counts();
	RETURN CASE (after.hits - before.hits, after.misses - before.misses)::text
		WHEN '(1,0)' THEN 'cache' WHEN '(0,1)' THEN 'tables' ELSE 'what?' END;
END
$$;

-- the row

SELECT is(says('one'), 'one/main of ada by go at CRON_TZ=UTC 0 9 * * 1-5', 'an identity');
SELECT is(answered('one'), 'cache', 'then it is known');
SELECT is(says('one'), 'one/main of ada by go at CRON_TZ=UTC 0 9 * * 1-5', 'the same');
SELECT is((SELECT row(i.agent_id, i.workspace_id, i.owner_id, i.organization_id, i.template_id)::text
	FROM prebuild_agent_identity(a('one')) i),
	row(a('one'), w('one'), usr('ada'), organization('org'), t('go'))::text, 'and the ids');
SELECT is((SELECT pg_typeof(i)::text FROM prebuild_agent_identity(a('one')) i),
	'prebuild_agent_identity_row', 'of a named type');
SELECT is((SELECT string_agg(coalesce(i.autostart_schedule, 'none'), ', ') FROM
	(SELECT (prebuild_agent_identity(x)).* FROM unnest(ARRAY[a('one'), a('two'), a('one')]) x) i),
	'CRON_TZ=UTC 0 9 * * 1-5, none, CRON_TZ=UTC 0 9 * * 1-5', 'several in one statement');
SELECT is((SELECT count(*) FROM (SELECT prebuild_agent_identity(x) FROM unnest(ARRAY[a('one'),
	gen_random_uuid(), a('two')]) x) y), 2, 'none for one that is not there');

-- none

SELECT is((SELECT count(*) FROM prebuild_agent_identity(gen_random_uuid())), 0, 'an unknown agent');
SELECT is((SELECT count(*) FROM prebuild_agent_identity(NULL)), 0, 'no agent');
BEGIN;
UPDATE workspace_agents SET deleted = true WHERE id = a('one');
SELECT is(says('one'), NULL, 'a deleted agent');
ROLLBACK;
SELECT is(says('one') IS NULL, false, 'is there after all');
BEGIN;
UPDATE workspaces SET deleted = true WHERE id = w('one');
SELECT is(says('one'), NULL, 'an agent of a deleted workspace');
ROLLBACK;
INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
SELECT gen_random_uuid(), t0(), job_id, 'start', 'machine', 'main' FROM template_versions LIMIT 1;
INSERT INTO fixture.known SELECT 'import', gen_random_uuid();
INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token, architecture,
	operating_system)
SELECT a('import'), t0(), t0(), 'main', r.id, gen_random_uuid(), 'amd64', 'linux'
FROM workspace_resources r JOIN template_versions x ON x.job_id = r.job_id;
SELECT is(says('import'), NULL, 'an agent without a workspace: of an import');
-- all others
INSERT INTO fixture.known SELECT 'child', agent('two', 'ready', false, a('two'));
SELECT ok(says('child') LIKE 'two/agent%', 'an agent''s child has the same workspace');
DO $$ BEGIN PERFORM build('two', 'stop'); END $$;
SELECT is(says('two'), 'two/main of ada by go at no time', 'an agent of an earlier build, too');

-- a prebuild is never kept; after its claim it is right at once, and kept

SELECT is(says('spare'), 'spare/main of prebuilds by go at no time', 'a prebuild');
SELECT is(answered('spare'), 'tables', 'is not kept');
UPDATE workspaces SET owner_id = usr('grace'), name = 'mine' WHERE name = 'spare';
SELECT is(says('spare'), 'mine/main of grace by go at no time', 'right after a claim');
SELECT is(answered('spare'), 'cache', 'and kept');

-- without triggers: the time to live is the bound, also for one's own changes

SELECT is(says('three'), 'three/main of grace by go at no time', 'before a rename');
BEGIN;
UPDATE workspaces SET name = 'drei' WHERE name = 'three';
SELECT is(says('three'), 'drei/main of grace by go at no time', 'a transaction sees what it did');
SAVEPOINT s;
UPDATE users SET username = 'hopper' WHERE username = 'grace';
SELECT is(says('three'), 'drei/main of hopper by go at no time', 'all of it');
ROLLBACK TO s;
SELECT is(says('three'), 'drei/main of grace by go at no time', 'but not what it undid');
ROLLBACK;
SELECT is(says('three'), 'three/main of grace by go at no time', 'what is rolled back shows nothing');
UPDATE workspaces SET name = 'drei' WHERE name = 'three';
SELECT is(says('three'), 'three/main of grace by go at no time', 'unnoticed within the time to live');
SET prebuild.identity_cache_ttl = '50ms';
SELECT pg_sleep(0.1);
SELECT is(says('three'), 'drei/main of grace by go at no time', 'seen after it');
SET prebuild.identity_cache_ttl = 0;
SELECT is(answered('three'), 'tables', 'no time to live: no cache');
SELECT is(answered('three'), 'tables', 'ever');
RESET prebuild.identity_cache_ttl;
SET prebuild.identity_cache_size = 0;
SELECT is(answered('one'), 'tables', 'no size: no cache');
SELECT is(answered('one'), 'tables', 'either');
SET prebuild.identity_cache_size = 2;
DO $$ BEGIN PERFORM says('one'), says('two'), says('one'), says('three'); END $$;
SELECT is(answered('one'), 'cache', 'what was used last stays');
SELECT is(answered('three'), 'cache', 'with what came last');
SELECT is(answered('two'), 'tables', 'the other one went');
SET prebuild.identity_cache_size = 1;
SELECT is(answered('spare'), 'tables', 'smaller now');
SELECT is(answered('spare'), 'cache', 'one is kept');
SELECT is(answered('three'), 'tables', 'no more');
RESET prebuild.identity_cache_size;
UPDATE workspaces SET name = 'three' WHERE name = 'drei';

-- with triggers: at once

SELECT prebuild_attach();
CREATE FUNCTION fixture.fill() RETURNS text LANGUAGE sql AS
$$ SELECT concat_ws('; ', says('one'), says('two'), says('three'), says('spare')) $$;
SELECT is(fill(), 'one/main of ada by go at CRON_TZ=UTC 0 9 * * 1-5; two/main of ada by go at no time; '
	'three/main of grace by go at no time; mine/main of grace by go at no time', 'all known');
SELECT is(answered('one') || answered('two') || answered('three'), 'cachecachecache', 'and kept');
UPDATE workspaces SET name = 'uno' WHERE name = 'one';
SELECT is(says('one'), 'uno/main of ada by go at CRON_TZ=UTC 0 9 * * 1-5', 'a renamed workspace');
UPDATE workspaces SET autostart_schedule = NULL WHERE name = 'uno';
SELECT is(says('one'), 'uno/main of ada by go at no time', 'another schedule');
UPDATE workspaces SET owner_id = usr('grace') WHERE name = 'uno';
SELECT is(says('one'), 'uno/main of grace by go at no time', 'another owner');
UPDATE users SET username = 'hopper' WHERE username = 'grace';
SELECT is(says('one'), 'uno/main of hopper by go at no time', 'a renamed owner');
SELECT is(says('three'), 'three/main of hopper by go at no time', 'of every workspace');
UPDATE templates SET name = 'gone' WHERE name = 'go';
SELECT is(fill(), 'uno/main of hopper by gone at no time; two/main of ada by gone at no time; '
	'three/main of hopper by gone at no time; mine/main of hopper by gone at no time', 'a renamed template');
UPDATE workspace_agents SET name = 'dev' WHERE id = a('one');
SELECT is(says('one'), 'uno/dev of hopper by gone at no time', 'a renamed agent');
UPDATE workspace_agents SET deleted = true WHERE id = a('one');
SELECT is(says('one'), NULL, 'a deleted agent');
UPDATE workspace_agents SET deleted = false WHERE id = a('one');
SELECT is(says('one'), 'uno/dev of hopper by gone at no time', 'and back');
DELETE FROM workspace_agents WHERE id = a('child');
SELECT is(says('child'), NULL, 'one that is deleted for good');
SELECT ok(says('three') IS NOT NULL, 'a workspace');
UPDATE workspaces SET deleted = true WHERE name = 'three';
SELECT is(says('three'), NULL, 'is deleted');
UPDATE workspaces SET deleted = false WHERE name = 'three';
SELECT ok(says('three') IS NOT NULL, 'and back');
BEGIN;
UPDATE workspace_builds SET workspace_id = w('two'), build_number = 7 WHERE workspace_id = w('three');
SELECT is(says('three'), 'two/main of ada by gone at no time', 'a build of another workspace');
ROLLBACK;
DELETE FROM workspace_builds WHERE workspace_id = w('three');
SELECT is(says('three'), NULL, 'a build that is gone');
SELECT is(fill(), 'uno/dev of hopper by gone at no time; two/main of ada by gone at no time; '
	'mine/main of hopper by gone at no time', 'all others');

-- what does not matter invalidates nothing
UPDATE workspaces SET last_used_at = now(), updated_at = now(), ttl = 5;
UPDATE workspaces SET name = name, owner_id = owner_id;
UPDATE users SET last_seen_at = now(), email = username || '@example.net';
UPDATE templates SET description = 'new', active_version_id = active_version_id;
UPDATE workspace_agents SET last_connected_at = now(), lifecycle_state = 'ready';
UPDATE workspace_builds SET deadline = now();
SELECT is(answered('one') || answered('two') || answered('spare'), 'cachecachecache', 'what does not matter');

-- a transaction that changed one
BEGIN;
SELECT is(answered('two'), 'cache', 'a transaction that has done nothing yet');
UPDATE workspaces SET last_used_at = now() WHERE name = 'two';
SELECT is(answered('two'), 'cache', 'nor anything that matters');
SAVEPOINT s;
UPDATE workspaces SET name = 'deux' WHERE name = 'two';
SELECT is(says('two'), 'deux/main of ada by gone at no time', 'sees what it changed');
ROLLBACK TO s;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'and what it undid');
SELECT is(answered('one'), 'tables', 'and asks the tables');
ROLLBACK;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'rolled back');
SELECT is(answered('one'), 'cache', 'what was kept is still right');
BEGIN;
INSERT INTO users SELECT (jsonb_populate_record(u, jsonb_build_object('id', gen_random_uuid(), 'username', 'eve',
	'email', 'eve@example.net'))).* FROM users u WHERE username = 'ada';
UPDATE fixture.known SET agent = gen_random_uuid() WHERE label = 'import';
INSERT INTO workspace_agents SELECT (jsonb_populate_record(g, jsonb_build_object('id', a('import'), 'name', 'new')))
	.* FROM workspace_agents g WHERE id = a('one');
SELECT is(says('import'), 'uno/new of hopper by gone at no time', 'an agent just made');
SELECT a('import') AS never \gset
ROLLBACK;
SELECT is((SELECT count(*) FROM prebuild_agent_identity(:'never')), 0, 'never was');

-- in a snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(answered('two'), 'tables', 'REPEATABLE READ asks the tables');
SELECT is(answered('two'), 'tables', 'always');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is(answered('two'), 'tables', 'SERIALIZABLE too');
COMMIT;
BEGIN READ ONLY;
SELECT is(answered('two'), 'cache', 'a read-only transaction needs not');
COMMIT;

-- a trigger that is off, or is taken off: the time to live again
ALTER TABLE workspaces DISABLE TRIGGER prebuild_identity;
SELECT is(answered('two'), 'tables', 'with a trigger off, what was known is asked again');
SELECT is(answered('two'), 'cache', 'once');
BEGIN;
UPDATE workspaces SET name = 'zwei' WHERE name = 'two';
SELECT is(says('two'), 'zwei/main of ada by gone at no time', 'a transaction still sees what it did');
ROLLBACK;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'and not what it did not');
SELECT prebuild_attach();
SELECT is(fill(), 'uno/dev of hopper by gone at no time; two/main of ada by gone at no time; '
	'mine/main of hopper by gone at no time', 'put back');

-- tables that change
SELECT is(answered('two'), 'cache', 'known');
VACUUM ANALYZE workspaces, users, templates, workspace_agents;
SELECT is(answered('two'), 'cache', 'a vacuum changes nothing');
ALTER TABLE workspaces RENAME COLUMN autostart_schedule TO x;
SELECT raises('SELECT says(''two'')', '42703', 'column "autostart_schedule" of control plane table "cp_identity.workspaces"',
	'does not support this version of the control plane', 'a column that is gone');
ALTER TABLE workspaces RENAME COLUMN x TO autostart_schedule;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'is back');
ALTER TABLE templates RENAME TO x;
SELECT raises('SELECT says(''two'')', '42P01', 'control plane table "cp_identity.templates"', 'prebuild.control_plane_schema',
	'a table that is gone');
CREATE VIEW templates AS SELECT id, 'seen as ' || name AS name FROM x;
SELECT is(says('two'), 'two/main of ada by seen as gone at no time', 'a view instead');
SELECT is(answered('two'), 'tables', 'is asked');
DROP VIEW templates;
ALTER TABLE x RENAME TO templates;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'the table again');
-- triggers keep the columns that they are for from being changed
BEGIN;
DO $$ BEGIN PERFORM prebuild_detach(); END $$;
SELECT drop_views() \g /dev/null
ALTER TABLE templates ALTER name TYPE text USING 'other ' || name;
SELECT is(says('two'), 'two/main of ada by other gone at no time', 'rewritten');
ROLLBACK;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'not rewritten');
BEGIN;
TRUNCATE workspace_builds CASCADE;
SELECT is(says('two'), NULL, 'truncated');
ROLLBACK;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'not truncated');

-- another control plane with the same agents
CREATE SCHEMA cp_other;
CREATE FUNCTION pg_temp.copy_tables() RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{workspace_agents,workspace_resources,workspace_builds,workspaces,users,templates}'::text[] LOOP
		EXECUTE format('CREATE TABLE cp_other.%I AS TABLE cp_identity.%1$I', name);
	END LOOP;
	UPDATE cp_other.users SET username = 'other ' || username;
END
$$;
DO $$ BEGIN PERFORM pg_temp.copy_tables(); END $$;
SELECT is(answered('two'), 'cache', 'known here');
SET prebuild.control_plane_schema = cp_other;
SELECT is(says('two'), 'two/main of other ada by gone at no time', 'another there');
SELECT is(answered('two'), 'cache', 'kept');
SET prebuild.control_plane_schema = cp_identity;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'and here again');
SET prebuild.control_plane_schema = cp_nowhere;
SELECT raises('SELECT says(''two'')', '3F000', 'control plane schema "cp_nowhere"', 'prebuild.control_plane_schema',
	'a schema that is not there');
SET prebuild.control_plane_schema = cp_identity;
ALTER SCHEMA cp_identity RENAME TO cp_first;
ALTER SCHEMA cp_other RENAME TO cp_identity;
SELECT is(says('two'), 'two/main of other ada by gone at no time', 'schemas that swap their names');
ALTER SCHEMA cp_identity RENAME TO cp_other;
ALTER SCHEMA cp_first RENAME TO cp_identity;
SELECT is(says('two'), 'two/main of ada by gone at no time', 'and back');
DROP SCHEMA cp_other CASCADE;

-- a hostile search_path, a table of the same name in pg_temp
CREATE TEMPORARY TABLE workspaces AS SELECT id, 'mine'::text AS name FROM cp_identity.workspaces;
UPDATE cp_identity.workspaces SET name = 'dos' WHERE name = 'two';
SELECT is(says('two'), 'dos/main of ada by gone at no time', 'temporary tables are not asked');
DROP TABLE pg_temp.workspaces;

-- rights: what the query gives

CREATE ROLE prebuild_test_reader;
CREATE ROLE prebuild_test_stranger;
GRANT USAGE ON SCHEMA cp_identity, fixture TO prebuild_test_reader, prebuild_test_stranger;
GRANT SELECT ON ALL TABLES IN SCHEMA fixture TO prebuild_test_reader, prebuild_test_stranger;
GRANT SELECT ON workspace_agents, workspace_resources, workspace_builds, workspaces, users, templates
TO prebuild_test_reader;
GRANT SELECT ON workspace_agents, workspace_resources, workspace_builds, workspaces, templates
TO prebuild_test_stranger;
SELECT prebuild_grant('prebuild_test_stranger');
GRANT SELECT ON prebuild_identity_stats TO prebuild_test_reader, prebuild_test_stranger;
SET ROLE prebuild_test_reader;
SELECT raises('SELECT says(''two'')', '42501', 'permission denied for function', NULL, 'EXECUTE is needed');
RESET ROLE;
SELECT prebuild_grant('prebuild_test_reader');
SET ROLE prebuild_test_reader;
SELECT is(answered('two'), 'cache', 'who may read all of it is answered from the cache');
SET ROLE prebuild_test_stranger;
SELECT raises('SELECT says(''two'')', '42501', 'permission denied for table users', NULL, 'who may not gets what the query gives');
RESET ROLE;
-- columns are enough
GRANT SELECT (id, username) ON users TO prebuild_test_stranger;
SET ROLE prebuild_test_stranger;
SELECT is(answered('two'), 'cache', 'the columns are enough');
RESET ROLE;
REVOKE SELECT (username) ON users FROM prebuild_test_stranger;
SET ROLE prebuild_test_stranger;
SELECT raises('SELECT says(''two'')', '42501', 'permission denied for table users', NULL, 'taken away');
RESET ROLE;
-- by membership
GRANT prebuild_test_reader TO prebuild_test_stranger;
SET ROLE prebuild_test_stranger;
SELECT is(answered('two'), 'cache', 'a member of one who may');
RESET ROLE;
REVOKE prebuild_test_reader FROM prebuild_test_stranger;
SET ROLE prebuild_test_stranger;
SELECT raises('SELECT says(''two'')', '42501', 'permission denied for table users', NULL, 'no longer');
RESET ROLE;
-- through a function of one who may
CREATE FUNCTION fixture.says_for_all(label text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT says(label) $$;
SET ROLE prebuild_test_stranger;
SELECT is(says_for_all('two'), 'dos/main of ada by gone at no time', 'through a function of one who may');
SELECT raises('SELECT says(''two'')', '42501', 'permission denied for table users', NULL, 'and not else');
RESET ROLE;
GRANT SELECT ON users TO prebuild_test_stranger;
-- schema
REVOKE USAGE ON SCHEMA cp_identity FROM prebuild_test_stranger;
SET ROLE prebuild_test_stranger;
SELECT raises('SELECT fixture.says(''two'')', '42501', 'permission denied for schema cp_identity', NULL,
	'without the right to use the schema');
RESET ROLE;
GRANT USAGE ON SCHEMA cp_identity TO prebuild_test_stranger;
-- row-level security
SET ROLE prebuild_test_stranger;
SELECT is(answered('two'), 'cache', 'before row-level security');
RESET ROLE;
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON workspaces FOR SELECT TO PUBLIC USING (name <> 'dos');
SELECT is(says('two'), 'dos/main of ada by gone at no time', 'the superuser sees all');
SELECT is(answered('two'), 'cache', 'and keeps it');
SET ROLE prebuild_test_stranger;
SELECT is(says('two'), NULL, 'row-level security hides what is known');
SELECT is(says('one'), 'uno/dev of hopper by gone at no time', 'and shows the rest');
SELECT is(answered('one'), 'tables', 'by the tables');
SET row_security = off;
SELECT raises('SELECT says(''one'')', '42501', 'row-level security policy', NULL, 'row_security off');
RESET row_security;
RESET ROLE;
ALTER ROLE prebuild_test_stranger BYPASSRLS;
SET ROLE prebuild_test_stranger;
SELECT is(answered('two'), 'cache', 'BYPASSRLS');
RESET ROLE;
ALTER ROLE prebuild_test_stranger NOBYPASSRLS;
SET ROLE prebuild_test_stranger;
SELECT is(says('two'), NULL, 'no longer');
RESET ROLE;
ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY;
SET ROLE prebuild_test_stranger;
SELECT is(says('two'), 'dos/main of ada by gone at no time', 'no row-level security');
RESET ROLE;

-- the extension anew, in the same session: nothing of the old one is used
SELECT is(answered('two'), 'cache', 'known to the old one');
SELECT prebuild_detach();
DROP EXTENSION prebuild_ext;
CREATE EXTENSION prebuild_ext;
UPDATE workspaces SET name = 'ni' WHERE name = 'dos';
SELECT is((SELECT workspace_name FROM prebuild_agent_identity(a('two'))), 'ni', 'asked by the new one');
SELECT raises('SELECT prebuild_identity_changed()', '39P01', 'AFTER trigger for each row', NULL, 'trigger functions are for triggers');

DROP SCHEMA cp_identity CASCADE;
DROP OWNED BY prebuild_test_reader, prebuild_test_stranger;
DROP ROLE prebuild_test_reader, prebuild_test_stranger;
