-- An error of a batch's update must end the subtransaction that the update runs in: otherwise a
-- handler's rollback undoes that one instead of its own block, and takes over its user and settings.
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_metadata_errors'); END $$;
SET prebuild.metadata_insert_missing = on;
CREATE TABLE fixture.audit (what text);
SELECT agents(1) \g /dev/null
CREATE FUNCTION report() RETURNS void LANGUAGE sql AS
$$ SELECT prebuild_agent_metadata_upsert('{00000000-0000-0000-0000-000000000001}', '{k}', '{v}',
	'{""}', ARRAY[clock_timestamp()]) $$;
SELECT report() \g /dev/null
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE check_violation; END';
CREATE TRIGGER refuse BEFORE UPDATE ON workspace_agent_metadata FOR EACH ROW
	EXECUTE FUNCTION refuse();

DO $$ BEGIN
	INSERT INTO fixture.audit VALUES ('in the block');
	PERFORM report();
EXCEPTION WHEN check_violation THEN
	INSERT INTO fixture.audit VALUES ('in the handler');
END $$;
SELECT is((SELECT string_agg(a.what, ', ') FROM fixture.audit a), 'in the handler',
	'the block that failed is undone, its handler is not');
CREATE TABLE fixture.own_transaction AS SELECT now() = statement_timestamp() AS own;
SELECT is((SELECT own FROM fixture.own_transaction), true, 'and no transaction is left open');

-- the function of the fan-out's triggers on a trigger that prebuild_attach() did not make
CREATE TABLE fixture.somebodys (workspace_agent_id uuid, key text, collected_at timestamptz);
CREATE TRIGGER odd AFTER INSERT ON fixture.somebodys FOR EACH ROW EXECUTE FUNCTION prebuild_metadata_fanout();
SELECT raises('INSERT INTO fixture.somebodys DEFAULT VALUES', '39P01', 'AFTER trigger for each statement', NULL, 'a trigger for each row');
DROP TRIGGER odd ON fixture.somebodys;
CREATE TRIGGER odd AFTER INSERT ON fixture.somebodys EXECUTE FUNCTION prebuild_metadata_fanout();
SELECT raises('INSERT INTO fixture.somebodys DEFAULT VALUES', '39P01', 'trigger "odd" needs a transition table', NULL, 'one without the rows');
DROP TRIGGER odd ON fixture.somebodys;
CREATE TRIGGER odd AFTER INSERT ON fixture.somebodys REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION prebuild_metadata_fanout();
INSERT INTO fixture.somebodys DEFAULT VALUES;
SELECT is((SELECT count(*) FROM fixture.somebodys), 1, 'a row without an agent announces nothing');
