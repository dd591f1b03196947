-- Every function with an argument of a time refuses an infinite one and names the argument.
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_infinite'); END $$;

-- One of an argument's type, or of its name where its text is looked at.
CREATE FUNCTION some_value(name text, type regtype) RETURNS text LANGUAGE sql AS
$$
	SELECT CASE
		WHEN name = 'cron' THEN '''* * * * *'''
		WHEN name = 'timezone' THEN '''UTC'''
		WHEN type = 'uuid'::regtype THEN format('%L', prebuild_system_user())
		WHEN type = 'uuid[]'::regtype THEN format('''{%s}''', prebuild_system_user())
		WHEN type = 'text'::regtype THEN '''x'''
		WHEN type = 'text[]'::regtype THEN '''{x}'''
		WHEN type = 'bigint'::regtype THEN '3600000000000'
		WHEN type IN ('real'::regtype, 'boolean'::regtype) THEN '''1'''
		WHEN type = 'double precision'::regtype THEN '0.9'
		WHEN type = 'interval'::regtype THEN '''1 hour'''
		WHEN type = 'timestamptz'::regtype THEN '''2025-06-02'''
		WHEN type = 'timestamptz[]'::regtype THEN '''{2025-06-02}'''
	END
$$;

-- Each argument that is a time, or times, of each function: a call in which it is infinite.
CREATE TABLE fixture.call AS
SELECT p.proname, a.name, i.infinite, format('SELECT %s(%s)', p.oid::regproc, (
		SELECT string_agg(format('%I => %s', o.name, CASE WHEN o.n <> a.n THEN some_value(o.name, o.type)
			WHEN o.type = 'timestamptz'::regtype THEN format('%L', i.infinite)
			ELSE format('''{%s}''', i.infinite) END), ', ' ORDER BY o.n)
		FROM unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY o (name, type, n) WHERE o.n <= p.pronargs)) AS statement
FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid,
	unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY a (name, type, n),
	unnest('{infinity,-infinity}'::text[]) i (infinite)
WHERE e.extname = 'prebuild_ext' AND a.n <= p.pronargs AND a.type IN ('timestamptz'::regtype, 'timestamptz[]'::regtype);

SELECT is((SELECT count(*) FROM fixture.call WHERE statement IS NULL), 0, 'there is a value for every argument');
SELECT ok(count(*) >= 24, 'and all that there were in 0.1 are looked at') FROM fixture.call;
SELECT r FROM (SELECT raises(statement, '22008', format('argument "%s" must .*finite times?.*, not %s$', name, infinite), NULL,
	format('%s: %s %s', proname, name, infinite)) AS r FROM fixture.call) x
WHERE r NOT LIKE 'ok - %' ORDER BY r;
DROP SCHEMA cp_infinite CASCADE;
