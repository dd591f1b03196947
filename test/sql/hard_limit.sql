-- Presets whose builds fail in a row are given up: marked once, not built, still cleaned up.
\set ECHO none
\i test/fixture/fixture.sql

-- one failure, long enough ago for the backoff to be over
DO $$ BEGIN
	PERFORM control_plane('cp_hard');
	PERFORM simple('a', 1);
	PERFORM prebuild('a', 'a-1', status => 'failed', created => t0() - interval '2 hours');
END $$;
SET prebuild.failure_hard_limit = 1;
SELECT is(plan('a'), 'hard_limited 1', 'a limit of 1 is reached: one is withheld');
SELECT is((hard_limited, prebuild_status)::text, '(t,healthy)', 'the state says so') FROM prebuild_state(t0());
SELECT is(status('a'), 'healthy', 'looking marks nothing');
SELECT is(pass(n => 8), '', 'eight passes create nothing');
SELECT is(status('a'), 'hard_limited', 'it is marked');
SELECT is(events('a', 'hard_limited'), 1, 'once');
SELECT is(pass(t0() + interval '1 day', 8), '', 'also a day later');
SELECT is(events('a', 'hard_limited'), 1, 'still once');
SELECT is(shape('a-1'), '1 start failed', 'the failed one is kept');

SET prebuild.failure_hard_limit = 2;
SELECT is(plan('a'), 'create 1', 'a limit of 2 is not reached');
SELECT is(pass(n => 8), 'created 1', 'it is tried again');
SELECT is(status('a'), 'healthy', 'and healthy again');
SELECT is(events('a', 'hard_limit_cleared'), 1, 'which is an event');
-- the second failure
DO $$ BEGIN PERFORM finish_jobs(t0() + interval '1 minute', failing => true); END $$;
SELECT is(plan('a', t0() + interval '1 minute'), 'backoff 1', 'a backoff comes before the limit');
SELECT is(pass(t0() + interval '1 minute', 8), '', 'nothing is created');
SELECT is(status('a'), 'hard_limited', 'but the limit is marked at once');
SELECT is(plan('a', t0() + interval '10 minutes'), 'hard_limited 1', 'and shows when the backoff is over');
SELECT is(pass(t0() + interval '10 minutes', 8), '', 'still nothing');
SELECT is(events('a', 'hard_limited'), 2, 'a second event for the second time');

-- no limit
SET prebuild.failure_hard_limit = 0;
SELECT is(pass(t0() + interval '10 minutes', 8), 'created 1', 'without a limit it is tried for ever');
SELECT is(status('a'), 'healthy', 'and healthy');

-- only the newest count, and all of them have to have failed
RESET prebuild.failure_hard_limit;
DO $$ BEGIN
	PERFORM control_plane('cp_hard');
	PERFORM simple('three', 5);
	PERFORM prebuild('three', 't-1', status => 'failed', created => t0() - interval '5 hours');
	PERFORM prebuild('three', 't-2', status => 'failed', created => t0() - interval '4 hours');
END $$;
SELECT ok(NOT hard_limited, 'two failures of the default three') FROM prebuild_state(t0());
DO $$ BEGIN PERFORM prebuild('three', 't-3', status => 'failed', created => t0() - interval '3 hours'); END $$;
SELECT ok(hard_limited, 'three failures') FROM prebuild_state(t0());
DO $$ BEGIN PERFORM prebuild('three', 't-4', status => 'canceled', created => t0() - interval '2 hours'); END $$;
SELECT ok(NOT hard_limited, 'a newer one that did not fail') FROM prebuild_state(t0());
DO $$ BEGIN
	DELETE FROM workspaces WHERE name = 't-4';
	PERFORM prebuild('three', 't-0', created => t0() - interval '6 hours');
END $$;
SELECT ok(hard_limited, 'an older one that did not fail') FROM prebuild_state(t0());

