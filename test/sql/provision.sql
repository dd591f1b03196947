-- What a pass writes, field by field; who may, what stops it, and what one faulty preset costs.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('app', 3);
	PERFORM parameter('app-v1', 'region', 'eu');
	PERFORM parameter('app-v1', 'size', '4', type => 'number');
	PERFORM preset_value('app', 'region', 'us');
	UPDATE provisioner_jobs SET tags = '{"scope": "organization", "owner": "", "cluster": "a", "none": ""}',
		file_id = '11111111-2222-3333-4444-555555555555' WHERE type = 'template_version_import';
	INSERT INTO template_version_workspace_tags VALUES (v('app-v1'), 'pool', '"prebuilt"');
END $$;
CREATE TEMP TABLE result AS SELECT * FROM prebuild_reconcile(t0());
SELECT is((lock_acquired, paused, presets_total, presets_reconciled, created, deleted, canceled, backing_off, failed)::text,
	'(t,f,1,1,3,0,0,0,0)', 'the result row') FROM result;
SELECT ok(elapsed >= '0', 'and the time it took') FROM result;

-- create
SELECT is((count(*), count(DISTINCT name), bool_and(name ~ '^prebuild-[a-z2-7]{15}$'))::text, '(3,3,t)', 'three names') FROM workspaces;
SELECT is((owner_id, organization_id, template_id, deleted, automatic_updates, autostart_schedule, ttl, dormant_at,
		deleting_at, favorite, next_start_at)::text,
	(prebuild_system_user(), organization('org'), t('app'), false, 'never'::text, NULL::text, NULL::bigint, NULL::timestamptz,
		NULL::timestamptz, false, NULL::timestamptz)::text, 'the workspace')
FROM workspaces;
SELECT ok(count(DISTINCT created_at) = 3 AND min(created_at) >= t0() AND max(created_at) < t0() + interval '1 ms'
	AND min(updated_at) >= t0() AND max(updated_at) < t0() + interval '1 ms'
	AND min(last_used_at) >= t0() AND max(last_used_at) < t0() + interval '1 ms', 'times of workspaces') FROM workspaces;
SELECT is((type, provisioner, storage_method, file_id, organization_id, initiator_id, job_status, started_at, worker_id,
		error, error_code, trace_metadata)::text,
	('workspace_build'::text, 'terraform'::text, 'file'::text, '11111111-2222-3333-4444-555555555555'::uuid, organization('org'),
		prebuild_system_user(), 'pending'::text, NULL::timestamptz, NULL::uuid, NULL::text, NULL::text, '{}'::jsonb)::text, 'the job')
FROM provisioner_jobs WHERE type = 'workspace_build';
SELECT is(tags, '{"scope": "organization", "owner": "", "cluster": "a", "pool": "prebuilt"}', 'its tags')
FROM provisioner_jobs WHERE type = 'workspace_build' LIMIT 1;
SELECT is(j.input, jsonb_build_object('workspace_build_id', b.id, 'dry_run', false, 'prebuilt_workspace_stage', 1), 'its input')
FROM provisioner_jobs j JOIN workspace_builds b ON b.job_id = j.id;
SELECT ok(count(DISTINCT created_at) = 3 AND min(created_at) >= t0() AND max(created_at) < t0() + interval '1 ms',
	'times of jobs') FROM provisioner_jobs WHERE type = 'workspace_build';
SELECT is((build_number, transition, template_version_id, template_version_preset_id, initiator_id, reason, provisioner_state,
		deadline, max_deadline, daily_cost)::text,
	(1, 'start'::text, v('app-v1'), p('app'), prebuild_system_user(), 'initiator'::text, NULL::bytea,
		'0001-01-01 00:00Z'::timestamptz, '0001-01-01 00:00Z'::timestamptz, 0)::text, 'the build')
FROM workspace_builds;
SELECT ok(count(DISTINCT created_at) = 3 AND min(created_at) >= t0() AND max(created_at) < t0() + interval '1 ms',
	'times of builds') FROM workspace_builds;
