-- The log of a stored pool that readers do not trust. Folds still empty it, report the reason once, and
-- repair the fault if they have the rights.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_distrust');
	PERFORM simple('a', 3);
	PERFORM prebuild('a', 'one');
	PERFORM prebuild('a', 'two');
	PERFORM prebuild_attach();
	PERFORM prebuild_fold();
	-- the events of other files
	DELETE FROM prebuild_event;
END $$;
CREATE FUNCTION fixture.names() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(name, ' ' ORDER BY name) FROM prebuild_running() $$;
CREATE FUNCTION fixture.logged() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT count(*) FROM prebuild_pool_log WHERE control_plane = 'cp_distrust'::regnamespace $$;
-- Is the stored pool used? It is where prebuild_verify() notices that it was tampered with.
CREATE FUNCTION fixture.used() RETURNS boolean LANGUAGE plpgsql SET client_min_messages = error AS
$$
DECLARE
	noticed bigint;
BEGIN
	INSERT INTO prebuild_pool_state (control_plane, id, name)
	VALUES ('cp_distrust'::regnamespace, '00000000-0000-0000-0000-00000000dead', 'tampered');
	SELECT count(*) INTO noticed FROM prebuild_verify() WHERE (stored).name = 'tampered';
	DELETE FROM prebuild_pool_state s WHERE s.id = '00000000-0000-0000-0000-00000000dead';
	RETURN noticed = 1;
END
$$;
-- some of what the triggers log
CREATE FUNCTION fixture.touch() RETURNS void LANGUAGE sql AS
$$ UPDATE workspaces SET name = CASE name WHEN 'one' THEN 'eins' WHEN 'eins' THEN 'one' ELSE name END $$;
CREATE FUNCTION fixture.stamp() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;

-- an operator's trigger that sets updated_at: the role that folds does not own the tables
CREATE ROLE distrust_folder;
SELECT prebuild_grant('distrust_folder') \g /dev/null
GRANT USAGE ON SCHEMA cp_distrust, fixture TO distrust_folder;
GRANT SELECT ON ALL TABLES IN SCHEMA cp_distrust TO distrust_folder;
CREATE TRIGGER stamp BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION stamp();
DO $$ BEGIN PERFORM prebuild_fold(); END $$;
SELECT ok(used(), 'the owner''s fold puts the triggers on every update, and builds the pool');
DROP TRIGGER stamp ON workspaces;
DO $$ BEGIN PERFORM prebuild_attach(); PERFORM prebuild_fold(); END $$;
CREATE TRIGGER stamp BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT touch() \g /dev/null
SELECT ok(logged() > 0, 'otherwise the triggers go on logging');
SET ROLE distrust_folder;
\echo the first fold of somebody else says what is wrong
SELECT is(prebuild_fold(), 0, 'nothing is folded');
RESET ROLE;
SELECT is(logged(), 0, 'the log is emptied');
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE control_plane = 'cp_distrust'::regnamespace), 0,
	'and so is the stored pool');
SELECT touch() \g /dev/null
SET ROLE distrust_folder;
\echo the second says nothing
SELECT is(prebuild_fold(), 0, 'nothing is folded again');
RESET ROLE;
SELECT is(logged(), 0, 'and the log is emptied again');
SELECT is(names(), 'one two', 'the answers are right');
\echo prebuild_verify() says it whenever it is asked
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'no difference');
SELECT is((SELECT string_agg(kind || ' ' || detail, '; ' ORDER BY id) FROM prebuild_event WHERE kind LIKE 'pool%'),
	'pool_unused {"reason": "trigger \"stamp\" of table \"workspaces\" may change columns that a statement does not name, which trigger \"prebuild_pool_log\" does not see"}',
	'one event');
-- a pass of the owner puts it right, and the next one builds the pool
DO $$ BEGIN
	PERFORM prebuild_pause();
	PERFORM prebuild_reconcile(t0());
END $$;
SELECT ok(NOT used(), 'a pass of the owner mends the triggers at its end');
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); END $$;
SELECT ok(used(), 'and the next one builds the pool');
SELECT is((SELECT string_agg(kind, '; ' ORDER BY id) FROM prebuild_event WHERE kind LIKE 'pool%'),
	'pool_unused; pool_used', 'another event');

