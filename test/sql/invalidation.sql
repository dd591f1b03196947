-- Invalidated prebuilds: they are given away no more, go, and are replaced.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_invalidation'); END $$;

DO $$ BEGIN
	PERFORM fleets('inv', 0);
	UPDATE template_version_presets SET last_invalidated_at = t0() - interval '1 hour';
END $$;
\i test/fixture/fleets.sql

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
