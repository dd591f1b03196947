-- The stored pool of an attached control plane: readers use it if they can trust it and may see it, and
-- read the tables otherwise.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_kept');
	PERFORM prebuild_detach();
	PERFORM simple('a', 3);
	PERFORM prebuild('a', 'one');
	PERFORM prebuild('a', 'two');
	PERFORM prebuild('a', 'users-own', owner => usr('ann'));
END $$;
-- what prebuild_running() says, by name
CREATE FUNCTION fixture.running() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(name || CASE WHEN ready THEN '' ELSE ' (not ready)' END, ', ' ORDER BY name)
	FROM prebuild_running() $$;
-- Is the stored pool used? It is where prebuild_verify() notices that it was tampered with.
CREATE FUNCTION fixture.used() RETURNS boolean LANGUAGE plpgsql AS
$$
DECLARE
	noticed bigint;
BEGIN
	INSERT INTO prebuild_pool_state (control_plane, id, name)
	VALUES (current_setting('prebuild.control_plane_schema')::regnamespace,
		'00000000-0000-0000-0000-00000000dead', 'tampered');
	SELECT count(*) INTO noticed FROM prebuild_verify()
	WHERE id = '00000000-0000-0000-0000-00000000dead' AND (stored).name = 'tampered' AND defined IS NULL;
	DELETE FROM prebuild_pool_state s WHERE s.id = '00000000-0000-0000-0000-00000000dead';
	RETURN noticed = 1;
END
$$;
SELECT is((SELECT count(*) FROM prebuild_pool_marker), 0, 'nothing is kept of a detached control plane');
SELECT ok(NOT used(), 'nor used');
SELECT raises('SELECT prebuild_rebuild()', '55000', 'schema "cp_kept" is not attached', 'prebuild_attach',
	'nor rebuilt');
SELECT is(prebuild_fold(), 0, 'and a fold has nothing to do');
SET prebuild.control_plane_schema = 'cp_nowhere';
SELECT is(prebuild_fold(), 0, 'nor has it without a control plane');
SET prebuild.control_plane_schema = 'cp_kept';

DO $$ BEGIN PERFORM prebuild_attach(); END $$;
SELECT is((SELECT string_agg(name, ', ' ORDER BY name) FROM prebuild_pool_state), 'one, two',
	'once attached the pool is stored');
SELECT ok(used(), 'and used');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'it is what the tables say');
UPDATE prebuild_pool_state SET name = 'tampered' WHERE name = 'one';
SELECT is(running(), 'tampered, two', 'prebuild_running() takes it');
SELECT is((SELECT (stored).name || ' ' || (defined).name FROM prebuild_verify()), 'tampered one',
	'a difference is shown');
UPDATE prebuild_pool_state SET template_version_id = NULL, ready = NULL WHERE name = 'tampered';
SELECT is(prebuild_rebuild(), 2, 'a rebuild counts the members');
SELECT is(running(), 'one, two', 'and puts them right');

-- what changes, shows at once and is logged until the next fold
DO $$ BEGIN
	PERFORM prebuild('a', 'three', status => 'pending');
	UPDATE workspaces SET owner_id = usr('ann') WHERE name = 'one';
	PERFORM agent('two', 'starting');
END $$;
SELECT is(running(), 'two (not ready)', 'a claim, a new prebuild and a new agent show at once');
SELECT is((SELECT string_agg(name, ', ' ORDER BY name) FROM prebuild_pool_state), 'one, two',
	'while the stored rows are those of before');
SELECT ok(used(), 'and are used');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'with what was touched in their place');
SELECT ok(prebuild_fold() > 0, 'a fold takes the log');
SELECT is((SELECT string_agg(name, ', ' ORDER BY name) FROM prebuild_pool_state), 'three, two',
	'into the stored rows');
SELECT is((SELECT count(*) FROM prebuild_pool_log), 0, 'and empties it');
SELECT is(prebuild_fold(), 0, 'after which there is nothing to do');
UPDATE workspaces SET last_used_at = now(), updated_at = now();
UPDATE provisioner_jobs SET updated_at = now();
UPDATE workspace_agents SET updated_at = now();
UPDATE workspaces SET name = 'mine' WHERE name = 'users-own';
UPDATE workspace_agents SET lifecycle_state = lifecycle_state;
SELECT is((SELECT count(*) FROM prebuild_pool_log), 0, 'what the pool does not depend on is not logged');

