-- The measurements; loaded into each database of the benchmark.

SET search_path = bench, public;

-- What one would write by hand for the rows of prebuild_running(): the best of several shapes.
CREATE FUNCTION bench.handwritten() RETURNS text LANGUAGE sql IMMUTABLE AS $function$
SELECT $$
    SELECT w.id, w.name::text AS name, w.template_id, b.template_version_id,
           coalesce(b.template_version_preset_id,
                    (SELECT e.template_version_preset_id
                     FROM workspace_builds e
                     WHERE e.workspace_id = w.id AND e.transition = 'start'
                           AND e.template_version_preset_id IS NOT NULL
                     ORDER BY e.build_number DESC LIMIT 1)) AS current_preset_id,
           coalesce((SELECT bool_and(a.lifecycle_state = 'ready')
                     FROM workspace_resources r JOIN workspace_agents a ON a.resource_id = r.id
                     WHERE r.job_id = b.job_id AND NOT a.deleted AND a.parent_id IS NULL),
                    false) AS ready,
           w.created_at
    FROM workspaces w
         CROSS JOIN LATERAL (SELECT * FROM workspace_builds l
                             WHERE l.workspace_id = w.id
                             ORDER BY l.build_number DESC LIMIT 1) b
         JOIN provisioner_jobs j ON j.id = b.job_id
    WHERE w.owner_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0' AND NOT w.deleted
          AND b.transition = 'start' AND j.job_status = 'succeeded'
    ORDER BY w.id
$$
$function$;

-- Milliseconds that the server takes to execute a query, every column of it, without planning.
CREATE FUNCTION bench.milliseconds(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
    RETURN plan->0->>'Execution Time';
END
$$;

-- Milliseconds of a pass, and of bare bulk inserts of the same rows under other ids, both rolled
-- back. Turns give both the same caches and the same bloat.
CREATE TYPE bench.create_times AS (made int, pass float8, inserts float8);
CREATE FUNCTION bench.create_and_undo() RETURNS bench.create_times LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    result bench.create_times;
    began timestamptz;
    new_workspaces record;
    new_jobs record;
    new_builds record;
    new_parameters record;
BEGIN
    BEGIN
        began := clock_timestamp();
        SELECT created INTO result.made FROM prebuild_reconcile();
        result.pass := extract(epoch FROM clock_timestamp() - began) * 1000;
        -- use new ids for the copy, because the pass has brought the pages for its own into the caches
        CREATE TEMPORARY TABLE made ON COMMIT DROP AS
            SELECT b.*, gen_random_uuid() AS new_id, gen_random_uuid() AS new_workspace_id,
                   gen_random_uuid() AS new_job_id
            FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
            WHERE j.started_at IS NULL;
        SELECT array_agg(m.new_id) AS id, array_agg(m.created_at) AS created_at,
               array_agg(m.new_workspace_id) AS workspace_id, array_agg(m.new_job_id) AS job_id,
               array_agg(m.template_version_id) AS template_version_id,
               array_agg(m.template_version_preset_id) AS template_version_preset_id
        INTO new_builds FROM made m;
        SELECT array_agg(m.new_workspace_id) AS id, array_agg(w.created_at) AS created_at,
               array_agg(w.organization_id) AS organization_id,
               array_agg(w.template_id) AS template_id, array_agg(w.name::text) AS name
        INTO new_workspaces FROM made m JOIN workspaces w ON w.id = m.workspace_id;
        SELECT array_agg(m.new_job_id) AS id, array_agg(j.created_at) AS created_at,
               array_agg(j.organization_id) AS organization_id, array_agg(j.file_id) AS file_id,
               array_agg(j.input) AS input, array_agg(j.tags) AS tags
        INTO new_jobs FROM made m JOIN provisioner_jobs j ON j.id = m.job_id;
        SELECT array_agg(m.new_id) AS id, array_agg(p.name) AS name, array_agg(p.value) AS value
        INTO new_parameters
        FROM made m JOIN workspace_build_parameters p ON p.workspace_build_id = m.id;
        RAISE EXCEPTION USING ERRCODE = 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
        NULL;
    END;
    BEGIN
        began := clock_timestamp();
        INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id,
                                name, automatic_updates, last_used_at)
        SELECT u.id, u.at, u.at, 'c42fdf75-3097-471c-8c33-fb52454d81c0', u.organization, u.template,
               u.name, 'never', u.at
        FROM unnest(new_workspaces.id, new_workspaces.created_at, new_workspaces.organization_id,
                    new_workspaces.template_id, new_workspaces.name)
                 AS u (id, at, organization, template, name);
        INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id,
                                      provisioner, storage_method, type, input, file_id, tags)
        SELECT u.id, u.at, u.at, u.organization, 'c42fdf75-3097-471c-8c33-fb52454d81c0', 'terraform',
               'file', 'workspace_build', u.input, u.file, u.tags
        FROM unnest(new_jobs.id, new_jobs.created_at, new_jobs.organization_id, new_jobs.input,
                    new_jobs.file_id, new_jobs.tags)
                 AS u (id, at, organization, input, file, tags);
        INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
                                      build_number, transition, initiator_id, job_id, reason,
                                      template_version_preset_id)
        SELECT u.id, u.at, u.at, u.workspace, u.version, 1, 'start',
               'c42fdf75-3097-471c-8c33-fb52454d81c0', u.job, 'initiator', u.preset
        FROM unnest(new_builds.id, new_builds.created_at, new_builds.workspace_id,
                    new_builds.template_version_id, new_builds.job_id,
                    new_builds.template_version_preset_id) AS u (id, at, workspace, version, job, preset);
        INSERT INTO workspace_build_parameters (workspace_build_id, name, value)
        SELECT u.id, u.name, u.value
        FROM unnest(new_parameters.id, new_parameters.name, new_parameters.value) AS u (id, name, value);
        result.inserts := extract(epoch FROM clock_timestamp() - began) * 1000;
        RAISE EXCEPTION USING ERRCODE = 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
        NULL;
    END;
    RETURN result;
