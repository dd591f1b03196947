---- passes driven by pg_cron -------------------------------------------------

-- The job's name contains the database, because all databases share one list of pg_cron's jobs.

CREATE FUNCTION @extschema@.prebuild_schedule(cron text DEFAULT '* * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	database text := pg_catalog.current_database();
	job text := 'prebuild_reconcile@' OPERATOR(pg_catalog.||) database;
	command text;
	job_id bigint;
	last_run record;
BEGIN
	IF cron IS NULL THEN
		RAISE EXCEPTION 'argument "cron" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT pg_catalog.format('SELECT %I.prebuild_reconcile(pg_catalog.now())', n.nspname) INTO STRICT command
	FROM pg_catalog.pg_extension e
	JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext';

	-- look for the extension, because anybody may have made a schema named cron
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
			WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron') THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', database
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = pg_catalog.format(
					'pg_cron lives in one database (cron.database_name, here %s). Run there:'
					' SELECT cron.schedule_in_database(%L, %L, %L, %L, %L);',
					coalesce(pg_catalog.current_setting('cron.database_name', true), 'not set'),
					job, cron, command, database, CURRENT_USER);
	END IF;
	BEGIN
		EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO STRICT job_id USING job, cron, command;
	EXCEPTION WHEN invalid_parameter_value THEN
		-- pg_cron releases that support seconds accept 1 to 59 of them
		IF cron OPERATOR(pg_catalog.!~*) '^\s*([1-9]|[1-5][0-9])\s+seconds?\s*$' THEN
			RAISE;
		END IF;
		RAISE EXCEPTION 'pg_cron % has no schedules in seconds: "%"', (SELECT e.extversion
				FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron'), cron
			USING ERRCODE = 'feature_not_supported',
				HINT = 'Upgrade pg_cron to 1.5 or later, or have the extension''s worker run the passes'
					' (prebuild.reconcile_interval).';
	END;

	-- Even if pg_cron cannot connect, scheduling succeeds, but then no run ever starts.
	IF NOT coalesce(pg_catalog.has_table_privilege(
			pg_catalog.to_regclass('cron.job_run_details'), 'SELECT'), false) THEN
		RETURN job_id;
	END IF;
	EXECUTE 'SELECT d.status, d.return_message, d.start_time FROM cron.job_run_details d'
		' WHERE d.jobid OPERATOR(pg_catalog.=) $1'
		' AND d.status OPERATOR(pg_catalog.=) ANY (''{succeeded,failed}''::text[])'
		' ORDER BY d.runid DESC LIMIT 1'
	INTO last_run USING job_id;
	IF last_run.status OPERATOR(pg_catalog.=) 'failed' THEN
		RAISE WARNING 'the last run of pg_cron''s job "%" failed: %', job,
			coalesce(pg_catalog.rtrim(last_run.return_message, E' \r\n'), 'pg_cron does not say why')
			USING HINT = CASE
				WHEN last_run.return_message OPERATOR(pg_catalog.~~) 'connection failed%' THEN pg_catalog.format(
					'pg_cron connects to host "%s" as role "%s", without asking for a password. Set'
					' cron.use_background_workers = on and restart the server, or let the role in by a'
					' line in the .pgpass file of the server''s user.',
					coalesce(pg_catalog.current_setting('cron.host', true), 'localhost'), CURRENT_USER)
				WHEN last_run.return_message OPERATOR(pg_catalog.~~) '%slots%' THEN
					'pg_cron found no free slot for a background worker: raise max_worker_processes and'
					' restart the server.'
				ELSE 'The table cron.job_run_details has all runs. Call the function again after the'
					' next one.' END;
	END IF;
	RETURN job_id;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_schedule(text) IS
'Register prebuild_reconcile() with pg_cron, or change its schedule; warns when the job''s last run failed; returns the job''s id';
REVOKE ALL ON FUNCTION @extschema@.prebuild_schedule(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.prebuild_unschedule() RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	database text := pg_catalog.current_database();
	job text := 'prebuild_reconcile@' OPERATOR(pg_catalog.||) database;
	found_id bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
			WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron') THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', database
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = pg_catalog.format(
					'pg_cron lives in one database (cron.database_name, here %s). Run there:'
					' SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = %L;',
					coalesce(pg_catalog.current_setting('cron.database_name', true), 'not set'), job);
	END IF;
	EXECUTE 'SELECT j.jobid FROM cron.job j WHERE j.jobname OPERATOR(pg_catalog.=) $1'
		' AND j.username OPERATOR(pg_catalog.=) CURRENT_USER'
	INTO found_id USING job;
	IF found_id IS NOT NULL THEN
		EXECUTE 'SELECT cron.unschedule($1)' USING found_id;
	END IF;
	RETURN found_id IS NOT NULL;
END
$$;

COMMENT ON FUNCTION @extschema@.prebuild_unschedule() IS
'Remove the job of prebuild_schedule() from pg_cron; returns false if there is none';
REVOKE ALL ON FUNCTION @extschema@.prebuild_unschedule() FROM PUBLIC;

