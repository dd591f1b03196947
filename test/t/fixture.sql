-- Small fleets for the tests: a schema of functions beside a control plane in public.

CREATE SCHEMA fixture;

-- One organization with a user and a template with one active version; the version's id.
CREATE FUNCTION fixture.template(template_name text, organization_name text DEFAULT 'first')
RETURNS uuid LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    org uuid;
    person uuid;
    template uuid := gen_random_uuid();
    version uuid := gen_random_uuid();
    import uuid := gen_random_uuid();
BEGIN
    SELECT id INTO org FROM organizations WHERE name = organization_name;
    IF NOT FOUND THEN
        INSERT INTO organizations (id, name, display_name, description, created_at, updated_at,
                                   default_org_member_roles)
        VALUES (gen_random_uuid(), organization_name, organization_name, '', now(), now(), '{}')
        RETURNING id INTO org;
    END IF;
    SELECT id INTO person FROM users WHERE username = 'ada';
    IF NOT FOUND THEN
        INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status)
        VALUES (gen_random_uuid(), 'ada@example.org', 'ada', '', now(), now(), 'active')
        RETURNING id INTO person;
    END IF;
    INSERT INTO templates (id, created_at, updated_at, organization_id, name, provisioner,
                           active_version_id, created_by)
    VALUES (template, now(), now(), org, template_name, 'terraform', version, person);
    INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at,
                                  organization_id, initiator_id, provisioner, storage_method, type,
                                  input, file_id, tags)
    VALUES (import, now(), now(), now(), now(), org, person, 'terraform', 'file',
            'template_version_import', '{}', gen_random_uuid(),
            '{"scope": "organization", "owner": ""}');
    INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name,
                                   readme, job_id, created_by)
    VALUES (version, template, org, now(), now(), 'v1', '', import, person);
    RETURN version;
END
$$;

-- A preset that wants prebuilds; its id.
CREATE FUNCTION fixture.preset(version uuid, preset_name text, desired int) RETURNS uuid
LANGUAGE sql SET search_path = public AS $$
    INSERT INTO template_version_presets (template_version_id, name, desired_instances)
    VALUES (version, preset_name, desired)
    RETURNING id
$$;

-- Finish every waiting workspace build as a provisioner would; how many there were.
CREATE FUNCTION fixture.work() RETURNS bigint LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    build record;
    done bigint := 0;
BEGIN
    FOR build IN
        SELECT b.job_id, b.workspace_id, b.transition
        FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
        WHERE j.job_status = 'pending'
        FOR UPDATE OF j SKIP LOCKED
    LOOP
        done := done + 1;
        UPDATE provisioner_jobs
        SET started_at = now(), completed_at = now(), worker_id = gen_random_uuid()
        WHERE id = build.job_id;
        IF build.transition = 'start' THEN
            WITH resource AS (
                INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
                VALUES (gen_random_uuid(), now(), build.job_id, 'start', 'machine', 'main')
                RETURNING id
            )
            INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
                                          architecture, operating_system, lifecycle_state)
            SELECT gen_random_uuid(), now(), now(), 'main', id, gen_random_uuid(), 'amd64', 'linux',
                   'ready'
            FROM resource;
        ELSIF build.transition = 'delete' THEN
            UPDATE workspaces SET deleted = true WHERE id = build.workspace_id;
        END IF;
    END LOOP;
    RETURN done;
END
$$;
