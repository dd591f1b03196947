-- For the tests of upgrades: calls every function of the extension, whatever its version, with
-- plausible arguments, keeps the answers and undoes the effects. Needs the schema "fixture".
CREATE SCHEMA mixed;

-- Data for the answers: presets of every kind, one with schedules, one that cannot be built,
-- prebuilds that run, one that was given away, metadata of agents, and a version
-- that can be staged.
CREATE FUNCTION mixed.fleet() RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	PERFORM fixture.usr('ada');
	PERFORM fixture.simple('one', 2, preset_name => 'small');
	PERFORM fixture.preset('one-v1', 'large', 3);
	PERFORM fixture.preset_value('small', 'region', 'eu');
	PERFORM fixture.parameter('one-v1', 'region', 'us');
	PERFORM fixture.preset('one-v1', 'planned', 2, timezone => 'UTC');
	PERFORM fixture.schedule('planned', '* 9-18 * * 1-5', 2);
	PERFORM fixture.simple('two', 1, preset_name => 'impossible');
	PERFORM fixture.parameter('two-v1', 'size', required => true);
	PERFORM fixture.version('two', 'next', active => false);
	PERFORM fixture.preset('next', 'next', 1);
END
$$;
-- Then, when the prebuilds are there: a claim, and its build.
CREATE FUNCTION mixed.claim() RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
	preset template_version_presets;
	workspace uuid;
	job uuid := gen_random_uuid();
	build uuid := gen_random_uuid();
BEGIN
	SELECT * INTO preset FROM template_version_presets WHERE name = 'large';
	SELECT c.id INTO STRICT workspace FROM prebuild_claim(preset.id, (SELECT id FROM users WHERE username = 'ada'), 'mine') c;
	INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id, initiator_id,
		provisioner, storage_method, type, input, file_id, tags, worker_id)
	SELECT job, now(), now(), now(), now(), t.organization_id, u.id, 'terraform', 'file', 'workspace_build', '{}',
		gen_random_uuid(), '{}', gen_random_uuid() FROM templates t, users u WHERE t.name = 'one' AND u.username = 'ada';
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number, transition,
		initiator_id, job_id)
	SELECT build, now(), now(), workspace, preset.template_version_id, 2, 'start', u.id, job FROM users u
	WHERE u.username = 'ada';
	PERFORM prebuild_track_resource_replacement(workspace, build, '{"disk": ["size"]}');
	INSERT INTO workspace_agent_metadata (workspace_agent_id, display_name, key, script, timeout, "interval")
	SELECT id, 'CPU', 'cpu', '', 1, 1 FROM workspace_agents;
END
$$;

-- Pools with all that health looks at: a probe that became ready, rests of failures, a delete build that failed, agents that
-- are broken, hang or are gone.
CREATE FUNCTION mixed.ill() RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	PERFORM fixture.simple('probed', 1), fixture.simple('ill', 3), fixture.simple('left', 0);
	PERFORM fixture.prebuild('probed', 'probed-' || n, status => 'failed', created => now() - interval '1 day' + n * interval '1 minute')
	FROM generate_series(1, 3) n;
	PERFORM fixture.prebuild('probed', 'probe', created => now() - interval '1 hour');
	UPDATE template_version_presets SET prebuild_status = 'hard_limited' WHERE name = 'probed';
	PERFORM fixture.prebuild('ill', 'ill-' || n, created => now() - interval '2 days') FROM generate_series(1, 3) n;
	UPDATE workspace_agents a SET lifecycle_state = x.state::workspace_agent_lifecycle_state, first_connected_at = now() - interval '2 days',
		last_connected_at = now() - interval '1 day'
	FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id JOIN workspaces w ON w.id = b.workspace_id
	JOIN (VALUES ('ill-1', 'start_error'), ('ill-2', 'starting'), ('ill-3', 'ready')) x (name, state) ON x.name = w.name WHERE a.resource_id = r.id;
	PERFORM fixture.prebuild('left', 'undeleted', created => now() - interval '2 days');
	PERFORM fixture.build('undeleted', 'delete', 'failed', created => now() - interval '1 day');
END
$$;

