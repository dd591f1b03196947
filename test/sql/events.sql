-- Resources replaced by claims, and notifications for template admins.
\set ECHO none
\i test/fixture/fixture.sql

-- A control plane with a claimed prebuild "c-1" of preset "a", and admins.
CREATE FUNCTION fixture.claimed_one() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM control_plane('cp_events');
	DELETE FROM prebuild_replacement;
	PERFORM simple('a', 1);
	PERFORM prebuild('a', 'c-1');
	PERFORM prebuild('a', 'unclaimed');
	PERFORM build('c-1', 'start', initiator => usr('ada'), preset_name => 'a');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'c-1';
	PERFORM prebuild('a', 'made', owner => usr('ada'));
	PERFORM build('made', 'start', initiator => usr('ada'));
	PERFORM usr('bob'), usr('owner'), usr('deleted'), usr('system');
	UPDATE users SET rbac_roles = '{template-admin}' WHERE username IN ('ada');
	UPDATE users SET rbac_roles = '{owner,template-admin}', name = 'Bob B.' WHERE id = usr('bob');
	UPDATE users SET rbac_roles = '{owner}' WHERE id = usr('owner');
	UPDATE users SET rbac_roles = '{template-admin}', deleted = true WHERE id = usr('deleted');
	UPDATE users SET rbac_roles = '{template-admin}', is_system = true WHERE id = usr('system');
END
$$;

CREATE FUNCTION fixture.messages() RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT coalesce(string_agg(concat_ws(' ', t.name, u.username, m.method), ', ' ORDER BY t.name, u.username, m.method), '')
	FROM notification_messages m JOIN notification_templates t ON t.id = m.notification_template_id
	JOIN users u ON u.id = m.user_id
$$;
CREATE FUNCTION fixture.track(workspace text DEFAULT 'c-1', replacements jsonb DEFAULT '{"disk[0]": ["size", "type"]}')
RETURNS boolean LANGUAGE sql AS
$$
	-- what is long past is not counted
	UPDATE workspace_builds SET created_at = now() WHERE id = latest(workspace);
	SELECT prebuild_track_resource_replacement(w(workspace), latest(workspace), replacements)
$$;
CREATE FUNCTION fixture.replaced() RETURNS double precision LANGUAGE sql STABLE AS
$$ SELECT sum(value) FROM prebuild_metrics_read(t0(), 'history') WHERE name ~ 'replacements_total$' $$;

-- without a notification queue
DO $$ BEGIN PERFORM claimed_one(); END $$;
SELECT is(replaced(), 0::float8, 'none before the first one');
SELECT is(track(), true, 'recorded');
SELECT is(count(*), 1::bigint, 'an event') FROM prebuild_event WHERE kind = 'resource_replaced';
SELECT is(e::text, format('(resource_replaced,%s,%s,%s,t,t)', t('a'), p('a'), w('c-1')), 'which says what of')
FROM (SELECT kind, template_id, preset_id, workspace_id, detail = jsonb_build_object('build_id', latest('c-1'),
	'replacements', '{"disk[0]": ["size", "type"]}'::jsonb), at = now() OR at > now() - interval '1 minute'
	FROM prebuild_event WHERE kind = 'resource_replaced') e;
SELECT is(replaced(), 1::double precision, 'counted');
SELECT is(track(), false, 'the same claim again is known');
SELECT is(track(replacements => '{"other": []}'), false, 'whatever it says');
SELECT is(count(*), 1::bigint, 'no other event') FROM prebuild_event WHERE kind = 'resource_replaced';
SELECT is(replaced(), 1::double precision, 'nor counted');
SET prebuild.event_retention = 0;
DO $$ BEGIN PERFORM pass(now() + interval '1 minute'); END $$;
RESET prebuild.event_retention;
SELECT is(count(*), 0::bigint, 'events go') FROM prebuild_event WHERE kind = 'resource_replaced';
SELECT is(replaced(), 1::double precision, 'the count stays');
SELECT is(track(), false, 'and the claim is known');
DO $$ BEGIN
	PERFORM build('c-1', 'start', initiator => usr('ada'));
	BEGIN
		PERFORM track();
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
	END;
END $$;
SELECT is(replaced(), 1::double precision, 'what is rolled back is not counted');
SELECT is(track(replacements => '{}'), false, 'nothing was replaced');
SELECT is(replaced(), 1::double precision, 'nothing is counted');
SELECT is(track(replacements => '{"a": [], "b": ["x"]}'), true, 'another build; no path is known');
SELECT is(replaced(), 2::double precision, 'two');
SELECT is(preset_id, p('a'), 'a build without preset has that of the prebuild') FROM prebuild_event WHERE kind = 'resource_replaced';
UPDATE templates SET deleted = true;
SELECT is(replaced(), NULL, 'a deleted template shows nothing');

