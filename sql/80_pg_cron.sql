---- passes driven by pg_cron -------------------------------------------------

-- The job's name, which carries the database, as all databases share pg_cron's one list.
CREATE FUNCTION @extschema@.prebuild_cron_job() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'prebuild_reconcile@' OPERATOR(pg_catalog.||) pg_catalog.current_database();
END;

COMMENT ON FUNCTION @extschema@.prebuild_cron_job() IS
'Name of the pg_cron job that runs the passes of this database';
REVOKE ALL ON FUNCTION @extschema@.prebuild_cron_job() FROM PUBLIC;

-- Raise the error for a database in which pg_cron is not: it says what to run where it is.
CREATE FUNCTION @extschema@.prebuild_cron_elsewhere(call text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'pg_cron is not installed in database "%"', pg_catalog.current_database()
		USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = pg_catalog.format('pg_cron lives in one database (%s): run there SELECT %s;',
				coalesce('"' OPERATOR(pg_catalog.||)
					pg_catalog.current_setting('cron.database_name', true)
					OPERATOR(pg_catalog.||) '"', 'the one that cron.database_name names'), call);
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_cron_elsewhere(text) IS
'Raise the error of prebuild_schedule() and prebuild_unschedule() where pg_cron is elsewhere';
REVOKE ALL ON FUNCTION @extschema@.prebuild_cron_elsewhere(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_schedule(cron text DEFAULT '* * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own_schema name;
	job text;
	command text;
	job_id bigint;
BEGIN
	SELECT n.nspname INTO STRICT own_schema
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext';
	IF cron IS NULL THEN
		RAISE EXCEPTION 'argument "cron" must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	EXECUTE pg_catalog.format('SELECT %I.prebuild_cron_job()', own_schema) INTO STRICT job;
	command := pg_catalog.format('SELECT %I.prebuild_reconcile()', own_schema);

	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
			WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron') THEN
		EXECUTE pg_catalog.format('SELECT %I.prebuild_cron_elsewhere($1)', own_schema)
		USING pg_catalog.format('cron.schedule_in_database(%L, %L, %L, %L)', job, cron, command,
			pg_catalog.current_database());
	END IF;
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO STRICT job_id USING job, cron, command;
	RETURN job_id;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_schedule(text) IS
'Register prebuild_reconcile() with pg_cron, or change its schedule; returns the job''s id';
REVOKE ALL ON FUNCTION @extschema@.prebuild_schedule(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_unschedule() RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own_schema name;
	job text;
	found_id bigint;
BEGIN
	SELECT n.nspname INTO STRICT own_schema
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext';
	EXECUTE pg_catalog.format('SELECT %I.prebuild_cron_job()', own_schema) INTO STRICT job;

	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
			WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron') THEN
		EXECUTE pg_catalog.format('SELECT %I.prebuild_cron_elsewhere($1)', own_schema)
		USING pg_catalog.format('cron.unschedule(%L)', job);
	END IF;
	EXECUTE 'SELECT j.jobid FROM cron.job j'
		' WHERE j.jobname OPERATOR(pg_catalog.=) $1 AND j.username OPERATOR(pg_catalog.=) CURRENT_USER'
	INTO found_id USING job;
	IF found_id IS NULL THEN
		RETURN false;
	END IF;
	EXECUTE 'SELECT cron.unschedule($1)' USING found_id;
	RETURN true;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_unschedule() IS
'Take the job of prebuild_schedule() away from pg_cron; false when there is none';
REVOKE ALL ON FUNCTION @extschema@.prebuild_unschedule() FROM PUBLIC;

