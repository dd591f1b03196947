-- Objects and settings by which a role with few rights could misuse the rights of another.
\set ECHO none
\i test/fixture/fixture.sql

-- a schema that looks like pg_cron's, made by somebody who may create schemas
CREATE ROLE squatter;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO squatter', current_database()); END $$;
SET ROLE squatter;
CREATE SCHEMA cron;
GRANT USAGE ON SCHEMA cron TO PUBLIC;
CREATE TABLE cron.ran_as (name text);
CREATE FUNCTION cron.schedule_in_database() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql AS
	'INSERT INTO cron.ran_as VALUES (current_user); SELECT 1::bigint';
CREATE FUNCTION cron.unschedule(bigint) RETURNS boolean LANGUAGE sql AS
	'INSERT INTO cron.ran_as VALUES (current_user); SELECT true';
CREATE VIEW cron.job AS SELECT 1::bigint AS jobid,
	'prebuild_reconcile@' || current_database() AS jobname, session_user::text AS username;
RESET ROLE;
SELECT raises('SELECT prebuild_schedule()', '55000', 'pg_cron is not installed', NULL,
	'prebuild_schedule() takes no other schema named cron for pg_cron');
SELECT raises('SELECT prebuild_unschedule()', '55000', 'pg_cron is not installed', NULL,
	'nor does prebuild_unschedule()');
SELECT is((SELECT count(*) FROM cron.ran_as), 0, 'and runs nothing of it');

-- the settings and the clock of a caller, and a control plane of his own
DO $$ BEGIN PERFORM control_plane('cp_real'); PERFORM simple('one', 1); PERFORM pass(now()); END $$;
SELECT is((SELECT count(*) FROM prebuild_event), 1, 'there is an event');
SELECT prebuild_grant('squatter') \g /dev/null
GRANT USAGE ON SCHEMA cp_real TO squatter;
GRANT SELECT ON ALL TABLES IN SCHEMA cp_real TO squatter;
SET ROLE squatter;
CREATE SCHEMA mine;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'cp_real'::regnamespace AND relkind = 'r' LOOP
		EXECUTE format('CREATE TABLE mine.%1$I (LIKE cp_real.%1$I)', name);
	END LOOP;
END $$;
DO $$ BEGIN
	SET prebuild.control_plane_schema = mine;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$;
DO $$ BEGIN
	SET prebuild.event_retention = 0;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$;
RESET ROLE;
SELECT is(current_setting('prebuild.control_plane_schema'), 'cp_real',
	'who may only call cannot choose whose tables a pass works on');
SELECT is(current_setting('prebuild.event_retention'), '7d', 'nor how long events are kept');
-- a superuser who does choose them, and a time far away
SET prebuild.control_plane_schema = mine;
DO $$ BEGIN PERFORM public.prebuild_reconcile('2900-01-01'); END $$;
RESET prebuild.event_retention;
SELECT is((SELECT count(*) FROM prebuild_event WHERE kind = 'pass'), 1,
	'a time far away does not remove the history of events');

DROP OWNED BY squatter CASCADE;
DROP ROLE squatter;
