-- Sizing by demand: backtests, targets and advice, on a synthetic past that SQL writes into the tables.
\set ECHO none
\i test/fixture/fixture.sql
\i test/fixture/asked.sql
SET intervalstyle = postgres;
SET timezone = 'UTC';

DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	PERFORM control_plane('cp_sizing');
	PERFORM simple('busy', 14, 86400);
	PERFORM preset('busy-v1', 'rare', 0, 0, 'Europe/Berlin');
	PERFORM preset('busy-v1', 'few', 2);
	PERFORM preset('busy-v1', 'none', 1);
	PERFORM simple('gone', 3);
	PERFORM simple('young', 1);
	PERFORM asked('busy', office_hours(120, 540, 547, 1) || office_hours(120, 560, 1000, 20));
	PERFORM asked('rare', office_hours(120, 480, 900, 210));
	PERFORM asked('few', ARRAY[t0() - interval '1 day', t0() - interval '40 days']);
	PERFORM asked('gone', office_hours(120, 540, 900, 30, t0() - interval '20 days'));
	PERFORM asked('young', office_hours(12, 540, 900, 10));
	PERFORM built('busy', 240, office_hours(120, 540, 540, 5));
END $$;

-- The backtest of 90 days: one line a policy.
CREATE FUNCTION fixture.backtest(preset text, level float8 DEFAULT NULL, template text DEFAULT 'busy', days int DEFAULT 90) RETURNS SETOF text LANGUAGE sql STABLE AS
$$
	SELECT format('%s%s: %s of %s warm, idle %s, %s created, %s deleted, peak %s; %s', policy, CASE WHEN chosen THEN ' *' END, warm, demand, idle, created, deleted, peak, note)
	FROM prebuild_backtest(t(template), preset, t0() - days * interval '1 day', t0(), level)
$$;
SELECT backtest('busy');
SELECT backtest('busy', 0.6);
SELECT backtest('rare');
SELECT backtest('few');
SELECT backtest('none');
SELECT backtest('young', NULL, 'young');
SELECT backtest('busy', NULL, 'busy', 13);
-- another version without the preset
DO $$ BEGIN PERFORM version('gone', 'gone-v2'); END $$;
SELECT backtest('gone', NULL, 'gone');
SELECT is((SELECT count(*)::int FROM prebuild_recommend(t0()) WHERE preset_name = 'gone'), 0, 'no advice for a preset that no active version has');
DO $$ BEGIN UPDATE templates SET active_version_id = v('gone-v1') WHERE name = 'gone'; END $$;

-- advice
CREATE FUNCTION fixture.advice() RETURNS SETOF text LANGUAGE sql STABLE AS
$$
	SELECT format('%s/%s: %s -> %s, hit rate %s -> %s, idle %s; %s', template_name, preset_name, configured, recommended, round(configured_hit_rate::numeric, 3), round(expected_hit_rate::numeric, 3), - idle_saved, reason)
	FROM prebuild_recommend(t0())
$$;
SELECT advice();
SELECT terraform FROM prebuild_recommend(t0()) WHERE preset_name IN ('busy', 'rare', 'few') ORDER BY preset_name;


-- what is recommended, configured literally, gives what was predicted, by section 4's own rules
CREATE FUNCTION fixture.configure(preset text, block text) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	DELETE FROM template_version_preset_prebuild_schedules WHERE preset_id = p(preset);
	UPDATE template_version_presets SET desired_instances = substring(block FROM '\n  instances = (\d+)')::int,
		scheduling_timezone = coalesce(substring(block FROM 'timezone = "([^"]*)"'), scheduling_timezone) WHERE name = preset;
	INSERT INTO template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
	SELECT p(preset), m[1], m[2]::int FROM regexp_matches(block, 'cron      = "([^"]*)"\s+instances = (\d+)', 'g') m;
