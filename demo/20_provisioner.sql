-- A stand-in for the provisioner daemons, in plain SQL: it takes pending jobs, finishes them, and
-- makes agents ready. Everything of a preset in demo.broken_preset fails.

SET search_path = demo, public;

CREATE TABLE demo.broken_preset (preset_id uuid PRIMARY KEY);

-- Do the jobs that wait; only people's and prebuilds' workspace builds are of interest here.
-- Returns how many were done.
CREATE FUNCTION demo.work() RETURNS int LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    build record;
    broken boolean;
    resource uuid;
    done int := 0;
BEGIN
    FOR build IN
        SELECT b.id, b.job_id, b.workspace_id, b.transition, b.template_version_preset_id AS preset,
               j.created_at
        FROM provisioner_jobs j JOIN workspace_builds b ON b.job_id = j.id
        WHERE j.job_status = 'pending' AND j.started_at IS NULL
        ORDER BY j.created_at
        FOR UPDATE OF j SKIP LOCKED
    LOOP
        broken := build.transition = 'start'
                  AND EXISTS (SELECT FROM demo.broken_preset p WHERE p.preset_id = build.preset);
        UPDATE provisioner_jobs
        SET started_at = build.created_at, completed_at = build.created_at + interval '1 second',
            updated_at = build.created_at + interval '1 second', worker_id = gen_random_uuid(),
            error = CASE WHEN broken THEN 'no capacity for this instance type' END
        WHERE id = build.job_id;
        done := done + 1;
        CONTINUE WHEN broken;

        UPDATE workspace_builds SET provisioner_state = 'state of ' || build.job_id::text::bytea
        WHERE id = build.id;
        IF build.transition = 'start' THEN
            INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
            VALUES (gen_random_uuid(), build.created_at, build.job_id, 'start', 'virtual_machine',
                    'main')
            RETURNING id INTO resource;
            INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
                                          architecture, operating_system, lifecycle_state)
            VALUES (gen_random_uuid(), build.created_at, build.created_at, 'main', resource,
                    gen_random_uuid(), 'amd64', 'linux', 'ready');
        ELSIF build.transition = 'delete' THEN
            UPDATE workspaces SET deleted = true, updated_at = build.created_at
            WHERE id = build.workspace_id;
        END IF;
    END LOOP;
    RETURN done;
END
$$;

-- The same for pg_cron, which calls it every minute.
CREATE PROCEDURE demo.provision() LANGUAGE sql
AS 'SELECT demo.work()';

-- What runs already: people's workspaces, prebuilds that are fine, two that outlived their time,
-- and two of a version that is not active any more.
SELECT demo.add_workspace(u.id, p.id, 'dev-' || u.username || '-' || lower(p.name),
                          interval '3 days')
FROM users u
     JOIN template_version_presets p ON p.name IN ('Small', 'Europe')
     JOIN template_versions v ON v.id = p.template_version_id AND v.name = 'v2'
WHERE u.id <> prebuild_system_user()
\g /dev/null

SELECT demo.add_workspace(prebuild_system_user(), p.id, lower(format('prebuild-%s-%s', p.name, n)),
                          w.age + n * interval '1 minute')
FROM (VALUES ('Small', 'v2', 2, interval '2 hours'), ('Emulator', 'v2', 2, interval '2 days'),
             ('America', 'v1', 2, interval '12 days')) AS w (preset, version, amount, age)
     JOIN template_version_presets p ON p.name = w.preset
     JOIN template_versions v ON v.id = p.template_version_id AND v.name = w.version,
     generate_series(1, w.amount) AS n
\g /dev/null

INSERT INTO demo.broken_preset SELECT id FROM template_version_presets WHERE name = 'A100';
SELECT demo.work() \g /dev/null
ANALYZE;