SELECT is(string_agg(x.name || '=' || value, ' ' ORDER BY x.name), 'region=us size=4', 'its parameters')
FROM workspace_build_parameters x GROUP BY workspace_build_id;
SELECT is((SELECT count(*) FROM workspace_resources), 0, 'nothing else');

-- membership
SELECT is((SELECT string_agg(o.name || m.roles::text, ' ') FROM organization_members m JOIN organizations o ON o.id = m.organization_id
	WHERE m.user_id = prebuild_system_user()), 'org{}', 'the system user is a member of the organization');
SELECT is((name, display_name, quota_allowance, source, avatar_url)::text, '(coderprebuiltworkspaces,"Prebuilt Workspaces",0,user,"")',
	'the group') FROM groups;
SELECT is((SELECT count(*) FROM group_members m JOIN groups g ON g.id = m.group_id WHERE m.user_id = prebuild_system_user()), 1,
	'the system user is in it');
SELECT is(pass(n => 7), '', 'seven more passes do nothing');
SELECT is(((SELECT count(*) FROM organization_members), (SELECT count(*) FROM groups), (SELECT count(*) FROM group_members))::text,
	'(1,1,1)', 'nor to the membership');
DO $$ BEGIN
	PERFORM organization('idle');
	PERFORM simple('else', 1, org => 'second');
	DELETE FROM group_members;
END $$;
SELECT is(pass(), 'created 1', 'a second organization');
SELECT is((SELECT string_agg(o.name, ' ' ORDER BY o.name) FROM organization_members m JOIN organizations o ON o.id = m.organization_id),
	'org second', 'is joined, one that wants none is not');
SELECT is((SELECT count(*) FROM group_members), 2, 'and what was missing is made good');

-- a membership that is there already is left as it is
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('app', 1);
	INSERT INTO groups (id, name, organization_id, display_name, quota_allowance)
	VALUES (gen_random_uuid(), 'coderprebuiltworkspaces', organization('org'), 'Ours', 7);
	INSERT INTO organization_members VALUES (prebuild_system_user(), organization('org'), t0(), t0(), '{auditor}');
	PERFORM pass();
END $$;
SELECT is((g.display_name, g.quota_allowance, m.roles, (SELECT count(*) FROM group_members))::text, '(Ours,7,{auditor},1)',
	'an existing group and membership are kept') FROM groups g, organization_members m;

-- where the system user is needed: of templates that are there, active versions that want some at
-- some time or have some left
DO $$
DECLARE
	org text;
BEGIN
	PERFORM control_plane('cp_provision');
	FOREACH org IN ARRAY '{wants,at-night,zero,never,left,left-stopped,old,no-template,no-org,deprecated,numberless}'::text[] LOOP
		PERFORM simple(org, CASE WHEN org IN ('wants', 'old', 'no-template', 'no-org', 'deprecated') THEN 1
			WHEN org <> 'numberless' THEN 0 END, org => org);
	END LOOP;
	PERFORM schedule('at-night', '* 0-4 * * *', 2), schedule('never', '* 0-4 * * *', 0),
		schedule('numberless', '* * * * *', 2);
	UPDATE template_version_presets SET scheduling_timezone = 'UTC';
	PERFORM prebuild('left', 'left-1');
	PERFORM prebuild('left-stopped', 'left-2');
	PERFORM build('left-2', 'stop');
	PERFORM version('old', 'old-v2');
	PERFORM prebuild('old', 'old-1');
	PERFORM prebuild('no-template', 'none-1');
	UPDATE templates SET deleted = true WHERE name = 'no-template';
	UPDATE templates SET deprecated = 'for now' WHERE name = 'deprecated';
	-- Coder's database lets only empty ones be deleted
	SET LOCAL session_replication_role = replica;
	UPDATE organizations SET deleted = true WHERE name = 'no-org';
	SET LOCAL session_replication_role = origin;
