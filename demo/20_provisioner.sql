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

-- Give a person a prebuild, as an app server does: claim it and, in the same transaction, add the
-- build that makes it hers. That is a start of the same version with the state of the build before,
-- so that the machine stays.
CREATE FUNCTION demo.claim(person text, preset text, new_name text)
RETURNS TABLE (workspace_id uuid, workspace text) LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    new_owner uuid;
    new_job uuid := gen_random_uuid();
BEGIN
    SELECT id INTO STRICT new_owner FROM users WHERE username = person;
    SELECT c.id, c.name INTO workspace_id, workspace
    FROM prebuild_state() s, prebuild_claim(s.preset_id, new_owner, new_name) c
    WHERE s.preset_name = preset AND s.active;
    IF workspace_id IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id,
                                  provisioner, storage_method, type, input, file_id, tags)
    SELECT new_job, now(), now(), j.organization_id, new_owner, j.provisioner, j.storage_method,
           j.type, '{}', j.file_id, j.tags
    FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
    WHERE b.workspace_id = claim.workspace_id AND b.build_number = 1;
    INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
                                  build_number, transition, initiator_id, job_id, reason,
                                  provisioner_state, template_version_preset_id)
    SELECT gen_random_uuid(), now(), now(), b.workspace_id, b.template_version_id,
           b.build_number + 1, 'start', new_owner, new_job, 'initiator', b.provisioner_state,
           b.template_version_preset_id
    FROM workspace_builds b
    WHERE b.workspace_id = claim.workspace_id AND b.build_number = 1;
    RETURN NEXT;
END
$$;

-- demo.work() for pg_cron, which calls it every minute.
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
