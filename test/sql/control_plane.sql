-- prebuild_create_control_plane(): what it makes, what it refuses, whose it is.
\set ECHO none
\i test/fixture/fixture.sql

CREATE FUNCTION pg_temp.create_in(schema_name text) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', schema_name);
	EXECUTE format('CREATE SCHEMA %I', schema_name);
	PERFORM set_config('prebuild.control_plane_schema', schema_name, false);
	PERFORM prebuild_create_control_plane();
END
$$;

-- the schema has to exist
SET prebuild.control_plane_schema = 'nowhere';
SELECT raises('SELECT prebuild_create_control_plane()', '3F000', 'schema "nowhere" does not exist',
	'prebuild.control_plane_schema', 'a schema that does not exist is an error with a hint');

-- two side by side, one with a name that needs quotes
DO $$ BEGIN PERFORM pg_temp.create_in('cp one'); END $$;
DO $$ BEGIN PERFORM pg_temp.create_in('cp_two'); END $$;
SELECT is(current_setting('search_path'), 'fixture, public', 'the caller keeps its search_path');
SELECT is(
	(SELECT array_agg(c.relname::text ORDER BY c.relname) FROM pg_class c
		WHERE c.relnamespace = '"cp one"'::regnamespace AND c.relkind = 'r'),
	(SELECT array_agg(c.relname::text ORDER BY c.relname) FROM pg_class c
		WHERE c.relnamespace = 'cp_two'::regnamespace AND c.relkind = 'r'),
	'both schemas have the same tables');
SELECT c.relname, c.relpersistence FROM pg_class c
WHERE c.relnamespace = '"cp one"'::regnamespace AND c.relkind = 'r' ORDER BY c.relname COLLATE "C";
SELECT t.typname, string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder)
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE t.typnamespace = '"cp one"'::regnamespace GROUP BY t.typname ORDER BY t.typname COLLATE "C";
SELECT ok(bool_and(confrelid::regclass::text LIKE '"cp one".%'),
	'foreign keys stay in their schema (' || count(*) || ')')
FROM pg_constraint WHERE connamespace = '"cp one"'::regnamespace AND contype = 'f';

-- the system user
SELECT id = prebuild_system_user() AS is_system_user, username, status, login_type, is_system, deleted
FROM "cp one".users;

-- a job's status follows from its times
CREATE TEMP TABLE times (id uuid DEFAULT gen_random_uuid(), n int, started timestamptz,
	canceled timestamptz, completed timestamptz, error text);
INSERT INTO times (n, started, canceled, completed, error) VALUES
	(1, NULL, NULL, NULL, NULL), (2, now(), NULL, NULL, NULL), (3, now(), NULL, now(), NULL),
	(4, now(), NULL, now(), ''), (5, now(), NULL, now(), 'boom'), (6, now(), now(), now(), 'boom'),
	(7, now(), now(), NULL, NULL), (8, NULL, now(), NULL, NULL), (9, NULL, now(), now(), NULL),
	(10, now(), NULL, NULL, 'boom');
SET search_path = "cp one", fixture, public;
INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, canceled_at, completed_at,
	error, organization_id, initiator_id, provisioner, storage_method, type, input, file_id)
SELECT t.id, now(), now(), started, canceled, completed, error, organization('org'),
	prebuild_system_user(), 'terraform', 'file', 'workspace_build', '{}', t.id
FROM times t;
SELECT string_agg(j.job_status::text, ' ' ORDER BY t.n) FROM provisioner_jobs j JOIN times t USING (id);

-- the keys and checks work
DO $$ BEGIN PERFORM simple('a', 1); END $$;
SELECT ok(prebuild('a', 'ws-1') IS NOT NULL, 'a fleet can be built');
SELECT raises($$ UPDATE workspace_builds SET build_number = 1, id = gen_random_uuid(),
	job_id = gen_random_uuid() $$, '23503', 'workspace_builds_job_id_fkey', NULL, 'a build needs its job');
SELECT raises($$ SELECT prebuild('a', 'WS-1') $$, '23505', 'workspaces_owner_id_lower_idx', NULL,
	'workspace names are unique per owner, whatever their case');