END
$$;
BEGIN;
CREATE TABLE fixture.recommended AS SELECT r.*, b.idle AS configured_idle
FROM prebuild_recommend(t0()) r, LATERAL prebuild_backtest(t(r.template_name), r.preset_name, t0() - interval '90 days', t0()) b WHERE b.policy = 'configured';
SELECT is(array_agg(preset_name), NULL, 'all blocks pass the checks of schedules') FROM (
	SELECT preset_name, (SELECT array_agg(m[1]) FROM regexp_matches(terraform, 'cron      = "([^"]*)"', 'g') m) AS crons FROM fixture.recommended) r
WHERE prebuild_schedules_check(crons) IS NOT NULL OR cardinality(crons) > 12;
DO $$ BEGIN PERFORM configure(preset_name, terraform) FROM fixture.recommended; END $$;
SELECT is(array_agg(r.preset_name || ' ' || b.hit_rate || ' ' || b.idle), NULL, 'the blocks give what they promised')
FROM fixture.recommended r, LATERAL prebuild_backtest(t(r.template_name), r.preset_name, t0() - interval '90 days', t0()) b
WHERE b.policy = 'configured' AND (abs(b.hit_rate - r.expected_hit_rate) > 0.01
	OR b.idle NOT BETWEEN 0.9 * (r.configured_idle - r.idle_saved) AND 1.1 * (r.configured_idle - r.idle_saved));
SELECT advice();
ROLLBACK;

-- replays: the buckets that count add up to the backtest's row, whatever their length
CREATE FUNCTION fixture.replayed(preset text, policy text, bucket interval, template text DEFAULT 'busy', level float8 DEFAULT NULL) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT format('%s of %s warm, idle %s, %s created, %s deleted, peak %s', sum(demand_warm + demand_cold - missed), sum(demand_warm + demand_cold), sum(idle), sum(created), sum(deleted), max(peak))
	FROM prebuild_replay(t(template), preset, t0() - interval '90 days', t0(), policy, bucket, level) WHERE counted
$$;
SELECT is(array_agg(format('%s %s %s: %s', preset, b.policy, bucket, replayed(preset, b.policy, bucket, level => level))), NULL, 'the buckets add up')
FROM (VALUES ('busy', NULL), ('busy', 0.6::float8), ('rare', NULL), ('few', NULL), ('none', NULL)) p (preset, level), unnest('{1 hour,7 minutes,1 day 1 minute,365 days}'::interval[]) bucket,
	LATERAL prebuild_backtest(t('busy'), preset, t0() - interval '90 days', t0(), level) b
WHERE format('%s of %s warm, idle %s, %s created, %s deleted, peak %s', warm, demand, idle, created, deleted, peak)
	IS DISTINCT FROM replayed(preset, b.policy, bucket, level => level);
SELECT is(array_agg(preset), NULL, 'and those of the recommended block to its promises')
FROM unnest('{busy,rare,few}'::text[]) preset JOIN prebuild_recommend(t0()) a ON a.preset_name = preset,
	LATERAL (SELECT sum(demand_warm + demand_cold - missed)::float8 / sum(demand_warm + demand_cold) AS rate, sum(idle) AS idle
		FROM prebuild_replay(t('busy'), preset, t0() - interval '90 days', t0(), 'recommended') WHERE counted) r,
	LATERAL prebuild_backtest(t('busy'), preset, t0() - interval '90 days', t0()) b
WHERE b.policy = 'configured' AND (a.expected_hit_rate, b.idle - a.idle_saved) IS DISTINCT FROM (r.rate, r.idle);
-- a Monday morning, and the parts around the split
SELECT to_char(starts_at, 'Dy DD HH24:MI:SS') AS starts, to_char(ends_at, 'HH24:MI:SS') AS ends, policy, counted, demand_warm AS warm, demand_cold AS cold,
	configured, target, round(pool::numeric, 3) AS pool, missed, created, deleted, peak
FROM prebuild_replay(t('busy'), 'busy', t0() - interval '90 days', t0()) WHERE starts_at BETWEEN t0() - interval '7 days 4 hours' AND t0() - interval '7 days 1 hour'
	OR starts_at BETWEEN t0() - interval '30 days 1 hour' AND t0() - interval '30 days';
