-- The extension's own tables stay within bounds, whatever happens and for however long. (The log of
-- the kept pool is in pool_distrust.)
\set ECHO none
\i test/fixture/fixture.sql

-- marks: of what is active, and no more
DO $$ BEGIN
	DELETE FROM prebuild_mark;
	PERFORM control_plane('cp_growth');
	PERFORM template('pushed');
END $$;
-- A version is pushed, with two presets that cannot be built: one unsupported, one invalid.
CREATE FUNCTION fixture.push(n int) RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM version('pushed', 'v' || n);
	PERFORM preset('v' || n, 'odd-' || n, 1);
	PERFORM preset('v' || n, 'bad-' || n, 1);
	PERFORM parameter('v' || n, 'region', required => true);
	PERFORM preset_value('odd-' || n, 'region', 'eu');
	INSERT INTO template_version_workspace_tags VALUES (v('v' || n), 'zone', 'local.zone');
	RETURN pass();
END
$$;
CREATE FUNCTION fixture.marks() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(coalesce(p.name, 'gone') || ' ' || m.kind, ', ' ORDER BY p.name COLLATE "C", m.kind)
	FROM prebuild_mark m LEFT JOIN template_version_presets p ON p.id = m.preset_id $$;
SELECT is(string_agg(push(n), ''), '', 'ten versions one after the other') FROM generate_series(1, 10) n;
SELECT is(marks(), 'bad-10 validation_failed, odd-10 unsupported', 'the marks of the last one are left');
SELECT is(status('bad-10'), 'validation_failed', 'which is marked');
SELECT is(status('bad-9'), 'healthy', 'those before are forgiven');
SELECT is(events('odd-9', 'unsupported') || ' ' || events('bad-9', 'validation_failed'), '1 1', 'after they were reported');
SELECT is(pass(n => 3), '', 'further passes');
SELECT is(events('odd-10', 'unsupported') || ' ' || events('bad-10', 'validation_failed'), '1 1', 'report nothing again');
-- back to an earlier one: what was ours is still ours
DO $$ BEGIN UPDATE templates SET active_version_id = v('v9') WHERE name = 'pushed'; END $$;
SELECT is(pass(), '', 'a promotion of the version before');
SELECT is(status('bad-9'), 'validation_failed', 'is checked anew');
SELECT is(status('bad-10'), 'healthy', 'and the other forgiven');
SELECT is(marks(), 'bad-9 validation_failed, odd-9 unsupported', 'the marks go along');
SELECT is(events('odd-9', 'unsupported') || ' ' || events('bad-9', 'validation_failed'), '2 2', 'it is reported as it begins again');
DO $$ BEGIN PERFORM preset_value('bad-9', 'region', 'eu'); DELETE FROM template_version_workspace_tags; END $$;
SELECT is(pass(), 'created 2', 'once they can be built, they are');
SELECT is(status('bad-9') || coalesce(marks(), ''), 'healthy', 'no mark is left');
-- a status that somebody else wrote stays his
DO $$ BEGIN
	UPDATE template_version_presets SET prebuild_status = 'validation_failed' WHERE name = 'bad-8';
	PERFORM pass();
END $$;
SELECT is(status('bad-8'), 'validation_failed', 'what was not marked by us is not forgiven by us');
-- deleted presets, presets that want none any more
DO $$ BEGIN
	PERFORM push(11);
	INSERT INTO prebuild_mark (preset_id, kind, detail, since, control_plane)
	SELECT gen_random_uuid(), 'unsupported', 'x', now(), 'cp_growth' FROM generate_series(1, 5);
	DELETE FROM template_version_presets WHERE name = 'odd-11';
	UPDATE template_version_presets SET desired_instances = NULL WHERE name = 'bad-11';
END $$;
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is(marks(), NULL, 'marks of what is gone go');
SELECT is(status('bad-11'), 'healthy', 'with the status that they stood for');
-- deprecated and deleted templates
DO $$ BEGIN
	PERFORM push(12);
	UPDATE templates SET deprecated = 'old';
END $$;
SELECT is(marks(), 'bad-12 validation_failed, odd-12 unsupported', 'marked');
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is(marks(), NULL, 'a deprecated template''s marks go');
DO $$ BEGIN UPDATE templates SET deprecated = ''; PERFORM pass(); END $$;
SELECT is(marks(), 'bad-12 validation_failed, odd-12 unsupported', 'and are there again with it');
-- A preset that is not active and fails is reported once, while there is something to do about it.
DO $$ BEGIN
	PERFORM simple('stuck', 1);
	PERFORM prebuild('stuck', 'stuck-1');
	PERFORM version('stuck', 'stuck-v2');
