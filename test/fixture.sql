-- Read by the SQL tests: functions in the schema "fixture" that build small control planes.
--
-- Templates, versions, presets and workspaces go by name; a name is used once in a test file.
-- A test calls fixture.control_plane() first, which also puts the control plane and "fixture" on
-- the search_path. Everything random stays out of the output: tests print the lines of ok() and
-- is(), which say "ok" or "NOT OK".
--
-- A control plane is made by prebuild_create_control_plane() or, where the environment variable
-- PREBUILD_CODER_SCHEMA names a file, by the schema of a release of Coder in it, so that the same
-- tests run on both. What such a schema does not have or asks for in addition is seen to here.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS prebuild_ext;
DROP SCHEMA IF EXISTS fixture CASCADE;
CREATE SCHEMA fixture;
SET search_path = fixture, public;
SET timezone = 'UTC';
SET check_function_bodies = off;
\pset format unaligned
\pset tuples_only on
\pset null NULL
\set SHOW_CONTEXT never

-- what tests print

CREATE FUNCTION ok(condition boolean, label text) RETURNS text LANGUAGE sql AS
$$ SELECT CASE WHEN condition THEN 'ok - ' ELSE 'NOT OK - ' END || label $$;

CREATE FUNCTION is(got anycompatible, wanted anycompatible, label text) RETURNS text LANGUAGE sql AS
$$
	SELECT CASE WHEN got IS NOT DISTINCT FROM wanted THEN 'ok - ' || label
		ELSE format('NOT OK - %s: got %L, wanted %L', label, got::text, wanted::text) END
$$;

-- The statement fails with this SQLSTATE, and message and hint match (NULL: whatever they are).
CREATE FUNCTION raises(statement text, state text, message text, hint text, label text)
RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	got_message text;
	got_hint text;
BEGIN
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS got_message = MESSAGE_TEXT, got_hint = PG_EXCEPTION_HINT;
		IF SQLSTATE = coalesce(state, SQLSTATE) AND got_message ~* coalesce(message, '')
				AND got_hint ~* coalesce(hint, '') THEN
			RETURN 'ok - ' || label;
		END IF;
		RETURN format('NOT OK - %s: %s: %s (hint: %s)', label, SQLSTATE, got_message, got_hint);
	END;
	RETURN format('NOT OK - %s: no error', label);
END
$$;

-- the clock of all tests: a Monday

CREATE FUNCTION t0() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT timestamptz '2025-06-02 12:00Z' $$;

-- the control plane

\set coder_schema `printf %s "$PREBUILD_CODER_SCHEMA"`
CREATE TABLE coder AS SELECT pg_read_file(:'coder_schema') AS statements WHERE :'coder_schema' <> '';

-- Fill the first schema of the search_path with the tables of a release of Coder, and with the rows
-- that its migrations make and the extension knows.
CREATE FUNCTION coder_tables() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	EXECUTE (SELECT statements FROM coder);
	INSERT INTO users (id, email, username, name, hashed_password, created_at, updated_at, status,
		login_type, is_system)
	VALUES (prebuild_system_user(), 'prebuilds@system', 'prebuilds', 'Prebuilds', '', now(), now(),
		'active', 'none', true);
END
$$;

-- Make a new control plane in a schema of this name (public: once) and use it from now on, without
-- the events of the one before. Attached where fixture.attached says so: the answers are the same.
CREATE FUNCTION control_plane(schema_name text DEFAULT 'cp') RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	IF schema_name <> 'public' THEN
		EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', schema_name);
		EXECUTE format('CREATE SCHEMA %I', schema_name);
	END IF;
	PERFORM set_config('prebuild.control_plane_schema', schema_name, false);
	PERFORM set_config('search_path', format('%I, fixture, %s', schema_name,
		(SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'prebuild_ext')), false);
	IF EXISTS (SELECT FROM coder) THEN
		PERFORM coder_tables();
	ELSE
		PERFORM prebuild_create_control_plane();
	END IF;
	IF current_setting('fixture.attached', true) = 'on' THEN
		PERFORM prebuild_attach();
	END IF;
	DELETE FROM prebuild_event;
END
$$;

-- Insert a row, without those of its columns that this control plane does not have.
CREATE FUNCTION put(table_name text, columns jsonb) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	known text := (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
		WHERE attrelid = table_name::regclass AND attnum > 0 AND columns ? attname);