SELECT is((SELECT array_agg(DISTINCT policy) FROM prebuild_replay(t('busy'), 'busy', t0() - interval '90 days', t0())), '{forecast 2.048}', 'without a policy it is the chosen one');
-- what was asked for is there, whoever is simulated; buckets follow each other without gaps
SELECT is(array_agg(policy), NULL, 'demand is that of prebuild_demand(), without gaps')
FROM (SELECT sum(d.warm) AS warm, sum(d.cold) AS cold FROM prebuild_demand(t0() - interval '90 days', t0(), template_id => t('busy')) d WHERE d.preset_name = 'busy') d,
	unnest('{configured,recommended,fixed 4}'::text[]) policy, LATERAL (SELECT sum(demand_warm) AS warm, sum(demand_cold) AS cold, min(starts_at) AS starts, max(ends_at) AS ends, sum(ends_at - starts_at) AS lasts
		FROM prebuild_replay(t('busy'), 'busy', t0() - interval '90 days', t0(), policy)) r
WHERE (r.warm, r.cold, starts, ends, lasts) IS DISTINCT FROM (d.warm, d.cold, t0() - interval '90 days', t0(), interval '2160 hours');
SELECT is((SELECT count(*)::int FROM prebuild_replay(t('busy'), 'few', t0() - interval '90 days', t0(), 'recommended', '90 days')), 2, 'a preset with too little demand has its configuration');

-- targets: nine in the morning, noon, night, weekend
CREATE TABLE fixture.target AS
SELECT preset, at, (prebuild_target(p(preset), at)).* FROM unnest('{busy,rare,few,none,gone}'::text[]) preset,
	unnest(ARRAY[t0() - interval '4 days 3 hours 5 minutes', t0() - interval '4 days', t0() - interval '4 days 12 hours', t0() - interval '1 day', t0()]) at;
SELECT preset, to_char(at, 'Dy HH24:MI'), target, policy, reason FROM fixture.target ORDER BY preset, at;

-- the same from the log of passes, and from both
SELECT is((SELECT created >= 0 FROM prebuild_reconcile(t0())), true, 'a pass');
CREATE FUNCTION fixture.differing() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT count(*) FROM (SELECT *, (prebuild_target(p(preset), at)).* FROM (SELECT preset, at, target AS t, policy AS o, reason AS r FROM fixture.target) x) y WHERE (t, o, r) IS DISTINCT FROM (target, policy, reason) $$;
SELECT is((SELECT count(*) > 1000 FROM prebuild_demand_log), true, 'logs the demands');
SELECT is(differing(), 0::bigint, 'targets are the same from the log');

-- nothing after a time changes the target before it: rows go, come, and change
CREATE TABLE fixture.cut AS SELECT max(at) AS at FROM fixture.target WHERE at < t0() - interval '3 days';
DELETE FROM fixture.target WHERE at > (SELECT at FROM fixture.cut);
CREATE FUNCTION fixture.backtests() RETURNS TABLE (preset text, backtest text) LANGUAGE sql STABLE AS
$$ SELECT preset, b::text FROM fixture.cut, unnest('{busy,rare,few}'::text[]) preset, LATERAL prebuild_backtest(t('busy'), preset, at - interval '90 days', at) b $$;
CREATE TABLE fixture.backtest AS SELECT * FROM backtests();
DO $$
DECLARE
	cut timestamptz := (SELECT at FROM fixture.cut);
	later uuid[];
BEGIN
	later := ARRAY(SELECT b.workspace_id FROM workspace_builds b WHERE b.created_at >= cut);
	-- whoever came comes at other times
	UPDATE workspace_builds SET created_at = cut + (created_at - cut) * 0.3 WHERE workspace_id = ANY (later);
	UPDATE prebuild_demand_log SET at = cut + (at - cut) * 0.3 WHERE workspace_id = ANY (later);
	PERFORM asked('busy', ARRAY(SELECT cut + n * interval '1 s' FROM generate_series(0, 300) n));
	PERFORM asked('few', ARRAY(SELECT cut + n * interval '1 hour' FROM generate_series(0, 60) n));
	-- builds from before the time end after it
	PERFORM built('rare', 84600, ARRAY(SELECT cut - interval '23 hours' + n * interval '1 s' FROM generate_series(1, 25) n));
