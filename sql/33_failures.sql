---- failures -----------------------------------------------------------------

-- Builds that failed (kind "failed" or "sick") still count for backoff and hard limit after their
-- member is gone. "undeleted" is a delete build that passes do not try again.
CREATE TABLE @extschema@.prebuild_failure (
	build_id uuid NOT NULL,
	preset_id uuid NOT NULL,
	workspace_id uuid NOT NULL,
	kind text NOT NULL,
	built_at timestamptz NOT NULL,
	control_plane text NOT NULL,
	PRIMARY KEY (control_plane, build_id)
);
CREATE INDEX prebuild_failure_preset_id_built_at_idx
	ON @extschema@.prebuild_failure (preset_id, built_at);

COMMENT ON TABLE @extschema@.prebuild_failure IS
'Failed builds that a pass remembers after it deleted their member';

CREATE TABLE @extschema@.prebuild_forgiven (
	preset_id uuid NOT NULL,
	until timestamptz NOT NULL,
	control_plane text NOT NULL,
	PRIMARY KEY (control_plane, preset_id)
);

COMMENT ON TABLE @extschema@.prebuild_forgiven IS
'Until when the failures of a preset do not count';

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND c.relname OPERATOR(pg_catalog.=) ANY ('{prebuild_failure,prebuild_forgiven}')
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(relation, '');
	END LOOP;
END
$$;

CREATE TYPE @extschema@.prebuild_clean_row AS (
	failed integer,
	canceled integer,
	stopped integer
);

CREATE FUNCTION @extschema@.prebuild_clean(template_id uuid DEFAULT NULL, preset_id uuid DEFAULT NULL,
	states text[] DEFAULT '{failed,canceled,stopped}', at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_clean_row
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_clean';

COMMENT ON FUNCTION @extschema@.prebuild_clean(uuid, uuid, text[], timestamptz) IS
'Delete the pool members that failed, canceled or stopped builds left behind, of all presets or of one template or preset; returns how many of each';
REVOKE ALL ON FUNCTION @extschema@.prebuild_clean(uuid, uuid, text[], timestamptz) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_retry(preset_id uuid, at timestamptz DEFAULT now())
RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'prebuild_retry';

COMMENT ON FUNCTION @extschema@.prebuild_retry(uuid, timestamptz) IS
'Forgive the failures that a preset has had until now, so that the next pass ends its hard limit and its backoff; returns the time';
REVOKE ALL ON FUNCTION @extschema@.prebuild_retry(uuid, timestamptz) FROM PUBLIC;