UPDATE workspaces SET deleted = true;
SELECT ok(prebuild('a', 'WS-1') IS NOT NULL, 'a deleted workspace frees its name');
SELECT raises($$ UPDATE workspace_builds SET deadline = '2025-01-02', max_deadline = '2025-01-01' $$,
	'23514', 'workspace_builds_deadline_below_max_deadline', NULL, 'a deadline is before the latest one');
SELECT raises($$ UPDATE workspace_agents SET subsystems = '{none}' $$, '23514', 'subsystems_not_none',
	NULL, 'the subsystem none is refused');
SELECT raises($$ INSERT INTO users (id, email, hashed_password, created_at, updated_at)
	VALUES (gen_random_uuid(), 'x@example.com', '', now(), now()) $$, '23514',
	'users_username_min_length', NULL, 'a user has a name');
SET search_path = fixture, public;

-- what is in the way is named, and nothing changes
CREATE SCHEMA half;
CREATE TABLE half.workspaces (x int);
CREATE VIEW half.site_configs AS SELECT 1 AS x;
CREATE TYPE half.prebuild_status AS ENUM ('fine');
CREATE DOMAIN half.users AS text;
SET prebuild.control_plane_schema = 'half';
SELECT raises('SELECT prebuild_create_control_plane()', '42P07',
	'relations: site_configs, workspaces; types: prebuild_status, users$', 'prebuild.control_plane_schema',
	'existing tables and types are named');
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'half'::regnamespace), 2,
	'and nothing was created');
DROP TABLE half.workspaces;
DROP VIEW half.site_configs;
SELECT raises('SELECT prebuild_create_control_plane()', '42710',
	'already contains types: prebuild_status, users$', 'prebuild.control_plane_schema',
	'types alone are in the way too');
SET prebuild.control_plane_schema = 'cp one';
SELECT raises('SELECT prebuild_create_control_plane()', '42P07', 'users.*workspaces; types: agent', NULL,
	'a second time is refused');

-- nothing in the schema is picked up by mistake
DROP SCHEMA half CASCADE;
CREATE SCHEMA hostile;
CREATE DOMAIN hostile.uuid AS text;
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (false);
CREATE DOMAIN hostile.jsonb AS pg_catalog.text;
CREATE FUNCTION hostile.trap() RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'the trap was sprung'; END $$;
CREATE FUNCTION hostile.lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT hostile.trap()::text $$;
CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT hostile.trap()::text $$;
CREATE FUNCTION hostile.gen_random_uuid() RETURNS pg_catalog.uuid LANGUAGE sql AS
	$$ SELECT hostile.trap()::text::pg_catalog.uuid $$;
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS
	$$ SELECT hostile.trap()::text::timestamptz $$;
CREATE FUNCTION hostile.quote_ident(text) RETURNS text LANGUAGE sql AS $$ SELECT 'pg_catalog' $$;
CREATE FUNCTION hostile.current_schema() RETURNS name LANGUAGE sql AS $$ SELECT 'elsewhere'::name $$;
CREATE FUNCTION hostile.jsonb_typeof(pg_catalog.jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT hostile.trap()::text $$;
CREATE FUNCTION hostile.eq(anyelement, anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE AS
	$$ SELECT hostile.trap() $$;
CREATE OPERATOR hostile.= (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = hostile.eq);
CREATE FUNCTION hostile.eq_bool(boolean, boolean) RETURNS boolean LANGUAGE sql IMMUTABLE AS
	$$ SELECT hostile.trap() $$;
CREATE OPERATOR hostile.= (LEFTARG = boolean, RIGHTARG = boolean, FUNCTION = hostile.eq_bool);
CREATE OPERATOR hostile.<> (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.<= (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = hostile.eq);
SET prebuild.control_plane_schema = 'hostile';
-- the caller's own search_path makes no difference either
SET search_path = hostile, pg_catalog, public;
DO $$ BEGIN PERFORM public.prebuild_create_control_plane(); END $$;
SET search_path = fixture, public;
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'hostile'::regnamespace AND relkind = 'r'), 22,
	'a control plane among hostile objects');
SELECT is((SELECT count(*) FROM pg_depend d
		JOIN pg_class c ON c.relnamespace = 'hostile'::regnamespace
			AND (d.classid = 'pg_class'::regclass AND d.objid = c.oid
				OR d.classid = 'pg_attrdef'::regclass AND d.objid IN
					(SELECT oid FROM pg_attrdef WHERE adrelid = c.oid)
				OR d.classid = 'pg_constraint'::regclass AND d.objid IN
					(SELECT oid FROM pg_constraint WHERE conrelid = c.oid))
		WHERE (d.refclassid = 'pg_proc'::regclass
				AND d.refobjid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'hostile'::regnamespace))
			OR (d.refclassid = 'pg_operator'::regclass
				AND d.refobjid IN (SELECT oid FROM pg_operator WHERE oprnamespace = 'hostile'::regnamespace))
			OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT oid FROM pg_type
				WHERE typnamespace = 'hostile'::regnamespace AND typname IN ('uuid', 'text', 'jsonb')))), 0,
	'uses none of them');
