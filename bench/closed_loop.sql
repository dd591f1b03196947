-- A trace of demand played into a control plane by a clock of its own: passes, a stand-in for the
-- provisioner, and claims. Loaded into each database of the benchmark. Variables of psql: seed, per_day,
-- weeks (of history), played (days), began (the first midnight that is played), lead and spread (seconds that
-- a build takes, and up to so many more), configured (a number, or NULL for one that a person would set).

CREATE SCHEMA bench;
SET search_path = bench, public;
SET synchronous_commit = off;

CREATE FUNCTION bench.id(kind text, number bigint DEFAULT 1) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5(kind || number)::uuid;

-- The n-th of a series of numbers from 0 to 1 that look random.
CREATE FUNCTION bench.noise(series text, n bigint) RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN ('x' || left(md5(series || n), 8))::bit(32)::bigint / 4294967296.0;

-- Demands a minute of an office's week, up to a factor: a peak in the morning, a long afternoon, little
-- at night and on the weekend.
CREATE FUNCTION bench.rate(at timestamptz) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN extract(isodow FROM at AT TIME ZONE 'UTC') > 5 THEN 0.005
		ELSE 0.001 + 0.25 * exp(greatest(-((h - 9.3) ^ 2), -50))
			+ 0.08 * exp(greatest(-(((h - 14) / 2) ^ 2), -50)) END
	FROM (SELECT extract(epoch FROM (at AT TIME ZONE 'UTC')::time)::float8 / 3600 AS h) x
$$;

-- How long the n-th build takes.
CREATE FUNCTION bench.lead(n bigint) RETURNS interval LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => :lead + :spread * bench.noise('lead', n));

-- Everybody who comes, in the history and in the days that are played.
CREATE TABLE bench.trace AS
SELECT row_number() OVER (ORDER BY at) AS n, at
FROM (SELECT minute + bench.noise(:'seed' || ' at', m) * interval '1 minute' AS at
	FROM (SELECT minute, extract(epoch FROM minute)::bigint / 60 AS m
		FROM generate_series(:'began'::timestamptz - :weeks * interval '7 days',
			:'began'::timestamptz + :played * interval '1 day' - interval '1 minute',
			interval '1 minute') minute) minutes
	WHERE bench.noise(:'seed' || ' comes', m) < bench.rate(minute) * :per_day * 7
		/ (SELECT sum(bench.rate('2024-01-01Z'::timestamptz + x * interval '1 minute'))
			FROM generate_series(0, 10079) x)) times;
CREATE UNIQUE INDEX ON bench.trace (at);

INSERT INTO organizations (id, name, display_name, description, created_at, updated_at,
                           default_org_member_roles)
VALUES (bench.id('organization'), 'organization', '', '', '2024-01-01Z', '2024-01-01Z', '{}');
INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status)
VALUES (bench.id('user'), 'ada@example.org', 'ada', '', '2024-01-01Z', '2024-01-01Z', 'active');
INSERT INTO templates (id, created_at, updated_at, organization_id, name, provisioner,
                       active_version_id, created_by, use_classic_parameter_flow)
VALUES (bench.id('template'), '2024-01-01Z', '2024-01-01Z', bench.id('organization'), 'app', 'terraform',
        bench.id('version'), bench.id('user'), true);
INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
                              initiator_id, provisioner, storage_method, type, input, file_id, tags)
VALUES (bench.id('import'), '2024-01-01Z', '2024-01-01Z', '2024-01-01Z', '2024-01-01Z',
        bench.id('organization'), bench.id('user'), 'terraform', 'file', 'template_version_import', '{}',
        bench.id('file'), '{"scope": "organization", "owner": ""}');
INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name, readme,
                               job_id, created_by)
VALUES (bench.id('version'), bench.id('template'), bench.id('organization'), '2024-01-01Z', '2024-01-01Z',
        'v1', '', bench.id('import'), bench.id('user'));

-- What a careful person sets: what 99 % of the last four weeks' demands needed, and one more.
INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances)
SELECT bench.id('preset'), bench.id('version'), 'small', '2024-01-01Z',
       coalesce(:configured, 1 + percentile_disc(0.99) WITHIN GROUP (ORDER BY needed))
FROM (SELECT at, count(*) OVER (ORDER BY at RANGE BETWEEN interval '5 minutes' PRECEDING AND CURRENT ROW)
		AS needed FROM bench.trace) demands
WHERE at >= :'began'::timestamptz - interval '28 days' AND at < :'began';

