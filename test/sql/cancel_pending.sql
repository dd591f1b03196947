-- Builds of a version that is no longer active and that nobody works on yet are canceled.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_cancel');
	PERFORM template('t');
	PERFORM version('t', 't-v1');
	PERFORM preset('t-v1', 'old', 9);
	PERFORM preset('t-v1', 'unasked', NULL);
	PERFORM simple('other', 1);

	PERFORM prebuild('old', '01-stale', status => 'pending');
	PERFORM prebuild('old', '02-stale', status => 'pending');
	PERFORM prebuild('old', '03-second-build', status => 'failed');
	PERFORM build('03-second-build', 'start', 'pending', 'old');
	PERFORM prebuild('old', '04-running', status => 'running');
	PERFORM prebuild('old', '05-canceling', status => 'canceling');
	PERFORM prebuild('old', '06-canceled', status => 'canceled');
	PERFORM prebuild('old', '07-failed', status => 'failed');
	PERFORM prebuild('old', '08-delete', 'delete', 'pending');
	PERFORM prebuild('old', '09-stop', 'stop', 'pending');
	PERFORM prebuild('old', '10-users-own', status => 'pending', owner => usr('ann'));
	PERFORM prebuild('old', '11-users-build', status => 'pending', initiator => usr('ann'));
	PERFORM prebuild('old', '12-has-worker', status => 'pending');
	UPDATE provisioner_jobs j SET worker_id = gen_random_uuid()
	FROM workspace_builds b WHERE b.job_id = j.id AND b.id = latest('12-has-worker');
	PERFORM prebuild('old', '13-no-preset', status => 'pending');
	UPDATE workspace_builds SET template_version_preset_id = NULL WHERE id = latest('13-no-preset');
	PERFORM prebuild('other', '14-other-template', status => 'pending');
	PERFORM prebuild('old', '15-gone', status => 'pending');
	UPDATE workspaces SET deleted = true WHERE name = '15-gone';
END $$;
SELECT is(plan('old'), 'create 4', 'while the version is active nothing is stale');
SELECT is(pending_stale, 0, 'nor does the state say so') FROM prebuild_state(t0()) WHERE preset_id = p('old');

DO $$ BEGIN
	PERFORM version('t', 't-v2');
	PERFORM preset('t-v2', 'new', 1);
	PERFORM prebuild('new', '16-active', status => 'pending');
	-- something for the cancellation to clean up
	INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
	SELECT gen_random_uuid(), t0(), b.job_id, 'start', 'x', 'x' FROM workspace_builds b WHERE b.id = latest('01-stale');
	PERFORM agent('01-stale', 'created');
	UPDATE workspace_builds SET provisioner_state = '\x01' WHERE id = latest('01-stale');
	UPDATE provisioner_jobs j SET tags = '{"scope": "organization", "owner": "", "cluster": "a"}'
	FROM workspace_builds b WHERE b.job_id = j.id AND b.id = latest('01-stale');
	INSERT INTO workspace_build_parameters VALUES (latest('01-stale'), 'region', 'eu');
END $$;
CREATE TEMP TABLE before AS
SELECT b.id, b.workspace_id, j::text AS job FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id;

SELECT is(pending_stale, 2, 'two are stale') FROM prebuild_state(t0()) WHERE preset_id = p('old');
SELECT is(plan('old'), 'cancel_pending 2', 'and to be canceled');
SELECT ok(a.workspace_ids @> ARRAY[w('01-stale'), w('02-stale')] AND cardinality(a.workspace_ids) = 2, 'these')
FROM prebuild_plan(t0()) a WHERE preset_id = p('old');
SELECT is(r.canceled, 2, 'they are canceled') FROM prebuild_reconcile(t0()) r;
SELECT is(pass(n => 7), '', 'at once');

\echo workspace|latest build|deleted|jobs touched
SELECT x.name, shape(x.name), x.deleted,
	(SELECT count(*) FROM before o JOIN workspace_builds b ON b.id = o.id JOIN provisioner_jobs j ON j.id = b.job_id
		WHERE o.workspace_id = x.id AND j::text <> o.job) AS touched
FROM workspaces x ORDER BY x.name COLLATE "C";

