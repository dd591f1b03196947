-- The advice on a history as an app server leaves it: prebuilds that were claimed, expired or failed, workspaces
-- without a prebuild, stopped or deleted ones, old versions, two templates with presets of one name, time zones with
-- their summer time. What prebuild_recommend() says is read as Terraform reads it, put into the tables as the app
-- server puts it there, and must then give what was promised.
\set ECHO none
\i test/fixture/fixture.sql
\i test/fixture/past.sql
SET intervalstyle = postgres;
SET timezone = 'UTC';

-- Demands in five minutes of an hour, on average, of each kind of preset.
CREATE FUNCTION fixture.comes(kind text, at timestamptz, zone text) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$
	SELECT CASE kind
		WHEN 'office' THEN 2 * office_rate(at AT TIME ZONE zone)
		WHEN 'sparse' THEN CASE WHEN d < 6 AND h BETWEEN 9 AND 17 THEN 0.03 ELSE 0 END
		WHEN 'promotion' THEN CASE WHEN at > t0() - interval '50 days' AND h = 12 THEN 0.4 ELSE 0.02 END
		WHEN 'holiday' THEN CASE WHEN at BETWEEN t0() - interval '52 days' AND t0() - interval '45 days' THEN 0 ELSE 2 * office_rate(at AT TIME ZONE zone) END
		WHEN 'leaving' THEN CASE WHEN at > t0() - interval '20 days' THEN 0 ELSE office_rate(at AT TIME ZONE zone) END
		WHEN 'growing' THEN 4 * office_rate(at AT TIME ZONE zone) * extract(epoch FROM at - t0() + interval '120 days') / (120 * 86400) END
	FROM (SELECT extract(isodow FROM at AT TIME ZONE zone) AS d, extract(hour FROM at AT TIME ZONE zone) AS h) x