END $$;
ALTER TABLE workspace_builds ADD CONSTRAINT no_delete CHECK (transition <> 'delete') NOT VALID;
SET client_min_messages = error;
DO $$ BEGIN PERFORM pass(n => 3); END $$;
SET client_min_messages = warning;
SELECT is(events('stuck', 'preset_failed'), 1, 'a preset that is not active and fails is reported once');
ALTER TABLE workspace_builds DROP CONSTRAINT no_delete;
DO $$ BEGIN PERFORM pass(n => 2); END $$;
SELECT is(marks(), 'bad-12 validation_failed, odd-12 unsupported', 'and its mark goes when that is done');
-- a pass leaves marks of another control plane alone until that is gone; marks of 0.1 do not name theirs
INSERT INTO prebuild_mark (preset_id, kind, detail, since, control_plane)
VALUES ('00000000-0000-0000-0000-000000000001', 'validation_failed', 'x', now(), 'fixture'),
	('00000000-0000-0000-0000-000000000002', 'validation_failed', 'x', now(), 'cp_gone'),
	('00000000-0000-0000-0000-000000000003', 'unsupported', 'x', now(), NULL),
	('00000000-0000-0000-0000-000000000004', 'validation_failed', 'x', now(), NULL);
UPDATE prebuild_mark SET control_plane = NULL WHERE preset_id IN (p('bad-12'), p('odd-12'));
DO $$ BEGIN PERFORM push(13); END $$;
SELECT is((SELECT string_agg(right(preset_id::text, 1) || ' ' || coalesce(control_plane, 'unknown'), ', ' ORDER BY preset_id)
	FROM prebuild_mark WHERE preset_id::text ~ '^0{8}'), '1 fixture, 4 unknown', 'others'' marks are left alone');
SELECT is(status('bad-12'), 'healthy', 'a mark of before says it is ours where its preset is seen');
DELETE FROM prebuild_mark WHERE preset_id::text ~ '^0{8}';
SELECT is(marks(), 'bad-13 validation_failed, odd-13 unsupported', 'and goes');
-- a pass removes a backlog in parts
INSERT INTO prebuild_mark (preset_id, kind, detail, since, control_plane)
SELECT gen_random_uuid(), 'unsupported', 'x', now(), 'cp_growth' FROM generate_series(1, 15000);
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is((SELECT count(*) FROM prebuild_mark), 5002, 'ten thousand marks at once');
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is((SELECT count(*) FROM prebuild_mark), 2, 'and the rest');
-- a pass does not fail if it cannot write a preset's status
DO $$ BEGIN PERFORM push(14); END $$;
ALTER TABLE template_version_presets ADD CONSTRAINT no_return CHECK (name <> 'bad-14' OR prebuild_status <> 'healthy') NOT VALID;
\echo a pass that may not forgive
DO $$ BEGIN PERFORM push(15); END $$;
SELECT is(marks(), 'bad-14 validation_failed, bad-15 validation_failed, odd-14 unsupported, odd-15 unsupported', 'goes on');
ALTER TABLE template_version_presets DROP CONSTRAINT no_return;
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is(marks(), 'bad-15 validation_failed, odd-15 unsupported', 'and does it later');
-- several marks that go at once take back the status of each
DO $$ BEGIN
	PERFORM simple('pair', 1, preset_name => 'pair-1');
	PERFORM preset('pair-v1', 'pair-' || n, 1) FROM generate_series(2, 3) n;
	PERFORM parameter('pair-v1', 'region', required => true);
	PERFORM pass();
	UPDATE template_version_presets SET desired_instances = NULL WHERE name ~ '^pair';
END $$;
SELECT is((SELECT string_agg(status(name), ' ') FROM template_version_presets WHERE name ~ '^pair'), 'validation_failed validation_failed validation_failed', 'three presets that are marked');
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is((SELECT string_agg(status(name), ' ') FROM template_version_presets WHERE name ~ '^pair'), 'healthy healthy healthy', 'are healthy once nobody wants them');
DO $$ BEGIN DELETE FROM template_version_presets WHERE name ~ '^pair'; END $$;

-- events: ten thousand old ones at once
DELETE FROM prebuild_event;
INSERT INTO prebuild_event (at, kind) SELECT t0() - interval '1 month' - n * interval '1 s', 'pass' FROM generate_series(1, 25000) n;
INSERT INTO prebuild_event (at, kind) VALUES (t0(), 'young');
CREATE FUNCTION fixture.left_after_pass() RETURNS bigint LANGUAGE plpgsql AS
$$ BEGIN PERFORM pass(); RETURN (SELECT count(*) FROM prebuild_event WHERE kind IN ('pass', 'young')); END $$;
SELECT is(left_after_pass(), 15001, 'a pass removes ten thousand events');
SELECT is((SELECT max(at) FROM prebuild_event WHERE kind = 'pass'), t0() - interval '1 month 1 s', 'the oldest');
SELECT is(left_after_pass(), 5001, 'the next one as many');
SELECT is(left_after_pass(), 1, 'until none is older than it should be');

