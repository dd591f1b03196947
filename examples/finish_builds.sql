-- A stand-in for your provisioner: it takes every pending workspace build and finishes it. A real
-- provisioner LISTENs on provisioner_job_posted and runs the build between started_at and
-- completed_at, and its agents report their lifecycle themselves.

BEGIN;

CREATE TEMP TABLE build ON COMMIT DROP AS
SELECT b.id, b.job_id, b.workspace_id, b.transition
FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
WHERE j.job_status = 'pending';

UPDATE provisioner_jobs j
SET started_at = now(), completed_at = now(), updated_at = now(), worker_id = gen_random_uuid()
FROM build WHERE j.id = build.job_id;

-- A started machine has an agent. The prebuild is eligible because that agent is ready.
WITH resource AS (
    INSERT INTO workspace_resources (id, job_id, transition, type, name, created_at)
    SELECT gen_random_uuid(), job_id, 'start', 'virtual_machine', 'main', now() FROM build WHERE transition = 'start'
    RETURNING id
)
INSERT INTO workspace_agents (id, resource_id, name, auth_token, architecture, operating_system,
                              lifecycle_state, created_at, updated_at)
SELECT gen_random_uuid(), id, 'main', gen_random_uuid(), 'amd64', 'linux', 'ready', now(), now() FROM resource;

UPDATE workspaces w SET deleted = true, updated_at = now()
FROM build WHERE w.id = build.workspace_id AND build.transition = 'delete';

COMMIT;
