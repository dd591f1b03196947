-- Mode auto: passes choose a policy for each preset and take its target, on a synthetic past.
\set ECHO none
\i test/fixture/fixture.sql
\i test/fixture/asked.sql
SET intervalstyle = postgres;
SET timezone = 'UTC';

DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	DELETE FROM prebuild_policy_choice;
	PERFORM control_plane('cp_auto');
	PERFORM simple('busy', 14, 86400);
	PERFORM preset('busy-v1', 'rare', 0, 0, 'Europe/Berlin');
	PERFORM preset('busy-v1', 'few', 2);
	PERFORM preset('busy-v1', 'none', 1, 0, 'UTC');
	PERFORM schedule('none', '* 8-17 * * *', 3);
	PERFORM simple('young', 1);
	PERFORM simple('turned', 2);
	PERFORM simple('twin', 1);
	PERFORM asked('busy', office_hours(120, 540, 547, 1) || office_hours(120, 560, 1000, 20));
	PERFORM asked('rare', office_hours(120, 480, 900, 210));
	PERFORM asked('few', ARRAY[t0() - interval '1 day', t0() - interval '40 days']);
	PERFORM asked('young', office_hours(12, 540, 900, 10));
	-- people come in the morning, and in the last week at night
	PERFORM asked('turned', office_hours(120, 540, 580, 10, t0() - interval '7 days'));
	PERFORM asked('turned', ARRAY(SELECT a + interval '15 hours' FROM unnest(office_hours(7, 540, 580, 10)) a));
	PERFORM asked('twin', office_hours(120, 1320, 1380, 15));
	PERFORM built('busy', 240, office_hours(120, 540, 540, 5));
	UPDATE workspaces SET owner_id = usr('ada') WHERE owner_id = prebuild_system_user();
	-- a build that waits for ever: with this cap passes create nothing, so that no lead times come from them
	PERFORM prebuild('twin', 'waits', status => 'pending', created => t0() - interval '150 days');
END $$;
SET prebuild.max_building = 1;

-- Run passes at a time until there is nothing to choose.
CREATE PROCEDURE fixture.passes(at timestamptz) LANGUAGE plpgsql AS
$$
DECLARE
	chosen bigint := -1;
BEGIN
	FOR n IN 1..60 LOOP
		PERFORM prebuild_reconcile(at);
		COMMIT;
		EXIT WHEN n > CASE WHEN chosen > 0 THEN 1 ELSE 3 END AND chosen = (SELECT count(*) FROM prebuild_policy_choice) AND NOT EXISTS (
			SELECT FROM prebuild_policy_choice WHERE due_at <= at OR chosen_at > at + interval '1 hour' OR learnt_at <> date_trunc('week', at));
		chosen := (SELECT count(*) FROM prebuild_policy_choice);
	END LOOP;
END
$$;
CREATE FUNCTION fixture.chosen() RETURNS SETOF text LANGUAGE sql STABLE AS
$$
	SELECT format('%s/%s: %s (%s), %s of %s instead of %s, idle %s instead of %s; %s', t.name, preset_name, policy, outcome,
		round(hit_rate::numeric, 3), demand, round(configured_hit_rate::numeric, 3), idle, configured_idle, note)
	FROM prebuild_policy_choice c JOIN templates t ON t.id = template_id WHERE control_plane = 'cp_auto' ORDER BY t.name, preset_name
$$;
CREATE FUNCTION fixture.wanted(at timestamptz) RETURNS SETOF text LANGUAGE sql STABLE AS
$$ SELECT format('%s %s/%s: %s by %s', to_char(at, 'Dy HH24:MI'), template_name, preset_name, desired, desired_source) FROM prebuild_state(at) WHERE active $$;
CREATE FUNCTION fixture.told() RETURNS SETOF text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN QUERY WITH gone AS (DELETE FROM prebuild_event WHERE kind ~ '^(policy_chosen|auto_)' RETURNING *)
		SELECT format('%s %s: %s', kind, coalesce((SELECT name FROM templates t WHERE t.id = template_id), '-'), detail - 'note' - 'build_id') FROM gone ORDER BY 1;