-- the job that was canceled
SELECT is((j.job_status, j.canceled_at, j.completed_at, j.started_at, j.error, j.worker_id)::text,
	('canceled'::text, t0(), t0(), t0(), NULL::text, NULL::uuid)::text, 'the canceled job of ' || x.name)
FROM workspaces x JOIN workspace_builds b ON b.workspace_id = x.id AND b.build_number = 1
JOIN provisioner_jobs j ON j.id = b.job_id
WHERE x.name IN ('01-stale', '02-stale') ORDER BY x.name;
-- the orphan delete build: no daemon lives, so it was completed at once
SELECT is((b.transition, b.build_number, b.provisioner_state, b.template_version_preset_id,
		b.template_version_id, b.initiator_id, b.reason)::text,
	('delete'::text, 2, NULL::bytea, p('old'), v('t-v1'), prebuild_system_user(), 'initiator'::text)::text,
	'the delete build')
FROM workspace_builds b WHERE b.id = latest('01-stale');
SELECT is((j.job_status, j.type, j.provisioner, j.initiator_id, j.tags, j.file_id, j.error)::text,
	('succeeded'::text, 'workspace_build'::text, 'terraform'::text, prebuild_system_user(), old.tags, old.file_id, NULL::text)::text,
	'its job')
FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
JOIN workspace_builds ob ON ob.workspace_id = b.workspace_id AND ob.build_number = 1
JOIN provisioner_jobs old ON old.id = ob.job_id
WHERE b.id = latest('01-stale');
SELECT ok(j.started_at BETWEEN t0() AND t0() + interval '1 ms' AND j.completed_at BETWEEN t0() AND t0() + interval '1 ms'
		AND j.updated_at BETWEEN t0() AND t0() + interval '1 ms', 'completed at the time of the pass')
FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id WHERE b.id = latest('01-stale');
SELECT is((SELECT bool_and(a.deleted) FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
	JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.workspace_id = w('01-stale')), true, 'its agent is deleted');

-- by the build's own version, whatever its preset's is; of a template that is gone every one
DO $$ BEGIN
	PERFORM control_plane('cp_cancel');
	-- a version became active while a pass, or coderd, was creating: a build of the new version that
	-- carries a preset of the old one
	PERFORM simple('promoted', 1);
	PERFORM prebuild('promoted', 'during', status => 'pending');
	PERFORM prebuild('promoted', 'before', status => 'pending');
	PERFORM version('promoted', 'promoted-v2');
	PERFORM preset('promoted-v2', 'promoted2', 1);
	UPDATE workspace_builds SET template_version_id = v('promoted-v2') WHERE id = latest('during');
	-- the other way round
	PERFORM prebuild('promoted2', 'older', status => 'pending');
	UPDATE workspace_builds SET template_version_id = v('promoted-v1') WHERE id = latest('older');
	PERFORM simple('gone', 2);
	PERFORM prebuild('gone', 'gone-pending', status => 'pending');
	PERFORM prebuild('gone', 'gone-building', status => 'running');
	PERFORM prebuild('gone', 'gone-runs');
	PERFORM simple('deprecated', 2);
	PERFORM prebuild('deprecated', 'deprecated-pending', status => 'pending');
	PERFORM prebuild('deprecated', 'deprecated-second', status => 'failed');
	PERFORM build('deprecated-second', 'start', 'pending', 'deprecated');
	PERFORM version('deprecated', 'deprecated-v0', active => false);
	PERFORM preset('deprecated-v0', 'deprecated0', 1);
	PERFORM prebuild('deprecated0', 'deprecated-older', status => 'pending');
	UPDATE templates SET deleted = true WHERE name = 'gone';
	UPDATE templates SET deprecated = 'use another' WHERE name = 'deprecated';
END $$;
\echo preset|active|desired|actual|starting|stale
SELECT preset_name, active, desired, actual, starting, pending_stale
FROM prebuild_state(t0()) ORDER BY preset_name COLLATE "C";
\echo preset|action|count|reason
SELECT s.preset_name, a.action, a.count, a.reason FROM prebuild_plan(t0()) WITH ORDINALITY
	a (preset_id, template_id, action, count, workspace_ids, backoff_until, reason, template_name, preset_name, n)