$$;
-- The preset of a name in the version of a template that was active some days before t0().
CREATE FUNCTION fixture.version_of(template_name text, at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT template_name || CASE WHEN at < t0() - interval '70 days' THEN '-v1' WHEN at < t0() - interval '31 days' THEN '-v2' ELSE '-v3' END $$;
CREATE FUNCTION fixture.of_version(version_name text, preset_name text) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT id FROM template_version_presets WHERE template_version_id = v(version_name) AND name = preset_name $$;

-- The history of a preset, of 120 days, in few statements.
CREATE FUNCTION fixture.import(template_name text, preset_name text, zone text) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	series CONSTANT text := template_name || preset_name;
	org CONSTANT uuid := organization('org');
	person CONSTANT uuid := usr('ada');
	prebuilds CONSTANT uuid := prebuild_system_user();
BEGIN
	CREATE TEMPORARY TABLE asked ON COMMIT DROP AS
	SELECT n, at, v(version_of(template_name, at)) AS version, of_version(version_of(template_name, at), preset_name) AS preset,
		gen_random_uuid() AS workspace, gen_random_uuid() AS job, gen_random_uuid() AS later_job, gen_random_uuid() AS resource,
		-- somebody who got one, somebody who got none, one that nobody got, one that failed
		CASE WHEN noise(series || 'how', n) < 0.5 THEN 'warm' WHEN noise(series || 'how', n) < 0.9 THEN 'cold'
			WHEN noise(series || 'how', n) < 0.97 THEN 'expired' ELSE 'failed' END AS how,
		(120 + 240 * noise(series || 'took', n)) * interval '1 second' AS took
	FROM (SELECT n, to_timestamp(n * 300) + noise(series || 'at', n) * interval '5 minutes' AS at
		-- the rate of each hour, once
		FROM (SELECT h, comes(preset_name, h + interval '30 minutes', zone) AS rate
			FROM generate_series(t0() - interval '120 days', t0() - interval '1 hour', interval '1 hour') h OFFSET 0) hour,
			LATERAL generate_series(extract(epoch FROM h)::bigint / 300, extract(epoch FROM h)::bigint / 300 + 11) n
		WHERE noise(series, n) < rate) s;
	CREATE TEMPORARY TABLE job ON COMMIT DROP AS
	SELECT job, at - CASE WHEN how = 'cold' THEN interval '0' ELSE interval '2 hours' END AS created, took, CASE how WHEN 'cold' THEN person ELSE prebuilds END AS by,
		how = 'failed' AS failed FROM asked
	UNION ALL SELECT later_job, at + CASE how WHEN 'warm' THEN interval '0' ELSE interval '9 hours' END, took, CASE how WHEN 'expired' THEN prebuilds ELSE person END, false FROM asked WHERE how <> 'failed';
	INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, error, organization_id, initiator_id,
		provisioner, storage_method, type, input, worker_id, file_id, tags)
	SELECT job, created, created, created + interval '3 seconds', created + took, CASE WHEN failed THEN 'terraform said no' END, org, by,
		'terraform', 'file', 'workspace_build', '{}', gen_random_uuid(), gen_random_uuid(), '{}' FROM job;
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name, deleted)
	SELECT workspace, at, at, CASE how WHEN 'warm' THEN person WHEN 'cold' THEN person ELSE prebuilds END, org, t(template_name), workspace::text,
		how = 'expired' OR (how IN ('warm', 'cold') AND n % 3 = 0) FROM asked;
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number, transition,
		initiator_id, job_id, template_version_preset_id)
	SELECT gen_random_uuid(), created, created, workspace, version, 1, 'start', by, job, preset FROM asked JOIN job USING (job);
	-- the claim, a stop in the evening, the end of what nobody got
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number, transition,
		initiator_id, job_id, template_version_preset_id)
	SELECT gen_random_uuid(), created, created, workspace, version, 2, (CASE how WHEN 'warm' THEN 'start' WHEN 'cold' THEN 'stop' ELSE 'delete' END)::workspace_transition,
		by, j.job, NULL FROM asked JOIN job j ON j.job = later_job;
	INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
	SELECT resource, at, job, 'start', 'docker_container', 'main' FROM asked WHERE how IN ('warm', 'expired');
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token, architecture, operating_system, lifecycle_state, ready_at)
	SELECT gen_random_uuid(), at, at, 'main', resource, gen_random_uuid(), 'amd64', 'linux', 'ready', at - interval '2 hours' + took + interval '25 seconds'
	FROM asked WHERE how IN ('warm', 'expired');
	DROP TABLE asked, job;
END
$$;
CREATE TABLE fixture.presets (template text, preset text, zone text, desired int, ttl int);
INSERT INTO fixture.presets VALUES ('dev', 'office', 'Europe/Berlin', 3, 86400), ('dev', 'sparse', '', 1, 0), ('dev', 'promotion', 'America/New_York', 2, 0),
	('ops', 'office', 'Asia/Kolkata', 2, 43200), ('ops', 'holiday', 'Australia/Lord_Howe', 4, 0), ('ops', 'leaving', '', 2, 0), ('ops', 'growing', 'Europe/Berlin', 0, 0);
DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	PERFORM control_plane('cp_advice');
	PERFORM template(n), version(n, n || '-v1'), version(n, n || '-v2'), version(n, n || '-v3') FROM unnest('{dev,ops}'::text[]) n;
	PERFORM preset(v, p.preset, p.desired, p.ttl, p.zone) FROM fixture.presets p, unnest(ARRAY[p.template || '-v1', p.template || '-v2', p.template || '-v3']) v;
	INSERT INTO template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
	SELECT of_version('ops-v3', 'holiday'), '* 8-17 * * 1-5', 6;
	PERFORM import(template, preset, coalesce(nullif(zone, ''), 'UTC')) FROM fixture.presets;
END $$;

