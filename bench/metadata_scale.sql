-- Read by bench/metadata_scale.sh after fleet.sql: agents with ten stored keys each, the check that no
-- report is lost, and passes that take ten seconds.

-- as in bench/load/metadata.c
CREATE FUNCTION bench.agent(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN (lpad(to_hex(n * 2654435761 % 4294967296), 8, '0') || '-0000-0000-0000-0000' || lpad(to_hex(n), 8, '0'))::uuid;

-- Store n agents with their keys, and nothing else.
CREATE PROCEDURE bench.store(n int) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	TRUNCATE public.workspace_agent_metadata, public.workspace_agents;
	INSERT INTO public.workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		architecture, operating_system)
	SELECT bench.agent(i), now(), now(), 'main', gen_random_uuid(), gen_random_uuid(), 'amd64', 'linux'
	FROM generate_series(0, n - 1) i;
	INSERT INTO public.workspace_agent_metadata (workspace_agent_id, display_name, key, script, timeout,
		interval, value, collected_at)
	SELECT bench.agent(i), 'Key ' || k, 'key_' || k, 'echo', 0, 10, 'value ' || k, now()
	FROM generate_series(0, n - 1) i, generate_series(1, 10) k;
END
$$;

-- How many of the keys of n agents have another value than that of the last report.
CREATE FUNCTION bench.lost(n int, way text, round int) RETURNS bigint LANGUAGE sql
RETURN (SELECT count(*) FROM generate_series(0, n - 1) i CROSS JOIN generate_series(1, 10) k
	LEFT JOIN public.workspace_agent_metadata m
		ON m.workspace_agent_id = bench.agent(i) AND m.key = 'key_' || k
	WHERE m.value IS DISTINCT FROM format('%s:%s:key_%s', way, round, k));

-- Each pass finds something to create, and takes ten seconds to create it.
UPDATE public.template_version_presets SET desired_instances = 1000;
ALTER SYSTEM SET prebuild.max_creates_per_pass = 1;
CREATE FUNCTION bench.slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(10);
	RETURN NULL;
END
$$;
CREATE TRIGGER slow AFTER INSERT ON public.workspaces FOR EACH STATEMENT EXECUTE FUNCTION bench.slow();