-- A build of a workspace, by the system user or by the user, that was done at a time (NULL: under way).
-- Returns the job.
CREATE FUNCTION bench.build(workspace uuid, build_number int, system boolean, preset uuid, created timestamptz,
	done timestamptz) RETURNS uuid LANGUAGE sql AS $$
	WITH job AS (
		INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, organization_id,
		                              initiator_id, provisioner, storage_method, type, input, worker_id,
		                              file_id, tags)
		VALUES (gen_random_uuid(), created, coalesce(done, created), created, done, bench.id('organization'),
		        CASE WHEN system THEN prebuild_system_user() ELSE bench.id('user') END, 'terraform', 'file',
		        'workspace_build', '{}', bench.id('worker'), bench.id('file'),
		        '{"scope": "organization", "owner": ""}')
		RETURNING *),
	resource AS (
		INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
		SELECT gen_random_uuid(), done, id, 'start', 'machine', 'main' FROM job
		WHERE done IS NOT NULL RETURNING id),
	agent AS (
		INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		                              architecture, operating_system, lifecycle_state, ready_at)
		SELECT gen_random_uuid(), done, done, 'main', id, gen_random_uuid(), 'amd64', 'linux', 'ready', done
		FROM resource)
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
	                              build_number, transition, initiator_id, job_id,
	                              template_version_preset_id)
	SELECT gen_random_uuid(), created, created, workspace, bench.id('version'), build_number, 'start',
	       initiator_id, id, preset FROM job
	RETURNING job_id
$$;
CREATE FUNCTION bench.workspace(workspace uuid, new_name text, created timestamptz) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
	VALUES (workspace, created, created, bench.id('user'), bench.id('organization'),
	        bench.id('template'), new_name)
$$;

-- The history: everybody got a prebuild that was built three hours before.
SELECT bench.workspace(bench.id('past', n), 'past-' || n, at - interval '3 hours'),
	bench.build(bench.id('past', n), 1, true, bench.id('preset'), at - interval '3 hours',
		at - interval '3 hours' + bench.lead(n)),
	bench.build(bench.id('past', n), 2, false, NULL, at, at + interval '20 seconds')
FROM bench.trace WHERE at < :'began'::timestamptz - interval '6 hours' ORDER BY n \g /dev/null

-- The jobs that the provisioner does.
CREATE TABLE bench.running (job_id uuid, ends timestamptz);
-- Each policy that passes chose, with what the backtest expected of it.
CREATE TABLE bench.chosen (LIKE prebuild_policy_choice);

-- End the builds whose time has come.
CREATE PROCEDURE bench.end_builds(at timestamptz) LANGUAGE sql AS $$
	WITH done AS (DELETE FROM bench.running r WHERE r.ends <= at RETURNING *),
	ended AS (
		UPDATE provisioner_jobs j SET completed_at = d.ends, updated_at = d.ends FROM done d
		WHERE j.id = d.job_id RETURNING j.id, j.completed_at),
	resources AS (
		INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
		SELECT gen_random_uuid(), completed_at, id, 'start', 'machine', 'main' FROM ended
		RETURNING id, created_at)
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
	                              architecture, operating_system, lifecycle_state, ready_at)
	SELECT gen_random_uuid(), created_at, created_at, 'main', id, gen_random_uuid(), 'amd64', 'linux',
	       'ready', created_at FROM resources
$$;

-- Take the jobs that a pass has made: deletions are done at once, builds take their time.
CREATE PROCEDURE bench.begin_jobs(at timestamptz) LANGUAGE sql AS $$
	WITH deleted AS (
		UPDATE provisioner_jobs j SET started_at = at, completed_at = at, updated_at = at,
			worker_id = bench.id('worker')
		FROM workspace_builds b
		WHERE b.job_id = j.id AND j.started_at IS NULL AND b.transition = 'delete'
		RETURNING b.workspace_id)
	UPDATE workspaces w SET deleted = true FROM deleted d WHERE w.id = d.workspace_id;
	WITH begun AS (
		UPDATE provisioner_jobs j SET started_at = at, updated_at = at, worker_id = bench.id('worker')
		FROM workspace_builds b
		WHERE b.job_id = j.id AND j.started_at IS NULL AND b.transition = 'start'
		RETURNING j.id, b.id AS build)
	INSERT INTO bench.running
	SELECT id, at + bench.lead(extract(epoch FROM at)::bigint * 100 + row_number() OVER (ORDER BY id))
	FROM begun;
$$;

