---- rights -------------------------------------------------------------------

-- What an app server calls. Nothing on the extension's tables, and nothing on the control
-- plane's: those are the operator's affair.
CREATE FUNCTION @extschema@.prebuild_grant(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	granted regprocedure;
	granted_view regclass;
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	FOR granted IN
		SELECT p.oid
		FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
		JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
		AND d.deptype OPERATOR(pg_catalog.=) 'e'
		AND p.prorettype OPERATOR(pg_catalog.<>) 'pg_catalog.trigger'::pg_catalog.regtype
		-- the owner's: what creates, attaches, schedules and grants
		AND p.proname OPERATOR(pg_catalog.<>) ALL ('{prebuild_create_control_plane,prebuild_grant,
			prebuild_attach,prebuild_detach,prebuild_rebuild,prebuild_schedule,
			prebuild_unschedule}'::pg_catalog.name[])
	LOOP
		EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', granted, role);
	END LOOP;
	-- views show what functions return, and no table
	FOR granted_view IN
		SELECT c.oid
		FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
		JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
		WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
		AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
		AND d.deptype OPERATOR(pg_catalog.=) 'e'
		AND c.relkind OPERATOR(pg_catalog.=) 'v'
	LOOP
		EXECUTE pg_catalog.format('GRANT SELECT ON %s TO %s', granted_view, role);
	END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_grant(regrole) IS
'Give a role EXECUTE on the functions that an app server calls, and SELECT on the views';
REVOKE ALL ON FUNCTION @extschema@.prebuild_grant(regrole) FROM PUBLIC;

