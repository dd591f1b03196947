-- Which presets want what: none, no number, several of one version, schedules.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_presets'); END $$;
SELECT is(pass(n => 8), '', 'no presets: nothing is done');
SELECT is((SELECT count(*) FROM prebuild_state(t0())), 0, 'no state');
SELECT is((SELECT count(*) FROM prebuild_plan(t0())), 0, 'no plan');

DO $$ BEGIN PERFORM simple('numberless', NULL); END $$;
SELECT is(pass(n => 8), '', 'a preset without desired instances: nothing is done');
SELECT is((SELECT count(*) FROM prebuild_state(t0())), 0, 'no state either');
SELECT is((SELECT count(*) FROM organization_members), 0, 'and no membership');

DO $$ BEGIN PERFORM simple('zero', 0); END $$;
SELECT is(pass(n => 8), '', 'a preset that wants none: nothing is created');
SELECT is((SELECT count(*) FROM prebuild_state(t0())), 1, 'but it has a state');

-- presets of one version do not wait for each other
DO $$ BEGIN
	PERFORM simple('several', 4);
	PERFORM preset('several-v1', 'ten', 10);
	FOR i IN 1..4 LOOP
		PERFORM prebuild('several', format('building-%s', i), status => 'running');
	END LOOP;
END $$;
SELECT is(plan('several'), '', 'four are building, nothing to do');
SELECT is(plan('ten'), 'create 10', 'ten are wanted of the other preset');
SELECT is(pass(n => 8), 'created 10', 'and created');
SELECT is((SELECT count(*) FROM workspace_builds WHERE template_version_preset_id = p('ten')), 10,
	'with its preset');
SELECT is((starting, actual)::text, '(10,0)', 'and are starting')
FROM prebuild_state(t0()) WHERE preset_id = p('ten');
SELECT is(finish_jobs(t0() + interval '1 minute'), 10, 'once they are built');
SELECT is((starting, actual, eligible)::text, '(0,10,10)', 'they can be claimed')
FROM prebuild_state(t0() + interval '2 minutes') WHERE preset_id = p('ten');
SELECT is(pass(t0() + interval '2 minutes', 8), '', 'and nothing is left to do');

-- fewer wanted: the oldest go; none wanted: all go
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = 7 WHERE name = 'ten'; END $$;
SELECT is(plan('ten', t0() + interval '3 minutes'), 'delete 3', 'three are too many');
SELECT is(a.workspace_ids, (SELECT array_agg(r.id ORDER BY r.created_at, r.id)
		FROM (SELECT * FROM prebuild_running(p('ten')) ORDER BY created_at, id LIMIT 3) r),
	'the oldest, in that order')
FROM prebuild_plan(t0() + interval '3 minutes') a WHERE preset_id = p('ten');
SELECT is(pass(t0() + interval '3 minutes', 8), 'deleted 3', 'deleted');
DO $$ BEGIN
	PERFORM finish_jobs(t0() + interval '4 minutes');
	UPDATE template_version_presets SET desired_instances = 0 WHERE name = 'ten';
END $$;
SELECT is(pass(t0() + interval '5 minutes', 8), 'deleted 7', 'the rest when none is wanted');
-- what is broken goes before what works, whatever its age: a member with an agent in each state,
-- then those that have several or none; the healthy ones are the oldest
DO $$
DECLARE
	agent_state text;
	place int := 0;
BEGIN
	PERFORM simple('mixed', 0);
	FOREACH agent_state IN ARRAY '{ready,created,starting,start_error,start_timeout,shutting_down,shutdown_timeout,shutdown_error,off}'::text[] LOOP
		place := place + 1;
		PERFORM prebuild('mixed', agent_state, ready => NULL, created => t0() - interval '1 hour' + place * interval '1 minute');
		PERFORM agent(agent_state, agent_state);
	END LOOP;
	PERFORM prebuild('mixed', 'ready, off', created => t0() - interval '40 minutes');
	PERFORM agent('ready, off', 'off');
	PERFORM prebuild('mixed', 'starting, deleted off', ready => false, created => t0() - interval '39 minutes');
	PERFORM agent('starting, deleted off', 'off', deleted => true);
	PERFORM prebuild('mixed', 'ready, off below', created => t0() - interval '38 minutes');
	PERFORM agent('ready, off below', 'off', parent => (SELECT a.id FROM workspace_agents a
		JOIN workspace_resources r ON r.id = a.resource_id JOIN workspace_builds b ON b.job_id = r.job_id
		WHERE b.workspace_id = w('ready, off below')));
	PERFORM prebuild('mixed', 'no agents', ready => NULL, created => t0() - interval '37 minutes');
	-- an earlier build's agents do not count
	PERFORM prebuild('mixed', 'off before', ready => NULL, created => t0() - interval '36 minutes');
	PERFORM agent('off before', 'off');
	PERFORM build('off before', 'start', preset_name => 'mixed', created => t0() - interval '36 minutes');