-- on every update the trigger sees what a statement does not name, and logs no more than before
CREATE FUNCTION fixture.rewrite() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.name := NEW.name || '!'; RETURN NEW; END $$;
SELECT prebuild_fold() \g /dev/null
UPDATE workspaces SET last_used_at = now(), updated_at = now(), name = name;
SELECT is(logged(), 0, 'what the pool does not depend on is not logged');
CREATE TRIGGER rewrite BEFORE UPDATE OF ttl ON workspaces FOR EACH ROW EXECUTE FUNCTION rewrite();
SELECT ok(used(), 'another trigger makes no difference any more');
UPDATE workspaces SET ttl = 1 WHERE name = 'two';
SELECT is(names(), 'one two!', 'what it does behind a statement''s back is seen');
SELECT ok(used() AND logged() = 1, 'in the log');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'which is what the tables say');
UPDATE workspaces SET name = 'two' WHERE name = 'two!';
DROP TRIGGER rewrite ON workspaces;
-- all five tables
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{workspace_builds,provisioner_jobs,workspace_resources,workspace_agents}'::text[] LOOP
		EXECUTE format('CREATE TRIGGER stamp BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION fixture.stamp()', name);
	END LOOP;
	ALTER TABLE workspace_resources ADD COLUMN updated_at timestamptz;
	PERFORM prebuild_fold();
END $$;
SELECT ok(used(), 'a fold mends all');
SELECT is((SELECT string_agg(tgrelid::regclass::text, ' ' ORDER BY tgrelid::regclass::text COLLATE "C") FROM pg_trigger
	WHERE tgname = 'prebuild_pool_log' AND tgattr::text = '' AND tgrelid = ANY ('{workspaces,workspace_builds,
		provisioner_jobs,workspace_resources,workspace_agents}'::regclass[])),
	'provisioner_jobs workspace_agents workspace_builds workspace_resources workspaces', 'the triggers are on every update');
DO $$ BEGIN
	UPDATE provisioner_jobs SET worker_id = gen_random_uuid() WHERE type = 'workspace_build';
	UPDATE workspace_builds SET build_number = build_number + 1;
	UPDATE workspace_agents SET lifecycle_state = 'starting';
	UPDATE workspace_resources SET job_id = job_id, name = 'other';
END $$;
SELECT is((SELECT string_agg(kind::text || n, ' ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM prebuild_pool_log
	WHERE control_plane = 'cp_distrust'::regnamespace GROUP BY kind) k), 'j2 r2 w2', 'and log what has changed');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'all of it');
-- a column that is missing for a while
SELECT prebuild_fold() \g /dev/null
ALTER TABLE workspace_builds RENAME COLUMN workspace_id TO hidden;
UPDATE workspace_builds SET build_number = build_number + 1;
ALTER TABLE workspace_builds RENAME COLUMN hidden TO workspace_id;
SELECT ok(NOT used(), 'is as if the table were truncated');
DO $$ BEGIN PERFORM prebuild_fold(); END $$;
SELECT ok(used(), 'until the next fold');
-- without the operator's triggers
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{workspaces,workspace_builds,provisioner_jobs,workspace_resources,workspace_agents}'::text[] LOOP
		EXECUTE format('DROP TRIGGER stamp ON %I', name);
	END LOOP;
	PERFORM prebuild_attach();
END $$;
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgname = 'prebuild_pool_log' AND tgattr::text = ''
	AND tgrelid = ANY ('{workspaces,workspace_builds,provisioner_jobs,workspace_resources,workspace_agents}'::regclass[])),
	0, 'attached again, they are on columns');
SELECT ok(used(), 'and the pool is used');

-- DISABLE and ENABLE TRIGGER USER, which leave triggers that do not fire in all sessions
CREATE FUNCTION fixture.enabled() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger
	WHERE tgname ~ '^prebuild_(pool|identity)' AND tgrelid = 'workspaces'::regclass $$;
