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
