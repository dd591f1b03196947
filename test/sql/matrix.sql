-- Eight passes over one prebuild in every state: transition, job status, version active or not,
-- template deleted or not. A failed start comes in three ages: inside its backoff, after the
-- backoff but within the lookback, and older than the lookback.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_matrix'); END $$;
CREATE TEMP TABLE cell AS
SELECT row_number() OVER () AS n, format('m%s', row_number() OVER ()) AS name, c.*
FROM (SELECT transition, status, age, version_active, template_deleted
	FROM unnest(ARRAY['start', 'stop', 'delete']) WITH ORDINALITY transition (transition, x)
	CROSS JOIN unnest(ARRAY['pending', 'running', 'succeeded', 'canceling', 'canceled', 'failed'])
		WITH ORDINALITY status (status, y)
	CROSS JOIN unnest(ARRAY[true, false]) version_active
	CROSS JOIN unnest(ARRAY[false, true]) template_deleted
	CROSS JOIN LATERAL unnest(CASE WHEN status = 'failed'
		THEN ARRAY['30s', '30min', '2h'] ELSE ARRAY['30min'] END) WITH ORDINALITY age (age, z)
	ORDER BY x, y, z, version_active DESC, template_deleted) c;

DO $$
DECLARE
	c cell;
BEGIN
	FOR c IN SELECT * FROM cell ORDER BY n LOOP
		PERFORM simple(c.name, 1);
		IF c.transition = 'start' THEN
			PERFORM prebuild(c.name, c.name, 'start', c.status, t0() - c.age::interval);
		ELSE
			PERFORM prebuild(c.name, c.name, created => t0() - interval '2 hours');
			PERFORM build(c.name, c.transition, c.status, c.name, t0() - c.age::interval);
		END IF;
		IF NOT c.version_active THEN
			PERFORM version(c.name, c.name || '-v2');
		END IF;
		UPDATE templates SET deleted = c.template_deleted WHERE name = c.name;
	END LOOP;
END $$;
CREATE TEMP TABLE build_before AS
SELECT b.*, j::text AS job FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id;
CREATE TEMP TABLE workspace_before AS SELECT x.id, x::text AS whole FROM workspaces x;

CREATE TEMP TABLE done AS SELECT r.* FROM generate_series(1, 8), prebuild_reconcile(t0()) r WITH NO DATA;
DO $$ BEGIN
	FOR i IN 1..8 LOOP
		INSERT INTO done SELECT * FROM prebuild_reconcile(t0());
	END LOOP;
END $$;

CREATE TEMP TABLE outcome AS
SELECT c.*,
	(SELECT count(*) FROM workspaces x
		WHERE x.template_id = t(c.name) AND x.name <> c.name) AS created,
	(SELECT count(*) FROM workspace_builds b
		WHERE b.workspace_id = w(c.name) AND b.transition = 'delete'
			AND b.id NOT IN (SELECT id FROM build_before)) AS delete_builds,
	(SELECT count(*) FROM build_before old JOIN provisioner_jobs j ON j.id = old.job_id
		WHERE old.workspace_id = w(c.name) AND j::text <> old.job) AS jobs_changed,
	(SELECT j.job_status::text FROM build_before old JOIN provisioner_jobs j ON j.id = old.job_id
		WHERE old.workspace_id = w(c.name) ORDER BY old.build_number DESC LIMIT 1) AS status_after,
	(SELECT x::text <> old.whole FROM workspaces x JOIN workspace_before old ON old.id = x.id
		WHERE x.id = w(c.name)) AS workspace_changed,
	(SELECT count(*) FROM prebuild_plan(t0()) a WHERE a.preset_id = p(c.name) AND action = 'backoff') AS backoff
FROM cell c;

\echo transition|status|age|version active|template deleted|created|deletes|status after|backoff
SELECT transition, status, age, version_active, template_deleted, created, delete_builds, status_after,
	backoff
FROM outcome ORDER BY n;

-- the same, as rules
SELECT ok(bool_and(created = 0), 'nothing is created for inactive versions and deleted templates')
FROM outcome WHERE NOT version_active OR template_deleted;
SELECT ok(bool_and(created = 0), 'nothing is created when one runs, is queued or is building')
FROM outcome WHERE transition = 'start' AND status IN ('pending', 'running', 'succeeded');
SELECT ok(bool_and(created = 1), 'one is created when the only one is a stop or a delete in any state')
FROM outcome WHERE transition <> 'start' AND version_active AND NOT template_deleted;
SELECT ok(bool_and(created = 1), 'a canceled or canceling start is neither running nor starting')
FROM outcome WHERE transition = 'start' AND status IN ('canceled', 'canceling')
	AND version_active AND NOT template_deleted;
SELECT ok(bool_and(created = (age <> '30s')::int AND backoff = (age = '30s')::int),
	'a failed start holds back the next one as long as its backoff lasts')
FROM outcome WHERE transition = 'start' AND status = 'failed' AND version_active AND NOT template_deleted;
SELECT ok(bool_and(backoff = 0), 'nothing else backs off')
FROM outcome
WHERE NOT (transition = 'start' AND status = 'failed' AND version_active AND NOT template_deleted);
SELECT ok(bool_and(delete_builds = 1), 'what runs is deleted with its version or template')
FROM outcome WHERE transition = 'start' AND status = 'succeeded' AND (NOT version_active OR template_deleted);
SELECT ok(bool_and(delete_builds = 1 AND status_after = 'canceled'),
	'stale pending first builds are canceled and their workspaces deleted')
FROM outcome WHERE transition = 'start' AND status = 'pending' AND (NOT version_active OR template_deleted);
SELECT ok(bool_and(delete_builds = 0 AND jobs_changed = 0 AND NOT workspace_changed),
	'nothing else is touched')
FROM outcome
WHERE NOT (transition = 'start' AND status = 'succeeded' AND (NOT version_active OR template_deleted))
	AND NOT (transition = 'start' AND status = 'pending' AND (NOT version_active OR template_deleted));

-- what the passes said
SELECT is((SELECT count(*) FROM done WHERE lock_acquired AND NOT paused AND failed = 0), 8,
	'eight passes ran');
SELECT is(sum(created)::bigint, (SELECT sum(created)::bigint FROM outcome), 'they counted what they created') FROM done;
SELECT is(sum(canceled), 3, 'and canceled') FROM done;
SELECT is(count(*), 1, 'the first pass did it all') FROM done WHERE created + deleted + canceled > 0;

DROP SCHEMA cp_matrix CASCADE;