-- what this extension never leaves behind is a member, too
DO $$ BEGIN
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
	SELECT gen_random_uuid(), now(), now(), owner_id, organization_id, template_id, 'bare' FROM workspaces WHERE name = 'two';
END $$;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'one without a build is found by its log entry');
DO $$ BEGIN PERFORM prebuild_fold(); END $$;
SELECT is((SELECT string_agg(name, ', ' ORDER BY name) FROM prebuild_pool_state), 'bare, three, two', 'and stored');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'as the tables have it');
DO $$ BEGIN
	DELETE FROM workspaces WHERE name = 'bare';
	PERFORM prebuild_fold();
END $$;

-- a pass folds, also when it is paused
DO $$ BEGIN
	PERFORM finish_jobs(t0());
	PERFORM prebuild_pause();
	PERFORM prebuild_reconcile(t0());
	PERFORM prebuild_resume();
END $$;
SELECT is((SELECT count(*) FROM prebuild_pool_log), 0, 'a paused pass folds');
SELECT is(running(), 'three, two (not ready)', 'what was finished meanwhile');
SELECT is(pass(t0()), 'created 1', 'a pass decides by the stored pool');
SELECT ok((SELECT count(*) FROM prebuild_pool_log) > 0, 'and logs what it writes');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'which is right at once');

-- within a transaction, a subtransaction, a statement, a trigger
BEGIN;
UPDATE workspaces SET deleted = true WHERE name = 'two';
SAVEPOINT s;
UPDATE workspaces SET name = 'drei' WHERE name = 'three';
SELECT is(running(), 'drei', 'a transaction sees its own changes');
SELECT ok(used(), 'in the stored pool');
ROLLBACK TO s;
SELECT is(running(), 'three', 'without those that were rolled back');
ROLLBACK;
SELECT is(running(), 'three, two (not ready)', 'and none after a rollback');
CREATE FUNCTION fixture.during(wanted text) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN wanted || ': ' || running(); END $$;
BEGIN;
WITH changed AS (
	UPDATE workspaces SET name = 'x-' || name
	WHERE name IN ('two', 'three') RETURNING during('seen') AS seen
) SELECT is(max(seen), 'seen: x-three, x-two (not ready)', 'a statement that changes them sees what it has done') FROM changed;
ROLLBACK;
CREATE TABLE fixture.seen (names text);
CREATE FUNCTION fixture.look_around() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO fixture.seen VALUES (running()); RETURN NULL; END $$;
CREATE TRIGGER a_first AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION look_around();
UPDATE workspaces SET name = 'y-' || name WHERE name IN ('two', 'three');
SELECT is((SELECT string_agg(DISTINCT names, '; ') FROM fixture.seen), 'y-three, y-two (not ready)',
	'so does a trigger that comes before the log''s');
DROP TRIGGER a_first ON workspaces;
CREATE TRIGGER a_first AFTER DELETE ON workspaces FOR EACH ROW EXECUTE FUNCTION look_around();
TRUNCATE fixture.seen;
DELETE FROM workspaces WHERE name = 'y-two';
SELECT is((SELECT string_agg(DISTINCT names, '; ') FROM fixture.seen), 'y-three',
	'and one between a delete and what cascades from it');
DROP TRIGGER a_first ON workspaces;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'all of it is in the log');
-- a fold between changes of its own transaction, which is not the newest any more
BEGIN;
UPDATE workspaces SET name = name || '-z' WHERE owner_id = prebuild_system_user();
SAVEPOINT s;
UPDATE workspaces SET name = name || '-y' WHERE owner_id = prebuild_system_user();
ROLLBACK TO s;
SELECT ok(prebuild_fold() > 0, 'a fold takes what its own transaction has logged');
UPDATE workspaces SET name = left(name, -2) WHERE name LIKE '%-z';
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'and what that logs later is seen');
COMMIT;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'by all');
-- a fold from within a command that has logged already; a STABLE function begins no command
CREATE FUNCTION fixture.fold_within() RETURNS trigger LANGUAGE plpgsql STABLE AS
$$ BEGIN PERFORM prebuild_fold(); RETURN NULL; END $$;
CREATE TRIGGER z_last AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION fold_within();
UPDATE workspaces SET name = name || '-z' WHERE owner_id = prebuild_system_user();
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'a fold takes nothing off the log that it has not seen');
DROP TRIGGER z_last ON workspaces;
UPDATE workspaces SET name = left(name, -2) WHERE name LIKE '%-z';