BEGIN
	EXECUTE format('INSERT INTO %1$I (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$I, $1)',
		table_name, known) USING columns;
END
$$;

CREATE FUNCTION organization(org text) RETURNS uuid LANGUAGE plpgsql AS
$$
BEGIN
	IF NOT EXISTS (SELECT FROM organizations o WHERE o.name = org) THEN
		PERFORM put('organizations', jsonb_build_object('id', gen_random_uuid(), 'name', org,
			'description', '', 'created_at', t0(), 'updated_at', t0(), 'display_name', org,
			'default_org_member_roles', ARRAY[]::text[]));
	END IF;
	RETURN (SELECT o.id FROM organizations o WHERE o.name = org);
END
$$;

-- Have the tables by which a database of Coder is known, these of them and no others.
CREATE FUNCTION coder_only(VARIADIC wanted text[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{provisioner_keys,workspace_proxies}'::text[] LOOP
		IF name = ANY (wanted) AND to_regclass(name) IS NULL THEN
			IF to_regclass('hidden_' || name) IS NULL THEN
				EXECUTE format('CREATE TABLE %I ()', name);
			ELSE
				EXECUTE format('ALTER TABLE %I RENAME TO %I', 'hidden_' || name, name);
			END IF;
		ELSIF name <> ALL (wanted) AND to_regclass(name) IS NOT NULL THEN
			EXECUTE format('ALTER TABLE %I RENAME TO %I', name, 'hidden_' || name);
		END IF;
	END LOOP;
END
$$;

-- Drop the control plane's views, which keep the tables below them from being changed.
CREATE FUNCTION drop_views() RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	view text;
BEGIN
	FOREACH view IN ARRAY (SELECT coalesce(array_agg(oid::regclass::text), '{}') FROM pg_class
		WHERE relkind = 'v' AND relnamespace =
			quote_ident(current_setting('prebuild.control_plane_schema'))::regnamespace)
	LOOP
		EXECUTE format('DROP VIEW IF EXISTS %s CASCADE', view);
	END LOOP;
END
$$;

-- Let rows have no more than what a test gives them, from now on: nothing is required, no foreign
-- key is looked at.
CREATE FUNCTION bare_rows() RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	place record;
BEGIN
	FOR place IN
		SELECT attrelid::regclass AS "table", attname FROM pg_attribute a
		JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relkind = 'r' AND attnum > 0 AND attnotnull AND NOT attisdropped AND relnamespace =
				quote_ident(current_setting('prebuild.control_plane_schema'))::regnamespace
			AND relname ~ '^(template|provisioner_jobs$|parameter_schemas$)'
			AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
				AND a.attnum = ANY (i.indkey))
	LOOP
		EXECUTE format('ALTER TABLE %s ALTER %I DROP NOT NULL', place."table", place.attname);
	END LOOP;
	SET session_replication_role = replica;
END
$$;

CREATE FUNCTION usr(login text) RETURNS uuid LANGUAGE plpgsql AS
$$
DECLARE
	found_id uuid;
BEGIN
	SELECT u.id INTO found_id FROM users u WHERE u.username = login;
	IF found_id IS NULL THEN
		INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status)
		VALUES (gen_random_uuid(), login || '@example.com', login, '', t0(), t0(), 'active')
		RETURNING id INTO found_id;
	END IF;
	RETURN found_id;
END
$$;

-- A template without a version; version() gives it one.
CREATE FUNCTION template(template_name text, org text DEFAULT 'org') RETURNS uuid LANGUAGE sql AS
$$
	INSERT INTO templates (id, created_at, updated_at, organization_id, name, provisioner,
		active_version_id, created_by, use_classic_parameter_flow)
	VALUES (gen_random_uuid(), t0(), t0(), organization(org), template_name, 'terraform',
		gen_random_uuid(), usr('author'), true)
	RETURNING id
$$;

-- A job in a given state: its times follow from it.
CREATE FUNCTION job(job_type text, status text, org_id uuid, initiator uuid, created timestamptz,
	job_tags jsonb DEFAULT '{"scope": "organization", "owner": ""}')
