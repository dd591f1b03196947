---- claims and presets -------------------------------------------------------

CREATE TYPE @extschema@.prebuild_claim_row AS (
	id uuid,
	name text
);

COMMENT ON TYPE @extschema@.prebuild_claim_row IS
'The workspace that prebuild_claim() gave away, under its new name';

CREATE FUNCTION @extschema@.prebuild_claim(preset_id uuid, new_owner_id uuid, new_name text,
	autostart_schedule text DEFAULT NULL, next_start_at timestamptz DEFAULT NULL,
	ttl bigint DEFAULT NULL, at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_claim_row
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_claim';

COMMENT ON FUNCTION @extschema@.prebuild_claim(uuid, uuid, text, text, timestamptz, bigint,
	timestamptz) IS
'Give the oldest eligible prebuild of a preset to a new owner, under a new name; skips prebuilds that another session has locked, and returns no row if there is no other. ttl is in nanoseconds, as in Coder: 8 hours are 28800000000000; NULL means none. In REPEATABLE READ and SERIALIZABLE, raises a serialization failure for a prebuild that was given away since the transaction''s snapshot';
REVOKE ALL ON FUNCTION @extschema@.prebuild_claim(uuid, uuid, text, text, timestamptz, bigint,
	timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_find_preset(template_version_id uuid, parameter_names text[],
	parameter_values text[])
RETURNS uuid
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_find_preset';

COMMENT ON FUNCTION @extschema@.prebuild_find_preset(uuid, text[], text[]) IS
'Find the preset of a template version whose parameters, name and value, are all among those given; returns NULL if there is none. Of several, takes the one with the most parameters, then one that wants prebuilds, then the oldest. A name that is given more than once matches each of its values';
REVOKE ALL ON FUNCTION @extschema@.prebuild_find_preset(uuid, text[], text[]) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_invalidate(preset_id uuid) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_invalidate';

COMMENT ON FUNCTION @extschema@.prebuild_invalidate(uuid) IS
'Expire the current prebuilds of a preset, so that nobody can claim them and the next pass replaces them; returns the time before which they were created';
REVOKE ALL ON FUNCTION @extschema@.prebuild_invalidate(uuid) FROM PUBLIC;
