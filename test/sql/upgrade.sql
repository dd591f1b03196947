-- Upgrades of the control plane under a session that has called everything: columns, tables and
-- enum labels come, go and change, and each function gives its answer as before or an error that
-- names what it misses and has a hint.
\set ECHO none
\i test/fixture.sql
DO $$ BEGIN
	PERFORM control_plane('cp_upgrade');
	PERFORM notification_queue();
	PERFORM simple('a', 3, 86400);
	PERFORM parameter('a-v1', 'region', 'eu');
	PERFORM preset_value('a', 'region', 'us');
	PERFORM schedule('a', '* 9-18 * * *', 4);
	UPDATE template_version_presets SET scheduling_timezone = 'UTC' WHERE name = 'a';
	INSERT INTO template_version_workspace_tags VALUES (v('a-v1'), 'pool', 'var.pool');
	INSERT INTO template_version_variables
	VALUES (v('a-v1'), 'pool', '', 'string', 'fast', '', false, false);
	PERFORM prebuild('a', 'a-1');
	PERFORM prebuild('a', 'a-2', created => t0() - interval '2 days');
	PERFORM simple('b', 1);
	PERFORM prebuild('b', 'b-1');
	PERFORM prebuild('b', 'b-2', status => 'pending');
	PERFORM version('b', 'b-v2');
	PERFORM simple('limit', 1);
	PERFORM prebuild('limit', 'f-' || n, status => 'failed', created => t0() - interval '1 day')
	FROM generate_series(1, 3) n;
	PERFORM prebuild('a', 'mine');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'mine';
	PERFORM build('mine', 'start', initiator => usr('ada'), preset_name => 'a');
	UPDATE users SET rbac_roles = '{template-admin}' WHERE username = 'ada';
	INSERT INTO workspace_agent_metadata (workspace_agent_id, display_name, key, script, timeout, "interval")
	SELECT id, 'CPU', 'cpu', '', 1, 1 FROM workspace_agents;
END $$;
SET prebuild.metadata_insert_missing = on;
SET prebuild.notify_hard_limit = on;

-- Every function, as a statement that gives one text; ids are those of now.
CREATE TABLE fixture.call AS
SELECT name, format(statement, p('a'), usr('ada'), v('a-v1'), w('mine'), latest('mine'),
	(SELECT a.id FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
		JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.id = latest('mine'))) AS statement
FROM (VALUES
	('running', 'SELECT string_agg(r::text, '';'') FROM prebuild_running() r'),
	('running of one', 'SELECT string_agg(r::text, '';'') FROM prebuild_running(%1$L) r'),
	('pool', 'SELECT string_agg(r::text, '';'') FROM prebuild_pool() r'),
	('state', 'SELECT string_agg(s::text, '';'') FROM prebuild_state(fixture.t0()) s'),
	('plan', 'SELECT string_agg(p::text, '';'') FROM prebuild_plan(fixture.t0()) p'),
	('reconcile', 'SELECT (r.created, r.deleted, r.canceled, r.failed)::text FROM prebuild_reconcile(fixture.t0()) r'),
	('claim', 'SELECT c::text FROM prebuild_claim(%1$L, %2$L, ''new'', at => fixture.t0()) c'),
	('find_preset', 'SELECT prebuild_find_preset(%3$L, ''{region}'', ''{us}'')::text'),
	('build_inputs', 'SELECT prebuild_build_inputs(%1$L)::text'),
	('desired', 'SELECT prebuild_desired_instances(%1$L, fixture.t0())::text'),
	('forecast', 'SELECT string_agg(f::text, '';'') FROM prebuild_forecast(%1$L, fixture.t0(), fixture.t0() + ''1 day'') f'),
	('invalidate', 'SELECT (prebuild_invalidate(%1$L) = now())::text'),
	('identity', 'SELECT prebuild_agent_identity(%6$L)::text'),
	('upsert', 'SELECT prebuild_agent_metadata_upsert(ARRAY[%6$L, %6$L]::uuid[], ''{cpu,mem}'', ''{1,2}'', ''{"",""}'', ARRAY[now(), now()])::text'),
	('update', 'SELECT prebuild_agent_metadata_upsert(ARRAY[%6$L]::uuid[], ''{cpu}'', ''{1}'', ''{""}'', ARRAY[now()])::text'),
	('report', 'SELECT prebuild_agent_metadata_report(%6$L, ''{cpu}'', ''{1}'')::text'),
	('metrics', 'SELECT string_agg(m::text, '';'') FROM prebuild_metrics_read(fixture.t0(), ''pool'') m'),
	('history', 'SELECT string_agg(m::text, '';'') FROM prebuild_metrics_read(fixture.t0(), ''history'') m'),
	('loop', 'SELECT string_agg(m.name, '';'') FROM prebuild_metrics_read(fixture.t0(), ''loop'') m'),
	('pause', 'SELECT prebuild_pause()::text || prebuild_resume()::text'),
	('replacement', 'SELECT prebuild_track_resource_replacement(%4$L, %5$L, ''{"disk": ["size"]}'')::text'),
	('attach', 'SELECT prebuild_attach(true)::text'),
	('detach', 'SELECT prebuild_detach()::text')
) c (name, statement);