RETURNS uuid LANGUAGE sql AS
$$
	INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, canceled_at, completed_at,
		error, organization_id, initiator_id, provisioner, storage_method, type, input, worker_id,
		file_id, tags)
	VALUES (gen_random_uuid(), created, created,
		CASE WHEN status <> 'pending' THEN created END,
		CASE WHEN status IN ('canceling', 'canceled') THEN created END,
		CASE WHEN status IN ('succeeded', 'failed', 'canceled') THEN created END,
		CASE WHEN status = 'failed' THEN 'terraform said no' END,
		org_id, initiator, 'terraform', 'file', job_type::provisioner_job_type, '{}',
		CASE WHEN status <> 'pending' THEN gen_random_uuid() END, gen_random_uuid(), job_tags)
	RETURNING id
$$;

-- A version with a finished import; the template's active one unless told otherwise.
CREATE FUNCTION version(template_name text, version_name text, active boolean DEFAULT true,
	import_status text DEFAULT 'succeeded')
RETURNS uuid LANGUAGE plpgsql AS
$$
DECLARE
	owner_template templates;
	new_id uuid;
BEGIN
	SELECT t.* INTO STRICT owner_template FROM templates t WHERE t.name = template_name;
	INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name,
		readme, job_id, created_by)
	VALUES (gen_random_uuid(), owner_template.id, owner_template.organization_id, t0(), t0(),
		version_name, '', job('template_version_import', import_status,
			owner_template.organization_id, usr('author'), t0() - interval '1 day'),
		usr('author'))
	RETURNING id INTO new_id;
	IF active THEN
		UPDATE templates t SET active_version_id = new_id WHERE t.id = owner_template.id;
	END IF;
	RETURN new_id;
END
$$;

CREATE FUNCTION preset(version_name text, preset_name text, desired int, ttl int DEFAULT 0,
	timezone text DEFAULT '')
RETURNS uuid LANGUAGE sql AS
$$
	INSERT INTO template_version_presets (template_version_id, name, created_at, desired_instances,
		invalidate_after_secs, scheduling_timezone)
	VALUES (v(version_name), preset_name, t0() - interval '1 day', desired, ttl, timezone)
	RETURNING id
$$;

-- A provisioner daemon, with the key that it would have logged in by.
CREATE FUNCTION daemon(daemon_name text, org text, provisioners text, tags jsonb, seen timestamptz)
RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	key uuid := gen_random_uuid();
BEGIN
	IF EXISTS (SELECT FROM coder) THEN
		PERFORM put('provisioner_keys', jsonb_build_object('id', key, 'created_at', t0(),
			'organization_id', organization(org), 'name', daemon_name, 'hashed_secret', '\x00',
			'tags', tags));
	END IF;
	PERFORM put('provisioner_daemons', jsonb_build_object('id', gen_random_uuid(),
		'created_at', t0(), 'name', daemon_name, 'provisioners', provisioners::provisioner_type[],
		'tags', tags, 'last_seen_at', seen, 'organization_id', organization(org), 'key_id', key));
END
$$;

-- A template, a version and a preset of these names at once: <name>, <name>-v1, <name>.
CREATE FUNCTION simple(name text, desired int, ttl int DEFAULT 0, org text DEFAULT 'org')
RETURNS uuid LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM template(name, org);
	PERFORM version(name, name || '-v1');
	RETURN preset(name || '-v1', name, desired, ttl);
END
$$;

CREATE FUNCTION schedule(preset_name text, cron text, desired int) RETURNS void LANGUAGE sql AS
$$
	INSERT INTO template_version_preset_prebuild_schedules
		(preset_id, cron_expression, desired_instances)
	VALUES (p(preset_name), cron, desired)
$$;

CREATE FUNCTION parameter(version_name text, parameter_name text, default_value text DEFAULT '',
	required boolean DEFAULT false, type text DEFAULT 'string')
RETURNS void LANGUAGE sql AS
$$
	INSERT INTO template_version_parameters (template_version_id, name, description, type, mutable,
		default_value, icon, validation_regex, required)
	VALUES (v(version_name), parameter_name, '', type, true, default_value, '', '', required)
$$;

CREATE FUNCTION preset_value(preset_name text, parameter_name text, value text)
RETURNS void LANGUAGE sql AS
$$
	INSERT INTO template_version_preset_parameters (template_version_preset_id, name, value)
	VALUES (p(preset_name), parameter_name, value)
$$;

-- ids by name

