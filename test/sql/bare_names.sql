-- Triggers of the control plane's tables find other tables by their unqualified names. They work for
-- every caller and with every search_path.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_bare');
	PERFORM coder_only();
	PERFORM notification_queue();
	PERFORM usr('author');
	UPDATE users SET rbac_roles = '{template-admin}' WHERE username = 'author';
	-- creates with a parameter, deletes, is claimed from; and cancels, an agent included
	PERFORM simple('grows', 3, 86400);
	PERFORM parameter('grows-v1', 'region', 'eu');
	PERFORM prebuild('grows', 'grows-1');
	PERFORM prebuild('grows', 'grows-2', created => t0() - interval '2 days');
	PERFORM simple('gone', 1);
	PERFORM prebuild('gone', 'gone-1', status => 'pending');
	PERFORM version('gone', 'gone-v2');
	INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
	SELECT gen_random_uuid(), t0(), b.job_id, 'start', 'x', 'x' FROM workspace_builds b WHERE b.id = latest('gone-1');
	PERFORM agent('gone-1', 'created');
	-- reaches the hard limit
	PERFORM simple('limit', 1);
	PERFORM prebuild('limit', 'limit-' || n, status => 'failed', created => t0() - interval '1 day')
	FROM generate_series(1, 3) n;
	-- a claim whose build replaced a resource
	PERFORM prebuild('grows', 'mine');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'mine';
	PERFORM build('mine', 'start', initiator => usr('ada'), preset_name => 'grows');
	-- a claim that is long past is not counted
	UPDATE workspace_builds SET created_at = now() WHERE id = latest('mine');
END $$;

-- Who has written where: a trigger of each table, during the statement and again at its end or, as
-- it is deferred, when deferred constraints are checked.
CREATE TABLE seen (relation name, deferred boolean);
CREATE FUNCTION look_around() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM FROM organizations;
	INSERT INTO seen VALUES (TG_RELNAME, TG_NAME = 'bare_deferred');
	RETURN NULL;
END
$$;
DO $$
DECLARE
	written name;
BEGIN
	FOR written IN SELECT relname FROM pg_class WHERE relkind = 'r' AND relname <> 'seen'
		AND relnamespace = 'cp_bare'::regnamespace
	LOOP
		EXECUTE format('CREATE TRIGGER bare_at_once AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW
			EXECUTE FUNCTION look_around()', written);
		EXECUTE format('CREATE CONSTRAINT TRIGGER bare_deferred AFTER INSERT OR UPDATE OR DELETE ON %I
			DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look_around()', written);
	END LOOP;
END
$$;

-- What a statement answers, run with a search_path that has none of the tables on it.
CREATE FUNCTION elsewhere(statement text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
	answer text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN answer;
END
$$;
-- The tables that were written to since the last look.
CREATE FUNCTION written() RETURNS text LANGUAGE sql AS
$$
	WITH gone AS (DELETE FROM seen RETURNING relation)
	SELECT string_agg(DISTINCT relation::text, ' ' ORDER BY relation::text) FROM gone
$$;
SET prebuild.metadata_insert_missing = on;
SET prebuild.notify_hard_limit = on;
SELECT set_config('fixture.agent', (SELECT a.id::text FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
	JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.id = latest('mine')), false) AS agent \gset

SELECT is(elsewhere('SELECT public.prebuild_pause()'), '', 'pause');
SELECT is(written(), 'site_configs', 'writes the switch');
SELECT is(elsewhere('SELECT public.prebuild_resume()'), '', 'resume');
SELECT is(written(), 'site_configs', 'too');
SELECT is(elsewhere($$SELECT (r.created, r.deleted, r.canceled, r.failed) FROM public.prebuild_reconcile('2025-06-02 12:00Z') r$$),
	'(2,1,1,0)', 'a pass does everything');
SELECT is(written(), 'group_members groups notification_messages organization_members provisioner_jobs '
	'template_version_presets workspace_agents workspace_build_parameters workspace_builds workspaces', 'in these tables');
-- what is deferred does not wait for the end of the transaction, which has the caller's path
DELETE FROM group_members;
DELETE FROM groups;
DELETE FROM organization_members;
DELETE FROM seen;
SET search_path = pg_catalog;
SELECT fixture.is((r.created, r.deleted, r.canceled, r.failed)::text, '(0,0,0,0)', 'a pass that only gives the system user its place')
FROM public.prebuild_reconcile('2025-06-02 12:00Z') r;
SET search_path = cp_bare, fixture, public;
SELECT is((SELECT string_agg(DISTINCT relation::text, ' ' ORDER BY relation::text) FROM seen WHERE deferred),
	'group_members groups organization_members', 'with deferred triggers');
DELETE FROM seen;

SELECT is(elsewhere(format($$SELECT c.name FROM public.prebuild_claim(%L, %L, 'new', at => '2025-06-02 12:00Z') c$$, p('grows'), usr('ada'))),
	'new', 'a claim');
SELECT is(written(), 'workspaces', 'writes the workspace');
SELECT is(elsewhere(format($$SELECT (a.updated, a.inserted) FROM public.prebuild_agent_metadata_upsert(ARRAY[%L]::uuid[],
	'{cpu}', '{1}', '{""}', ARRAY[now()]) a$$, :'agent')), '(0,1)', 'a batch of metadata inserts');
SELECT is(elsewhere(format($$SELECT (a.updated, a.inserted) FROM public.prebuild_agent_metadata_upsert(ARRAY[%L]::uuid[],
	'{cpu}', '{1}', '{""}', ARRAY[now()]) a$$, :'agent')), '(1,0)', 'and updates');
SELECT is(elsewhere(format($$SELECT r FROM public.prebuild_agent_metadata_report(%L, '{cpu,mem}', '{2,3}') r$$, :'agent')),
	'(2,0,0)', 'as a report does');
SELECT is(written(), 'workspace_agent_metadata', 'in its table');
SELECT is(elsewhere(format($$SELECT public.prebuild_track_resource_replacement(%L, %L, '{"a": ["b"]}')$$, w('mine'), latest('mine'))),
	'true', 'a replaced resource');
SELECT is(written(), 'notification_messages', 'is told of');
-- by a column that Coder has from v2.29 on
ALTER TABLE template_version_presets ADD COLUMN IF NOT EXISTS last_invalidated_at timestamptz;
SELECT is(elsewhere(format('SELECT public.prebuild_invalidate(%L) = now()', p('grows'))), 'true', 'prebuilds are invalidated');
SELECT is(written(), 'template_version_presets', 'at their preset');
SELECT is(current_setting('search_path'), 'cp_bare, fixture, public', 'the caller keeps his path');
SET client_min_messages = error;
DROP SCHEMA cp_bare CASCADE;
