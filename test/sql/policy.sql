-- How pools are kept, by settings and by prebuild_policy; what prebuild_set_policy() takes and refuses.
\set ECHO none
\i test/fixture/fixture.sql
SET intervalstyle = postgres;

CREATE FUNCTION fixture.state_of(preset_name text, wanted text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT to_jsonb(s) ->> wanted FROM prebuild_state(at) s WHERE s.preset_id = p(state_of.preset_name)); END $$;
CREATE FUNCTION fixture.metrics(preset_name text) RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN (SELECT string_agg(format('%s %s', m.name, m.value), ', ' ORDER BY m.name) FROM prebuild_metrics_read(t0(), 'pool') m
		WHERE m.labels ->> 'preset_name' = metrics.preset_name AND m.name ~ '^prebuild_ext' AND m.value <> 0);
END
$$;
CREATE FUNCTION fixture.reason(preset_name text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN (SELECT string_agg(format('%s %s: %s', action, count, reason), E'\n' ORDER BY position)
		FROM prebuild_plan(at) WITH ORDINALITY x (preset_id, template_id, action, count, workspace_ids, backoff_until, reason,
			template_name, preset, position) WHERE preset_id = p(reason.preset_name));
END
$$;

-- amounts as settings
SELECT is(string_agg(format('%s %s', name, setting), ', ' ORDER BY name),
	'prebuild.max_building 0, prebuild.max_surge 100%, prebuild.max_unavailable 100%', 'amounts by default')
FROM pg_settings WHERE name IN ('prebuild.max_building', 'prebuild.max_surge', 'prebuild.max_unavailable');
SELECT raises(format('SET prebuild.%s = %L', x, y), '22023', x, NULL, format('%s %L', x, y))
FROM unnest('{max_building,max_unavailable,max_surge}'::text[]) x,
	unnest(ARRAY['', ' ', '-1', '5 %', ' 5', '5 ', '%', '5%%', '1.5', '1000000000', '1001%', '1e3', '007', 'all']) y;
SELECT raises('SET prebuild.max_building = ''0%''', '22023', 'max_building', 'Use 0 for no cap', 'a cap of 0%');
SET prebuild.max_unavailable = '0%';
SET prebuild.max_surge = 1000;
SET prebuild.max_surge = '1000%';
SET prebuild.max_building = 4;
SELECT is(current_setting('prebuild.max_building'), '4', 'an integer is an amount');
RESET prebuild.max_unavailable;
RESET prebuild.max_surge;
RESET prebuild.max_building;
SELECT raises(format('SET prebuild.%s = -1', x), '22023', x, NULL, x)
FROM unnest('{unready_grace,disconnected_grace,failed_retention,failed_keep,delete_retries,hard_limit_retry}'::text[]) x;
SELECT raises('SET prebuild.hard_limit_retry = ''25h''', '22023', 'hard_limit_retry', NULL, 'probes are at most a day apart');
-- what says why
SET prebuild.max_surge = '5 %';
SET prebuild.max_building = '0%';

-- prebuild_set_policy()
DO $$ BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('a', 4, preset_name => 'small');
	PERFORM preset('a-v1', 'large', 2);
	PERFORM simple('b', 4, preset_name => 'b-small');
	PERFORM template('none');
END $$;
CREATE FUNCTION fixture.policies() RETURNS SETOF text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN QUERY SELECT concat_ws(' ', y.control_plane, t.name, coalesce(y.preset_name, '-'),
		jsonb_strip_nulls(to_jsonb(y) - '{control_plane,template_id,preset_name}'::text[]))
	FROM prebuild_policy y LEFT JOIN templates t ON t.id = y.template_id ORDER BY 1;
END
$$;
SELECT prebuild_set_policy(t('a')), prebuild_set_policy(t('a'), 'small') \g /dev/null
\echo nothing but the mode is set
SELECT * FROM policies();
SELECT prebuild_set_policy(t('a'), 'large', mode => 'auto', min_instances => 1, max_instances => 9, service_level => 0.999,
	unready_grace => '10 min', disconnected_grace => '1 h', failed_retention => '2 days', failed_keep => 3, delete_retries => 4,
	hard_limit_retry => '30 min', require_provisioner => true, max_unavailable => '25%', max_surge => '2') \g /dev/null
\echo all is set
SELECT * FROM policies();
SELECT prebuild_set_policy(t('a'), 'large', failed_keep => 0, mode => 'off'), prebuild_set_policy(t('a'), failed_keep => 7) \g /dev/null
\echo each call replaces what was set
SELECT * FROM policies();
\echo events
SELECT concat_ws(' ', kind, (SELECT name FROM templates t WHERE t.id = template_id), preset_id, detail - 'by') FROM prebuild_event ORDER BY id;
SELECT is(string_agg(DISTINCT detail ->> 'by', ', '), session_user::text, 'they say who') FROM prebuild_event;
SELECT is(prebuild_unset_policy(t('a'), 'large'), true, 'it is unset');
SELECT is(prebuild_unset_policy(t('a'), 'large'), false, 'once');
SELECT is(prebuild_unset_policy(t('b')), false, 'what was not set');
SELECT * FROM policies();
SELECT concat_ws(' ', kind, (SELECT name FROM templates t WHERE t.id = template_id), detail - 'by') FROM prebuild_event ORDER BY id DESC LIMIT 1;
SELECT is((SELECT count(*) FROM prebuild_event), 6, 'an event for each change');
SELECT is(prebuild_unset_policy(t('a')), true, 'the template''s own');
SELECT is(prebuild_unset_policy(t('a'), 'small'), true, 'and the last one');

-- what is refused, and changes nothing
CREATE FUNCTION fixture.refused(arguments text, state text, message text, hint text DEFAULT NULL) RETURNS text LANGUAGE sql AS
$$ SELECT raises(format('SELECT prebuild_set_policy(%s)', arguments), state, message, hint, coalesce(message, '') || ': ' || arguments) $$;
SELECT refused('NULL', '22004', 'argument "template_id" must not be null');
SELECT refused('t(''a''), mode => NULL', '22004', 'argument "mode" must not be null');
SELECT refused('''00000000-0000-0000-0000-000000000001''', '42704', 'template 00000000-0000-0000-0000-000000000001 does not exist', 'cp_policy');
SELECT refused('t(''a''), ''medium''', '42704', 'no version of template "a" has a preset "medium"', 'Its presets are "large", "small"');
SELECT refused('t(''a''), ''b-small''', '42704', 'no version of template "a" has a preset "b-small"', 'Its presets are');
SELECT refused('t(''a''), ''''', '42704', 'has a preset ""', 'Its presets are');
SELECT refused('t(''none''), ''small''', '42704', 'no version of template "none"', 'It has no presets');
SELECT refused(format('t(''a''), %s => %L', x, y), '22023', format('argument "%s" must be .*not "%s"', x, y))
FROM (VALUES ('mode', 'on'), ('mode', ''), ('mode', 'AUTO'), ('min_instances', '-1'), ('max_instances', '-1'),
	('service_level', '0.4999'), ('service_level', '1'), ('service_level', 'NaN'), ('service_level', 'Infinity'), ('service_level', '-1'),
	('unready_grace', '-00:00:01'), ('unready_grace', '12427 days 00:00:01'), ('disconnected_grace', '-1 days'),
	('failed_retention', '-1 mons'), ('failed_keep', '-1'), ('delete_retries', '-1'), ('hard_limit_retry', '-00:00:00.000001'),
	('hard_limit_retry', '1 day 00:00:00.000001'), ('max_unavailable', ''), ('max_unavailable', '-1'), ('max_unavailable', '5 %'),
	('max_surge', '%'), ('max_surge', '1000000000'), ('max_surge', '1001%'), ('max_surge', ' 5')) v (x, y);
SELECT refused('t(''a''), min_instances => 3, max_instances => 2', '22023', 'argument "max_instances" must be at least "min_instances" \(3\), not "2"');
SELECT is((SELECT count(*) FROM policies()), 0, 'nothing was set');
SELECT raises('SELECT prebuild_unset_policy(NULL)', '22004', 'argument "template_id" must not be null', NULL, 'unset needs a template');
SELECT is((SELECT count(*) FROM prebuild_event), 8, 'and there is no event');
-- what is at the bounds is taken, and so is NULL
SELECT prebuild_set_policy(t('a'), min_instances => 0, max_instances => 0, service_level => 0.5, unready_grace => '12427 days',
	disconnected_grace => '0', failed_retention => '1 mon', failed_keep => 0, delete_retries => 0, hard_limit_retry => '24:00:00',
	max_unavailable => '0%', max_surge => '999999999') \g /dev/null
SELECT * FROM policies();
SELECT is(string_agg(attname, ', '), NULL, 'every value that the function may be given has a column')
FROM (SELECT unnest(proargnames) FROM pg_proc WHERE proname = 'prebuild_set_policy'
	EXCEPT SELECT attname::text FROM pg_attribute WHERE attrelid = 'prebuild_policy'::regclass AND attnum > 0) x (attname);
-- a preset of an old version has a name as well
DO $$ BEGIN
	PERFORM version('a', 'a-v2');
	PERFORM preset('a-v2', 'tiny', 2);
	PERFORM prebuild_set_policy(t('a'), 'small'), prebuild_set_policy(t('a'), 'tiny');
END $$;
SELECT is((SELECT count(*) FROM policies()), 3, 'names of all versions are known');
-- the row of a template that is gone can be removed
DO $$ BEGIN
	PERFORM control_plane('cp_policy_other');
	PERFORM simple('a', 4);
	PERFORM prebuild_set_policy(t('a'));
END $$;
SELECT * FROM policies() x WHERE x ~ 'cp_policy_other';
SELECT is((SELECT count(*) FROM prebuild_policy), 4, 'each control plane has its own');
SELECT is(prebuild_unset_policy((SELECT template_id FROM prebuild_policy WHERE control_plane = 'cp_policy' LIMIT 1)), false,
	'which another one does not touch');
DELETE FROM prebuild_policy;

-- how policies are read: the preset's row, then the template's, then the setting
DO $$ BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('own', 1);
	PERFORM preset('own-v1', 'own-b', 1);
	PERFORM simple('set', 1);
END $$;
CREATE FUNCTION fixture.asking() RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN (SELECT string_agg(preset_name, ' ' ORDER BY preset_name) FROM prebuild_plan(t0()) WHERE action = 'no_provisioner');
END
$$;
SELECT is(asking(), NULL, 'nobody asks for a daemon');
SET prebuild.require_provisioner = on;
SELECT is(asking(), 'own own-b set', 'the setting asks for all');
DO $$ BEGIN PERFORM prebuild_set_policy(t('own'), require_provisioner => false); END $$;
SELECT is(asking(), 'set', 'a template''s row is stronger');
DO $$ BEGIN PERFORM prebuild_set_policy(t('own'), 'own-b', require_provisioner => true); END $$;
SELECT is(asking(), 'own-b set', 'a preset''s row is the strongest');
DO $$ BEGIN PERFORM prebuild_set_policy(t('own'), 'own-b', failed_keep => 3); END $$;
SELECT is(asking(), 'set', 'what it leaves NULL is the template''s');
RESET prebuild.require_provisioner;
DO $$ BEGIN PERFORM prebuild_set_policy(t('own'), failed_keep => 3); PERFORM prebuild_set_policy(t('set'), 'set', 'off', require_provisioner => true); END $$;
SELECT is(asking(), 'set', 'whatever the mode');
DO $$ BEGIN
	PERFORM prebuild_unset_policy(t('set'), 'set');
	UPDATE prebuild_policy SET control_plane = 'elsewhere';
	PERFORM prebuild_set_policy(t('own'), failed_keep => 3);
	UPDATE prebuild_policy SET require_provisioner = true WHERE control_plane = 'elsewhere';
END $$;
SELECT is(asking(), NULL, 'another control plane''s rows are not for this one');
DELETE FROM prebuild_policy;
-- a new version keeps the policy
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('own'), 'own', require_provisioner => true);
	UPDATE template_version_presets SET name = name || '-old' WHERE template_version_id = v('own-v1');
	PERFORM version('own', 'own-v2');
	PERFORM preset('own-v2', 'own', 1);