-- marked by somebody else, but nothing failed
DO $$ BEGIN
	PERFORM control_plane('cp_hard');
	PERFORM simple('theirs', 1);
	UPDATE template_version_presets SET prebuild_status = 'hard_limited';
END $$;
SELECT is(plan('theirs'), 'create 1', 'the mark alone withholds nothing');
SELECT is(pass(n => 8), 'created 1', 'it is built');
SELECT is(status('theirs'), 'healthy', 'and healthy');

-- what is outdated goes all the same
DO $$ BEGIN
	PERFORM control_plane('cp_hard');
	PERFORM simple('expiring', 2, 3600);
	PERFORM prebuild('expiring', 'e-1', created => t0() - interval '9 hours');
	PERFORM simple('promoted', 2);
	PERFORM prebuild('promoted', 'p-1', created => t0() - interval '9 hours');
	PERFORM simple('dropped', 2);
	PERFORM prebuild('dropped', 'd-1', created => t0() - interval '9 hours');
	FOR i IN 1..3 LOOP
		PERFORM prebuild('expiring', format('e-bad-%s', i), status => 'failed', created => t0() - interval '2 hours');
		PERFORM prebuild('promoted', format('p-bad-%s', i), status => 'failed', created => t0() - interval '2 hours');
		PERFORM prebuild('dropped', format('d-bad-%s', i), status => 'failed', created => t0() - interval '2 hours');
	END LOOP;
END $$;
SELECT is(plan('expiring'), 'delete 1; hard_limited 2', 'an expired one');
SELECT is(pass(n => 8), 'deleted 1', 'is deleted and not replaced');
SELECT is(string_agg(status(x), ' '), 'hard_limited hard_limited hard_limited', 'all are marked')
FROM unnest('{expiring,promoted,dropped}'::text[]) x;
DO $$ BEGIN
	PERFORM version('promoted', 'promoted-v2');
	UPDATE templates SET deleted = true WHERE name = 'dropped';
END $$;
SELECT is(pass(n => 8), 'deleted 2', 'so are those of a new version and of a deleted template');
SELECT is(members('promoted', 'start', 'failed') + members('dropped', 'start', 'failed'), 6, 'failed ones are kept');

-- two control planes with the same ids, as a copy has them: neither knows of the other's failures
CREATE FUNCTION fixture.failing() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM template('twin'), version('twin', 'twin-v1');
	PERFORM preset('twin-v1', 'twin', 1, new_id => '00000000-0000-0000-0000-000000000001');
	PERFORM prebuild('twin', 'twin-' || n, status => 'failed', created => t0() - n * interval '2 hours') FROM generate_series(1, 3) n;
END
$$;
DO $$ BEGIN
	PERFORM control_plane('cp_hard'), failing();
	PERFORM prebuild_retry(p('twin'), t0());
	PERFORM control_plane('cp_hard_copy'), failing();
END $$;
SELECT ok(hard_limited, 'a retry here') FROM prebuild_state(t0());
DO $$ BEGIN PERFORM prebuild_retry(p('twin'), t0() - interval '5 hours'); END $$;
SELECT ok(hard_limited = false, 'is none there') FROM prebuild_state(t0());
SELECT is(string_agg(concat_ws(' ', control_plane, extract(epoch FROM t0() - until)::int), ', ' ORDER BY control_plane), 'cp_hard 0, cp_hard_copy 18000', 'each has its own')
FROM prebuild_forgiven WHERE preset_id = p('twin');
DO $$ BEGIN
	DELETE FROM workspaces;
	INSERT INTO prebuild_failure SELECT gen_random_uuid(), p('twin'), gen_random_uuid(), 'failed', t0() - n * interval '1 hour', 'cp_hard' FROM generate_series(2, 4) n;
END $$;
SELECT ok(NOT hard_limited, 'nor is what one remembers of the other') FROM prebuild_state(t0());
SELECT is((SELECT count(*)::int FROM prebuild_failure WHERE control_plane = 'cp_hard'), 3, 'it is there');
DROP SCHEMA cp_hard, cp_hard_copy CASCADE;
