-- The edges of sizing by demand: the Sundays on which an hour is missing or comes twice, a gap in the history, a
-- template of a hundred presets, four hundred presets that nobody asks for.
\set ECHO none
\i test/fixture/fixture.sql
SET intervalstyle = postgres;
SET timezone = 'UTC';

DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	DELETE FROM prebuild_policy_choice;
	PERFORM control_plane('cp_edges');
END $$;
-- Somebody has asked for a preset, as passes have logged it; each build took four minutes.
CREATE FUNCTION fixture.logged(template_name text, preset_name text, times timestamptz[]) RETURNS void LANGUAGE sql AS
$$
	WITH l AS (INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
		SELECT 'cp_edges', gen_random_uuid(), t(template_name), preset_name, at, true FROM unnest(times) at RETURNING *)
	INSERT INTO prebuild_lead_time_log (control_plane, workspace_id, template_id, preset_name, built_at, outcome, waiting, building, starting)
	SELECT control_plane, workspace_id, template_id, preset_name, at - interval '1 hour', 'ready', 5, 200, 35 FROM l
$$;
-- Three people at nine on each weekday of a zone, one in each hour after until five.
CREATE FUNCTION fixture.mornings(first date, last date, zone text) RETURNS timestamptz[] LANGUAGE sql AS
$$
	SELECT array_agg((day + m * interval '1 minute') AT TIME ZONE zone) FROM generate_series(first::timestamp, last::timestamp, '1 day') day,
		unnest('{540,541,542,610,675,730,795,850,915,970,1030}'::int[]) m WHERE extract(isodow FROM day) < 6
$$;

-- Summer time begins, and ends. The last Sunday has an hour that is missing, or one that comes twice, in both of
-- which somebody asks. The week after has its morning at nine, by the clock of the office.
CREATE TABLE fixture.change (name text, sunday date, changes timestamptz, night timestamptz[]);
INSERT INTO fixture.change VALUES ('spring', '2025-03-30', '2025-03-30 01:00Z', '{}'), ('autumn', '2025-10-26', '2025-10-26 01:00Z', '{2025-10-26 00:30Z,2025-10-26 01:30Z}');
DO $$ BEGIN
	PERFORM simple(name, 2), logged(name, name, mornings(sunday - 80, sunday + 9, 'Europe/Berlin') || night) FROM fixture.change;
	UPDATE template_version_presets SET scheduling_timezone = 'Europe/Berlin';
END $$;
-- the target of the policy at local times of the Friday before and of the Monday after
CREATE FUNCTION fixture.at_office(name text, day date, local_time time) RETURNS int LANGUAGE sql STABLE AS
$$ SELECT target FROM prebuild_target(p(name), (day + local_time) AT TIME ZONE 'Europe/Berlin') $$;
SELECT name, day, at_office(name, day, '07:50') AS early, at_office(name, day, '08:57') AS nine, at_office(name, day, '09:57') AS ten, at_office(name, day, '18:30') AS evening
FROM fixture.change, unnest(ARRAY[sunday - 2, sunday + 1, sunday + 2]) day ORDER BY 1, 2;
-- nothing is lost or counted twice: buckets follow each other, and have the demands
SELECT is(string_agg(format('%s %s %s', name, policy, bucket), ', '), NULL, 'buckets of the weeks around have all') FROM fixture.change,
	unnest('{configured,recommended}'::text[]) policy, unnest('{1 hour,20 minutes,7 days}'::interval[]) bucket, LATERAL (SELECT sum(demand_warm) AS warm, sum(ends_at - starts_at) AS lasts,
		count(*) FILTER (WHERE starts_at <> before) AS gaps FROM (SELECT *, lag(ends_at) OVER (ORDER BY starts_at) AS before
			FROM prebuild_replay(t(name), name, changes - interval '60 days', changes + interval '7 days', policy, bucket)) b) r
WHERE (warm, lasts, gaps) IS DISTINCT FROM ((SELECT count(*) FROM prebuild_demand_log l WHERE l.preset_name = name AND l.at >= changes - interval '60 days' AND l.at < changes + interval '7 days'), interval '1608 hours', 0::bigint);
SELECT is((SELECT sum(d.warm)::int FROM prebuild_demand('2025-10-26 00:00Z', '2025-10-26 02:00Z', '1 hour', t('autumn')) d), 2, 'the hour that comes twice has both');
-- what is recommended is the same by the clock of the office on both sides
SELECT is(string_agg(format('%s %s: %s, then %s', name, hour, before.target, after.target), ', '), NULL, 'what is recommended follows the clock of the office')
FROM fixture.change, generate_series(0, 23) hour,
	LATERAL (SELECT (sunday - 2 + hour * interval '1 hour') AT TIME ZONE 'Europe/Berlin' AS friday, (sunday + 1 + hour * interval '1 hour') AT TIME ZONE 'Europe/Berlin' AS monday) d,
	LATERAL (SELECT r.target FROM prebuild_replay(t(name), name, friday - interval '60 days', friday + interval '4 days', 'recommended') r WHERE r.starts_at = friday) before,
	LATERAL (SELECT r.target FROM prebuild_replay(t(name), name, friday - interval '60 days', friday + interval '4 days', 'recommended') r WHERE r.starts_at = monday) after
