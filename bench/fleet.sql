-- A large fleet in a new control plane. Variables of psql, with their defaults:
--   templates 100, versions 5 (the last one active), presets 4 for each version,
--   prebuilds 5 running for each preset of an active version,
--   workspaces 100000 of people, with builds 5 and agents 3 each (user_workspaces.sql)
-- which is 2,000 presets (400 active), 2,000 prebuilds, 102,000 workspaces, 502,000 builds and
-- 302,000 agents.
--
-- Every id is the MD5 of a description of the row, so that inserts can compute the ids of other
-- rows without joins.

\if :{?templates} \else \set templates 100 \endif
\if :{?versions} \else \set versions 5 \endif
\if :{?presets} \else \set presets 4 \endif
\if :{?prebuilds} \else \set prebuilds 5 \endif
\if :{?workspaces} \else \set workspaces 100000 \endif
\if :{?builds} \else \set builds 5 \endif
\if :{?agents} \else \set agents 3 \endif
\set tags '{"scope": "organization", "owner": ""}'

-- the rows are consistent by construction
SET session_replication_role = replica;
SET synchronous_commit = off;

CREATE SCHEMA bench;
CREATE FUNCTION bench.id(kind text, VARIADIC numbers int[]) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5(kind || numbers::text)::uuid;

INSERT INTO organizations (id, name, display_name, description, created_at, updated_at,
                           default_org_member_roles)
SELECT bench.id('organization', n), 'organization-' || n, '', '', now(), now(), '{}'
FROM generate_series(1, 10) n;

INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status)
SELECT bench.id('user', n), n || '@example.org', 'user-' || n, '', now(), now(), 'active'
FROM generate_series(1, 10000) n;

INSERT INTO templates (id, created_at, updated_at, organization_id, name, provisioner,
                       active_version_id, created_by)
SELECT bench.id('template', t), now(), now(), bench.id('organization', t % 10 + 1), 'template-' || t,
       'terraform', bench.id('version', t, :versions), bench.id('user', 1)
FROM generate_series(1, :templates) t;

INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name, readme,
                               job_id, created_by)
SELECT bench.id('version', t, v), bench.id('template', t), bench.id('organization', t % 10 + 1),
       now() - interval '30 days', now(), 'v' || v, '', bench.id('import', t, v), bench.id('user', 1)
FROM generate_series(1, :templates) t, generate_series(1, :versions) v;

INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
                              initiator_id, provisioner, storage_method, type, input, file_id, tags)
SELECT bench.id('import', t, v), now(), now(), now(), now(), bench.id('organization', t % 10 + 1),
       bench.id('user', 1), 'terraform', 'file', 'template_version_import', '{}',
       bench.id('file', t, v), :'tags'
FROM generate_series(1, :templates) t, generate_series(1, :versions) v;

INSERT INTO template_version_parameters (template_version_id, name, description, type, mutable,
                                         default_value, icon, validation_regex, required)
SELECT bench.id('version', t, v), p.name, '', p.type, true, p.value, '', '', p.name = 'region'
FROM generate_series(1, :templates) t, generate_series(1, :versions) v,
     (VALUES ('region', 'string', ''), ('cpus', 'number', '4'), ('image', 'string', 'debian'))
         AS p (name, type, value);

INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances)
SELECT bench.id('preset', t, v, p), bench.id('version', t, v), 'preset-' || p, now(), :prebuilds
FROM generate_series(1, :templates) t, generate_series(1, :versions) v,
     generate_series(1, :presets) p;

INSERT INTO template_version_preset_parameters (template_version_preset_id, name, value)
SELECT bench.id('preset', t, v, p), a.name, a.value
FROM generate_series(1, :templates) t, generate_series(1, :versions) v,
     generate_series(1, :presets) p,
     (VALUES ('region', 'eu'), ('cpus', '8'), ('image', 'ubuntu')) AS a (name, value);

-- the prebuilds: one build each, which made one agent
CREATE TEMPORARY TABLE prebuild AS
SELECT t, p, row_number() OVER () AS n,
       bench.id('prebuild', t, p, i) AS workspace_id,
       bench.id('prebuild build', t, p, i) AS build_id,
       bench.id('prebuild job', t, p, i) AS job_id,
       bench.id('prebuild resource', t, p, i) AS resource_id,
       now() - interval '1 hour' - i * interval '1 minute' AS created_at
FROM generate_series(1, :templates) t, generate_series(1, :presets) p,
     generate_series(1, :prebuilds) i;

\ir user_workspaces.sql

INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
SELECT workspace_id, created_at, created_at, prebuild_system_user(),
       bench.id('organization', t % 10 + 1), bench.id('template', t), 'prebuild-' || n
FROM prebuild;
INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
                              initiator_id, provisioner, storage_method, type, input, file_id, tags,
                              worker_id)
SELECT job_id, created_at, created_at, created_at, created_at, bench.id('organization', t % 10 + 1),
       prebuild_system_user(), 'terraform', 'file', 'workspace_build', '{}',
       bench.id('file', t, :versions), :'tags', bench.id('worker', 1)
FROM prebuild;
INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
                              build_number, transition, initiator_id, job_id,
                              template_version_preset_id)
SELECT build_id, created_at, created_at, workspace_id, bench.id('version', t, :versions), 1, 'start',
       prebuild_system_user(), job_id, bench.id('preset', t, :versions, p)
FROM prebuild;
INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
SELECT resource_id, created_at, job_id, 'start', 'machine', 'main' FROM prebuild;
INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token, architecture,
                              operating_system, lifecycle_state)
SELECT bench.id('prebuild agent', n::int), created_at, created_at, 'main', resource_id,
       gen_random_uuid(), 'amd64', 'linux', 'ready'
FROM prebuild;

RESET session_replication_role;
