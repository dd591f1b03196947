-- Claims: which prebuild is given away, what is written, what is refused. Presets by parameters.
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_claim'); END $$;

-- triggers of the control plane's that name its tables as an application's session does
CREATE FUNCTION bare_names() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN PERFORM FROM workspaces, template_version_presets LIMIT 1; RETURN NEW; END';
CREATE TRIGGER bare_names AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION bare_names();
CREATE TRIGGER bare_names AFTER UPDATE ON template_version_presets FOR EACH ROW
	EXECUTE FUNCTION bare_names();

-- what is written
DO $$ BEGIN
	PERFORM simple('fields', 2);
	PERFORM prebuild('fields', 'fields-young', created => t0() - interval '1 hour');
	PERFORM prebuild('fields', 'fields-old', created => t0() - interval '2 hours');
	UPDATE workspaces SET dormant_at = t0(), deleting_at = t0(), automatic_updates = 'never',
		last_used_at = t0() - interval '2 hours' WHERE name = 'fields-old';
	PERFORM set_config('test.old', w('fields-old')::text, false);
	CREATE TEMPORARY TABLE builds_before AS SELECT * FROM workspace_builds;
	CREATE TEMPORARY TABLE workspaces_before AS SELECT * FROM workspaces;
END $$;
SELECT is((SELECT count(*) FROM prebuild_running(p('fields'))), 2, 'two prebuilds run');
CREATE TEMPORARY TABLE claimed AS
SELECT * FROM prebuild_claim(p('fields'), usr('ada'), 'Mine', 'CRON_TZ=UTC 30 9 * * 1-5',
	t0() + interval '1 day', 28800000000000, t0() + interval '1 minute');
SELECT is((SELECT count(*) FROM claimed), 1, 'a claim gives one row');
SELECT is((SELECT id::text FROM claimed), current_setting('test.old'), 'the oldest one');
SELECT is((SELECT name FROM claimed), 'Mine', 'under the new name');
SELECT is(row(x.owner_id, x.name::text), row(usr('ada'), 'Mine'::text), 'owner and name are set'),
	is(x.updated_at, t0() + interval '1 minute', 'updated_at is the claim''s time'),
	is(x.last_used_at, t0() + interval '1 minute', 'so is last_used_at'),
	is(row(x.autostart_schedule, x.next_start_at, x.ttl),
		row('CRON_TZ=UTC 30 9 * * 1-5'::text, t0() + interval '1 day', 28800000000000),
		'schedule, next start and time to live are set'),
	is(row(x.dormant_at, x.deleting_at), row(NULL::timestamptz, NULL::timestamptz),
		'dormancy and deletion are cleared'),
	is(row(x.created_at, x.organization_id, x.template_id, x.deleted, x.automatic_updates),
		row(o.created_at, o.organization_id, o.template_id, o.deleted, o.automatic_updates),
		'the rest is as it was')
FROM workspaces x JOIN workspaces_before o USING (id) JOIN claimed c USING (id);
SELECT ok(NOT EXISTS ((TABLE workspace_builds EXCEPT TABLE builds_before)
	UNION ALL (TABLE builds_before EXCEPT TABLE workspace_builds)), 'no build is touched');
SELECT is((SELECT string_agg(name, ' ') FROM prebuild_running(p('fields'))), 'fields-young',
	'the pool has one less');
SELECT is(pass(), 'created 1', 'the next pass refills it');
DO $$ BEGIN PERFORM finish_jobs(t0()); END $$;
SELECT is(claim('fields', 'ada', 'second'), 'fields-young', 'the next claim gets the next one');
SELECT is((SELECT row(autostart_schedule, next_start_at, ttl) FROM workspaces WHERE name = 'second'),
	row(NULL::text, NULL::timestamptz, NULL::bigint), 'what is not given is NULL');
SELECT ok(claim('fields', 'ada', 'third') ~ '^prebuild-', 'then the one that the pass made');
SELECT is(claim('fields', 'ada', 'fourth'), NULL, 'and then there is none');
SELECT is((SELECT count(*) FROM prebuild_claim(p('fields'), usr('ada'), 'fourth')), 0,
	'which is no row');
SELECT is((SELECT count(*) FROM workspaces WHERE name = 'fourth'), 0, 'and nobody is called so');

