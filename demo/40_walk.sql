-- The walk through a day of the fleet. Passes and the stand-in provisioner are called directly, so

\set QUIET on
\pset footer off
\pset linestyle unicode
\pset border 1
\pset pager off
\t off
SET search_path = public;
SET client_min_messages = warning;

\echo
\echo '1. The fleet as it was found'
\echo '   Two emulators outlived their 24 hours, and two prebuilds are of a version that was replaced.'
\echo
SELECT * FROM demo.presets();

\echo '2. One pass, and the stand-in provisioner does the jobs'
\echo '   It fails whatever is built for the preset A100.'
\echo
SELECT demo.pass() AS pass;
SELECT count(*) AS jobs, transition, string_agg(DISTINCT p.name, ', ') AS presets
FROM workspace_builds b
     JOIN provisioner_jobs j ON j.id = b.job_id AND j.job_status = 'pending'
     JOIN template_version_presets p ON p.id = b.template_version_preset_id
GROUP BY transition;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets();

\echo '3. A second pass at once changes nothing; A100 backs off'
\echo
SELECT demo.pass() AS pass;

\echo '4. Some seconds later A100 is tried again and fails again: the next pass gives it up'
\echo
SELECT pg_sleep(4.5) \g /dev/null
SELECT demo.pass() AS pass;
SELECT demo.work() AS "jobs done";
SELECT demo.pass() AS pass;
SELECT kind, demo.wrap(detail::text, 80) AS detail FROM prebuild_event WHERE kind = 'hard_limited';
\echo '   The plan for a minute from now, when its backoff is over:'
\echo
SELECT * FROM demo.presets(now() + interval '1 minute') WHERE preset LIKE '%A100';

\echo '5. Grace claims a Small one: prebuild_claim() gives it to her, a second build makes it hers'
\echo
SELECT workspace_id, workspace FROM demo.claim('grace', 'Small', 'grace-notebook');
SELECT * FROM demo.presets() WHERE preset LIKE '%Small';
SELECT demo.pass() AS pass;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets() WHERE preset LIKE '%Small';

\echo '6. Its agent reports: the identity, and the message to whoever watches'
\echo
SELECT a.id AS agent
FROM workspaces w
     JOIN workspace_builds b ON b.workspace_id = w.id AND b.build_number = 2
     JOIN workspace_resources r ON r.job_id = b.job_id
     JOIN workspace_agents a ON a.resource_id = r.id
WHERE w.name = 'grace-notebook' \gset
SELECT agent_name, workspace_name, owner_username, template_name FROM prebuild_agent_identity(:'agent');
LISTEN workspace_agent_metadata_batch;
SELECT * FROM prebuild_agent_metadata_report(:'agent', ARRAY['cpu', 'disk'], ARRAY['12 %', '40 %']);
\echo '   The report waits in shared memory; the worker writes it and says whose it was:'
\echo
SELECT prebuild_agent_metadata_flush() AS "entries written";
SELECT prebuild_agent_ids_encode(ARRAY[:'agent'::uuid]) AS payload \gset
SELECT agent, key, value
FROM prebuild_agent_ids_decode(:'payload') AS agent
     JOIN workspace_agent_metadata m ON m.workspace_agent_id = agent
ORDER BY key;
UNLISTEN *;

\echo '7. What the schedules want in the next 24 hours'
\echo
SELECT s.preset_name AS preset, p.scheduling_timezone AS "time zone",
       to_char(f.starts_at, 'Dy HH24:MI') AS from, to_char(f.ends_at, 'Dy HH24:MI TZ') AS until,
       f.desired, coalesce(f.cron_expression, 'outside of all') AS schedule
FROM prebuild_state() WITH ORDINALITY s
     JOIN template_version_presets p ON p.id = s.preset_id,
     prebuild_forecast(s.preset_id, now(), now() + interval '24 hours') f
WHERE s.active AND p.scheduling_timezone <> ''
ORDER BY s.ordinality, f.starts_at;

\echo '8. The clock is moved to where the next of these windows opens; all of it is rolled back'
\echo
-- a week ahead there is one at any hour of any day
SELECT f.starts_at + interval '1 second' AS opening
FROM prebuild_state() s,
     prebuild_forecast(s.preset_id, now(), now() + interval '8 days') f
WHERE s.active AND f.starts_at > now() AND f.desired > s.desired
ORDER BY f.starts_at
LIMIT 1
\gset
BEGIN;
SELECT :'opening'::timestamptz(0) AS clock;
SELECT demo.pass(:'opening') AS pass;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets(:'opening') WHERE want > 0;
ROLLBACK;

\echo '9. Attached, with the worker running passes: a promoted version is followed by itself'
\echo
SELECT prebuild_attach(guard_claims => true) \g /dev/null
\connect - postgres
ALTER SYSTEM SET prebuild.reconcile_interval = '1min';
SELECT pg_reload_conf() \g /dev/null
\connect - controlplane
SET client_min_messages = warning;
CALL demo.wait_until('SELECT passes > 0 FROM prebuild_worker_status WHERE lane = ''passes''');
SELECT demo.work() \g /dev/null
UPDATE templates t SET active_version_id = v.id, updated_at = now()
FROM template_versions v
WHERE v.template_id = t.id AND v.name = 'v3' AND t.name = 'go-service';
CALL demo.wait_until($$SELECT count(*) > 0 FROM prebuild_pool() p
    JOIN template_versions v ON v.id = p.template_version_id AND v.name = 'v3'$$);
SELECT lane, state, role, passes FROM prebuild_worker_status;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets() WHERE preset LIKE 'go-service%';

\echo '10. pg_cron runs the stand-in provisioner from here on, and passes where there is no worker'
\echo
SELECT prebuild_schedule() \g /dev/null
SELECT cron.schedule('stand-in provisioner', '* * * * *', 'CALL demo.provision()') \g /dev/null
SELECT jobname AS job, schedule, command FROM cron.job ORDER BY jobid;