END
$$;
SELECT is(differing(), 0::bigint, 'no target before a time sees what comes from then on');
SELECT is((SELECT count(*)::int FROM (SELECT * FROM fixture.backtest EXCEPT SELECT * FROM backtests()) b), 0, 'no backtest does');
SELECT is((SELECT target > 1 FROM prebuild_target(p('busy'), (SELECT at FROM fixture.cut) + interval '10 minutes')), true, 'a later one does');

-- policies: bounds and level of the template and of the preset
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('busy'), service_level => 0.6, min_instances => 1);
	PERFORM prebuild_set_policy(t('busy'), 'rare', 'off', max_instances => 1);
END $$;
SELECT backtest('rare');
DO $$ BEGIN PERFORM prebuild_set_policy(t('busy'), 'rare', 'auto', min_instances => 3); END $$;
SELECT target, policy FROM prebuild_target(p('rare'), (SELECT at FROM fixture.cut));
DO $$ BEGIN
	PERFORM prebuild_unset_policy(t('busy'));
	PERFORM prebuild_unset_policy(t('busy'), 'rare');
END $$;
-- a preset with a broken schedule; a hostile number; quotes
DO $$ BEGIN
	PERFORM configure('rare', E'\n  instances = 2147483647');
	PERFORM schedule('rare', 'never', 4);
	UPDATE template_version_presets SET scheduling_timezone = 'Nowhere/"${x}' WHERE name = 'few';
END $$;
SET client_min_messages = error;
SELECT policy, peak FROM prebuild_backtest(t('busy'), 'rare', t0() - interval '90 days', t0()) WHERE policy ~ '^(configured|hindsight)';
SELECT terraform FROM prebuild_recommend(t0()) WHERE preset_name = 'few';