DROP SCHEMA hostile CASCADE;

-- temporary tables and types of the same names neither
CREATE TEMP TABLE users (x int);
CREATE TYPE pg_temp.login_type AS ENUM ('x');
DO $$ BEGIN PERFORM pg_temp.create_in('cp_two'); END $$;
SELECT is((SELECT count(*) FROM cp_two.users), 1, 'temporary objects are not in the way');
DROP TABLE pg_temp.users;

-- a schema that only looks like one
CREATE SCHEMA "$user";
SET prebuild.control_plane_schema = '$user';
SELECT raises('SELECT prebuild_create_control_plane()', '42501', 'schema "\$user" cannot be used', NULL,
	'a schema that a search_path cannot name is refused');
DROP SCHEMA "$user";

-- it belongs to the caller, who needs privileges on the schema and on the function
CREATE ROLE cp_tenant;
CREATE SCHEMA cp_tenant;
SET prebuild.control_plane_schema = 'cp_tenant';
GRANT USAGE ON SCHEMA fixture TO cp_tenant;
SET ROLE cp_tenant;
SELECT raises('SELECT public.prebuild_create_control_plane()', '42501', 'permission denied for function', NULL,
	'the function is nobody''s unless granted');
RESET ROLE;
GRANT EXECUTE ON FUNCTION prebuild_create_control_plane() TO cp_tenant;
SET ROLE cp_tenant;
SELECT raises('SELECT public.prebuild_create_control_plane()', '42501', 'schema "cp_tenant" cannot be used',
	'USAGE and CREATE', 'without USAGE on the schema it is refused');
RESET ROLE;
GRANT USAGE ON SCHEMA cp_tenant TO cp_tenant;
SET ROLE cp_tenant;
SELECT raises('SELECT public.prebuild_create_control_plane()', '42501', 'permission denied for schema cp_tenant',
	NULL, 'without CREATE too');
RESET ROLE;
GRANT CREATE ON SCHEMA cp_tenant TO cp_tenant;
SET ROLE cp_tenant;
DO $$ BEGIN PERFORM public.prebuild_create_control_plane(); END $$;
RESET ROLE;
SELECT ok(bool_and(relowner = 'cp_tenant'::regrole), 'tables belong to the caller')
FROM pg_class WHERE relnamespace = 'cp_tenant'::regnamespace AND relkind = 'r';

-- no member of the extension: dumped like any table, kept by DROP EXTENSION
SELECT is(count(*), 0, 'nothing in the schema belongs to the extension')
FROM pg_depend WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'prebuild_ext')
	AND (classid, objid) IN (SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = 'cp_tenant'::regnamespace
		UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = 'cp_tenant'::regnamespace);
BEGIN;
DROP EXTENSION prebuild_ext;
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'cp_tenant'::regnamespace AND relkind = 'r'), 22,
	'DROP EXTENSION leaves the tables');
ROLLBACK;

DROP SCHEMA cp_tenant, "cp one", cp_two CASCADE;
REVOKE ALL ON SCHEMA fixture FROM cp_tenant;
REVOKE ALL ON FUNCTION prebuild_create_control_plane() FROM cp_tenant;
DROP ROLE cp_tenant;
