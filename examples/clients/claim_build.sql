-- The build that makes a claimed prebuild its new owner's: run it in the transaction of the claim.
-- $1: the workspace, $2: its new owner. On a Coder database add trace_metadata, '{}', to the job.
-- Stage 2 has the provisioner keep the machine.
WITH ids AS MATERIALIZED (
    SELECT gen_random_uuid() AS build, gen_random_uuid() AS job
), previous AS (
    SELECT b.id, b.workspace_id, b.template_version_id, b.build_number, b.provisioner_state,
        b.template_version_preset_id, j.organization_id, j.provisioner, j.storage_method, j.file_id, j.tags
    FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
    WHERE b.workspace_id = $1::uuid ORDER BY b.build_number DESC LIMIT 1
), job AS (
    INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id, provisioner,
        storage_method, file_id, type, input, tags)
    SELECT i.job, now(), now(), p.organization_id, $2::uuid, p.provisioner, p.storage_method, p.file_id,
        'workspace_build',
        jsonb_build_object('workspace_build_id', i.build, 'dry_run', false, 'prebuilt_workspace_stage', 2),
        CASE WHEN p.tags ->> 'scope' = 'user' THEN p.tags || jsonb_build_object('owner', $2::uuid) ELSE p.tags END
    FROM previous p, ids i
    RETURNING organization_id, provisioner, tags
), build AS (
    INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number,
        transition, initiator_id, job_id, reason, provisioner_state, template_version_preset_id)
    SELECT i.build, now(), now(), p.workspace_id, p.template_version_id, p.build_number + 1, 'start', $2::uuid,
        i.job, 'initiator', p.provisioner_state, p.template_version_preset_id
    FROM previous p, ids i
), parameters AS (
    INSERT INTO workspace_build_parameters (workspace_build_id, name, value)
    SELECT i.build, v.name, v.value
    FROM workspace_build_parameters v JOIN previous p ON v.workspace_build_id = p.id, ids i
)
SELECT pg_notify('provisioner_job_posted', jsonb_build_object('organization_id', organization_id,
    'type', provisioner, 'tags', tags)::text)
FROM job
