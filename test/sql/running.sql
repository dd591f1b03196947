-- prebuild_running() and prebuild_pool(): who is a member, who runs, which preset, ready or not.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_running');
	PERFORM simple('a', 1);
	PERFORM preset('a-v1', 'other', 1);
END $$;
SELECT is((SELECT count(*) FROM prebuild_running()), 0, 'nothing runs in an empty control plane');
SELECT is((SELECT count(*) FROM prebuild_pool()), 0, 'and the pool is empty');

DO $$ BEGIN
	PERFORM prebuild('a', 'running');
	PERFORM prebuild('a', 'stopped');
	PERFORM build('stopped', 'stop', 'succeeded', 'a');
	PERFORM prebuild('a', 'failed', status => 'failed');
	PERFORM prebuild('a', 'canceled', status => 'canceled');
	PERFORM prebuild('a', 'deleted');
	PERFORM build('deleted', 'delete', 'succeeded', 'a');
	UPDATE workspaces SET deleted = true WHERE name = 'deleted';
	PERFORM prebuild('a', 'users-own', owner => usr('ann'));
END $$;
SELECT is((SELECT string_agg(name, ' ') FROM prebuild_running()), 'running',
	'of one prebuild in each state and a user''s workspace only the running one is returned');
SELECT is((r.id, r.name, r.template_id, r.template_version_id, r.current_preset_id, r.ready,
		r.created_at)::text,
	(w('running'), 'running'::text, t('a'), v('a-v1'), p('a'), true, t0() - interval '1 hour')::text,
	'with all its columns')
FROM prebuild_running() r;
SELECT is((SELECT string_agg(name, ' ' ORDER BY name) FROM prebuild_pool()),
	'canceled failed running stopped', 'the pool shows every member, running or not');

-- builds on their way, and later builds
DO $$ BEGIN
	DELETE FROM workspaces;
	PERFORM prebuild('a', 'pending', status => 'pending');
	PERFORM prebuild('a', 'building', status => 'running');
	PERFORM prebuild('a', 'canceling', status => 'canceling');
	PERFORM prebuild('a', 'stopping');
	PERFORM build('stopping', 'stop', 'running', 'a');
	PERFORM prebuild('a', 'waits-for-delete');
	PERFORM build('waits-for-delete', 'delete', 'pending', 'a');
	PERFORM prebuild('a', 'restarting');
	PERFORM build('restarting', 'start', 'running', 'a');
	PERFORM prebuild('a', 'delete-failed');
	PERFORM build('delete-failed', 'delete', 'failed', 'a');
END $$;
SELECT is((SELECT count(*) FROM prebuild_running()), 0, 'the latest build decides');
SELECT is((SELECT count(*) FROM prebuild_pool()), 7, 'all are members');

-- the preset
DO $$ BEGIN
	DELETE FROM workspaces;
	PERFORM prebuild('a', 'first-build-only');
	PERFORM build('first-build-only', 'start');
	PERFORM prebuild('a', 'two-later');
	PERFORM build('two-later', 'stop');
	PERFORM build('two-later', 'start');
	PERFORM prebuild('a', 'changed');
	PERFORM build('changed', 'start', preset_name => 'other');
	PERFORM build('changed', 'start');
	PERFORM prebuild('a', 'stop-carries-another');
	PERFORM build('stop-carries-another', 'stop', preset_name => 'other');
	PERFORM build('stop-carries-another', 'start');
	PERFORM prebuild('a', 'never');
	UPDATE workspace_builds SET template_version_preset_id = NULL WHERE workspace_id = w('never');
	PERFORM prebuild('a', 'newer-version');
	PERFORM version('a', 'a-v2', active => false);
	PERFORM build('newer-version', 'start', version_id => v('a-v2'));
END $$;
SELECT r.name, preset.name, version.name, r.ready
FROM (SELECT r.name, r.current_preset_id, r.template_version_id, r.ready FROM prebuild_running() r) r
	(name, preset_id, version_id, ready)
