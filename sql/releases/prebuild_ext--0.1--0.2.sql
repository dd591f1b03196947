/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

---- events and marks ---------------------------------------------------------

ALTER TABLE @extschema@.prebuild_mark ADD COLUMN control_plane text;
COMMENT ON COLUMN @extschema@.prebuild_mark.control_plane IS
'The schema of the control plane that the preset is of; NULL in marks of before 0.2';

CREATE INDEX prebuild_replacement_at_idx ON @extschema@.prebuild_replacement (at);
COMMENT ON TABLE @extschema@.prebuild_replacement IS
'Claims of the last 30 days that replaced resources, each once';

CREATE TABLE @extschema@.prebuild_replacement_count (
	template_id uuid NOT NULL,
	preset_id uuid NOT NULL,
	claims bigint NOT NULL,
	PRIMARY KEY (template_id, preset_id)
);

COMMENT ON TABLE @extschema@.prebuild_replacement_count IS
'How many earlier claims replaced resources, by preset';

DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_replacement_count';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;