END $$;
CREATE FUNCTION pg_temp.joined() RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(o.name, ' ' ORDER BY o.name COLLATE "C") FROM organizations o
	WHERE EXISTS (SELECT FROM organization_members m WHERE m.organization_id = o.id AND m.user_id = prebuild_system_user())
	OR EXISTS (SELECT FROM groups g LEFT JOIN group_members m ON m.group_id = g.id WHERE g.organization_id = o.id) $$;
SELECT is(pass(n => 2), 'created 2, deleted 3', 'prebuilds come and go');
SELECT is(pg_temp.joined(), 'at-night deprecated left left-stopped wants', 'the organizations that are joined');
-- an organization that is being deleted: its template first, then who is left in it; Coder's
-- database counts members and groups
DO $$ BEGIN
	UPDATE templates SET deleted = true WHERE name = 'wants';
	DELETE FROM organization_members WHERE organization_id = organization('wants');
	DELETE FROM groups WHERE organization_id = organization('wants');
	DELETE FROM workspaces WHERE organization_id = organization('wants');
END $$;
SELECT is(pass(n => 2), '', 'a pass between the steps');
UPDATE organizations SET deleted = true WHERE name = 'wants';
SELECT is(pg_temp.joined(), 'at-night deprecated left left-stopped', 'is not joined again');

-- delete: everything as in the build before, the state above all
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('app', 0);
	PERFORM parameter('app-v1', 'region', 'eu');
	PERFORM prebuild('app', 'goes');
	PERFORM version('app', 'app-v0', active => false);
	PERFORM build('goes', 'start', version_id => v('app-v0'), job_tags => '{"odd": "tags"}');
	UPDATE workspace_builds SET provisioner_state = convert_to('state ' || build_number, 'UTF8');
	INSERT INTO workspace_build_parameters
	SELECT b.id, name, name || b.build_number FROM workspace_builds b, unnest('{region,removed}'::text[]) name;
	UPDATE provisioner_jobs j SET provisioner = 'echo', file_id = '11111111-2222-3333-4444-555555555555'
	FROM workspace_builds b WHERE b.job_id = j.id AND b.build_number = 2;
	UPDATE provisioner_jobs SET tags = '{"scope": "organization", "owner": "", "changed": "since"}' WHERE type = 'template_version_import';
END $$;
SELECT is(pass(), 'deleted 1', 'one is deleted');
SELECT is((build_number, transition, template_version_id, template_version_preset_id, initiator_id, reason, provisioner_state)::text,
	(3, 'delete'::text, v('app-v0'), p('app'), prebuild_system_user(), 'initiator'::text, convert_to('state 2', 'UTF8'))::text, 'the delete build')
FROM workspace_builds WHERE id = latest('goes');
SELECT is(string_agg(x.name || '=' || value, ' ' ORDER BY x.name), 'region=region2 removed=removed2', 'its parameters')
FROM workspace_build_parameters x WHERE workspace_build_id = latest('goes');
SELECT is((j.type, j.provisioner, j.storage_method, j.file_id, j.tags, j.organization_id, j.initiator_id, j.job_status, j.worker_id)::text,
	('workspace_build'::text, 'echo'::text, 'file'::text, '11111111-2222-3333-4444-555555555555'::uuid, '{"odd": "tags"}'::jsonb,
		organization('org'), prebuild_system_user(), 'pending'::text, NULL::uuid)::text, 'its job')
FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id WHERE b.id = latest('goes');
SELECT is(j.input, jsonb_build_object('workspace_build_id', b.id, 'dry_run', false, 'prebuilt_workspace_stage', 1), 'its input')
FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id WHERE b.id = latest('goes');
SELECT ok(j.created_at BETWEEN t0() AND t0() + interval '1 ms' AND b.created_at BETWEEN t0() AND t0() + interval '1 ms', 'its times')
FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id WHERE b.id = latest('goes');
SELECT ok(NOT deleted, 'the workspace stays until the provisioner is done') FROM workspaces;
SELECT is(pass(n => 7), '', 'once');

-- scope "user" becomes the system user's
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('mine', 1);
	UPDATE provisioner_jobs SET tags = '{"scope": "user", "owner": "somebody", "x": "y"}' WHERE type = 'template_version_import';
	PERFORM pass();