WHERE before.target <> after.target;
-- a schedule of the night: no time at all, or two hours
SELECT name, count(*) AS minutes FROM fixture.change, generate_series(sunday::timestamp AT TIME ZONE 'Europe/Berlin', (sunday + 1)::timestamp AT TIME ZONE 'Europe/Berlin' - interval '1 minute', '1 minute') at
WHERE prebuild_cron_matches('* 2 * * 0', 'Europe/Berlin', at) GROUP BY name;
DO $$ BEGIN PERFORM schedule(name, '* 2 * * 0', 5) FROM fixture.change; END $$;
SELECT name, sum(ends_at - starts_at) FROM fixture.change, LATERAL prebuild_replay(t(name), name, changes - interval '20 days', changes + interval '1 day', 'configured', '20 minutes') r
WHERE r.configured = 5 AND r.starts_at >= changes - interval '1 day' GROUP BY name;

-- a gap of three weeks: the pattern comes back with the people, and the pool is at its least meanwhile
DO $$ BEGIN
	PERFORM simple('gap', 2), logged('gap', 'gap', mornings('2025-02-03', '2025-04-13', 'UTC') || mornings('2025-05-05', '2025-06-01', 'UTC'));
END $$;
SELECT day, target, reason ~ 'nobody has asked' AS silent FROM unnest('{2025-04-11,2025-04-15,2025-04-22,2025-05-05,2025-05-06,2025-05-12,2025-05-30}'::date[]) day, LATERAL prebuild_target(p('gap'), day + time '08:57');
SELECT policy <> 'configured' AS chosen FROM prebuild_backtest(t('gap'), 'gap', t0() - interval '90 days', t0()) WHERE chosen;
SELECT is((SELECT sum(ends_at - starts_at) FROM prebuild_replay(t('gap'), 'gap', t0() - interval '90 days', t0())), interval '2160 hours', 'the gap has its buckets');
SELECT is((SELECT sum(demand_warm)::int FROM prebuild_replay(t('gap'), 'gap', t0() - interval '90 days', t0()) WHERE starts_at BETWEEN '2025-04-14' AND '2025-05-04'), 0, 'without demand');

-- a hundred presets of one template, each with people in an hour of its own; four hundred without any
DO $$ BEGIN
	UPDATE templates SET deleted = true;
	PERFORM template('hundred'), version('hundred', 'hundred-v1');
	PERFORM template('none' || n), version('none' || n, format('none%s-v1', n)) FROM generate_series(1, 4) n;
	INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances, scheduling_timezone)
	SELECT gen_random_uuid(), v.id, 'p' || i, t0(), CASE v.name WHEN 'hundred-v1' THEN 0 ELSE 2 END, '' FROM template_versions v, generate_series(1, 100) i WHERE v.name ~ '^(hundred|none)';
	PERFORM logged('hundred', 'p' || i, ARRAY(SELECT day + (6 + i % 12) * interval '1 hour' + i * interval '17 seconds'
		FROM generate_series(t0() - interval '36 days 12 hours', t0() - interval '1 day', interval '1 day') day)) FROM generate_series(1, 100) i;
END $$;
CREATE TABLE fixture.advice AS SELECT * FROM prebuild_recommend(t0());
SELECT is((SELECT count(DISTINCT preset_name)::int FROM fixture.advice), 100, 'a hundred get advice');
SELECT is((SELECT count(*)::int FROM fixture.advice), 100, 'and no others');
SELECT is((SELECT string_agg(preset_name, ', ') FROM fixture.advice WHERE coalesce(substring(terraform FROM 'cron      = "\* (\d+)')::int, -1) > 6 + substr(preset_name, 2)::int % 12
	OR coalesce(substring(terraform FROM 'cron      = "\* \d+-(\d+)')::int, 23) < 6 + substr(preset_name, 2)::int % 12), NULL, 'each for its own hour');
SET prebuild.max_building = 1;
DO $$ BEGIN
	-- a build that waits for ever: with this cap passes create nothing
	PERFORM prebuild('gap', 'waits', status => 'pending', created => t0() - interval '150 days');
	PERFORM prebuild_set_policy(t(n), mode => 'auto') FROM unnest('{hundred,none1,none2,none3,none4}'::text[]) n;
END $$;
CREATE PROCEDURE fixture.passes() LANGUAGE plpgsql AS
$$
BEGIN
	FOR n IN 1..400 LOOP
		PERFORM prebuild_reconcile(t0() + n * interval '1 ms');
		COMMIT;
		EXIT WHEN (SELECT count(*) FROM prebuild_policy_choice) = 500;
	END LOOP;
END
$$;
CALL passes();
SELECT t.name, c.outcome, count(*) FROM prebuild_policy_choice c JOIN templates t ON t.id = c.template_id GROUP BY 1, 2 ORDER BY 1, 2;
SELECT template_name, desired_source, min(desired), max(desired), count(*) FROM prebuild_state(t0() + interval '4 hours') WHERE active AND template_name ~ 'none' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT is((SELECT count(*)::int FROM prebuild_event WHERE kind = 'policy_chosen'), 500, 'one event for each');
-- each has its own: one at least when its people come, and what it has when it is asked for alone
SELECT is((SELECT string_agg(format('%s: %s', s.preset_name, s.desired), ', ') FROM unnest('{13,15,17}'::int[]) hour,
	LATERAL prebuild_state(date_trunc('day', t0()) + hour * interval '1 hour' - interval '1 minute') s
	WHERE s.template_name = 'hundred' AND 6 + substr(s.preset_name, 2)::int % 12 = hour AND s.desired < 1), NULL, 'each of the hundred has one when its people come');
SELECT is((SELECT string_agg(format('%s: %s and %s', s.preset_name, s.desired, x.target), ', ') FROM prebuild_state(t0() + interval '59 minutes') s,
	LATERAL prebuild_target(s.preset_id, t0() + interval '59 minutes') x WHERE s.active AND s.desired <> x.target), NULL, 'and what it has when it is asked for alone');
DROP SCHEMA cp_edges CASCADE;