END
$$;

-- off by default: no choice is made, and numbers and schedules are the source
CALL passes('2025-05-26 07:00Z');
SELECT wanted('2025-05-26 07:00Z');
SELECT wanted('2025-05-26 09:00Z');
SELECT is((SELECT count(*)::int FROM prebuild_policy_choice), 0, 'no choice without mode auto');
SELECT is((SELECT count(*)::int FROM prebuild_state(t0()) WHERE NOT active AND desired_source IS NOT NULL), 0, 'no source where nothing is wanted');

-- auto, not chosen yet
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('busy'), mode => 'auto', max_instances => 20);
	PERFORM prebuild_set_policy(t('young'), 'young', 'auto', min_instances => 5);
	PERFORM prebuild_set_policy(t('turned'), 'turned', 'auto');
	PERFORM prebuild_set_policy(t('twin'), 'twin', 'advise');
END $$;
SELECT wanted('2025-05-26 07:00Z');
SELECT DISTINCT substring(reason FROM 'mode auto.*') FROM prebuild_plan('2025-05-26 07:00Z') WHERE preset_name = 'few';
-- chosen on a Monday morning
CALL passes('2025-05-26 07:00Z');
SELECT chosen();
SELECT told();
SELECT wanted(at) FROM unnest('{2025-05-26 07:00Z,2025-05-26 08:57Z,2025-05-26 12:00Z,2025-05-31 12:00Z}'::timestamptz[]) at;
SELECT action, substring(reason FROM 'mode auto.*') FROM prebuild_plan('2025-05-26 08:57Z') WHERE template_name = 'busy' AND action <> 'backoff' AND preset_name IN ('busy', 'few') ORDER BY preset_name, action;
SELECT is((SELECT count(*)::int FROM prebuild_event WHERE kind = 'policy_chosen'), 0, 'events are told once');
CALL passes('2025-05-26 08:00Z');
SELECT is((SELECT count(*)::int FROM prebuild_policy_choice WHERE chosen_at <> '2025-05-26 07:00Z'), 0, 'an hour later nothing is due');

-- The target of state and pass is that of prebuild_target(). On the day of the choice it is that of the policy with the whole history
-- before it, too, which is what prebuild_target() asks in mode advise. Over the change to summer time, on weekdays and on the weekend.
CREATE TABLE fixture.compared (at timestamptz, preset_name text, state int, target int, policy text, whole int, whole_policy text);
CREATE PROCEDURE fixture.compare(chosen_at timestamptz) LANGUAGE plpgsql AS
$$
BEGIN
	UPDATE prebuild_policy_choice SET due_at = '-infinity';
	CALL passes(chosen_at);
	CREATE TABLE fixture.got AS SELECT a.at, s.preset_id, s.preset_name, s.desired, x.target, x.policy
		FROM generate_series(chosen_at, chosen_at + interval '20 hours', interval '2 hours 25 minutes') a (at), LATERAL prebuild_state(a.at) s, LATERAL prebuild_target(s.preset_id, a.at) x
		WHERE s.preset_name IN ('busy', 'rare', 'few');
	PERFORM prebuild_set_policy(t('busy'), mode => 'advise', max_instances => 20);
	INSERT INTO fixture.compared SELECT g.at, g.preset_name, g.desired, g.target, g.policy, x.target, x.policy FROM fixture.got g, LATERAL prebuild_target(g.preset_id, g.at) x;
	PERFORM prebuild_set_policy(t('busy'), mode => 'auto', max_instances => 20);
	DROP TABLE fixture.got;
	COMMIT;