CREATE FUNCTION t(wanted text) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT id FROM templates WHERE name = wanted $$;
CREATE FUNCTION v(wanted text) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT id FROM template_versions WHERE name = wanted $$;
CREATE FUNCTION p(wanted text) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT id FROM template_version_presets WHERE name = wanted $$;
CREATE FUNCTION w(wanted text) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT id FROM workspaces WHERE name = wanted $$;

-- workspaces and builds

-- A build with the next number, of the version of the build before unless one is named. A start
-- that succeeded gets a resource with one agent: ready, not ready, or none (NULL).
CREATE FUNCTION build(workspace_name text, transition text, status text DEFAULT 'succeeded',
	preset_name text DEFAULT NULL, created timestamptz DEFAULT t0() - interval '1 hour',
	ready boolean DEFAULT true, version_id uuid DEFAULT NULL,
	initiator uuid DEFAULT 'c42fdf75-3097-471c-8c33-fb52454d81c0',
	job_tags jsonb DEFAULT '{"scope": "organization", "owner": ""}')
RETURNS uuid LANGUAGE plpgsql AS
$$
DECLARE
	workspace workspaces;
	previous workspace_builds;
	new_job uuid;
	new_id uuid := gen_random_uuid();
	resource uuid;
BEGIN
	SELECT x.* INTO STRICT workspace FROM workspaces x WHERE x.name = workspace_name;
	SELECT b.* INTO previous FROM workspace_builds b
	WHERE b.workspace_id = workspace.id ORDER BY b.build_number DESC LIMIT 1;
	new_job := job('workspace_build', status, workspace.organization_id, initiator, created, job_tags);
	UPDATE provisioner_jobs j
	SET input = jsonb_build_object('workspace_build_id', new_id, 'dry_run', false)
	WHERE j.id = new_job;
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
		build_number, transition, initiator_id, job_id, template_version_preset_id)
	VALUES (new_id, created, created, workspace.id,
		coalesce(version_id, previous.template_version_id), coalesce(previous.build_number, 0) + 1,
		transition::workspace_transition, initiator, new_job, p(preset_name));
	IF transition = 'start' AND status = 'succeeded' THEN
		INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
		VALUES (gen_random_uuid(), created, new_job, 'start', 'docker_container', 'main')
		RETURNING id INTO resource;
		IF ready IS NOT NULL THEN
			PERFORM agent(workspace_name, CASE WHEN ready THEN 'ready' ELSE 'starting' END);
		END IF;
	END IF;
	RETURN new_id;
END
$$;

-- A workspace of the preset's template, with a first build that carries the preset.
CREATE FUNCTION prebuild(preset_name text, workspace_name text, transition text DEFAULT 'start',
	status text DEFAULT 'succeeded', created timestamptz DEFAULT t0() - interval '1 hour',
	ready boolean DEFAULT true, owner uuid DEFAULT 'c42fdf75-3097-471c-8c33-fb52454d81c0',
	initiator uuid DEFAULT NULL,
	job_tags jsonb DEFAULT '{"scope": "organization", "owner": ""}')
RETURNS uuid LANGUAGE plpgsql AS
$$
DECLARE
	of_version template_versions;
	new_id uuid;
BEGIN
	SELECT x.* INTO STRICT of_version
	FROM template_versions x JOIN template_version_presets y ON y.template_version_id = x.id
	WHERE y.name = preset_name;
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
	VALUES (gen_random_uuid(), created, created, owner, of_version.organization_id,
		of_version.template_id, workspace_name)
	RETURNING id INTO new_id;
	PERFORM build(workspace_name, transition, status, preset_name, created, ready, of_version.id,
		coalesce(initiator, owner), job_tags);
	RETURN new_id;
END
$$;

-- Presets that want some, have some running, of which some are older than an hour: the names say how
-- many of each. All were made at different times, the old ones first. ttl: in seconds.
CREATE FUNCTION fleets(prefix text, ttl int) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	name text;
	n int[];
BEGIN
	FOREACH n SLICE 1 IN ARRAY '{{2,2,0},{2,2,1},{2,2,2},{4,2,2},{4,2,1}}'::int[] LOOP
		name := format('%s-%s', prefix, array_to_string(n, ''));
		PERFORM simple(name, n[2], ttl);
		FOR i IN 1..n[1] LOOP
			PERFORM prebuild(name, format('%s-%s', name, i), created => t0()
				- CASE WHEN i <= n[3] THEN interval '2 hours' ELSE interval '30 minutes' END
				+ i * interval '1 minute');
		END LOOP;
	END LOOP;
