# Pools in a world that fails at random, under random policies: builds fail, are canceled, or nobody takes
# them; agents do not start, hang or vanish; deletes fail; people claim, invalidate, stop and promote.
# Then the world is well again. In the end no slot has leaked: every member is eligible, on its way, kept by
# a setting, or gone, and every preset has what it wants. PREBUILD_SEED repeats a run, up to random ids.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $seed = $ENV{PREBUILD_SEED} // int(rand(1e6));
my $wanted = $ENV{PREBUILD_FAILURES} // 1000;
my $node = new_server('random_failures', 'fsync = off');
my $failures = 0;

my $world = q{
	CREATE SCHEMA world;
	CREATE TABLE world.clock AS SELECT fixture.t0() AS at;
	CREATE TABLE world.claimed (id uuid PRIMARY KEY, at timestamptz, name text);
	CREATE TABLE world.dead (agent_id uuid PRIMARY KEY);
	CREATE TABLE world.failed (kind text PRIMARY KEY, n int);
	CREATE TABLE world.wrong (what text);

	CREATE FUNCTION world.pick(VARIADIC text[]) RETURNS text LANGUAGE sql VOLATILE AS
	$$ SELECT $1[1 + floor(random() * cardinality($1))::int] $$;
	CREATE FUNCTION world.fails(what text) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO world.failed VALUES (what, 1) ON CONFLICT (kind) DO UPDATE SET n = failed.n + 1 $$;

	-- What a preset's policy says, worked out anew.
	CREATE VIEW world.policy AS
		SELECT p.id AS preset_id, t.id AS template_id, t.active_version_id = v.id AS active,
			coalesce(o.unready_grace, y.unready_grace, '0') AS unready_grace,
			coalesce(o.disconnected_grace, y.disconnected_grace, '0') AS disconnected_grace,
			coalesce(o.failed_retention, y.failed_retention, '0') AS failed_retention,
			coalesce(o.failed_keep, y.failed_keep, 1) AS failed_keep,
			coalesce(o.delete_retries, y.delete_retries, 0) AS delete_retries,
			coalesce(o.hard_limit_retry, y.hard_limit_retry, '0') AS hard_limit_retry
		FROM template_version_presets p JOIN template_versions v ON v.id = p.template_version_id
		JOIN templates t ON t.id = v.template_id
		LEFT JOIN prebuild_policy y ON y.template_id = t.id AND y.preset_name IS NULL
		LEFT JOIN prebuild_policy o ON o.template_id = t.id AND o.preset_name = p.name;
	-- The members, each with its latest build, the preset it belongs to, and its agents.
	CREATE VIEW world.member AS
		SELECT w.id, w.name, w.created_at, b.id AS build_id, b.transition, b.created_at AS built_at, j.job_status,
			coalesce(s.preset_id, b.template_version_preset_id) AS preset_id, a.ready, a.sick, a.seen, d.deletes
		FROM workspaces w, LATERAL (SELECT x.* FROM workspace_builds x WHERE x.workspace_id = w.id
				ORDER BY x.build_number DESC LIMIT 1) b
		JOIN provisioner_jobs j ON j.id = b.job_id
		LEFT JOIN LATERAL (SELECT x.template_version_preset_id AS preset_id FROM workspace_builds x
			WHERE x.workspace_id = b.workspace_id AND x.transition = 'start' AND x.template_version_preset_id IS NOT NULL
			ORDER BY x.build_number DESC LIMIT 1) s ON true
		LEFT JOIN LATERAL (SELECT bool_and(x.lifecycle_state = 'ready') AS ready,
			bool_or(x.lifecycle_state IN ('start_error', 'off')) AS sick,
			min(greatest(x.first_connected_at, x.last_connected_at, x.disconnected_at)) FILTER (WHERE x.first_connected_at IS NOT NULL) AS seen
			FROM workspace_resources r JOIN workspace_agents x ON x.resource_id = r.id
			WHERE r.job_id = b.job_id AND NOT x.deleted) a ON true
		LEFT JOIN LATERAL (SELECT count(*) AS deletes FROM workspace_builds x WHERE x.workspace_id = b.workspace_id
			AND x.build_number > (SELECT coalesce(max(y.build_number), 0) FROM workspace_builds y
				WHERE y.workspace_id = b.workspace_id AND y.transition <> 'delete')) d ON true
		WHERE w.owner_id = prebuild_system_user() AND NOT w.deleted;

	CREATE FUNCTION world.new_version(template_name text, number int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fixture.version(template_name, format('%s-v%s', template_name, number));
		-- names of presets are unique here: those of older versions make room
		UPDATE template_version_presets SET name = name || '-before-' || number WHERE name IN (template_name || '-a', template_name || '-b');
		PERFORM fixture.preset(format('%s-v%s', template_name, number), template_name || '-a', 1 + floor(random() * 4)::int, world.pick('0', '0', '7200')::int);
		PERFORM fixture.preset(format('%s-v%s', template_name, number), template_name || '-b', 1 + floor(random() * 2)::int);
	END $$;
	CREATE FUNCTION world.new_policy(template_id uuid, all_on boolean, preset_name text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF all_on THEN
			PERFORM prebuild_set_policy(template_id, unready_grace => world.pick('5 min', '1 h')::interval,
				disconnected_grace => world.pick('2 min', '1 h')::interval, failed_retention => world.pick('30 min', '6 h')::interval,
				failed_keep => world.pick('0', '1', '2')::int, delete_retries => 3, hard_limit_retry => '30 min', require_provisioner => random() < 0.5,
				max_unavailable => world.pick('0', '1', '50%', '100%'), max_surge => world.pick('0', '1', '50%', '100%'));
		ELSE
			PERFORM prebuild_set_policy(template_id, preset_name, unready_grace => world.pick(NULL, '0', '10 min', '1 h')::interval,
				disconnected_grace => world.pick(NULL, '0', '2 min', '1 h')::interval, failed_retention => world.pick(NULL, '0', '30 min', '6 h')::interval,
				failed_keep => world.pick(NULL, '0', '1', '3')::int, delete_retries => world.pick(NULL, '0', '1', '3')::int,
				hard_limit_retry => world.pick(NULL, '0', '30 min')::interval, require_provisioner => random() < 0.3,
				max_unavailable => world.pick(NULL, '0', '1', '50%', '100%'), max_surge => world.pick(NULL, '0', '1', '50%', '100%'));
		END IF;
	END $$;

	-- The end of a job: outcome "succeeded", "failed", "canceled" or "reaped" (nobody ever took it).
	CREATE PROCEDURE world.finish(build workspace_builds, outcome text, agent_state text) LANGUAGE plpgsql AS $$
	DECLARE
		at timestamptz := (SELECT c.at FROM world.clock c);
		resource uuid;
	BEGIN
		UPDATE provisioner_jobs j SET started_at = coalesce(j.started_at, at), completed_at = at, updated_at = at,
			canceled_at = CASE outcome WHEN 'canceled' THEN at END,
			worker_id = CASE WHEN outcome <> 'reaped' THEN coalesce(j.worker_id, gen_random_uuid()) ELSE j.worker_id END,
			error = CASE WHEN outcome IN ('failed', 'reaped') THEN 'no' END
		WHERE j.id = build.job_id;
		UPDATE workspace_builds SET provisioner_state = CASE WHEN outcome = 'failed' THEN '\x'::bytea ELSE '\xfeed' END WHERE id = build.id;
		IF outcome = 'succeeded' AND build.transition = 'start' THEN
			INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
			VALUES (gen_random_uuid(), at, build.job_id, 'start', 'docker_container', 'main') RETURNING id INTO resource;
			PERFORM fixture.agent_of(resource, agent_state);
			UPDATE workspace_agents SET first_connected_at = at, last_connected_at = at, started_at = at
			WHERE resource_id = resource AND agent_state <> 'created';
		ELSIF outcome = 'succeeded' AND build.transition = 'delete' THEN
			UPDATE workspaces SET deleted = true WHERE id = build.workspace_id;
		END IF;
	END $$;
	-- What happens to jobs that wait or run. bad: the share of those that end badly.
	CREATE PROCEDURE world.provisioner(bad float8) LANGUAGE plpgsql AS $$
	DECLARE
		build workspace_builds;
		outcome text;
		state text;
	BEGIN
		FOR build IN SELECT b.* FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
			WHERE j.job_status IN ('pending', 'running', 'canceling') AND (bad = 0 OR random() < 0.7)
		LOOP
			outcome := CASE WHEN random() >= bad THEN 'succeeded' ELSE world.pick('failed', 'failed', 'canceled', 'reaped', 'agent', 'agent', 'runs') END;
			state := 'ready';
			IF outcome = 'runs' THEN
				UPDATE provisioner_jobs SET started_at = (SELECT at FROM world.clock), worker_id = gen_random_uuid()
				WHERE id = build.job_id AND started_at IS NULL;
				CONTINUE;
			END IF;
			IF outcome = 'agent' THEN
				outcome := 'succeeded';
				state := world.pick('start_error', 'start_error', 'starting', 'created');
				IF build.transition = 'start' THEN PERFORM world.fails('agent ' || state); END IF;
			END IF;
			IF outcome <> 'succeeded' THEN PERFORM world.fails(build.transition || ' ' || outcome); END IF;
			CALL world.finish(build, outcome, state);
		END LOOP;
		UPDATE workspace_agents a SET last_connected_at = c.at FROM world.clock c
		WHERE a.lifecycle_state = 'ready' AND a.first_connected_at IS NOT NULL AND NOT EXISTS (SELECT FROM world.dead d WHERE d.agent_id = a.id);
		UPDATE provisioner_daemons d SET last_seen_at = c.at FROM world.clock c WHERE bad = 0 OR random() < 0.5;
	END $$;

	-- What people and networks do.
	CREATE PROCEDURE world.disturb() LANGUAGE plpgsql AS $$
	DECLARE
		at timestamptz := (SELECT c.at FROM world.clock c);
		m world.member;
		n int;
	BEGIN
		-- agents that vanish or shut down
		INSERT INTO world.dead SELECT a.id FROM workspace_agents a WHERE a.lifecycle_state = 'ready' AND random() < 0.05 ON CONFLICT DO NOTHING;
		GET DIAGNOSTICS n = ROW_COUNT;
		PERFORM world.fails('agent vanished') FROM generate_series(1, n);
		UPDATE workspace_agents SET lifecycle_state = 'off' WHERE lifecycle_state = 'ready' AND random() < 0.02;
		GET DIAGNOSTICS n = ROW_COUNT;
		PERFORM world.fails('agent off') FROM generate_series(1, n);
		IF random() < 0.1 THEN
			UPDATE template_version_presets SET last_invalidated_at = at WHERE random() < 0.3;
		END IF;
		IF random() < 0.1 THEN
			PERFORM world.new_version(world.pick('one', 'two', 'three'), 10 + (SELECT count(*)::int FROM template_versions));
		END IF;
		IF random() < 0.1 THEN
			PERFORM world.new_policy((SELECT id FROM templates ORDER BY random() LIMIT 1), false);
			PERFORM world.new_policy((SELECT id FROM templates WHERE name = 'two'), false, world.pick('two-a', 'two-b'));
		END IF;
		IF random() < 0.1 THEN
			SELECT * INTO m FROM world.member WHERE transition = 'start' AND job_status = 'succeeded' ORDER BY random() LIMIT 1;
			IF FOUND THEN
				PERFORM fixture.build(m.name, 'stop', world.pick('succeeded', 'failed', 'canceled'), created => at);
				PERFORM world.fails('stopped');
			END IF;
		END IF;
		IF random() < 0.05 THEN PERFORM prebuild_clean(at => at); END IF;
		IF random() < 0.05 THEN PERFORM prebuild_retry(preset_id, at) FROM prebuild_state(at) WHERE hard_limited; END IF;
	END $$;
	CREATE PROCEDURE world.claim() LANGUAGE plpgsql AS $$
	DECLARE
		at timestamptz := (SELECT c.at FROM world.clock c);
		preset record;
		got record;
		new_name text;
	BEGIN
		FOR preset IN SELECT p.* FROM world.policy p WHERE p.active ORDER BY random() LIMIT 2 LOOP
			new_name := 'mine-' || (SELECT count(*) FROM world.claimed);
			SELECT c.id INTO got FROM prebuild_claim(preset.preset_id, fixture.usr('ada'), new_name, at => at) c;
			CONTINUE WHEN got.id IS NULL;
			INSERT INTO world.claimed VALUES (got.id, at, new_name);
			INSERT INTO world.wrong SELECT format('claimed %s: state %s, seen %s', new_name, a.lifecycle_state, a.last_connected_at)
			FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id JOIN workspace_agents a ON a.resource_id = r.id
			WHERE b.workspace_id = got.id AND b.build_number = (SELECT max(x.build_number) FROM workspace_builds x WHERE x.workspace_id = got.id)
				AND (a.lifecycle_state <> 'ready' OR (preset.disconnected_grace > '0' AND a.last_connected_at < at - preset.disconnected_grace));
		END LOOP;
	END $$;
	-- What must hold at any time.
	CREATE PROCEDURE world.check() LANGUAGE sql AS $$
		INSERT INTO world.wrong SELECT 'a claimed one was deleted: ' || c.name FROM world.claimed c JOIN workspaces w ON w.id = c.id
		WHERE w.deleted OR w.owner_id = prebuild_system_user()
			OR EXISTS (SELECT FROM workspace_builds b WHERE b.workspace_id = c.id AND b.transition = 'delete');
		INSERT INTO world.wrong SELECT 'two builds at once: ' || w.name FROM workspaces w WHERE (SELECT count(*) FROM workspace_builds b
			JOIN provisioner_jobs j ON j.id = b.job_id WHERE b.workspace_id = w.id AND j.job_status IN ('pending', 'running')) > 1;
		INSERT INTO world.wrong SELECT format('preset failed: %s', detail) FROM prebuild_event WHERE kind = 'preset_failed';
	$$;
	CREATE PROCEDURE world.step(span interval, bad float8) LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE world.clock SET at = at + span;
		CALL world.provisioner(bad);
		IF bad > 0 THEN
			CALL world.disturb();
			CALL world.claim();
		END IF;
		PERFORM prebuild_reconcile((SELECT at FROM world.clock));
		COMMIT;
	END $$;
	CREATE PROCEDURE world.chaos(wanted int) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT coalesce(sum(n), 0) FROM world.failed) < wanted LOOP
			CALL world.step(random() * interval '20 min', 0.4);
			CALL world.check();
		END LOOP;
	END $$;
	-- Two days without disturbance. Presets that are hard-limited for ever get their retry.
	CREATE PROCEDURE world.heal() LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM prebuild_retry(s.preset_id, c.at) FROM world.clock c, prebuild_state(c.at) s JOIN world.policy p USING (preset_id)
		WHERE p.hard_limit_retry = '0';
		FOR i IN 1 .. 96 LOOP
			CALL world.step('30 min', 0);
		END LOOP;
		FOR i IN 1 .. 20 LOOP
			CALL world.step('10 s', 0);
		END LOOP;
		CALL world.check();
	END $$;
	-- Why a member may be there in the end, or "leaked".
	CREATE FUNCTION world.account(at timestamptz) RETURNS TABLE (why text, member text) LANGUAGE sql AS $$
		SELECT CASE
			WHEN m.job_status IN ('pending', 'running') THEN 'on its way'
			WHEN m.transition = 'start' AND m.job_status = 'succeeded' AND NOT p.active THEN 'leaked'
			WHEN m.transition = 'start' AND m.job_status = 'succeeded' AND m.ready
				AND (p.disconnected_grace = '0' OR m.seen IS NULL OR m.seen >= at - p.disconnected_grace) THEN 'eligible'
			WHEN m.transition = 'start' AND m.job_status = 'succeeded' AND NOT m.ready AND p.unready_grace = '0'
				AND (p.disconnected_grace = '0' OR NOT m.sick) THEN 'not ready, which nobody minds'
			WHEN m.transition = 'delete' AND (p.delete_retries = 0 OR m.deletes > p.delete_retries) THEN 'undeleted, and given up'
			WHEN m.transition <> 'delete' AND m.job_status IN ('failed', 'canceled') OR m.transition = 'stop' THEN
				CASE WHEN p.failed_retention = '0' OR m.built_at >= at - p.failed_retention OR m.place <= p.failed_keep
					THEN 'evidence' ELSE 'leaked' END
			ELSE 'leaked' END, format('%s %s %s, built at %s, ready %s, seen %s, deletes %s, policy %s', m.name, m.transition, m.job_status,
				m.built_at, m.ready, m.seen, m.deletes, to_jsonb(p))
		FROM (SELECT x.*, row_number() OVER (PARTITION BY preset_id, transition <> 'delete' AND (job_status IN ('failed', 'canceled') OR transition = 'stop')
			ORDER BY built_at DESC, build_id) AS place FROM world.member x) m JOIN world.policy p USING (preset_id)
	$$;
};

for (my $round = 1; $failures < $wanted && Test::More->builder->is_passing; $round++)
{
	my $db = new_control_plane($node, "world_$round");
	my $all_on = $round % 2 ? 'true' : 'false';
	my $start = ($seed + $round) % 1000 / 1000;

	$node->safe_psql($db, $world . ($round % 3 ? '' : 'SELECT prebuild_attach();'));
	$node->safe_psql($db, qq{
		SELECT setseed($start);
		SELECT fixture.template('one'), fixture.template('two'), fixture.template('three');
		SELECT world.new_version('one', 1), world.new_version('two', 1), world.new_version('three', 1);
		SELECT fixture.daemon('d' || n, 'org', '{terraform}', '{"scope": "organization", "owner": ""}', fixture.t0()) FROM generate_series(1, 4) n;
		SELECT world.new_policy(id, false) FROM templates});
	my $said = '';
	$node->psql($db, qq{
		SELECT setseed($start) \\g /dev/null
		SET prebuild.max_building = '@{[ (0, 3, '200%')[$round % 3] ]}';
		CALL world.chaos(@{[ $ENV{PREBUILD_ROUND} // 125 ]});
		@{[ $all_on eq 'true' ? 'DELETE FROM prebuild_policy;
			SELECT world.new_policy(id, true) FROM templates;' : '' ]}
		CALL world.heal();}, stderr => \$said, on_error_stop => 1);
	is($said, '', "world $round: nothing is raised");
	my $kinds = $node->safe_psql($db, q{SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM world.failed});
	my $n = $node->safe_psql($db, 'SELECT sum(n) FROM world.failed');
	$failures += $n;
	note("world $round: $n failures: $kinds");
	note("world $round: " . $node->safe_psql($db, q{SELECT string_agg(why || ' ' || n, ', ' ORDER BY why) FROM
		(SELECT why, count(*) AS n FROM world.clock, world.account(at) GROUP BY why) x}));
	note("world $round: " . $node->safe_psql($db, q{SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM
		(SELECT kind, count(*) AS n FROM prebuild_event WHERE kind <> 'pass' GROUP BY kind) x}));
	is($node->safe_psql($db, 'SELECT DISTINCT what FROM world.wrong LIMIT 5'), '', "world $round: nothing was claimed or deleted wrongly");
	is($node->safe_psql($db, q{SELECT member FROM world.clock, world.account(at) WHERE why = 'leaked' LIMIT 5}), '', "world $round: no slot has leaked");
	is($node->safe_psql($db, qq{SELECT s.preset_name, s.desired, s.eligible, s.actual, s.starting, s.sick, s.expired, s.hard_limited, s.prebuild_status
		FROM world.clock c, prebuild_state(c.at) s WHERE s.active AND s.eligible <> s.desired
			AND ($all_on OR s.eligible + (SELECT count(*) FROM world.account(c.at) a JOIN world.member m ON a.member ~ ('^' || m.name || ' ')
				WHERE m.preset_id = s.preset_id AND a.why = 'not ready, which nobody minds') < s.desired)}),
		'', "world $round: every pool has what it wants");
	is($node->safe_psql($db, q{SELECT action, count, reason FROM world.clock c, prebuild_plan(c.at) WHERE action IN ('create', 'delete', 'cancel_pending')}),
		'', "world $round: and passes have nothing more to do");
	is($node->safe_psql($db, 'SELECT * FROM prebuild_verify()'), '', "world $round: the kept pool is right") unless $round % 3;
	$node->safe_psql('postgres', "DROP DATABASE $db");
}
ok($failures >= $wanted, "$failures failures, seed $seed");

$node->stop;
done_testing();