END
$$;
CALL compare('2025-03-29 00:05Z');
CALL compare('2025-03-31 06:05Z');
CALL compare('2025-05-20 06:50Z');
SELECT is((SELECT count(*)::int FROM fixture.compared WHERE state <> target), 0, 'state takes the target of prebuild_target()');
SELECT is((SELECT count(*)::int FROM fixture.compared WHERE policy = whole_policy AND target <> whole), 0, 'what is kept gives the same target as the whole history');
SELECT preset_name, count(*) > 12 AS compared, count(DISTINCT target) > 1 AS changes FROM fixture.compared WHERE policy = whole_policy GROUP BY preset_name ORDER BY preset_name;

-- nothing after a time changes a choice or a target before it
CALL passes('2025-05-26 07:00Z');
UPDATE prebuild_policy_choice SET due_at = '-infinity';
CALL passes('2025-05-26 07:00Z');
CREATE TABLE fixture.chosen AS SELECT * FROM prebuild_policy_choice;
CREATE TABLE fixture.wanted AS SELECT at, preset_id, desired, desired_source FROM generate_series('2025-05-26 07:00Z'::timestamptz, '2025-05-27 07:00Z', '57 minutes') at, LATERAL prebuild_state(at);
DO $$
DECLARE
	cut CONSTANT timestamptz := '2025-05-27 07:00Z';
	later uuid[] := ARRAY(SELECT b.workspace_id FROM workspace_builds b WHERE b.created_at >= cut);
BEGIN
	UPDATE workspace_builds SET created_at = cut + (created_at - cut) * 0.3 WHERE workspace_id = ANY (later);
	UPDATE prebuild_demand_log SET at = cut + (at - cut) * 0.3 WHERE workspace_id = ANY (later);
	UPDATE prebuild_lead_time_log SET building = building * 7 WHERE workspace_id = ANY (later);
	INSERT INTO prebuild_demand_log SELECT 'cp_auto', gen_random_uuid(), t('busy'), name, cut + n * interval '1 s', true FROM generate_series(0, 300) n, unnest('{busy,rare,few}'::text[]) name;
	UPDATE prebuild_policy_choice SET due_at = '-infinity';
END
$$;
CALL passes('2025-05-26 07:00Z');
SELECT is((SELECT count(*)::int FROM (SELECT * FROM prebuild_policy_choice EXCEPT SELECT * FROM fixture.chosen) c), 0, 'no choice sees what comes later');
SELECT is((SELECT count(*)::int FROM fixture.wanted w LEFT JOIN LATERAL (SELECT * FROM prebuild_state(w.at) s WHERE s.preset_id = w.preset_id) s ON true
	WHERE (w.desired, w.desired_source) IS DISTINCT FROM (s.desired, s.desired_source)), 0, 'no target does');
SELECT is((SELECT target > 1 FROM prebuild_target(p('busy'), '2025-05-27 12:00Z')), true, 'a later target does');
DO $$ BEGIN
	DELETE FROM prebuild_demand_log WHERE NOT EXISTS (SELECT FROM workspaces w WHERE w.id = workspace_id);
	DELETE FROM prebuild_event;
END $$;

