--
-- Cron expressions as time ranges, schedules of presets, forecasts
--
SET client_min_messages = warning;
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN
	PERFORM control_plane('cron_test');
	PERFORM bare_rows();
END $$;
\pset format aligned
\pset tuples_only off
\pset null ''
\set SHOW_CONTEXT errors
\set ECHO all
SET search_path = public;
RESET client_min_messages;
SET datestyle = 'ISO';

-- what a statement raises: SQLSTATE, message, detail, hint
CREATE FUNCTION cron_test.attempt(statement text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- which hours, days of month (of a January), months and weekdays an expression matches
CREATE FUNCTION cron_test.spell(cron text) RETURNS TABLE (hours text, days text, months text, weekdays text)
LANGUAGE sql AS
$$
SELECT
	(SELECT string_agg(h::text, ' ' ORDER BY h) FROM generate_series(0, 23) h
	 WHERE EXISTS (SELECT FROM generate_series(0, 365) d WHERE prebuild_cron_matches(cron, 'UTC',
		timestamptz '2024-01-01 UTC' + make_interval(days => d, hours => h)))),
	(SELECT string_agg(d::text, ' ' ORDER BY d) FROM generate_series(1, 31) d
	 WHERE EXISTS (SELECT FROM generate_series(2000, 2010) y, generate_series(1, 12) m, generate_series(0, 23) h
		WHERE m IN (1, 3, 5, 7, 8, 10, 12) AND prebuild_cron_matches(cron, 'UTC', make_timestamptz(y, m, d, h, 0, 0, 'UTC')))),
	(SELECT string_agg(DISTINCT to_char(t, 'MM'), ' ') FROM generate_series(timestamptz '2024-01-01', '2024-12-31 23:00', '1 hour') t
	 WHERE prebuild_cron_matches(cron, 'UTC', t)),
	(SELECT string_agg(DISTINCT to_char(t, 'D'), ' ') FROM generate_series(timestamptz '2024-01-01', '2024-12-31 23:00', '1 hour') t
	 WHERE prebuild_cron_matches(cron, 'UTC', t))
$$;

---- syntax ----

\pset format unaligned

-- weekdays are shown as 1 to 7, 1 is Sunday
SELECT cron, spell.* FROM unnest(ARRAY[
	'* * * * *',
	'  *   ?	? * ?  ',
	'* 9-18 * * 1-5',
	'* 1,3,5-7 * * *',
	'* */8 * */6 *',
	'* 8-18/5 * * *',
	'* 20/2 * * *',
	'* 5/30 * * *',
	'* 0 * jan,Feb-APR,dEC SUN,tue-Thu',
	'* 0 * * mon/2',
	'* 0 1 1 *',
	'* 0 1-3 * 6',
	'* 0 */10 * *',
	'* 0 */10,* * 1',
	'* 0 31 2 *'
]) WITH ORDINALITY AS e (cron, n), cron_test.spell(cron) ORDER BY n;

-- day of month and weekday: either when both are restricted, otherwise both; 13 June 2025 is a
-- Friday, 13 July a Sunday, 11 July a Friday, 12 July a Saturday
SELECT cron,
	prebuild_cron_matches(cron, 'UTC', '2025-06-13') AS friday_13,
	prebuild_cron_matches(cron, 'UTC', '2025-07-13') AS sunday_13,
	prebuild_cron_matches(cron, 'UTC', '2025-07-11') AS friday_11,
	prebuild_cron_matches(cron, 'UTC', '2025-07-12') AS saturday_12
FROM unnest(ARRAY['* * 13 * 5', '* * 13 * *', '* * ? * 5', '* * 13 * *,5', '* * *,13 * 5', '* * 13 * */1',
	'* * */12 * 5', '* * 13 * */5', '* * 1-31 * 5', '* * 13 * 0-6', '* * 13 6 5']) WITH ORDINALITY AS e (cron, n)
ORDER BY n;

-- errors
SELECT cron_test.attempt($$SELECT prebuild_cron_matches('* 9 * *', 'UTC', '2025-01-01')$$);
SELECT replace(split_part(cron_test.attempt(format('SELECT prebuild_cron_matches(%L, %L, %L)', cron, 'UTC', '2025-01-01')), ' | Write a range', 1),
	'22023 | cron expression ', '') AS fault
FROM unnest(ARRAY[
	'', '* * * *', '* * * * * *', '@hourly', 'TZ=UTC * * * *', 'CRON_TZ=UTC * * * * *',
	'0 * * * *', '? * * * *', '*/1 * * * *',
	'* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 13 *', '* * * 0 *', '* * * * 7', '* * * * 1-7',
	'* 18-9 * * *', '* * * * fri-mon', '* */0 * * *', '* */x * * *', '* 1/2/3 * * *', '* */99999999999999999999 * * *',
	'* 1,,2 * * *', '* 1, * * *', '* ,1 * * *', '* -1 * * *', '* 1-2-3 * * *', '* +5 * * *', '* *-5 * * *',
	'* mon * * *', '* * * january *', '* 99999999999999999999 * * *', '* 5é * * *',
	'* ' || repeat('9', 1000) || ' * * *'
]) WITH ORDINALITY AS e (cron, n) ORDER BY n;

SELECT cron_test.attempt(format('SELECT prebuild_cron_matches(%L, %L, %L)', '* * * * *', zone, '2025-01-01'))
FROM unnest(ARRAY['', 'Mars/Olympus', 'FOO+3', 'Foo5Bar', 'UTC0', 'utc', 'europe/berlin', 'Europe', 'right/UTC',
	':UTC', ' UTC', 'EST5EDT4', '<+03>-3', '../UTC', repeat('x', 300)]) WITH ORDINALITY AS e (zone, n) ORDER BY n;

SELECT cron_test.attempt(format('SELECT prebuild_cron_matches(%L, %L, %L)', '* * * * *', 'UTC', at))
FROM unnest(ARRAY['infinity', '-infinity']) AS e (at);

-- a null argument gives null
SELECT prebuild_cron_matches(NULL, 'UTC', now()) IS NULL AND prebuild_cron_matches('* * * * *', NULL, now()) IS NULL
	AND prebuild_cron_matches('* * * * *', 'UTC', NULL) IS NULL AS strict;

-- known are exactly the names of pg_timezone_names
WITH candidate AS (
	SELECT name FROM pg_timezone_names
	UNION SELECT upper(name) FROM pg_timezone_names
	UNION SELECT lower(name) FROM pg_timezone_names
	UNION SELECT name || '0' FROM pg_timezone_names
	UNION SELECT 'right/' || name FROM pg_timezone_names
)
SELECT count(*) > 100 AS enough, candidate.name IN (SELECT name FROM pg_timezone_names) AS listed,
	cron_test.attempt(format('SELECT prebuild_cron_matches(%L, %L, now())', '* * * * *', candidate.name)) = 'no error' AS known
FROM candidate GROUP BY listed, known ORDER BY listed;

---- the edges of a range ----

\pset format aligned

SELECT at, prebuild_cron_matches('* 9-18 * * 1-5', 'America/Sao_Paulo', at::timestamptz) AS matches
FROM unnest(ARRAY[
	'2025-06-02 08:59:59.999999-03', '2025-06-02 09:00:00-03', '2025-06-02 18:59:59.999999-03', '2025-06-02 19:00:00-03',
	'2025-06-06 18:59:59.999999-03', '2025-06-07 09:00:00-03', '2025-06-08 18:59:59-03', '2025-06-09 09:00:00-03',
	'1999-06-04 08:59:59.999999-03', '1999-06-04 09:00:00-03', '1999-06-04 18:59:59.999999-03', '1999-06-04 19:00:00-03'
]) WITH ORDINALITY AS e (at, n) ORDER BY n;

-- the same second before 1970, before our era, and at both ends of time
SELECT at, prebuild_cron_matches('* 23 31 12 *', 'UTC', at::timestamptz) AS matches
FROM unnest(ARRAY['1969-12-31 23:59:59.999999+00', '1970-01-01 00:00:00+00', '0044-12-31 23:59:59.999999+00 BC',
	'0043-01-01 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00', '4714-11-24 00:00:00+00 BC']) WITH ORDINALITY AS e (at, n) ORDER BY n;

---- daylight saving ----

-- Minutes of the two days of a change at which the hour that is skipped or repeated matches: none
-- of a skipped hour, both of a repeated one; Lord Howe's clocks move by 30 minutes.
SELECT zone, day, cron, count(at) AS minutes, min(at) AS first, max(at) AS last
FROM (VALUES
	('Europe/Berlin', date '2025-03-30', '* 2 * * *'),
	('Europe/Berlin', '2025-10-26', '* 2 * * *'),
	('America/New_York', '2025-03-09', '* 2 * * *'),
	('America/New_York', '2025-11-02', '* 1 * * *'),
	('America/St_Johns', '2025-03-09', '* 2 * * *'),
	('America/St_Johns', '2025-11-02', '* 1 * * *'),
	('Pacific/Auckland', '2025-09-28', '* 2 * * *'),
	('Pacific/Auckland', '2025-04-06', '* 2 * * *'),
	('Australia/Lord_Howe', '2025-10-05', '* 2 * * *'),
	('Australia/Lord_Howe', '2025-04-06', '* 1 * * *'),
	('Asia/Kathmandu', '2025-10-26', '* 2 * * *')
) AS c (zone, day, cron)
LEFT JOIN LATERAL (
	SELECT at FROM generate_series(day::timestamp AT TIME ZONE zone, (day + 1)::timestamp AT TIME ZONE zone - interval '1 minute', '1 minute') at
	WHERE prebuild_cron_matches(cron, zone, at)
) AS m ON true
GROUP BY zone, day, cron ORDER BY zone, day;

---- prebuild_schedules_check ----

\pset format unaligned

SELECT cron, prebuild_schedules_check(cron) AS fault
FROM (VALUES
	(1, ARRAY[]::text[]),
	(2, ARRAY['* 2-4 * * 1-5']),
	(3, ARRAY['* 2-4 * * 1-5', '* 6-8 * * 1-5']),
	(4, ARRAY['* 2-4 * * 1-5', '* 6-8 * * 1-5', '* 8-9 * * 5']),
	(5, ARRAY['* 2-4 * * 1-5', '* 2-4 * * 1-5']),
	(6, ARRAY['* 2-4 * * 1-5', '* 25 * * *', '* 26 * * *']),
	(7, ARRAY['* 2 * 1-6 *', '* 2 * 7-12 *']),
	(8, ARRAY['* 2 1-15 * *', '* 2 16-31 * *']),
	-- a date falls on every weekday, 29 February too
	(9, ARRAY['* 2 13 * *', '* 2 * * 5']),
	(10, ARRAY['* 2 29 2 *', '* 2 * * 1']),
	-- days that do not exist in a shared month
	(11, ARRAY['* 2 31 * *', '* 2 31 2,4,6,9,11 *']),
	(12, ARRAY['* 2 30 1,2 *', '* 2 30 2,3 *']),
	(13, ARRAY['* 2 29 1,2 *', '* 2 29 2,3 *']),
	(14, ARRAY['* 2 30 2 *', '* 2 * 2 *']),
	-- either field is enough when both are restricted
	(15, ARRAY['* 2 1 * 1', '* 2 2 * 2']),
	(16, ARRAY['* 2 1 * 1', '* 2 * * 2']),
	(17, ARRAY['* 2 31 2 1', '* 2 30 2 2']),
	(18, ARRAY['* ' || repeat('x', 300) || ' * * *']),
	(19, ARRAY[''])
) AS c (n, cron) ORDER BY n;
SELECT prebuild_schedules_check('[5:6]={* 1 * * *,* 1 * * *}') AS other_bounds, prebuild_schedules_check(NULL) IS NULL AS strict;
SELECT prebuild_schedules_check(ARRAY['* 1 * * *', NULL]);
SELECT prebuild_schedules_check(ARRAY[ARRAY['* 1 * * *'], ARRAY['* 2 * * *']]);

---- the presets' tables ----

\pset format aligned

SET prebuild.control_plane_schema = 'cron_test';
CREATE FUNCTION cron_test.preset(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;
-- schedules are written 'cron = instances; cron = instances', their ids rise in that order
CREATE PROCEDURE cron_test.add(n integer, name text, base integer, zone text, schedules text DEFAULT '') LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO cron_test.template_version_presets (id, name, desired_instances, scheduling_timezone)
	VALUES (cron_test.preset(n), name, base, zone);
	INSERT INTO cron_test.template_version_preset_prebuild_schedules
		SELECT cron_test.preset(n * 100 + ordinality::integer), cron_test.preset(n), split_part(s, ' = ', 1), split_part(s, ' = ', 2)::integer
		FROM string_to_table(schedules, '; ') WITH ORDINALITY AS s WHERE s <> '';
END;

-- two presets on Monday 2 June 2025
CALL cron_test.add(1, 'morning', 1, 'UTC', '* 2-4 * * 1-5 = 2; * 6-8 * * 1-5 = 3');
CALL cron_test.add(2, 'afternoon', 1, 'UTC', '* 10-12 * * 1-5 = 4; * 14-16 * * 1-5 = 5');
SELECT at, prebuild_desired_instances(cron_test.preset(1), at) AS morning, prebuild_desired_instances(cron_test.preset(2), at) AS afternoon
FROM unnest(ARRAY[1, 3, 7, 11, 15]) h, make_timestamptz(2025, 6, 2, h, 0, 0, 'UTC') at ORDER BY at;
SELECT * FROM prebuild_forecast(cron_test.preset(1), '2025-06-02 UTC', '2025-06-03 UTC');
SELECT * FROM prebuild_forecast(cron_test.preset(2), '2025-06-06 12:30:00.5 UTC', '2025-06-09 11:00 UTC');

-- the zone is the preset's; zero is a value like any other
CALL cron_test.add(3, 'nights off', 2, 'Asia/Kolkata', '* 20-23 * * * = 0; * 0-5 * * * = 0');
SELECT * FROM prebuild_forecast(cron_test.preset(3), '2025-06-02 UTC', '2025-06-03 UTC');

-- both changes of the clocks: a range across the skipped and across the repeated hour
CALL cron_test.add(4, 'clock', 0, 'Europe/Berlin', '* 2 * * * = 2; * 0 * * * = 9');
SELECT * FROM prebuild_forecast(cron_test.preset(4), '2025-03-29 22:00 UTC', '2025-03-31 02:00 UTC');
SELECT * FROM prebuild_forecast(cron_test.preset(4), '2025-10-25 21:00 UTC', '2025-10-26 03:00 UTC');
CALL cron_test.add(5, 'half an hour', 0, 'Australia/Lord_Howe', '* 1 * * * = 1; * 2 * * * = 2');
SELECT * FROM prebuild_forecast(cron_test.preset(5), '2025-04-05 12:00 UTC', '2025-04-05 18:00 UTC');
SELECT * FROM prebuild_forecast(cron_test.preset(5), '2025-10-04 12:00 UTC', '2025-10-04 18:00 UTC');

-- without schedules the zone does not matter; a preset that is not kept has no number
CALL cron_test.add(6, 'plain', 7, 'Mars/Olympus');
SELECT prebuild_desired_instances(cron_test.preset(6), '2025-06-02 UTC');
SELECT * FROM prebuild_forecast(cron_test.preset(6), '2025-06-02 UTC', '2026-06-02 UTC');
CALL cron_test.add(7, 'not kept', NULL, '', '* 2-4 * * * = 2');
SELECT prebuild_desired_instances(cron_test.preset(7), '2025-06-02 03:00 UTC') IS NULL AS not_kept;
SELECT * FROM prebuild_forecast(cron_test.preset(7), '2025-06-02 UTC', '2025-06-03 UTC');
-- the ends of time
SELECT * FROM prebuild_forecast(cron_test.preset(6), '4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00');
SELECT * FROM prebuild_forecast(cron_test.preset(4), '294276-12-31 00:30:00+00', '294276-12-31 23:59:59.999999+00');
SELECT * FROM prebuild_forecast(cron_test.preset(4), '4714-11-24 00:00:00+00 BC', '4714-11-24 06:00:00+00 BC');

-- faulty schedules: all are ignored, with one warning
CALL cron_test.add(10, 'no zone', 1, '', '* 2-4 * * * = 2');
CALL cron_test.add(11, 'bad zone', 1, 'FOO+3', '* 2-4 * * * = 2');
CALL cron_test.add(12, 'bad expression', 1, 'UTC', '* 2-4 * * * = 2; 0 9 * * * = 3');
CALL cron_test.add(13, 'overlap', 1, 'UTC', '* 2-4 * * 1-5 = 2; * 4-8 * * 1-5 = 2');
SELECT prebuild_desired_instances(cron_test.preset(10), '2025-06-02 03:00 UTC');
SELECT prebuild_desired_instances(cron_test.preset(11), '2025-06-02 03:00 UTC');
SELECT prebuild_desired_instances(cron_test.preset(12), '2025-06-02 03:00 UTC');
SELECT prebuild_desired_instances(cron_test.preset(13), '2025-06-02 03:00 UTC');
SELECT * FROM prebuild_forecast(cron_test.preset(11), '2025-06-02 UTC', '2025-07-02 UTC');
SELECT * FROM prebuild_forecast(cron_test.preset(11), '2025-06-02 UTC', '2025-06-02 UTC');

-- errors
SELECT cron_test.attempt('SELECT ' || call) FROM unnest(ARRAY[
	'prebuild_desired_instances(NULL, now())',
	'prebuild_desired_instances(cron_test.preset(1), NULL)',
	'prebuild_desired_instances(cron_test.preset(1), ''infinity'')',
	'prebuild_desired_instances(cron_test.preset(6), ''-infinity'')',
	'prebuild_desired_instances(cron_test.preset(99), now())',
	'prebuild_forecast(NULL, now(), now())',
	'prebuild_forecast(cron_test.preset(1), NULL, now())',
	'prebuild_forecast(cron_test.preset(1), now(), NULL)',
	'prebuild_forecast(cron_test.preset(1), ''-infinity'', now())',
	'prebuild_forecast(cron_test.preset(1), now(), ''infinity'')',
	'prebuild_forecast(cron_test.preset(1), ''2025-06-02'', ''2025-06-01'')',
	'prebuild_forecast(cron_test.preset(99), now(), now())'
]) WITH ORDINALITY AS e (call, n) ORDER BY n;
SELECT count(*) AS empty_range FROM prebuild_forecast(cron_test.preset(1), '2025-06-02', '2025-06-02');

-- a forecast over a long time can be interrupted
SET statement_timeout = '200ms';
SELECT count(*) FROM prebuild_forecast(cron_test.preset(4), '2025-01-01', '200000-01-01');
RESET statement_timeout;

-- the caller's snapshot is read, and an uncommitted change of the caller's own is in it
BEGIN;
UPDATE cron_test.template_version_preset_prebuild_schedules SET desired_instances = 20 WHERE preset_id = cron_test.preset(1) AND desired_instances = 2;
SELECT prebuild_desired_instances(cron_test.preset(1), '2025-06-02 03:00 UTC');
ROLLBACK;
SELECT prebuild_desired_instances(cron_test.preset(1), '2025-06-02 03:00 UTC');

---- a year's forecast against the value at every half hour, in every kind of zone ----

DO $$
DECLARE
	zones text[] := ARRAY['UTC', 'Europe/Berlin', 'America/St_Johns', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'Africa/Casablanca'];
BEGIN
	FOR n IN 1 .. 6 LOOP
		CALL cron_test.add(100 + n, zones[n], 1, zones[n], '* 8-17 * * 1-5 = 10; * 1,2 * * * = 2; * 0 1,15 * 0 = 3; * 23 29 2 * = 4');
	END LOOP;
END
$$;
-- Samoa skipped 30 December 2011; Liberia was 44 minutes and 30 seconds behind until 1972
CALL cron_test.add(107, 'Pacific/Apia', 1, 'Pacific/Apia', '* 8-17 * * 5 = 10; * 1 * * * = 2');
CALL cron_test.add(108, 'Africa/Monrovia', 1, 'Africa/Monrovia', '* 8-17 * * 5 = 10; * 1 * * * = 2');

CREATE TABLE cron_test.forecast AS
	SELECT n, f.* FROM (VALUES
		(101, timestamptz '2024-01-01 00:10:00.25 UTC'), (102, '2024-01-01 00:10:00.25 UTC'), (103, '2024-01-01 00:10:00.25 UTC'),
		(104, '2024-01-01 00:10:00.25 UTC'), (105, '2024-01-01 00:10:00.25 UTC'), (106, '2024-01-01 00:10:00.25 UTC'),
		(107, '2011-02-03 UTC'), (108, '1971-06-01 00:00:01 UTC')) AS s (n, start),
		prebuild_forecast(cron_test.preset(n), start, start + interval '1 year') AS f;

-- the spans cover the range without a gap, and each differs from the one before
SELECT n, count(*) AS spans, min(starts_at) AS starts, max(ends_at) AS ends,
	count(*) FILTER (WHERE starts_at <> previous_end) AS gaps,
	count(*) FILTER (WHERE starts_at >= ends_at) AS empty,
	count(*) FILTER (WHERE cron_expression IS NOT DISTINCT FROM previous_cron AND previous_end IS NOT NULL) AS unmerged
FROM (SELECT *, lag(ends_at) OVER w AS previous_end, lag(cron_expression) OVER w AS previous_cron
	FROM cron_test.forecast WINDOW w AS (PARTITION BY n ORDER BY starts_at)) AS f
GROUP BY n ORDER BY n;

-- at both edges of every span, and at every half hour, the value is the span's
SELECT n, count(*) AS edges, count(*) FILTER (WHERE desired <> prebuild_desired_instances(cron_test.preset(n), at)) AS wrong
FROM cron_test.forecast, unnest(ARRAY[starts_at, ends_at - interval '1 microsecond', starts_at + (ends_at - starts_at) / 2]) at
GROUP BY n ORDER BY n;
SELECT n, count(*) AS samples, count(*) FILTER (WHERE desired <> prebuild_desired_instances(cron_test.preset(n), at)) AS wrong
FROM cron_test.forecast, generate_series(to_timestamp(ceil(extract(epoch FROM starts_at) / 1800) * 1800), ends_at - interval '1 microsecond', '30 minutes') at
GROUP BY n ORDER BY n;
-- and what the rules say when they are written in SQL
SELECT n, count(*) AS samples, count(*) FILTER (WHERE desired <> CASE
		WHEN hour BETWEEN 8 AND 17 AND weekday BETWEEN 1 AND 5 THEN 10
		WHEN hour IN (1, 2) THEN 2
		WHEN hour = 0 AND (day IN (1, 15) OR weekday = 0) THEN 3
		WHEN hour = 23 AND day = 29 AND month = 2 THEN 4
		ELSE 1 END) AS wrong
FROM cron_test.forecast
JOIN cron_test.template_version_presets p ON p.id = cron_test.preset(n),
	generate_series(to_timestamp(ceil(extract(epoch FROM starts_at) / 600) * 600), ends_at - interval '1 microsecond', '10 minutes') at,
	LATERAL (SELECT at AT TIME ZONE p.scheduling_timezone AS local) l,
	LATERAL (SELECT extract(hour FROM local) AS hour, extract(dow FROM local) AS weekday, extract(day FROM local) AS day,
		extract(month FROM local) AS month) f
WHERE n <= 106
GROUP BY n ORDER BY n;
-- every two minutes around the changes of the clocks
SELECT n, count(*) AS samples, count(*) FILTER (WHERE desired <> prebuild_desired_instances(cron_test.preset(n), at)) AS wrong
FROM (VALUES (102, timestamptz '2024-03-31 UTC'), (102, '2024-10-27 UTC'), (103, '2024-03-10 UTC'), (103, '2024-11-03 UTC'),
	(104, '2024-04-06 UTC'), (104, '2024-10-05 UTC'), (106, '2024-03-10 UTC'), (106, '2024-04-14 UTC'),
	(107, '2011-12-30 UTC'), (108, '1972-01-07 UTC')) AS c (n, day)
CROSS JOIN LATERAL generate_series(day - interval '6 hours', day + interval '30 hours', '2 minutes') at
JOIN cron_test.forecast USING (n)
WHERE at >= starts_at AND at < ends_at
GROUP BY n ORDER BY n;

---- privileges ----

CREATE ROLE regress_cron_user;
GRANT USAGE ON SCHEMA cron_test TO regress_cron_user;
SET ROLE regress_cron_user;
SELECT prebuild_cron_matches('* * * * *', 'UTC', now()), prebuild_schedules_check(ARRAY['* 1 * * *']) IS NULL AS fine;
SELECT prebuild_desired_instances(cron_test.preset(1), now());
SELECT prebuild_forecast(cron_test.preset(1), now(), now());
RESET ROLE;

SET client_min_messages = warning;
RESET session_replication_role;
DROP SCHEMA cron_test CASCADE;
DROP ROLE regress_cron_user;