-- no pass has been here, and nothing is attached or written
BEGIN READ ONLY;
SELECT is((SELECT count(*)::int FROM prebuild_recommend(t0())), 7, 'advice for each preset, in a read-only transaction');
COMMIT;
CREATE TABLE fixture.advice AS
SELECT r.*, of_version(r.template_name || '-v3', r.preset_name) AS preset_id, b.demand, b.idle AS configured_idle, b.idle - r.idle_saved AS expected_idle
FROM prebuild_recommend(t0()) r, LATERAL prebuild_backtest(t(r.template_name), r.preset_name, t0() - interval '90 days', t0()) b WHERE b.policy = 'configured';
SELECT is((SELECT count(*)::int FROM fixture.advice WHERE recommended <> configured), 7, 'it is another one than what is configured');
SELECT is((SELECT count(*) >= 3 FROM fixture.advice WHERE recommended ~ 'schedule'), true, 'with schedules');
SELECT is((SELECT recommended FROM fixture.advice WHERE preset_name = 'leaving'), '0', 'where nobody asks any more, nothing');

-- the block as Terraform reads it: nothing else is in it
CREATE FUNCTION fixture.is_block(block text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$
	SELECT block ~ ('^prebuilds \{\n  instances = \d+\n(?:  expiration_policy \{\n    ttl = \d+\n  \}\n)?'
		'(?:  scheduling \{\n    timezone = "[A-Za-z_/]+"\n(?:    schedule \{\n      cron      = "[^"]+"\n      instances = \d+\n    \}\n)+  \}\n)?\}$')
$$;
CREATE FUNCTION fixture.schedules(block text) RETURNS TABLE (cron text, instances int) LANGUAGE sql IMMUTABLE AS
$$ SELECT m[1], m[2]::int FROM regexp_matches(block, 'cron      = "([^"]*)"\n      instances = (\d+)', 'g') m $$;
SELECT is((SELECT string_agg(terraform, ', ') FROM fixture.advice WHERE NOT is_block(terraform)), NULL, 'the blocks are well-formed');
SELECT is((SELECT string_agg(preset_name, ', ') FROM fixture.advice JOIN fixture.presets ON (template, preset) = (template_name, preset_name)
	WHERE coalesce(substring(terraform FROM '\n    ttl = (\d+)')::int, 0) <> ttl), NULL, 'they keep the time to live');
SELECT is((SELECT string_agg(prebuild_schedules_check(crons), ', ') FROM (SELECT ARRAY(SELECT cron FROM schedules(terraform)) AS crons FROM fixture.advice) a), NULL, 'they pass the checks of schedules');
SELECT is((SELECT max(cardinality(ARRAY(SELECT cron FROM schedules(terraform)))) <= 12 FROM fixture.advice), true, 'and have twelve at most');
SELECT is((SELECT string_agg(substring(terraform FROM 'timezone = "([^"]*)"'), ', ') FROM fixture.advice
	WHERE substring(terraform FROM 'timezone = "([^"]*)"') NOT IN (SELECT name FROM pg_timezone_names)), NULL, 'in time zones that there are');

-- an author pastes them, and the app server writes them to a new version
DO $$
DECLARE
	a fixture.advice;
	preset uuid;
BEGIN
	PERFORM version(n, n || '-v4') FROM unnest('{dev,ops}'::text[]) n;
	FOR a IN SELECT * FROM fixture.advice LOOP
		preset := preset(a.template_name || '-v4', a.preset_name, substring(a.terraform FROM '\n  instances = (\d+)')::int,
			coalesce(substring(a.terraform FROM '\n    ttl = (\d+)')::int, 0), coalesce(substring(a.terraform FROM 'timezone = "([^"]*)"'), ''));
		INSERT INTO template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
		SELECT preset, cron, instances FROM schedules(a.terraform);
		UPDATE fixture.advice SET preset_id = preset WHERE template_name = a.template_name AND preset_name = a.preset_name;
	END LOOP;
END
$$;
-- the same range, played with what is configured now
CREATE TABLE fixture.played AS
SELECT a.*, b.hit_rate, b.idle, r.warm, r.demands, r.idle AS replayed_idle FROM fixture.advice a,
	LATERAL prebuild_backtest(t(a.template_name), a.preset_name, t0() - interval '90 days', t0()) b,
	LATERAL (SELECT sum(demand_warm + demand_cold - missed) AS warm, sum(demand_warm + demand_cold) AS demands, sum(idle) AS idle
		FROM prebuild_replay(t(a.template_name), a.preset_name, t0() - interval '90 days', t0(), 'configured') WHERE counted) r
WHERE b.policy = 'configured';
SELECT is((SELECT count(*)::int FROM fixture.played), 7, 'the blocks are played');
SELECT is((SELECT count(*)::int FROM fixture.played WHERE demand >= 10 AND expected_hit_rate IS NOT NULL), 7, 'over some demand');
SELECT is((SELECT string_agg(format('%s/%s: %s instead of %s', template_name, preset_name, hit_rate, expected_hit_rate), ', ') FROM fixture.played
	WHERE abs(hit_rate - expected_hit_rate) > 0.01 OR (hit_rate IS NULL) <> (expected_hit_rate IS NULL)), NULL, 'they serve what was promised, within a point');
SELECT is((SELECT string_agg(format('%s/%s: %s instead of %s', template_name, preset_name, idle, expected_idle), ', ') FROM fixture.played
	WHERE idle NOT BETWEEN 0.9 * expected_idle AND 1.1 * expected_idle), NULL, 'and wait so long, within 10 %');
SELECT is((SELECT string_agg(format('%s/%s: %s of %s, %s', template_name, preset_name, warm, demands, replayed_idle), ', ') FROM fixture.played
	WHERE warm::float8 / demands IS DISTINCT FROM hit_rate OR replayed_idle <> idle), NULL, 'hour by hour, too');
-- section 4's own reader and a pass see in the tables what was simulated, through a change to summer time
SELECT is((SELECT string_agg(DISTINCT format('%s/%s', a.template_name, a.preset_name), ', ') FROM fixture.advice a,
	LATERAL prebuild_replay(t(a.template_name), a.preset_name, t0() - interval '90 days', t0(), 'configured', '30 minutes') r
	WHERE r.starts_at BETWEEN '2025-03-28' AND '2025-04-08' AND prebuild_desired_instances(a.preset_id, r.starts_at) <> r.configured), NULL, 'prebuild_desired_instances() agrees');
SELECT is((SELECT count(DISTINCT s.desired) > 1 FROM fixture.advice a, generate_series(t0(), t0() + interval '1 day', interval '1 hour') at, LATERAL prebuild_state(at) s
	WHERE s.preset_id = a.preset_id), true, 'and so does the state');
SELECT is((SELECT string_agg(DISTINCT format('%s/%s', a.template_name, a.preset_name), ', ') FROM fixture.advice a, generate_series(t0(), t0() + interval '1 day', interval '5 hours') at,
	LATERAL prebuild_state(at) s WHERE s.preset_id = a.preset_id AND s.desired <> prebuild_desired_instances(a.preset_id, at)), NULL, 'at any time');
SELECT is((SELECT failed FROM prebuild_reconcile(t0())), 0, 'a pass');
SELECT is((SELECT string_agg(format('%s/%s', template_name, preset_name), ', ') FROM prebuild_state(t0()) WHERE active AND starting <> desired), NULL, 'builds them');
-- who has taken the advice gets no other: nothing that can be written is better
SELECT is((SELECT string_agg(format('%s/%s: %s', r.template_name, r.preset_name, r.recommended), ', ') FROM prebuild_recommend(t0()) r JOIN fixture.advice a USING (template_name, preset_name)
	WHERE (r.configured_hit_rate, r.idle_saved) IS DISTINCT FROM (a.expected_hit_rate, interval '0') OR r.recommended <> r.configured OR r.configured <> a.recommended), NULL, 'the advice is at its end');
DROP SCHEMA cp_advice CASCADE;
