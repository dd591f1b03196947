-- Passes with presets in mode auto. Loaded into the fleet of bench/sizing.sh.

SET search_path = bench, public;

-- Run passes until each of the 400 presets has its choice.
CREATE PROCEDURE bench.choose() LANGUAGE plpgsql AS $$
BEGIN
    FOR pass IN 1 .. 1000 LOOP
        PERFORM prebuild_reconcile();
        COMMIT;
        IF (SELECT count(*) FROM prebuild_policy_choice) = 400 THEN
            RETURN;
        END IF;
    END LOOP;
    RAISE 'only % presets have a choice', (SELECT count(*) FROM prebuild_policy_choice);
END
$$;

-- Milliseconds of processor time that this session has taken.
CREATE FUNCTION bench.processor_time() RETURNS float8 LANGUAGE sql VOLATILE AS
$$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e6 $$;

-- Milliseconds of idle passes in mode auto and in mode off, in turns; the choices stay. No pass may do
-- anything, nor choose anew.
CREATE TABLE bench.auto_passes (auto float8, off float8);
CREATE PROCEDURE bench.auto_passes(turns int) LANGUAGE plpgsql AS $$
DECLARE
    began float8;
    took float8[] := '{0, 0}';
    pass record;
    chosen CONSTANT timestamptz := (SELECT max(chosen_at) FROM prebuild_policy_choice);
BEGIN
    FOR turn IN 1 .. turns LOOP
        FOR variant IN 1 .. 2 LOOP
            UPDATE prebuild_policy SET mode = CASE variant WHEN 1 THEN 'auto' ELSE 'off' END;
            COMMIT;
            PERFORM prebuild_reconcile();
            COMMIT;
            IF EXISTS (SELECT FROM prebuild_state() WHERE desired_source = 'policy') <> (variant = 1) THEN
                RAISE 'policies do not act in mode auto alone';
            END IF;
            began := bench.processor_time();
            FOR i IN 1 .. 20 LOOP
                SELECT * INTO pass FROM prebuild_reconcile();
                IF pass.created + pass.deleted + pass.failed > 0 THEN
                    RAISE 'not idle: %', pass;
                END IF;
                COMMIT;
            END LOOP;
            took[variant] := (bench.processor_time() - began) / 20;
        END LOOP;
        INSERT INTO bench.auto_passes VALUES (took[1], took[2]);
        COMMIT;
    END LOOP;
    IF (SELECT max(chosen_at) FROM prebuild_policy_choice) <> chosen THEN
        RAISE 'a pass chose anew';
    END IF;
END
$$;
