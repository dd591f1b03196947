-- The guard of claims made by plain SQL: how to create and drop it, what it must not affect, and that it
-- works for every role that updates a workspace, whatever the role may read. Sessions that are too late
-- for a prebuild are in test/specs/claim_guard.spec.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_guard');
	PERFORM simple('go', 0);
	PERFORM prebuild('go', 'spare-' || n) FROM generate_series(1, 20) n;
	PERFORM prebuild('go', 'mine', owner => usr('ada'));
	PERFORM usr('ben');
END $$;
CREATE FUNCTION fixture.guard() RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('%s %s', tgname, tgenabled), ', ') FROM pg_trigger
	WHERE tgrelid = 'workspaces'::regclass AND tgfoid = 'prebuild_claim_guard'::regproc $$;
-- who has a workspace now
CREATE FUNCTION fixture.has(workspace_name text) RETURNS text LANGUAGE sql AS
$$ SELECT u.username FROM workspaces x JOIN users u ON u.id = x.owner_id WHERE x.name = workspace_name $$;

-- on and off

SELECT prebuild_attach();
SELECT is(guard(), NULL, 'not unless asked for');
SELECT prebuild_attach(guard_claims => true);
SELECT is(guard(), 'prebuild_claim_guard O', 'not for what a subscription applies');
BEGIN;
SELECT prebuild_attach(guard_claims => true);
SELECT is((SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'
	AND relation = 'workspaces'::regclass AND mode NOT IN ('AccessShareLock', 'RowShareLock')), 0,
	'again: no lock');
COMMIT;
SELECT prebuild_attach(guard_claims => NULL);
SELECT is(guard(), NULL, 'off when it is not asked for any more');
SELECT prebuild_attach(guard_claims => true);
SELECT prebuild_detach();
SELECT is(guard(), NULL, 'off with everything');
SELECT prebuild_attach(guard_claims => true);

-- out of the way

UPDATE workspaces SET last_used_at = now() WHERE name = 'mine';
UPDATE workspaces SET owner_id = owner_id WHERE name IN ('mine', 'spare-1');
SELECT is(has('mine') || ' ' || has('spare-1'), 'ada prebuilds', 'no change of owner');
UPDATE workspaces SET owner_id = usr('ben') WHERE name = 'mine';
SELECT is(has('mine'), 'ben', 'a transfer');
UPDATE workspaces SET owner_id = prebuild_system_user() WHERE name = 'mine';
SELECT is(has('mine'), 'prebuilds', 'into the pool');
UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'mine';
SELECT is(has('mine'), 'ada', 'and out of it');
BEGIN;
UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'spare-1';
UPDATE workspaces SET owner_id = usr('ben') WHERE name = 'spare-1';
SELECT is(has('spare-1'), 'ben', 'one''s own claim, passed on');
SAVEPOINT s;
UPDATE workspaces SET owner_id = prebuild_system_user() WHERE name = 'spare-1';
ROLLBACK TO s;
UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'spare-1';
SELECT is(has('spare-1'), 'ada', 'after a savepoint');
ROLLBACK;
SELECT is(has('spare-1'), 'prebuilds', 'and undone');
BEGIN;
DO $$ BEGIN PERFORM build('spare-1', 'delete', 'failed'); END $$;
UPDATE workspaces SET owner_id = usr('ben') WHERE name = 'spare-1';
SELECT is(has('spare-1'), 'ben', 'a delete that the statement sees is its own affair');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE workspaces SET owner_id = usr('ben') WHERE name = 'spare-1';
COMMIT;
SELECT is(has('spare-1'), 'ben', 'a serializable claim');
UPDATE workspaces SET owner_id = usr('ada') WHERE name LIKE 'spare-%' AND owner_id = prebuild_system_user();
SELECT is((SELECT count(*) FROM workspaces WHERE owner_id = usr('ada')), 20, 'many in one statement');
UPDATE workspaces SET owner_id = prebuild_system_user() WHERE name LIKE 'spare-%';
BEGIN;
SELECT is((SELECT count(*) FROM prebuild_claim(p('go'), usr('ben'), 'claimed', at => t0())), 1,
	'prebuild_claim()');
ROLLBACK;
DO $$ BEGIN
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
	SELECT gen_random_uuid(), t0(), t0(), prebuild_system_user(), organization('org'), t('go'), 'unbuilt';
END $$;
UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'unbuilt';
SELECT is(has('unbuilt'), 'ada', 'a workspace without builds');