END $$;
SELECT is(tags, '{"scope": "user", "owner": "c42fdf75-3097-471c-8c33-fb52454d81c0", "x": "y"}', 'tags with the scope user')
FROM provisioner_jobs WHERE type = 'workspace_build';

-- pausing
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('app', 1);
	PERFORM prebuild_pause();
END $$;
SELECT is(value::jsonb -> 'reconciliation_paused', 'true', 'paused') FROM site_configs WHERE key = 'prebuilds_settings';
SELECT is((lock_acquired, paused, created)::text, '(t,t,0)', 'a paused pass does nothing') FROM prebuild_reconcile(t0());
SELECT is((SELECT count(*) FROM workspaces) + (SELECT count(*) FROM organization_members), 0, 'nothing at all');
SELECT is(plan('app'), 'create 1', 'the plan is still there');
DO $$ BEGIN PERFORM prebuild_pause(); PERFORM prebuild_resume(); PERFORM prebuild_resume(); END $$;
SELECT is((paused, created)::text, '(f,1)', 'resumed') FROM prebuild_reconcile(t0());
DELETE FROM workspaces;
\echo malformed settings
SELECT raises(format($$ INSERT INTO site_configs VALUES ('prebuilds_settings', %L)
		ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value; SELECT prebuild_reconcile(t0()) $$, value), NULL,
	'prebuilds_settings', NULL, value)
FROM unnest('{not json,[],true,"{\"reconciliation_paused\": \"yes\"}","{\"reconciliation_paused\": 1}",""}'::text[]) value;
DO $$ BEGIN UPDATE site_configs SET value = '{"something_else": 1}'; DELETE FROM workspaces; END $$;
SELECT is(pass(), 'created 1', 'other settings are not paused');

