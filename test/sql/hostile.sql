-- Schemas with odd names, and objects in them and on the search_path that look like the server's.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('Cp "odd" ''one''; --');
	PERFORM simple('grows', 2);
	PERFORM parameter('grows-v1', 'region', 'eu');
	PERFORM prebuild('grows', 'grows-1');
	PERFORM simple('gone', 1, 3600);
	PERFORM prebuild('gone', 'gone-1');
	PERFORM prebuild('gone', 'gone-2', status => 'pending');
	PERFORM version('gone', 'gone-v2');
END $$;
CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql AS
	'BEGIN RAISE EXCEPTION ''the trap was sprung''; END';
DO $do$
DECLARE
	symbol text;
	type text;
BEGIN
	FOREACH type IN ARRAY '{anyelement,uuid,text,boolean,integer,timestamptz,jsonb}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION trap(%1$s, %1$s) RETURNS boolean LANGUAGE sql AS ''SELECT trap()''', type);
		FOREACH symbol IN ARRAY '{=,<>,<,>,<=,>=,@>,+,-}'::text[] LOOP
			EXECUTE format('CREATE OPERATOR %1$s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = trap)', symbol, type);
		END LOOP;
	END LOOP;
END
$do$;
CREATE FUNCTION gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT trap()::text::uuid';
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS 'SELECT trap()::text::timestamptz';
CREATE FUNCTION count(anyelement) RETURNS bigint LANGUAGE sql AS 'SELECT trap()::text::bigint';
CREATE FUNCTION max(integer) RETURNS integer LANGUAGE sql AS 'SELECT trap()::text::integer';
CREATE FUNCTION unnest(uuid[]) RETURNS SETOF uuid LANGUAGE sql AS 'SELECT trap()::text::uuid';
CREATE FUNCTION pg_try_advisory_xact_lock(integer) RETURNS boolean LANGUAGE sql AS 'SELECT trap()';
CREATE TYPE uuid AS (x integer);
CREATE TEMP TABLE workspaces (x integer);
CREATE TEMP TABLE provisioner_jobs (x integer);
-- the control plane's schema before the server's
SELECT set_config('search_path', quote_ident(current_setting('prebuild.control_plane_schema')) || ', pg_catalog', false) \g /dev/null
SELECT r.created, r.deleted, r.canceled, r.failed FROM public.prebuild_reconcile('2025-06-02 12:00Z') r;
SELECT r.created, r.deleted, r.canceled, r.failed FROM public.prebuild_reconcile('2025-06-02 12:00Z') r;
SELECT r.name, r.ready FROM public.prebuild_running() r;
SELECT p.build_number, p.transition, p.job_status FROM public.prebuild_pool() p
ORDER BY p.build_number, p.job_status;
SELECT s.preset_name, s.desired, s.actual, s.starting FROM public.prebuild_state('2025-06-02 12:00Z') s
ORDER BY s.preset_name;
SELECT p.action, p.count FROM public.prebuild_plan('2025-06-02 13:00Z') p;
DO $$ BEGIN PERFORM public.prebuild_pause(); PERFORM public.prebuild_resume(); END $$;
DROP TABLE pg_temp.workspaces, pg_temp.provisioner_jobs;
SET search_path = pg_catalog;
DROP SCHEMA "Cp ""odd"" 'one'; --" CASCADE;

-- the extension in a schema of its own
DROP EXTENSION prebuild_ext CASCADE;
CREATE SCHEMA "Ext x";
CREATE EXTENSION prebuild_ext SCHEMA "Ext x";
SET search_path = fixture, "Ext x";
DO $$ BEGIN
	PERFORM control_plane('cp_hostile');
	PERFORM simple('one', 2);
	PERFORM prebuild('one', 'one-1');
END $$;
SELECT is(pass(n => 8), 'created 1', 'passes with the extension in another schema');
SELECT is((SELECT string_agg(kind, ' ') FROM "Ext x".prebuild_event), 'pass', 'events go there');
SELECT is((SELECT count(*) FROM prebuild_running()), 1, 'reading works');
DROP EXTENSION prebuild_ext CASCADE;
DROP SCHEMA "Ext x", cp_hostile CASCADE;
CREATE EXTENSION prebuild_ext SCHEMA public;
