-- psql: a pass, a claim with its build in one transaction, the plan, a report, and who hears of it.
--
--	psql -v ON_ERROR_STOP=1 -v name=adas-workspace -f claim.sql
--
-- Run it in its folder. It stops at the first \gset if no prebuild is ready.
\set version 10000000-0000-4000-8000-000000000005
\set ada 10000000-0000-4000-8000-000000000002
\set claim_build `cat claim_build.sql`
\pset format unaligned
\pset tuples_only on

SELECT 'a pass created ' || created FROM prebuild_reconcile();

BEGIN;
SELECT id AS workspace
FROM prebuild_claim(prebuild_find_preset(:'version', ARRAY['region'], ARRAY['eu']), :'ada', :'name') \gset
PREPARE build (uuid, uuid) AS :claim_build;
EXECUTE build(:'workspace', :'ada') \g /dev/null
COMMIT;
SELECT 'claimed ' || :'name';

SELECT format('the plan: %s %s', action, count) FROM prebuild_plan();

LISTEN workspace_agent_metadata_batch;
SELECT a.id AS agent FROM workspace_builds b
JOIN workspace_resources r ON r.job_id = b.job_id JOIN workspace_agents a ON a.resource_id = r.id
WHERE b.workspace_id = :'workspace' \gset
SELECT prebuild_agent_metadata_report(:'agent', ARRAY['cpu'], ARRAY['12 %']) \g /dev/null
-- psql prints the notification itself; its payload is this
SELECT prebuild_agent_ids_encode(ARRAY[:'agent']::uuid[]) AS payload \gset
SELECT 'heard of agent ' || agent FROM prebuild_agent_ids_decode(:'payload') agent;