-- Values for arguments, by their names; an argument of another name gets one of its type.
CREATE FUNCTION mixed.value(name text, type text) RETURNS text LANGUAGE sql SET search_path = public AS $$
	SELECT coalesce((SELECT format('%L::%s', v.value, type) FROM (
		SELECT 'preset_id', id::text FROM template_version_presets WHERE template_version_presets.name = 'small'
		UNION ALL SELECT 'new_owner_id', id::text FROM users WHERE username = 'ada'
		UNION ALL SELECT 'template_id', id::text FROM templates WHERE templates.name = 'one'
		UNION ALL SELECT 'template_version_id', active_version_id::text FROM templates WHERE templates.name = 'one'
		UNION ALL SELECT 'workspace_id', id::text FROM workspaces WHERE workspaces.name = 'mine'
		UNION ALL SELECT 'build_id', b.id::text FROM workspace_builds b JOIN workspaces w ON w.id = b.workspace_id
			WHERE w.name = 'mine' AND b.build_number = 2
		UNION ALL SELECT x, y FROM (SELECT workspace_agent_id AS id FROM workspace_agent_metadata ORDER BY 1 LIMIT 1) a,
			LATERAL (VALUES ('agent_id', id::text), ('agent_ids', format('{%s}', id))) z (x, y)
		UNION ALL VALUES ('new_name', 'claimed'), ('autostart_schedule', ''), ('next_start_at', '2030-06-04 00:00Z'),
			('ttl', '28800000000000'), ('at', '2030-06-03 12:00Z'), ('parameter_names', '{region}'), ('parameter_values', '{eu}'),
			('replacements', '{"net": ["name"]}'), ('keys', '{cpu}'), ('metadata_values', '{1}'), ('metadata_errors', '{""}'),
			('collected_at', '{2030-06-03 12:00Z}'), ('timezone', 'UTC'), ('range_start', '2030-06-03 00:00Z'),
			('range_end', '2030-06-10 00:00Z'), ('part', 'pool'), ('role', 'postgres'),
			('cron', CASE type WHEN 'text' THEN '* 9-18 * * 1-5' ELSE '{* 9-18 * * 1-5}' END),
			('encoded', repeat('A', 22)), ('preset_name', 'small'), ('mode', 'off'), ('service_level', '0.9'), ('policy', 'configured')) v (name, value) WHERE v.name = value.name LIMIT 1),
		CASE type WHEN 'uuid' THEN 'gen_random_uuid()' WHEN 'boolean' THEN 'true' WHEN 'jsonb' THEN '''{}''::jsonb'
			WHEN 'interval' THEN '''1 hour''::interval' WHEN 'timestamp with time zone' THEN '''2030-06-03 12:00Z''::timestamptz'
			ELSE CASE WHEN type ~ '\[\]$' THEN format('''{}''::%s', type) ELSE format('''1''::%s', type) END END)
$$;

-- The functions, and the views, as statements of which each gives one value.
CREATE FUNCTION mixed.statements() RETURNS TABLE (name text, statement text) LANGUAGE sql AS $$
	SELECT p.proname, format('%sSELECT jsonb_agg(to_jsonb(f) ORDER BY f::text) FROM %s(%s) f',
		-- what is staged
		CASE WHEN p.proname IN ('prebuild_promote', 'prebuild_unstage')
			THEN 'SELECT public.prebuild_stage(fixture.v(''next''), force => true); ' END, p.oid::regproc,
		(SELECT string_agg(format('%I => %s', p.proargnames[a.i],
			CASE WHEN p.proname IN ('prebuild_stage', 'prebuild_promote', 'prebuild_unstage')
				AND p.proargnames[a.i] = 'template_version_id' THEN 'fixture.v(''next'')'
			ELSE mixed.value(p.proargnames[a.i], format_type(a.type, NULL)) END), ', ')
		FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a (type, i)))
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'prebuild_ext' AND p.prorettype <> 'trigger'::regtype
	UNION ALL SELECT c.relname, format('SELECT jsonb_agg(to_jsonb(f) ORDER BY f::text) FROM %s f', c.oid::regclass)
	FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'prebuild_ext' AND c.relkind = 'v'
$$;

-- What a statement gives; what it does is undone.
CREATE TYPE mixed.answer AS (name text, answer jsonb, state text, message text, hint text);
CREATE FUNCTION mixed.answer(name text, statement text) RETURNS mixed.answer LANGUAGE plpgsql AS $$
DECLARE
	got mixed.answer;
BEGIN
	got.name := name;
	BEGIN
		EXECUTE statement INTO got.answer;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	WHEN OTHERS THEN
		got.state := SQLSTATE;
		GET STACKED DIAGNOSTICS got.message = MESSAGE_TEXT, got.hint = PG_EXCEPTION_HINT;
	END;
	RETURN got;
END
$$;
CREATE TABLE mixed.answers (phase text, LIKE mixed.answer);

-- Ask everything and keep the answers under a name.
CREATE FUNCTION mixed.ask(phase text) RETURNS bigint LANGUAGE sql AS $$
	WITH asked AS (INSERT INTO mixed.answers SELECT phase, (mixed.answer(s.name, s.statement)).* FROM mixed.statements() s RETURNING 1)
	SELECT count(*) FROM asked
$$;

-- An answer without fields that differ in every call, and without texts that releases may reword.
CREATE FUNCTION mixed.lasting(answer jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_agg(CASE jsonb_typeof(f) WHEN 'object' THEN f - '{elapsed,reason}'::text[] ELSE f END), '[]')
	FROM jsonb_array_elements(answer) f
$$;
-- Rows of the answer have no other columns than those of the other answer.
CREATE FUNCTION mixed.reduced(answer jsonb, other jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_agg(CASE jsonb_typeof(f) WHEN 'object' THEN
		(SELECT jsonb_object_agg(c.key, c.value) FROM jsonb_each(f) c WHERE other -> 0 ? c.key) ELSE f END), '[]')
	FROM jsonb_array_elements(answer) f
$$;

-- What is wrong with the answers of a phase beside those of another one: neither the same (where the answer lasts,
-- in the columns that both have) nor an error that is named.
CREATE FUNCTION mixed.wrong(wanted text, phase text, errors boolean) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s: %s: %s, %s: %s', n.name, wanted, coalesce(o.state, mixed.lasting(o.answer)::text), n.phase,
		coalesce(n.state || concat(' ', n.message, ' (', n.hint, ')'), mixed.lasting(n.answer)::text))
	FROM mixed.answers n LEFT JOIN mixed.answers o ON o.phase = wanted AND o.name = n.name
	WHERE n.phase = wrong.phase AND CASE
		WHEN n.state IS NOT NULL AND n.state IS NOT DISTINCT FROM o.state THEN false
		-- the library of 0.1 has no better word for members of another kind
		WHEN n.state = '42846' AND n.message LIKE '%prebuild_pool_member%' THEN NOT errors
		WHEN n.state IS NOT NULL THEN NOT errors OR n.state !~ '^(42883|55000|42P01|42703|42704)$' OR o.state IS NOT NULL
		WHEN o.state IS NOT NULL THEN true
		WHEN o.name IS NULL OR n.name !~ '_(running|pool|state|plan|find_preset|build_inputs|desired_instances|forecast|matches|check|claim|identity|verify|encode|decode|report|upsert|reconcile|system_user)$'
		THEN false
		ELSE mixed.reduced(mixed.lasting(n.answer), mixed.lasting(o.answer))
			IS DISTINCT FROM mixed.reduced(mixed.lasting(o.answer), mixed.lasting(n.answer)) END
$$;

-- Writes of every kind to tables with triggers. An application's writes must not fail because of these.
CREATE FUNCTION mixed.write() RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	UPDATE workspaces SET name = name || '.', owner_id = owner_id, deleted = deleted;
	UPDATE workspaces SET name = rtrim(name, '.');
	UPDATE users SET username = username;
	UPDATE templates SET name = name, active_version_id = active_version_id;
	UPDATE provisioner_jobs SET completed_at = completed_at, started_at = started_at, updated_at = updated_at;
	UPDATE workspace_builds SET job_id = job_id, build_number = build_number;
	UPDATE workspace_resources SET job_id = job_id;
	UPDATE workspace_agents SET lifecycle_state = lifecycle_state, deleted = deleted, name = name;
	UPDATE template_version_presets SET desired_instances = desired_instances;
	UPDATE workspace_agent_metadata SET value = value || '.', collected_at = now();
	BEGIN
		DELETE FROM workspace_agent_metadata;
		DELETE FROM template_version_preset_prebuild_schedules;
		TRUNCATE workspaces, workspace_builds, provisioner_jobs, workspace_resources, workspace_agents CASCADE;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	END;
END
$$;