-- claims that replaced resources become counts
DO $$ BEGIN
	DELETE FROM prebuild_replacement;
	DELETE FROM prebuild_replacement_count;
	PERFORM simple('claimed', 1);
	PERFORM prebuild('claimed', 'old');
	PERFORM prebuild('claimed', 'new');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name IN ('old', 'new');
	PERFORM build(name, 'start', initiator => usr('ada'), preset_name => 'claimed') FROM unnest(ARRAY['old', 'new']) name;
	UPDATE workspace_builds SET created_at = now() - CASE WHEN id = latest('old') THEN interval '31 days' ELSE '29 days' END
	WHERE id IN (latest('old'), latest('new'));
END $$;
CREATE FUNCTION fixture.replaced() RETURNS double precision LANGUAGE sql STABLE AS
$$ SELECT sum(value) FROM prebuild_metrics_read(now(), 'history') WHERE name ~ 'replacements_total$' $$;
CREATE FUNCTION fixture.track(workspace text) RETURNS boolean LANGUAGE sql AS
$$ SELECT prebuild_track_resource_replacement(w(workspace), latest(workspace), '{"disk": ["size"]}') $$;
SELECT is(track('new'), true, 'a claim of 29 days ago is counted');
SELECT is(track('old'), false, 'one of 31 days ago is not: it may have been');
INSERT INTO prebuild_replacement (workspace_id, build_id, template_id, preset_id, at)
SELECT gen_random_uuid(), gen_random_uuid(), t('claimed'), CASE WHEN n > 100 THEN p('claimed') END,
	now() - interval '31 days' - n * interval '1 s' FROM generate_series(1, 15100) n;
INSERT INTO prebuild_replacement (workspace_id, build_id, template_id, preset_id, at)
VALUES (w('old'), latest('old'), t('claimed'), p('claimed'), now() - interval '31 days');
SELECT is(replaced(), 15002::double precision, 'fifteen thousand claims');
-- by the real clock; nothing to build meanwhile
UPDATE template_version_presets SET desired_instances = 0;
DO $$ BEGIN PERFORM prebuild_reconcile(); END $$;
SELECT is((SELECT count(*) FROM prebuild_replacement), 5102, 'ten thousand become a count');
SELECT is(replaced(), 15002::double precision, 'which changes nothing of their number');
DO $$ BEGIN PERFORM prebuild_reconcile(); PERFORM prebuild_reconcile(); END $$;
SELECT is((SELECT string_agg(claims::text, ' ') FROM prebuild_replacement_count), '15001', 'in one row for the preset');
SELECT is((SELECT count(*) FROM prebuild_replacement), 1, 'the young ones stay as they are');
SELECT is(replaced(), 15002::double precision, 'the number is the same');
SELECT is(track('old') OR track('new'), false, 'and nothing is counted twice');

-- the rest has a row each: for a control plane, for the passes, for a member of the pool
SELECT is((SELECT count(*) FROM prebuild_pass_stats), 1, 'one row of statistics, after all these passes');

-- Whoever adds a table adds its bound and a test of it, and then the table here. prebuild_policy has what
-- operators have set.
SELECT is((SELECT string_agg(coalesce(c.name, t.name), ' ' ORDER BY c.name, t.name) FROM (VALUES
	('prebuild_claim_time_stats', 'demand: a row for each preset of a template that is there'),
	('prebuild_demand_log', 'demand: prebuild.demand_retention'),
	('prebuild_demand_marker', 'a row for each control plane'),
	('prebuild_event', 'here: prebuild.event_retention'),
	('prebuild_failure', 'hard_limit, odd_health: what a decision needs, of presets that are kept'),
	('prebuild_forgiven', 'odd_health: a row for each preset that is kept'),
	('prebuild_idle', 'demand: a row for each preset of a template that is there'),
	('prebuild_lead_time_log', 'demand: prebuild.demand_retention'),
	('prebuild_lead_time_stats', 'demand: a row for each preset of a template that is there'),
	('prebuild_mark', 'here: of presets that are active'),
	('prebuild_pass_stats', 'here: one row'),
	('prebuild_policy', 'auto: a row for each call of prebuild_set_policy() that is not undone'),
	('prebuild_policy_choice', 'auto: a row for each preset in mode auto'),
	('prebuild_pool_log', 'pool_distrust: folds empty it'),
	('prebuild_pool_marker', 'pool_distrust: a row for each control plane'),
	('prebuild_pool_state', 'pool_distrust: a row for each member of a pool'),
	('prebuild_preset_count', 'demand: a row for each counter and preset of a template that is there'),
	('prebuild_preset_count_log', 'counters: passes empty it'),
	('prebuild_replacement', 'here: 30 days'),
	('prebuild_replacement_count', 'here: a row for each preset that had any'),
	('prebuild_stage', 'stage: a row for each template')) t (name, bound)
FULL JOIN (SELECT c.relname::text AS name FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	AND d.deptype = 'e' JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'prebuild_ext' AND c.relkind = 'r') c ON c.name = t.name
WHERE c.name IS NULL OR t.name IS NULL), NULL, 'each table of the extension has a bound that a test shows');
DELETE FROM prebuild_replacement;
DELETE FROM prebuild_replacement_count;
DELETE FROM prebuild_event;
DROP SCHEMA cp_growth CASCADE;
