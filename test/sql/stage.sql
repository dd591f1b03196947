-- Staged versions: their pools are built before they are active, and they become active when these are
-- there.
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_stage'); END $$;

-- What prebuild_stage_status() says of a template's staged version, in one line.
CREATE FUNCTION fixture.stage_status(template_name text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE sql AS
$$
	SELECT concat_ws(' | ', v.name, s.share, CASE WHEN s.promote THEN 'promote' END, s.target, s.eligible, s.failed,
		CASE WHEN s.ready THEN 'ready' ELSE 'not ready' END, s.reason)
	FROM prebuild_stage_status(stage_status.at) s LEFT JOIN template_versions v ON v.id = s.template_version_id
	WHERE s.template_id = t(stage_status.template_name)
$$;
-- The name of a template's active version.
CREATE FUNCTION fixture.active(template_name text) RETURNS text LANGUAGE sql AS
$$ SELECT v.name FROM templates t JOIN template_versions v ON v.id = t.active_version_id WHERE t.name = template_name $$;
-- The kinds of a template's events, without those about builds.
CREATE FUNCTION fixture.stage_events(template_name text) RETURNS text LANGUAGE sql AS
$$
	SELECT string_agg(e.kind || coalesce(': ' || (e.detail ->> 'reason'), ''), ', ' ORDER BY e.id) FROM prebuild_event e
	WHERE e.template_id = t(template_name) AND e.preset_id IS NULL
$$;
-- A template <name> with an active version <name>-v1 whose preset <name> wants so many, all of them eligible,
-- and a version <name>-v2 with the same preset, <name>-2.
CREATE FUNCTION fixture.two_versions(name text, wanted int) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM simple(name, wanted);
	PERFORM prebuild(name, name || '-' || n) FROM generate_series(1, wanted) n;
	PERFORM version(name, name || '-v2', active => false);
	PERFORM preset(name || '-v2', name || '-2', wanted);
END
$$;

\echo from staging to promotion by hand
DO $$ BEGIN PERFORM two_versions('web', 4); END $$;
SELECT is(pass(), '', 'the pool is full');
SELECT is((SELECT count(*) FROM prebuild_stage_status(t0())), 0, 'nothing is staged');
SELECT prebuild_stage(v('web-v2')) \g /dev/null
SELECT fixture.stage_status('web');
SELECT is(plan('web-2'), 'create 4', 'its pool is to be built');
SELECT is((desired, active)::text, '(4,f)', 'beside that of the active version') FROM prebuild_state(t0()) WHERE preset_name = 'web-2';
SELECT raises($$SELECT prebuild_promote(v('web-v2'))$$, '55000',
	'version [-0-9a-f]{36} of template "web" cannot become active: 0 of 4 are eligible', 'Wait until', 'not ready yet');
SELECT is(pass(), 'created 4', 'a pass builds it');
SELECT is(string_agg(DISTINCT v.name, ' '), 'web-v2', 'the builds are of the staged version') FROM workspace_builds b
JOIN template_versions v ON v.id = b.template_version_id WHERE b.template_version_preset_id = p('web-2');
SELECT is(pass(), '', 'once, and leaves the old one alone');
SELECT fixture.stage_status('web');
SELECT is(fixture.finish_jobs(t0(), at_most => 3), 3, 'three are built');
SELECT fixture.stage_status('web');
SELECT is(claim('web-2', 'ada', 'early'), NULL, 'nobody is given a staged one');
SELECT raises($$SELECT prebuild_promote(v('web-v2'))$$, '55000', '3 of 4 are eligible', 'force => true', 'one is missing');
SELECT is(fixture.finish_jobs(t0()), 1, 'the last one is built');
SELECT fixture.stage_status('web');
SELECT is(pass(), '', 'no pass promotes what it was not told to');
SELECT is(fixture.active('web'), 'web-v1', 'the old version is active');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT raises($$SELECT prebuild_promote(v('web-v2'))$$, '25001', 'REPEATABLE READ', 'READ COMMITTED', 'not in REPEATABLE READ');
ROLLBACK;
DO $$ BEGIN UPDATE templates SET updated_at = t0() - interval '1 year'; END $$;
SELECT prebuild_promote(v('web-v2')) \g /dev/null
SELECT is(fixture.active('web'), 'web-v2', 'promoted');
SELECT is(updated_at > now() - interval '1 hour', true, 'the template has changed now') FROM templates WHERE name = 'web';
SELECT is((SELECT count(*) FROM prebuild_stage), 0, 'it is staged no longer');
SELECT is(detail - 'by', jsonb_build_object('template_version_id', v('web-v2'), 'previous_version_id', v('web-v1'), 'target', 4,
	'eligible', 4, 'forced', false), 'and the event says what was') FROM prebuild_event WHERE kind = 'promoted';
SELECT is(detail ->> 'by', current_user::text, 'and who did it') FROM prebuild_event WHERE kind = 'promoted';
SELECT is(eligible, 4, 'the new pool serves at once') FROM prebuild_state(t0()) WHERE preset_name = 'web-2';
SELECT is(claim('web-2', 'ada', 'mine') IS NOT NULL, true, 'people are given new ones');
SELECT is(claim('web', 'ada', 'late'), NULL, 'and no old ones');
SELECT is(pass(), 'created 1, deleted 4', 'the next pass deletes the old pool');
SELECT raises($$SELECT prebuild_promote(v('web-v2'))$$, '55000', 'is not staged', 'prebuild_stage_status', 'not twice');
SELECT fixture.stage_events('web');

\echo promotion by a pass, of a share
DO $$ BEGIN PERFORM two_versions('api', 3); END $$;
SELECT prebuild_stage(v('api-v2'), share => 0.5, promote => true) \g /dev/null
SELECT fixture.stage_status('api');
SELECT is(pass(), 'created 2', 'half of three is two');
SELECT is(pass(), '', 'and no more');
SELECT is(count(*), 0, 'nothing to promote yet') FROM prebuild_plan(t0()) WHERE action = 'promote';
SELECT is(fixture.finish_jobs(t0()), 7, 'all is built');
SELECT action, count, preset_id, template_id = t('api'), template_name, preset_name, reason FROM prebuild_plan(t0()) WHERE template_name = 'api';
SELECT is(pass(t0() + interval '1 min'), '', 'the pass that sees it promotes');
SELECT is(fixture.active('api'), 'api-v2', 'it is active');
SELECT is(updated_at, t0() + interval '1 min', 'since the time of the pass') FROM templates WHERE name = 'api';
SELECT is((SELECT count(*) FROM prebuild_stage), 0, 'it is staged no longer');
SELECT is(plan('api') || '; ' || plan('api-2'), 'delete 3; create 1', 'the rest is for the next pass');
SELECT is(detail - '{template_version_id,previous_version_id}'::text[], '{"target": 2, "eligible": 2, "by_pass": true}', 'the event')
FROM prebuild_event WHERE kind = 'promoted' AND template_id = t('api');
SELECT is(pass(), 'created 1, deleted 3', 'which does it');
SELECT is(fixture.finish_jobs(t0()), 4, 'all is built');
SELECT is(pass(), '', 'and then passes do nothing');

\echo another version has become active since
DO $$ BEGIN
	PERFORM two_versions('fix', 1);
	PERFORM prebuild_stage(v('fix-v2'), promote => true);
	PERFORM pass();
	PERFORM finish_jobs(t0());
	PERFORM version('fix', 'fix-v3');
END $$;
SELECT fixture.stage_status('fix');
SELECT is(count(*), 0, 'no promotion is planned') FROM prebuild_plan(t0()) WHERE action = 'promote';
SELECT is(pass(), 'deleted 1', 'a pass keeps the staged pool');
SELECT is(fixture.active('fix'), 'fix-v3', 'and does not undo what somebody has decided');
SELECT prebuild_stage(v('fix-v2'), promote => true) \g /dev/null
SELECT is(pass(), '', 'staged again');
SELECT is(fixture.active('fix'), 'fix-v2', 'it is promoted');
DO $$ BEGIN PERFORM pass(); PERFORM finish_jobs(t0()); END $$;

\echo staged prebuilds that expire
DO $$ BEGIN
	PERFORM two_versions('old', 1);
	UPDATE template_version_presets SET invalidate_after_secs = 3600 WHERE name = 'old-2';
	PERFORM prebuild_stage(v('old-v2'));
	PERFORM pass();
	PERFORM finish_jobs(t0());
END $$;
SELECT fixture.stage_status('old');
SELECT fixture.stage_status('old', t0() + interval '61 min');
SET prebuild.max_unavailable = 0;
SELECT fixture.stage_status('old', t0() + interval '61 min');
RESET prebuild.max_unavailable;
SELECT is(pass(t0() + interval '61 min'), 'created 1, deleted 1', 'are replaced');
DO $$ BEGIN PERFORM prebuild_unstage(v('old-v2')); UPDATE templates SET deprecated = 'old' WHERE name = 'old';
	PERFORM pass(); PERFORM finish_jobs(t0()); PERFORM pass(); PERFORM finish_jobs(t0()); END $$;

\echo the first version with prebuilds in an organization
DO $$ BEGIN
	PERFORM template('lone', 'lone'), version('lone', 'lone-v1'), version('lone', 'lone-v2', active => false);
	PERFORM preset('lone-v2', 'lone-2', 1);
	PERFORM prebuild_stage(v('lone-v2'));
END $$;
SELECT is(pass(), 'created 1', 'is staged');
SELECT is(count(*), 1, 'and the system user is a member') FROM organization_members WHERE organization_id = organization('lone');
DO $$ BEGIN PERFORM prebuild_unstage(v('lone-v2')); PERFORM finish_jobs(t0()); PERFORM pass(); PERFORM finish_jobs(t0()); END $$;

\echo schedules of a staged version
DO $$ BEGIN
	PERFORM two_versions('night', 1);
	PERFORM schedule('night-2', '* 12-13 * * *', 3);
	UPDATE template_version_presets SET scheduling_timezone = 'UTC' WHERE name = 'night-2';
	PERFORM prebuild_stage(v('night-v2'));
END $$;
SELECT is((desired, cron_expression)::text, '(3,"* 12-13 * * *")', 'hold') FROM prebuild_state(t0()) WHERE preset_name = 'night-2';
SELECT is(desired, 1, 'while they match') FROM prebuild_state(t0() + interval '6 hours') WHERE preset_name = 'night-2';
DO $$ BEGIN
	UPDATE template_version_preset_prebuild_schedules SET desired_instances = 0;
END $$;
SELECT fixture.stage_status('night');
SELECT fixture.stage_status('night', t0() + interval '6 hours');
DO $$ BEGIN PERFORM prebuild_unstage(v('night-v2')); UPDATE templates SET deprecated = 'old' WHERE name = 'night'; PERFORM pass(); END $$;

\echo a version that cannot be built never becomes active by itself
DO $$ BEGIN
	PERFORM two_versions('bad', 1);
	PERFORM prebuild_stage(v('bad-v2'), promote => true);
	FOR i IN 1..3 LOOP
		PERFORM pass(t0() + i * interval '10 min');
		PERFORM finish_jobs(t0() + i * interval '10 min', failing => true, preset_name => 'bad-2');
	END LOOP;
END $$;
SELECT is(pass(t0() + interval '40 min'), '', 'its builds have failed');
SELECT is(status('bad-2'), 'hard_limited', 'it is hard-limited');
SELECT fixture.stage_status('bad', t0() + interval '40 min');
SELECT is(fixture.active('bad'), 'bad-v1', 'and not active');
SELECT raises($$SELECT prebuild_promote(v('bad-v2'))$$, '55000', 'hard-limited', 'force', 'nor by hand');
DO $$ BEGIN
	PERFORM two_versions('wrong', 1);
	PERFORM parameter('wrong-v2', 'size', required => true);
	PERFORM prebuild_stage(v('wrong-v2'), promote => true);
END $$;
SELECT is(pass(), '', 'a version that is not valid');
SELECT is(status('wrong-2'), 'validation_failed', 'is marked');
SELECT fixture.stage_status('wrong');
SELECT is(fixture.active('wrong'), 'wrong-v1', 'and not active');
SELECT prebuild_promote(v('wrong-v2'), force => true) \g /dev/null
SELECT is(fixture.active('wrong'), 'wrong-v2', 'unless by force');
SELECT is(detail -> 'forced', 'true', 'which the event says') FROM prebuild_event WHERE kind = 'promoted' AND template_id = t('wrong');
DO $$ BEGIN
	PERFORM two_versions('slow', 1);
	PERFORM prebuild_stage(v('slow-v2'), promote => true);
	PERFORM pass(t0());
	PERFORM finish_jobs(t0(), failing => true, preset_name => 'slow-2');
END $$;
SELECT fixture.stage_status('slow');
SELECT prebuild_unstage(v('slow-v2')) \g /dev/null

\echo the end of a stage
DO $$ BEGIN
	PERFORM two_versions(name, 1) FROM unnest('{unstaged,expired,elsewhere,deprecated,deleted,archived,gone}'::text[]) name;
	PERFORM prebuild_stage(v(name || '-v2'))
	FROM unnest('{unstaged,expired,elsewhere,deprecated,deleted,archived,gone}'::text[]) name;
	PERFORM prebuild_stage(v('expired-v2'), valid_until => now() + interval '1 day');
	PERFORM pass();
	PERFORM finish_jobs(t0());
	DELETE FROM prebuild_event;
	PERFORM prebuild_unstage(v('unstaged-v2'));
	UPDATE templates SET active_version_id = v('elsewhere-v2') WHERE name = 'elsewhere';
	UPDATE templates SET deprecated = 'use another' WHERE name = 'deprecated';
	UPDATE templates SET deleted = true WHERE name = 'deleted';
	UPDATE template_versions SET archived = true WHERE name = 'archived-v2';
	UPDATE template_versions SET template_id = t('web') WHERE name = 'gone-v2';
END $$;
SELECT name, fixture.stage_status(name) FROM unnest('{unstaged,expired,elsewhere,deprecated,deleted,archived,gone}'::text[]) name;
SELECT raises($$SELECT prebuild_promote(v('elsewhere-v2'), force => true)$$, '55000', 'it is the template''s active version', NULL, 'promoted elsewhere');
SELECT raises($$SELECT prebuild_promote(v('archived-v2'), force => true)$$, '55000', 'is archived', NULL, 'archived');
SELECT is(plan('unstaged-2') || ', ' || plan('archived-2'), 'delete 1, delete 1', 'the pools go');
DO $$ BEGIN
	PERFORM two_versions('late', 1), version('late', 'late-v3', active => false);
	PERFORM preset('late-v3', 'late-3', 1);
	PERFORM prebuild_stage(v('late-v2'));
	UPDATE prebuild_stage SET valid_until = now() - interval '1 s' WHERE template_id = t('late');
END $$;
SELECT raises($$SELECT prebuild_promote(v('late-v2'))$$, '55000', 'cannot become active: it was valid until', 'force', 'when its time has passed');
SELECT prebuild_stage(v('late-v3')) \g /dev/null
SELECT fixture.stage_events('late');
DO $$ BEGIN
	PERFORM prebuild_unstage(v('late-v3'));
	PERFORM prebuild_stage(v('late-v2'));
	UPDATE prebuild_stage SET valid_until = now() - interval '1 s' WHERE template_id = t('late');
	PERFORM prebuild_promote(v('late-v2'), force => true);
END $$;
SELECT is(fixture.active('late'), 'late-v2', 'but by force');
DO $$ BEGIN PERFORM pass(); END $$;
SELECT name, fixture.stage_events(name) FROM unnest('{unstaged,expired,elsewhere,deprecated,deleted,archived,gone}'::text[]) name;
SELECT is(string_agg(name, ' '), 'expired', 'what is left of these') FROM templates
JOIN prebuild_stage s ON s.template_id = templates.id WHERE name <> ALL ('{web,bad}');
SELECT is((SELECT shape(w.name) FROM workspaces w JOIN workspace_builds b ON b.workspace_id = w.id
	WHERE b.template_version_preset_id = p('unstaged-2') AND b.build_number = 1), '2 delete pending', 'the pool of what was unstaged goes');
SELECT valid_until AS until FROM prebuild_stage WHERE template_id = t('expired') \gset
SELECT is(plan('expired-2', :'until'), '', 'a stage is valid until its time');
SELECT is(plan('expired-2', :'until'::timestamptz + interval '1 microsecond'), 'delete 1', 'and not after it');
SELECT fixture.stage_status('expired', :'until'::timestamptz + interval '1 microsecond') ~ 'not ready . it was valid until';
DO $$ BEGIN PERFORM pass(now() + interval '1 day 1 s'); END $$;
SELECT is(fixture.stage_events('expired') ~ '^stage_expired: it was valid until', true, 'the pass says so');
SELECT is((SELECT count(*) FROM prebuild_stage s WHERE s.template_id = t('expired')), 0, 'and ends it');

\echo one version of a template
DO $$ BEGIN
	PERFORM two_versions('one', 1);
	PERFORM version('one', 'one-v3', active => false), preset('one-v3', 'one-3', 1);
	PERFORM prebuild_stage(v('one-v2'));
END $$;
SELECT raises($$SELECT prebuild_stage(v('one-v3'))$$, '55000', 'another version of template "one" is staged', 'prebuild_unstage', 'at a time');
SELECT prebuild_stage(v('one-v2'), share => 0.25, promote => true) \g /dev/null
SELECT fixture.stage_status('one');
DO $$ BEGIN PERFORM version('one', 'one-v4'), prebuild_unstage(v('one-v2')), prebuild_stage(v('one-v3')); END $$;
DO $$ BEGIN UPDATE templates SET active_version_id = v('one-v3') WHERE name = 'one'; PERFORM prebuild_stage(v('one-v2')); END $$;
SELECT fixture.stage_status('one');
SELECT fixture.stage_events('one');
SELECT raises($$SELECT prebuild_unstage(v('one-v3'))$$, '55000', 'is not staged', 'prebuild_stage_status', 'what is not staged is not unstaged');

\echo what cannot be staged
DO $$ BEGIN
	PERFORM two_versions('x', 1);
	PERFORM version('x', 'x-' || status, active => false, import_status => status), preset('x-' || status, 'x-' || status, 1)
	FROM unnest('{failed,canceled,running,pending}'::text[]) status;
	PERFORM version('x', 'x-none', active => false);
	PERFORM version('x', 'x-zero', active => false), preset('x-zero', 'x-zero', 0), preset('x-zero', 'x-without', NULL);
	PERFORM prebuild_set_policy(t('x'), 'x-2', 'auto'), prebuild_set_policy(t('x'), 'x-without', 'auto');
	UPDATE template_versions SET archived = true WHERE name = 'x-none';
	PERFORM two_versions('x-deleted', 1), two_versions('x-deprecated', 1);
	UPDATE templates SET deleted = true WHERE name = 'x-deleted';
	UPDATE templates SET deprecated = 'use y' WHERE name = 'x-deprecated';
END $$;
SELECT raises(format('SELECT prebuild_stage(%L)', id), state, message, hint, label) FROM (VALUES
	(gen_random_uuid(), '22023', 'does not exist', 'template_versions in schema "cp_stage"', 'an unknown version'),
	(v('x-v1'), '55000', 'active version', 'already', 'the active version'),
	(v('x-none'), '55000', 'archived', NULL, 'an archived version'),
	(v('x-failed'), '55000', 'import job is failed', NULL, 'a version whose import failed'),
	(v('x-canceled'), '55000', 'import job is canceled', NULL, 'was canceled'),
	(v('x-running'), '55000', 'import job is running', 'after its import', 'is under way'),
	(v('x-pending'), '55000', 'import job is pending', 'after its import', 'waits'),
	(v('x-zero'), '55000', 'none of its presets wants prebuilds', 'desired_instances', 'without a preset that wants any'),
	(v('x-deleted-v2'), '55000', 'deleted', NULL, 'of a deleted template'),
	(v('x-deprecated-v2'), '55000', 'deprecated: use y', NULL, 'of a deprecated one'),
	(NULL, '22004', '"template_version_id" must not be null', NULL, 'no version')) c (id, state, message, hint, label);
SELECT raises(format('SELECT prebuild_stage(v(''x-v2''), %s)', argument), state, message, NULL, argument) FROM (VALUES
	('share => 0', '22023', '"share" must be above 0 and at most 1, not 0'),
	('share => -0.5', '22023', 'not -0.5'), ('share => 1.5', '22023', 'not 1.5'),
	('share => ''NaN''', '22023', 'not nan'), ('share => ''Infinity''', '22023', 'not inf'),
	('share => NULL', '22004', '"share" must not be null'), ('promote => NULL', '22004', '"promote" must not be null'),
	('force => NULL', '22004', '"force" must not be null'),
	('valid_until => now() - interval ''1 s''', '22023', '"valid_until" has passed'),
	('valid_until => ''infinity''', '22008', '"valid_until" must be a finite time')) c (argument, state, message);
-- but where a preset of 0 instances is in mode auto a policy may want some, by its own row or by the template's
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('x'), 'x-zero', 'auto');
	PERFORM prebuild_stage(v('x-zero'));
