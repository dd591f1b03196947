-- A new version of a template under load, by a clock of its own: a pass every minute, builds of three
-- minutes, somebody who wants a workspace every 20 seconds. Loaded into each database of the benchmark.

CREATE SCHEMA bench;
SET search_path = bench, public;
SET synchronous_commit = off;

CREATE FUNCTION bench.id(kind text, number int DEFAULT 1) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5(kind || number)::uuid;

INSERT INTO organizations (id, name, display_name, description, created_at, updated_at,
                           default_org_member_roles)
VALUES (bench.id('organization'), 'organization', '', '', now(), now(), '{}');
INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status)
VALUES (bench.id('user'), 'ada@example.org', 'ada', '', now(), now(), 'active');
INSERT INTO templates (id, created_at, updated_at, organization_id, name, provisioner,
                       active_version_id, created_by, use_classic_parameter_flow)
VALUES (bench.id('template'), now(), now(), bench.id('organization'), 'app', 'terraform',
        bench.id('version', 1), bench.id('user'), true);
INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
                              initiator_id, provisioner, storage_method, type, input, file_id, tags)
SELECT bench.id('import', v), now(), now(), now(), now(), bench.id('organization'), bench.id('user'),
       'terraform', 'file', 'template_version_import', '{}', bench.id('file', v),
       '{"scope": "organization", "owner": ""}'
FROM generate_series(1, 2) v;
INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name, readme,
                               job_id, created_by)
SELECT bench.id('version', v), bench.id('template'), bench.id('organization'), now(), now(), 'v' || v, '',
       bench.id('import', v), bench.id('user')
FROM generate_series(1, 2) v;
INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances)
SELECT bench.id('preset', v), bench.id('version', v), 'small', now(), 20
FROM generate_series(1, 2) v;

-- What so many provisioner daemons have done until a time: builds take three minutes, deletions half of
-- one. A job begins when a daemon is free, the oldest first.
CREATE PROCEDURE bench.provision(at timestamptz, daemons int) LANGUAGE plpgsql AS $$
BEGIN
    WITH ended AS (
        UPDATE provisioner_jobs j SET completed_at = at, updated_at = at
        FROM workspace_builds b
        WHERE b.job_id = j.id AND j.started_at IS NOT NULL AND j.completed_at IS NULL
              AND j.started_at + CASE b.transition WHEN 'start' THEN interval '3 minutes'
                                                   ELSE interval '30 seconds' END <= at
        RETURNING j.id, b.workspace_id, b.transition),
    gone AS (
        UPDATE workspaces w SET deleted = true FROM ended e
        WHERE w.id = e.workspace_id AND e.transition = 'delete'),
    resources AS (
        INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
        SELECT gen_random_uuid(), at, e.id, 'start', 'machine', 'main' FROM ended e
        WHERE e.transition = 'start' RETURNING id)
    INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
                                  architecture, operating_system, lifecycle_state)
    SELECT gen_random_uuid(), at, at, 'main', r.id, gen_random_uuid(), 'amd64', 'linux', 'ready'
    FROM resources r;
    UPDATE provisioner_jobs j SET started_at = at, updated_at = at, worker_id = bench.id('worker')
    WHERE j.id IN (SELECT p.id FROM provisioner_jobs p WHERE p.started_at IS NULL
                   ORDER BY p.created_at, p.id
                   LIMIT daemons - (SELECT count(*) FROM provisioner_jobs r
                                    WHERE r.started_at IS NOT NULL AND r.completed_at IS NULL));
END
$$;

-- Forty-five minutes, of which the first fifteen fill the pool. Then the second version is made active
-- as the control plane does it, or it is staged to a share of its targets and promoted by a pass. What
-- came of it: seconds with nobody eligible, people who were given nothing, people, and the second in
-- which the version became active.
CREATE TYPE bench.outcome AS (dry int, refused int, people int, active_after int, created int);
CREATE FUNCTION bench.rollout(share real, daemons int) RETURNS bench.outcome LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    -- in the future, as the extension lets no stage end in the past
    began timestamptz := date_trunc('minute', now()) + interval '1 minute';
    at timestamptz;
    result bench.outcome := (0, 0, 0, NULL, 0);
    version uuid;
    given uuid;
BEGIN
    FOR second IN 0 .. 2700 LOOP
        at := began + make_interval(secs => second);
        CALL bench.provision(at, daemons);
        IF second = 900 THEN
            IF share IS NULL THEN
                UPDATE templates SET active_version_id = bench.id('version', 2), updated_at = at;
            ELSE
                PERFORM prebuild_stage(bench.id('version', 2), share, promote => true);
            END IF;
        END IF;
        IF second % 60 = 7 THEN
            result.created := result.created + (SELECT r.created FROM prebuild_reconcile(at) r);
        END IF;
        SELECT active_version_id INTO version FROM templates;
        IF result.active_after IS NULL AND version = bench.id('version', 2) THEN
            result.active_after := second - 900;
        END IF;
        IF second < 900 AND second % 20 > 0 THEN
            CONTINUE;
        END IF;
        IF second >= 900 AND NOT EXISTS (SELECT FROM prebuild_running() r
                                         WHERE r.ready AND r.template_version_id = version) THEN
            result.dry := result.dry + 1;
        END IF;
        -- nobody comes before the pool is full for the first time
        IF second % 20 = 0 AND second >= 300 THEN
            SELECT c.id INTO given
            FROM prebuild_claim(prebuild_find_preset(version, '{}', '{}'), bench.id('user'),
                                'workspace-' || second, at => at) c;
            result.people := result.people + (second >= 900)::int;
            result.refused := result.refused + (second >= 900 AND given IS NULL)::int;
        END IF;
    END LOOP;
    RETURN result;
END
$$;