-- a choice that fails: the configuration holds, others are chosen, an event says it once, and the next hour tries again
CREATE FUNCTION fixture.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room for %', NEW.preset_name; END $$;
CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON prebuild_policy_choice FOR EACH ROW WHEN (NEW.preset_name = 'busy' AND NEW.outcome <> 'failed' AND NEW.due_at > NEW.chosen_at) EXECUTE FUNCTION fail();
UPDATE prebuild_policy_choice SET due_at = '-infinity';
CALL passes('2025-05-27 07:00Z');
SELECT preset_name, policy, outcome, note, due_at - chosen_at AS holds FROM prebuild_policy_choice WHERE template_id = t('busy') ORDER BY preset_name;
SELECT detail FROM prebuild_event WHERE kind = 'policy_chosen' AND detail ->> 'outcome' = 'failed';
SELECT wanted('2025-05-27 08:57Z');
CALL passes('2025-05-27 08:01Z');
SELECT is((SELECT count(*)::int FROM prebuild_event WHERE detail ->> 'outcome' = 'failed'), 1, 'an event once');
-- nor does a pass fail if nothing can be written
DROP TRIGGER fail ON prebuild_policy_choice;
CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON prebuild_policy_choice FOR EACH ROW WHEN (NEW.preset_name = 'busy' AND NEW.due_at > NEW.chosen_at) EXECUTE FUNCTION fail();
SELECT is((SELECT created >= 0 FROM prebuild_reconcile('2025-05-27 09:02Z')), true, 'a pass without its choice');
DROP TRIGGER fail ON prebuild_policy_choice;
CALL passes('2025-05-27 09:02Z');
SELECT preset_name, policy, outcome, note FROM prebuild_policy_choice WHERE preset_name IN ('busy', 'turned') ORDER BY preset_name;

-- another reconciler: auto is refused, and suspended where it is on
DO $$ BEGIN PERFORM prebuild('busy', 'theirs', created => now() - interval '50 minutes'); END $$;
SELECT raises($$SELECT prebuild_set_policy(t('busy'), 'rare', 'auto')$$, '55006', 'another reconciler works on this control plane', 'coderd.*advise', 'auto is refused');
SELECT is((SELECT count(*)::int FROM prebuild_policy WHERE preset_name = 'rare'), 0, 'and changes nothing');
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('twin'), 'twin', 'advise', min_instances => 1);
	UPDATE workspace_builds SET created_at = '2025-05-27 09:00Z' WHERE workspace_id = w('theirs');
END $$;
DO $$ BEGIN DELETE FROM prebuild_event; END $$;
SELECT wanted('2025-05-27 09:03Z');
SELECT DISTINCT substring(reason FROM 'mode auto.*') FROM prebuild_plan('2025-05-27 09:03Z') WHERE preset_name = 'rare';
SELECT substring(reason FROM 'mode auto.*') FROM prebuild_plan('2025-05-27 09:03Z') WHERE preset_name = 'few';
CALL passes('2025-05-27 09:03Z');
SELECT told();
SELECT wanted('2025-05-27 10:01Z');
CALL passes('2025-05-27 10:01Z');
SELECT told();
UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'theirs';

-- demand that stops for good: the pool comes down within a week, says why, and stays down until somebody asks
DO $$ BEGIN
	DELETE FROM prebuild_demand_log WHERE at >= '2025-05-28';
	PERFORM prebuild_set_policy(t('busy'), 'rare', 'auto', min_instances => 1);
	DELETE FROM prebuild_event;
END $$;
CALL passes('2025-06-01 09:00Z');
SELECT wanted('2025-06-01 09:00Z');
CALL passes('2025-06-03 09:00Z');
SELECT wanted('2025-06-03 09:00Z');
SELECT preset_name, substring(reason FROM 'mode auto.*') FROM prebuild_plan('2025-06-03 09:00Z') WHERE preset_name = 'turned';
CALL passes('2025-09-20 09:00Z');
SELECT wanted('2025-09-20 09:00Z');
SELECT preset_name, policy, outcome, note FROM prebuild_policy_choice WHERE template_id = t('busy') ORDER BY preset_name;
CALL passes('2026-10-20 09:00Z');
SELECT wanted('2026-10-20 09:00Z');
DO $$ BEGIN DELETE FROM prebuild_event; END $$;
SELECT is((SELECT desired_source FROM prebuild_state('2026-10-20 09:00Z') WHERE preset_name = 'busy'), 'policy', 'by the policy still');
INSERT INTO prebuild_demand_log VALUES ('cp_auto', gen_random_uuid(), t('busy'), 'busy', '2026-10-21 08:00Z', false);
CALL passes('2026-10-21 09:00Z');
SELECT told();
SELECT wanted('2026-10-21 09:00Z');