-- what is refused
DO $$ BEGIN PERFORM claimed_one(); END $$;
SELECT raises('SELECT prebuild_track_resource_replacement(NULL, latest(''c-1''), ''{}'')', '22004', '"workspace_id"', NULL, 'no workspace');
SELECT raises('SELECT prebuild_track_resource_replacement(w(''c-1''), NULL, ''{}'')', '22004', '"build_id"', NULL, 'no build');
SELECT raises('SELECT track(replacements => NULL)', '22004', '"replacements"', NULL, 'no replacements');
SELECT raises('SELECT track(replacements => ''["a"]'')', '22023', 'object, not \["a"\]', 'keys name resources', 'an array');
SELECT raises('SELECT track(replacements => ''7'')', '22023', 'object, not ', NULL, 'a number');
SELECT raises('SELECT track(replacements => ''{"a": ["x"], "b": "x"}'')', '22023', '"b"', NULL, 'no array of paths');
SELECT raises('SELECT track(replacements => ''{"a": ["x", 1]}'')', '22023', '"a"', NULL, 'a path that is no string');
SELECT raises('SELECT prebuild_track_resource_replacement(p(''a''), latest(''c-1''), ''{"a": []}'')', '22023',
	'workspace ' || p('a') || ' does not exist', NULL, 'an unknown workspace');
SELECT raises('SELECT prebuild_track_resource_replacement(w(''c-1''), latest(''made''), ''{"a": []}'')', '22023',
	format('workspace %s has no build %s', w('c-1'), latest('made')), NULL, 'the build of another workspace');
SELECT raises('SELECT track(''made'')', '22023', w('made') || ' was not prebuilt', NULL, 'a workspace that a user made');
SELECT raises('SELECT track(''unclaimed'')', '22023', w('unclaimed') || ' has not been claimed', NULL, 'a prebuild that was not claimed');
SELECT raises(format('SELECT prebuild_track_resource_replacement(w(''c-1''), %L, ''{"a": []}'')', id), '22023',
	id || ' does not belong to a claim', NULL, 'the build of the prebuild itself') FROM workspace_builds WHERE workspace_id = w('c-1') AND build_number = 1;
SELECT is(count(*), 0::bigint, 'nothing of that is recorded') FROM prebuild_event WHERE kind = 'resource_replaced';
BEGIN READ ONLY;
SELECT raises('SELECT track()', '25006', NULL, NULL, 'read only');
ROLLBACK;

-- with a notification queue
DO $$ BEGIN
	PERFORM claimed_one();
	PERFORM notification_queue();
END $$;
SELECT is(track(replacements => '{"disk[0]": ["size", "type"], "net": []}'), true, 'recorded');
SELECT is(messages(), 'Replaced ada inbox, Replaced bob inbox', 'every template admin that is a living person');
SELECT is(payload, jsonb_build_object('_version', '1.2', 'notification_name', 'Replaced',
	'notification_template_id', '89d9745a-816e-4695-a17f-3d0a229e2b8d', 'user_id', usr('bob'),
	'user_email', 'bob@example.com', 'user_name', 'Bob B.', 'user_username', 'bob', 'actions', '[]'::jsonb,
	'labels', jsonb_build_object('org', 'org', 'workspace', 'c-1', 'template', 'a', 'template_version', 'a-v1',
		'preset', 'a', 'workspace_build_num', '2', 'claimant', 'ada'),
	'data', '{"replacements": {"disk[0]": "size, type", "net": ""}}'::jsonb,
	'targets', to_jsonb(targets)), 'the payload')
FROM notification_messages WHERE user_id = usr('bob');
SELECT is(targets, ARRAY[w('c-1'), usr('ada'), t('a'), v('a-v1'), p('a'), organization('org')], 'the targets'),
	is(created_by, 'prebuilds_reconciler', 'by whom'),
	is(payload ->> 'user_name', 'ada', 'the login where there is no name')
FROM notification_messages WHERE user_id = usr('ada');
SELECT is(track(), false, 'again');
SELECT is(messages(), 'Replaced ada inbox, Replaced bob inbox', 'nobody is told twice');

-- methods and preferences
CREATE FUNCTION fixture.next_claim() RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	DELETE FROM notification_messages;
	PERFORM build('c-1', 'start', initiator => usr('ada'));
	IF NOT track() THEN
		RETURN 'not recorded';
	END IF;
	RETURN messages();
END
$$;
UPDATE notification_templates SET method = 'webhook';
SELECT is(next_claim(), 'Replaced ada webhook, Replaced ada inbox, Replaced bob webhook, Replaced bob inbox', 'the method of the template, and the inbox');
UPDATE notification_templates SET method = 'inbox';
SELECT is(next_claim(), 'Replaced ada inbox, Replaced bob inbox', 'the inbox once');
UPDATE notification_templates SET method = NULL;
INSERT INTO notification_preferences VALUES (usr('bob'), '89d9745a-816e-4695-a17f-3d0a229e2b8d', true);
SELECT is(next_claim(), 'Replaced ada inbox', 'not to those who turned it off');
UPDATE notification_templates SET enabled_by_default = false;
SELECT is(next_claim(), '', 'a disabled template');
UPDATE notification_preferences SET disabled = false;
SELECT is(next_claim(), 'Replaced bob inbox', 'but to those who turned it on');
DELETE FROM notification_preferences;
DELETE FROM notification_messages;
UPDATE notification_templates SET enabled_by_default = true, id = gen_random_uuid() WHERE name = 'Replaced';
SELECT is(next_claim(), '', 'a missing template');
UPDATE notification_templates SET id = '89d9745a-816e-4695-a17f-3d0a229e2b8d' WHERE name = 'Replaced';

