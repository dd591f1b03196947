-- When agents were seen, as the stored pool of an attached control plane has it: a lower bound. Readers look at
-- the agents of members whose bound is older than the grace, folds renew the bounds before that, and steps back are logged.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_seen');
	PERFORM simple('a', 4), simple('b', 1);
	PERFORM prebuild('a', 'a-' || n, created => now() - interval '9 days') FROM generate_series(1, 4) n;
	PERFORM prebuild('b', 'b-1', created => now() - interval '9 days');
	PERFORM prebuild_attach();
	DELETE FROM prebuild_event;
END $$;
-- an update of the agents of a member
CREATE FUNCTION fixture.agents(workspace_name text, change text) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	EXECUTE format('UPDATE workspace_agents SET %s WHERE resource_id IN (SELECT r.id FROM workspace_resources r
		JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.id = latest(%L))', change, workspace_name);
END
$$;
-- a heartbeat of all agents, as coderd writes it, some time ago
CREATE FUNCTION fixture.beat(ago interval DEFAULT '0') RETURNS void LANGUAGE sql AS
$$ UPDATE workspace_agents SET first_connected_at = now() - interval '8 days', last_connected_at = now() - ago,
	disconnected_at = NULL, updated_at = now() $$;
CREATE FUNCTION fixture.logged() RETURNS bigint LANGUAGE sql AS
$$ SELECT count(*) FROM prebuild_pool_log WHERE control_plane = 'cp_seen'::regnamespace $$;
-- how many look-ups of agents a statement makes
CREATE FUNCTION fixture.looks(statement text) RETURNS bigint LANGUAGE plpgsql AS
$$
DECLARE
	before bigint := (SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables WHERE relid = 'workspace_agents'::regclass);
BEGIN
	EXECUTE statement;
	RETURN (SELECT seq_scan + idx_scan - before FROM pg_stat_xact_user_tables WHERE relid = 'workspace_agents'::regclass);
END
$$;
-- Is the stored pool used? It is where prebuild_verify() notices that it was tampered with.
CREATE FUNCTION fixture.used() RETURNS boolean LANGUAGE plpgsql SET client_min_messages = error AS
$$
DECLARE
	noticed bigint;
BEGIN
	INSERT INTO prebuild_pool_state (control_plane, id, name)
	VALUES ('cp_seen'::regnamespace, '00000000-0000-0000-0000-00000000dead', 'tampered');
	SELECT count(*) INTO noticed FROM prebuild_verify() WHERE (stored).name = 'tampered';
	DELETE FROM prebuild_pool_state s WHERE s.id = '00000000-0000-0000-0000-00000000dead';
	RETURN noticed = 1;
END
$$;
-- How many are sick, how many would be by the tables, and what prebuild_verify() says. Each in a statement of its own, because
-- the stored pool is not used by one that has the tables open in a transaction that has written.
CREATE FUNCTION fixture.sick() RETURNS text LANGUAGE plpgsql SET client_min_messages = error AS
$$
DECLARE
	sick bigint := (SELECT sum(s.sick) FROM prebuild_state() s);
	wrong bigint := (SELECT count(*) FROM prebuild_verify());
	used boolean := used();
	lost bigint;
BEGIN
	SELECT count(*) INTO lost FROM workspaces x WHERE x.owner_id = prebuild_system_user() AND NOT x.deleted AND EXISTS (
		SELECT FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id JOIN workspace_agents a ON a.resource_id = r.id
		WHERE b.id = latest(x.name) AND NOT a.deleted AND a.parent_id IS NULL AND a.first_connected_at IS NOT NULL
		AND greatest(a.first_connected_at, a.last_connected_at, a.disconnected_at)
			< now() - current_setting('prebuild.disconnected_grace')::interval);
	RETURN format('%s: %s sick, %s lost, %s wrong', CASE WHEN used THEN 'kept' ELSE 'not kept' END, sick, lost, wrong);
END
$$;
SET prebuild.disconnected_grace = '1h';

