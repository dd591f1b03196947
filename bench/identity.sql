-- The loops that bench/identity.sh times. :library is the built identity_empty.c.

CREATE FUNCTION bench.empty(agent_id uuid) RETURNS SETOF prebuild_agent_identity_row
AS :'library', 'empty' LANGUAGE C VOLATILE STRICT ROWS 1;
CREATE FUNCTION bench.constant(agent_id uuid, identity prebuild_agent_identity_row)
RETURNS SETOF prebuild_agent_identity_row
AS :'library', 'constant' LANGUAGE C VOLATILE STRICT ROWS 1;

CREATE TABLE bench.agents AS
SELECT array_agg(bench.id('agent', w, :builds) ORDER BY w) AS ids FROM generate_series(1, 4000) w;

-- Microseconds per round of a loop over these agents, of each kind of look-up.
CREATE FUNCTION bench.look_up(kind text, rounds int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    wanted uuid[];
    n int;
    i int;
    r record;
    identity prebuild_agent_identity_row;
BEGIN
    SELECT ids INTO wanted FROM bench.agents;
    n := array_length(wanted, 1);
    SELECT * INTO identity FROM prebuild_agent_identity(wanted[1]);
    i := 0;
    began := clock_timestamp();
    IF kind = 'empty' THEN
        WHILE i < rounds LOOP
            SELECT * INTO r FROM bench.empty(wanted[1 + i % n]);
            i := i + 1;
        END LOOP;
    ELSIF kind = 'constant' THEN
        WHILE i < rounds LOOP
            SELECT * INTO r FROM bench.constant(wanted[1 + i % n], identity);
            i := i + 1;
        END LOOP;
    ELSIF kind = 'identity' THEN
        WHILE i < rounds LOOP
            SELECT * INTO r FROM prebuild_agent_identity(wanted[1 + i % n]);
            i := i + 1;
        END LOOP;
    ELSE
        WHILE i < rounds LOOP
            SELECT a.id AS agent_id, a.name AS agent_name, w.id AS workspace_id,
                   w.name AS workspace_name, w.owner_id, u.username AS owner_username,
                   w.organization_id, w.template_id, t.name AS template_name, w.autostart_schedule
            INTO r
            FROM workspace_agents a
                 JOIN workspace_resources s ON s.id = a.resource_id
                 JOIN workspace_builds b ON b.job_id = s.job_id
                 JOIN workspaces w ON w.id = b.workspace_id
                 JOIN users u ON u.id = w.owner_id
                 JOIN templates t ON t.id = w.template_id
            WHERE a.id = wanted[1 + i % n] AND NOT a.deleted AND NOT w.deleted;
            i := i + 1;
        END LOOP;
    END IF;
    RETURN extract(epoch FROM clock_timestamp() - began) * 1000000 / rounds;
END
$$;

-- Two copies of the workspaces. One has the trigger that prebuild_attach() creates.
CREATE FUNCTION bench.copy_workspaces(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE bench.%I (LIKE workspaces INCLUDING ALL)', name);
    EXECUTE format('INSERT INTO bench.%I TABLE workspaces', name);
    EXECUTE format('ALTER TABLE bench.%I ADD FOREIGN KEY (owner_id) REFERENCES users (id),'
                   ' ADD FOREIGN KEY (organization_id) REFERENCES organizations (id),'
                   ' ADD FOREIGN KEY (template_id) REFERENCES templates (id)', name);
END
$$;
SELECT bench.copy_workspaces('watched'), bench.copy_workspaces('plain') \g /dev/null
SELECT prebuild_attach() \g /dev/null
SELECT replace(pg_get_triggerdef(oid), 'public.workspaces', 'bench.watched') AS definition
FROM pg_trigger WHERE tgrelid = 'workspaces'::regclass AND tgname = 'prebuild_identity' \gset
:definition;

-- Microseconds per update of the last use or of the name, watched and plain, each with its commit.
-- Turns of a hundred expose both to the same load.
CREATE PROCEDURE bench.update_workspaces(kind text, turns int, INOUT watched float8[] = '{}',
                                         INOUT plain float8[] = '{}') LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    n int := 0;
    wanted uuid;
BEGIN
    FOR turn IN 1 .. turns LOOP
        began := clock_timestamp();
        FOR i IN 1 .. 100 LOOP
            wanted := bench.id('workspace', 1 + (n + i) % 4000);
            IF kind = 'use' THEN
                UPDATE bench.watched SET last_used_at = clock_timestamp() WHERE id = wanted;
            ELSE
                UPDATE bench.watched SET name = 'renamed-' || turn || '-' || i WHERE id = wanted;
            END IF;
            COMMIT;
        END LOOP;
        watched := watched || (extract(epoch FROM clock_timestamp() - began) * 10000)::float8;
        began := clock_timestamp();
        FOR i IN 1 .. 100 LOOP
            wanted := bench.id('workspace', 1 + (n + i) % 4000);
            IF kind = 'use' THEN
                UPDATE bench.plain SET last_used_at = clock_timestamp() WHERE id = wanted;
            ELSE
                UPDATE bench.plain SET name = 'renamed-' || turn || '-' || i WHERE id = wanted;
            END IF;
            COMMIT;
        END LOOP;
        plain := plain || (extract(epoch FROM clock_timestamp() - began) * 10000)::float8;
        n := n + 100;
    END LOOP;
END
$$;