-- Somebody asks for a workspace: it is claimed, or built for them.
CREATE PROCEDURE bench.ask(number bigint, at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	got uuid := (SELECT c.id FROM prebuild_claim(bench.id('preset'), bench.id('user'), 'played-' || number,
		at => ask.at) c);
BEGIN
	IF got IS NULL THEN
		got := bench.id('played', number);
		PERFORM bench.workspace(got, 'played-' || number, at);
		INSERT INTO bench.running
		SELECT bench.build(got, 1, false, bench.id('preset'), at, NULL), at + bench.lead(number);
	ELSE
		PERFORM bench.build(got, 2, false, NULL, at, at + interval '20 seconds');
	END IF;
END
$$;

-- Play the trace from a time to another one: a pass every minute, as the backtest assumes.
CREATE PROCEDURE bench.play(began timestamptz, ended timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	clock timestamptz := began;
	before timestamptz := began;
	event record;
	pass record;
BEGIN
	LOOP
		FOR event IN
			SELECT ends AS at, NULL::bigint AS number FROM bench.running WHERE ends <= clock
			UNION ALL
			SELECT t.at, t.n FROM bench.trace t WHERE t.at > before AND t.at <= clock
			ORDER BY 1, 2 NULLS FIRST
		LOOP
			IF event.number IS NULL THEN
				CALL bench.end_builds(event.at);
			ELSE
				CALL bench.ask(event.number, event.at);
			END IF;
		END LOOP;
		EXIT WHEN clock >= ended;
		SELECT * INTO pass FROM prebuild_reconcile(clock);
		IF NOT pass.lock_acquired OR pass.paused OR pass.failed > 0 THEN
			RAISE 'a pass did not run: %', pass;
		END IF;
		IF pass.created + pass.deleted > 0 THEN
			CALL bench.begin_jobs(clock);
		END IF;
		INSERT INTO bench.chosen SELECT * FROM prebuild_policy_choice c WHERE c.chosen_at = clock;
		COMMIT;
		before := clock;
		clock := clock + interval '1 minute';
	END LOOP;
	COMMIT;
END
$$;

-- What came of a time, from the tables alone.
CREATE TYPE bench.figures AS (demands int, warm int, idle float8, created int, deleted int);
CREATE FUNCTION bench.came(began timestamptz, ended timestamptz) RETURNS bench.figures LANGUAGE sql STABLE AS $$
	SELECT (count(*) FILTER (WHERE asked >= began AND asked < ended),
		count(*) FILTER (WHERE warm AND asked >= began AND asked < ended),
		sum(extract(epoch FROM least(coalesce(asked, gone, ended), ended) - greatest(ready, began)) / 3600)
			FILTER (WHERE warm AND ready < ended AND coalesce(asked, gone, ended) > began),
		count(*) FILTER (WHERE warm_built AND first.created_at >= began AND first.created_at < ended),
		count(*) FILTER (WHERE gone >= began AND gone < ended))::bench.figures
	FROM workspaces w
	JOIN workspace_builds first ON first.workspace_id = w.id AND first.build_number = 1
	CROSS JOIN LATERAL (SELECT first.initiator_id = prebuild_system_user() AS warm_built) a
	LEFT JOIN workspace_builds last ON last.workspace_id = w.id AND last.build_number = 2
	LEFT JOIN workspace_resources r ON r.job_id = first.job_id
	LEFT JOIN workspace_agents g ON g.resource_id = r.id
	CROSS JOIN LATERAL (SELECT warm_built AS warm, g.ready_at AS ready,
		CASE WHEN NOT warm_built THEN first.created_at
			WHEN last.transition = 'start' THEN last.created_at END AS asked,
		CASE WHEN last.transition = 'delete' THEN last.created_at END AS gone) b
$$;

-- What the simulator says of a policy for a time. It knows a policy that is a candidate of the backtest:
-- other service levels, and ranges that begin earlier, give others. The aim of a schedule is a level, or
-- between it and 1.
CREATE FUNCTION bench.simulated(policy text, began timestamptz, ended timestamptz)
RETURNS TABLE (starts_at timestamptz, demands int, missed int, idle float8, created int, deleted int)
LANGUAGE plpgsql STABLE AS $$
DECLARE
	parameter CONSTANT float8 := substring(policy FROM '[0-9.e-]+$');
	level float8;
BEGIN
	FOR week IN 0 .. 7 LOOP
		FOR level IN
			SELECT 1 - (1 - parameter) * part FROM unnest('{1,2,5}'::float8[]) part WHERE policy ~ '^schedule'
			UNION ALL SELECT 1 - 0.001 * 1.16 ^ step FROM generate_series(0, 40) step
		LOOP
			CONTINUE WHEN level <= 0;
			BEGIN
				RETURN QUERY SELECT r.starts_at, demand_warm + demand_cold, r.missed,
					extract(epoch FROM r.idle)::float8 / 3600, r.created, r.deleted
				FROM prebuild_replay(bench.id('template'), 'small', began - week * interval '7 days', ended,
					simulated.policy, '1 minute', level) r
				WHERE r.starts_at >= began;
				RETURN;
			EXCEPTION WHEN invalid_parameter_value THEN
				-- not a candidate of this one
			END;
		END LOOP;
	END LOOP;
	RAISE 'the simulator does not know %', policy;
END
$$;