END
$$;

-- An agent in the newest resource of the workspace's latest build that has one.
CREATE FUNCTION agent(workspace_name text, lifecycle text DEFAULT 'ready',
	deleted boolean DEFAULT false, parent uuid DEFAULT NULL)
RETURNS uuid LANGUAGE sql AS
$$
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token,
		architecture, operating_system, lifecycle_state, deleted, parent_id)
	SELECT gen_random_uuid(), t0(), t0(), format('agent-%s', random()), r.id, gen_random_uuid(), 'amd64', 'linux',
		lifecycle::workspace_agent_lifecycle_state, agent.deleted, parent
	FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id
	WHERE b.workspace_id = w(workspace_name)
	ORDER BY b.build_number DESC LIMIT 1
	RETURNING id
$$;

-- The id of a workspace's latest build; its number, transition and job status.
CREATE FUNCTION latest(workspace_name text) RETURNS uuid LANGUAGE sql STABLE AS
$$
	SELECT id FROM workspace_builds
	WHERE workspace_id = w(workspace_name) ORDER BY build_number DESC LIMIT 1
$$;
CREATE FUNCTION shape(workspace_name text) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT format('%s %s %s', b.build_number, b.transition, j.job_status)
	FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
	WHERE b.workspace_id = w(workspace_name) ORDER BY b.build_number DESC LIMIT 1
$$;

-- A stand-in for the provisioner: do all pending jobs of workspace builds, or of one preset.
CREATE FUNCTION finish_jobs(finished timestamptz, failing boolean DEFAULT false,
	preset_name text DEFAULT NULL, at_most int DEFAULT NULL)
RETURNS int LANGUAGE plpgsql AS
$$
DECLARE
	todo record;
	done int := 0;
	resource uuid;
BEGIN
	FOR todo IN
		SELECT b.*, x.name AS workspace_name
		FROM workspace_builds b
		JOIN provisioner_jobs j ON j.id = b.job_id
		JOIN workspaces x ON x.id = b.workspace_id
		WHERE j.job_status = 'pending'
			AND (preset_name IS NULL OR b.template_version_preset_id = p(preset_name))
		ORDER BY b.created_at LIMIT at_most
	LOOP
		UPDATE provisioner_jobs j SET started_at = finished, completed_at = finished,
			updated_at = finished, worker_id = gen_random_uuid(),
			error = CASE WHEN failing THEN 'terraform said no' END
		WHERE j.id = todo.job_id;
		IF NOT failing AND todo.transition = 'start' THEN
			INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
			VALUES (gen_random_uuid(), finished, todo.job_id, 'start', 'docker_container', 'main');
			PERFORM agent(todo.workspace_name);
		ELSIF NOT failing AND todo.transition = 'delete' THEN
			UPDATE workspaces x SET deleted = true WHERE x.id = todo.workspace_id;
		END IF;
		done := done + 1;
	END LOOP;
	RETURN done;
END
$$;

-- n passes at one time; what they did together, without what they did not do.
CREATE FUNCTION pass(at timestamptz DEFAULT t0(), n int DEFAULT 1) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	result record;
	created int := 0;
	deleted int := 0;
	canceled int := 0;
	failed int := 0;
BEGIN
	FOR i IN 1..n LOOP
		SELECT * INTO result FROM prebuild_reconcile(at);
		IF NOT result.lock_acquired OR result.paused THEN
			RETURN 'did not run';
		END IF;
		created := created + result.created;
		deleted := deleted + result.deleted;
		canceled := canceled + result.canceled;
		failed := failed + result.failed;
	END LOOP;
	RETURN concat_ws(', ', 'created ' || nullif(created, 0), 'deleted ' || nullif(deleted, 0),
		'canceled ' || nullif(canceled, 0), 'failed ' || nullif(failed, 0));
END
$$;