JOIN prebuild_state(t0()) s ON s.preset_id = a.preset_id ORDER BY s.preset_name COLLATE "C", a.n;
SELECT is(pass(), 'created 1, deleted 1, canceled 4', 'the pass');
SELECT is(pass(n => 7), '', 'at once');
\echo workspace|latest build|deleted
SELECT x.name, shape(x.name), x.deleted FROM workspaces x WHERE x.name NOT LIKE 'prebuild-%' ORDER BY x.name COLLATE "C";
-- what became active during its create is built, and goes with its preset's version then
DO $$ BEGIN PERFORM finish_jobs(t0(), preset_name => 'promoted'); END $$;
SELECT is(plan('promoted'), 'delete 1', 'once it is built it goes with its preset');

-- which daemons could run the delete: then the job waits for one
CREATE TEMP TABLE daemon (name text, waits boolean, job_tags jsonb DEFAULT '{"scope": "organization", "owner": ""}',
	daemon_tags jsonb DEFAULT '{"scope": "organization", "owner": ""}', seen interval DEFAULT '10 s',
	provisioners text DEFAULT '{terraform}', same_org boolean DEFAULT true);
INSERT INTO daemon (name, waits) VALUES ('same tags', true);
INSERT INTO daemon (name, waits, same_org) VALUES ('another organization', false, false);
INSERT INTO daemon (name, waits, provisioners) VALUES ('another provisioner', false, '{echo}'), ('both provisioners', true, '{echo,terraform}');
INSERT INTO daemon (name, waits, seen) VALUES ('seen 89 s ago', true, '89 s'), ('seen 91 s ago', false, '91 s'), ('never seen', false, NULL);
INSERT INTO daemon (name, waits, daemon_tags) VALUES
	('untagged job, tagged daemon', false, '{"scope": "organization", "owner": "", "cluster": "a"}'),
	('untagged job, daemon of a user', false, '{"scope": "user", "owner": "me"}');
INSERT INTO daemon (name, waits, job_tags, daemon_tags)
SELECT x, y, '{"scope": "organization", "owner": "", "cluster": "a"}', z::jsonb FROM (VALUES
	('tagged job, same tags', true, '{"scope": "organization", "owner": "", "cluster": "a"}'),
	('tagged job, more tags', true, '{"scope": "organization", "owner": "", "cluster": "a", "size": "big"}'),
	('tagged job, another value', false, '{"scope": "organization", "owner": "", "cluster": "b"}'),
	('tagged job, untagged daemon', false, '{"scope": "organization", "owner": ""}')) AS more (x, y, z);
-- an odd job that has only a part of the untagged set is a tagged one
INSERT INTO daemon (name, waits, job_tags, daemon_tags) VALUES
	('job without an owner tag', true, '{"scope": "organization"}', '{"scope": "organization", "owner": "", "cluster": "a"}');
DO $$
DECLARE
	d daemon;
BEGIN
	PERFORM control_plane('cp_cancel');
	FOR d IN SELECT * FROM daemon LOOP
		PERFORM simple(d.name, 1, org => d.name);
		PERFORM prebuild(d.name, d.name, status => 'pending', job_tags => d.job_tags);
		PERFORM version(d.name, d.name || '-v2');
		PERFORM daemon(d.name, CASE WHEN d.same_org THEN d.name ELSE 'elsewhere' END, d.provisioners,
			d.daemon_tags, t0() - d.seen);
	END LOOP;
END $$;
SELECT is(r.canceled, (SELECT count(*)::int FROM daemon), 'all are canceled') FROM prebuild_reconcile(t0()) r;
SELECT is(shape(d.name) || CASE WHEN x.deleted THEN ', gone' ELSE '' END,
	CASE WHEN d.waits THEN '2 delete pending' ELSE '2 delete succeeded, gone' END, d.name)
FROM daemon d JOIN workspaces x ON x.name = d.name ORDER BY d.name COLLATE "C";
SELECT is(pass(t0() + interval '1 minute', 7), '', 'once');

DROP SCHEMA cp_cancel CASCADE;
