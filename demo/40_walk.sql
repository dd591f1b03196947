-- The walk through a day of the fleet. Passes and the stand-in provisioner are called directly, so
-- that nobody waits for the next minute of pg_cron.

\set QUIET on
\pset footer off
\pset linestyle unicode
\pset border 1
\pset pager off
\t off
SET search_path = public;
SET client_min_messages = warning;
-- a failed build holds creation back for seconds here, not for minutes
SET prebuild.backoff_interval = '2s';

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

\echo '4. Some seconds later A100 is tried again, fails again, and is given up'
\echo
SELECT pg_sleep(4.5) \g /dev/null
SELECT demo.pass() AS pass;
SELECT demo.work() AS "jobs done";
SELECT demo.pass() AS pass;
SELECT * FROM demo.presets() WHERE preset = 'A100';

\echo '5. Grace takes a Small one, as an app server does on a claim'
\echo
UPDATE workspaces w
SET owner_id = (SELECT id FROM users WHERE username = 'grace'), name = 'grace-notebook',
    updated_at = now(), last_used_at = now()
FROM (SELECT r.id
      FROM prebuild_running() r JOIN template_version_presets p ON p.id = r.current_preset_id
      WHERE r.ready AND p.name = 'Small'
      ORDER BY r.created_at LIMIT 1) AS eligible
WHERE w.id = eligible.id AND w.owner_id = prebuild_system_user();
SELECT * FROM demo.presets() WHERE preset = 'Small';
SELECT demo.pass() AS pass;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets() WHERE preset = 'Small';

\echo '6. Version v3 of go-service is promoted: the prebuilds of v2 are replaced'
\echo
UPDATE templates t SET active_version_id = v.id, updated_at = now()
FROM template_versions v
WHERE v.template_id = t.id AND v.name = 'v3' AND t.name = 'go-service';
SELECT * FROM demo.presets() WHERE template = 'platform/go-service';
SELECT demo.pass() AS pass;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets() WHERE template = 'platform/go-service';

\echo '7. What the schedules want in the next 24 hours'
\echo
SELECT s.template_name AS template, s.preset_name AS preset, p.scheduling_timezone AS "time zone",
       to_char(f.starts_at, 'Dy HH24:MI') AS from, to_char(f.ends_at, 'Dy HH24:MI TZ') AS until,
       f.desired, coalesce(f.cron_expression, 'outside of all schedules') AS "because of"
FROM prebuild_state() s
     JOIN template_version_presets p ON p.id = s.preset_id,
     prebuild_forecast(s.preset_id, now(), now() + interval '24 hours') f
WHERE s.active AND p.scheduling_timezone <> ''
ORDER BY s.template_name, s.preset_name, f.starts_at;

\echo '8. The clock is moved to where the next of these windows opens, in a transaction that is rolled back'
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
SELECT * FROM demo.presets(:'opening');
SELECT demo.pass(:'opening') AS pass;
SELECT demo.work() AS "jobs done";
SELECT * FROM demo.presets(:'opening');
ROLLBACK;

\echo '9. Back to now: pg_cron runs a pass and the stand-in provisioner every minute from here on'
\echo
SELECT prebuild_schedule() \g /dev/null
SELECT cron.schedule('stand-in provisioner', '* * * * *', 'CALL demo.provision()') \g /dev/null
SELECT jobname AS job, schedule, command FROM cron.job ORDER BY jobid;
SELECT * FROM demo.presets();
