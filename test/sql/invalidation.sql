-- Invalidated prebuilds: they are given away no more, go, and are replaced.
\set ECHO none
\i test/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_invalidation'); END $$;

-- A preset that wants some, has some running, of which some are expired; the expired ones are the
-- oldest. All were made at different times.
CREATE FUNCTION pg_temp.fleet(name text, running int, wanted int, expired int)
RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM simple(name, wanted);
	UPDATE template_version_presets x SET last_invalidated_at = t0() - interval '1 hour'
	WHERE x.name = fleet.name;
	FOR i IN 1..running LOOP
		PERFORM prebuild(name, format('%s-%s', name, i), created => t0()
			- CASE WHEN i <= expired THEN interval '2 hours' ELSE interval '30 minutes' END
			+ i * interval '1 minute');
	END LOOP;
END
$$;
DO $$ BEGIN
	PERFORM pg_temp.fleet(format('inv-%s%s%s', c[1], c[2], c[3]), c[1]::int, c[2]::int, c[3]::int)
	FROM unnest('{220,221,222,422,421}'::text[]) case_name
	CROSS JOIN regexp_split_to_array(case_name, '') c;
END $$;

\echo preset|plan|actual|expired|eligible|extraneous
SELECT s.preset_name, plan(s.preset_name), s.actual, s.expired, s.eligible, s.extraneous
FROM prebuild_state(t0()) s ORDER BY s.preset_name COLLATE "C";
SELECT is(pass(n => 8), 'created 3, deleted 7', 'what the passes do');
\echo preset|created|deleted
SELECT x.name, (SELECT count(*) FROM workspace_builds b WHERE b.template_version_preset_id = x.id
		AND b.build_number = 1 AND b.created_at >= t0()),
	(SELECT string_agg(right(y.name, 1), ' ' ORDER BY y.name) FROM workspaces y WHERE y.template_id = t(x.name)
		AND shape(y.name) = '2 delete pending')
FROM template_version_presets x ORDER BY x.name COLLATE "C";

-- to the microsecond
DO $$ BEGIN
	PERFORM control_plane('cp_invalidation');
	PERFORM simple('edge', 1);
	PERFORM prebuild('edge', 'edge-1', created => t0() - interval '1 hour');
END $$;
-- made at the moment of the invalidation is not before it
DO $$ BEGIN
	UPDATE template_version_presets SET last_invalidated_at = t0() - interval '1 hour';
END $$;
SELECT is(plan('edge'), '', 'made at the moment of the invalidation');
DO $$ BEGIN UPDATE template_version_presets SET last_invalidated_at = last_invalidated_at + interval '1 microsecond'; END $$;
SELECT is(plan('edge'), 'delete 1; create 1', 'and a microsecond before it');
SELECT is((actual, expired, eligible)::text, '(1,1,0)', 'an expired one counts as actual, not as eligible')
FROM prebuild_state(t0());
-- no invalidation
DO $$ BEGIN UPDATE template_version_presets SET last_invalidated_at = NULL; END $$;
SELECT is(plan('edge', t0() + interval '10 years'), '', 'without one nothing expires');

-- claims
DO $$ BEGIN
	PERFORM simple('invalidated', 1), simple('just_invalidated', 1);
	PERFORM prebuild('invalidated', 'n1');
	UPDATE template_version_presets x SET last_invalidated_at = t0() - interval '59 min'
	WHERE x.name = 'invalidated';
	PERFORM prebuild('just_invalidated', 'n2');
	UPDATE template_version_presets x SET last_invalidated_at = t0() - interval '1 hour'
	WHERE x.name = 'just_invalidated';
END $$;
SELECT is(claim('invalidated', 'ada', 'got-n1'), NULL, 'an invalidated one is not given away');
SELECT is(claim('just_invalidated', 'ada', 'got-n2'), 'n2', 'one made at that moment is');

-- prebuild_invalidate()
DO $$ BEGIN
	PERFORM simple('stale', 1);
	PERFORM prebuild('stale', 'stale-1');
END $$;
BEGIN;
SELECT is(prebuild_invalidate(p('stale')), now(), 'invalidation returns its time');
SELECT is((SELECT last_invalidated_at FROM template_version_presets WHERE name = 'stale'), now(),
	'which is stored');
COMMIT;
SELECT is(claim('stale', 'ada', 'stale-mine'), NULL, 'what was there before is not given away');
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is(shape('stale-1'), '2 delete pending', 'and the next pass deletes it');
SELECT is((SELECT count(*) FROM workspace_builds WHERE template_version_preset_id = p('stale')
	AND build_number = 1), 2, 'and makes another');
SELECT raises('SELECT prebuild_invalidate(NULL)', '22004', '"preset_id" must not be null', NULL,
	'invalidating no preset');
SELECT raises($$SELECT prebuild_invalidate('00000000-0000-0000-0000-00000000abcd')$$, '22023',
	'preset 00000000-0000-0000-0000-00000000abcd does not exist', NULL, 'invalidating an unknown one');
BEGIN READ ONLY;
SELECT raises($$SELECT prebuild_invalidate(p('stale'))$$, '25006', 'read-only transaction', NULL,
	'invalidating in a read-only transaction');
COMMIT;
DROP SCHEMA cp_invalidation CASCADE;