END $$;
SELECT fixture.stage_status('x');
DO $$ BEGIN
	PERFORM prebuild_unstage(v('x-zero')), prebuild_unset_policy(t('x'), 'x-zero');
	PERFORM prebuild_set_policy(t('x'), mode => 'auto');
	PERFORM prebuild_stage(v('x-zero'));
	PERFORM prebuild_unstage(v('x-zero'));
	PERFORM prebuild_set_policy(t('x'), 'x-zero', 'advise');
END $$;
SELECT raises('SELECT prebuild_stage(v(''x-zero''))', '55000', 'none of its presets wants prebuilds', 'auto', 'the mode of a preset wins over that of its template');
DO $$ BEGIN PERFORM prebuild_unset_policy(t('x')), prebuild_unset_policy(t('x'), 'x-zero'), prebuild_unset_policy(t('x'), 'x-2'), prebuild_unset_policy(t('x'), 'x-without'); END $$;
SELECT raises('SELECT prebuild_promote(NULL)', '22004', '"template_version_id"', NULL, 'promoting nothing');
SELECT raises('SELECT prebuild_promote(v(''x-v2''), NULL)', '22004', '"force"', NULL, 'by what');
SELECT raises('SELECT prebuild_unstage(NULL)', '22004', '"template_version_id"', NULL, 'unstaging nothing');
SELECT raises('SELECT * FROM prebuild_stage_status(''infinity'')', '22008', '"at"', NULL, 'no time');
BEGIN READ ONLY;
SELECT raises(format('SELECT %s(v(''x-v2''))', f), '25006', f || '\(\) in a read-only transaction', NULL, f || ' writes')
FROM unnest('{prebuild_stage,prebuild_unstage,prebuild_promote}'::text[]) f;
COMMIT;
SELECT is((SELECT count(*) FROM prebuild_stage s WHERE s.template_id = t('x')), 0, 'nothing of it is staged');