-- a queue that refuses is a warning, for that message alone
ALTER TABLE notification_messages ADD CONSTRAINT no_ada CHECK (payload ->> 'user_username' <> 'ada');
SELECT is(next_claim(), 'Replaced bob inbox', 'the other one is told');
ALTER TABLE notification_messages DROP CONSTRAINT no_ada;
CREATE FUNCTION fixture.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON notification_messages DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT is(next_claim(), '', 'one that would refuse at commit');
DROP TRIGGER late ON notification_messages;
-- what the caller has violated before is not reported
CREATE TABLE own (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION fixture.accept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON notification_messages DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION accept();
BEGIN;
INSERT INTO own VALUES (1), (1);
SELECT is(next_claim(), 'Replaced ada inbox, Replaced bob inbox', 'while the caller has violated a key of his own');
DELETE FROM own;
COMMIT;
DROP TRIGGER late ON notification_messages;
-- a cancel is a cancel
CREATE FUNCTION fixture.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER dawdle BEFORE INSERT ON notification_messages FOR EACH ROW EXECUTE FUNCTION dawdle();
SET statement_timeout = '1s';
SELECT next_claim();
RESET statement_timeout;
DROP TRIGGER dawdle ON notification_messages;
SELECT is(next_claim(), 'Replaced ada inbox, Replaced bob inbox', 'and leaves nothing behind');
DROP TABLE notification_preferences;
SELECT is(next_claim(), '', 'half a queue is none');
CREATE TABLE notification_preferences (nothing int);
SELECT is(next_claim(), '', 'nor is one that cannot be read');
SELECT ok(count(*) > 8, 'all claims are recorded') FROM prebuild_event WHERE kind = 'resource_replaced';

-- the hard limit
CREATE FUNCTION fixture.failing_one() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM claimed_one();
	PERFORM notification_queue();
	DELETE FROM workspaces;
	PERFORM prebuild('a', format('failed-%s', i), status => 'failed', created => t0() - interval '2 hours')
	FROM generate_series(1, 3) i;
	PERFORM simple('b', 1);
END
$$;
DO $$ BEGIN PERFORM failing_one(); END $$;
SELECT is(pass(n => 8), 'created 1', 'eight passes');
SELECT is(status('a') || events('a', 'hard_limited'), 'hard_limited1', 'the limit is an event');
SELECT is(messages(), '', 'and by default no notification');
SET prebuild.notify_hard_limit = on;
DO $$ BEGIN PERFORM failing_one(); END $$;
UPDATE notification_templates SET method = 'smtp';
SELECT is(pass(n => 8), 'created 1', 'eight passes again');
SELECT is(status('a') || events('a', 'hard_limited'), 'hard_limited1', 'one event');
SELECT is(messages(), 'Limit ada smtp, Limit ada inbox, Limit bob smtp, Limit bob inbox', 'one notification for each admin');
SELECT is(payload, jsonb_build_object('_version', '1.2', 'notification_name', 'Limit',
	'notification_template_id', '414d9331-c1fc-4761-b40c-d1f4702279eb', 'user_id', usr('bob'),
	'user_email', 'bob@example.com', 'user_name', 'Bob B.', 'user_username', 'bob', 'actions', '[]'::jsonb,
	'labels', jsonb_build_object('org', 'org', 'template', 'a', 'template_version', 'a-v1', 'preset', 'a'),
	'data', '{}'::jsonb, 'targets', to_jsonb(targets)), 'the payload'),
	is(targets, ARRAY[t('a'), v('a-v1'), p('a'), organization('org')], 'the targets'),
	is(created_at, t0(), 'the time')
FROM notification_messages WHERE user_id = usr('bob') AND method = 'inbox';
-- cleared and reached again on the same day
UPDATE template_version_presets SET prebuild_status = 'healthy' WHERE name = 'a';
SELECT is(pass(t0() + interval '1 minute'), '', 'reached again');
SELECT is(events('a', 'hard_limited'), 2, 'another event');
SELECT is(count(*), 4::bigint, 'the same day''s notification is not repeated') FROM notification_messages;
UPDATE template_version_presets SET prebuild_status = 'healthy' WHERE name = 'a';
SELECT is(pass(t0() + interval '1 day'), '', 'and on another day');
SELECT is(count(*), 8::bigint, 'is told again') FROM notification_messages;
-- a pass does not fail for a notification's sake
DO $$ BEGIN PERFORM failing_one(); END $$;
ALTER TABLE notification_messages ADD CONSTRAINT none CHECK (false);
SELECT is(pass(), 'created 1', 'the pass goes on');
SELECT is(status('a') || events('a', 'hard_limited'), 'hard_limited1', 'and marks');

DROP SCHEMA cp_events CASCADE;
DELETE FROM prebuild_replacement;
