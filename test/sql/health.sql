-- Sick members, what failures leave behind, ways out of a hard limit, jobs that nobody took.
\set ECHO none
\i test/fixture/fixture.sql
SET intervalstyle = postgres;

CREATE FUNCTION fixture.state_of(preset_name text, wanted text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT to_jsonb(s) ->> wanted FROM prebuild_state(at) s WHERE s.preset_id = p(state_of.preset_name)); END $$;
CREATE FUNCTION fixture.reason(preset_name text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
	RETURN (SELECT string_agg(format('%s %s: %s', action, count, regexp_replace(reason, 'agent-0[.0-9e-]+', 'agent-x', 'g')), E'\n' ORDER BY position)
		FROM prebuild_plan(at) WITH ORDINALITY x (preset_id, template_id, action, count, workspace_ids, backoff_until, reason,
			template_name, preset, position) WHERE preset_id = p(reason.preset_name));
END
$$;
-- the members of a preset's template that are left, by name
CREATE FUNCTION fixture.left_of(template_name text) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT coalesce(string_agg(x.name, ' ' ORDER BY x.name), 'none') FROM workspaces x
	WHERE x.template_id = t(template_name) AND NOT x.deleted AND x.owner_id = prebuild_system_user()
$$;
CREATE FUNCTION fixture.lifecycle(workspace_name text, state text) RETURNS void LANGUAGE sql AS
$$
	UPDATE workspace_agents a SET lifecycle_state = state::workspace_agent_lifecycle_state
	FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
	WHERE a.resource_id = r.id AND b.id = latest(workspace_name)
$$;
CREATE FUNCTION fixture.seen(workspace_name text, first timestamptz, last timestamptz, gone timestamptz DEFAULT NULL)
RETURNS void LANGUAGE sql AS
$$
	UPDATE workspace_agents a SET first_connected_at = first, last_connected_at = last, disconnected_at = gone
	FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
	WHERE a.resource_id = r.id AND b.id = latest(workspace_name)
$$;
DO $$ BEGIN PERFORM control_plane('cp_health'); END $$;

-- four desired, then two: two that are ready and older, two newer ones that are broken, or only starting
DO $$
BEGIN
	PERFORM simple('broken', 2);
	PERFORM prebuild('broken', 'broken-' || n, ready => n <= 2, created => t0() - interval '5 hours' + n * interval '1 hour')
	FROM generate_series(1, 4) n;
	PERFORM lifecycle('broken-3', 'start_error'), lifecycle('broken-4', 'start_error');
	PERFORM simple('young', 2);
	PERFORM prebuild('young', 'young-' || n, ready => n <= 2, created => t0() - interval '5 hours' + n * interval '1 hour')
	FROM generate_series(1, 4) n;
	PERFORM lifecycle('young-3', 'starting'), lifecycle('young-4', 'starting');
END $$;
SELECT reason('broken'), reason('young');
SELECT pass();
SELECT finish_jobs(t0()) \g /dev/null
SELECT left_of('broken'), left_of('young'), state_of('broken', 'eligible') || state_of('young', 'eligible') AS eligible;

-- all agents of every build fail to start: replaced at the pace of the backoff, then hard-limited
SELECT simple('never', 1) \g /dev/null
SET prebuild.unready_grace = '10min';
CREATE FUNCTION fixture.life(preset_name text, state text, minutes int) RETURNS SETOF text LANGUAGE plpgsql AS
$$
DECLARE
	now timestamptz;
	did text;
	said text := '';
BEGIN
	FOR minute IN 0..minutes LOOP
		now := t0() + minute * interval '1 minute';
		SELECT string_agg(concat_ws(' ', action, count), '; ') INTO did FROM prebuild_plan(now) x WHERE x.preset_id = p(life.preset_name);
		IF did IS DISTINCT FROM said THEN
			RETURN NEXT format('minute %s: %s', minute, coalesce(did, 'nothing'));
			said := did;
		END IF;
		PERFORM prebuild_reconcile(now);
		PERFORM finish_jobs(now, preset_name => life.preset_name);
		UPDATE workspace_agents a SET lifecycle_state = state::workspace_agent_lifecycle_state
		FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
		WHERE a.resource_id = r.id AND b.template_version_preset_id = p(life.preset_name);
	END LOOP;
END
$$;
SELECT life('never', 'start_error', 720);
SELECT is(events('never', 'sick_replaced'), 3, 'three were replaced');
SELECT is((SELECT count(*)::int FROM workspaces x WHERE x.template_id = t('never')), 3, 'three were built in twelve hours');
SELECT is(status('never'), 'hard_limited', 'then the preset is hard-limited');
SELECT is(events('never', 'hard_limited'), 1, 'which an event says');
SELECT regexp_replace(detail ->> 'reason', 'agent-0[.0-9e-]+', 'agent-x') AS why FROM prebuild_event WHERE preset_id = p('never') AND kind = 'sick_replaced' ORDER BY id LIMIT 1;
SELECT reason('never', t0() + interval '12 hours');
-- where only the agents stay in "starting"
SELECT simple('slow', 1) \g /dev/null
SELECT life('slow', 'starting', 720);
SELECT is(status('slow'), 'hard_limited', 'those that do not get ready count, too');
SELECT regexp_replace(detail ->> 'reason', 'agent-0[.0-9e-]+', 'agent-x') AS why FROM prebuild_event WHERE preset_id = p('slow') AND kind = 'sick_replaced' ORDER BY id LIMIT 1;
SELECT is(events('slow', 'sick_replaced'), 3, 'three were replaced as well');

-- prebuild_retry()
SELECT raises('SELECT prebuild_retry(NULL)', '22004', '"preset_id" must not be null', NULL, 'retry of nothing');
SELECT raises($$SELECT prebuild_retry('00000000-0000-0000-0000-00000000abcd')$$, '22023', 'abcd', NULL, 'retry of an unknown preset');
SELECT is(prebuild_retry(p('never'), t0() + interval '12 hours'), t0() + interval '12 hours', 'retry');
SELECT is((SELECT detail ->> 'by' FROM prebuild_event WHERE kind = 'retried'), session_user::text, 'an event says who');
SELECT is(status('never'), 'hard_limited', 'the status waits for the next pass');
SELECT reason('never', t0() + interval '12 hours');
SELECT pass(t0() + interval '12 hours');
SELECT is(status('never'), 'healthy', 'which finds it healthy');
SELECT is(events('never', 'hard_limit_cleared'), 1, 'and says so');
SELECT is((SELECT count(*)::int FROM prebuild_failure f WHERE f.preset_id = p('never')), 0, 'what is forgiven is forgotten');

-- probes of a hard-limited preset
SELECT simple('probed', 2) \g /dev/null
SET prebuild.hard_limit_retry = '30min';
SELECT life('probed', 'start_error', 720);
SELECT reason('probed', t0() + interval '12 hours');
RESET prebuild.hard_limit_retry;
RESET prebuild.unready_grace;

-- an agent that was connected once and is no more
SELECT simple('gone', 2) \g /dev/null
SELECT prebuild('gone', 'gone-' || n, created => t0() - interval '4 days' + n * interval '1 hour') FROM generate_series(1, 2) n \g /dev/null
SELECT seen('gone-1', t0() - interval '4 days', t0() - interval '3 days', t0() - interval '3 days'),
	seen('gone-2', t0() - interval '4 days', t0() - interval '1 minute', t0() - interval '3 days') \g /dev/null
SELECT is(state_of('gone', 'eligible'), '2', 'by default nobody asks');
SELECT is(reason('gone'), NULL, 'and nothing is replaced');
SET prebuild.disconnected_grace = '5min';
SELECT is(state_of('gone', 'eligible'), '1', 'a disconnected one is not eligible');
SELECT is(state_of('gone', 'sick'), '1', 'but sick');
SELECT reason('gone');
SELECT is(claim('gone', 'ann', 'ann-1'), 'gone-2', 'the other one is given away');
SELECT is(claim('gone', 'bob', 'bob-1'), NULL, 'the disconnected one is not');
SELECT pass();
SELECT finish_jobs(t0()) \g /dev/null
SELECT is(state_of('gone', 'eligible', t0() + interval '1 minute'), '2', 'both are replaced');
-- never connected, or with an agent that was deleted: not disconnected
SELECT simple('fresh', 2) \g /dev/null
SELECT prebuild('fresh', 'fresh-' || n, created => t0() - interval '4 days') FROM generate_series(1, 2) n \g /dev/null
SELECT agent('fresh-2', 'ready'), seen('fresh-2', t0() - interval '4 days', t0() - interval '3 days') \g /dev/null
UPDATE workspace_agents a SET deleted = true FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
WHERE a.resource_id = r.id AND b.id = latest('fresh-2') AND a.id <> (SELECT min(x.id::text)::uuid FROM workspace_agents x WHERE x.resource_id = r.id);
UPDATE workspace_agents a SET first_connected_at = NULL FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
WHERE a.resource_id = r.id AND b.id = latest('fresh-2') AND NOT a.deleted;
SELECT is(state_of('fresh', 'sick'), '0', 'who never was connected is not disconnected, and deleted agents do not count');
RESET prebuild.disconnected_grace;

-- jobs that nobody took are nobody's failure
SELECT simple('nobody', 3) \g /dev/null
CREATE FUNCTION fixture.reap(preset_name text, at timestamptz) RETURNS void LANGUAGE sql AS
$$
	UPDATE provisioner_jobs j SET started_at = at, completed_at = at, updated_at = at, error = 'Build has been detected as hung for 30 minutes.'
	FROM workspace_builds b WHERE b.job_id = j.id AND j.job_status = 'pending' AND b.template_version_preset_id = p(preset_name)
$$;
DO $$
BEGIN
	-- thirty hours without a daemon: a pass a minute, and the reaper every half hour
	FOR minute IN 0..1800 BY 10 LOOP
		PERFORM prebuild_reconcile(t0() + minute * interval '1 minute');
		IF minute % 30 = 0 AND minute > 0 THEN
			PERFORM reap('nobody', t0() + minute * interval '1 minute');
		END IF;
	END LOOP;
END $$;
SELECT is(state_of('nobody', 'num_failed', t0() + interval '30 hours'), '0', 'nothing failed');
SELECT is(status('nobody'), 'healthy', 'nor is the preset hard-limited');
SELECT pass(t0() + interval '30 hours') \g /dev/null
SELECT finish_jobs(t0() + interval '30 hours', preset_name => 'nobody') \g /dev/null
SELECT pass(t0() + interval '30 hours 1 minute') \g /dev/null
SELECT is(state_of('nobody', 'eligible', t0() + interval '30 hours 1 minute'), '3', 'with a daemon the pool fills within two passes');

-- what failures leave behind
DO $$
BEGIN
	PERFORM simple('rests', 0);
	PERFORM prebuild('rests', 'rest-failed-' || n, status => 'failed', created => t0() - n * interval '1 hour') FROM generate_series(1, 4) n;
	PERFORM prebuild('rests', 'rest-canceled', status => 'canceled', created => t0() - interval '6 hours');
	PERFORM prebuild('rests', 'rest-stopped', created => t0() - interval '9 hours');
	PERFORM build('rest-stopped', 'stop', created => t0() - interval '7 hours');
	PERFORM prebuild('rests', 'rest-canceling', status => 'canceling', created => t0() - interval '6 hours');
	PERFORM prebuild('rests', 'rest-stopping', created => t0() - interval '9 hours');
	PERFORM build('rest-stopping', 'stop', 'running', created => t0() - interval '7 hours');
END $$;
SELECT is(reason('rests'), NULL, 'by default they stay');
SET prebuild.failed_retention = '3h';
SELECT reason('rests');
SET prebuild.failed_keep = 0;
SELECT reason('rests', t0() + interval '10 minutes');
SET prebuild.failed_keep = 2;
SELECT pass();
SELECT finish_jobs(t0(), preset_name => 'rests') \g /dev/null
SELECT left_of('rests');
RESET prebuild.failed_keep;
RESET prebuild.failed_retention;

-- a delete build carries the newest state that is not empty
DO $$
BEGIN
	PERFORM simple('state', 0);
	PERFORM prebuild('state', 'state-1', created => t0() - interval '9 hours');
	UPDATE workspace_builds SET provisioner_state = '\xfeed' WHERE id = latest('state-1');
	PERFORM build('state-1', 'stop', 'failed', created => t0() - interval '7 hours');
	UPDATE workspace_builds SET provisioner_state = '\x' WHERE id = latest('state-1');
END $$;
SELECT failed, canceled, stopped FROM prebuild_clean(t('state'), at => t0());
SELECT is((SELECT provisioner_state FROM workspace_builds WHERE id = latest('state-1')), '\xfeed'::bytea, 'the full one, not the empty one');
-- which fails, and is tried again
UPDATE provisioner_jobs j SET started_at = t0(), completed_at = t0(), worker_id = gen_random_uuid(), error = 'destroy failed'
FROM workspace_builds b WHERE b.job_id = j.id AND b.id = latest('state-1');
SELECT is(reason('state', t0() + interval '1 day'), NULL, 'by default a failed delete stays');
SET prebuild.delete_retries = 3;
CREATE FUNCTION fixture.retries(workspace_name text, template_name text, minutes int) RETURNS SETOF text LANGUAGE plpgsql AS
$$
DECLARE
	now timestamptz;
BEGIN
	FOR minute IN 0..minutes LOOP
		now := t0() + minute * interval '1 minute';
		IF (SELECT deleted FROM prebuild_reconcile(now)) > 0 THEN
			RETURN NEXT format('minute %s: build %s, state %s', minute, shape(workspace_name),
				(SELECT encode(provisioner_state, 'hex') FROM workspace_builds WHERE id = latest(workspace_name)));
		END IF;
		UPDATE provisioner_jobs j SET started_at = now, completed_at = now, worker_id = gen_random_uuid(), error = 'destroy failed'
		FROM workspace_builds b WHERE b.job_id = j.id AND b.id = latest(workspace_name) AND j.job_status = 'pending';
		UPDATE workspace_builds SET provisioner_state = '' WHERE id = latest(workspace_name) AND transition = 'delete';
	END LOOP;
END
$$;
UPDATE template_version_presets SET desired_instances = NULL WHERE name <> 'state';
SELECT reason('state', t0() + interval '1 minute');
SELECT retries('state-1', 'state', 60);
SELECT is((SELECT count(*)::int FROM prebuild_event WHERE kind = 'delete_failed' AND workspace_id = w('state-1')), 1, 'then one event says that it stays');
SELECT is(left_of('state'), 'state-1', 'and it stays');
-- several, each by its own count
BEGIN;
DO $$ BEGIN
	FOR n IN 2 .. 4 LOOP
		PERFORM prebuild('state', 'state-' || n, created => t0() - interval '9 hours');
		PERFORM build('state-' || n, 'delete', 'failed', created => t0() - interval '8 hours');
	END LOOP;
END $$;
SELECT reason('state', t0());
DO $$ BEGIN PERFORM build('state-2', 'delete', 'failed', created => t0() - interval '7 hours'); END $$;
SELECT reason('state', t0());
DO $$ BEGIN PERFORM build('state-4', 'delete', 'failed', created => t0() - interval '7 hours'); END $$;
DO $$ BEGIN PERFORM build('state-4', 'delete', 'failed', created => t0() - interval '6 hours'); END $$;
SELECT reason('state', t0());
ROLLBACK;
RESET prebuild.delete_retries;

-- prebuild_clean()
SELECT raises($$SELECT prebuild_clean(states => '{failed,gone}')$$, '22023', 'unknown state: "gone"', 'failed, canceled and stopped', 'an unknown state');
SELECT raises($$SELECT prebuild_clean(states => '{failed,NULL}')$$, '22004', 'states', NULL, 'no state');
SELECT raises($$SELECT prebuild_clean(states => NULL)$$, '22004', 'states', NULL, 'no states');
SELECT raises($$SELECT prebuild_clean('00000000-0000-0000-0000-00000000abcd')$$, '42704', 'template 0.*abcd does not exist', NULL, 'an unknown template');
SELECT raises($$SELECT prebuild_clean(preset_id => '00000000-0000-0000-0000-00000000abcd')$$, '42704', 'preset 0.*abcd does not exist', NULL, 'an unknown preset');
SELECT failed, canceled, stopped FROM prebuild_clean(preset_id => p('rests'), states => '{stopped,canceled}', at => t0());
SELECT failed, canceled, stopped FROM prebuild_clean(t('rests'), at => t0());
SELECT failed, canceled, stopped FROM prebuild_clean(t('rests'), at => t0());
SELECT detail - 'by' AS cleaned FROM prebuild_event WHERE kind = 'cleaned' AND preset_id IS NULL ORDER BY id;
-- a preset that wants none any more, and a member without a preset
DO $$
BEGIN
	PERFORM prebuild('rests', 'lost-' || n, status => 'failed', created => t0() - n * interval '1 hour') FROM generate_series(1, 2) n;
	UPDATE workspace_builds SET template_version_preset_id = NULL WHERE id = latest('lost-2');
	UPDATE template_version_presets SET desired_instances = NULL WHERE name = 'rests';
END $$;
SELECT failed, canceled, stopped FROM prebuild_clean(at => t0());
SELECT shape('lost-1'), shape('lost-2'), shape('state-1');
SELECT is((SELECT count(*)::int FROM prebuild_verify()), 0, 'the kept pool is right');

-- evidence of each version: every preset keeps its own newest ones, whatever version is active
DO $$
BEGIN
	PERFORM control_plane('cp_health');
	PERFORM simple('kept', 0);
	PERFORM version('kept', 'kept-v2'), preset('kept-v2', 'kept-2', 0);
	PERFORM prebuild('kept', 'old-' || n, status => 'failed', created => t0() - n * interval '1 day') FROM generate_series(2, 5) n;
	PERFORM prebuild('kept-2', 'new-' || n, status => 'failed', created => t0() - n * interval '1 hour') FROM generate_series(2, 5) n;
	-- its latest build is of the new version and carries no preset: it belongs to the preset that it was started with
	PERFORM build('old-5', 'stop', version_id => v('kept-v2'), created => t0() - interval '6 hours');
END $$;
SET prebuild.failed_retention = '3h';
SELECT reason('kept'), reason('kept-2');
SET prebuild.failed_keep = 2;
SELECT pass();
SELECT finish_jobs(t0()) \g /dev/null
SELECT left_of('kept');
SELECT version('kept', 'kept-v3') \g /dev/null
SET prebuild.failed_keep = 0;
SELECT pass();
SELECT finish_jobs(t0()) \g /dev/null
SELECT left_of('kept');
SELECT pass(t0() + interval '2 hours');
SELECT finish_jobs(t0()) \g /dev/null
SELECT left_of('kept');
RESET prebuild.failed_keep;
RESET prebuild.failed_retention;
