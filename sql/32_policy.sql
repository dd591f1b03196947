---- policies -----------------------------------------------------------------

-- How passes keep the pools of a template, or of its presets of one name, whatever their version.
CREATE TABLE @extschema@.prebuild_policy (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text,
	mode text NOT NULL DEFAULT 'advise' CONSTRAINT prebuild_policy_mode
		CHECK (mode OPERATOR(pg_catalog.=) ANY ('{off,advise,auto}')),
	min_instances integer CONSTRAINT prebuild_policy_min_instances
		CHECK (min_instances OPERATOR(pg_catalog.>=) 0),
	max_instances integer CONSTRAINT prebuild_policy_max_instances
		CHECK (max_instances OPERATOR(pg_catalog.>=) 0
			AND NOT max_instances OPERATOR(pg_catalog.<) min_instances),
	service_level double precision CONSTRAINT prebuild_policy_service_level
		CHECK (service_level OPERATOR(pg_catalog.>=) 0.5::double precision
			AND service_level OPERATOR(pg_catalog.<) 1::double precision),
	unready_grace interval CONSTRAINT prebuild_policy_unready_grace
		CHECK (unready_grace OPERATOR(pg_catalog.>=) '0'::interval
			AND unready_grace OPERATOR(pg_catalog.<=) '12427 days'::interval),
	disconnected_grace interval CONSTRAINT prebuild_policy_disconnected_grace
		CHECK (disconnected_grace OPERATOR(pg_catalog.>=) '0'::interval
			AND disconnected_grace OPERATOR(pg_catalog.<=) '12427 days'::interval),
	failed_retention interval CONSTRAINT prebuild_policy_failed_retention
		CHECK (failed_retention OPERATOR(pg_catalog.>=) '0'::interval
			AND failed_retention OPERATOR(pg_catalog.<=) '12427 days'::interval),
	failed_keep integer CONSTRAINT prebuild_policy_failed_keep
		CHECK (failed_keep OPERATOR(pg_catalog.>=) 0),
	delete_retries integer CONSTRAINT prebuild_policy_delete_retries
		CHECK (delete_retries OPERATOR(pg_catalog.>=) 0),
	hard_limit_retry interval CONSTRAINT prebuild_policy_hard_limit_retry
		CHECK (hard_limit_retry OPERATOR(pg_catalog.>=) '0'::interval
			AND hard_limit_retry OPERATOR(pg_catalog.<=) '1 day'::interval),
	require_provisioner boolean,
	max_unavailable text CONSTRAINT prebuild_policy_max_unavailable
		CHECK (max_unavailable OPERATOR(pg_catalog.~)
			'^((0|[1-9][0-9]{0,8})|(0|[1-9][0-9]{0,2}|1000)%)$'),
	max_surge text CONSTRAINT prebuild_policy_max_surge
		CHECK (max_surge OPERATOR(pg_catalog.~)
			'^((0|[1-9][0-9]{0,8})|(0|[1-9][0-9]{0,2}|1000)%)$')
);

-- two indexes, because a single one would treat NULLs as distinct
CREATE UNIQUE INDEX prebuild_policy_preset_idx
	ON @extschema@.prebuild_policy (control_plane, template_id, preset_name)
	WHERE preset_name IS NOT NULL;
CREATE UNIQUE INDEX prebuild_policy_template_idx
	ON @extschema@.prebuild_policy (control_plane, template_id)
	WHERE preset_name IS NULL;

COMMENT ON TABLE @extschema@.prebuild_policy IS
'How passes keep the pools of a template''s presets; prebuild_set_policy() writes it';
COMMENT ON COLUMN @extschema@.prebuild_policy.control_plane IS
'Schema of the control plane that has the template';
COMMENT ON COLUMN @extschema@.prebuild_policy.preset_name IS
'Name of the presets, in all versions; the row with NULL applies to presets without a row of their own, and to what their row leaves NULL';
COMMENT ON COLUMN @extschema@.prebuild_policy.mode IS
'What to do about the number of prebuilds: nothing (off), advise a number (advise) or set it (auto)';
COMMENT ON COLUMN @extschema@.prebuild_policy.service_level IS
'Share of demands that should find a prebuild; NULL means 0.99';
COMMENT ON COLUMN @extschema@.prebuild_policy.unready_grace IS
'Like the setting prebuild.unready_grace; NULL means the value of the template''s row, and then the setting. The following columns work the same way';

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_policy';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;

CREATE FUNCTION @extschema@.prebuild_set_policy(
	template_id uuid, preset_name text DEFAULT NULL, mode text DEFAULT 'advise',
	min_instances integer DEFAULT NULL, max_instances integer DEFAULT NULL,
	service_level double precision DEFAULT NULL,
	unready_grace interval DEFAULT NULL, disconnected_grace interval DEFAULT NULL,
	failed_retention interval DEFAULT NULL, failed_keep integer DEFAULT NULL,
	delete_retries integer DEFAULT NULL, hard_limit_retry interval DEFAULT NULL,
	require_provisioner boolean DEFAULT NULL, max_unavailable text DEFAULT NULL,
	max_surge text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_set_policy';

COMMENT ON FUNCTION @extschema@.prebuild_set_policy(uuid, text, text, integer, integer,
	double precision, interval, interval, interval, integer, integer, interval, boolean, text, text) IS
'Set how passes keep the pools of a template''s presets, or of its presets of one name; replaces what an earlier call set';
REVOKE ALL ON FUNCTION @extschema@.prebuild_set_policy(uuid, text, text, integer, integer,
	double precision, interval, interval, interval, integer, integer, interval, boolean, text, text)
FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_unset_policy(template_id uuid, preset_name text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prebuild_unset_policy';

COMMENT ON FUNCTION @extschema@.prebuild_unset_policy(uuid, text) IS
'Undo prebuild_set_policy(); returns false if there is nothing to undo';
REVOKE ALL ON FUNCTION @extschema@.prebuild_unset_policy(uuid, text) FROM PUBLIC;

