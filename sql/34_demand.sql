---- demand and lead times ----------------------------------------------------

-- A workspace is one demand, however often it is built. Its id is part of the key, so that whoever
-- finds a demand again (a pass, a claim, a pass after a restore) does not count it twice.
-- The indexes of the logs begin with the column that differs most: mostly it alone decides where a row
-- belongs. The control plane is only where it has to be, because it has its templates to itself.
CREATE TABLE @extschema@.prebuild_demand_log (
	control_plane text NOT NULL,
	workspace_id uuid NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	at timestamptz NOT NULL,
	warm boolean NOT NULL,
	counted boolean NOT NULL DEFAULT true,
	PRIMARY KEY (workspace_id, control_plane)
);
CREATE INDEX prebuild_demand_log_preset_idx
	ON @extschema@.prebuild_demand_log (template_id, preset_name, at);
CREATE INDEX prebuild_demand_log_at_idx ON @extschema@.prebuild_demand_log (at);
CREATE INDEX prebuild_demand_log_uncounted_idx
	ON @extschema@.prebuild_demand_log (control_plane) WHERE NOT counted;

COMMENT ON TABLE @extschema@.prebuild_demand_log IS
'Who asked for a preset, as far as passes have read it from the tables: one row for each workspace, without its user';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.control_plane IS
'Schema of the control plane that has the workspace';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.at IS
'When somebody asked: the claim of a prebuild, or the first build of a workspace that got none';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.warm IS
'Was there a prebuild to give away';
COMMENT ON COLUMN @extschema@.prebuild_demand_log.counted IS
'Is it in prebuild_preset_count; false from a claim until the next pass';

-- The first build of each prebuild. outcome is NULL until it is known, then ready, failed, or canceled
-- if the prebuild went before anybody could know.
CREATE TABLE @extschema@.prebuild_lead_time_log (
	control_plane text NOT NULL,
	workspace_id uuid NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	built_at timestamptz NOT NULL,
	outcome text,
	waiting double precision,
	building double precision,
	starting double precision,
	PRIMARY KEY (workspace_id, control_plane)
);
CREATE INDEX prebuild_lead_time_log_preset_idx
	ON @extschema@.prebuild_lead_time_log (template_id, preset_name, built_at);
CREATE INDEX prebuild_lead_time_log_built_at_idx ON @extschema@.prebuild_lead_time_log (built_at);
CREATE INDEX prebuild_lead_time_log_open_idx
	ON @extschema@.prebuild_lead_time_log (control_plane, built_at) WHERE outcome IS NULL;

COMMENT ON TABLE @extschema@.prebuild_lead_time_log IS
'How long the builds of prebuilds took, as far as passes have read it from the tables';
COMMENT ON COLUMN @extschema@.prebuild_lead_time_log.waiting IS
'Seconds from the creation of the job until a daemon took it';
COMMENT ON COLUMN @extschema@.prebuild_lead_time_log.building IS
'Seconds from then until the job was complete';
COMMENT ON COLUMN @extschema@.prebuild_lead_time_log.starting IS
'Seconds from then until all agents were ready';

CREATE TABLE @extschema@.prebuild_lead_time_stats (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	builds bigint NOT NULL,
	seconds double precision NOT NULL,
	buckets bigint[] NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name)
);

COMMENT ON TABLE @extschema@.prebuild_lead_time_stats IS
'Histograms of lead times since the first pass, for the metrics';

-- Like prebuild_lead_time_stats, of the prebuilds that somebody got.
CREATE TABLE @extschema@.prebuild_claim_time_stats (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	claims bigint NOT NULL,
	seconds double precision NOT NULL,
	buckets bigint[] NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name)
);

COMMENT ON TABLE @extschema@.prebuild_claim_time_stats IS
'Histograms of how long claimed prebuilds had waited since the first pass, for the metrics';

CREATE TABLE @extschema@.prebuild_preset_count (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	counter text NOT NULL,
	value double precision NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name, counter)
);