ALTER TABLE workspaces DISABLE TRIGGER USER;
UPDATE workspaces SET name = 'drei' WHERE name = 'two';
ALTER TABLE workspaces ENABLE TRIGGER USER;
SELECT is(enabled(), 'O', 'after a load with triggers off');
SELECT touch() \g /dev/null
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); END $$;
SELECT is(enabled(), 'A', 'a pass of the owner mends the triggers');
SELECT is(logged(), 0, 'and empties the log');
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); END $$;
SELECT ok(used() AND names() LIKE 'drei %', 'the next one builds the pool, with what was loaded');
ALTER TABLE workspaces DISABLE TRIGGER ALL;
UPDATE workspaces SET name = 'two' WHERE name = 'drei';
ALTER TABLE workspaces ENABLE TRIGGER ALL;
DO $$ BEGIN PERFORM prebuild_fold(); END $$;
SELECT ok(used() AND names() LIKE '% two', 'a fold does both at once');
-- not in a transaction block, which would hold the locks
BEGIN;
ALTER TABLE workspaces ENABLE TRIGGER USER;
\echo a fold in a transaction block
SELECT prebuild_fold() \g /dev/null
SELECT is(enabled(), 'O', 'leaves it at the warning');
ROLLBACK;
-- a fold does not enable a trigger that somebody has disabled
ALTER TABLE workspaces DISABLE TRIGGER prebuild_pool_log;
SELECT is(prebuild_fold(), 0, 'a trigger that is switched off stays so');
SELECT touch() \g /dev/null
UPDATE workspace_agents SET lifecycle_state = 'ready';
SELECT is(prebuild_fold(), 0, 'nothing is folded');
SELECT is(logged(), 0, 'but the log of the other tables is emptied');
SELECT raises('SELECT prebuild_rebuild()', '55000', 'trigger "prebuild_pool_log" of table "workspaces" is disabled',
	'prebuild_attach', 'a rebuild says why not');
DO $$ BEGIN PERFORM prebuild_attach(); END $$;
SELECT ok(used(), 'attached again, all is well');

-- every other reason, as prebuild_verify() has it
CREATE FUNCTION fixture.reason(statements text) RETURNS text LANGUAGE plpgsql SET client_min_messages = error AS
$$
DECLARE
	said text;
BEGIN
	DELETE FROM prebuild_event WHERE kind LIKE 'pool%';
	EXECUTE statements;
	PERFORM touch();
	PERFORM prebuild_fold();
	SELECT detail->>'reason' || CASE WHEN logged() > 0 THEN ' and the log grows' ELSE '' END INTO said
	FROM prebuild_event WHERE kind = 'pool_unused';
	RAISE EXCEPTION USING MESSAGE = coalesce(said, 'nothing is said'), ERRCODE = 'UNDOX';
EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	RETURN SQLERRM;
END
$$;
SELECT reason(x) FROM (VALUES
	('ALTER TABLE prebuild_pool_state SET UNLOGGED'),
	('CREATE TABLE child () INHERITS (workspace_resources)'),
	('DROP TRIGGER prebuild_pool_log ON workspace_agents'),
	('DROP TRIGGER prebuild_pool_truncated ON workspace_agents'),
	('ALTER TABLE workspace_agents DISABLE TRIGGER prebuild_pool_truncated'),
	('ALTER TABLE workspace_agents ENABLE REPLICA TRIGGER prebuild_pool_log'),
	('ALTER TABLE workspaces DISABLE TRIGGER USER'),
	('SELECT 1')) v (x);
\echo in a transaction that cannot use it
SET client_min_messages = notice;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'SERIALIZABLE');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE workspaces SET name = name;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'REPEATABLE READ');
ROLLBACK;
REVOKE SELECT ON workspace_agents FROM distrust_folder;
ALTER TABLE workspace_resources ENABLE ROW LEVEL SECURITY;
\echo by a role that sees less
SET ROLE distrust_folder;
SELECT is(prebuild_fold(), 0, 'does not fold');
RESET ROLE;
ALTER TABLE workspace_resources DISABLE ROW LEVEL SECURITY;
\echo before it is built
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'after an ALTER TABLE');
SET client_min_messages = warning;
DO $$ BEGIN PERFORM prebuild_fold(); END $$;