END $$;
SELECT is(asking(), 'own', 'a preset of a new version has the policy of its name');
DELETE FROM prebuild_policy;

-- a live daemon
DO $$ BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('app', 4);
	PERFORM prebuild_set_policy(t('app'), require_provisioner => true);
END $$;
SELECT reason('app');
SELECT is(metrics('app'), 'prebuild_ext_preset_no_provisioner 1', 'metrics say so');
SELECT is(pass(), '', 'without a daemon nothing is built');
DO $$ BEGIN
	PERFORM daemon('dead', 'org', '{terraform}', '{"scope": "organization", "owner": ""}', t0() - interval '91 s');
	PERFORM daemon('elsewhere', 'other', '{terraform}', '{"scope": "organization", "owner": ""}', t0());
	PERFORM daemon('echo', 'org', '{echo}', '{"scope": "organization", "owner": ""}', t0());
END $$;
\echo dead, of another organization, with another provisioner
SELECT reason('app');
DO $$ BEGIN PERFORM daemon('tagged', 'org', '{terraform}', '{"scope": "organization", "owner": "", "gpu": "yes"}', t0()); END $$;
\echo with tags
SELECT reason('app');
DO $$ BEGIN
	INSERT INTO template_version_workspace_tags VALUES (v('app-v1'), 'gpu', '"yes"'), (v('app-v1'), 'region', '"eu"'), (v('app-v1'), 'size', '"xl"');
