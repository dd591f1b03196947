---- metrics ------------------------------------------------------------------

CREATE TYPE @extschema@.prebuild_metrics_row AS (
	name text,
	labels jsonb,
	value double precision,
	type text,
	help text
);

CREATE FUNCTION @extschema@.prebuild_metrics_read(
	at timestamptz DEFAULT now(), part text DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_metrics_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 200000
SET search_path = pg_catalog, pg_temp SET jit = off SET extra_float_digits = 1
AS 'MODULE_PATHNAME', 'prebuild_metrics_read';

COMMENT ON FUNCTION @extschema@.prebuild_metrics_read(timestamptz, text) IS
'Metrics at a time, of one part (pool, history, demand, times, loop, metadata, identity or health) or all';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metrics_read(timestamptz, text) FROM PUBLIC;

CREATE VIEW @extschema@.prebuild_metrics AS
SELECT m.* FROM @extschema@.prebuild_metrics_read() m;

COMMENT ON VIEW @extschema@.prebuild_metrics IS
'Metrics now; a histogram has a row for each of its buckets (label le), its sum and its count';

CREATE FUNCTION @extschema@.prebuild_metrics_text(at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql STABLE PARALLEL RESTRICTED COST 200000
SET search_path = pg_catalog, pg_temp SET jit = off SET extra_float_digits = 1
BEGIN ATOMIC
	WITH metrics AS (
		SELECT m.name, m.type, m.help, m.value, m.position,
			-- the name that HELP and TYPE go by
			CASE m.type WHEN 'histogram' THEN regexp_replace(m.name, '_(bucket|sum|count)$', '')
				ELSE m.name END AS family,
			(SELECT '{' || string_agg(format('%s="%s"', l.key,
				replace(replace(replace(l.value, E'\\', E'\\\\'), E'\n', E'\\n'), '"', E'\\"')),
				',' ORDER BY l.key) || '}'
			FROM jsonb_each_text(m.labels) l (key, value)) AS labels
		FROM @extschema@.prebuild_metrics_read(at) WITH ORDINALITY
			m (name, labels, value, type, help, position)
	), families AS (
		SELECT m.family, concat(
			'# HELP ', m.family, ' ',
				replace(replace(min(m.help), E'\\', E'\\\\'), E'\n', E'\\n'), E'\n',
			'# TYPE ', m.family, ' ', min(m.type), E'\n',
			string_agg(concat(m.name, m.labels, ' ', CASE m.value
				WHEN 'Infinity' THEN '+Inf' WHEN '-Infinity' THEN '-Inf' ELSE m.value::text END,
				E'\n'), '' ORDER BY m.position)) AS lines
		FROM metrics m GROUP BY m.family
	)
	SELECT coalesce(string_agg(f.lines, '' ORDER BY f.family), '') FROM families f;
END;

COMMENT ON FUNCTION @extschema@.prebuild_metrics_text(timestamptz) IS
'Metrics at a time in the Prometheus text format';
REVOKE ALL ON FUNCTION @extschema@.prebuild_metrics_text(timestamptz) FROM PUBLIC;