-- A build that is added in the middle of the claim, here by a trigger that runs before the guard; the
-- session's settings, its path and its rights do not matter.

CREATE FUNCTION fixture.build_first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = cp_guard, fixture, public AS
$$ BEGIN
	IF EXISTS (SELECT FROM doomed d WHERE d.name = OLD.name) THEN
		PERFORM build(OLD.name, 'delete', 'pending');
	END IF;
	RETURN NEW;
END $$;
CREATE TABLE fixture.doomed (name text);
INSERT INTO doomed VALUES ('spare-3');
CREATE TRIGGER a_build_first BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION build_first();
CREATE ROLE prebuild_test_owner;
GRANT USAGE ON SCHEMA cp_guard TO prebuild_test_owner;
ALTER TABLE workspaces OWNER TO prebuild_test_owner;
ALTER TABLE workspace_builds OWNER TO prebuild_test_owner;
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspace_builds ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspace_builds FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON workspaces USING (true);
CREATE ROLE prebuild_test_updater;
GRANT USAGE ON SCHEMA cp_guard, fixture TO prebuild_test_updater;
GRANT SELECT (id, name, owner_id), UPDATE (owner_id) ON workspaces TO prebuild_test_updater;
GRANT SELECT (id, username) ON users TO prebuild_test_updater;
BEGIN;
SET LOCAL ROLE prebuild_test_updater;
SET LOCAL search_path = cp_guard;
UPDATE workspaces SET owner_id = (SELECT id FROM users WHERE username = 'ben')
WHERE name IN ('spare-2', 'spare-3') RETURNING name, current_user;
COMMIT;
SELECT is(has('spare-2') || ' ' || has('spare-3'), 'ben prebuilds',
	'the build counts, which neither role nor owner see');
BEGIN;
SET LOCAL prebuild.control_plane_schema = 'elsewhere';
SET LOCAL search_path = pg_catalog;
UPDATE cp_guard.workspaces SET owner_id = (SELECT id FROM cp_guard.users WHERE username = 'ben')
WHERE name IN ('spare-3', 'spare-4') RETURNING name;
ROLLBACK;
SELECT is(shape('spare-3'), '2 delete pending', 'what other triggers did stays');
UPDATE workspaces SET owner_id = usr('ben') WHERE name = 'spare-3';
SELECT is(has('spare-3'), 'prebuilds', 'once more: another build, another refusal');
SET session_replication_role = replica;
ALTER TABLE workspaces ENABLE ALWAYS TRIGGER a_build_first;
UPDATE workspaces SET owner_id = usr('ben') WHERE name = 'spare-3';
SELECT is(has('spare-3'), 'ben', 'what is replicated is not judged');
RESET session_replication_role;

-- wrong uses

CREATE TRIGGER wrong AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION prebuild_claim_guard();
SELECT raises($$UPDATE workspaces SET ttl = 1 WHERE name = 'mine'$$, '39P01', 'BEFORE UPDATE trigger for each row',
	NULL, 'after');
DROP TRIGGER wrong ON workspaces;
CREATE TRIGGER wrong BEFORE INSERT ON workspaces FOR EACH ROW EXECUTE FUNCTION prebuild_claim_guard();
SELECT raises($$INSERT INTO workspaces SELECT * FROM workspaces$$, '39P01', 'BEFORE UPDATE', NULL, 'an insert');
DROP TRIGGER wrong ON workspaces;
CREATE TABLE fixture.other (id text, owner_id uuid);
INSERT INTO other VALUES ('1', NULL);
CREATE TRIGGER wrong BEFORE UPDATE ON other FOR EACH ROW EXECUTE FUNCTION prebuild_claim_guard();
SELECT raises($$UPDATE other SET owner_id = NULL$$, '42804', 'column "id" of table "other" is of type text, not uuid',
	NULL, 'another kind of id');
ALTER TABLE other DROP owner_id;
SELECT raises($$UPDATE other SET id = '2'$$, '42804', 'column "id"', NULL, 'or');
ALTER TABLE other ALTER id TYPE uuid USING NULL;
SELECT raises($$UPDATE other SET id = NULL$$, '42703', 'column "owner_id"', NULL, 'no owner');
ALTER TABLE other ADD owner_id uuid;
UPDATE other SET owner_id = gen_random_uuid();
SELECT is((SELECT count(owner_id) FROM other), 1, 'no id, no workspace');

SET client_min_messages = error;
DROP OWNED BY prebuild_test_updater;
DROP SCHEMA cp_guard CASCADE;
DROP ROLE prebuild_test_updater, prebuild_test_owner;
