-- Read by the SQL tests of reports as bytes, in each of their databases, after control_plane().

-- Agent number n.
CREATE FUNCTION a(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

-- An agent without the resource that it would belong to, which nothing here asks for.
CREATE FUNCTION new_agent(n int) RETURNS void LANGUAGE sql AS $$
	SET LOCAL session_replication_role = replica;
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		architecture, operating_system)
	VALUES (a(n), t0(), t0(), 'agent', gen_random_uuid(), gen_random_uuid(), 'amd64', 'linux');
	SET LOCAL session_replication_role = origin;
$$;

-- What is stored for agent n: key, length in bytes and last bytes of the value, error.
CREATE FUNCTION shown(n int) RETURNS TABLE (key text, bytes int, ending text, error text) LANGUAGE sql AS $$
	SELECT convert_from(m.k, 'SQL_ASCII'), length(m.v), encode(substr(m.v, length(m.v) - 3), 'hex'), m.error
	FROM (SELECT convert_to(key, getdatabaseencoding()) AS k, convert_to(value, getdatabaseencoding()) AS v, x.error
		FROM workspace_agent_metadata x WHERE workspace_agent_id = a(n)) m
	ORDER BY m.k
$$;