-- readers take so many entries, and no more
DO $$ BEGIN
	FOR n IN 1 .. 4 LOOP PERFORM prebuild('a', 'more-' || n); END LOOP;
	PERFORM prebuild_fold();
	FOR n IN 1 .. (SELECT 100 + members / 2 FROM prebuild_pool_marker) LOOP
		UPDATE workspaces SET name = 'more-1-' || n WHERE name LIKE 'more-1%';
	END LOOP;
END $$;
SELECT is((SELECT members >= 4 AND (SELECT count(*) FROM prebuild_pool_log) = 100 + members / 2 FROM prebuild_pool_marker), true,
	'a hundred entries and one for every two members');
SELECT ok(used(), 'are worth it');
UPDATE workspaces SET name = 'more-1-last' WHERE name LIKE 'more-1%';
SELECT ok(NOT used(), 'one more is not');
-- a fold takes ten times as many; for more it builds the pool anew, and mends what nobody has logged
CREATE FUNCTION fixture.log_of_one(entries bigint) RETURNS void LANGUAGE sql AS
$$ INSERT INTO prebuild_pool_log SELECT pg_current_xact_id(), 'cp_kept'::regnamespace, 'w', w.id
	FROM workspaces w, generate_series(1, entries) WHERE w.name = 'more-1-last' $$;
DO $$ BEGIN
	PERFORM prebuild_fold();
	UPDATE prebuild_pool_state SET name = 'tampered' WHERE name = 'more-2';
	PERFORM log_of_one(10 * (100 + members / 2)) FROM prebuild_pool_marker;
END $$;
SELECT is((SELECT prebuild_fold() = 10 * (100 + members / 2) FROM prebuild_pool_marker), true,
	'a fold resolves ten times as many');
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE name = 'tampered'), 1, 'and looks at nothing else');
SELECT log_of_one(10 * (100 + members / 2) + 1) FROM prebuild_pool_marker \g /dev/null
SELECT is((SELECT prebuild_fold() = 10 * (100 + members / 2) + 1 FROM prebuild_pool_marker), true, 'of one more');
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE name = 'tampered'), 0, 'it builds the pool anew');
-- what is logged of another control plane is that one's
DO $$ BEGIN
	INSERT INTO prebuild_pool_log SELECT pg_current_xact_id(), 'pg_catalog'::regnamespace, 'w', gen_random_uuid();
	UPDATE workspaces SET name = 'more-1-again' WHERE name LIKE 'more-1%';
END $$;
SELECT is(prebuild_fold(), 1, 'a fold takes its own control plane''s');
SELECT is((SELECT count(*) FROM prebuild_pool_log), 1, 'and leaves another one''s');
DELETE FROM prebuild_pool_log;
DO $$ BEGIN
	DELETE FROM workspaces WHERE name LIKE 'more-%';
	PERFORM prebuild_fold();
END $$;

-- many changes at once: a fold builds the pool anew, and a reader does not wait for it
DO $$ BEGIN
	FOR n IN 1 .. 200 LOOP
		UPDATE workspaces SET name = 'y' || n || left(id::text, 8) WHERE owner_id = prebuild_system_user();
	END LOOP;
END $$;
SELECT ok(NOT used(), 'a long log is not worth it');
SELECT ok(prebuild_fold() > 200, 'a fold takes it');
SELECT ok(used(), 'and then it is');
DO $$ BEGIN
	FOR n IN 1 .. 2000 LOOP
		UPDATE workspaces SET name = 'z' || n || left(id::text, 8) WHERE owner_id = prebuild_system_user();
	END LOOP;
	PERFORM prebuild_fold();
END $$;
SELECT ok(used(), 'a very long log is one, too');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'and nothing is lost');

-- isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT raises('SELECT prebuild_rebuild()', '25001', 'isolation level REPEATABLE READ', 'READ COMMITTED',
	'no rebuild in an old snapshot');
SELECT raises('SELECT prebuild_fold()', '25001', 'isolation level REPEATABLE READ', 'READ COMMITTED',
	'nor a fold');
