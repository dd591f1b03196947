-- After failed builds a pass delays creations, but not deletions.
\set ECHO none
\i test/fixture/fixture.sql

SET prebuild.failure_hard_limit = 0;
CREATE FUNCTION pg_temp.backoff(name text, at timestamptz) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT format('%s %s until %s', num_failed, CASE WHEN hard_limited THEN 'limited' ELSE 'failed' END,
		coalesce(to_char(backoff_until, 'HH24:MI:SS'), 'never'))
	FROM prebuild_state(at) WHERE preset_id = p(name)
$$;

-- two failures of two wanted
DO $$ BEGIN
	PERFORM control_plane('cp_backoff');
	PERFORM simple('two', 2);
	PERFORM prebuild('two', 'two-1', status => 'failed', created => t0() - interval '40 s');
	PERFORM prebuild('two', 'two-2', status => 'failed', created => t0() - interval '30 s');
END $$;
SELECT is(pg_temp.backoff('two', t0()), '2 failed until 12:01:30', 'two failures: last + 2 intervals');
SELECT is(plan('two'), 'backoff 2', 'two are withheld');
SELECT is(a.backoff_until, t0() + interval '90 s', 'until then') FROM prebuild_plan(t0()) a;
SELECT is(r.backing_off, 1, 'the pass counts the preset') FROM prebuild_reconcile(t0()) r;
SELECT is(pass(n => 8), '', 'and creates nothing');
SELECT is(pass(t0() + interval '89 s', 8), '', 'as long as the backoff lasts');
SELECT is(pg_temp.backoff('two', t0() + interval '89 s'), '2 failed until 12:01:30', 'which does not move');
SELECT is(pass(t0() + interval '90 s', 8), '', 'its last moment included');
SELECT is(pass(t0() + interval '90 s 1 microsecond', 8), 'created 2', 'then two are created');
-- one more failure
SELECT is(finish_jobs(t0() + interval '100 s', failing => true, at_most => 1), 1, 'one of them fails');
SELECT is(pg_temp.backoff('two', t0() + interval '100 s'), '3 failed until 12:04:30', 'three failures: last + 3 intervals');
SELECT is(pass(t0() + interval '100 s', 8), '', 'nothing is created');
SELECT is(plan('two', t0() + interval '100 s'), 'backoff 1', 'the one still building is not withheld');
-- the settings
SET prebuild.backoff_interval = '10 s';
SELECT is(pg_temp.backoff('two', t0() + interval '100 s'), '3 failed until 12:02:00', 'a shorter interval');
SET prebuild.backoff_interval = 0;
SELECT is(plan('two', t0() + interval '100 s'), 'create 1', 'an interval of 0 is no backoff after the moment itself');
RESET prebuild.backoff_interval;
SET prebuild.backoff_max = '100 s';
SELECT is(pg_temp.backoff('two', t0() + interval '100 s'), '3 failed until 12:03:10', 'capped');
SET prebuild.backoff_max = '10 min';
SELECT is(pg_temp.backoff('two', t0() + interval '100 s'), '3 failed until 12:04:30', 'a cap above it');
RESET prebuild.backoff_max;
SET prebuild.backoff_lookback = '100 s';
SELECT is(pg_temp.backoff('two', t0() + interval '100 s'), '1 failed until 12:02:30', 'only what failed within the lookback counts');
RESET prebuild.backoff_lookback;
SELECT is(pg_temp.backoff('two', t0() + interval '2 hours'), '0 failed until never', 'all is forgotten later');

-- only the newest N count, N being what is wanted at the time
DO $$ BEGIN
	PERFORM control_plane('cp_backoff');
	PERFORM simple('newest', 1, 0);
	PERFORM prebuild('newest', 'n-1', status => 'failed', created => t0() - interval '40 s');
	PERFORM prebuild('newest', 'n-2', status => 'canceled', created => t0() - interval '30 s');
