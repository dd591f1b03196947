-- Read by the tests of expired prebuilds: what is to become of the fixture's fleets(), and what does.
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