-- bad input changes nothing
DO $$ BEGIN DELETE FROM workspaces; END $$;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT raises('SELECT prebuild_reconcile(t0())', '25001', NULL, '.', 'refused in REPEATABLE READ');
SELECT is(plan('app'), 'create 1', 'where a plan can be made');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT raises('SELECT prebuild_reconcile(t0())', '25001', NULL, '.', 'refused in SERIALIZABLE');
COMMIT;
BEGIN READ ONLY;
SELECT raises('SELECT prebuild_reconcile(t0())', '25006', NULL, NULL, 'refused in a read-only transaction');
SELECT is(plan('app'), 'create 1', 'where a plan can be made');
COMMIT;
SELECT raises(format('SELECT %s(%s)', f, x), NULL, NULL, NULL, format('%s(%s)', f, x))
FROM unnest('{prebuild_reconcile,prebuild_plan,prebuild_state}'::text[]) f, unnest(ARRAY['NULL', '''infinity''', '''-infinity''']) x;
SELECT raises(format('SET prebuild.%s = -1', x), '22023', x, NULL, x)
FROM unnest('{backoff_interval,backoff_lookback,backoff_max,failure_hard_limit,max_creates_per_pass,max_building}'::text[]) x;
SELECT is((SELECT count(*) FROM workspaces), 0, 'none of these did anything');
-- a table or column that is missing
CREATE FUNCTION pg_temp.without(change text, statement text, state text, missing text, label text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	result text;
BEGIN
	BEGIN
		EXECUTE change;
		result := raises(statement, state, missing, '.', label);
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
		RETURN result;
	END;
END
$$;
SELECT pg_temp.without('DROP TABLE template_version_presets CASCADE', statement, '42P01', 'template_version_presets',
	statement || ' without a table')
FROM unnest('{SELECT prebuild_running(),SELECT prebuild_pool(),SELECT prebuild_state(t0()),SELECT prebuild_plan(t0()),SELECT prebuild_reconcile(t0())}'::text[])
	statement WHERE statement !~ 'running|pool';
SELECT pg_temp.without('ALTER TABLE workspace_builds DROP COLUMN build_number CASCADE', statement, '42703', 'build_number',
	statement || ' without a column')
FROM unnest('{SELECT prebuild_running(),SELECT prebuild_pool(),SELECT prebuild_state(t0()),SELECT prebuild_plan(t0()),SELECT prebuild_reconcile(t0())}'::text[])
	statement;
SELECT pg_temp.without('DROP TABLE site_configs', 'SELECT prebuild_reconcile(t0())', '42P01', 'site_configs', 'a pass without site_configs');
-- the system user itself is missing
SELECT pg_temp.without('SET LOCAL session_replication_role = replica; DELETE FROM users WHERE is_system; RESET session_replication_role',
	'SELECT prebuild_reconcile(t0())', NULL, 'c42fdf75', 'a pass without the system user');
-- columns that came later are not needed
BEGIN;
ALTER TABLE template_version_presets DROP COLUMN IF EXISTS last_invalidated_at;
ALTER TABLE templates DROP COLUMN use_classic_parameter_flow CASCADE;
ALTER TABLE provisioner_jobs DROP COLUMN trace_metadata;
SELECT is(pass(), 'created 1', 'a pass without columns that may be missing');
ROLLBACK;
SET prebuild.control_plane_schema = 'nowhere';
SELECT raises('SELECT prebuild_reconcile(t0())', NULL, 'nowhere', '.', 'a schema that does not exist');
SET prebuild.control_plane_schema = 'cp_provision';

-- a preset that fails is rolled back alone
DO $$
DECLARE
	name text;
BEGIN
	PERFORM control_plane('cp_provision');
	FOREACH name IN ARRAY '{one,two,bad,three,four}'::text[] LOOP
		PERFORM simple(name, 2);
	END LOOP;
	-- something of the bad one's to delete too
	PERFORM preset('bad-v1', 'bad-neighbour', 1);
	CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN RAISE EXCEPTION ''no workspaces of this template''; END';
	EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT ON workspaces FOR EACH ROW WHEN (NEW.template_id = %L)
		EXECUTE FUNCTION refuse()', t('bad'));
END $$;
SET client_min_messages = error;
SELECT is((presets_total, presets_reconciled, created, failed)::text, '(6,4,8,2)', 'the others are reconciled') FROM prebuild_reconcile(t0());
SELECT is((SELECT string_agg(x, ' ') FROM unnest('{one,two,bad,three,four}'::text[]) x WHERE members(x, 'start', 'pending') = 2),
	'one two three four', 'in full');
SELECT is(((SELECT count(*) FROM provisioner_jobs WHERE type = 'workspace_build'), (SELECT count(*) FROM workspace_builds))::text, '(8,8)',
	'of the faulty ones nothing is left');
SELECT is((SELECT string_agg(x.name, ' ' ORDER BY x.name) FROM prebuild_event e JOIN template_version_presets x ON x.id = e.preset_id
	WHERE e.kind = 'preset_failed'), 'bad bad-neighbour', 'an event for each');
SELECT is((created, failed)::text, '(0,2)', 'the next pass tries them again') FROM prebuild_reconcile(t0());
SET client_min_messages = warning;
DO $$ BEGIN DROP TRIGGER refuse ON workspaces; END $$;
SELECT is((created, failed)::text, '(3,0)', 'once it is repaired') FROM prebuild_reconcile(t0());

-- a faulty delete
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('good', 0);
	PERFORM prebuild('good', 'good-1');
	PERFORM simple('bad', 1);
	PERFORM prebuild('bad', 'bad-1');
	PERFORM prebuild('bad', 'bad-2');
	CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN RAISE EXCEPTION ''no builds of this version''; END';
	EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT ON workspace_builds FOR EACH ROW WHEN (NEW.template_version_id = %L)
		EXECUTE FUNCTION refuse()', v('bad-v1'));
END $$;
SELECT is((deleted, failed)::text, '(1,1)', 'a faulty delete costs its preset only') FROM prebuild_reconcile(t0());
SELECT is((shape('good-1'), shape('bad-1'), shape('bad-2'))::text, '("2 delete pending","1 start succeeded","1 start succeeded")', 'and leaves no trace');

-- caps
SET prebuild.max_creates_per_pass = 3;
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('empty', 4);
	PERFORM simple('filled', 4);
	FOR i IN 1..3 LOOP
		PERFORM prebuild('filled', format('filled-%s', i));
	END LOOP;
END $$;
SELECT is(plan('empty'), 'create 3', 'the emptiest first');
SELECT ok(reason ~ '\m1\M' AND reason ~ 'max_creates_per_pass', 'the reason has the number withheld: ' || a.count)
FROM prebuild_plan(t0()) a ORDER BY a.count;
SELECT is(pass(), 'created 3', 'three a pass');
SELECT is(pass(), 'created 2', 'then the rest');
SELECT is(pass(n => 8), '', 'until all are there');
-- two equally empty ones share
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('left', 4);
	PERFORM simple('right', 4);
	PERFORM simple('large', 8);
	PERFORM prebuild('left', 'left-1');
	PERFORM prebuild('right', 'right-1');
	PERFORM prebuild('large', 'large-1');
	PERFORM prebuild('large', 'large-2');
END $$;
SET prebuild.max_creates_per_pass = 4;
SELECT is(string_agg(plan(x), ', ' ORDER BY x), 'create 2, create 1, create 1', 'in proportion to what each wants')
FROM unnest('{left,right,large}'::text[]) x;
SET prebuild.max_creates_per_pass = 1;
SELECT is(pass(), 'created 1', 'one a pass');
SELECT is(pass(n => 20), 'created 11', 'gets there too');
RESET prebuild.max_creates_per_pass;

SET prebuild.max_building = 3;
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('a', 4);
	PERFORM simple('b', 4);
	PERFORM prebuild('a', 'a-building', status => 'running');
	PERFORM prebuild('a', 'a-1');
	PERFORM prebuild('a', 'a-2');
	PERFORM prebuild('a', 'ann-1', status => 'pending', owner => usr('ann'));
	PERFORM prebuild('a', 'ann-2', status => 'running', owner => usr('ann'));
	PERFORM prebuild('b', 'b-deleting');
	PERFORM build('b-deleting', 'delete', 'running', 'b');
END $$;
SELECT is(plan('b'), 'create 2', 'two more may be built, people''s builds and deletions apart');
SELECT is(pass(n => 8), 'created 2', 'passes stay within it');
SELECT is(finish_jobs(t0() + interval '1 minute', preset_name => 'b'), 2, 'when some are built');
SELECT is(pass(t0() + interval '1 minute', 8), 'created 2', 'others follow');
RESET prebuild.max_building;

-- one session's second pass in a transaction is another pass; another session's finds the lock taken (see the isolation tests)
BEGIN;
SELECT is(lock_acquired, true, 'a pass in a transaction') FROM prebuild_reconcile(t0() + interval '2 minutes');
SELECT is((lock_acquired, created)::text, '(t,0)', 'and another one') FROM prebuild_reconcile(t0() + interval '2 minutes');
SELECT is((SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND classid = 0 AND pid = pg_backend_pid()), 1,
	'advisory lock 7 is held until the end');
ROLLBACK;

-- a pass that is canceled in the middle leaves no trace, and the session goes on
DO $$ BEGIN
	PERFORM control_plane('cp_provision');
	PERFORM simple('app', 3);
	CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
	CREATE TRIGGER dawdle BEFORE INSERT ON workspace_builds FOR EACH ROW EXECUTE FUNCTION dawdle();
END $$;
SET statement_timeout = '200ms';
SELECT prebuild_reconcile(t0());
RESET statement_timeout;
SELECT is(((SELECT count(*) FROM workspaces), (SELECT count(*) FROM provisioner_jobs WHERE type = 'workspace_build'),
	(SELECT count(*) FROM groups), (SELECT count(*) FROM prebuild_event))::text, '(0,0,0,0)', 'a canceled pass leaves no trace');
DO $$ BEGIN DROP TRIGGER dawdle ON workspace_builds; END $$;
SELECT is(pass(n => 8), 'created 3', 'the next one does the work');

DROP SCHEMA cp_provision CASCADE;
