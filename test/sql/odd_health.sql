-- Health with odd data: infinite and contradictory times, members without agents, failures of presets that are gone, clocks far away.
-- What a pass does and what a claim gives away agree.
\set ECHO none
\i test/fixture/fixture.sql
SET intervalstyle = postgres;

CREATE FUNCTION fixture.state_of(preset_name text, wanted text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT to_jsonb(s) ->> wanted FROM prebuild_state(at) s WHERE s.preset_id = p(state_of.preset_name)); END $$;
CREATE FUNCTION fixture.reason(preset_name text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN (SELECT string_agg(format('%s %s: %s', action, count, reason), E'\n' ORDER BY position)
		FROM prebuild_plan(at) WITH ORDINALITY x (preset_id, template_id, action, count, workspace_ids, backoff_until, reason,
			template_name, preset, position) WHERE preset_id = p(reason.preset_name));
END
$$;
-- One that runs, with these times of its agent, alone in the pool of its preset; what becomes of it, and whether a claim gets it.
CREATE FUNCTION fixture.odd(name text, first timestamptz, last timestamptz, gone timestamptz, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$
#variable_conflict use_variable
DECLARE
	got text;
BEGIN
	PERFORM simple(name, 1), prebuild(name, name || '-1', created => t0() - interval '4 days');
	UPDATE workspace_agents a SET first_connected_at = first, last_connected_at = last, disconnected_at = gone, name = 'main'
	FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id WHERE a.resource_id = r.id AND b.id = latest(name || '-1');
	got := format('%s: %s eligible, %s sick, plan "%s"', name, state_of(name, 'eligible', at), state_of(name, 'sick', at), plan(name, at));
	RETURN got || ', ' || coalesce('claimed ' || claim(name, 'ann', name || '-claimed', at), 'not claimed');
END
$$;
DO $$ BEGIN PERFORM control_plane('cp_odd'); END $$;
SET prebuild.disconnected_grace = '5min';
SELECT odd('never', NULL, NULL, NULL);
SELECT odd('only-last', NULL, t0() - interval '3 days', t0() - interval '3 days');
SELECT odd('only-first', t0() - interval '3 days', NULL, NULL);
SELECT odd('came-back', t0() - interval '4 days', t0() - interval '1 minute', t0() - interval '3 days');
SELECT odd('left-now', t0() - interval '4 days', t0() - interval '3 days', t0() - interval '1 minute');
SELECT odd('just-not', t0() - interval '4 days', t0() - interval '5 minutes', NULL);
SELECT odd('just', t0() - interval '4 days', t0() - interval '5 minutes 0.000001 s', NULL);
SELECT odd('first-to-come', t0() + interval '1 day', t0() - interval '3 days', NULL);
SELECT odd('last-to-come', t0() - interval '3 days', t0() + interval '1 day', NULL);
SELECT odd('for-ever', '-infinity', 'infinity', NULL);
SELECT odd('since-ever', '-infinity', '-infinity', '-infinity');
SELECT odd('since-ever-first', '-infinity', NULL, NULL);
SELECT odd('old', '1970-01-01', '1970-01-01', NULL);
SELECT odd('far-future', '1970-01-01', '1970-01-01', NULL, '294000-01-01 00:00Z');
SELECT odd('far-past', t0(), t0(), NULL, '4713-01-02 00:00Z BC');
SET prebuild.disconnected_grace = '1073741823s';
SELECT odd('longest-grace', '1970-01-01', '1970-01-01', NULL);
SELECT odd('longest-grace-ever', '-infinity', '-infinity', NULL);
SELECT odd('longest-grace-past', '-infinity', '-infinity', NULL, '4713-01-02 00:00Z BC');
SET prebuild.disconnected_grace = '5min';
SELECT regexp_replace(reason('since-ever'), E'\n.*', '');
SELECT regexp_replace(reason('old'), E'\n.*', '');

-- builds whose jobs ended at odd times, and none with agents
DO $$
DECLARE
	name text;
BEGIN
	PERFORM control_plane('cp_odd');
	FOREACH name IN ARRAY '{ever,never,before,none}'::text[] LOOP
		PERFORM simple(name, 1);
		PERFORM prebuild(name, name || '-1', created => t0() - interval '4 days', ready => CASE WHEN name <> 'none' THEN false END);
	END LOOP;
	UPDATE workspace_agents SET name = 'main';
	UPDATE provisioner_jobs j SET completed_at = CASE b.id WHEN latest('ever-1') THEN '-infinity' WHEN latest('never-1') THEN 'infinity'
		WHEN latest('before-1') THEN '1970-01-01' ELSE completed_at END::timestamptz FROM workspace_builds b WHERE b.job_id = j.id;
END $$;
SET prebuild.unready_grace = '10min';
SELECT reason(x) FROM unnest('{ever,never,before,none}'::text[]) x;
SELECT reason('before', '294000-01-01 00:00Z');
SELECT reason('none', '4713-01-02 00:00Z BC');
SELECT is(pass(), 'created 3, deleted 3', 'three are replaced');
SELECT is((SELECT count(*)::int FROM prebuild_failure), 3, 'and remembered');
SELECT is(pass(), '', 'once');

-- what failures left, at odd times
DO $$
BEGIN
	PERFORM control_plane('cp_odd');
	DELETE FROM prebuild_failure;
	PERFORM simple('left', 0);
	PERFORM prebuild('left', 'left-' || n, status => 'failed', created => x) FROM unnest('{-infinity,infinity,1970-01-01}'::timestamptz[]) WITH ORDINALITY u (x, n);
	PERFORM simple('limit', 1);
	PERFORM prebuild('limit', 'limit-' || n, status => 'failed', created => x) FROM unnest('{-infinity,infinity,1970-01-01}'::timestamptz[]) WITH ORDINALITY u (x, n);
END $$;
SET prebuild.failed_retention = '1h';
SET prebuild.failed_keep = 0;
SET prebuild.hard_limit_retry = '30min';
SELECT reason('left');
SELECT reason('left', '294000-01-01 00:00Z');
SELECT reason('left', '4713-01-02 00:00Z BC');
SELECT reason('limit');
SELECT is(pass(), 'deleted 4', 'those of the past go');
SELECT is(pass(), '', 'and that is all');
RESET prebuild.failed_retention;
RESET prebuild.failed_keep;
RESET prebuild.hard_limit_retry;

-- a memory of failures that says odd things
DO $$
BEGIN
	PERFORM control_plane('cp_odd');
	DELETE FROM prebuild_failure;
	DELETE FROM prebuild_forgiven;
	PERFORM simple('memory', 1), simple('forgiven', 1);
	INSERT INTO prebuild_failure SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'failed', x, c
	FROM unnest('{-infinity,infinity,2025-06-02}'::timestamptz[]) x, unnest('{cp_odd,cp_gone}'::text[]) c;
	INSERT INTO prebuild_failure SELECT gen_random_uuid(), p('memory'), gen_random_uuid(), k, '-infinity', 'cp_odd' FROM unnest('{failed,sick,other,undeleted}'::text[]) k;
	INSERT INTO prebuild_failure SELECT gen_random_uuid(), p('forgiven'), gen_random_uuid(), 'failed', t0(), 'cp_odd' FROM generate_series(1, 9) k;
	INSERT INTO prebuild_forgiven VALUES (p('forgiven'), 'infinity', 'cp_odd'), (gen_random_uuid(), 'infinity', 'cp_odd'), (gen_random_uuid(), 'infinity', 'cp_gone');
END $$;
SELECT reason('memory');
SELECT reason('forgiven');
SELECT is(pass(), 'created 1', 'what is forgiven for ever does not count');
SELECT is((SELECT string_agg(DISTINCT f.control_plane || ' ' || (f.preset_id = p('memory'))::text, ', ') FROM prebuild_failure f), 'cp_odd true',
	'failures of presets and control planes that are gone are forgotten');
SELECT is((SELECT string_agg(control_plane, ', ') FROM prebuild_forgiven g), 'cp_odd', 'so is what was forgiven');
SELECT is(prebuild_retry(p('memory'), t0()), t0(), 'a retry');
SELECT is(pass(), 'created 1', 'counts all the same');
DELETE FROM prebuild_failure;
DELETE FROM prebuild_forgiven;
SELECT is((SELECT count(*)::int FROM prebuild_verify()), 0, 'the kept pool is right');
DROP SCHEMA cp_odd CASCADE;