-- heartbeats
SELECT prebuild_fold() \g /dev/null
SELECT beat() \g /dev/null
SELECT is(logged(), 5, 'the first connection of an agent is logged');
SELECT prebuild_fold() \g /dev/null
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE seen_at = (SELECT max(last_connected_at) FROM workspace_agents)), 5, 'and folded');
SELECT beat('-1 s') \g /dev/null
SELECT agents('a-1', 'disconnected_at = now() + interval ''2 s''') \g /dev/null
SELECT agents('a-1', 'disconnected_at = NULL, last_connected_at = now() + interval ''3 s''') \g /dev/null
SELECT is(logged(), 0, 'later heartbeats and disconnections are not');
SELECT is(sick(), 'kept: 0 sick, 0 lost, 0 wrong', 'a bound that is passed is right');
SELECT is(looks('SELECT * FROM prebuild_plan()'), 0, 'and within the grace no agent is looked up');
SELECT is(looks('SELECT * FROM prebuild_plan(now() + interval ''2 hours'')') > 0, true, 'unless the plan is for a time beyond it');

-- bounds that get old, and are renewed in time
SELECT beat('40 minutes') \g /dev/null
SELECT prebuild_rebuild() \g /dev/null
SELECT beat() \g /dev/null
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE seen_at < now() - interval '39 minutes'), 5, 'agents go on, and their bounds are of 40 minutes ago');
SELECT is(prebuild_fold(), 0, 'a fold finds nothing in the log');
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE seen_at < now() - interval '39 minutes'), 0, 'but renews the bounds');
SELECT is(sick(), 'kept: 0 sick, 0 lost, 0 wrong', 'which are right');
SELECT is(looks('SELECT prebuild_fold()'), 0, 'the next fold has nothing to renew');
SELECT is(looks('SELECT * FROM prebuild_plan(now() + interval ''59 minutes'')'), 0, 'and no agent is looked up for another hour');
SELECT beat('29 minutes') \g /dev/null
SELECT prebuild_rebuild() \g /dev/null
SELECT is(looks('SELECT prebuild_fold()'), 0, 'a bound younger than half of the grace is left as it is');
SELECT beat('31 minutes') \g /dev/null
SELECT prebuild_rebuild() \g /dev/null
SELECT beat() \g /dev/null
SELECT pass(now()) \g /dev/null
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE seen_at < now() - interval '30 minutes'), 0, 'a pass renews them, too');
SELECT beat('3 hours') \g /dev/null
SELECT prebuild_rebuild() \g /dev/null
SELECT beat() \g /dev/null
SELECT is(sick(), 'kept: 0 sick, 0 lost, 0 wrong', 'where no fold has renewed them, the agents are looked up');
SELECT is(looks('SELECT * FROM prebuild_plan()') > 0, true, 'at a cost');
SET prebuild.disconnected_grace = 0;
SELECT is(looks('SELECT * FROM prebuild_plan()'), 0, 'which nobody pays who wants no grace');
SELECT is(looks('SELECT prebuild_fold()'), 0, 'nor does a fold');
-- the grace of a policy
SELECT prebuild_set_policy(t('b'), disconnected_grace => '10min') \g /dev/null
SELECT is(looks('SELECT prebuild_fold()') > 0, true, 'the policy of one template is enough to renew all');
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE seen_at < now() - interval '5 minutes'), 0, 'by half of its grace');
SELECT beat('6 minutes') \g /dev/null
SELECT prebuild_rebuild() \g /dev/null
SELECT beat() \g /dev/null
SELECT prebuild_fold() \g /dev/null
SELECT is((SELECT count(*) FROM prebuild_pool_state WHERE seen_at < now() - interval '5 minutes'), 0, 'which is the shortest');
SELECT beat('15 minutes') \g /dev/null
SET prebuild.disconnected_grace = '1h';
SELECT is((SELECT string_agg(s.preset_name || ' ' || s.sick, ', ' ORDER BY 1) FROM prebuild_state() s), 'a 0, b 1', 'each preset has its own grace');
SELECT prebuild_unset_policy(t('b')) \g /dev/null

-- those that are really gone
SELECT beat() \g /dev/null
SELECT agents('a-1', 'last_connected_at = now() - interval ''2 hours''') \g /dev/null
SELECT prebuild_fold() \g /dev/null
SELECT is(sick(), 'kept: 1 sick, 1 lost, 0 wrong', 'one that is gone');
SELECT is(looks('SELECT prebuild_fold()'), 1, 'each fold looks whether it is back');
SELECT is(looks('SELECT * FROM prebuild_state()'), 2, 'and a reader at it alone, and then for the reason');
SELECT agents('a-1', 'last_connected_at = now()') \g /dev/null
SELECT is(logged(), 0, 'its return is not logged');
SELECT is(sick(), 'kept: 0 sick, 0 lost, 0 wrong', 'but seen at once');

