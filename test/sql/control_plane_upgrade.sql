-- Upgrades of the control plane under a session that has called everything: columns, tables and
-- enum labels come, go and change, and each function gives its answer as before or an error that
-- names what it misses and has a hint.
\set ECHO none
\i test/fixture/fixture.sql
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
	-- a claim that is long past is not counted
	UPDATE workspace_builds SET created_at = now() WHERE id = latest('mine');
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
CREATE FUNCTION fixture.answer(wanted text) RETURNS fixture.answer LANGUAGE plpgsql AS
$$
DECLARE
	got fixture.answer;
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
CREATE FUNCTION fixture.wrong(VARIADIC names text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS
$$
	SELECT format('%s: %s', a.name, coalesce(a.answer, concat_ws(' ', a.state, a.message, '(' || a.hint || ')')))
	FROM fixture.before o, answer(o.name) a
	WHERE (a.answer, a.state) IS DISTINCT FROM (o.answer, o.state)
		AND (a.state IS NULL OR a.hint !~ 'prebuild|Coder' OR NOT EXISTS (
			SELECT FROM unnest(names) x WHERE position(format('%I', x) IN a.message) > 0))
$$;
-- The same after statements, which are undone.
CREATE FUNCTION fixture.wrong_after(change text, VARIADIC names text[] DEFAULT '{}') RETURNS SETOF text
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
CREATE FUNCTION fixture.renamed() RETURNS SETOF text LANGUAGE plpgsql AS
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
SELECT renamed();

-- What follows does not do with triggers that name columns: see the end.
DO $$ BEGIN PERFORM prebuild_detach(); END $$;

\echo columns that are added to every table
SELECT wrong_after((SELECT string_agg(format('ALTER TABLE %I ADD COLUMN added integer NOT NULL DEFAULT 7', x), '; ')
	FROM (SELECT DISTINCT "table" AS x FROM fixture.place) t));

\echo tables that are gone
SELECT wrong_after(format('ALTER TABLE %I RENAME TO gone', x), x)
FROM (SELECT DISTINCT "table" AS x FROM fixture.place) t ORDER BY x;

\echo tables that are made again
CREATE FUNCTION fixture.made_again(name text) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM drop_views();
	-- its rows are no longer those that foreign keys are about
	SET LOCAL session_replication_role = replica;
	EXECUTE format('CREATE TABLE again (LIKE %I INCLUDING ALL)', name);
	EXECUTE (SELECT format('INSERT INTO again (%1$s) SELECT %1$s FROM %2$I', string_agg(format('%I', "column"), ', '), name)
		FROM fixture.place WHERE "table" = name AND NOT generated);
	EXECUTE format('ALTER TABLE %I RENAME TO old', name);
	EXECUTE format('ALTER TABLE again RENAME TO %I', name);
END
$$;
SELECT wrong_after(format('SELECT made_again(%L)', x))
FROM (SELECT DISTINCT "table" AS x FROM fixture.place) t ORDER BY x;

\echo tables that are dropped
SELECT wrong_after(format('DROP TABLE %I CASCADE', x), x)
FROM (SELECT DISTINCT "table" AS x FROM fixture.place) t ORDER BY x;

\echo columns that are dropped
SELECT wrong_after(format('ALTER TABLE %I DROP COLUMN %I CASCADE', "table", "column"), "column", 'job_status')
FROM fixture.place WHERE ("table", "column") IN (('workspaces', 'name'), ('workspaces', 'owner_id'), ('workspaces', 'ttl'),
	('workspace_builds', 'build_number'), ('workspace_builds', 'template_version_preset_id'),
	('provisioner_jobs', 'error'), ('provisioner_jobs', 'tags'), ('provisioner_jobs', 'trace_metadata'),
	('templates', 'use_classic_parameter_flow'), ('templates', 'deprecated'), ('users', 'username'),
	('template_version_presets', 'last_invalidated_at'), ('workspace_agents', 'lifecycle_state'),
	('workspace_agent_metadata', 'value'))
ORDER BY "table", "column";

\echo columns of a wider type
SELECT wrong_after('SELECT drop_views(); ' || string_agg(format('ALTER TABLE %I ALTER COLUMN %I TYPE %s', "table", "column",
	CASE type WHEN 'text' THEN 'varchar' WHEN 'integer' THEN 'bigint' ELSE 'text' END), '; '))
FROM fixture.place
WHERE type ~ '^(text|character varying.*|integer)$' AND NOT generated
	AND ("table", "column") <> ('provisioner_jobs', 'error') -- which another column is made from
	-- which a PL/pgSQL trigger of Coder's reads: no session that has run such a function takes another type
	AND ("table", "column") <> ('workspaces', 'autostart_schedule')
	-- nor one that a trigger of the control plane's own names
	AND NOT EXISTS (SELECT FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
		WHERE tgrelid = "table"::regclass AND attname = "column")
GROUP BY "table" ORDER BY "table";

\echo columns of another type
-- All that comes of it is an error of the server's, or an answer: no crash, nothing internal. It is
-- the same in all releases, so that our own tables are enough.
CREATE FUNCTION fixture.other_type(p fixture.place) RETURNS SETOF text LANGUAGE plpgsql AS
$$
DECLARE
	key record;
	found text[];
BEGIN
	BEGIN
		BEGIN
			PERFORM drop_views();
			FOR key IN SELECT conrelid::regclass AS name, conname FROM pg_constraint
				WHERE contype = 'f' AND p."table"::regclass IN (conrelid, confrelid)
			LOOP
				EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', key.name, key.conname);
			END LOOP;
			IF p."table" = 'provisioner_jobs' THEN
				ALTER TABLE provisioner_jobs ALTER job_status DROP EXPRESSION IF EXISTS;
			END IF;
			EXECUTE format('ALTER TABLE %1$I ALTER %2$I DROP DEFAULT, ALTER %2$I TYPE %3$s USING %4$s',
				p."table", p."column", CASE WHEN p.type ~ '^(text|character)' THEN 'bytea' ELSE 'text' END,
				format(CASE WHEN p.type ~ '^(text|character)' THEN 'convert_to(%I, ''UTF8'')' ELSE '%I::text' END,
					p."column"));
		EXCEPTION WHEN OTHERS THEN
			-- an index or a check of the table does not take the type
			RETURN;
		END;
		found := ARRAY(SELECT concat_ws(' ', p."table", p."column", a.name, a.state, a.message)
			FROM fixture.call c, answer(c.name) a WHERE a.state !~ '^(42|22|23502|0A000)');
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	END;
	RETURN NEXT 'changed';
	RETURN QUERY SELECT x FROM unnest(found) x;
END
$$;
CREATE TABLE fixture.outcome AS SELECT x FROM fixture.place p, other_type(p) x WHERE NOT EXISTS (SELECT FROM coder);
SELECT x FROM fixture.outcome WHERE x <> 'changed' ORDER BY x;
SELECT ok(count(*) > 200 OR EXISTS (SELECT FROM coder), 'most columns were changed') FROM fixture.outcome WHERE x = 'changed';

\echo labels that are added to every enum type
SELECT wrong_after((SELECT string_agg(format('ALTER TYPE %s ADD VALUE %L BEFORE %L', x, 'a new one', l), '; ') FROM (
	SELECT oid::regtype AS x, (SELECT min(enumlabel) FROM pg_enum WHERE enumtypid = t.oid) AS l
	FROM pg_type t WHERE typtype = 'e' AND typnamespace = 'cp_upgrade'::regnamespace) t));
\echo labels that are renamed
SELECT wrong_after(format('ALTER TYPE %s RENAME VALUE %L TO %L', enumtypid::regtype, enumlabel, 'another'), enumlabel)
FROM pg_enum WHERE enumtypid IN (SELECT atttypid FROM pg_attribute JOIN fixture.place ON attrelid = "table"::regclass AND attname = "column")
ORDER BY enumtypid::regtype::text, enumsortorder;

\echo the schema
SELECT wrong_after('ALTER SCHEMA cp_upgrade RENAME TO cp_elsewhere', 'cp_upgrade');

-- all of that undone, in the same session
SELECT is(string_agg(x, '; '), NULL, 'all is well at last') FROM wrong() x;

-- Triggers that name columns keep those from being dropped or given another type, as one of Coder's
-- own does; nothing else.
DO $$ BEGIN PERFORM prebuild_attach(true); END $$;
SELECT raises(format('SELECT drop_views(); ALTER TABLE %s', change), state, message, NULL, change)
FROM (VALUES
	('templates ALTER name TYPE text', '0A000', 'used in a trigger definition'),
	('workspace_agents ALTER deleted TYPE text', '0A000', 'used in a trigger definition'),
	('users DROP COLUMN username', '2BP01', 'other objects depend on it'),
	('workspaces DROP COLUMN autostart_schedule', '2BP01', 'other objects depend on it')
) c (change, state, message);
SELECT is(string_agg(x, '; '), NULL, change)
FROM (VALUES
	('DROP COLUMN dormant_at CASCADE'), ('RENAME COLUMN favorite TO starred'), ('ADD COLUMN added int'),
	('ALTER ttl TYPE numeric'), ('ADD CONSTRAINT named CHECK (name <> '''')')
) c (change) LEFT JOIN LATERAL wrong_after('SELECT drop_views(); ALTER TABLE workspaces ' || change, 'dormant_at') x ON true
GROUP BY change ORDER BY change COLLATE "C";
DO $$ BEGIN PERFORM prebuild_detach(); END $$;
BEGIN;
DO $$ BEGIN
	PERFORM drop_views();
	ALTER TABLE templates ALTER name TYPE text;
	ALTER TABLE workspaces DROP COLUMN autostart_schedule;
END $$;
SELECT raises('SELECT prebuild_attach(true)', '42703', 'autostart_schedule', 'prebuild_ext', 'detached they go');
ROLLBACK;