-- a fold takes a limited number of entries, however long the log is; statistics that an autovacuum makes beside
-- a statement that lengthens it would not have its entries
ALTER TABLE prebuild_pool_log SET (autovacuum_enabled = off);
CREATE FUNCTION fixture.lengthen(control_plane oid, n int) RETURNS void LANGUAGE sql AS
$$ INSERT INTO prebuild_pool_log SELECT pg_current_xact_id(), $1, 'w', '00000000-0000-0000-0000-000000000000'
	FROM generate_series(1, $2) $$;
DO $$ BEGIN PERFORM prebuild_resume(); PERFORM pass(); PERFORM prebuild_fold(); END $$;
SELECT lengthen('cp_distrust'::regnamespace, 210000) \g /dev/null
SELECT ok(NOT used(), 'a log that has become very long is not worth it');
SELECT is(prebuild_fold(), 100000, 'a fold empties it bit by bit');
SELECT ok(logged() = 110000 AND NOT used() AND names() ~ '^(one|eins) two$', 'while the answers are right');
SELECT is((SELECT count(*) FROM prebuild_pool_marker), 0, 'without building a pool that nobody would use');
SELECT is(pass(), '', 'a pass does the same, and decides by the tables');
DO $$ BEGIN PERFORM prebuild_pause(); END $$;
SELECT ok(logged() = 10000 AND NOT used(), 'and nothing is believed');
SELECT prebuild_fold() \g /dev/null
SELECT ok(logged() = 0 AND used(), 'until it is empty and the pool is built');
-- folds also bound the log of another control plane that nobody folds
SELECT lengthen('fixture'::regnamespace, 330000) \g /dev/null
SELECT prebuild_fold() \g /dev/null
SELECT is((SELECT count(*) FROM prebuild_pool_log WHERE control_plane = 'fixture'::regnamespace), 230000,
	'the log of another control plane is bounded, too');
SELECT ok(used(), 'without harm to one''s own');
-- and the log of their own control plane if the role may not read its tables
SELECT lengthen('cp_distrust'::regnamespace, 330000) \g /dev/null
SET ROLE distrust_folder;
SELECT prebuild_fold() \g /dev/null
RESET ROLE;
SELECT is(logged(), 230000, 'and one''s own where the role that folds may not');
TRUNCATE prebuild_pool_log;
DO $$ BEGIN PERFORM prebuild_attach(); PERFORM prebuild_fold(); END $$;
-- the table keeps its size, but folds do not scan all of it every time
SELECT lengthen('fixture'::regnamespace, 330000) \g /dev/null
DELETE FROM prebuild_pool_log;
VACUUM prebuild_pool_log;
BEGIN;
-- it may have counts of the statements before that are yet to be sent
SELECT COALESCE(sum(seq_scan), 0) AS before FROM pg_stat_xact_user_tables WHERE relid = 'prebuild_pool_log'::regclass \gset
SELECT prebuild_fold() \g /dev/null
SELECT is((SELECT seq_scan - :before FROM pg_stat_xact_user_tables WHERE relid = 'prebuild_pool_log'::regclass), 0::numeric,
	'a long log that has become empty is not read by every fold');
COMMIT;
-- detached, what is left goes as well
SELECT lengthen('cp_distrust'::regnamespace, 110000) \g /dev/null
DO $$ BEGIN PERFORM prebuild_detach(); END $$;
SELECT is(logged(), 10000, 'detach takes what it can at once');
DO $$ BEGIN PERFORM prebuild_fold(); END $$;
SELECT is(logged(), 0, 'and the next fold the rest');
ALTER TABLE prebuild_pool_log RESET (autovacuum_enabled);
\echo detached
SET client_min_messages = notice;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'no stored pool');
SET client_min_messages = warning;

DROP OWNED BY distrust_folder;
DROP ROLE distrust_folder;
DROP SCHEMA cp_distrust CASCADE;
DELETE FROM prebuild_event;
