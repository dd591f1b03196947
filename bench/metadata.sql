-- Read by bench/metadata.sh: 10,000 agents with 15 stored keys each, and what is measured on them.

CREATE SCHEMA bench;

SET session_replication_role = replica;
INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
	architecture, operating_system)
SELECT md5('agent' || n)::uuid, now(), now(), 'main', gen_random_uuid(), gen_random_uuid(), 'amd64',
	'linux'
FROM generate_series(1, 10000) n;
INSERT INTO workspace_agent_metadata (workspace_agent_id, display_name, key, script, timeout,
	interval, value, collected_at)
SELECT md5('agent' || n)::uuid, 'Key ' || k, 'key_' || k, 'echo', 0, 10, 'value ' || k, now()
FROM generate_series(1, 10000) n, generate_series(1, 15) k;
SET session_replication_role = origin;
VACUUM ANALYZE;

-- A batch of 500 entries: all keys of 33 agents and some of another.
CREATE FUNCTION bench.batch(OUT ids uuid[], OUT keys text[], OUT vals text[], OUT errors text[],
	OUT times timestamptz[])
LANGUAGE sql AS $$
	SELECT array_agg(id), array_agg(key), array_agg('value ' || random()), array_agg(''::text),
		array_agg(clock_timestamp())
	FROM (SELECT md5('agent' || (1 + (first + n * 37) % 10000))::uuid AS id, 'key_' || k AS key
		FROM (SELECT (random() * 9999)::int AS first OFFSET 0) f, generate_series(0, 33) n,
			generate_series(1, 15) k
		LIMIT 500) x
$$;

-- Milliseconds, commit included, of batches through the function and of the bare update under its
-- best plan, one after the other.
CREATE PROCEDURE bench.batches(rounds int) LANGUAGE plpgsql AS $$
DECLARE
	b record;
	started timestamptz;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS elapsed (ours float8, bare float8);
	TRUNCATE elapsed;
	-- a plan for bound arrays: a probe of the index for each row
	SET plan_cache_mode = force_generic_plan;
	SET enable_seqscan = off;
	SET enable_hashjoin = off;
	FOR i IN 1 .. rounds LOOP
		SELECT * INTO b FROM bench.batch();
		COMMIT;
		started := clock_timestamp();
		PERFORM prebuild_agent_metadata_upsert(b.ids, b.keys, b.vals, b.errors, b.times);
		COMMIT;
		INSERT INTO elapsed (ours) VALUES (extract(epoch FROM clock_timestamp() - started) * 1000);

		SELECT * INTO b FROM bench.batch();
		COMMIT;
		started := clock_timestamp();
		UPDATE workspace_agent_metadata m
		SET value = d.value, error = d.error, collected_at = d.collected_at
		FROM unnest(b.ids, b.keys, b.vals, b.errors, b.times) AS d (id, key, value, error, collected_at)
		WHERE m.workspace_agent_id = d.id AND m.key = d.key;
		COMMIT;
		INSERT INTO elapsed (bare) VALUES (extract(epoch FROM clock_timestamp() - started) * 1000);
		COMMIT;
	END LOOP;
	RESET plan_cache_mode;
	RESET enable_seqscan;
	RESET enable_hashjoin;
END
$$;

-- A call that does nothing with the arguments of a report.
CREATE FUNCTION bench.nothing(agent_id uuid, keys text[], vals text[])
RETURNS prebuild_agent_metadata_report_row LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;

-- Milliseconds to encode 100,000 ids by the function and by SQL.
CREATE TABLE bench.ids AS SELECT gen_random_uuid() AS id FROM generate_series(1, 100000);
CREATE FUNCTION bench.encodings(OUT sql_ms float8, OUT ours float8) LANGUAGE plpgsql AS $$
DECLARE
	ids uuid[] := ARRAY(SELECT id FROM bench.ids);
	started timestamptz := clock_timestamp();
BEGIN
	PERFORM string_agg(rtrim(encode(uuid_send(id), 'base64'), '='), '') FROM unnest(ids) AS i (id);
	sql_ms := extract(epoch FROM clock_timestamp() - started) * 1000;
	started := clock_timestamp();
	PERFORM count(*) FROM prebuild_agent_ids_encode(ids);
	ours := extract(epoch FROM clock_timestamp() - started) * 1000;
END
$$;