COMMENT ON TABLE @extschema@.prebuild_preset_count IS
'What passes have counted for the metrics of presets; it only grows';

-- A row changes only when the number of eligible ones does.
CREATE TABLE @extschema@.prebuild_idle (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	eligible bigint NOT NULL,
	since timestamptz NOT NULL,
	seconds double precision NOT NULL,
	PRIMARY KEY (control_plane, template_id, preset_name)
);

COMMENT ON TABLE @extschema@.prebuild_idle IS
'How long prebuilds have waited, in seconds, until "since"; and how many have been eligible from then on';

-- Claims that find nothing must not wait for each other's row of the table above.
CREATE TABLE @extschema@.prebuild_preset_count_log (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	counter text NOT NULL,
	value double precision NOT NULL
);
ALTER TABLE @extschema@.prebuild_preset_count_log REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.prebuild_preset_count_log IS
'What the next pass adds to prebuild_preset_count';

-- How far passes have read the builds of a control plane. It speaks of transaction ids and of a file,
-- so a dump leaves it out, and a restored database reads everything again.
CREATE TABLE @extschema@.prebuild_demand_marker (
	control_plane text PRIMARY KEY,
	builds oid NOT NULL,
	filenode oid NOT NULL,
	done_from xid8,
	round_from xid8 NOT NULL,
	next_block bigint NOT NULL,
	looked_at timestamptz NOT NULL,
	idle_until timestamptz NOT NULL
);

COMMENT ON TABLE @extschema@.prebuild_demand_marker IS
'How far passes have read the builds: all rows from before transaction done_from, and up to a block those from before round_from';

CREATE TRIGGER not_replicated BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.prebuild_demand_marker
	FOR EACH ROW EXECUTE FUNCTION @extschema@.prebuild_pool_not_replicated();
ALTER TABLE @extschema@.prebuild_demand_marker ENABLE REPLICA TRIGGER not_replicated;

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND c.relname OPERATOR(pg_catalog.=) ANY
			('{prebuild_demand_log,prebuild_lead_time_log,prebuild_lead_time_stats,prebuild_claim_time_stats,
				prebuild_idle,prebuild_preset_count,prebuild_preset_count_log}')
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(relation, '');
	END LOOP;
END
$$;

CREATE TYPE @extschema@.prebuild_demand_row AS (
	template_id uuid,
	template_name text,
	preset_name text,
	starts_at timestamptz,
	warm bigint,
	cold bigint
);

CREATE FUNCTION @extschema@.prebuild_demand(range_start timestamptz, range_end timestamptz,
	bucket interval DEFAULT '1 hour', template_id uuid DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_demand_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 100000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_demand';

COMMENT ON FUNCTION @extschema@.prebuild_demand(timestamptz, timestamptz, interval, uuid) IS
'Demands from range_start until before range_end, for each template, preset name and bucket that has any: how many got a prebuild (warm) and how many did not (cold). Buckets begin at range_start';
REVOKE ALL ON FUNCTION @extschema@.prebuild_demand(timestamptz, timestamptz, interval, uuid) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_lead_time_row AS (
	source text,
	samples integer,
	failure_rate double precision,
	waiting_p50 interval,
	waiting_p90 interval,
	building_p50 interval,
	building_p90 interval,
	starting_p50 interval,
	starting_p90 interval,
	total_p50 interval,
	total_p90 interval
);

CREATE FUNCTION @extschema@.prebuild_lead_time(template_id uuid, preset_name text,
	at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_lead_time_row
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_lead_time';

COMMENT ON FUNCTION @extschema@.prebuild_lead_time(uuid, text, timestamptz) IS
'How long prebuilds took in the 14 days before a time, from the creation of their job until their agents were ready. source says of what: the preset, the template if the preset has fewer than 5, or the default (prebuild.default_lead_time) if the template has fewer, too';
REVOKE ALL ON FUNCTION @extschema@.prebuild_lead_time(uuid, text, timestamptz) FROM PUBLIC;

