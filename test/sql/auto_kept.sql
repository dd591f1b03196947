-- A session keeps what policies have learnt, and answers as the table says: whoever changes it, and however.
\set ECHO none
\i test/fixture/fixture.sql
SET timezone = 'UTC';

DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_policy_choice;
	PERFORM control_plane('cp_kept');
	PERFORM simple('one', 0);
	PERFORM preset('one-v1', 'two', 0);
	PERFORM prebuild_set_policy(t('one'), mode => 'auto', max_instances => 100);
	INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
	SELECT 'cp_kept', gen_random_uuid(), t('one'), name, '2025-05-26 08:00Z', true FROM unnest('{one,two}'::text[]) name;
END $$;

-- A choice whose schedule wants a level in all hours.
CREATE PROCEDURE fixture.choose(preset text, level float8, plane text DEFAULT 'cp_kept') LANGUAGE sql AS
$$
	INSERT INTO prebuild_policy_choice (control_plane, template_id, preset_name, policy, kind, parameter, outcome, note, chosen_at, due_at, learnt_at, learnt)
	VALUES (plane, t('one'), preset, 'schedule', 'schedule', 0.99, 'better', 'note', '2025-05-26 07:00Z', '2025-05-27 07:00Z', '2025-05-26',
		ARRAY[50, 0, 0, 0, 0, 0, 0] || array_fill(level, ARRAY[168]))
	ON CONFLICT (control_plane, template_id, preset_name) DO UPDATE SET learnt = excluded.learnt
$$;
CREATE FUNCTION fixture.wanted(preset text) RETURNS int LANGUAGE sql VOLATILE AS
$$ SELECT CASE desired_source WHEN 'policy' THEN desired END FROM prebuild_state('2025-05-26 09:00Z') WHERE preset_name = preset $$;

SELECT is(wanted('one'), NULL, 'not chosen yet');
CALL choose('one', 3);
SELECT is(wanted('one'), 3, 'chosen');
SELECT is(wanted('one'), 3, 'and kept');
-- nothing but the numbers differs
CALL choose('one', 4);
SELECT is(wanted('one'), 4, 'learnt anew');
UPDATE prebuild_policy_choice SET learnt = NULL;
SELECT is(wanted('one'), NULL, 'nothing learnt');
DELETE FROM prebuild_policy_choice;
SELECT is(wanted('one'), NULL, 'no choice any more');
CALL choose('one', 4);
SELECT is(wanted('one'), 4, 'chosen again');

-- what a transaction has written itself, and takes back
BEGIN;
CALL choose('one', 5);
SELECT is(wanted('one'), 5, 'its own row');
SAVEPOINT s;
CALL choose('one', 6);
SELECT is(wanted('one'), 6, 'of a subtransaction');
ROLLBACK TO s;
SELECT is(wanted('one'), 5, 'which has failed');
CALL choose('one', 7);
SELECT is(wanted('one'), 7, 'and another row in its place');
ROLLBACK;
SELECT is(wanted('one'), 4, 'all of it has failed');
-- by one transaction, in one file, at one place
BEGIN;
TRUNCATE prebuild_policy_choice;
CALL choose('one', 8);
-- a later transaction has ended, so that the snapshot tells nothing of this one
CREATE TEMPORARY TABLE nothing (n int);
SAVEPOINT s;
INSERT INTO nothing VALUES (1);
ROLLBACK TO s;
RELEASE s;
SELECT is(wanted('one'), 8, 'the first row of an empty table');
TRUNCATE prebuild_policy_choice;
CALL choose('one', 9);
SELECT is(wanted('one'), 9, 'and another one by the same transaction');
COMMIT;
SELECT is(wanted('one'), 9, 'that is the one which stays');

-- rows of one transaction that a rewrite puts into each other's place
BEGIN;
TRUNCATE prebuild_policy_choice;
CALL choose('one', 1);
CALL choose('two', 2);
COMMIT;
SELECT is(wanted('one'), 1, 'the first row'), is(wanted('two'), 2, 'the second row');
DELETE FROM prebuild_policy_choice WHERE preset_name = 'one';
VACUUM FULL prebuild_policy_choice;
SELECT is(wanted('one'), NULL, 'the first row is gone'), is(wanted('two'), 2, 'the second row is in its place');

-- frozen rows, of another control plane, and many: the memory for them has a bound
VACUUM FREEZE prebuild_policy_choice;
CALL choose('two', 11, 'another');
SELECT is(wanted('two'), 2, 'a row of another control plane is none');
INSERT INTO prebuild_policy_choice SELECT control_plane, template_id, 'preset ' || n, policy, 'forecast', 0.1, outcome, note, chosen_at, due_at, suspended, demand, hit_rate, idle,
	configured_hit_rate, configured_idle, learnt_at, ARRAY[50, 5, 0, 1, 1, 1e8, 1e8] || array_fill(1::float8, ARRAY[672])
	FROM prebuild_policy_choice, generate_series(1, 2000) n WHERE control_plane = 'cp_kept';
SELECT is(wanted('two'), 2, 'many rows');
SELECT is(wanted('two'), 2, 'and again');
SELECT CASE WHEN sum(total_bytes) BETWEEN 8e6 AND 18e6 THEN 'bounded' ELSE sum(total_bytes)::text END AS memory FROM pg_backend_memory_contexts WHERE name = 'prebuild_ext choices';
DELETE FROM prebuild_policy_choice WHERE preset_name ~ '^preset';
SELECT is(wanted('two'), 2, 'few rows again');
SELECT CASE WHEN sum(total_bytes) < 1e6 THEN 'freed' ELSE sum(total_bytes)::text END AS memory FROM pg_backend_memory_contexts WHERE name = 'prebuild_ext choices';

DELETE FROM prebuild_policy_choice;
DROP SCHEMA cp_kept CASCADE;