END $$;
CREATE FUNCTION pg_temp.doomed(preset_name text, at timestamptz) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(x.name, '; ' ORDER BY u.n) FROM prebuild_plan(at) a,
	unnest(a.workspace_ids) WITH ORDINALITY u (id, n), workspaces x
	WHERE x.id = u.id AND a.preset_id = p(preset_name) $$;
\echo the order in which they go
SELECT string_to_table(pg_temp.doomed('mixed', t0() + interval '6 minutes'), '; ');
CREATE FUNCTION pg_temp.scaled_to(n int) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN
	UPDATE template_version_presets SET desired_instances = n WHERE name = 'mixed';
	RETURN (SELECT a.reason FROM prebuild_plan(t0() + interval '6 minutes') a WHERE preset_id = p('mixed'));
END $$;
\echo desired|reason
SELECT n, pg_temp.scaled_to(n) FROM unnest('{14,12,5,3,0}'::int[]) n;
SELECT is(pg_temp.scaled_to(3), '14 valid ones are running, 3 are desired; 7 sick and 4 not ready go first', 'three of fourteen');
SELECT is(pass(t0() + interval '6 minutes', 8), 'deleted 11', 'a pass leaves three');
SELECT is(string_agg(name, '; ' ORDER BY created_at), 'ready; ready, off below; off before', 'the healthy ones')
FROM prebuild_running(p('mixed'));
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = 0 WHERE name = 'mixed'; END $$;
SELECT is(pass(t0() + interval '6 minutes', 8), 'deleted 3', 'then these, too');
-- what is no longer asked for at all is left alone
DO $$ BEGIN
	PERFORM simple('dropped', 1);
	PERFORM prebuild('dropped', 'left-over');
	UPDATE template_version_presets SET desired_instances = NULL WHERE name = 'dropped';
END $$;
SELECT is(pass(t0() + interval '6 minutes', 8), '', 'a preset without a number has no state and no actions');

-- schedules: two presets with two each, on Monday 2 June 2025
DO $$ BEGIN
	PERFORM control_plane('cp_presets');
	PERFORM template('s');
	PERFORM version('s', 's-v1');
	PERFORM preset('s-v1', 'one', 1, timezone => 'UTC');
	PERFORM schedule('one', '* 2-4 * * 1-5', 2);
	PERFORM schedule('one', '* 6-8 * * 1-5', 3);
	PERFORM preset('s-v1', 'two', 1, timezone => 'UTC');
	PERFORM schedule('two', '* 10-12 * * 1-5', 4);
	PERFORM schedule('two', '* 14-16 * * 1-5', 5);
END $$;
\echo time|one|two|schedule of one|schedule of two
SELECT to_char(at, 'HH24:MI:SS.US') AS at, one.desired, two.desired, one.cron_expression, two.cron_expression
FROM unnest('{2025-06-02 01:00Z, 2025-06-02 03:00Z, 2025-06-02 07:00Z, 2025-06-02 11:00Z,
		2025-06-02 15:00Z, 2025-06-02 01:59:59.999999Z, 2025-06-02 02:00Z, 2025-06-02 04:59:59.999999Z,
		2025-06-02 05:00Z}'::timestamptz[]) WITH ORDINALITY u (at, n)
CROSS JOIN LATERAL (SELECT * FROM prebuild_state(at) WHERE preset_id = p('one')) one
CROSS JOIN LATERAL (SELECT * FROM prebuild_state(at) WHERE preset_id = p('two')) two
ORDER BY n;
SELECT is(one.desired, 1, 'not on a Sunday')
FROM prebuild_state('2025-06-01 03:00Z') one WHERE preset_id = p('one');
SELECT is(prebuild_desired_instances(p('two'), '2025-06-02 11:00Z'), 4, 'prebuild_desired_instances agrees');
SELECT is(pass('2025-06-02 03:00Z'), 'created 3', 'a pass at 03:00 creates 2 and 1');
DO $$ BEGIN PERFORM finish_jobs('2025-06-02 03:05Z'); END $$;
SELECT is(pass('2025-06-02 07:00Z'), 'created 1', 'one more at 07:00');
DO $$ BEGIN PERFORM finish_jobs('2025-06-02 07:05Z'); END $$;
SELECT is(pass('2025-06-02 11:00Z'), 'created 3, deleted 2', 'two fewer and three more at 11:00');