-- what is not given away: each preset has one prebuild that is not eligible, for one reason
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{not_ready,half_ready,no_agents,deleted_agents,sub_agent,pending,failed,
		stopped,deleting,stopping,user_owned,removed,aged,just_aged,
		inactive,deprecated,gone_template,old_build,no_preset,other_preset}'::text[]
	LOOP
		PERFORM simple(name, 1);
	END LOOP;
	PERFORM prebuild('not_ready', 'n1', ready => false);
	PERFORM prebuild('half_ready', 'n2');
	PERFORM agent('n2', 'starting');
	PERFORM prebuild('no_agents', 'n3', ready => NULL);
	PERFORM prebuild('deleted_agents', 'n4', ready => NULL);
	PERFORM agent('n4', 'ready', deleted => true);
	PERFORM prebuild('sub_agent', 'n5');
	PERFORM agent('n5', 'starting', parent => (SELECT a.id FROM workspace_agents a
		JOIN workspace_resources r ON r.id = a.resource_id
		JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.workspace_id = w('n5')));
	PERFORM prebuild('pending', 'n6', status => 'pending');
	PERFORM prebuild('failed', 'n7', status => 'failed');
	PERFORM prebuild('stopped', 'n8');
	PERFORM build('n8', 'stop');
	PERFORM prebuild('deleting', 'n9');
	PERFORM build('n9', 'delete', 'pending');
	PERFORM prebuild('stopping', 'n10');
	PERFORM build('n10', 'stop', 'running');
	PERFORM prebuild('user_owned', 'n11', owner => usr('ada'));
	PERFORM prebuild('removed', 'n12');
	UPDATE workspaces SET deleted = true WHERE workspaces.name = 'n12';
	PERFORM prebuild('aged', 'n13', created => t0() - interval '3601 s');
	PERFORM prebuild('just_aged', 'n14', created => t0() - interval '3600 s');
	UPDATE template_version_presets x SET invalidate_after_secs = 3600
	WHERE x.name IN ('aged', 'just_aged');
	PERFORM prebuild('inactive', 'n15');
	PERFORM version('inactive', 'inactive-v2');
	PERFORM prebuild('deprecated', 'n16');
	UPDATE templates x SET deprecated = 'use another' WHERE x.name = 'deprecated';
	PERFORM prebuild('gone_template', 'n17');
	UPDATE templates x SET deleted = true WHERE x.name = 'gone_template';
	-- the preset is of the active version, the latest build is not
	PERFORM prebuild('old_build', 'n18');
	PERFORM build('n18', 'start', version_id => version('old_build', 'old_build-v0', false));
	PERFORM prebuild('no_preset', 'n19');
	UPDATE workspace_builds SET template_version_preset_id = NULL WHERE workspace_id = w('n19');
	PERFORM preset('other_preset-v1', 'another_preset', 1);
	PERFORM prebuild('another_preset', 'n20');
END $$;
SELECT is(claim(name, 'ada', 'got-' || name),
	CASE name WHEN 'sub_agent' THEN 'n5' WHEN 'just_aged' THEN 'n14' END, 'claim of ' || name)
FROM unnest('{not_ready,half_ready,no_agents,deleted_agents,sub_agent,pending,failed,stopped,deleting,
	stopping,user_owned,removed,aged,just_aged,inactive,deprecated,gone_template,old_build,
	no_preset,other_preset}'::text[]) name;

-- the preset is that of the newest start build that has one
DO $$ BEGIN
	PERFORM simple('restarted', 1);
	PERFORM prebuild('restarted', 'r1');
	PERFORM build('r1', 'start');
END $$;
SELECT is(shape('r1'), '2 start succeeded', 'a restart without a preset');
SELECT is(claim('restarted', 'ada', 'r1-mine'), 'r1', 'is claimed by the preset of the build before');
-- presets without desired instances too, as for the rest of their pool
DO $$ BEGIN
	PERFORM simple('zero', 0);
	PERFORM prebuild('zero', 'z1');
	UPDATE template_version_presets SET desired_instances = NULL WHERE name = 'zero';
END $$;
SELECT is(claim('zero', 'ada', 'z-mine'), 'z1', 'a preset that wants none any more');
-- the same age: by id; the oldest that is eligible, not the oldest
DO $$ BEGIN
	PERFORM simple('ties', 3);
	PERFORM prebuild('ties', 't' || n) FROM generate_series(1, 3) n;
	PERFORM prebuild('ties', 't-old', created => t0() - interval '1 day', ready => false);
