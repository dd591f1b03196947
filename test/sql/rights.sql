-- Who may call what: what prebuild_grant() gives, and the rights on the control plane's tables that
-- a role needs beside it, no more and no less.
\set ECHO none
\i test/fixture/fixture.sql
CREATE TABLE fixture.own AS
SELECT p.oid, p.proname AS name FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'prebuild_ext';
CREATE ROLE rights_app;
CREATE ROLE rights_owner;
SELECT prebuild_grant('rights_app') \g /dev/null
SELECT prebuild_grant('rights_owner', owner => true) \g /dev/null

\echo who may call each function
SELECT name, CASE WHEN has_function_privilege('public', oid, 'EXECUTE') THEN 'everybody'
	WHEN has_function_privilege('rights_app', oid, 'EXECUTE') THEN 'app server'
	WHEN has_function_privilege('rights_owner', oid, 'EXECUTE') THEN 'owner' ELSE 'nobody' END
FROM fixture.own ORDER BY name;
SELECT is(string_agg(name, ', '), NULL, 'an owner may call what an app server may') FROM fixture.own
WHERE has_function_privilege('rights_app', oid, 'EXECUTE') AND NOT has_function_privilege('rights_owner', oid, 'EXECUTE');
\echo who may read each view
SELECT c.relname, has_table_privilege('rights_app', c.oid, 'SELECT'), has_table_privilege('rights_owner', c.oid, 'SELECT')
FROM pg_class c
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'prebuild_ext' AND c.relkind = 'v' ORDER BY 1;
SELECT raises('SELECT prebuild_grant(NULL)', '22004', 'argument "role"', NULL, 'no role');
SELECT raises('SELECT prebuild_grant(''-'')', '42704', 'role "-" does not exist', NULL, 'a role that is none');
SELECT raises('SELECT prebuild_grant(1::oid::regrole)', '42704', 'role "1" does not exist', NULL, 'nor one that is gone');
SELECT raises('SELECT prebuild_grant(''rights_app'', NULL)', '22004', 'argument "owner"', NULL, 'no owner');

-- an owner of a control plane who does not own the extension
GRANT USAGE ON SCHEMA fixture TO rights_app, rights_owner;
CREATE SCHEMA cp_owned AUTHORIZATION rights_owner;
SET prebuild.control_plane_schema = cp_owned;
SET ROLE rights_owner;
\echo an owner creates, attaches, rebuilds and detaches
SELECT prebuild_create_control_plane(), prebuild_attach(true, true), prebuild_rebuild();
SELECT lock_acquired, created, failed FROM prebuild_reconcile();
SELECT * FROM prebuild_verify();
SELECT prebuild_detach();
SELECT raises('SELECT prebuild_grant(''rights_app'')', '42501', 'prebuild_grant', NULL, 'but does not grant');
SELECT raises('SELECT prebuild_unschedule()', '55000', 'pg_cron is not installed', NULL, 'may unschedule')
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron');
RESET ROLE;
SET ROLE rights_app;
SELECT raises(format('SELECT %s()', name), '42501', name, NULL, 'an app server may not call ' || name)
FROM unnest('{prebuild_attach,prebuild_detach,prebuild_rebuild,prebuild_create_control_plane,prebuild_schedule,prebuild_unschedule}'::text[]) name;
RESET ROLE;

-- a control plane with something to do of every kind
DO $$ BEGIN
	PERFORM control_plane('cp_rights');
	PERFORM notification_queue();
	PERFORM simple('a', 3, 86400);
	PERFORM parameter('a-v1', 'region', 'eu');
	PERFORM preset_value('a', 'region', 'us');
	PERFORM schedule('a', '* 9-18 * * *', 4);
	UPDATE template_version_presets SET scheduling_timezone = 'UTC' WHERE name = 'a';
	INSERT INTO template_version_workspace_tags VALUES (v('a-v1'), 'pool', 'var.pool');
	INSERT INTO template_version_variables
	VALUES (v('a-v1'), 'pool', '', 'string', 'fast', '', false, false);
	PERFORM prebuild('a', 'a-1');
	PERFORM prebuild('a', 'a-2', created => t0() - interval '2 days');
	PERFORM simple('b', 1);
	PERFORM prebuild('b', 'b-1');
	PERFORM prebuild('b', 'b-2', status => 'pending');
	PERFORM version('b', 'b-v2');
	PERFORM version('b', 'b-v3', active => false);
	PERFORM preset('b-v3', 'b-3', 1);
	PERFORM prebuild_stage(v('b-v3'));
	PERFORM simple('limit', 1);
	PERFORM prebuild('limit', 'f-' || n, status => 'failed', created => t0() - interval '1 day')
	FROM generate_series(1, 3) n;
	PERFORM prebuild('a', 'mine');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'mine';
	PERFORM build('mine', 'start', initiator => usr('ada'), preset_name => 'a');
	-- a claim that is long past is not counted
	UPDATE workspace_builds SET created_at = now() WHERE id = latest('mine');
	UPDATE users SET rbac_roles = '{template-admin}' WHERE username = 'ada';
