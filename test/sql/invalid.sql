-- Presets that cannot be built. A pass finds them before it writes anything, marks them once, and clears
-- the mark when they can be built.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	PERFORM simple('unset', 2);
	PERFORM parameter('unset-v1', 'region', required => true);
	PERFORM simple('fine', 1);
END $$;
SELECT is(plan('unset'), 'validation_failed 2', 'a required parameter is not set: two are withheld');
SELECT ok(a.reason LIKE '%region%', 'the reason names the parameter')
FROM prebuild_plan(t0()) a WHERE a.preset_id = p('unset');
SELECT is(status('unset'), 'healthy', 'a plan marks nothing');
SELECT is(pass(n => 8), 'created 1', 'eight passes create for the other preset only');
SELECT is(members('unset', 'start', 'pending'), 0, 'none of the invalid one');
SELECT is(status('unset'), 'validation_failed', 'it is marked');
SELECT is(status('fine'), 'healthy', 'the other is not');
SELECT is(events('unset', 'validation_failed'), 1, 'one event');
SELECT is((e.template_id, e.at)::text, (t('unset'), t0())::text, 'of that template and time')
FROM prebuild_event e WHERE e.kind = 'validation_failed';
SELECT is(prebuild_status, 'validation_failed', 'the state shows it')
FROM prebuild_state(t0()) WHERE preset_id = p('unset');
SELECT is(plan('unset'), 'validation_failed 2', 'the plan too');

-- an empty value is no value
DO $$ BEGIN PERFORM preset_value('unset', 'region', ''); END $$;
SELECT is(pass(n => 8), '', 'an empty value is not enough');
SELECT is(events('unset', 'validation_failed'), 1, 'still one event');
-- fixed
DO $$ BEGIN UPDATE template_version_preset_parameters SET value = 'eu'; END $$;
SELECT is(plan('unset'), 'create 2', 'once it has a value');
SELECT is(pass(n => 8), 'created 2', 'they are created');
SELECT is(status('unset'), 'healthy', 'and the mark is gone');

-- forgiven also when nothing is missing at that moment
DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	PERFORM simple('later', 1);
	PERFORM parameter('later-v1', 'region', required => true);
END $$;
SELECT is(pass(n => 8), '', 'invalid again');
SELECT is(status('later'), 'validation_failed', 'marked');
DO $$ BEGIN
	UPDATE template_version_parameters SET required = false;
	UPDATE template_version_presets SET desired_instances = 0;
END $$;
SELECT is(pass(n => 8), '', 'valid now, but nothing is wanted');
SELECT is(status('later'), 'healthy', 'no longer marked');

-- prebuilds of an older version go although the new version is invalid
DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	PERFORM simple('moved', 2);
	PERFORM prebuild('moved', 'moved-1');
	PERFORM prebuild('moved', 'moved-2');
	PERFORM version('moved', 'moved-v2');
	PERFORM preset('moved-v2', 'moved-again', 2);
	PERFORM parameter('moved-v2', 'region', required => true);
END $$;
SELECT is(pass(n => 8), 'deleted 2', 'the old version''s prebuilds are deleted, none are created');
SELECT is(status('moved-again'), 'validation_failed', 'the new version''s preset is marked');
SELECT is(status('moved'), 'healthy', 'the old one''s is not');

-- extraneous and expired ones go too
DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	PERFORM simple('shrunk', 1, 3600);
	PERFORM parameter('shrunk-v1', 'region', required => true);
	PERFORM prebuild('shrunk', 'shrunk-1', created => t0() - interval '2 hours');
END $$;
SELECT is(plan('shrunk'), 'delete 1; validation_failed 1', 'an expired one of an invalid preset');
SELECT is(pass(n => 8), 'deleted 1', 'is deleted and not replaced');

-- a status that somebody else wrote
DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	PERFORM simple('theirs', 1);
	UPDATE template_version_presets SET prebuild_status = 'validation_failed';
END $$;
SELECT is(plan('theirs'), 'validation_failed 1', 'it is respected');
SELECT is(pass(n => 8), '', 'nothing is created');
SELECT is(status('theirs'), 'validation_failed', 'it is left alone');
SELECT is(events('theirs', 'validation_failed'), 0, 'it is no event of ours');