END $$;
SELECT is((SELECT string_agg(claim('ties', 'ada', 'ties-' || n), ' ' ORDER BY n)
	FROM generate_series(1, 3) n),
	(SELECT string_agg(name, ' ' ORDER BY id) FROM prebuild_running(p('ties')) WHERE ready),
	'equally old ones go by id, past one that is not ready');

-- a name that the owner has already
DO $$ BEGIN
	PERFORM simple('names', 2);
	PERFORM prebuild('names', 'name-1');
	CREATE TEMPORARY TABLE before AS SELECT * FROM workspaces WHERE name = 'name-1';
END $$;
SELECT raises($$SELECT prebuild_claim(p('names'), usr('ada'), 'mine')$$, '23505',
	'workspaces_owner_id_lower_idx', NULL, 'a name that the owner uses, in any case, is refused');
SELECT ok(EXISTS (TABLE before INTERSECT TABLE workspaces), 'and the prebuild is as it was');
SELECT is(claim('names', 'ben', 'mine'), 'name-1', 'another owner may use it');

-- arguments
DO $$ BEGIN
	PERFORM simple('args', 1);
	PERFORM prebuild('args', 'args-1');
	PERFORM usr('ghost');
	UPDATE users SET deleted = true WHERE username = 'ghost';
	CREATE TEMPORARY TABLE all_before AS SELECT * FROM workspaces;
END $$;
SELECT raises(format('SELECT * FROM prebuild_claim(%s)', arguments), state, message, NULL, label)
FROM (VALUES
	($$NULL, usr('ada'), 'x'$$, '22004', '"preset_id" must not be null', 'no preset'),
	($$p('args'), NULL, 'x'$$, '22004', '"new_owner_id" must not be null', 'no owner'),
	($$p('args'), usr('ada'), NULL$$, '22004', '"new_name" must not be null', 'no name'),
	($$p('args'), usr('ada'), ''$$, '22023', '"new_name" must have 1 to 64 characters, not 0',
		'an empty name'),
	($$p('args'), usr('ada'), repeat('ä', 65)$$, '22001',
		'"new_name" must have 1 to 64 characters, not 65', 'a long name'),
	($$p('args'), usr('ada'), 'x', next_start_at => 'infinity'$$, '22008',
		'"next_start_at" must be a finite time, not infinity', 'an infinite next start'),
	($$p('args'), usr('ada'), 'x', ttl => -1$$, '22023',
		'"ttl" must be at least a minute in nanoseconds, 60000000000, not -1', 'a negative time to live'),
	($$p('args'), usr('ada'), 'x', ttl => 0$$, '22023', 'nanoseconds, 60000000000, not 0',
		'no time to live at all'),
	($$p('args'), usr('ada'), 'x', ttl => 28800$$, '22023', 'nanoseconds, 60000000000, not 28800',
		'a time to live in seconds'),
	($$p('args'), usr('ada'), 'x', ttl => 28800000$$, '22023', 'nanoseconds, 60000000000, not 28800000',
		'a time to live in milliseconds'),
	($$p('args'), usr('ada'), 'x', ttl => 59999999999$$, '22023', 'nanoseconds, 60000000000, not 59999999999',
		'a time to live of a nanosecond less than a minute'),
	($$p('args'), usr('ada'), 'x', at => '-infinity'$$, '22008',
		'"at" must be a finite time, not -infinity', 'an infinite time'),
	($$p('args'), usr('ada'), 'x', at => NULL$$, '22004', '"at" must not be null', 'no time'),
	($$'00000000-0000-0000-0000-00000000abcd', usr('ada'), 'x'$$, '22023',
		'preset 00000000-0000-0000-0000-00000000abcd does not exist', 'an unknown preset'),
	($$p('args'), '00000000-0000-0000-0000-00000000abcd', 'x'$$, '23503',
		'user 00000000-0000-0000-0000-00000000abcd, the new owner, does not exist',
		'an unknown owner'),
	($$p('args'), usr('ghost'), 'x'$$, '22023', 'the new owner, is deleted', 'a deleted owner'),
	($$p('args'), prebuild_system_user(), 'x'$$, '22023', '"new_owner_id" must not be the system user',
		'the system user as owner')
) a (arguments, state, message, label);
SELECT raises($$SELECT prebuild_claim(p('args'), usr('ada'), 'x', ttl => 28800)$$, '22023', 'ttl',
	'in nanoseconds, as in Coder: 8 hours are 28800000000000\. NULL means none', 'the hint names the unit');
