-- What bench/health.sh adds to the fleet: heartbeats, and plans with health on and off.

SET search_path = bench, public;

UPDATE workspace_agents SET first_connected_at = now() - interval '1 hour',
    last_connected_at = now() - random() * interval '30 s', started_at = now() - interval '1 hour',
    ready_at = now() - interval '1 hour';
INSERT INTO provisioner_daemons (id, created_at, name, provisioners, tags, last_seen_at, organization_id)
SELECT bench.id('daemon', n), now(), 'daemon-' || n, '{terraform}', '{"scope": "organization", "owner": ""}',
       now(), bench.id('organization', n)
FROM generate_series(1, 10) n;

-- A heartbeat of the agent of each prebuild.
CREATE FUNCTION bench.heartbeats() RETURNS void LANGUAGE sql SET search_path = public, bench, pg_temp AS $$
    UPDATE workspace_agents SET last_connected_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE id IN (SELECT bench.id('prebuild agent', n) FROM generate_series(1, 2000) n)
$$;

-- Every setting of health, on or at its default.
CREATE FUNCTION bench.set_health(turn_on boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    setting record;
BEGIN
    FOR setting IN SELECT * FROM (VALUES ('unready_grace', '1h', '0'), ('disconnected_grace', '1h', '0'),
        ('failed_retention', '7d', '0'), ('failed_keep', '2', '1'), ('delete_retries', '3', '0'),
        ('hard_limit_retry', '1h', '0'), ('require_provisioner', 'on', 'off'), ('max_building', '50%', '0'),
        ('max_unavailable', '20%', '100%'), ('max_surge', '20%', '100%')) s (name, value, off)
    LOOP
        PERFORM set_config('prebuild.' || setting.name, CASE WHEN turn_on THEN setting.value ELSE setting.off END, false);
    END LOOP;
END
$$;

-- Milliseconds of plans with health on and off. Turns expose both to the same load.
CREATE TABLE bench.plan_times (health float8, plain float8);
CREATE PROCEDURE bench.plans(turns int) LANGUAGE plpgsql AS $$
DECLARE
    took float8[] := '{0, 0}';
BEGIN
    TRUNCATE bench.plan_times;
    FOR turn IN 1 .. turns LOOP
        FOR variant IN 1 .. 2 LOOP
            PERFORM bench.set_health(variant = 1);
            took[variant] := bench.milliseconds('SELECT * FROM prebuild_plan()');
        END LOOP;
        INSERT INTO bench.plan_times VALUES (took[1], took[2]);
    END LOOP;
END
$$;

-- Make what is stored of the heartbeats as old as if no fold had been for an hour.
CREATE FUNCTION bench.age() RETURNS void LANGUAGE sql AS $$
    UPDATE prebuild_pool_state SET seen_at = seen_at - interval '61 min'
$$;

-- Milliseconds of folds that renew all of it, and of plans that look at every agent instead.
CREATE TABLE bench.fold_times (fold float8, plan float8);
CREATE PROCEDURE bench.folds(turns int) LANGUAGE plpgsql AS $$
DECLARE
    took float8;
BEGIN
    PERFORM bench.set_health(true);
    FOR turn IN 1 .. turns LOOP
        took := bench.milliseconds('SELECT * FROM prebuild_plan()');
        INSERT INTO bench.fold_times VALUES (bench.milliseconds('SELECT prebuild_fold()'), took);
        IF (SELECT min(seen_at) < now() - interval '30 min' FROM prebuild_pool_state) THEN
            RAISE EXCEPTION 'the fold has renewed nothing';
        END IF;
        COMMIT;
        IF turn < turns THEN
            PERFORM bench.age();
        END IF;
        COMMIT;
    END LOOP;
END
$$;

-- Microseconds of a heartbeat with the trigger of an attached control plane on its row, and without it. In turns
-- of 500, within the server: no client, no commit of each.
CREATE TABLE bench.beat_times (attached float8, detached float8);
CREATE FUNCTION bench.beats_of() RETURNS float8 LANGUAGE plpgsql SET search_path = public, bench, pg_temp AS $$
DECLARE
    agents uuid[] := ARRAY(SELECT bench.id('prebuild agent', n) FROM generate_series(1, 500) n);
    began timestamptz := clock_timestamp();
BEGIN
    FOR n IN 1 .. 500 LOOP
        -- as coderd does
        UPDATE workspace_agents SET first_connected_at = first_connected_at, last_connected_at = clock_timestamp(),
            last_connected_replica_id = NULL, disconnected_at = NULL, updated_at = clock_timestamp()
        WHERE id = agents[n];
    END LOOP;
    RETURN extract(epoch FROM clock_timestamp() - began) * 1000000 / 500;
END
$$;
CREATE PROCEDURE bench.beats(turns int) LANGUAGE plpgsql AS $$
DECLARE
    attached float8;
BEGIN
    FOR turn IN 1 .. turns LOOP
        ALTER TABLE public.workspace_agents ENABLE ALWAYS TRIGGER prebuild_pool_log;
        attached := bench.beats_of();
        COMMIT;
        ALTER TABLE public.workspace_agents DISABLE TRIGGER prebuild_pool_log;
        INSERT INTO bench.beat_times VALUES (attached, bench.beats_of());
        COMMIT;
    END LOOP;
END
$$;
