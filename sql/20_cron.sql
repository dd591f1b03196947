---- cron ranges and schedules -----------------------------------------------

CREATE FUNCTION @extschema@.prebuild_cron_matches(cron text, timezone text, at timestamptz)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'prebuild_cron_matches';

COMMENT ON FUNCTION @extschema@.prebuild_cron_matches(text, text, timestamptz) IS
'Whether a time is within a cron expression read as a continuous range in a time zone';

CREATE FUNCTION @extschema@.prebuild_schedules_check(cron text[]) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'prebuild_schedules_check';

COMMENT ON FUNCTION @extschema@.prebuild_schedules_check(text[]) IS
'What is wrong with the cron expressions of one preset''s schedules, or NULL if they are valid';

CREATE FUNCTION @extschema@.prebuild_desired_instances(preset_id uuid, at timestamptz)
RETURNS integer
LANGUAGE C STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_desired_instances';

COMMENT ON FUNCTION @extschema@.prebuild_desired_instances(uuid, timestamptz) IS
'Instances that a preset wants at a time, with its schedules taken into account';
REVOKE ALL ON FUNCTION @extschema@.prebuild_desired_instances(uuid, timestamptz) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_forecast_row AS (
	starts_at timestamptz,
	ends_at timestamptz,
	desired integer,
	cron_expression text
);

COMMENT ON TYPE @extschema@.prebuild_forecast_row IS
'A span of time, its end excluded, with the instances wanted and the schedule that decides';

CREATE FUNCTION @extschema@.prebuild_forecast(preset_id uuid, range_start timestamptz,
	range_end timestamptz)
RETURNS SETOF @extschema@.prebuild_forecast_row
LANGUAGE C STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_forecast';

COMMENT ON FUNCTION @extschema@.prebuild_forecast(uuid, timestamptz, timestamptz) IS
'Instances that a preset will want, as adjacent spans that cover a range of time';
REVOKE ALL ON FUNCTION @extschema@.prebuild_forecast(uuid, timestamptz, timestamptz) FROM PUBLIC;