END $$;
SET prebuild.metadata_insert_missing = on;

-- Calls of all that prebuild_grant() gives and that reads or writes the control plane, each as a
-- statement that gives one text of what came of it.
CREATE TABLE fixture.call AS
SELECT name, format(statement, p('a'), usr('ada'), v('a-v1'), w('mine'), latest('mine'),
	(SELECT a.id FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
		JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.id = latest('mine')), t('a'), v('b-v3')) AS statement
FROM (VALUES
	('prebuild_running', 'SELECT string_agg(r::text, '';'') FROM prebuild_running() r'),
	('prebuild_pool', 'SELECT string_agg(r::text, '';'') FROM prebuild_pool() r'),
	('prebuild_state', 'SELECT string_agg(s::text, '';'') FROM prebuild_state(fixture.t0()) s'),
	('prebuild_plan', 'SELECT string_agg(p::text, '';'') FROM prebuild_plan(fixture.t0()) p'),
	('prebuild_reconcile', 'SELECT (r.created, r.deleted, r.canceled, r.failed)::text FROM prebuild_reconcile(fixture.t0()) r'),
	('prebuild_claim', 'SELECT c::text FROM prebuild_claim(%1$L, %2$L, ''new'', at => fixture.t0()) c'),
	('prebuild_find_preset', 'SELECT prebuild_find_preset(%3$L, ''{region}'', ''{us}'')::text'),
	('prebuild_build_inputs', 'SELECT prebuild_build_inputs(%1$L)::text'),
	('prebuild_demand', 'SELECT string_agg(d::text, '';'') FROM prebuild_demand(fixture.t0() - interval ''1 day'', fixture.t0() + interval ''1 day'') d'),
	('prebuild_backtest', 'SELECT string_agg(b::text, '';'') FROM prebuild_backtest(%7$L, ''a'', fixture.t0() - interval ''1 day'', fixture.t0()) b'),
	('prebuild_replay', 'SELECT string_agg(r::text, '';'') FROM prebuild_replay(%7$L, ''a'', fixture.t0() - interval ''1 day'', fixture.t0(), bucket => ''12 hours'') r'),
	('prebuild_target', 'SELECT prebuild_target(%1$L, fixture.t0())::text'),
	('prebuild_recommend', 'SELECT string_agg(r::text, '';'') FROM prebuild_recommend(fixture.t0()) r'),
	('prebuild_desired_instances', 'SELECT prebuild_desired_instances(%1$L, fixture.t0())::text'),
	('prebuild_forecast', 'SELECT string_agg(f::text, '';'') FROM prebuild_forecast(%1$L, fixture.t0(), fixture.t0() + ''1 day'') f'),
	('prebuild_health', 'SELECT string_agg(concat_ws('' '', h.name, h.status), '';'') FROM prebuild_health(fixture.t0()) h'),
	('prebuild_health_read', 'SELECT string_agg(concat_ws('' '', h.name, h.status), '';'') FROM prebuild_health_read(fixture.t0()) h'),
	('prebuild_clean', 'SELECT prebuild_clean(preset_id => %1$L)::text'),
	('prebuild_retry', 'SELECT (prebuild_retry(%1$L) = now())::text'),
	('prebuild_invalidate', 'SELECT (prebuild_invalidate(%1$L) = now())::text'),
	('prebuild_lead_time', 'SELECT prebuild_lead_time(%7$L, ''a'', fixture.t0())::text'),
	('prebuild_set_policy', 'SELECT prebuild_set_policy(%7$L, ''a'')::text'),
	('prebuild_unset_policy', 'SELECT prebuild_unset_policy(%7$L, ''a'')::text'),
	('prebuild_agent_identity', 'SELECT prebuild_agent_identity(%6$L)::text'),
	('prebuild_agent_metadata_upsert', 'SELECT prebuild_agent_metadata_upsert(ARRAY[%6$L, %6$L]::uuid[], ''{cpu,mem}'', ''{1,2}'', ''{"",""}'', ARRAY[now(), now()])::text'),
	('prebuild_agent_metadata_report', 'SELECT prebuild_agent_metadata_report(%6$L, ''{cpu}'', ''{1}'')::text'),
	('prebuild_agent_metadata_report_bytes', 'SELECT prebuild_agent_metadata_report_bytes(%6$L, ''{cpu}'', ''{1}'')::text'),
	('prebuild_agent_metadata_flush', 'SELECT prebuild_agent_metadata_flush()::text'),
	('prebuild_agent_ids_notify', 'SELECT prebuild_agent_ids_notify(ARRAY[%6$L]::uuid[])::text'),
	('prebuild_metrics_read', 'SELECT string_agg(m::text, '';'') FROM prebuild_metrics_read(fixture.t0()) m WHERE m.name !~ ''duration|updated|identity'''),
	('prebuild_metrics_text', 'SELECT (prebuild_metrics_text(fixture.t0()) ~ ''desired'')::text'),
	('prebuild_pause', 'SELECT prebuild_pause()::text || prebuild_resume()::text'),
	('prebuild_stage', 'SELECT prebuild_stage(%8$L, 0.5)::text'),
	('prebuild_stage_status', 'SELECT string_agg((s.template_name, s.target, s.reason)::text, '';'') FROM prebuild_stage_status(fixture.t0()) s'),
	('prebuild_promote', 'SELECT prebuild_promote(%8$L, force => true)::text'),
	('prebuild_unstage', 'SELECT prebuild_unstage(%8$L)::text'),
	('prebuild_fold', 'SELECT ''folded'' FROM prebuild_fold()'),
	('prebuild_verify', 'SELECT count(*)::text FROM prebuild_verify()'),
	('prebuild_track_resource_replacement', 'SELECT prebuild_track_resource_replacement(%4$L, %5$L, ''{"disk": ["size"]}'')::text')
) c (name, statement);

