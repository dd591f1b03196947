-- The install script: comments, rights, pinned paths, volatility.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS prebuild_ext;
\pset format unaligned
\pset tuples_only on

CREATE TEMPORARY VIEW own AS
SELECT p.* FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'prebuild_ext';

SELECT 'functions: ' || (count(*) > 10) FROM own;

-- nothing in these lists
SELECT 'no comment: ' || proname FROM own
WHERE obj_description(oid, 'pg_proc') IS NULL AND prorettype <> 'trigger'::regtype ORDER BY 1;
SELECT 'overloaded: ' || proname FROM own GROUP BY proname HAVING count(*) > 1;
SELECT 'security definer without a path: ' || proname FROM own
WHERE prosecdef AND 'search_path=pg_catalog, pg_temp' <> ALL (coalesce(proconfig, '{}')) ORDER BY 1;
SELECT 'leakproof: ' || proname FROM own WHERE proleakproof ORDER BY 1;
SELECT 'path not pinned: ' || proname FROM own
WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
	AND 'search_path=pg_catalog, pg_temp' <> ALL (coalesce(proconfig, '{}')) ORDER BY 1;
SELECT 'several columns without a named type: ' || proname FROM own
WHERE prorettype = 'record'::regtype ORDER BY 1;
SELECT 'safe in parallel: ' || proname FROM own
WHERE provolatile = 'v' AND proparallel = 's' ORDER BY 1;

-- what everybody may call
SELECT 'public: ' || p.proname FROM own p WHERE has_function_privilege('public', p.oid, 'EXECUTE')
ORDER BY 1;

-- nobody has rights on the extension's tables
SELECT 'rights: ' || c.relname FROM pg_class c
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'prebuild_ext' AND c.relkind IN ('r', 'S') AND c.relacl IS NOT NULL ORDER BY 1;

SELECT extname || ' trusted: ' || coalesce(bool_or(v.trusted), false)
FROM pg_extension e JOIN pg_available_extension_versions v ON v.name = e.extname
WHERE extname = 'prebuild_ext' GROUP BY 1 || extname, extname;