-- a new version keeps the choice, a staged one gets its share; a preset that has another name has none, and the old one goes
DO $$ BEGIN
	PERFORM version('turned', 'turned-v2', false);
	INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances, scheduling_timezone)
	VALUES (gen_random_uuid(), v('turned-v2'), 'turned', t0(), 2, '');
	PERFORM prebuild_set_policy(t('turned'), 'turned', 'auto', min_instances => 7);
	PERFORM prebuild_stage(v('turned-v2'), 0.5);
END $$;
SELECT active, staged, desired, desired_source FROM prebuild_state('2026-10-21 09:00Z') WHERE template_name = 'turned' ORDER BY active;
UPDATE templates SET active_version_id = v('turned-v2') WHERE name = 'turned';
SELECT active, staged, desired, desired_source FROM prebuild_state('2026-10-21 09:00Z') WHERE template_name = 'turned' ORDER BY active;
UPDATE template_version_presets SET name = 'renamed' WHERE name = 'rare';
CALL passes('2026-10-21 09:00Z');
SELECT array_agg(preset_name ORDER BY preset_name) FROM prebuild_policy_choice WHERE template_id = t('busy');
-- presets of one name in two templates have nothing to do with each other
UPDATE template_version_presets SET name = 'busy' WHERE name = 'twin';
DO $$ BEGIN PERFORM prebuild_set_policy(t('twin'), mode => 'auto'); END $$;
CALL passes('2026-10-22 09:00Z');
SELECT t.name, c.preset_name, c.policy FROM prebuild_policy_choice c JOIN templates t ON t.id = template_id WHERE c.preset_name = 'busy' ORDER BY 1;
-- the choices of a deleted template go with the next pass, though it chooses for nobody
SELECT is((SELECT count(*)::int FROM prebuild_policy_choice WHERE due_at <= '2026-10-22 09:01Z'), 0, 'no choice is due');
UPDATE templates SET deleted = true WHERE name = 'twin';
CALL passes('2026-10-22 09:01Z');
SELECT t.name, c.preset_name, c.policy, c.chosen_at FROM prebuild_policy_choice c JOIN templates t ON t.id = template_id WHERE c.preset_name = 'busy' ORDER BY 1;
UPDATE templates SET deleted = false WHERE name = 'twin';
-- no mode auto, no choice; the rows of a control plane that is gone go too
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('busy'), 'few', 'off');
	PERFORM prebuild_unset_policy(t('turned'), 'turned');
	INSERT INTO prebuild_policy_choice (control_plane, template_id, preset_name, policy, kind, parameter, outcome, note, chosen_at, due_at)
	VALUES ('gone', gen_random_uuid(), 'gone', 'fixed 1', 'fixed', 1, 'better', '', t0(), t0());
END $$;
SELECT t.name, c.preset_name FROM prebuild_policy_choice c LEFT JOIN templates t ON t.id = template_id ORDER BY 1, 2;
CALL passes('2026-10-23 10:00Z');
SELECT is((SELECT count(*)::int FROM prebuild_policy_choice WHERE control_plane = 'gone'), 0, 'the control plane is gone');
-- damaged rows do no harm
UPDATE prebuild_policy_choice SET kind = 'forecast', outcome = 'better', parameter = 'NaN', learnt = '{1,2,NaN}', learnt_at = '2026-10-19' WHERE preset_name = 'busy' AND template_id = t('busy');
INSERT INTO prebuild_demand_log VALUES ('cp_auto', gen_random_uuid(), t('busy'), 'busy', '2026-10-23 10:00Z', false);
SELECT target, reason FROM prebuild_target((SELECT preset_id FROM prebuild_state() WHERE template_name = 'busy' AND preset_name = 'busy'), '2026-10-23 10:01Z');
DROP SCHEMA cp_auto CASCADE;