-- steps back: what is done, how many entries it makes, and that the stored pool is right before and after a fold
CREATE FUNCTION fixture.back(statements text, wanted int, label text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	before text;
BEGIN
	PERFORM beat(), prebuild_fold();
	EXECUTE statements;
	before := format('%s logged, %s', logged(), sick());
	PERFORM prebuild_fold();
	RETURN is(before || '; ' || sick(), wanted || ' logged, kept: 1 sick, 1 lost, 0 wrong; kept: 1 sick, 1 lost, 0 wrong', label);
END
$$;
CREATE FUNCTION fixture.extra() RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM workspace_agents WHERE name = 'extra' $$;
SELECT back($$SELECT agents('a-1', 'last_connected_at = now() - interval ''3 hours''')$$, 1, 'the last connection moves back');
SELECT back($$SELECT agents('a-1', 'last_connected_at = NULL')$$, 1, 'it goes');
SELECT back($$SELECT agents('a-1', 'last_connected_at = NULL, disconnected_at = now()');
	SELECT agents('a-1', 'disconnected_at = NULL')$$, 1, 'the time of a disconnection goes');
SELECT back($$SELECT agents('a-1', 'last_connected_at = NULL, first_connected_at = now()');
	SELECT agents('a-1', 'first_connected_at = now() - interval ''2 days''')$$, 1, 'the first connection moves back');
SELECT back($$SELECT agents('a-1', 'first_connected_at = NULL, last_connected_at = now() - interval ''3 hours''');
	SELECT agents('a-1', 'first_connected_at = now() - interval ''2 days''')$$, 1, 'an agent counts from its first connection on');
SELECT back($$SELECT agents('a-1', 'last_connected_at = ''-infinity'', first_connected_at = ''-infinity''')$$, 1, 'even if that was ever so long ago');
SELECT back($$SELECT agent('a-2'); UPDATE workspace_agents SET name = 'extra', first_connected_at = now() - interval '2 days'
	WHERE first_connected_at IS NULL$$, 2, 'another agent comes');
SELECT back($$UPDATE workspace_agents SET deleted = true, last_connected_at = now() - interval '3 hours' WHERE id = extra();
	SELECT prebuild_fold(); UPDATE workspace_agents SET deleted = false WHERE id = extra()$$, 1, 'a deleted one returns');
SELECT back($$UPDATE workspace_agents SET parent_id = (SELECT min(id::text)::uuid FROM workspace_agents WHERE id <> extra()),
	last_connected_at = now() - interval '3 hours' WHERE id = extra();
	SELECT prebuild_fold(); UPDATE workspace_agents SET parent_id = NULL WHERE id = extra()$$, 1, 'one that was below another');
SELECT back($$UPDATE workspace_agents SET last_connected_at = now() - interval '3 hours' WHERE id = extra();
	SELECT prebuild_fold(); UPDATE workspace_agents SET resource_id = (SELECT a.resource_id FROM workspace_agents a
	WHERE a.resource_id <> workspace_agents.resource_id LIMIT 1) WHERE id = extra()$$, 2, 'one that moves to another resource');
SELECT back($$SELECT agents('a-1', 'last_connected_at = now() - interval ''3 hours'''); SELECT agents('a-1', 'last_connected_at = now()');
	SELECT agents('a-1', 'last_connected_at = now() - interval ''3 hours''')$$, 2, 'one that comes and goes');
DELETE FROM workspace_agents WHERE id = extra();
SELECT back($$UPDATE prebuild_pool_state SET seen_at = seen_at - interval '40 minutes';
	INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
	SELECT '00000000-0000-0000-0000-0000000000ee', now(), b.job_id, 'start', 'docker_container', 'more' FROM workspace_builds b WHERE b.id = latest('a-1');
	SELECT agent_of('00000000-0000-0000-0000-0000000000ee'); UPDATE workspace_agents SET name = 'extra', first_connected_at = now() - interval '2 days'
	WHERE first_connected_at IS NULL$$, 3, 'one in another resource, which the fold that renews the bound finds as well');
DELETE FROM workspace_agents WHERE id = extra();

-- behind a statement's back
CREATE FUNCTION fixture.rewind() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.last_connected_at := now() - interval '3 hours'; RETURN NEW; END $$;
CREATE TRIGGER rewind BEFORE UPDATE OF version ON workspace_agents FOR EACH ROW EXECUTE FUNCTION rewind();
SELECT back($$SELECT agents('a-1', 'version = ''x''')$$, 1, 'by a BEFORE trigger on another column');
SELECT is((SELECT tgattr::text FROM pg_trigger WHERE tgrelid = 'workspace_agents'::regclass AND tgname = 'prebuild_pool_log'), '',
	'for which ours is on every update');
SELECT beat() \g /dev/null
SELECT is(logged(), 0, 'where heartbeats are not logged either');
DROP TRIGGER rewind ON workspace_agents;
DO $$ BEGIN PERFORM prebuild_attach(); PERFORM prebuild_fold(); END $$;

-- the triggers that 0.1 attached do not see steps back
CREATE OR REPLACE TRIGGER prebuild_pool_log AFTER INSERT OR DELETE OR UPDATE OF resource_id, lifecycle_state, deleted, parent_id, name
	ON workspace_agents FOR EACH ROW EXECUTE FUNCTION public.prebuild_pool_touched('resource');
ALTER TABLE workspace_agents ENABLE ALWAYS TRIGGER prebuild_pool_log;
SELECT beat() \g /dev/null
SELECT agents('a-1', 'last_connected_at = now() - interval ''3 hours''') \g /dev/null
SELECT is(logged(), 0, 'with the triggers of 0.1 a step back is not logged');
SELECT is(sick(), 'not kept: 1 sick, 1 lost, 0 wrong', 'but the tables are read');
SELECT is(looks('SELECT * FROM prebuild_state()') > 2, true, 'all of them');
SELECT prebuild_fold() \g /dev/null
SELECT is(looks('SELECT * FROM prebuild_state()'), 3, 'until a fold of the tables'' owner mends the triggers');
SELECT is(sick(), 'kept: 1 sick, 1 lost, 0 wrong', 'and the stored pool is used');

-- what prebuild_verify() calls a difference
SELECT beat() \g /dev/null
SELECT prebuild_fold() \g /dev/null
CREATE FUNCTION fixture.differences(stored timestamptz) RETURNS bigint LANGUAGE plpgsql AS
$$
BEGIN
	UPDATE prebuild_pool_state SET seen_at = stored WHERE name = 'a-1';
	RETURN (SELECT count(*) FROM prebuild_verify());
END
$$;
SELECT is(differences(now() - interval '1 s'), 0, 'an agent was seen later than the stored bound says');
SELECT is(differences('-infinity'), 0, 'however much');
SELECT is(differences(now() + interval '1 s'), 1, 'it was seen earlier');
SELECT is(differences(NULL), 1, 'it has been connected at all');
SELECT prebuild_rebuild() \g /dev/null
SELECT agents('a-1', 'first_connected_at = NULL') \g /dev/null
SELECT is(logged(), 0, 'one that counts no more is not logged');
SELECT is(differences(now()), 0, 'nor a difference');
SELECT is(differences(NULL), 0, 'nor is NULL, then');

-- times of another type, which cannot be compared
DO $$ BEGIN
	PERFORM prebuild_detach(), drop_views();
	ALTER TABLE workspace_agents ALTER last_connected_at TYPE timestamp;
	PERFORM prebuild_attach();
END $$;
SELECT beat() \g /dev/null
SELECT prebuild_fold() \g /dev/null
SELECT beat('-1 s') \g /dev/null
SELECT is(logged(), 5, 'where the type of the times is another, every change is logged');
SELECT back($$SELECT agents('a-1', 'last_connected_at = now() - interval ''3 hours''')$$, 1, 'and answers are right');
-- a trigger of somebody else's on too few columns
CREATE TABLE fixture.somebodys (id uuid, other text);
CREATE TRIGGER odd AFTER UPDATE OF id, other ON fixture.somebodys FOR EACH ROW EXECUTE FUNCTION prebuild_pool_touched('resource_seen');
INSERT INTO fixture.somebodys VALUES (gen_random_uuid(), 'x');
UPDATE fixture.somebodys SET other = 'y';
SELECT is((SELECT count(*) FROM prebuild_pool_log WHERE control_plane = 'fixture'::regnamespace), 1, 'others may misuse the trigger');
DELETE FROM prebuild_pool_log;
DROP SCHEMA cp_seen CASCADE;
DELETE FROM prebuild_event;
