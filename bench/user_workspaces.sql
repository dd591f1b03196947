-- People's workspaces, numbered from :first (default 1), :workspaces of them with :builds builds
-- each, of which the last :agents ones made an agent.

\if :{?first} \else \set first 1 \endif
\set last :first + :workspaces - 1
SET session_replication_role = replica;

INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
SELECT bench.id('workspace', w), now(), now(), bench.id('user', w % 10000 + 1),
       bench.id('organization', w % 10 + 1), bench.id('template', w % 100 + 1), 'workspace-' || w
FROM generate_series(:first, :last) w;

INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
                              initiator_id, provisioner, storage_method, type, input, file_id, tags,
                              worker_id)
SELECT bench.id('job', w, b), now(), now(), now(), now(), bench.id('organization', w % 10 + 1),
       bench.id('user', w % 10000 + 1), 'terraform', 'file', 'workspace_build', '{}',
       bench.id('file', 1), '{"scope": "organization", "owner": ""}', bench.id('worker', w % 50)
FROM generate_series(:first, :last) w, generate_series(1, :builds) b;

INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
                              build_number, transition, initiator_id, job_id,
                              template_version_preset_id)
SELECT bench.id('build', w, b), now(), now(), bench.id('workspace', w),
       bench.id('version', w % 100 + 1, 1), b,
       (CASE WHEN b % 2 = 1 THEN 'start' ELSE 'stop' END)::workspace_transition,
       bench.id('user', w % 10000 + 1), bench.id('job', w, b),
       CASE WHEN b = 1 AND w % 4 = 0 THEN bench.id('preset', w % 100 + 1, 1, 1) END
FROM generate_series(:first, :last) w, generate_series(1, :builds) b;

INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
SELECT bench.id('resource', w, b), now(), bench.id('job', w, b), 'start', 'machine', 'main'
FROM generate_series(:first, :last) w, generate_series(:builds - :agents + 1, :builds) b;

INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token, architecture,
                              operating_system, lifecycle_state)
SELECT bench.id('agent', w, b), now(), now(), 'main', bench.id('resource', w, b), gen_random_uuid(),
       'amd64', 'linux', 'ready'
FROM generate_series(:first, :last) w, generate_series(:builds - :agents + 1, :builds) b;