-- bad input
SELECT raises(statement, state, message, NULL, label) FROM (VALUES
	($$SELECT prebuild_backtest(NULL, 'busy', t0(), t0())$$, '22004', '"template_id" must not be null', 'no template'),
	($$SELECT prebuild_backtest(t('busy'), NULL, t0() - interval '1 day', t0())$$, '22004', '"preset_name" must not be null', 'no preset'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', NULL, t0())$$, '22004', '"range_start" must not be null', 'no start'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0(), NULL)$$, '22004', '"range_end" must not be null', 'no end'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', '-infinity', t0())$$, '22008', '"range_start" must be a finite time', 'an infinite start'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0(), 'infinity')$$, '22008', '"range_end" must be a finite time', 'an infinite end'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', '4713-01-01 BC', t0())$$, '22008', '"range_start" is too early', 'a start before all time'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0(), t0())$$, '22023', '"range_end" .* must be after "range_start"', 'an empty range'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0(), t0() - interval '1 s')$$, '22023', '"range_end" .* must be after "range_start"', 'an end before the start'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0() - interval '6 years', t0())$$, '54000', 'at most 1830 days', 'a range too long'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0() - interval '1 day', t0(), 0)$$, '22023', '"service_level" must be above 0 and below 1, not 0', 'a level of 0'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0() - interval '1 day', t0(), 1)$$, '22023', '"service_level" must be above 0 and below 1, not 1', 'a level of 1'),
	($$SELECT prebuild_backtest(t('busy'), 'busy', t0() - interval '1 day', t0(), 'NaN')$$, '22023', '"service_level" must be', 'a level that is no number'),
	($$SELECT prebuild_backtest(t('busy'), 'nobody', t0() - interval '1 day', t0())$$, '42704', 'no version of template .* has a preset "nobody"', 'an unknown preset'),
	($$SELECT prebuild_backtest('00000000-0000-0000-0000-00000000abcd', 'busy', t0() - interval '1 day', t0())$$, '42704', 'template 0.*abcd does not exist', 'an unknown template'),
	($$SELECT prebuild_replay(NULL, 'busy', t0() - interval '1 day', t0())$$, '22004', '"template_id" must not be null', 'a replay of no template'),
	($$SELECT prebuild_replay(t('busy'), NULL, t0() - interval '1 day', t0())$$, '22004', '"preset_name" must not be null', 'a replay of no preset'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0(), t0())$$, '22023', '"range_end" .* must be after "range_start"', 'a replay of nothing'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '1 day', 'infinity')$$, '22008', '"range_end" must be a finite time', 'a replay without end'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '1 day', t0(), bucket => NULL)$$, '22004', '"bucket" must not be null', 'no bucket'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '1 day', t0(), bucket => '0')$$, '22023', '"bucket" must be longer than 0', 'a bucket of nothing'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '1 day', t0(), bucket => '1 mon')$$, '22023', '"bucket" must be longer than 0 and without months', 'a bucket of a month'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '1 day', t0(), bucket => '-178000000 years -2147483648 days')$$, '22023', '"bucket" must be longer than 0', 'a bucket before all time'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '90 days', t0(), bucket => '1 second')$$, '54000', 'at most 100000 buckets, but the range has 7776000', 'too many buckets'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '90 days', t0(), 'best')$$, '22023', 'no policy "best"', 'an unknown policy'),
	($$SELECT prebuild_replay(t('busy'), 'none', t0() - interval '90 days', t0(), 'hindsight')$$, '22023', 'no policy "hindsight"', 'a policy that this backtest does not have'),
	($$SELECT prebuild_replay(t('busy'), 'busy', t0() - interval '1 day', t0(), service_level => 1)$$, '22023', '"service_level" must be above 0 and below 1', 'a replay with a level of 1'),
	($$SELECT prebuild_replay(t('busy'), 'nobody', t0() - interval '1 day', t0())$$, '42704', 'no version of template .* has a preset "nobody"', 'a replay of an unknown preset'),
	($$SELECT prebuild_target(NULL)$$, '22004', '"preset_id" must not be null', 'no preset id'),
	($$SELECT prebuild_target(p('busy'), NULL)$$, '22004', '"at" must not be null', 'no time'),
	($$SELECT prebuild_target(p('busy'), 'infinity')$$, '22008', '"at" must be a finite time', 'an infinite time'),
	($$SELECT prebuild_target('00000000-0000-0000-0000-00000000abcd')$$, '22023', 'preset 0.*abcd does not exist', 'an unknown preset id'),
	($$SELECT prebuild_recommend(NULL)$$, '22004', '"at" must not be null', 'advice at no time'),
	($$SELECT prebuild_recommend('-infinity')$$, '22008', '"at" must be a finite time', 'advice at an infinite time')
) c (statement, state, message, label);

-- long times; a read-only transaction; two templates with presets of one name; a preset that has another name now
SELECT is((SELECT count(*)::int FROM prebuild_target(p('busy'), '0001-01-01 BC')), 1, 'a time without history');
SELECT is((SELECT policy FROM prebuild_target(p('busy'), '9999-01-01')), 'configured', 'a time far away');
BEGIN READ ONLY;
SELECT is((SELECT count(*) > 0 FROM prebuild_recommend(t0())), true, 'advice in a read-only transaction');
COMMIT;
DO $$ BEGIN
	PERFORM simple('twin', 1);
	UPDATE template_version_presets SET name = 'busy' WHERE name = 'twin';
END $$;
SELECT is((SELECT sum(demand)::int FROM prebuild_backtest(t('twin'), 'busy', t0() - interval '90 days', t0())), 0, 'another template has no part in the demand');
DO $$ BEGIN UPDATE template_version_presets SET name = 'old' WHERE name = 'busy'; END $$;
SELECT raises($$SELECT prebuild_backtest(t('busy'), 'busy', t0() - interval '90 days', t0())$$, '42704', 'has a preset "busy"', NULL, 'a name that no version has any more');
DROP SCHEMA cp_sizing CASCADE;
