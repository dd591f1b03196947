-- A session keeps the demands of the last day, and answers as the log says: whoever changes it, and however.
\set ECHO none
\i test/fixture/fixture.sql
SET timezone = 'UTC';

DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_policy_choice;
	PERFORM control_plane('cp_day');
	PERFORM simple('one', 0);
	PERFORM preset('one-v1', 'two', 0);
	PERFORM prebuild_set_policy(t('one'), mode => 'auto', max_instances => 100);
	-- forecasts of as many demands as the last day had: they expect one a day, and do not trust in that
	INSERT INTO prebuild_policy_choice (control_plane, template_id, preset_name, policy, kind, parameter, outcome, note, chosen_at, due_at, learnt_at, learnt)
	SELECT 'cp_day', t('one'), name, 'forecast', 'forecast', 0.01, 'better', 'note', '2025-05-26 07:00Z', '2025-05-27 07:00Z', '2025-05-26',
		ARRAY[50, 5, 0, 1, 0, 3e8, 3e8] || array_fill(1 / 24::float8, ARRAY[672])
	FROM unnest('{one,two}'::text[]) name;
END $$;

CREATE PROCEDURE fixture.ask(preset text, times timestamptz[], plane text DEFAULT 'cp_day') LANGUAGE sql AS
$$
	INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
	SELECT plane, gen_random_uuid(), t('one'), preset, at, true FROM unnest(times) at
$$;
-- How many demands of the last day the policy of a preset knows, while there are none in its last half an hour; NULL: none.
CREATE FUNCTION fixture.known(preset text) RETURNS int LANGUAGE sql VOLATILE AS
$$ SELECT DISTINCT substring(reason FROM '([0-9]+)\.00 times')::int FROM prebuild_plan('2025-05-26 09:00Z') WHERE preset_name = preset $$;
-- And how many there are.
CREATE FUNCTION fixture.logged(preset text) RETURNS int LANGUAGE sql VOLATILE AS
$$
	SELECT nullif(count(*), 0)::int FROM prebuild_demand_log
	WHERE control_plane = 'cp_day' AND template_id = t('one') AND preset_name = preset AND at >= '2025-05-25 09:00Z' AND at < '2025-05-26 09:00Z'
$$;
CREATE FUNCTION fixture.agree(label text) RETURNS text LANGUAGE sql VOLATILE AS
$$
	SELECT is(known('one') || ' and ' || known('two'), logged('one') || ' and ' || logged('two'), label)
$$;

