---- one look -----------------------------------------------------------------

CREATE TYPE @extschema@.prebuild_health_row AS (
	name text,
	status text,
	value text,
	threshold text,
	advice text
);

COMMENT ON TYPE @extschema@.prebuild_health_row IS
'A thing that can be wrong; status is ok, warn, fail or, if the caller cannot see it, unknown';

CREATE FUNCTION @extschema@.prebuild_health_read(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_health_row
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 25 COST 200000
SET search_path = pg_catalog, pg_temp SET jit = off SET intervalstyle = postgres
AS 'MODULE_PATHNAME', 'prebuild_health_read';

COMMENT ON FUNCTION @extschema@.prebuild_health_read(timestamptz) IS
'The rows of prebuild_health(), from a library that has them';
REVOKE ALL ON FUNCTION @extschema@.prebuild_health_read(timestamptz) FROM PUBLIC;

-- It is not in the library, so that it can say that the library is too old.
CREATE FUNCTION @extschema@.prebuild_health(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_health_row
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 25 COST 200000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	checks regprocedure;
BEGIN
	SELECT p.oid INTO checks
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
	JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
	AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
	AND d.deptype OPERATOR(pg_catalog.=) 'e'
	AND p.proname OPERATOR(pg_catalog.=) 'prebuild_health_read';
	IF checks IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object',
			MESSAGE = 'function prebuild_health_read(timestamptz) does not exist',
			HINT = 'The extension''s script in this database is older than the loaded library: run ALTER EXTENSION prebuild_ext UPDATE.';
	END IF;
	RETURN QUERY EXECUTE pg_catalog.format('SELECT h.* FROM %s($1) h', checks::pg_catalog.regproc)
	USING at;
EXCEPTION WHEN undefined_function OR undefined_file THEN
	RETURN QUERY SELECT 'versions', 'fail', SQLERRM, 'all the same',
		'The loaded library is older than the extension''s script: restart the server or reconnect to'
		' load the installed one (docs/upgrading.md).';
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_health(timestamptz) IS
'What can be wrong with the loop, a row each: status ok, warn, fail or unknown, what was seen, from when on it is wrong, and what to do. It changes nothing and waits for nobody';
REVOKE ALL ON FUNCTION @extschema@.prebuild_health(timestamptz) FROM PUBLIC;

-- For psql: its lines fit into 120 columns. So names are cut, and the reason comes in short lines.
CREATE VIEW @extschema@.prebuild_overview AS
WITH demand AS MATERIALIZED (
	SELECT d.template_id, d.preset_name, sum(d.warm) AS warm, sum(d.cold) AS cold
	FROM @extschema@.prebuild_demand(now() - interval '24 hours', now(), interval '24 hours') d
	GROUP BY d.template_id, d.preset_name
), plan AS MATERIALIZED (
	SELECT DISTINCT ON (p.preset_id) p.preset_id, p.action, p.count
	FROM @extschema@.prebuild_plan() p
	WHERE p.action NOT IN ('promote', 'cancel_pending', 'delete')
	ORDER BY p.preset_id
), oldest AS MATERIALIZED (
	SELECT r.current_preset_id, date_trunc('minute', now() - min(r.created_at)) AS age
	FROM @extschema@.prebuild_running() r
	GROUP BY r.current_preset_id
), judged AS (
	SELECT s.*, coalesce(d.warm, 0) AS warm, coalesce(d.cold, 0) AS cold, o.age,
		CASE WHEN s.active OR s.staged THEN p.action END AS action, p.count AS missing,
		greatest(s.desired - s.eligible, 0) AS short
	FROM @extschema@.prebuild_state() s
	LEFT JOIN demand d ON d.template_id = s.template_id AND d.preset_name = s.preset_name
		AND s.active
	LEFT JOIN plan p ON p.preset_id = s.preset_id
	LEFT JOIN oldest o ON o.current_preset_id = s.preset_id
	WHERE s.active OR s.staged OR s.actual + s.starting + s.stopping + s.deleting + s.pending_stale > 0
), explained AS (
	SELECT j.*, w.rank, w.why
	FROM judged j, LATERAL (SELECT * FROM (VALUES
		(1, j.action = 'hard_limited' OR j.hard_limited, 'the newest builds all failed'),
		(2, j.action = 'validation_failed', 'its inputs are invalid'),
		(3, j.action = 'unsupported', 'the database cannot decide its inputs'),
		(4, j.action = 'no_provisioner', 'no live daemon takes the build'),
		(5, j.action = 'backoff', format('%s failed; nothing is built until %s', j.num_failed,
			to_char(j.backoff_until, 'HH24:MI'))),
		(6, j.short > 0 AND j.eligible = 0 AND j.starting = 0, CASE WHEN j.actual > 0
			THEN 'none is ready' ELSE 'none is there' END),
		(7, j.sick > 0, format('%s of %s running are sick', j.sick, j.actual)),
		(8, j.short > 0 AND j.action = 'create' AND j.missing = 0, 'it waits: see prebuild_plan()'),
		(9, j.short > 0 AND j.starting = 0 AND j.action IS NULL, 'some do not get ready'),
		(10, j.cold > 0, format('%s found none', j.cold)),
		(11, j.short > 0 AND j.action = 'create', 'the next pass builds'),
		(12, j.short > 0, 'builds are under way'),
		(13, NOT j.active AND NOT j.staged, 'an old version goes'),
		(14, j.staged, 'staged'),
		(15, true, '')) w (rank, holds, why)
		WHERE w.holds ORDER BY w.rank LIMIT 1) w
)
SELECT
	CASE WHEN length(e.template_name) + length(e.preset_name) < 19
		THEN e.template_name || '/' || e.preset_name
		ELSE n.template || E'/\n' || n.preset END AS preset,
	e.desired || coalesce(CASE e.desired_source WHEN 'schedule' THEN E'\n' ELSE ' ' END || e.desired_source, '') AS desired,
	e.eligible AS ready,
	e.starting AS soon,
	e.sick,
	rtrim(regexp_replace(e.why, '(.{1,19})(?: +|$)', E'\\1\n', 'g'), E'\n') AS why,
	e.warm AS claims,
	e.cold AS miss,
	CASE WHEN e.warm + e.cold > 0 THEN floor(100 * e.warm / (e.warm + e.cold)) || '%' END AS hit,
	CASE WHEN e.age >= interval '100 hours' THEN floor(extract(epoch FROM e.age) / 86400) || 'd'
		ELSE to_char(e.age, 'HH24:MI') END AS age,
	next.change AS next
FROM explained e, LATERAL (SELECT
	CASE WHEN length(e.template_name) > 18 THEN left(e.template_name, 16) || '..' ELSE e.template_name END,
	CASE WHEN length(e.preset_name) > 19 THEN left(e.preset_name, 17) || '..' ELSE e.preset_name END)
	n (template, preset)
LEFT JOIN LATERAL (
	SELECT to_char(f.starts_at, CASE WHEN f.starts_at < now() + interval '20 hours'
		THEN 'HH24:MI' ELSE 'Dy HH24:MI' END) || E'\nto ' || f.desired AS change
	FROM @extschema@.prebuild_forecast(e.preset_id, now(), now() + interval '7 days') f
	WHERE e.active AND e.desired_source IS DISTINCT FROM 'policy' AND f.starts_at > now() AND f.desired <> e.desired
	ORDER BY f.starts_at LIMIT 1) next ON true
ORDER BY e.rank, e.short DESC, e.cold DESC, e.template_name, e.preset_name, e.preset_id;

COMMENT ON VIEW @extschema@.prebuild_overview IS
'The pools at a glance: a line for each preset, first those that somebody should worry about';
COMMENT ON COLUMN @extschema@.prebuild_overview.desired IS
'How many prebuilds the preset should have now, and what says so: preset, schedule or policy';
COMMENT ON COLUMN @extschema@.prebuild_overview.ready IS
'Prebuilds that somebody can claim';
COMMENT ON COLUMN @extschema@.prebuild_overview.soon IS
'Prebuilds that are being built';
COMMENT ON COLUMN @extschema@.prebuild_overview.claims IS
'People who got a prebuild in the last 24 hours';
COMMENT ON COLUMN @extschema@.prebuild_overview.miss IS
'People who asked for one in the last 24 hours and got none';
COMMENT ON COLUMN @extschema@.prebuild_overview.hit IS
'Share of these who got one';
COMMENT ON COLUMN @extschema@.prebuild_overview.age IS
'Age of the oldest running prebuild, in hours and minutes, or in days';
COMMENT ON COLUMN @extschema@.prebuild_overview.next IS
'When schedules next change the desired number within a week, and to what';