\echo beside another reconciler
SELECT is(prebuild('x', 'theirs', created => now() - interval '59 min') IS NOT NULL, true, 'a prebuild of another reconciler');
SELECT raises($$SELECT prebuild_stage(v('x-v2'))$$, '55006', 'another reconciler works', 'coderd', 'keeps versions from being staged');
SELECT prebuild_stage(v('x-v2'), force => true) \g /dev/null
SELECT is(fixture.stage_status('x') ~ '^x-v2', true, 'unless by force');
DO $$ BEGIN
	PERFORM prebuild_unstage(v('x-v2'));
	UPDATE workspace_builds SET created_at = now() - interval '61 min' WHERE workspace_id = w('theirs');
	PERFORM prebuild_reconcile(now());
END $$;
SELECT is((SELECT count(*) > 0 FROM workspace_builds WHERE created_at > now() - interval '1 hour'), true, 'builds of our own');
SELECT prebuild_stage(v('x-v2')) \g /dev/null
SELECT is(fixture.stage_status('x') ~ '^x-v2', true, 'do not, nor do old ones');

\echo faults of a promotion
DO $$ BEGIN
	PERFORM two_versions('held', 1), two_versions('free', 1);
	PERFORM prebuild_stage(v('held-v2'), promote => true), prebuild_stage(v('free-v2'), promote => true);
	PERFORM pass();
	PERFORM finish_jobs(t0());
	CREATE FUNCTION fixture.refuse() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
		IF NEW.name = 'held' THEN RAISE 'this template is frozen'; END IF; RETURN NEW; END $f$;
	CREATE TRIGGER refuse BEFORE UPDATE ON templates FOR EACH ROW EXECUTE FUNCTION fixture.refuse();
	CREATE SCHEMA cp_stage_gone;
	INSERT INTO prebuild_stage SELECT 'cp_stage_lost', template_id, template_version_id, replaces, share, promote, valid_until, staged_at
	FROM prebuild_stage WHERE template_id = t('held') AND control_plane = 'cp_stage';
	INSERT INTO prebuild_stage SELECT 'cp_stage_gone', template_id, template_version_id, replaces, share, promote, valid_until, staged_at
	FROM prebuild_stage WHERE template_id = t('held') AND control_plane = 'cp_stage';