-- Functions that are granted, reach the control plane, and are not called below: none. These only
-- say what the server counts, or need no table.
SELECT is(string_agg(name, ', '), NULL, 'all are called') FROM fixture.own o
WHERE has_function_privilege('rights_app', oid, 'EXECUTE') AND NOT EXISTS (SELECT FROM fixture.call c WHERE c.name = o.name)
	AND name <> ALL ('{prebuild_agent_ids_decode,prebuild_agent_ids_encode,prebuild_cron_matches,prebuild_identity_stats_read,
		prebuild_metadata_histograms,prebuild_metadata_stats_read,prebuild_required_rights,prebuild_resume,
		prebuild_schedules_check,prebuild_system_user,prebuild_worker_status_read}'::text[]);

-- What a call does for the role, which is undone: its text, with the messages for template admins that it queues.
CREATE FUNCTION fixture.call_as(caller regrole, wanted text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	answer text;
BEGIN
	BEGIN
		EXECUTE format('SET LOCAL ROLE %s', caller);
		EXECUTE (SELECT c.statement FROM fixture.call c WHERE c.name = wanted) INTO answer;
		RESET ROLE;
		answer := concat(answer, ', messages: ' || nullif((SELECT count(*) FROM notification_messages), 0));
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	WHEN OTHERS THEN
		answer := concat_ws(' ', SQLSTATE, SQLERRM);
	END;
	RESET ROLE;
	RETURN answer;
END
$$;
SET client_min_messages = error;

-- exactly the rights that are listed
CREATE ROLE rights_exact;
SELECT prebuild_grant('rights_exact') \g /dev/null
GRANT USAGE ON SCHEMA cp_rights, fixture TO rights_exact;
GRANT SELECT ON fixture.call TO rights_exact;
DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN SELECT format('GRANT %s ON %s TO rights_exact', array_to_string(privileges, ', '), relation)
		FROM prebuild_required_rights() LOOP
		EXECUTE statement;
	END LOOP;
END
$$;
CREATE TABLE fixture.with_all AS SELECT name, call_as('rights_exact', name) AS answer FROM fixture.call;
SELECT is(string_agg(name || ': ' || answer, '; '), NULL, 'all can be called with these rights') FROM fixture.with_all
WHERE answer ~ '^[0-9A-Z]{5} ' AND NOT (name = 'prebuild_invalidate' AND answer ~ '^0A000 ');
SELECT is(string_agg(w.name || ': ' || w.answer, '; '), NULL, 'with what a superuser gets') FROM fixture.with_all w
WHERE w.answer IS DISTINCT FROM call_as(current_user::regrole, w.name);

-- each of them is needed
CREATE FUNCTION fixture.without(relation regclass, privilege text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	missed text;
BEGIN
	BEGIN
		EXECUTE format('REVOKE %s ON %s FROM rights_exact', privilege, relation);
		SELECT string_agg(w.name, ', ') INTO missed FROM fixture.with_all w
		WHERE call_as('rights_exact', w.name) IS DISTINCT FROM w.answer;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
	EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
	END;
	RETURN missed;
END
$$;
SELECT is(string_agg(format('%s on %s', privilege, relation), ', '), NULL, 'each of them is needed')
FROM prebuild_required_rights(), unnest(privileges) privilege WHERE without(relation, privilege) IS NULL;
SELECT ok(count(*) >= 30, 'there are some') FROM prebuild_required_rights(), unnest(privileges);

DROP OWNED BY rights_app, rights_exact, rights_owner CASCADE;
DROP ROLE rights_app, rights_exact, rights_owner;