END
$$;

-- Statements of one pass that is rolled back. It does not count those of the foreign keys, which the
-- server itself runs for each row.
CREATE FUNCTION bench.statements_of_pass() RETURNS TABLE (made int, statements bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_stat_statements_reset();
    SET pg_stat_statements.track = 'all';
    BEGIN
        SELECT r.created INTO made FROM prebuild_reconcile() r;
        RAISE EXCEPTION USING ERRCODE = 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
        NULL;
    END;
    SET pg_stat_statements.track = 'none';
    SELECT sum(s.calls) INTO statements
    FROM pg_stat_statements s
    WHERE s.query NOT LIKE '%FROM ONLY%FOR KEY SHARE OF x' AND s.query !~ '^(SET|RAISE|PERFORM)';
    RETURN NEXT;
END
$$;

-- A claim as one would write it by hand: one statement over the whole pool.
SELECT format($create$
    CREATE FUNCTION bench.handwritten_claim(preset uuid, new_owner uuid, new_name text)
    RETURNS TABLE (id uuid, name text) LANGUAGE sql SET search_path = public, pg_temp AS $function$
        UPDATE workspaces w
        SET owner_id = new_owner, name = new_name, updated_at = now(), last_used_at = now(),
            autostart_schedule = NULL, next_start_at = NULL, ttl = NULL, dormant_at = NULL,
            deleting_at = NULL
        WHERE w.id = (SELECT l.id
                      FROM (%s) r JOIN workspaces l ON l.id = r.id
                           JOIN templates t ON t.id = r.template_id
                      WHERE r.current_preset_id = preset AND r.ready AND NOT t.deleted
                            AND t.active_version_id = r.template_version_id
                      ORDER BY r.created_at LIMIT 1 FOR UPDATE OF l SKIP LOCKED)
        RETURNING w.id, w.name::text
    $function$ $create$, bench.handwritten()) \gexec

-- Milliseconds of a claim that is rolled back. Arguments: the name of the function that claims, and
-- the number of a preset of an active version.
CREATE FUNCTION bench.claim_and_undo(function text, number int) RETURNS float8 LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    preset uuid := (SELECT p.id FROM template_version_presets p
                    JOIN templates t ON t.active_version_id = p.template_version_id
                    ORDER BY p.id OFFSET number % 400 LIMIT 1);
    person uuid := bench.id('user', number % 10000 + 1);
    began timestamptz;
    took float8;
    got uuid;
BEGIN
    began := clock_timestamp();
    IF function = 'prebuild_claim' THEN
        SELECT c.id INTO got FROM prebuild_claim(preset, person, 'claimed') c;
    ELSE
        SELECT c.id INTO got FROM bench.handwritten_claim(preset, person, 'claimed') c;
    END IF;
    took := extract(epoch FROM clock_timestamp() - began) * 1000;
    IF got IS NULL THEN
        RAISE 'nothing to claim of preset %', preset;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN took;
END
$$;

-- Milliseconds of a hundred people's builds, from the job to the ready agent, in the statements that
-- a control plane runs for them; rolled back.
CREATE FUNCTION bench.builds_and_undo() RETURNS float8 LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    began timestamptz := clock_timestamp();
    took float8;
    build uuid;
    job uuid;
    resource uuid;
BEGIN
    FOR n IN 1 .. 100 LOOP
        build := gen_random_uuid();
        job := gen_random_uuid();
        resource := gen_random_uuid();
        INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id,
                                      provisioner, storage_method, type, input, file_id, tags)
        VALUES (job, now(), now(), bench.id('organization', 1), bench.id('user', n), 'terraform',
                'file', 'workspace_build', '{}', bench.id('file', 1), '{"scope": "organization", "owner": ""}');
        INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
                                      build_number, transition, initiator_id, job_id)
        VALUES (build, now(), now(), bench.id('workspace', n), bench.id('version', 1, 1), 1000, 'start',
                bench.id('user', n), job);
        UPDATE provisioner_jobs SET started_at = now(), updated_at = now(), worker_id = bench.id('worker', 1)
        WHERE id = job;
        FOR beat IN 1 .. 5 LOOP
            UPDATE provisioner_jobs SET updated_at = now() WHERE id = job;
        END LOOP;
        INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
        VALUES (resource, now(), job, 'start', 'machine', 'main');
        INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
                                      architecture, operating_system)
        VALUES (gen_random_uuid(), now(), now(), 'main', resource, gen_random_uuid(), 'amd64', 'linux');
        UPDATE provisioner_jobs SET completed_at = now(), updated_at = now() WHERE id = job;
        UPDATE workspace_agents SET lifecycle_state = 'starting' WHERE resource_id = resource;
        UPDATE workspace_agents SET lifecycle_state = 'ready' WHERE resource_id = resource;
        UPDATE workspaces SET last_used_at = now() WHERE id = bench.id('workspace', n);
    END LOOP;
    took := extract(epoch FROM clock_timestamp() - began) * 1000;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN took;
