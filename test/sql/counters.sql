-- What passes and calls count of each preset, for the metrics: counters never fall, and never lag.
\set ECHO none
\i test/fixture/fixture.sql
SET timezone = 'UTC';
SET intervalstyle = postgres;

-- The counters of a preset that are not 0, and its gauges of demand, in one line.
CREATE FUNCTION fixture.counts(preset text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT string_agg(format('%s %s', replace(replace(name, 'prebuild_ext_', ''), '_total', ''), trim_scale(round(value::numeric, 3))), ', ' ORDER BY name)
	FROM prebuild_metrics_read(at, 'demand') WHERE labels ->> 'preset_name' = preset AND value <> 0
$$;
-- The histogram of claims of a preset: bounds up to which there are more than below, sum and count.
CREATE FUNCTION fixture.claim_times(preset text) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT string_agg(format('%s %s', coalesce(labels ->> 'le', replace(name, 'prebuild_ext_time_to_claim_seconds_', '')), value), ', ' ORDER BY n)
	FROM (SELECT m.*, lag(value, 1, 0) OVER (PARTITION BY name ORDER BY n) AS less FROM prebuild_metrics_read(t0(), 'times') WITH ORDINALITY m (name, labels, value, type, help, n)
		WHERE name ~ 'time_to_claim' AND m.labels ->> 'preset_name' = preset) b WHERE value > less
$$;
-- Counters that have fallen since the last call.
CREATE TABLE fixture.scrape (name text, labels jsonb, value float8);
CREATE FUNCTION fixture.fallen() RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	result text;
BEGIN
	CREATE TEMPORARY TABLE next AS SELECT m.name, m.labels, m.value FROM prebuild_metrics_read(t0() + interval '3 days') m
	WHERE m.name ~ '^prebuild_ext_.*(_total|_bucket|_sum|_count)$' AND m.name !~ 'identity';
	SELECT string_agg(s.name || ' ' || s.labels, ', ') INTO result FROM fixture.scrape s LEFT JOIN next n USING (name, labels) WHERE n.value IS NULL OR n.value < s.value;
	DELETE FROM fixture.scrape;
	INSERT INTO fixture.scrape SELECT * FROM next;
	DROP TABLE next;
	RETURN result;
END
$$;
-- A ready prebuild that took so many seconds in each part.
CREATE FUNCTION fixture.built(preset_name text, workspace_name text, created timestamptz, waiting int, building int, starting int) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM prebuild(preset_name, workspace_name, created => created);
	UPDATE provisioner_jobs j SET started_at = created + waiting * interval '1 s', completed_at = created + (waiting + building) * interval '1 s'
	FROM workspace_builds b WHERE b.job_id = j.id AND b.workspace_id = w(workspace_name);
	UPDATE workspace_agents a SET ready_at = created + (waiting + building + starting) * interval '1 s'
	FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id WHERE a.resource_id = r.id AND b.workspace_id = w(workspace_name);
END
$$;
-- A pass at so many seconds after t0(), which must write nothing unless it is told to.
CREATE FUNCTION fixture.pass_at(seconds int) RETURNS text LANGUAGE sql AS $$ SELECT pass(t0() + seconds * interval '1 second') $$;

DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	DELETE FROM prebuild_preset_count;
	DELETE FROM prebuild_idle;
	PERFORM control_plane('cp_counters');
	PERFORM simple('a', 0);
	PERFORM simple('b', 0);
END $$;
SELECT is(counts('a'), NULL, 'nothing yet');
SELECT is(fallen(), NULL, 'a first scrape');
SELECT is((SELECT count(*)::int FROM prebuild_metrics_read(t0(), 'loop') WHERE name ~ 'pass_age'), 0, 'no pass yet');

-- claims that find nothing
DO $$ BEGIN
	PERFORM claim('a', 'ada', 'no-1');
	PERFORM claim('a', 'ada', 'no-2');
	BEGIN
		PERFORM claim('a', 'ada', 'no-3');
		RAISE 'no';
	EXCEPTION WHEN raise_exception THEN NULL;
	END;
END $$;
SELECT is(counts('a'), 'claims_without_prebuild 2', 'claims that found none, before a pass; one was rolled back');
SELECT is((SELECT count(*)::int FROM prebuild_metrics_read(t0(), 'demand') WHERE labels ->> 'preset_name' = 'a' AND value = 0 AND type = 'counter'), 14, 'with other counters at 0');
SELECT is(pass_at(0), '', 'a pass');
SELECT is(counts('a'), 'claims_without_prebuild 2', 'leaves them');
SELECT is((SELECT count(*)::int FROM prebuild_preset_count_log), 0, 'and empties the log');
SELECT is((SELECT value FROM prebuild_metrics_read(t0() + interval '90 s', 'loop') WHERE name ~ 'pass_age'), 90::float8, 'the age of the pass');
SELECT is((SELECT value FROM prebuild_metrics_read(t0() - interval '90 s', 'loop') WHERE name ~ 'pass_age'), 0::float8, 'is never negative');
SELECT is(fallen(), NULL, 'no counter falls');

-- demands: by a claim of ours, by a claim of somebody else's, and without a prebuild
DO $$ BEGIN
	UPDATE template_version_presets SET desired_instances = 3 WHERE name = 'a';
	PERFORM built('a', 'a-1', t0() - interval '2 hours', 10, 100, 50);
	PERFORM built('a', 'a-2', t0() - interval '1 hour', 20, 200, 0);
	PERFORM built('a', 'a-3', t0() - interval '10 minutes', 1, 1, 1);
	PERFORM claim('a', 'ada', 'mine', t0() - interval '1 hour');
END $$;
SELECT is(counts('a'), 'claims_without_prebuild 2, demands_warm 1, last_day_demands 1, last_day_hit_ratio 1, last_week_demands 1, last_week_hit_ratio 1', 'a claim counts before a pass');
SELECT is(claim_times('a'), NULL, 'its prebuild was not measured yet');
DO $$ BEGIN
	PERFORM build('mine', 'start', initiator => usr('ada'), created => t0() - interval '1 hour');
	PERFORM build('a-2', 'start', initiator => usr('bob'), created => t0() - interval '1 minute');
	UPDATE workspaces SET owner_id = usr('bob') WHERE id = w('a-2');
	PERFORM prebuild('a', 'cold-1', owner => usr('ada'), created => t0() - interval '2 days');
	UPDATE workspace_builds SET initiator_id = usr('ada') WHERE workspace_id = w('cold-1');
END $$;
SELECT is(pass_at(61), 'created 2', 'a pass');
SELECT is(counts('a'), 'claims_without_prebuild 2, demands_cold 1, demands_warm 2, last_day_demands 2, last_day_hit_ratio 1, '
	'last_week_demands 3, last_week_hit_ratio 0.667, last_week_missed 1, lead_time_building_seconds 301, lead_time_starting_seconds 51, lead_time_waiting_seconds 31', 'finds the others');
-- from readiness to claim: 7200 - 3600 - 160 s and 3600 - 60 - 220 s
SELECT is(claim_times('a'), '3600 2, count 2, sum 6760', 'how long the two had waited');
SELECT is(fallen(), NULL, 'no counter falls');
SELECT is((SELECT count(*)::int FROM prebuild_demand_log WHERE NOT counted), 0, 'all are counted');
SELECT is(counts('a', t0() + interval '12 days') ~ 'last_', false, 'two weeks later nobody has asked lately');
SELECT is(counts('a', t0() - interval '12 days') ~ 'last_', false, 'nor before');

-- idle time: of those that were eligible from one pass to the next; the row changes only when their number does
SELECT is(pass_at(100), '', 'a pass');
SELECT is(substring(counts('a') FROM 'idle_seconds \d+'), 'idle_seconds 39', 'one has waited since the pass before');
DO $$ BEGIN PERFORM finish_jobs(t0()); END $$;
SELECT is(pass_at(125), '', 'two more are there');
SELECT is(substring(counts('a') FROM 'idle_seconds \d+'), 'idle_seconds 64', 'until here it was one');
CREATE TABLE fixture.row AS SELECT i.ctid AS place FROM prebuild_idle i WHERE i.eligible = 3;
SELECT is(pass_at(185), '', 'a minute later');
SELECT is(substring(counts('a') FROM 'idle_seconds \d+'), 'idle_seconds 244', 'three times a minute');
SELECT is((SELECT count(*)::int FROM prebuild_idle i JOIN fixture.row r ON r.place = i.ctid), 1, 'without a write');
SELECT is(pass_at(100), '', 'a clock that goes back');
SELECT is(substring(counts('a') FROM 'idle_seconds \d+'), 'idle_seconds 244', 'takes nothing away');
SELECT is(fallen(), NULL, 'no counter falls');
DO $$ BEGIN
	DELETE FROM prebuild_demand_marker;
	UPDATE prebuild_idle SET since = t0() + interval '1 s';
END $$;
SELECT is(pass_at(185), '', 'a pass that does not know when the last one was, as after a restore');
SELECT is(substring(counts('a') FROM 'idle_seconds \d+'), 'idle_seconds 64', 'counts no time that nobody saw');
DELETE FROM fixture.scrape;

-- what passes delete, by reason
DO $$ BEGIN
	PERFORM simple('c', 1, 3600);
	PERFORM prebuild('c', 'old', created => t0() - interval '2 hours');
	PERFORM prebuild('c', 'new-1', created => t0() - interval '30 seconds');
	PERFORM prebuild('c', 'new-2', created => t0() - interval '1 minute');
	PERFORM prebuild('c', 'failed', status => 'failed', created => t0() - interval '1 day');
	PERFORM prebuild('c', 'canceled', status => 'canceled', created => t0() - interval '1 day');
	PERFORM simple('d', 1);
	PERFORM prebuild('d', 'd-1');
	PERFORM version('d', 'd-v2');
	PERFORM prebuild('d', 'd-2', status => 'pending');
	PERFORM prebuild_set_policy(t('c'), unready_grace => '1 min');
	PERFORM prebuild('c', 'sick', ready => false, created => t0() - interval '30 minutes');
END $$;
SELECT is(pass_at(190) ~ 'deleted', true, 'a pass deletes');
SELECT is(counts('c'), 'expired 1, extraneous 1, sick_replaced 1', 'an expired, an extraneous, a sick one');
SELECT is(counts('d'), 'canceled 1, inactive 1', 'of an inactive preset, and its pending build');
DO $$ BEGIN PERFORM prebuild_clean(preset_id => p('c'), at => t0() + interval '200 s'); END $$;
SELECT is(counts('c'), 'cleaned 2, expired 1, extraneous 1, sick_replaced 1', 'cleaned by hand');
DO $$ BEGIN PERFORM prebuild_retry(p('c')); END $$;
SELECT is(counts('c') ~ 'retries 1', true, 'a retry');
SELECT is(fallen(), NULL, 'no counter falls');

-- rows go, counts stay
SET prebuild.demand_retention = '1h';
SELECT is(pass(t0() + interval '3 days') IS NOT NULL, true, 'a pass that keeps an hour');
RESET prebuild.demand_retention;
SELECT is((SELECT count(*)::int FROM prebuild_demand_log), 0, 'deletes the demands');
SELECT is(substring(counts('a') FROM 'demands_warm \d'), 'demands_warm 2', 'which still count');
SELECT is(fallen(), NULL, 'no counter falls');

-- a held log makes nobody wait, and a deleted template has no metrics
DO $$ BEGIN UPDATE templates SET deleted = true WHERE name = 'a'; END $$;
SELECT is(counts('a'), NULL, 'a deleted template');
SELECT is(array_agg(DISTINCT type)::text, '{counter}', 'counters') FROM prebuild_metrics_read(t0(), 'demand') WHERE name ~ '_total$';
SELECT is(count(*), 0::bigint, 'no series twice') FROM (SELECT 1 FROM prebuild_metrics_read(t0()) GROUP BY name, labels HAVING count(*) > 1) twice;

-- what the policy of a preset in mode auto wants and expects
\i test/fixture/past.sql
CREATE FUNCTION fixture.policy_metrics() RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT string_agg(format('%s %s %s', labels ->> 'preset_name', replace(name, 'prebuild_ext_preset_', ''), round(value::numeric, 2)), ', ' ORDER BY labels ->> 'preset_name', name)
	FROM prebuild_metrics_read(t0() + interval '1 min', 'pool') WHERE name ~ 'policy|forecast'
$$;
DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	PERFORM control_plane('cp_counters');
	PERFORM simple('sized', 3);
	PERFORM simple('young', 2);
	PERFORM past('sized', t0(), 120, 3);
END $$;
SELECT is(policy_metrics(), NULL, 'in another mode there are no such metrics');
DO $$ BEGIN
	PERFORM prebuild_set_policy(t('sized'), 'sized', 'auto');
	PERFORM prebuild_set_policy(t('young'), 'young', 'auto');
END $$;
-- the first one reads the builds
SELECT is(pass(), 'created 5', 'a pass');
SELECT is(pass(), '', 'and one that chooses');
SELECT is(policy_metrics(), (SELECT format('sized forecast_demands_per_hour %s, sized policy_target %s.00, young policy_target 2.00', substring(reason FROM 'for ([0-9.]+) demands an hour'), target)
	FROM prebuild_target(p('sized'), t0() + interval '1 min')), 'a target, and a forecast where the policy has one');
SELECT is((SELECT desired FROM prebuild_state(t0() + interval '1 min') WHERE preset_name = 'sized'), (SELECT value::int FROM prebuild_metrics_read(t0() + interval '1 min', 'pool') WHERE name ~ 'policy_target' AND labels ->> 'preset_name' = 'sized'), 'which passes follow');
DROP SCHEMA cp_counters CASCADE;