END $$;
\echo some tags are missing
SELECT reason('app');
DO $$ BEGIN
	PERFORM daemon('region', 'org', '{terraform}', '{"scope": "organization", "owner": "", "region": "eu", "size": "xl"}', t0());
END $$;
\echo each tag is there, but not all at one daemon
SELECT reason('app');
SELECT is(pass(), '', 'nothing is built');
DO $$ BEGIN
	PERFORM daemon('all', 'org', '{echo,terraform}', '{"scope": "organization", "owner": "", "gpu": "yes", "region": "eu", "size": "xl", "more": ""}',
		t0() - interval '90 s');
END $$;
\echo one that has all is alive
SELECT reason('app');
SELECT is(reason('app', t0() + interval '1 microsecond') ~ '^no_provisioner 4', true, 'until it has not been seen for 90 seconds');
SELECT is(metrics('app'), NULL, 'as the metrics say');
SELECT is(pass(), 'created 4', 'the pool is filled at once');
DELETE FROM prebuild_policy;

-- max_building as part of the live daemons
DO $$ BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('app', 9);
	PERFORM daemon('dead-' || n, 'org', '{terraform}', '{"scope": "organization", "owner": ""}', t0() - interval '2 minutes') FROM generate_series(1, 9) n;
END $$;
SET prebuild.max_building = '50%';
SELECT is(plan('app'), 'create 1', 'without a live daemon one is built');
DO $$ BEGIN
	PERFORM daemon('live-' || n, 'org', '{terraform}', '{"scope": "organization", "owner": ""}', t0()) FROM generate_series(1, 5) n;
	PERFORM daemon('other-' || n, 'other', '{echo}', '{"scope": "organization", "owner": ""}', t0()) FROM generate_series(1, 2) n;
