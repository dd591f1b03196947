-- A small fleet: 2 organizations, 4 templates with 3 versions each, presets with and without
-- schedules in three time zones, some of them with a time to live.

CREATE SCHEMA demo;
SET search_path = demo, public;

INSERT INTO organizations (id, name, display_name, description, created_at, updated_at,
                           default_org_member_roles)
SELECT gen_random_uuid(), name, initcap(name), '', now() - interval '1 year', now(), '{}'
FROM (VALUES ('platform'), ('research')) AS o (name);

INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status,
                   rbac_roles, login_type)
SELECT gen_random_uuid(), name || '@example.org', name, '', now() - interval '1 year', now(),
       'active', '{}', 'password'
FROM (VALUES ('ada'), ('grace'), ('linus'), ('margaret')) AS u (name);

INSERT INTO templates (id, organization_id, name, display_name, provisioner, active_version_id,
                       description, created_by, created_at, updated_at)
SELECT gen_random_uuid(), o.id, t.name, t.name, 'terraform', gen_random_uuid(), '',
       (SELECT id FROM users WHERE username = 'ada'), now() - interval '90 days', now()
FROM (VALUES ('platform', 'go-service'), ('platform', 'android'),
             ('research', 'jupyter'), ('research', 'gpu-training')) AS t (organization, name)
     JOIN organizations o ON o.name = t.organization;

-- Three versions each; the second one is active for now. The jobs are their finished imports.
WITH made AS (
    INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name,
                                   readme, job_id, created_by)
    SELECT gen_random_uuid(), t.id, t.organization_id, now() - interval '40 days' + n * interval '10 days',
           now(), 'v' || n, '', gen_random_uuid(), t.created_by
    FROM templates t, generate_series(1, 3) AS n
    RETURNING *
)
INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
                              initiator_id, provisioner, storage_method, type, input, file_id, tags)
SELECT job_id, created_at, created_at + interval '20 seconds', created_at,
       created_at + interval '20 seconds', organization_id, created_by, 'terraform', 'file',
       'template_version_import', '{}', gen_random_uuid(),
       '{"scope": "organization", "owner": ""}'
FROM made;

UPDATE templates t SET active_version_id = v.id
FROM template_versions v
WHERE v.template_id = t.id AND v.name = 'v2';

INSERT INTO template_version_parameters (template_version_id, name, description, type, mutable,
                                         default_value, icon, validation_regex, required)
SELECT v.id, p.name, '', p.type, true, p.default_value, '', '', p.required
FROM template_versions v,
     (VALUES ('region', 'string', '', true), ('cpus', 'number', '4', false))
         AS p (name, type, default_value, required);

-- The presets of every version: template, name, desired instances, time to live, time zone.
INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances,
                                      invalidate_after_secs, scheduling_timezone)
SELECT gen_random_uuid(), v.id, p.name, v.created_at, p.desired, p.ttl, p.timezone
FROM (VALUES ('go-service', 'Europe', 1, 0, 'Europe/Berlin'),
             ('go-service', 'America', 1, 0, 'America/New_York'),
             ('android', 'Emulator', 2, 86400, ''),
             ('android', 'On demand', NULL, 0, ''),
             ('jupyter', 'Small', 3, 0, ''),
             ('jupyter', 'Large', 1, 28800, ''),
             ('gpu-training', 'A100', 2, 0, ''),
             ('gpu-training', 'T4', 0, 0, 'Asia/Kolkata'))
         AS p (template, name, desired, ttl, timezone)
     JOIN templates t ON t.name = p.template
     JOIN template_versions v ON v.template_id = t.id;

INSERT INTO template_version_preset_parameters (template_version_preset_id, name, value)
SELECT p.id, a.name, a.value
FROM template_version_presets p,
     LATERAL (VALUES ('region', CASE p.name WHEN 'America' THEN 'us-east' ELSE 'eu-central' END),
                     ('cpus', CASE p.name WHEN 'Large' THEN '16' ELSE '4' END)) AS a (name, value);

-- Office hours of each zone; the third is open every day.
INSERT INTO template_version_preset_prebuild_schedules (id, preset_id, cron_expression,
                                                        desired_instances)
SELECT gen_random_uuid(), p.id, s.cron, s.desired
FROM (VALUES ('Europe', '* 7-10 * * 1-5', 4), ('Europe', '* 11-18 * * 1-5', 2),
             ('America', '* 8-17 * * 1-5', 3),
             ('T4', '* 9-20 * * *', 2)) AS s (preset, cron, desired)
     JOIN template_version_presets p ON p.name = s.preset;

-- Put up a workspace with a finished start build that is some time old.
CREATE FUNCTION demo.add_workspace(owner uuid, preset uuid, workspace_name text, age interval)
RETURNS uuid LANGUAGE sql AS $$
    WITH place AS (
        SELECT v.id AS version_id, v.template_id, v.organization_id, i.file_id, i.tags,
               gen_random_uuid() AS workspace_id, gen_random_uuid() AS job_id
        FROM template_version_presets p
             JOIN template_versions v ON v.id = p.template_version_id
             JOIN provisioner_jobs i ON i.id = v.job_id
        WHERE p.id = preset
    ), workspace AS (
        INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id,
                                name, last_used_at, automatic_updates)
        SELECT workspace_id, now() - age, now() - age, owner, organization_id, template_id,
               workspace_name, now() - age, 'never'
        FROM place
    ), job AS (
        INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id,
                                      provisioner, storage_method, type, input, file_id, tags)
        SELECT job_id, now() - age, now() - age, organization_id, owner, 'terraform', 'file',
               'workspace_build', '{}', file_id, tags
        FROM place
    )
    INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
                                  build_number, transition, initiator_id, job_id, reason,
                                  template_version_preset_id)
    SELECT gen_random_uuid(), now() - age, now() - age, workspace_id, version_id, 1, 'start',
           owner, job_id, 'initiator', preset
    FROM place
    RETURNING job_id
$$;
