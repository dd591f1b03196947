-- Read by bench/claims.sh after fleet.sql: how the pool of the preset under test is filled, what plays
-- the provisioner, and a claim as coderd makes it.

CREATE FUNCTION bench.preset() RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN bench.id('preset', 1, 5, 1);

-- Finish all jobs that wait, as provisioners do.
CREATE FUNCTION bench.finish_jobs() RETURNS bigint LANGUAGE sql SET search_path = public, pg_temp AS $$
    WITH finished AS (
        UPDATE provisioner_jobs SET started_at = clock_timestamp(), completed_at = clock_timestamp(),
            updated_at = clock_timestamp(), worker_id = bench.id('worker', 1)
        WHERE job_status = 'pending' RETURNING id
    ), built AS (
        SELECT b.workspace_id, b.job_id, b.transition, gen_random_uuid() AS resource_id
        FROM finished f JOIN workspace_builds b ON b.job_id = f.id
    ), gone AS (
        UPDATE workspaces SET deleted = true
        WHERE id IN (SELECT workspace_id FROM built WHERE transition = 'delete')
    ), resources AS (
        INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
        SELECT resource_id, clock_timestamp(), job_id, 'start', 'machine', 'main'
        FROM built WHERE transition = 'start'
    ), agents AS (
        INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
            architecture, operating_system, lifecycle_state)
        SELECT gen_random_uuid(), clock_timestamp(), clock_timestamp(), 'main', resource_id,
            gen_random_uuid(), 'amd64', 'linux', 'ready'
        FROM built WHERE transition = 'start'
    )
    SELECT count(*) FROM finished
$$;

-- Refill for as long as somebody holds the advisory lock 1.
CREATE PROCEDURE bench.provision() LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT pg_try_advisory_lock(1) LOOP
        PERFORM bench.finish_jobs();
        COMMIT;
        PERFORM pg_sleep(0.2);
    END LOOP;
END
$$;

-- How many of the preset are eligible.
CREATE FUNCTION bench.eligible() RETURNS int LANGUAGE sql
RETURN (SELECT s.eligible FROM public.prebuild_state() s WHERE s.preset_id = bench.preset());

-- Fill the pool of the preset to n and nothing else.
CREATE PROCEDURE bench.fill(n int) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.template_version_presets SET desired_instances = n WHERE id = bench.preset();
    COMMIT;
    FOR round IN 1 .. 50 LOOP
        PERFORM public.prebuild_reconcile(clock_timestamp());
        COMMIT;
        PERFORM bench.finish_jobs();
        COMMIT;
        EXIT WHEN bench.eligible() = n;
        PERFORM pg_sleep(0.2);
    END LOOP;
    IF bench.eligible() <> n THEN
        RAISE 'the pool has % instead of %', bench.eligible(), n;
    END IF;
END
$$;

-- coderd's claim, written from its description. Its view of prebuilds is made of common table
-- expressions, so its FOR UPDATE OF the view locks no row.
CREATE VIEW bench.prebuilds AS
    WITH members AS (
        SELECT w.id, w.name, w.template_id, w.created_at FROM public.workspaces w
        WHERE w.owner_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0' AND NOT w.deleted
    ), latest AS (
        SELECT m.id, b.*, j.job_status
        FROM members m
        CROSS JOIN LATERAL (SELECT l.template_version_id, l.transition, l.job_id
            FROM public.workspace_builds l
            WHERE l.workspace_id = m.id ORDER BY l.build_number DESC LIMIT 1) b
        JOIN public.provisioner_jobs j ON j.id = b.job_id
    ), agents AS (
        SELECT l.id, bool_and(a.lifecycle_state = 'ready') AS ready
        FROM latest l JOIN public.workspace_resources r ON r.job_id = l.job_id
        JOIN public.workspace_agents a ON a.resource_id = r.id
        WHERE NOT a.deleted GROUP BY l.id
    ), presets AS (
        SELECT DISTINCT ON (m.id) m.id, b.template_version_preset_id AS preset_id
        FROM members m JOIN public.workspace_builds b ON b.workspace_id = m.id
        WHERE b.template_version_preset_id IS NOT NULL ORDER BY m.id, b.build_number DESC
    )
    SELECT m.*, l.template_version_id, l.transition, l.job_status, a.ready, p.preset_id
    FROM members m JOIN latest l USING (id) LEFT JOIN agents a USING (id) LEFT JOIN presets p USING (id);