-- the edges of the day
CALL ask('one', ARRAY['2025-05-26 08:00Z', '2025-05-25 09:00Z', '2025-05-25 08:59:59.999999Z', '2025-05-26 09:00Z']::timestamptz[]);
CALL ask('two', ARRAY['2025-05-26 07:00Z']::timestamptz[]);
SELECT is(known('one'), 2, 'the day'), is(known('two'), 1, 'of another preset');
SELECT is(known('one'), 2, 'and again');
SELECT count(*) AS kept_by_the_session FROM pg_backend_memory_contexts WHERE name = 'prebuild_ext demands'
	AND level = (SELECT level + 1 FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext');

-- what others write, and take away
CALL ask('one', ARRAY['2025-05-25 10:00Z']::timestamptz[]);
SELECT is(known('one'), 3, 'one more');
UPDATE prebuild_demand_log SET warm = false;
SELECT is(known('one'), 3, 'changed in its block');
UPDATE prebuild_demand_log SET at = '2025-05-20 10:00Z' WHERE at = '2025-05-25 10:00Z';
SELECT is(known('one'), 2, 'another time');
UPDATE prebuild_demand_log SET preset_name = 'two' WHERE at = '2025-05-26 08:00Z';
SELECT is(known('one'), 1, 'fewer of one'), is(known('two'), 2, 'more of the other');
DELETE FROM prebuild_demand_log WHERE preset_name = 'one';
SELECT is(known('one'), NULL, 'none any more'), is(known('two'), 2, 'and those of the other');
CALL ask('one', ARRAY['2025-05-26 08:00Z']::timestamptz[], 'another');
SELECT is(known('one'), NULL, 'of another control plane');
CALL ask(repeat('long', 1000), ARRAY['2025-05-26 08:00Z']::timestamptz[]);
CALL ask('one', ARRAY['2025-05-26 08:00Z', '-infinity', 'infinity']::timestamptz[]);
SELECT is(known('one'), 1, 'beside a name that is not in its row');

-- what a transaction has written itself, and takes back
BEGIN;
CALL ask('one', ARRAY['2025-05-26 08:10Z']::timestamptz[]);
SELECT is(known('one'), 2, 'its own row');
SAVEPOINT s;
DELETE FROM prebuild_demand_log WHERE preset_name = 'one';
SELECT is(known('one'), NULL, 'deleted in a subtransaction');
ROLLBACK TO s;
SELECT is(known('one'), 2, 'which has failed');
ROLLBACK;
SELECT is(known('one'), 1, 'all of it has failed');
BEGIN;
TRUNCATE prebuild_demand_log;
SELECT is(known('two'), NULL, 'an empty table');
CALL ask('two', ARRAY['2025-05-26 08:10Z']::timestamptz[]);
SELECT is(known('two'), 1, 'the first row of it');
TRUNCATE prebuild_demand_log;
CALL ask('two', ARRAY['2025-05-26 08:10Z', '2025-05-26 08:11Z', '2025-05-26 08:12Z']::timestamptz[]);
SELECT is(known('two'), 3, 'and others by the same transaction');
ROLLBACK;
SELECT agree('as before');

-- other ways to read it: for serializable transactions, without the index, where changes are not in WAL
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT agree('serializable');
COMMIT;
BEGIN;
DROP INDEX prebuild_demand_log_at_idx;
SELECT agree('without the index');
CREATE INDEX ON prebuild_demand_log (at) WHERE preset_name = 'two';
CREATE INDEX ON prebuild_demand_log (at DESC);
SELECT agree('with others');
ROLLBACK;
ALTER TABLE prebuild_demand_log SET UNLOGGED;
SELECT agree('unlogged');
CALL ask('one', ARRAY['2025-05-26 08:20Z']::timestamptz[]);
SELECT agree('one more in the same block');
ALTER TABLE prebuild_demand_log SET LOGGED;
SELECT agree('logged again');

-- another place for the rows
DELETE FROM prebuild_demand_log WHERE preset_name = 'two' AND at = '2025-05-26 07:00Z';
VACUUM FULL prebuild_demand_log;
SELECT agree('rewritten');
VACUUM FREEZE prebuild_demand_log;
SELECT agree('frozen');
CALL ask('two', ARRAY['2025-05-26 07:30Z']::timestamptz[]);
SELECT agree('one more in a frozen block');

-- many rows of many transactions, in any order, in blocks that get free places
CREATE PROCEDURE fixture.change_at_random() LANGUAGE plpgsql AS $$
DECLARE
	preset CONSTANT text := CASE WHEN random() < 0.5 THEN 'one' ELSE 'two' END;
	dice CONSTANT float8 := random();
	times timestamptz[];
BEGIN
	IF dice < 0.5 THEN
		times := ARRAY(SELECT '2025-05-25 05:00Z'::timestamptz + random() * interval '26 hours' FROM generate_series(1, (random() * 20)::int));
		CALL ask(preset, times);
	ELSIF dice < 0.7 THEN
		DELETE FROM prebuild_demand_log WHERE random() < 0.2 AND preset_name = preset;
	ELSIF dice < 0.8 THEN
		UPDATE prebuild_demand_log SET warm = NOT warm WHERE random() < 0.1;
	ELSIF dice < 0.9 THEN
		UPDATE prebuild_demand_log SET counted = NOT counted WHERE random() < 0.1;
	ELSE
		UPDATE prebuild_demand_log SET at = least(at + (random() - 0.5) * interval '4 hours', '2025-05-26 08:25Z'), preset_name = preset WHERE random() < 0.1 AND preset_name IN ('one', 'two');
	END IF;
END
$$;
CREATE PROCEDURE fixture.change_often() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM setseed(0.25);
	FOR n IN 1 .. 150 LOOP
		BEGIN
			CALL change_at_random();
			-- before the end of the transaction, and of one that fails
			IF known('one') IS DISTINCT FROM logged('one') OR known('two') IS DISTINCT FROM logged('two') THEN
				RAISE 'change % not known: % and % of % and %', n, known('one'), known('two'), logged('one'), logged('two');
			END IF;
			IF random() < 0.3 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
		END;
		IF random() < 0.5 THEN
			COMMIT;
		END IF;
		IF known('one') IS DISTINCT FROM logged('one') OR known('two') IS DISTINCT FROM logged('two') THEN
			RAISE 'after change %: % and % of % and %', n, known('one'), known('two'), logged('one'), logged('two');
		END IF;
	END LOOP;
END
$$;
SELECT known('one') > 0 AND known('two') > 0 AS not_empty;
CALL change_often();
VACUUM prebuild_demand_log;
CALL change_often();
SELECT known('one') > 20 AND known('two') > 20 AS many_rows, agree('at random');

-- the memory for them has a bound
SET client_min_messages = warning;
INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
SELECT 'cp_day', gen_random_uuid(), t('one'), 'preset ' || n, '2025-05-26 08:00Z', true FROM generate_series(1, 20000) n;
SELECT agree('many presets');
SELECT CASE WHEN sum(total_bytes) BETWEEN 1.5e6 AND 8e6 THEN 'kept' ELSE sum(total_bytes)::text END AS memory FROM pg_backend_memory_contexts WHERE name = 'prebuild_ext demands';
DELETE FROM prebuild_demand_log WHERE preset_name ~ '^preset';
SELECT agree('few rows again');

DELETE FROM prebuild_demand_log;
DELETE FROM prebuild_policy_choice;
DROP SCHEMA cp_day CASCADE;