-- faulty schedules: the preset's own number, whatever the schedule says
DO $$ BEGIN
	PERFORM preset('s-v1', 'no-zone', 6);
	PERFORM schedule('no-zone', '* * * * *', 9);
	PERFORM preset('s-v1', 'bad-zone', 6, timezone => 'FOO+3');
	PERFORM schedule('bad-zone', '* * * * *', 9);
	PERFORM preset('s-v1', 'bad-cron', 6, timezone => 'UTC');
	PERFORM schedule('bad-cron', '* 1-8 * * *', 9);
	PERFORM schedule('bad-cron', '0 9-18 * * *', 9);
	PERFORM preset('s-v1', 'overlap', 6, timezone => 'UTC');
	PERFORM schedule('overlap', '* 9-18 * * 1-3', 9);
	PERFORM schedule('overlap', '* 12-20 * * 3-5', 9);
	PERFORM preset('s-v1', 'sound', 6, timezone => 'Europe/Berlin');
	PERFORM schedule('sound', '* 14 * * *', 9);
END $$;
SET client_min_messages = error;
SELECT preset_name, desired, cron_expression FROM prebuild_state(t0())
WHERE preset_name IN ('no-zone', 'bad-zone', 'bad-cron', 'overlap', 'sound')
ORDER BY preset_name COLLATE "C";
SET client_min_messages = warning;

-- a deprecated template's presets are not active: nothing new, and its running ones go
DO $$ BEGIN
	PERFORM control_plane('cp_presets');
	PERFORM simple('old', 2);
	PERFORM prebuild('old', 'old-1');
	UPDATE templates SET deprecated = 'use the new one';
END $$;
SELECT is((active, desired, actual, eligible, extraneous)::text, '(f,0,1,0,0)', 'the state of a deprecated template''s preset')
FROM prebuild_state(t0());
SELECT is(pass(n => 8), 'deleted 1', 'a deprecated template''s prebuilds are deleted');

-- of presets that fit given parameters equally well: one that wants prebuilds, then the oldest
DO $$
<<fit>>
DECLARE
	name text;
	age int := 10;
BEGIN
	PERFORM template('fit');
	PERFORM version('fit', 'fit-v1');
	FOREACH name IN ARRAY '{fit-numberless,fit-none,fit-zero,fit-never,fit-night,fit-one,fit-two}'::text[] LOOP
		PERFORM preset('fit-v1', name, CASE WHEN name IN ('fit-one', 'fit-two') THEN 1
			WHEN name NOT IN ('fit-numberless', 'fit-none') THEN 0 END, timezone => 'UTC');
		UPDATE template_version_presets x SET created_at = t0() - make_interval(days => age) WHERE x.name = fit.name;
		age := age - 1;
	END LOOP;
	PERFORM schedule('fit-numberless', '* * * * *', 3), schedule('fit-never', '* * * * *', 0),
		schedule('fit-night', '* 0-4 * * *', 0), schedule('fit-night', '* 5-8 * * *', 2);
	PERFORM preset('fit-v1', 'fit-region', NULL);
	PERFORM preset_value('fit-region', 'region', 'eu');
END $$;
CREATE FUNCTION pg_temp.fitting(names text[], vals text[]) RETURNS text LANGUAGE sql AS
$$ SELECT name FROM template_version_presets WHERE id = prebuild_find_preset(v('fit-v1'), names, vals) $$;
SELECT is(pg_temp.fitting('{}', '{}'), 'fit-night', 'the oldest that wants some, if only at some time');
SELECT is(pg_temp.fitting('{region}', '{eu}'), 'fit-region', 'more parameters count for more');
DO $$ BEGIN
	PERFORM preset_value(name, 'region', 'eu') FROM unnest('{fit-none,fit-two}'::text[]) name;
END $$;
SELECT is(pg_temp.fitting('{region}', '{eu}'), 'fit-two', 'among those with parameters, too');
SELECT is(pg_temp.fitting('{}', '{}'), 'fit-night', 'and none that does not fit');
DO $$ BEGIN DELETE FROM template_version_preset_prebuild_schedules WHERE preset_id = p('fit-night'); END $$;
SELECT is(pg_temp.fitting('{}', '{}'), 'fit-one', 'then the next oldest');
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = NULL WHERE name = 'fit-one'; END $$;
SELECT is(pg_temp.fitting('{}', '{}'), 'fit-numberless', 'when none wants any, the oldest');

DROP SCHEMA cp_presets CASCADE;