END $$;
SELECT pass() ~ 'failed';
SELECT is((fixture.active('held'), fixture.active('free'))::text, '(held-v1,free-v2)', 'one template that cannot be written does not stop others');
SELECT is(fixture.stage_status('held') ~ 'promote . 1 . 1 . 0 . ready', true, 'it stays staged');
SELECT is(string_agg(DISTINCT control_plane, ' ' ORDER BY control_plane), 'cp_stage cp_stage_gone', 'stages of control planes that are gone go')
FROM prebuild_stage;
DO $$ BEGIN DROP TRIGGER refuse ON templates; PERFORM pass(); DELETE FROM prebuild_stage; END $$;
SELECT is(fixture.active('held'), 'held-v2', 'the next pass promotes it');
-- a role that may do all that a pass needs, but not promote
CREATE ROLE stage_app;
DO $$
DECLARE
	needed record;
BEGIN
	PERFORM two_versions('role', 1);
	PERFORM prebuild_stage(v('role-v2'), promote => true);
	PERFORM pass();
	PERFORM finish_jobs(t0());
	PERFORM prebuild_grant('stage_app');
	GRANT USAGE ON SCHEMA cp_stage, fixture TO stage_app;
	FOR needed IN SELECT * FROM prebuild_required_rights() LOOP
		EXECUTE format('GRANT %s ON %s TO stage_app', array_to_string(needed.privileges, ', '), needed.relation);
	END LOOP;
	REVOKE UPDATE ON templates FROM stage_app;
END $$;
SET ROLE stage_app;
SELECT is(pass() ~ 'failed', false, 'a pass without the right to promote');
RESET ROLE;
SELECT is(fixture.active('role'), 'role-v1', 'does the rest');
GRANT UPDATE (active_version_id, updated_at) ON templates TO stage_app;
SET ROLE stage_app;
SELECT is(pass() ~ 'failed', false, 'and with the right to two columns');
RESET ROLE;
SELECT is(fixture.active('role'), 'role-v2', 'it promotes');

DROP SCHEMA cp_stage_gone;
DROP SCHEMA cp_stage CASCADE;
DROP OWNED BY stage_app;
DROP ROLE stage_app;
