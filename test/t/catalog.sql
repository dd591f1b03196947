-- The extension's objects as lines of text, in which nothing depends on the database or on the schema
-- that they are in: two extensions are the same when their lines are. For psql -At.
SET search_path = pg_catalog;
CREATE TEMPORARY VIEW member AS
SELECT d.classid, d.objid, (pg_identify_object(d.classid, d.objid, 0)).*, e.extnamespace AS home
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'prebuild_ext' AND d.deptype = 'e';
CREATE TEMPORARY VIEW relation AS
SELECT c.*, m.identity AS is_called FROM pg_class c
JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
UNION ALL SELECT c.*, m.identity FROM pg_class c JOIN pg_type t ON t.typrelid = c.oid
JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid WHERE c.relkind = 'c';
CREATE TEMPORARY VIEW line AS
SELECT concat_ws(' ', 'member', type, identity) AS text FROM member
UNION ALL SELECT concat_ws(' ', 'owner', identity) FROM member m
JOIN pg_shdepend d ON d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND d.classid = m.classid AND d.objid = m.objid AND d.deptype <> 'i'
UNION ALL SELECT concat_ws(' ', 'extension', extrelocatable, obj_description(oid, 'pg_extension')) FROM pg_extension
WHERE extname = 'prebuild_ext'
UNION ALL SELECT concat_ws(' ', 'dumped', c.oid::regclass, x.condition) FROM pg_extension e,
	unnest(e.extconfig, e.extcondition) x (oid, condition) JOIN pg_class c ON c.oid = x.oid WHERE e.extname = 'prebuild_ext'
UNION ALL SELECT concat_ws(' ', 'comment', (pg_identify_object(d.classoid, d.objoid, d.objsubid)).identity, d.description)
FROM member m JOIN pg_description d ON d.classoid = m.classid AND d.objoid = m.objid
UNION ALL SELECT concat_ws(' ', 'comment', r.is_called, a.attname, d.description) FROM relation r
JOIN pg_attribute a ON a.attrelid = r.oid
JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = r.oid AND d.objsubid = a.attnum WHERE r.relkind = 'c'
UNION ALL SELECT concat_ws(' ', 'initial rights', m.identity, i.objsubid, i.privtype, i.initprivs)
FROM member m JOIN pg_init_privs i ON i.classoid = m.classid AND i.objoid = m.objid
UNION ALL SELECT DISTINCT concat_ws(' ', 'dependency', m.identity, d.objsubid, d.deptype,
	(pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid)).identity)
FROM member m JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid AND d.refclassid NOT IN ('pg_extension'::regclass, 'pg_namespace'::regclass)
-- functions: as they are made, and what that does not show
UNION ALL SELECT concat_ws(' ', 'function', m.identity, pg_get_functiondef(p.oid)) FROM pg_proc p
JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
UNION ALL SELECT concat_ws(' ', 'attributes of function', m.identity, (to_jsonb(p) - '{oid,pronamespace,proowner,prolang,
	provariadic,prosupport,prorettype,proargtypes,proallargtypes,proargdefaults,prosqlbody}'::text[]
	|| jsonb_build_object('language', (SELECT lanname FROM pg_language l WHERE l.oid = p.prolang), 'result', prorettype::regtype,
		'support', prosupport, 'arguments', pg_get_function_arguments(p.oid)))::text)
FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
UNION ALL SELECT concat_ws(' ', 'type', m.identity, t.typtype, t.typcategory, t.typacl, t.typdefault, t.typnotnull)
FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
-- relations; the columns by their numbers, as rows are built by these
UNION ALL SELECT concat_ws(' ', 'relation', is_called, relkind, relpersistence, relreplident, relrowsecurity, relacl, reloptions,
	CASE WHEN reloftype <> 0 THEN reloftype::regtype END, (SELECT amname FROM pg_am WHERE oid = relam),
	CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END) FROM relation
UNION ALL SELECT concat_ws(' ', 'column', r.is_called, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
	CASE WHEN a.attnotnull THEN 'not null' END, a.attidentity, a.attgenerated, a.attstorage, a.attcompression, a.attacl,
	pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation)
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND r.relkind <> 'i'
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL SELECT concat_ws(' ', 'constraint', r.is_called, c.conname, pg_get_constraintdef(c.oid)) FROM relation r
JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL SELECT concat_ws(' ', 'index', r.is_called, i.indisreplident, pg_get_indexdef(i.indexrelid)) FROM relation r
JOIN pg_index i ON i.indrelid = r.oid
UNION ALL SELECT concat_ws(' ', 'trigger', r.is_called, t.tgenabled, pg_get_triggerdef(t.oid)) FROM relation r
JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL SELECT concat_ws(' ', 'sequence', r.is_called, to_jsonb(s) - 'seqrelid' - 'seqtypid', s.seqtypid::regtype) FROM relation r
JOIN pg_sequence s ON s.seqrelid = r.oid
UNION ALL SELECT concat_ws(' ', 'policy', r.is_called, to_jsonb(p) - 'oid' - 'polrelid') FROM relation r
JOIN pg_policy p ON p.polrelid = r.oid;
SELECT replace(replace(replace(text, home, 'HOME.'), trim('"' FROM to_jsonb(home)::text), 'HOME.'), E'\n', '\n')
FROM line, (SELECT extnamespace::regnamespace || '.' FROM pg_extension WHERE extname = 'prebuild_ext') e (home)
ORDER BY text COLLATE "C";
