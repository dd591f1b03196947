-- Constraints that are checked at the end of the transaction. A violation is a fault of the preset whose
-- rows violate them. A pass ignores what its caller has violated before, and keeps the caller's SET
-- CONSTRAINTS.
\set ECHO none
\i test/fixture/fixture.sql
SET client_min_messages = error;

-- A table of the caller's own in the control plane's schema, with keys that may be violated for a while.
CREATE FUNCTION fixture.plane(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM control_plane(name);
	PERFORM simple('good', 2);
	PERFORM simple('bad', 2);
	CREATE TABLE own (n int CONSTRAINT own_unique UNIQUE DEFERRABLE INITIALLY DEFERRED,
		late int CONSTRAINT late_unique UNIQUE DEFERRABLE INITIALLY IMMEDIATE,
		workspace_id uuid CONSTRAINT own_workspace REFERENCES workspaces DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE fired (what text);
	-- the constraint trigger of the control plane's own table, which writes
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $f$
	BEGIN
		IF NEW.template_version_preset_id = fixture.p('bad') THEN
			RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation';
		END IF;
		-- by its bare name, as the control plane's own triggers do
		INSERT INTO fired VALUES ('build');
		RETURN NULL;
	END $f$;
	CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON workspace_builds DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION refuse();
END $$;
-- Is the constraint checked at once? The values are given to violate it.
CREATE FUNCTION fixture.is_immediate(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement;
		RAISE EXCEPTION USING ERRCODE = 'P0099';
	EXCEPTION
		WHEN unique_violation OR foreign_key_violation OR check_violation THEN
			RETURN true;
		WHEN SQLSTATE 'P0099' THEN
			RETURN false;
	END;
END $$;

-- the caller has violated keys of his own, and mends them after the pass
DO $$ BEGIN PERFORM plane('cp_own'); END $$;
BEGIN;
SET CONSTRAINTS late_unique DEFERRED;
INSERT INTO own VALUES (1, 1), (1, 1), (2, 2);
INSERT INTO own (workspace_id) VALUES (gen_random_uuid());
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
SELECT is(is_immediate('INSERT INTO own (n) VALUES (2)'), false, 'a constraint of his own is deferred as before');
SELECT is(is_immediate('INSERT INTO own (late) VALUES (2)'), false, 'also one that he deferred himself');
DELETE FROM own;
COMMIT;
SELECT is((SELECT count(*) FROM workspaces), 2, 'keys that the caller has violated for a while are not the presets''');
SELECT is((SELECT count(*) FROM fired), 2, 'a deferred trigger that writes does so once');
SELECT is((SELECT string_agg(e.kind, ' ') FROM prebuild_event e WHERE e.kind = 'preset_failed'), 'preset_failed',
	'the preset that is at fault is told');

-- how a constraint of the control plane is set stays as it was, too
DO $$ BEGIN PERFORM plane('cp_set'); DROP TRIGGER refuse ON workspace_builds; END $$;
CREATE FUNCTION fixture.refuse_same() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.name LIKE 'same%' THEN RAISE EXCEPTION 'the same' USING ERRCODE = 'check_violation'; END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER names AFTER INSERT OR UPDATE ON workspaces DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION fixture.refuse_same();
CREATE FUNCTION fixture.refuse_other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.name LIKE 'other%' THEN RAISE EXCEPTION 'the other' USING ERRCODE = 'check_violation'; END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER others AFTER INSERT OR UPDATE ON workspaces DEFERRABLE INITIALLY IMMEDIATE
	FOR EACH ROW EXECUTE FUNCTION fixture.refuse_other();
BEGIN;
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
SELECT is(is_immediate('UPDATE workspaces SET name = ''same'' || id'), false, 'one that is deferred stays so');
SELECT is(is_immediate('UPDATE workspaces SET name = ''other'' || id'), true, 'one that is immediate, too');
ROLLBACK;
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS others DEFERRED;
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
SELECT is(is_immediate('UPDATE workspaces SET name = ''same'' || id'), true, 'one that the caller made immediate stays so');
SELECT is(is_immediate('UPDATE workspaces SET name = ''other'' || id'), false, 'and one that he deferred');
SELECT is(is_immediate('INSERT INTO own (n) VALUES (1), (1)'), true, 'and so does one of his own');
ROLLBACK;

-- a constraint of the same name on a table of his own
DO $$ BEGIN PERFORM plane('cp_namesake'); END $$;
CREATE FUNCTION fixture.refuse_own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.n < 0 THEN RAISE EXCEPTION 'his own'; END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON own DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fixture.refuse_own();
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = 0 WHERE id = p('bad'); END $$;
BEGIN;
INSERT INTO own VALUES (-1);
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
ROLLBACK;

-- one on a table of his own that cannot be deferred: SET CONSTRAINTS does not defer the control plane's again
DO $$ BEGIN PERFORM plane('cp_fixed_namesake'); END $$;
CREATE TABLE fixed_namesake (n int CONSTRAINT refuse CHECK (n > 0));
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
SELECT is((SELECT count(*) FROM fired), 2, 'a deferred trigger that writes does so once here, too');
BEGIN;
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = 3 WHERE id = p('good'); END $$;
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
SELECT is((SELECT count(*) FROM fired), 2, 'and not before the commit');
COMMIT;
SELECT is((SELECT count(*) FROM fired), 3, 'but then');

-- the caller has set off a deferred trigger himself, which finds its tables by bare names
DO $$ BEGIN
	PERFORM plane('cp_bare');
	CREATE CONSTRAINT TRIGGER refuse_again AFTER UPDATE ON workspace_builds DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION refuse();
END $$;
SELECT prebuild('good', 'x') IS NOT NULL \g /dev/null
BEGIN;
UPDATE workspace_builds SET updated_at = t0();
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
COMMIT;
SELECT is((SELECT count(*) FROM workspaces), 2, 'a deferred trigger that he has set off is no reason not to look');

-- a constraint of the control plane that the caller himself has violated, and mends
DO $$ BEGIN PERFORM plane('cp_both'); UPDATE template_version_presets SET desired_instances = 0 WHERE id = p('bad'); END $$;
ALTER TABLE workspaces ADD CONSTRAINT owner_name UNIQUE (owner_id, name) DEFERRABLE INITIALLY DEFERRED;
DROP INDEX workspaces_owner_id_lower_idx;
SELECT prebuild('good', 'x') IS NOT NULL, prebuild('good', 'y') IS NOT NULL \g /dev/null
BEGIN;
UPDATE workspaces SET owner_id = usr('ada'), name = 'same';
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
UPDATE workspaces SET name = id::text WHERE name = 'same';
COMMIT;
SELECT is((SELECT count(*) FROM workspaces), 4, 'what he has violated on a control plane''s table is his affair, too');
