-- Prebuilds that are expired by their age: they go, and are replaced.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_expiry'); END $$;

DO $$ BEGIN PERFORM fleets('age', 3600); END $$;
\i test/fixture/fleets.sql

-- to the second: an age of exactly the limit is not yet over it
DO $$ BEGIN
	PERFORM control_plane('cp_expiry');
	PERFORM simple('edge', 1, 3600);
	PERFORM prebuild('edge', 'edge-1', created => t0() - interval '1 hour');
END $$;
SELECT is(plan('edge', t0()), '', 'an hour old with a limit of an hour');
SELECT is(plan('edge', t0() + interval '1 microsecond'), 'delete 1; create 1', 'and a microsecond more');
SELECT is((actual, expired, eligible)::text, '(1,1,0)', 'an expired one counts as actual, not as eligible')
FROM prebuild_state(t0() + interval '1 microsecond');
-- no limit
DO $$ BEGIN UPDATE template_version_presets SET invalidate_after_secs = NULL; END $$;
SELECT is(plan('edge', t0() + interval '10 years'), '', 'without a limit nothing expires');
DO $$ BEGIN UPDATE template_version_presets SET invalidate_after_secs = 0; END $$;
SELECT is(plan('edge', t0() + interval '10 years'), '', 'a limit of 0 is none');
DO $$ BEGIN UPDATE template_version_presets SET invalidate_after_secs = 2147483647; END $$;
SELECT is(plan('edge', t0() + interval '10 years'), '', 'the longest limit');

-- an inactive preset's expired ones go like the others
DO $$ BEGIN
	UPDATE template_version_presets SET invalidate_after_secs = 60;
	PERFORM prebuild('edge', 'edge-2', created => t0());
	PERFORM version('edge', 'edge-v2');
END $$;
SELECT is(plan('edge'), 'delete 2', 'all of an inactive preset');
SELECT is(pass(n => 8), 'deleted 2', 'are deleted');

-- what is expired but not ready is expired all the same
DO $$ BEGIN
	PERFORM control_plane('cp_expiry');
	PERFORM simple('slow', 2, 3600);
	PERFORM prebuild('slow', 'slow-1', created => t0() - interval '2 hours', ready => false);
	PERFORM prebuild('slow', 'slow-2', created => t0() - interval '1 minute', ready => false);
END $$;
SELECT is((actual, expired, eligible)::text, '(2,1,0)', 'not ready and expired') FROM prebuild_state(t0());
SELECT is(pass(n => 8), 'created 1, deleted 1', 'is replaced');

DROP SCHEMA cp_expiry CASCADE;