END $$;
SELECT reason('app');
SET prebuild.max_building = '1%';
SELECT is(plan('app'), 'create 1', 'a percentage is at least one');
SET prebuild.max_building = '100%';
SELECT is(pass(n => 3), 'created 7', 'passes stay within it');
SET prebuild.max_building = 8;
SELECT is(plan('app'), 'create 1', 'a number is a number');
RESET prebuild.max_building;

-- rolling replacement: run passes and builds until no expired member is left. Returns the number of passes, the fewest eligible ones
-- and the most members that there were after a pass.
CREATE FUNCTION fixture.roll(preset_name text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	at timestamptz;
	s prebuild_state_row;
	fewest int;
	most int := 0;
BEGIN
	FOR passes IN 1..30 LOOP
		at := t0() + passes * interval '10 s';
		PERFORM prebuild_reconcile(at);
		SELECT x.* INTO s FROM prebuild_state(at) x WHERE x.preset_id = p(roll.preset_name);
		fewest := least(fewest, s.eligible);
		most := greatest(most, s.actual + s.starting);
		IF s.expired = 0 AND s.eligible = s.desired THEN
			RETURN format('%s passes, at least %s eligible, at most %s in all', passes, fewest, most);
		END IF;
		PERFORM finish_jobs(at + interval '5 s');
	END LOOP;
	RETURN 'does not end';
END
$$;
CREATE FUNCTION fixture.expired_five(max_unavailable text, max_surge text) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM control_plane('cp_policy');
	DELETE FROM prebuild_policy;
	PERFORM simple('five', 5, 3600);
	PERFORM prebuild('five', 'five-' || n, created => t0() - interval '2 hours' + n * interval '1 minute') FROM generate_series(1, 5) n;
	PERFORM prebuild_set_policy(t('five'), max_unavailable => expired_five.max_unavailable, max_surge => expired_five.max_surge);
END
$$;
SELECT expired_five('100%', NULL) \g /dev/null
SELECT reason('five');
SELECT roll('five');
SELECT expired_five('1', NULL) \g /dev/null
SELECT reason('five');
SELECT roll('five');
SELECT expired_five('1', '0') \g /dev/null
SELECT reason('five');
SELECT roll('five');
SELECT expired_five('0', '0') \g /dev/null
\echo none may be missing, so that one more is built
SELECT is(metrics('five'), 'prebuild_ext_preset_serving 5, prebuild_ext_preset_waiting 4', 'metrics say so');
SELECT reason('five');
SELECT roll('five');
SELECT expired_five('50%', '1') \g /dev/null
SELECT reason('five');
SELECT roll('five');
SELECT expired_five('0%', '20%') \g /dev/null
SET prebuild.max_building = 1;
SELECT reason('five');
SELECT roll('five');
RESET prebuild.max_building;
-- the settings alone
SELECT expired_five(NULL, NULL) \g /dev/null
SET prebuild.max_unavailable = 2;
SET prebuild.max_surge = '40%';
SELECT reason('five');
SELECT roll('five');
RESET prebuild.max_unavailable;
RESET prebuild.max_surge;
-- replacements that fail: the old ones stay
SELECT expired_five('0', NULL) \g /dev/null
SELECT is(pass(), 'created 5', 'replacements are built');
SELECT is(finish_jobs(t0() + interval '1 minute', failing => true), 5, 'all fail');
SELECT is(pass(t0() + interval '10 minutes', 5), '', 'nothing is deleted or built');
SELECT is(state_of('five', 'eligible', t0() + interval '10 minutes'), '5', 'and all serve');
DELETE FROM prebuild_policy;

-- probes of a hard-limited preset
DO $$ BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('probed', 4);
	PERFORM prebuild('probed', 'f-' || n, status => 'failed', created => t0() - interval '2 hours' + n * interval '1 minute') FROM generate_series(1, 3) n;
END $$;
SELECT reason('probed');
SET prebuild.hard_limit_retry = '3h';
SELECT reason('probed');
SET prebuild.hard_limit_retry = '1h';
SELECT reason('probed');
SELECT is(pass(), 'created 1', 'the probe is built');
SELECT reason('probed');
SELECT is(pass(), '', 'one at a time');
SELECT is(status('probed'), 'hard_limited', 'the limit lasts');
SELECT is(finish_jobs(t0() + interval '1 minute'), 1, 'it becomes ready');
SELECT is(pass(t0() + interval '2 minutes'), 'created 3', 'then the others follow');
SELECT is(status('probed'), 'healthy', 'and the limit is over');
RESET prebuild.hard_limit_retry;

-- what failures left
DO $$ BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('left', 1);
	PERFORM prebuild('left', 'serves');
	PERFORM prebuild('left', 'f-' || n, status => 'failed', created => t0() - n * interval '1 day') FROM generate_series(1, 3) n;
	PERFORM prebuild('left', 'canceled', status => 'canceled', created => t0() - interval '4 days');
	PERFORM prebuild('left', 'stopped', created => t0() - interval '6 days');
	PERFORM build('stopped', 'stop', created => t0() - interval '5 days');
	PERFORM prebuild_set_policy(t('left'), failed_retention => '36:00:00');
END $$;
SELECT reason('left');
DO $$ BEGIN PERFORM prebuild_set_policy(t('left'), failed_retention => '2 days 12:00:00', failed_keep => 2); END $$;
SELECT reason('left');
DO $$ BEGIN PERFORM prebuild_set_policy(t('left'), failed_retention => '0.001 s', failed_keep => 0); END $$;
SELECT reason('left');
SELECT is(pass(), 'deleted 5', 'they go');
SELECT is(string_agg(format('%s %s', name, shape(name)), ', ' ORDER BY name), 'canceled 2 delete pending, f-1 2 delete pending,'
	' f-2 2 delete pending, f-3 2 delete pending, serves 1 start succeeded, stopped 3 delete pending', 'what serves stays') FROM workspaces;
SELECT is(plan('left'), '', 'and that is all');
DELETE FROM prebuild_policy;

-- sick members, and claims: by the policy of the preset
CREATE FUNCTION fixture.lose(workspace_name text, seen timestamptz) RETURNS void LANGUAGE sql AS
$$
	UPDATE workspace_agents x SET first_connected_at = t0() - interval '1 day', last_connected_at = seen, disconnected_at = seen
	FROM workspace_resources r, workspace_builds b
	WHERE x.resource_id = r.id AND r.job_id = b.job_id AND b.workspace_id = w(workspace_name)
$$;
CREATE FUNCTION fixture.five_sick() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM control_plane('cp_policy');
	PERFORM simple('ill', 6);
	PERFORM prebuild('ill', 'ill-' || n, created => t0() - interval '2 hours' + n * interval '1 minute') FROM generate_series(1, 6) n;
	UPDATE workspace_agents SET name = 'main';
	PERFORM lose('ill-' || n, t0() - n * interval '10 minutes') FROM generate_series(1, 5) n;
END
$$;
SELECT five_sick() \g /dev/null
SELECT is(plan('ill'), '', 'nobody is sick by default');
SELECT is(state_of('ill', 'sick'), '0', 'as the state says');
SELECT is(state_of('ill', 'staged'), 'false', 'and nothing is staged');
DO $$ BEGIN PERFORM prebuild_set_policy(t('ill'), 'ill', disconnected_grace => '25 min'); END $$;
SELECT reason('ill');
SELECT is(state_of('ill', 'sick'), '3', 'the state counts them');
SELECT is(state_of('ill', 'eligible'), '3', 'apart from the eligible ones');
SELECT is(metrics('ill'), 'prebuild_ext_preset_sick 3', 'and so do metrics');
SELECT is(claim('ill', 'ann', 'ann-' || n), x, 'claim ' || n) FROM (VALUES (1, 'ill-1'), (2, 'ill-2'), (3, 'ill-6'), (4, NULL)) v (n, x);
SET prebuild.disconnected_grace = '5min';
DO $$ BEGIN PERFORM prebuild_set_policy(t('ill'), disconnected_grace => '0'); PERFORM prebuild_unset_policy(t('ill'), 'ill'); END $$;
SELECT is(claim('ill', 'ann', 'ann-4'), 'ill-3', 'a policy of 0 is off, whatever the setting');
DO $$ BEGIN PERFORM prebuild_unset_policy(t('ill')); END $$;
SELECT is(claim('ill', 'ann', 'ann-5'), NULL, 'the setting is for what has no policy');
RESET prebuild.disconnected_grace;
SELECT five_sick() \g /dev/null
DO $$ BEGIN PERFORM prebuild_set_policy(t('ill'), disconnected_grace => '5 min'); END $$;
SELECT reason('ill');
-- an expired one that serves is claimed after those that are not expired
SELECT expired_five('1', NULL) \g /dev/null
DO $$ BEGIN PERFORM prebuild('five', 'fresh', created => t0() - interval '30 minutes'); END $$;
SELECT is(claim('five', 'ann', 'a-' || n), x, 'claim ' || n) FROM (VALUES (1, 'fresh'), (2, 'five-1')) v (n, x);
DO $$ BEGIN PERFORM prebuild_unset_policy(t('five')); END $$;
SELECT is(claim('five', 'ann', 'a-3'), NULL, 'without a policy it is not given away');
DELETE FROM prebuild_policy;
