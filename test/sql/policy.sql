-- How pools are kept, by settings and by prebuild_policy; what prebuild_set_policy() takes and refuses.
\set ECHO none
\i test/fixture/fixture.sql
SET intervalstyle = postgres;

CREATE FUNCTION fixture.state_of(preset_name text, wanted text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT to_jsonb(s) ->> wanted FROM prebuild_state(at) s WHERE s.preset_id = p(state_of.preset_name)); END $$;
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
SELECT is(string_agg(DISTINCT detail ->> 'by', ', '), current_user::text, 'they say who') FROM prebuild_event;
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