ROLLBACK;
UPDATE prebuild_pool_state SET name = 'tampered';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(running(), 'tampered', 'but the stored pool serves');
UPDATE workspaces SET last_used_at = now();
SELECT ok(running() <> 'tampered', 'until the transaction writes');
ROLLBACK;
SELECT prebuild_rebuild() \g /dev/null
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT ok(NOT used(), 'SERIALIZABLE reads the tables');
SELECT is((SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock'
	AND relation IN ('prebuild_pool_log'::regclass, 'prebuild_pool_log_xid_idx'::regclass)), 0,
	'so that nobody who writes the log can conflict');
ROLLBACK;
BEGIN READ ONLY;
SELECT raises('SELECT prebuild_fold()', '25006', 'read-only', NULL, 'a read-only transaction does not fold');
ROLLBACK;
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'but may read');

-- The fingerprint detects what makes the stored pool wrong. The next pass rebuilds it.
-- One line each: what is done, and what the stored pool comes to: unused, and used after a pass.
CREATE FUNCTION fixture.distrusted(statements text, label text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	used_after boolean;
	right_after boolean;
BEGIN
	PERFORM prebuild_fold();
	IF NOT used() THEN
		RETURN 'NOT OK - unused before: ' || label;
	END IF;
	EXECUTE statements;
	used_after := used();
	right_after := NOT EXISTS (SELECT FROM prebuild_verify());
	PERFORM prebuild_reconcile(t0());
	RETURN is(format('%s %s %s %s', used_after, right_after, used(), (SELECT count(*) FROM prebuild_verify())),
		'f t t 0', label);
END
$$;
DO $$ BEGIN
	DELETE FROM workspaces;
	DELETE FROM workspace_builds;
	DELETE FROM workspace_resources;
	PERFORM prebuild_pause();
	PERFORM prebuild('a', 'four');
END $$;
SELECT distrusted('ALTER TABLE workspaces DISABLE TRIGGER ALL; UPDATE workspaces SET name = name || ''!'';
	ALTER TABLE workspaces ENABLE TRIGGER ALL; ALTER TABLE workspaces ENABLE ALWAYS TRIGGER prebuild_pool_log;
	ALTER TABLE workspaces ENABLE ALWAYS TRIGGER prebuild_pool_truncated',
	'rows written with triggers off');
SELECT is(running(), 'four!', 'and are seen');
-- builds of Coder before v2.29 refer to apps, which would take them along
ALTER TABLE workspace_builds DROP CONSTRAINT IF EXISTS workspace_builds_ai_task_sidebar_app_id_fkey;
SELECT distrusted('CREATE TABLE kept AS TABLE workspace_agents; TRUNCATE workspace_agents CASCADE;
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		architecture, operating_system, lifecycle_state)
	SELECT id, created_at, updated_at, name, resource_id, auth_token, architecture, operating_system,
		''starting'' FROM kept; DROP TABLE kept', 'a TRUNCATE');
SELECT is(running(), 'four! (not ready)', 'and what came after it');
SELECT distrusted('ALTER TABLE workspaces ADD COLUMN extra double precision DEFAULT random()', 'a table that is written anew');
SELECT distrusted('TRUNCATE prebuild_pool_state', 'a stored pool that is emptied');
SELECT distrusted('TRUNCATE prebuild_pool_log', 'a log that is emptied');
SELECT distrusted('DELETE FROM prebuild_pool_marker', 'a restore, which brings no marker');
SELECT distrusted('UPDATE prebuild_pool_marker SET fingerprint = ''1'' || fingerprint', 'another database cluster');
SELECT distrusted('DROP TRIGGER prebuild_pool_log ON workspace_builds; SELECT prebuild_attach();
	UPDATE prebuild_pool_marker SET fingerprint = replace(fingerprint, '':'', '';'')', 'another trigger, another column''s type');
SELECT distrusted('CREATE SCHEMA elsewhere; ALTER TABLE workspaces SET SCHEMA elsewhere;
	UPDATE elsewhere.workspaces SET name = name || ''?''; ALTER TABLE elsewhere.workspaces SET SCHEMA cp_kept;
	DROP SCHEMA elsewhere', 'a table that was elsewhere meanwhile');
SELECT distrusted('ALTER TABLE workspaces DISABLE TRIGGER prebuild_pool_log;
	ALTER TABLE workspaces ENABLE ALWAYS TRIGGER prebuild_pool_log; SELECT prebuild_rebuild();
	ALTER TABLE workspaces DISABLE TRIGGER prebuild_pool_log; UPDATE workspaces SET name = rtrim(name, ''?'');
	ALTER TABLE workspaces ENABLE ALWAYS TRIGGER prebuild_pool_log', 'a trigger that was off since, in one transaction');
SELECT distrusted('CREATE TABLE kept AS TABLE workspace_agents; TRUNCATE workspace_agents CASCADE;
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		architecture, operating_system, lifecycle_state)
	SELECT id, created_at, updated_at, name, resource_id, auth_token, architecture, operating_system,
		''ready'' FROM kept; SELECT prebuild_rebuild(); TRUNCATE workspace_agents CASCADE; DROP TABLE kept',
	'a TRUNCATE of a file of the same transaction');
-- what the next pass cannot mend, or has mended for the one after it; pool_distrust has what is said
CREATE FUNCTION fixture.undone(statements text, undoing text, label text) RETURNS text LANGUAGE plpgsql
SET client_min_messages = error AS
$$
DECLARE
	outcome text;
BEGIN
	EXECUTE statements;
	PERFORM prebuild_reconcile(t0());
	outcome := format('%s %s', used(), (SELECT count(*) FROM prebuild_verify()));
	EXECUTE undoing;
	PERFORM prebuild_reconcile(t0());
	RETURN is(format('%s %s', outcome, used()), 'f 0 t', label);
END
$$;
SELECT undone('DROP TRIGGER prebuild_pool_log ON provisioner_jobs', 'SELECT prebuild_attach()', 'a trigger that is missing');
SELECT undone('ALTER TABLE workspaces DISABLE TRIGGER prebuild_pool_log', 'SELECT prebuild_attach()', 'one that is off');
SELECT undone('ALTER TABLE workspaces ENABLE TRIGGER prebuild_pool_log', 'SELECT prebuild_attach()',
	'one that does not see what is replicated');
-- the first ANALYZE after that writes the table's row in pg_class anew, as an autovacuum would at any time
SELECT undone('CREATE TABLE child () INHERITS (workspaces)', 'DROP TABLE child; ANALYZE workspaces', 'a table with children');
SELECT undone('DROP TRIGGER prebuild_pool_truncated ON workspaces', 'SELECT prebuild_attach()', 'no look-out for TRUNCATE');
-- no logged table may refer to an unlogged one
SELECT undone(string_agg(format('ALTER TABLE %s DROP CONSTRAINT %I; ', conrelid::regclass, conname), '')
	|| 'ALTER TABLE workspace_agents SET UNLOGGED', 'ALTER TABLE workspace_agents SET LOGGED',
	'a table that a crash empties')
FROM pg_constraint WHERE contype = 'f' AND confrelid = 'workspace_agents'::regclass;
CREATE FUNCTION fixture.rewrite() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.name := NEW.name || '?'; RETURN NEW; END $$;
SELECT undone('CREATE TRIGGER rewrite BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION rewrite();
	UPDATE workspaces SET ttl = 1', 'DROP TRIGGER rewrite ON workspaces',
	'a trigger that changes what its statement does not name');
SELECT is(running(), 'four!? (not ready)', 'as the tables say');
DO $$ BEGIN PERFORM prebuild_attach(); END $$;
SELECT undone('CREATE TRIGGER rewrite BEFORE UPDATE OF ttl ON workspaces FOR EACH ROW EXECUTE FUNCTION rewrite();
	UPDATE workspaces SET ttl = 2', 'DROP TRIGGER rewrite ON workspaces', 'also on a column that nobody watches');
CREATE TRIGGER rewrite BEFORE UPDATE OF name, deleted ON workspaces FOR EACH ROW EXECUTE FUNCTION rewrite();
UPDATE workspaces SET name = 'five';
SELECT ok(used(), 'one that fires only when the log''s does is no reason for distrust');
SELECT is(running(), 'five? (not ready)', 'and what it does is seen');
DROP TRIGGER rewrite ON workspaces;
-- columns that change places: names decide, not positions
DO $$ BEGIN PERFORM prebuild_attach(); PERFORM prebuild_fold(); END $$;
SELECT undone('ALTER TABLE workspaces RENAME COLUMN name TO old_name; ALTER TABLE workspaces ADD COLUMN name text;
	ALTER TABLE workspaces ALTER COLUMN old_name DROP NOT NULL; UPDATE workspaces SET name = ''renamed''',
	'SELECT prebuild_attach()', 'another column of a name that is watched');
SELECT is(running(), 'renamed (not ready)', 'is read');
UPDATE workspaces SET name = 'again';
SELECT is(running(), 'again (not ready)', 'and, attached again, watched');

-- Who sees it. A caller gets what the tables would give him.
CREATE ROLE kept_reader;
SELECT prebuild_grant('kept_reader') \g /dev/null
GRANT USAGE ON SCHEMA cp_kept, fixture TO kept_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA cp_kept TO kept_reader;
SET ROLE kept_reader;
SELECT is(running(), 'again (not ready)', 'who may read the tables gets their rows');
SELECT raises('TABLE prebuild_pool_state', '42501', 'prebuild_pool_state', NULL, 'without a right on the stored ones');
SELECT is((SELECT count(*) FROM prebuild_verify()), 0, 'and may compare');
RESET ROLE;
REVOKE SELECT ON workspace_agents FROM kept_reader;
SET ROLE kept_reader;
SELECT raises('SELECT * FROM prebuild_running()', '42501', 'workspace_agents', NULL, 'who may not, gets their error');
RESET ROLE;
GRANT SELECT ON workspace_agents TO kept_reader;
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
CREATE POLICY none ON workspaces USING (name <> 'again');
SET ROLE kept_reader;
SELECT is(running(), NULL, 'whom a policy hides rows from, does not see them');
RESET ROLE;
SELECT is(running(), 'again (not ready)', 'others do');
ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY;
-- the application that writes needs no right on the log
GRANT UPDATE ON workspaces TO kept_reader;
SET ROLE kept_reader;
UPDATE workspaces SET name = 'written';
SELECT is(running(), 'written (not ready)', 'whoever writes the tables is logged');
RESET ROLE;
DROP OWNED BY kept_reader;
DROP ROLE kept_reader;
-- the table is not quite what it was (row security, rights)
DO $$ BEGIN
	PERFORM prebuild_fold();
	UPDATE workspaces SET created_at = created_at + interval '1 s';
END $$;

-- two control planes in a database, each with its own
DO $$ BEGIN
	PERFORM control_plane('cp_other');
	PERFORM prebuild_attach();
	PERFORM simple('b', 1);
	PERFORM prebuild('b', 'other');
	PERFORM prebuild_fold();
END $$;
SELECT is(running(), 'other', 'one control plane');
SELECT ok(used(), 'has its own stored pool');
SET prebuild.control_plane_schema = 'cp_kept';
SET search_path = cp_kept, fixture, public;
SELECT is(running(), 'written (not ready)', 'and the other');
SELECT used() \gset
SELECT ok(:'used', 'too');
\if :used
\else
	-- a notice says why
	SELECT prebuild_verify();
\endif
SELECT is((SELECT count(*) FROM prebuild_pool_log WHERE control_plane = 'cp_other'::regnamespace), 0,
	'a fold takes its own entries');
SELECT ok((SELECT count(*) FROM prebuild_pool_log WHERE control_plane = 'cp_kept'::regnamespace) > 0,
	'and leaves the others');
DROP SCHEMA cp_other CASCADE;
SELECT prebuild_rebuild() \g /dev/null
SELECT is((SELECT count(DISTINCT control_plane) FROM prebuild_pool_state), 1, 'nothing is kept of one that is gone');
DO $$ BEGIN PERFORM prebuild_detach(); END $$;
SELECT is((SELECT count(*) FROM prebuild_pool_state) + (SELECT count(*) FROM prebuild_pool_log)
	+ (SELECT count(*) FROM prebuild_pool_marker), 0, 'nor of one that is detached');
SELECT is(running(), 'written (not ready)', 'which answers as before');
SELECT raises('SELECT prebuild_pool_touched()', '39P01', 'trigger that prebuild_attach\(\) created', NULL,
	'the trigger''s function is for triggers');
CREATE TABLE fixture.somebodys (number int, other text);
CREATE TRIGGER odd AFTER INSERT OR UPDATE OF number, other ON fixture.somebodys
	FOR EACH ROW EXECUTE FUNCTION prebuild_pool_touched('job');
SELECT raises('INSERT INTO fixture.somebodys VALUES (1, ''x'')', '42804', '"number" of trigger "odd"', NULL,
	'and for columns of ids');