SELECT ok(NOT EXISTS ((TABLE workspaces EXCEPT TABLE all_before)
	UNION ALL (TABLE all_before EXCEPT TABLE workspaces)), 'none of them changed anything');
BEGIN;
DO $$ BEGIN PERFORM prebuild_claim(p('args'), usr('ada'), 'short', ttl => 60000000000, at => t0()); END $$;
SELECT is((SELECT ttl FROM workspaces WHERE name = 'short'), 60000000000, 'a minute is the shortest time to live');
ROLLBACK;
BEGIN READ ONLY;
SELECT raises($$SELECT prebuild_claim(p('args'), (SELECT id FROM users WHERE username = 'ada'), 'x')$$,
	'25006', 'cannot execute prebuild_claim\(\) in a read-only transaction', NULL,
	'a read-only transaction');
COMMIT;
BEGIN;
SELECT is(claim('args', 'ada', 'undone'), 'args-1', 'a claim in a transaction');
ROLLBACK;
SELECT is(claim('args', 'ada', repeat('ä', 64)), 'args-1', 'that is undone is not one');
-- a trigger of the control plane's keeps one back
DO $$ BEGIN
	PERFORM simple('kept', 2);
	PERFORM prebuild('kept', 'kept-1', created => t0() - interval '2 hours');
	PERFORM prebuild('kept', 'kept-2');
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN IF OLD.name = ''kept-1'' THEN RETURN NULL; END IF; RETURN NEW; END';
	CREATE TRIGGER keep BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION keep();
END $$;
SELECT is(claim('kept', 'ada', 'not-kept'), 'kept-2', 'a trigger that keeps one back: the next is given');
SELECT is(claim('kept', 'ada', 'not-kept-2'), NULL, 'or none');
DROP TRIGGER keep ON workspaces;
-- rights: the caller's own
CREATE ROLE claim_nobody;
SELECT is((SELECT string_agg(proname, ' ') FROM pg_proc WHERE proname ~ '^prebuild_(claim|find_|inval)'
	AND has_function_privilege('claim_nobody', oid, 'EXECUTE')), NULL, 'not for everybody');
DO $$ BEGIN
	PERFORM prebuild_grant('claim_nobody');
	GRANT USAGE ON SCHEMA cp_claim, fixture TO claim_nobody;
	GRANT SELECT ON ALL TABLES IN SCHEMA cp_claim TO claim_nobody;
END $$;
SET ROLE claim_nobody;
SELECT raises($$SELECT prebuild_claim(p('kept'),
	(SELECT id FROM users WHERE username = 'ada'), 'x')$$, '42501', 'workspaces', NULL,
	'the right to update workspaces is the caller''s affair');
RESET ROLE;
GRANT UPDATE ON workspaces TO claim_nobody;
SET ROLE claim_nobody;
SELECT is((SELECT name FROM prebuild_claim(p('kept'),
	(SELECT id FROM users WHERE username = 'ada'), 'granted', at => t0())), 'granted',
	'with it and those to read a claim needs no more');
RESET ROLE;
DO $$ BEGIN
	EXECUTE 'DROP OWNED BY claim_nobody';
	DROP ROLE claim_nobody;
END $$;

-- presets by parameters
DO $$ BEGIN
	PERFORM template('find');
	PERFORM version('find', 'find-v1');
	PERFORM preset('find-v1', name, 1)
	FROM unnest('{f-none,f-eu,f-us,f-eu-8,f-eu-8-again}'::text[]) name;
	UPDATE template_version_presets x SET created_at = t0() - interval '2 days'
	WHERE x.name = 'f-eu-8-again';
	PERFORM preset_value('f-eu', 'region', 'eu'), preset_value('f-us', 'region', 'us'),
		preset_value('f-eu-8', 'region', 'eu'), preset_value('f-eu-8', 'cpus', '8'),
		preset_value('f-eu-8-again', 'region', 'eu'), preset_value('f-eu-8-again', 'cpus', '8');
	PERFORM template('find2');
	PERFORM version('find2', 'find2-v1');
	PERFORM preset('find2-v1', 'f2-eu', 1);
	PERFORM preset_value('f2-eu', 'region', 'eu');
	PERFORM template('find3');
	PERFORM version('find3', 'find3-v1');
	PERFORM preset('find3-v1', 'f3-' || n, 1) FROM generate_series(1, 2) n;