END $$;
SELECT is(pg_temp.backoff('newest', t0()), '1 failed until never', 'a newer build that did not fail ends it');
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = 2; END $$;
SELECT is(pg_temp.backoff('newest', t0()), '1 failed until 12:00:20', 'with two wanted the failed one is among the newest two');
DO $$ BEGIN
	UPDATE template_version_presets SET desired_instances = 0;
	PERFORM prebuild('newest', 'n-3', status => 'failed', created => t0() - interval '20 s');
END $$;
SELECT is(pg_temp.backoff('newest', t0()), '2 failed until 12:01:40', 'with none wanted the newest one counts');
SELECT is(plan('newest'), 'backoff 0', 'the plan says so, although nothing is withheld');
DO $$ BEGIN
	UPDATE template_version_presets SET desired_instances = 1, scheduling_timezone = 'UTC';
	PERFORM schedule('newest', '* 12 * * *', 3);
	PERFORM prebuild('newest', 'n-4', status => 'succeeded', created => t0() - interval '10 s');
END $$;
SELECT is(plan('newest'), 'backoff 2', 'the schedule''s number is the one that counts');
SELECT is(plan('newest', t0() - interval '1 hour'), '', 'an hour earlier it is another');

-- what does not count: other versions, other presets, stops, users' builds, claimed workspaces
DO $$ BEGIN
	PERFORM control_plane('cp_backoff');
	PERFORM simple('clean', 1);
	PERFORM preset('clean-v1', 'neighbour', 1);
	PERFORM version('clean', 'clean-v0', active => false);
	PERFORM preset('clean-v0', 'older', 1);
	PERFORM prebuild('neighbour', 'c-1', status => 'failed', created => t0() - interval '10 s');
	PERFORM prebuild('older', 'c-2', status => 'failed', created => t0() - interval '10 s');
	PERFORM prebuild('clean', 'c-3', created => t0() - interval '20 s');
	PERFORM build('c-3', 'stop', 'failed', 'clean', created => t0() - interval '10 s');
	PERFORM prebuild('clean', 'c-4', status => 'failed', created => t0() - interval '10 s', owner => usr('ann'));
	PERFORM prebuild('clean', 'c-5', status => 'failed', created => t0() - interval '10 s');
	UPDATE workspaces SET deleted = true WHERE name = 'c-5';
	-- failed once, but not in its latest build
	PERFORM prebuild('clean', 'c-6', status => 'failed', created => t0() - interval '20 s');
	PERFORM build('c-6', 'delete', 'failed', 'clean', created => t0() - interval '10 s');
END $$;
SELECT is(pg_temp.backoff('clean', t0()), '0 failed until never', 'other builds'' failures do not count');
SELECT is(plan('clean'), 'create 1', 'nothing is withheld');
SELECT is(plan('neighbour'), 'backoff 1', 'but the neighbour waits');
SELECT is(plan('older'), '', 'an inactive preset has no backoff');
SELECT is(pass(n => 8), 'created 1', 'one waits, the other does not');

-- deletions go on meanwhile
DO $$ BEGIN
	PERFORM control_plane('cp_backoff');
	PERFORM simple('busy', 2, 3600);
	PERFORM prebuild('busy', 'b-old', created => t0() - interval '2 hours');
	PERFORM prebuild('busy', 'b-bad', status => 'failed', created => t0() - interval '10 s');
END $$;
SELECT is(plan('busy'), 'delete 1; backoff 2', 'deleted, but not replaced');
SELECT is(pass(n => 8), 'deleted 1', 'in the pass too');
SELECT is(shape('b-bad'), '1 start failed', 'what failed is kept');

-- extreme ages do not overflow
SET prebuild.backoff_interval = 1073741823;
DO $$ BEGIN UPDATE template_version_presets SET invalidate_after_secs = 0; END $$;
SELECT is(pass(n => 1), '', 'the longest interval');
RESET prebuild.backoff_interval;

DROP SCHEMA cp_backoff CASCADE;