-- what else is proven to fail
CREATE TEMP TABLE proof (name text, type text, value text, fails boolean, options jsonb DEFAULT '[]',
	low int, high int, form text DEFAULT '');
INSERT INTO proof (name, type, value, fails, options, low, high, form) VALUES
	('bool-yes', 'bool', 'yes', true, '[]', NULL, NULL, ''),
	('bool-true', 'bool', 'true', false, '[]', NULL, NULL, ''),
	('number-text', 'number', 'four', true, '[]', NULL, NULL, ''),
	('number-fraction', 'number', '2.5', true, '[]', 2, 8, ''),
	('number-low', 'number', '1', true, '[]', 2, 8, ''),
	('number-high', 'number', '9', true, '[]', 2, 8, ''),
	('number-low-edge', 'number', '2', false, '[]', 2, 8, ''),
	('number-high-edge', 'number', '8', false, '[]', 2, 8, ''),
	('number-negative', 'number', '-3', false, '[]', NULL, 8, ''),
	('option-no', 'string', 'c', true, '[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]', NULL, NULL, ''),
	('option-name', 'string', 'A', true, '[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]', NULL, NULL, ''),
	('option-yes', 'string', 'b', false, '[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]', NULL, NULL, ''),
	('list-text', 'list(string)', 'a,b', true, '[]', NULL, NULL, ''),
	('list-numbers', 'list(string)', '[1, 2]', true, '[]', NULL, NULL, ''),
	('list-strings', 'list(string)', '["a", "b"]', false, '[]', NULL, NULL, ''),
	('multi-no', 'list(string)', '["a", "c"]', true,
		'[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]', NULL, NULL, 'multi-select'),
	('multi-yes', 'list(string)', '["a", "b"]', false,
		'[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]', NULL, NULL, 'multi-select');
DO $$
DECLARE
	x proof;
BEGIN
	PERFORM control_plane('cp_invalid');
	FOR x IN SELECT * FROM proof LOOP
		PERFORM simple(x.name, 1);
		PERFORM parameter(x.name || '-v1', 'param', type => x.type);
		UPDATE template_version_parameters SET options = x.options, validation_min = x.low,
			validation_max = x.high, form_type = x.form::parameter_form_type
		WHERE template_version_id = v(x.name || '-v1');
		PERFORM preset_value(x.name, 'param', x.value);
	END LOOP;
END $$;
SELECT is(plan(name), CASE WHEN fails THEN 'validation_failed 1' ELSE 'create 1' END, name)
FROM proof ORDER BY name COLLATE "C";

-- import jobs: failed ones prove it, unfinished ones do not
DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	FOR i IN 1..6 LOOP
		PERFORM template(format('import-%s', i));
		PERFORM version(format('import-%s', i), format('import-v%s', i), import_status =>
			(ARRAY['pending', 'running', 'canceling', 'succeeded', 'failed', 'canceled'])[i]);
		PERFORM preset(format('import-v%s', i), format('import-%s', i), 1);
	END LOOP;
END $$;
SELECT is(pass(n => 8), 'created 1', 'only a finished import can be built');
\echo import job|members|status of the preset
SELECT j.job_status, members(t.name, 'start', 'pending'), x.prebuild_status
FROM template_version_presets x
JOIN template_versions y ON y.id = x.template_version_id
JOIN templates t ON t.id = y.template_id
JOIN provisioner_jobs j ON j.id = y.job_id ORDER BY x.name;

-- tags that only Terraform can work out: not built, and not marked
DO $$ BEGIN
	PERFORM control_plane('cp_invalid');
	PERFORM simple('tagged', 1);
	INSERT INTO template_version_workspace_tags VALUES (v('tagged-v1'), 'zone', 'local.zone');
END $$;
SELECT is(plan('tagged'), 'unsupported 1', 'a tag that the database cannot work out');
SELECT ok(a.reason LIKE '%zone%', 'the reason names it') FROM prebuild_plan(t0()) a;
SELECT is(pass(n => 8), '', 'is not built');
SELECT is(status('tagged'), 'healthy', 'nor marked');
SELECT is(events('tagged', 'unsupported'), 1, 'one event');

DROP SCHEMA cp_invalid CASCADE;