-- What a call answers, without what it does: its text, or its error.
CREATE TYPE fixture.answer AS (name text, answer text, state text, message text, hint text);
CREATE FUNCTION answer(wanted text) RETURNS answer LANGUAGE plpgsql AS
$$
DECLARE
	got answer;
BEGIN
	got.name := wanted;
	BEGIN
		EXECUTE (SELECT c.statement FROM fixture.call c WHERE c.name = wanted) INTO got.answer;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	WHEN OTHERS THEN
		got.state := SQLSTATE;
		GET STACKED DIAGNOSTICS got.message = MESSAGE_TEXT, got.hint = PG_EXCEPTION_HINT;
	END;
	RETURN got;
END
$$;
SET client_min_messages = error;
CREATE TABLE fixture.before AS SELECT (answer(name)).* FROM fixture.call;
-- planned for good, whatever the server thinks of parameters
DO $$ BEGIN PERFORM answer(name) FROM fixture.call, generate_series(1, 6); END $$;
SELECT is(string_agg(name || ': ' || message, '; '), NULL, 'all is well at first') FROM fixture.before
WHERE state IS NOT NULL AND (name, state) <> ('invalidate', '0A000');
SELECT is(string_agg(name, '; '), NULL, 'and says something') FROM fixture.before
WHERE answer IS NULL AND state IS NULL;

-- What is wrong with the answers now, each: neither as before nor an error that names one of these.
CREATE FUNCTION wrong(VARIADIC names text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS
$$
	SELECT format('%s: %s', a.name, coalesce(a.answer, concat_ws(' ', a.state, a.message, '(' || a.hint || ')')))
	FROM fixture.before o, answer(o.name) a
	WHERE (a.answer, a.state) IS DISTINCT FROM (o.answer, o.state)
		AND (a.state IS NULL OR a.hint !~ 'prebuild|Coder' OR NOT EXISTS (
			SELECT FROM unnest(names) x WHERE position(format('%I', x) IN a.message) > 0))
$$;
-- The same after statements, which are undone.
CREATE FUNCTION wrong_after(change text, VARIADIC names text[] DEFAULT '{}') RETURNS SETOF text
LANGUAGE plpgsql AS
$$
DECLARE
	found text[];
BEGIN
	BEGIN
		EXECUTE change;
		found := ARRAY(SELECT wrong(VARIADIC names));
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	END;
	RETURN QUERY SELECT change || ': ' || x FROM unnest(found) x;
END
$$;

-- The tables and columns of a control plane made by the extension, which are those that it may use.
CREATE TABLE fixture.place AS
SELECT c.relname::text AS "table", a.attname::text AS "column", format_type(a.atttypid, a.atttypmod) AS type,
	a.attgenerated <> '' AS generated
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'cp_upgrade'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT attisdropped
	AND c.relname = ANY ('{organizations,users,organization_members,groups,group_members,templates,
		template_versions,template_version_parameters,template_version_presets,
		template_version_preset_parameters,template_version_preset_prebuild_schedules,
		template_version_workspace_tags,template_version_variables,template_version_terraform_values,
		provisioner_daemons,provisioner_jobs,workspaces,workspace_builds,workspace_build_parameters,
		workspace_resources,workspace_agents,workspace_agent_metadata,site_configs,
		notification_messages,notification_templates,notification_preferences}'::text[]);

\echo columns that are renamed and get their name back
DO $$ BEGIN PERFORM prebuild_attach(true); END $$;
CREATE FUNCTION renamed() RETURNS SETOF text LANGUAGE plpgsql AS
$$
DECLARE
	p fixture.place;
BEGIN
	FOREACH p IN ARRAY ARRAY(SELECT x FROM fixture.place x ORDER BY 1) LOOP
		EXECUTE format('ALTER TABLE %I RENAME COLUMN %I TO renamed', p."table", p."column");
		RETURN QUERY SELECT format('%s.%s: %s', p."table", p."column", x) FROM wrong(p."column") x;
		EXECUTE format('ALTER TABLE %I RENAME COLUMN renamed TO %I', p."table", p."column");
	END LOOP;
	RETURN QUERY SELECT wrong();
END
$$;
\timing
SELECT renamed();