-- Pool members of a preset's template whose latest build has this transition and job status.
CREATE FUNCTION members(template_name text, transition text, status text)
RETURNS int LANGUAGE sql STABLE AS
$$
	SELECT count(*)::int FROM workspaces x
	CROSS JOIN LATERAL (SELECT b.transition, j.job_status
		FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
		WHERE b.workspace_id = x.id ORDER BY b.build_number DESC LIMIT 1) latest
	WHERE x.template_id = t(template_name) AND x.owner_id = prebuild_system_user()
		AND NOT x.deleted AND latest.transition::text = members.transition
		AND latest.job_status::text = status
$$;

CREATE FUNCTION events(preset_name text, kind text) RETURNS int LANGUAGE sql STABLE AS
$$
	SELECT count(*)::int FROM prebuild_event e
	WHERE e.preset_id = p(preset_name) AND e.kind = events.kind
$$;

CREATE FUNCTION status(preset_name text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT prebuild_status::text FROM template_version_presets WHERE name = preset_name $$;

-- A preset's plan in one line, one member for each kind of action: "delete 1; create 2".
CREATE FUNCTION plan(preset_name text, at timestamptz DEFAULT t0()) RETURNS text
LANGUAGE sql STABLE AS
$$
	SELECT coalesce(string_agg(action || ' ' || count, '; ' ORDER BY
		array_position(ARRAY['cancel_pending', 'delete', 'create'], action), action), '')
	FROM (SELECT action, sum(count) AS count FROM prebuild_plan(at)
		WHERE preset_id = p(plan.preset_name) GROUP BY action) actions
$$;

-- A notification queue as a Coder database has it, as far as it matters; or Coder's own.
CREATE FUNCTION notification_queue() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	IF EXISTS (SELECT FROM coder) THEN
		INSERT INTO notification_templates (id, name, title_template, body_template, actions)
		VALUES ('89d9745a-816e-4695-a17f-3d0a229e2b8d', 'Replaced', '', '', '[]'),
			('414d9331-c1fc-4761-b40c-d1f4702279eb', 'Limit', '', '', '[]');
		RETURN;
	END IF;
	CREATE TYPE notification_method AS ENUM ('smtp', 'webhook', 'inbox');
	CREATE TABLE notification_templates (
		id uuid PRIMARY KEY,
		name text NOT NULL,
		actions jsonb,
		method notification_method,
		enabled_by_default boolean NOT NULL DEFAULT true
	);
	INSERT INTO notification_templates (id, name, actions)
	VALUES ('89d9745a-816e-4695-a17f-3d0a229e2b8d', 'Replaced', '[]'),
		('414d9331-c1fc-4761-b40c-d1f4702279eb', 'Limit', '[]');
	CREATE TABLE notification_preferences (
		user_id uuid NOT NULL,
		notification_template_id uuid NOT NULL,
		disabled boolean NOT NULL DEFAULT false,
		PRIMARY KEY (user_id, notification_template_id)
	);
	CREATE TABLE notification_messages (
		id uuid PRIMARY KEY,
		notification_template_id uuid NOT NULL REFERENCES notification_templates,
		user_id uuid NOT NULL REFERENCES users,
		method notification_method NOT NULL,
		created_by text NOT NULL,
		payload jsonb NOT NULL,
		targets uuid[],
		created_at timestamptz NOT NULL,
		dedupe_hash text UNIQUE
	);
	CREATE FUNCTION hash_message() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN
		-- as the triggers of a Coder database, which name tables without a schema
		IF NOT EXISTS (SELECT FROM notification_templates WHERE id = NEW.notification_template_id) THEN
			RAISE EXCEPTION $e$no template$e$;
		END IF;
		NEW.dedupe_hash := concat(NEW.notification_template_id, NEW.user_id, NEW.method, NEW.payload,
			NEW.created_at::date);
		RETURN NEW;
	END';
	CREATE TRIGGER hash BEFORE INSERT ON notification_messages FOR EACH ROW EXECUTE FUNCTION hash_message();
END
$$;

-- Claim a prebuild of a preset for a user, at the tests' time: the name that the prebuild had, or
-- NULL when there was none to have.
CREATE FUNCTION claim(preset_name text, login text, new_name text, at timestamptz DEFAULT t0())
RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	before jsonb := (SELECT jsonb_object_agg(x.id, x.name) FROM workspaces x);
BEGIN
	RETURN (SELECT before ->> c.id::text
		FROM prebuild_claim(p(preset_name), usr(login), new_name, at => claim.at) c);
END
$$;
