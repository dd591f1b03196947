-- The minimum that a pass needs: an organization, a person, a template with one version, and a
-- preset that wants two prebuilds. Use it in a control plane that prebuild_create_control_plane() has
-- created. A Coder database has its own templates and presets.

BEGIN;

INSERT INTO organizations (id, name, display_name, description, created_at, updated_at, default_org_member_roles)
VALUES ('10000000-0000-4000-8000-000000000001', 'acme', 'Acme', '', now(), now(), '{}');

INSERT INTO users (id, username, email, hashed_password, created_at, updated_at, status)
VALUES ('10000000-0000-4000-8000-000000000002', 'ada', 'ada@example.org', '', now(), now(), 'active');

-- The job that imported the version. New builds take over its file (what the provisioner runs) and
-- its tags (which provisioner may run it).
INSERT INTO provisioner_jobs (id, organization_id, initiator_id, type, provisioner, storage_method, file_id,
                              input, tags, created_at, updated_at, started_at, completed_at)
VALUES ('10000000-0000-4000-8000-000000000003', '10000000-0000-4000-8000-000000000001',
        '10000000-0000-4000-8000-000000000002', 'template_version_import', 'terraform', 'file', gen_random_uuid(),
        '{}', '{"scope": "organization", "owner": ""}', now(), now(), now(), now());

-- The template refers to its active version, and the version to its template.
INSERT INTO templates (id, organization_id, name, provisioner, active_version_id, created_by, created_at, updated_at)
VALUES ('10000000-0000-4000-8000-000000000004', '10000000-0000-4000-8000-000000000001', 'go-service', 'terraform',
        '10000000-0000-4000-8000-000000000005', '10000000-0000-4000-8000-000000000002', now(), now());

INSERT INTO template_versions (id, template_id, organization_id, name, readme, job_id, created_by, created_at, updated_at)
VALUES ('10000000-0000-4000-8000-000000000005', '10000000-0000-4000-8000-000000000004',
        '10000000-0000-4000-8000-000000000001', 'v1', '', '10000000-0000-4000-8000-000000000003',
        '10000000-0000-4000-8000-000000000002', now(), now());

INSERT INTO template_version_presets (id, template_version_id, name, desired_instances)
VALUES ('10000000-0000-4000-8000-000000000006', '10000000-0000-4000-8000-000000000005', 'Europe', 2);

COMMIT;