LEFT JOIN (SELECT id, name FROM template_version_presets) preset (id, name) ON preset.id = r.preset_id
LEFT JOIN (SELECT id, name FROM template_versions) version (id, name) ON version.id = r.version_id
ORDER BY r.name COLLATE "C";
SELECT is((SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") FROM prebuild_running(p('a'))),
	'first-build-only newer-version stop-carries-another two-later', 'filtered by preset');
SELECT is((SELECT string_agg(name, ' ') FROM prebuild_running(p('other'))), 'changed',
	'by another one');
SELECT is((SELECT count(*) FROM prebuild_running(gen_random_uuid())), 0, 'an unknown preset has none');
SELECT is((SELECT count(*) FROM prebuild_running(NULL)), 6, 'NULL is no filter');
SELECT ok(array_agg(id) = array_agg(id ORDER BY id), 'ordered by id')
FROM (SELECT id FROM prebuild_running()) r;
SELECT ok(array_agg(id) = array_agg(id ORDER BY id), 'ordered by id with a filter')
FROM (SELECT id FROM prebuild_running(p('a'))) r;

-- readiness
DO $$ BEGIN
	DELETE FROM workspaces;
	PERFORM prebuild('a', '01-ready');
	PERFORM prebuild('a', '02-starting', ready => false);
	PERFORM prebuild('a', '03-no-agent', ready => NULL);
	PERFORM prebuild('a', '04-only-deleted-agent', ready => NULL);
	PERFORM agent('04-only-deleted-agent', 'ready', deleted => true);
	PERFORM prebuild('a', '05-ready-and-deleted-starting');
	PERFORM agent('05-ready-and-deleted-starting', 'starting', deleted => true);
	PERFORM prebuild('a', '06-ready-with-starting-child', ready => NULL);
	PERFORM agent('06-ready-with-starting-child', 'starting',
		parent => agent('06-ready-with-starting-child', 'ready'));
	PERFORM prebuild('a', '07-one-of-two');
	PERFORM agent('07-one-of-two', 'starting');
	PERFORM prebuild('a', '08-two-of-two');
	PERFORM agent('08-two-of-two', 'ready');
	PERFORM prebuild('a', '09-start-error', ready => NULL);
	PERFORM agent('09-start-error', 'start_error');
	PERFORM prebuild('a', '10-ready-only-in-an-older-build');
	PERFORM build('10-ready-only-in-an-older-build', 'start', ready => NULL);
	PERFORM prebuild('a', '11-starting-in-an-older-build', ready => false);
	PERFORM build('11-starting-in-an-older-build', 'start');
	-- only the child is ready
	PERFORM prebuild('a', '12-ready-child-of-starting', ready => NULL);
	PERFORM agent('12-ready-child-of-starting', 'ready',
		parent => agent('12-ready-child-of-starting', 'starting'));
	-- two resources: each agent counts
	PERFORM prebuild('a', '13-starting-in-a-second-resource');
	INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
	SELECT gen_random_uuid(), t0(), b.job_id, 'start', 'docker_container', 'second'
	FROM workspace_builds b WHERE b.id = latest('13-starting-in-a-second-resource');
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		architecture, operating_system, lifecycle_state)
	SELECT gen_random_uuid(), t0(), t0(), 'two', r.id, gen_random_uuid(), 'amd64', 'linux', 'starting'
	FROM workspace_resources r WHERE r.name = 'second';
END $$;
SELECT name, ready FROM prebuild_running() ORDER BY name COLLATE "C";

-- the pool: the latest build's number, transition and job status
DO $$ BEGIN
	DELETE FROM workspaces;
	PERFORM prebuild('a', 'one');
	PERFORM prebuild('a', 'two');
	PERFORM build('two', 'stop', 'running');
	PERFORM prebuild('a', 'three', status => 'canceling');
	PERFORM prebuild('a', 'claimed', owner => usr('ann'));
END $$;
SELECT is((SELECT count(*) FROM prebuild_pool()), 3, 'claimed workspaces are no members');
SELECT name, build_number, transition, job_status, ready FROM prebuild_pool() ORDER BY name COLLATE "C";

-- another snapshot's members are seen as of that snapshot, also in a read-only transaction
BEGIN READ ONLY;
SELECT is((SELECT count(*) FROM prebuild_running()), 1, 'works in a read-only transaction');
SELECT is((SELECT count(*) FROM prebuild_pool()), 3, 'so does the pool');
COMMIT;

DROP SCHEMA cp_running CASCADE;