END
$$;

-- Milliseconds of a hundred updates of the last use, each with its commit, with the guard of claims
-- and without. Turns expose both to the same load.
CREATE TABLE bench.guarded_updates (guarded float8, plain float8);
CREATE PROCEDURE bench.guarded_updates(turns int) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    took float8[] := '{0, 0}';
BEGIN
    FOR turn IN 1 .. turns LOOP
        FOR variant IN 1 .. 2 LOOP
            PERFORM prebuild_attach(guard_claims => variant = 1);
            COMMIT;
            began := clock_timestamp();
            FOR i IN 1 .. 100 LOOP
                UPDATE workspaces SET last_used_at = clock_timestamp()
                WHERE id = bench.id('workspace', 1 + (100 * turn + i) % 4000);
                COMMIT;
            END LOOP;
            took[variant] := extract(epoch FROM clock_timestamp() - began) * 1000;
        END LOOP;
        INSERT INTO bench.guarded_updates VALUES (took[1], took[2]);
        COMMIT;
    END LOOP;
END
$$;

-- Run this many passes, each in its own transaction.
CREATE PROCEDURE bench.passes(amount int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. amount LOOP
        PERFORM prebuild_reconcile();
        COMMIT;
    END LOOP;
END
$$;

-- Milliseconds of idle passes with the logs of demand and without, in turns. A pass keeps no logs if
-- their marker has another name.
CREATE TABLE bench.idle_passes (logging float8, not_logging float8);
CREATE PROCEDURE bench.idle_passes(turns int) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    logging float8;
BEGIN
    FOR turn IN 1 .. turns LOOP
        began := clock_timestamp();
        FOR i IN 1 .. 5 LOOP
            PERFORM prebuild_reconcile();
            COMMIT;
        END LOOP;
        logging := extract(epoch FROM clock_timestamp() - began) * 200;
        ALTER TABLE prebuild_demand_marker RENAME TO bench_marker;
        COMMIT;
        PERFORM prebuild_reconcile();
        COMMIT;
        began := clock_timestamp();
        FOR i IN 1 .. 5 LOOP
            PERFORM prebuild_reconcile();
            COMMIT;
        END LOOP;
        INSERT INTO bench.idle_passes
        VALUES (logging, extract(epoch FROM clock_timestamp() - began) * 200);
        ALTER TABLE bench_marker RENAME TO prebuild_demand_marker;
        COMMIT;
        PERFORM prebuild_reconcile();
        COMMIT;
    END LOOP;
END
$$;

-- Milliseconds of passes, one after the other.
CREATE TABLE bench.timed_passes (milliseconds float8);
CREATE PROCEDURE bench.timed_passes(passes int) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
BEGIN
    FOR pass IN 1 .. passes LOOP
        began := clock_timestamp();
        PERFORM prebuild_reconcile();
        COMMIT;
        INSERT INTO bench.timed_passes VALUES (extract(epoch FROM clock_timestamp() - began) * 1000);
        COMMIT;
    END LOOP;
END
$$;

-- What the demand log is for, written by hand as one aggregate of all builds: warm and cold demands by
-- template, preset and hour. It reads the builds and the workspaces from beginning to end.
CREATE FUNCTION bench.demands_by_hand() RETURNS text LANGUAGE sql IMMUTABLE AS $function$
SELECT $$
    SELECT w.template_id, p.name, date_trunc('hour', CASE WHEN f.by_system THEN o.created_at ELSE f.created_at END) AS hour,
           count(*) FILTER (WHERE f.by_system) AS warm, count(*) FILTER (WHERE NOT f.by_system) AS cold
    FROM (SELECT b.*, b.initiator_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0' AS by_system
          FROM workspace_builds b WHERE b.build_number = 1) f
         JOIN template_version_presets p ON p.id = f.template_version_preset_id
         JOIN workspaces w ON w.id = f.workspace_id
         LEFT JOIN LATERAL (SELECT b.created_at FROM workspace_builds b
                            WHERE f.by_system AND w.owner_id <> 'c42fdf75-3097-471c-8c33-fb52454d81c0'
                                  AND b.workspace_id = w.id
                                  AND b.initiator_id <> 'c42fdf75-3097-471c-8c33-fb52454d81c0'
                            ORDER BY b.build_number LIMIT 1) o ON true
    WHERE CASE WHEN f.by_system THEN o.created_at IS NOT NULL ELSE f.transition = 'start' END
    GROUP BY 1, 2, 3
$$
$function$;

-- Milliseconds of processor time of this session so far.
CREATE FUNCTION bench.processor_time() RETURNS float8 LANGUAGE sql VOLATILE AS $$
SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e6
$$;

-- In turns: passes from the first one until all builds are in the logs, as many idle ones after that, and the
-- query by hand some times. Milliseconds by the clock and of processor time; those of the query are of one run.
CREATE TABLE bench.first_passes (passes int, first float8, idle float8, by_hand float8, first_processor float8,
                                 idle_processor float8, by_hand_processor float8, longest float8);
CREATE PROCEDURE bench.first_passes(turns int) LANGUAGE plpgsql AS $$
DECLARE
    queries CONSTANT int := 5;
    began timestamptz[];
    used float8[];
    pass timestamptz;
    longest float8;
    passes int;
BEGIN
    -- the server plans a session's statements anew for their first five calls
    CALL bench.passes(10);
    FOR turn IN 1 .. turns LOOP
        TRUNCATE prebuild_demand_log, prebuild_lead_time_log, prebuild_demand_marker;
        COMMIT;
        passes := 0;
        longest := 0;
        began[1] := clock_timestamp();
        used[1] := bench.processor_time();
        LOOP
            pass := clock_timestamp();
            PERFORM prebuild_reconcile();
            COMMIT;
            longest := greatest(longest, extract(epoch FROM clock_timestamp() - pass) * 1000);
            passes := passes + 1;
            EXIT WHEN (SELECT done_from IS NOT NULL FROM prebuild_demand_marker);
        END LOOP;
        began[2] := clock_timestamp();
        used[2] := bench.processor_time();
        FOR i IN 1 .. passes LOOP
            PERFORM prebuild_reconcile();
            COMMIT;
        END LOOP;
        began[3] := clock_timestamp();
        used[3] := bench.processor_time();
        FOR i IN 1 .. queries LOOP
            PERFORM bench.milliseconds(bench.demands_by_hand());
        END LOOP;
        began[4] := clock_timestamp();
        used[4] := bench.processor_time();
        INSERT INTO bench.first_passes
        SELECT passes, t.took[1], t.took[2], t.took[3] / queries, used[2] - used[1], used[3] - used[2],
               (used[4] - used[3]) / queries, longest
        FROM (SELECT array_agg(extract(epoch FROM began[i + 1] - began[i]) * 1000 ORDER BY i) AS took
              FROM generate_series(1, 3) i) t;
        COMMIT;
    END LOOP;
END
$$;