END $$;
CREATE FUNCTION pg_temp.find(version_name text, names text[], vals text[]) RETURNS text LANGUAGE sql AS
$$ SELECT name FROM template_version_presets WHERE id = prebuild_find_preset(v(version_name), names, vals) $$;
SELECT is(pg_temp.find('find-v1', names::text[], vals::text[]), wanted, label)
FROM (VALUES
	('{region}', '{eu}', 'f-eu', 'the preset whose parameters are given'),
	('{region,other}', '{eu,x}', 'f-eu', 'more may be given'),
	('{cpus,region}', '{8,eu}', 'f-eu-8-again', 'the most parameters win, then the oldest preset'),
	('{cpus,region}', '{4,eu}', 'f-eu', 'all of them have to be given'),
	('{cpus,region}', '{8,us}', 'f-us', 'with their values'),
	('{cpus}', '{8}', 'f-none', 'a preset without parameters fits everything and comes last'),
	('{}', '{}', 'f-none', 'also nothing'),
	('{eu}', '{region}', 'f-none', 'names are no values'),
	('{region}', '{EU}', 'f-none', 'letters count')
) f (names, vals, wanted, label);
SELECT ok(pg_temp.find('find-v1', '{region,region}', '{us,eu}') IN ('f-eu', 'f-us')
	AND pg_temp.find('find-v1', '{region,region,cpus}', '{us,eu,8}') = 'f-eu-8-again',
	'a name that is given twice stands for both values');
SELECT is(pg_temp.find('find2-v1', '{region}', '{us}'), NULL, 'none that fits is NULL');
SELECT is(prebuild_find_preset('00000000-0000-0000-0000-00000000abcd', '{}', '{}'), NULL,
	'so is a version without presets');
SELECT is(prebuild_find_preset(v('find3-v1'), '{}', '{}'),
	(SELECT id FROM template_version_presets WHERE template_version_id = v('find3-v1')
		ORDER BY created_at, id LIMIT 1), 'equally old presets go by id');
SELECT raises(format('SELECT prebuild_find_preset(%s)', arguments), state, message, NULL, label)
FROM (VALUES
	($$NULL, '{}', '{}'$$, '22004', '"template_version_id" must not be null', 'no version'),
	($$v('find-v1'), NULL, '{}'$$, '22004', '"parameter_names" must not be null', 'no names'),
	($$v('find-v1'), '{}', NULL$$, '22004', '"parameter_values" must not be null', 'no values'),
	($$v('find-v1'), '{a,NULL}', '{a,b}'$$, '22004', '"parameter_names" must not contain nulls',
		'a NULL name'),
	($$v('find-v1'), '{a,b}', '{a,NULL}'$$, '22004', '"parameter_values" must not contain nulls',
		'a NULL value'),
	($$v('find-v1'), '{{a},{b}}', '{a,b}'$$, '2202E', '"parameter_names" must be a one-dimensional array',
		'names in two dimensions'),
	($$v('find-v1'), '{a,b}', '{{a},{b}}'$$, '2202E',
		'"parameter_values" must be a one-dimensional array', 'values in two dimensions'),
	($$v('find-v1'), '{a,b}', '{a}'$$, '2202E',
		'"parameter_names" and "parameter_values" must be of the same length', 'a value is missing')
) a (arguments, state, message, label);
SELECT is((SELECT provolatile FROM pg_proc WHERE proname = 'prebuild_find_preset'), 's',
	'finding is STABLE');

-- control planes of before v2.29
DO $$ BEGIN
	ALTER TABLE template_version_presets DROP COLUMN IF EXISTS last_invalidated_at;
	PERFORM simple('before', 1);
	PERFORM prebuild('before', 'before-1');
END $$;
SELECT raises($$SELECT prebuild_invalidate(p('before'))$$, '0A000', 'last_invalidated_at', 'v2\.29',
	'invalidation needs its column');
SELECT is(claim('before', 'ada', 'before-mine'), 'before-1', 'claims do without it');
DROP SCHEMA cp_claim CASCADE;
