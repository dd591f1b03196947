---- a control plane of one's own ----------------------------------------------

/*
 * The tables belong to whoever calls this and not to the extension, because nothing of the
 * extension's depends on them: they are dumped as any other table and outlive DROP EXTENSION.
 *
 * Names are unqualified below the first block, in a search_path that holds the schema alone (and
 * pg_catalog, which is always searched first); the function's SET clause restores the caller's.
 * Whatever else the schema contains must not be picked up on the way. Tables and types of ours are
 * refused at the start, so their names can only mean the ones made here; functions and operators
 * are called with exactly the types that pg_catalog declares, as a better match in the schema
 * would win over a function of pg_catalog that needs a cast.
 */
CREATE FUNCTION @extschema@.prebuild_create_control_plane() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	-- the library, which defines the setting and its default, may not be loaded in this session yet
	target text := coalesce(pg_catalog.current_setting('prebuild.control_plane_schema', true), 'public');
	target_oid oid;
	our_types CONSTANT text[] := ARRAY[
		'agent_key_scope_enum', 'app_sharing_level', 'automatic_updates', 'build_reason',
		'display_app', 'group_source', 'login_type', 'parameter_form_type', 'prebuild_status',
		'provisioner_job_status', 'provisioner_job_type', 'provisioner_storage_method',
		'provisioner_type', 'user_status', 'workspace_agent_lifecycle_state',
		'workspace_agent_subsystem', 'workspace_transition'];
	our_tables CONSTANT text[] := ARRAY[
		'group_members', 'groups', 'organization_members', 'organizations', 'provisioner_daemons',
		'provisioner_jobs', 'site_configs', 'template_version_parameters',
		'template_version_preset_parameters', 'template_version_preset_prebuild_schedules',
		'template_version_presets', 'template_version_variables',
		'template_version_workspace_tags', 'template_versions', 'templates', 'users',
		'workspace_agent_metadata', 'workspace_agents', 'workspace_build_parameters',
		'workspace_builds', 'workspace_resources', 'workspaces'];
	tables_in_the_way text;
	types_in_the_way text;
BEGIN
	SELECT n.oid INTO target_oid FROM pg_catalog.pg_namespace n WHERE n.nspname = target;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'schema "%" does not exist', target
			USING ERRCODE = 'invalid_schema_name',
				HINT = 'Create it, or name another one in prebuild.control_plane_schema.';
	END IF;

	SELECT string_agg(quote_ident(c.relname), ', ' ORDER BY c.relname COLLATE "C")
	INTO tables_in_the_way
	FROM pg_catalog.pg_class c
	WHERE c.relnamespace = target_oid AND c.relname = ANY (our_tables || our_types);
	-- a relation brings a type of its own name, which was just reported
	SELECT string_agg(quote_ident(t.typname), ', ' ORDER BY t.typname COLLATE "C")
	INTO types_in_the_way
	FROM pg_catalog.pg_type t
	LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
	WHERE t.typnamespace = target_oid AND t.typname = ANY (our_tables || our_types)
		AND (c.oid IS NULL OR c.relkind = 'c');
	IF tables_in_the_way IS NOT NULL OR types_in_the_way IS NOT NULL THEN
		RAISE EXCEPTION 'schema "%" already contains %', target,
				concat_ws('; ', 'relations: ' || tables_in_the_way, 'types: ' || types_in_the_way)
			USING ERRCODE = CASE WHEN tables_in_the_way IS NOT NULL THEN 'duplicate_table'
					ELSE 'duplicate_object' END,
				DETAIL = 'Nothing was created.',
				HINT = 'A Coder database has these tables and needs no others; otherwise name an '
					'empty schema in prebuild.control_plane_schema.';
	END IF;

	PERFORM pg_catalog.set_config('search_path', quote_ident(target) || ', pg_temp', true);
	-- without USAGE the schema is silently left out, and "$user" means another one
	IF pg_catalog.current_schema() IS DISTINCT FROM target THEN
		RAISE EXCEPTION 'schema "%" cannot be used', target
			USING ERRCODE = 'insufficient_privilege',
				HINT = 'The caller needs the privileges USAGE and CREATE on it.';
	END IF;

	CREATE TYPE agent_key_scope_enum AS ENUM ('all', 'no_user_data');
	CREATE TYPE app_sharing_level AS ENUM ('owner', 'authenticated', 'organization', 'public');
	CREATE TYPE automatic_updates AS ENUM ('always', 'never');
	CREATE TYPE build_reason AS ENUM (
		'initiator', 'autostart', 'autostop', 'dormancy', 'failedstop', 'autodelete', 'dashboard',
		'cli', 'ssh_connection', 'vscode_connection', 'jetbrains_connection', 'task_auto_pause',
		'task_manual_pause', 'task_resume');
	CREATE TYPE display_app AS ENUM (
		'vscode', 'vscode_insiders', 'web_terminal', 'ssh_helper', 'port_forwarding_helper');
	CREATE TYPE group_source AS ENUM ('user', 'oidc');
	CREATE TYPE login_type AS ENUM (
		'password', 'github', 'oidc', 'token', 'none', 'oauth2_provider_app');
	CREATE TYPE parameter_form_type AS ENUM (
		'', 'error', 'radio', 'dropdown', 'input', 'textarea', 'slider', 'checkbox', 'switch',
		'tag-select', 'multi-select');
	CREATE TYPE prebuild_status AS ENUM ('healthy', 'hard_limited', 'validation_failed');
	CREATE TYPE provisioner_job_status AS ENUM (
		'pending', 'running', 'succeeded', 'canceling', 'canceled', 'failed', 'unknown');
	CREATE TYPE provisioner_job_type AS ENUM (
		'template_version_import', 'workspace_build', 'template_version_dry_run');
	CREATE TYPE provisioner_storage_method AS ENUM ('file');
	CREATE TYPE provisioner_type AS ENUM ('echo', 'terraform');
	CREATE TYPE user_status AS ENUM ('active', 'suspended', 'dormant');
	CREATE TYPE workspace_agent_lifecycle_state AS ENUM (
		'created', 'starting', 'start_timeout', 'start_error', 'ready', 'shutting_down',
		'shutdown_timeout', 'shutdown_error', 'off');
	CREATE TYPE workspace_agent_subsystem AS ENUM ('envbuilder', 'envbox', 'none', 'exectrace');
	CREATE TYPE workspace_transition AS ENUM ('start', 'stop', 'delete');

	-- people and their organizations

	CREATE TABLE organizations (
		id uuid NOT NULL,
		name text NOT NULL,
		description text NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		is_default boolean NOT NULL DEFAULT false,
		display_name text NOT NULL,
		icon text NOT NULL DEFAULT '',
		deleted boolean NOT NULL DEFAULT false,
		default_org_member_roles text[] NOT NULL,
		CONSTRAINT organizations_pkey PRIMARY KEY (id)
	);
	CREATE UNIQUE INDEX idx_organization_name_lower ON organizations (lower(name))
		WHERE deleted = false;
	CREATE UNIQUE INDEX organizations_single_default_org ON organizations (is_default)
		WHERE is_default = true;

	CREATE TABLE users (
		id uuid NOT NULL,
		email text NOT NULL,
		username text NOT NULL DEFAULT '',
		hashed_password bytea NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		status user_status NOT NULL DEFAULT 'dormant',
		rbac_roles text[] NOT NULL DEFAULT '{}',
		login_type login_type NOT NULL DEFAULT 'password',
		avatar_url text NOT NULL DEFAULT '',
		deleted boolean NOT NULL DEFAULT false,
		last_seen_at timestamp NOT NULL DEFAULT '0001-01-01 00:00:00',
		quiet_hours_schedule text NOT NULL DEFAULT '',
		name text NOT NULL DEFAULT '',
		github_com_user_id bigint,
		hashed_one_time_passcode bytea,
		one_time_passcode_expires_at timestamptz,
		is_system boolean NOT NULL DEFAULT false,
		is_service_account boolean NOT NULL DEFAULT false,
		CONSTRAINT users_pkey PRIMARY KEY (id),
		CONSTRAINT one_time_passcode_set CHECK (
			(hashed_one_time_passcode IS NULL) = (one_time_passcode_expires_at IS NULL)),
		CONSTRAINT users_email_not_empty CHECK (is_service_account = (email = ''::text)),
		CONSTRAINT users_service_account_login_type CHECK (
			NOT is_service_account OR login_type OPERATOR(pg_catalog.=) 'none'::login_type),
		CONSTRAINT users_username_min_length CHECK (username <> ''::text)
	);
	CREATE UNIQUE INDEX idx_users_email ON users (email) WHERE deleted = false AND email <> ''::text;
	CREATE UNIQUE INDEX idx_users_username ON users (username) WHERE deleted = false;
	CREATE UNIQUE INDEX users_email_lower_idx ON users (lower(email))
		WHERE deleted = false AND email <> ''::text;
	CREATE UNIQUE INDEX users_username_lower_idx ON users (lower(username)) WHERE deleted = false;

	CREATE TABLE organization_members (
		user_id uuid NOT NULL,
		organization_id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		roles text[] NOT NULL DEFAULT '{}',
		CONSTRAINT organization_members_pkey PRIMARY KEY (organization_id, user_id),
		CONSTRAINT organization_members_organization_id_uuid_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE,
		CONSTRAINT organization_members_user_id_uuid_fkey
			FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
	);
	CREATE INDEX idx_organization_member_organization_id_uuid
		ON organization_members (organization_id);
	CREATE INDEX idx_organization_member_user_id_uuid ON organization_members (user_id);

	CREATE TABLE groups (
		id uuid NOT NULL,
		name text NOT NULL,
		organization_id uuid NOT NULL,
		avatar_url text NOT NULL DEFAULT '',
		quota_allowance integer NOT NULL DEFAULT 0,
		display_name text NOT NULL DEFAULT '',
		source group_source NOT NULL DEFAULT 'user',
		CONSTRAINT groups_pkey PRIMARY KEY (id),
		CONSTRAINT groups_name_organization_id_key UNIQUE (name, organization_id),
		CONSTRAINT groups_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);

	CREATE TABLE group_members (
		user_id uuid NOT NULL,
		group_id uuid NOT NULL,
		CONSTRAINT group_members_user_id_group_id_key UNIQUE (user_id, group_id),
		CONSTRAINT group_members_group_id_fkey
			FOREIGN KEY (group_id) REFERENCES groups (id) ON DELETE CASCADE,
		CONSTRAINT group_members_user_id_fkey
			FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
	);

	-- provisioners and what they are asked to do

	-- there are no provisioner keys here: a daemon gets the id of Coder's built-in key unless told
	CREATE TABLE provisioner_daemons (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		name varchar(64) NOT NULL,
		provisioners provisioner_type[] NOT NULL,
		replica_id uuid,
		tags jsonb NOT NULL DEFAULT '{}',
		last_seen_at timestamptz,
		version text NOT NULL DEFAULT '',
		api_version text NOT NULL DEFAULT '1.0',
		organization_id uuid NOT NULL,
		key_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000001',
		CONSTRAINT provisioner_daemons_pkey PRIMARY KEY (id),
		CONSTRAINT provisioner_daemons_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);
	CREATE UNIQUE INDEX idx_provisioner_daemons_org_name_owner_key ON provisioner_daemons
		(organization_id, name, lower(COALESCE(tags ->> 'owner'::text, ''::text)));

	CREATE TABLE provisioner_jobs (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		started_at timestamptz,
		canceled_at timestamptz,
		completed_at timestamptz,
		error text,
		organization_id uuid NOT NULL,
		initiator_id uuid NOT NULL,
		provisioner provisioner_type NOT NULL,
		storage_method provisioner_storage_method NOT NULL,
		type provisioner_job_type NOT NULL,
		input jsonb NOT NULL,
		worker_id uuid,
		file_id uuid NOT NULL,
		tags jsonb NOT NULL DEFAULT '{"scope": "organization"}',
		error_code text,
		trace_metadata jsonb,
		job_status provisioner_job_status NOT NULL GENERATED ALWAYS AS (
			CASE
				WHEN error <> ''::text THEN 'failed'::provisioner_job_status
				WHEN completed_at IS NOT NULL AND canceled_at IS NOT NULL
					THEN 'canceled'::provisioner_job_status
				WHEN completed_at IS NOT NULL THEN 'succeeded'::provisioner_job_status
				WHEN canceled_at IS NOT NULL THEN 'canceling'::provisioner_job_status
				WHEN started_at IS NOT NULL THEN 'running'::provisioner_job_status
				ELSE 'pending'::provisioner_job_status
			END) STORED,
		logs_length integer NOT NULL DEFAULT 0,
		logs_overflowed boolean NOT NULL DEFAULT false,
		CONSTRAINT provisioner_jobs_pkey PRIMARY KEY (id),
		CONSTRAINT max_provisioner_logs_length CHECK (logs_length <= 1048576),
		CONSTRAINT provisioner_jobs_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);
	CREATE INDEX idx_provisioner_jobs_status ON provisioner_jobs (job_status);
	CREATE INDEX provisioner_jobs_started_at_idx ON provisioner_jobs (started_at)
		WHERE started_at IS NULL;
	CREATE INDEX provisioner_jobs_worker_id_organization_id_completed_at_idx
		ON provisioner_jobs (worker_id, organization_id, completed_at DESC);

	-- templates, their versions and presets

	CREATE TABLE templates (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		organization_id uuid NOT NULL,
		deleted boolean NOT NULL DEFAULT false,
		name varchar(64) NOT NULL,
		provisioner provisioner_type NOT NULL,
		active_version_id uuid NOT NULL,
		description varchar(128) NOT NULL DEFAULT '',
		default_ttl bigint NOT NULL DEFAULT 604800000000000,
		created_by uuid NOT NULL,
		icon varchar(256) NOT NULL DEFAULT '',
		user_acl jsonb NOT NULL DEFAULT '{}',
		group_acl jsonb NOT NULL DEFAULT '{}',
		display_name varchar(64) NOT NULL DEFAULT '',
		allow_user_cancel_workspace_jobs boolean NOT NULL DEFAULT true,
		allow_user_autostart boolean NOT NULL DEFAULT true,
		allow_user_autostop boolean NOT NULL DEFAULT true,
		failure_ttl bigint NOT NULL DEFAULT 0,
		time_til_dormant bigint NOT NULL DEFAULT 0,
		time_til_dormant_autodelete bigint NOT NULL DEFAULT 0,
		autostop_requirement_days_of_week smallint NOT NULL DEFAULT 0,
		autostop_requirement_weeks bigint NOT NULL DEFAULT 0,
		autostart_block_days_of_week smallint NOT NULL DEFAULT 0,
		require_active_version boolean NOT NULL DEFAULT false,
		deprecated text NOT NULL DEFAULT '',
		activity_bump bigint NOT NULL DEFAULT 3600000000000,
		max_port_sharing_level app_sharing_level NOT NULL DEFAULT 'owner',
		use_classic_parameter_flow boolean NOT NULL DEFAULT false,
		disable_module_cache boolean NOT NULL DEFAULT false,
		time_til_autostop_notify bigint NOT NULL DEFAULT 0,
		CONSTRAINT templates_pkey PRIMARY KEY (id),
		CONSTRAINT templates_created_by_fkey
			FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
		CONSTRAINT templates_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE
	);
	CREATE UNIQUE INDEX templates_organization_id_name_idx
		ON templates (organization_id, lower(name::text)) WHERE deleted = false;

	CREATE TABLE template_versions (
		id uuid NOT NULL,
		template_id uuid,
		organization_id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		name varchar(64) NOT NULL,
		readme varchar(1048576) NOT NULL,
		job_id uuid NOT NULL,
		created_by uuid NOT NULL,
		external_auth_providers jsonb NOT NULL DEFAULT '[]',
		message varchar(1048576) NOT NULL DEFAULT '',
		archived boolean NOT NULL DEFAULT false,
		source_example_id text,
		has_ai_task boolean,
		has_external_agent boolean,
		CONSTRAINT template_versions_pkey PRIMARY KEY (id),
		CONSTRAINT template_versions_template_id_name_key UNIQUE (template_id, name),
		CONSTRAINT template_versions_created_by_fkey
			FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
		CONSTRAINT template_versions_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE,
		CONSTRAINT template_versions_template_id_fkey
			FOREIGN KEY (template_id) REFERENCES templates (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_parameters (
		template_version_id uuid NOT NULL,
		name text NOT NULL,
		description text NOT NULL,
		type text NOT NULL,
		mutable boolean NOT NULL,
		default_value text NOT NULL,
		icon text NOT NULL,
		options jsonb NOT NULL DEFAULT '[]',
		validation_regex text NOT NULL,
		validation_min integer,
		validation_max integer,
		validation_error text NOT NULL DEFAULT '',
		validation_monotonic text NOT NULL DEFAULT '',
		required boolean NOT NULL DEFAULT true,
		display_name text NOT NULL DEFAULT '',
		display_order integer NOT NULL DEFAULT 0,
		ephemeral boolean NOT NULL DEFAULT false,
		form_type parameter_form_type NOT NULL DEFAULT '',
		CONSTRAINT template_version_parameters_template_version_id_name_key
			UNIQUE (template_version_id, name),
		CONSTRAINT validation_monotonic_order CHECK (
			validation_monotonic IN ('increasing'::text, 'decreasing'::text, ''::text)),
		CONSTRAINT template_version_parameters_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_presets (
		id uuid NOT NULL DEFAULT gen_random_uuid(),
		template_version_id uuid NOT NULL,
		name text NOT NULL,
		created_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
		desired_instances integer,
		invalidate_after_secs integer DEFAULT 0,
		prebuild_status prebuild_status NOT NULL DEFAULT 'healthy',
		scheduling_timezone text NOT NULL DEFAULT '',
		is_default boolean NOT NULL DEFAULT false,
		description varchar(128) NOT NULL DEFAULT '',
		icon varchar(256) NOT NULL DEFAULT '',
		last_invalidated_at timestamptz,
		CONSTRAINT template_version_presets_pkey PRIMARY KEY (id),
		CONSTRAINT template_version_presets_id_template_version_id_key
			UNIQUE (id, template_version_id),
		CONSTRAINT template_version_presets_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);
	CREATE UNIQUE INDEX idx_template_version_presets_default
		ON template_version_presets (template_version_id) WHERE is_default = true;
	CREATE UNIQUE INDEX idx_unique_preset_name
		ON template_version_presets (name, template_version_id);

	CREATE TABLE template_version_preset_parameters (
		id uuid NOT NULL DEFAULT gen_random_uuid(),
		template_version_preset_id uuid NOT NULL,
		name text NOT NULL,
		value text NOT NULL,
		CONSTRAINT template_version_preset_parameters_pkey PRIMARY KEY (id),
		CONSTRAINT template_version_preset_paramet_template_version_preset_id_fkey
			FOREIGN KEY (template_version_preset_id) REFERENCES template_version_presets (id)
			ON DELETE CASCADE
	);

	CREATE TABLE template_version_preset_prebuild_schedules (
		id uuid NOT NULL DEFAULT gen_random_uuid(),
		preset_id uuid NOT NULL,
		cron_expression text NOT NULL,
		desired_instances integer NOT NULL,
		CONSTRAINT template_version_preset_prebuild_schedules_pkey PRIMARY KEY (id),
		CONSTRAINT template_version_preset_prebuild_schedules_preset_id_fkey
			FOREIGN KEY (preset_id) REFERENCES template_version_presets (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_workspace_tags (
		template_version_id uuid NOT NULL,
		key text NOT NULL,
		value text NOT NULL,
		CONSTRAINT template_version_workspace_tags_template_version_id_key_key
			UNIQUE (template_version_id, key),
		CONSTRAINT template_version_workspace_tags_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);

	CREATE TABLE template_version_variables (
		template_version_id uuid NOT NULL,
		name text NOT NULL,
		description text NOT NULL,
		type text NOT NULL,
		value text NOT NULL,
		default_value text NOT NULL,
		required boolean NOT NULL,
		sensitive boolean NOT NULL,
		CONSTRAINT template_version_variables_template_version_id_name_key
			UNIQUE (template_version_id, name),
		CONSTRAINT template_version_variables_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE
	);

	-- workspaces, their builds and what the builds made

	CREATE TABLE workspaces (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		owner_id uuid NOT NULL,
		organization_id uuid NOT NULL,
		template_id uuid NOT NULL,
		deleted boolean NOT NULL DEFAULT false,
		name varchar(64) NOT NULL,
		autostart_schedule text,
		ttl bigint,
		last_used_at timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		dormant_at timestamptz,
		deleting_at timestamptz,
		automatic_updates automatic_updates NOT NULL DEFAULT 'never',
		favorite boolean NOT NULL DEFAULT false,
		next_start_at timestamptz,
		group_acl jsonb NOT NULL DEFAULT '{}',
		user_acl jsonb NOT NULL DEFAULT '{}',
		CONSTRAINT workspaces_pkey PRIMARY KEY (id),
		CONSTRAINT group_acl_is_object CHECK (jsonb_typeof(group_acl) = 'object'::text),
		CONSTRAINT user_acl_is_object CHECK (jsonb_typeof(user_acl) = 'object'::text),
		CONSTRAINT workspaces_organization_id_fkey
			FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE RESTRICT,
		CONSTRAINT workspaces_owner_id_fkey
			FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE RESTRICT,
		CONSTRAINT workspaces_template_id_fkey
			FOREIGN KEY (template_id) REFERENCES templates (id) ON DELETE RESTRICT
	);
	CREATE UNIQUE INDEX workspaces_owner_id_lower_idx
		ON workspaces (owner_id, lower(name::text)) WHERE deleted = false;
	CREATE INDEX workspace_template_id_idx ON workspaces (template_id) WHERE deleted = false;
	CREATE INDEX workspace_next_start_at_idx ON workspaces (next_start_at) WHERE deleted = false;

	CREATE TABLE workspace_builds (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		workspace_id uuid NOT NULL,
		template_version_id uuid NOT NULL,
		build_number integer NOT NULL,
		transition workspace_transition NOT NULL,
		initiator_id uuid NOT NULL,
		provisioner_state bytea,
		job_id uuid NOT NULL,
		deadline timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		reason build_reason NOT NULL DEFAULT 'initiator',
		daily_cost integer NOT NULL DEFAULT 0,
		max_deadline timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		template_version_preset_id uuid,
		has_ai_task boolean,
		has_external_agent boolean,
		notified_autostop_deadline timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		CONSTRAINT workspace_builds_pkey PRIMARY KEY (id),
		CONSTRAINT workspace_builds_id_workspace_id_key UNIQUE (id, workspace_id),
		CONSTRAINT workspace_builds_job_id_key UNIQUE (job_id),
		CONSTRAINT workspace_builds_workspace_id_build_number_key
			UNIQUE (workspace_id, build_number),
		-- year 1 stands for "none"; a build with a latest deadline needs a deadline before it
		CONSTRAINT workspace_builds_deadline_below_max_deadline CHECK (
			max_deadline = '0001-01-01 00:00:00+00'::timestamptz
			OR (deadline <= max_deadline AND deadline <> '0001-01-01 00:00:00+00'::timestamptz)),
		CONSTRAINT workspace_builds_job_id_fkey
			FOREIGN KEY (job_id) REFERENCES provisioner_jobs (id) ON DELETE CASCADE,
		CONSTRAINT workspace_builds_template_version_id_fkey
			FOREIGN KEY (template_version_id) REFERENCES template_versions (id) ON DELETE CASCADE,
		CONSTRAINT workspace_builds_template_version_preset_id_fkey
			FOREIGN KEY (template_version_preset_id) REFERENCES template_version_presets (id)
			ON DELETE SET NULL,
		CONSTRAINT workspace_builds_workspace_id_fkey
			FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
	);
	CREATE INDEX idx_workspace_builds_initiator_id ON workspace_builds (initiator_id);

	CREATE TABLE workspace_build_parameters (
		workspace_build_id uuid NOT NULL,
		name text NOT NULL,
		value text NOT NULL,
		CONSTRAINT workspace_build_parameters_workspace_build_id_name_key
			UNIQUE (workspace_build_id, name),
		CONSTRAINT workspace_build_parameters_workspace_build_id_fkey
			FOREIGN KEY (workspace_build_id) REFERENCES workspace_builds (id) ON DELETE CASCADE
	);

	CREATE TABLE workspace_resources (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		job_id uuid NOT NULL,
		transition workspace_transition NOT NULL,
		type varchar(192) NOT NULL,
		name varchar(64) NOT NULL,
		hide boolean NOT NULL DEFAULT false,
		icon varchar(256) NOT NULL DEFAULT '',
		instance_type varchar(256),
		daily_cost integer NOT NULL DEFAULT 0,
		module_path text,
		CONSTRAINT workspace_resources_pkey PRIMARY KEY (id),
		CONSTRAINT workspace_resources_job_id_fkey
			FOREIGN KEY (job_id) REFERENCES provisioner_jobs (id) ON DELETE CASCADE
	);
	CREATE INDEX workspace_resources_job_id_idx ON workspace_resources (job_id);

	CREATE TABLE workspace_agents (
		id uuid NOT NULL,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL,
		name varchar(64) NOT NULL,
		first_connected_at timestamptz,
		last_connected_at timestamptz,
		disconnected_at timestamptz,
		resource_id uuid NOT NULL,
		auth_token uuid NOT NULL,
		auth_instance_id varchar,
		architecture varchar(64) NOT NULL,
		environment_variables jsonb,
		operating_system varchar(64) NOT NULL,
		instance_metadata jsonb,
		resource_metadata jsonb,
		directory varchar(4096) NOT NULL DEFAULT '',
		version text NOT NULL DEFAULT '',
		last_connected_replica_id uuid,
		connection_timeout_seconds integer NOT NULL DEFAULT 0,
		troubleshooting_url text NOT NULL DEFAULT '',
		motd_file text NOT NULL DEFAULT '',
		lifecycle_state workspace_agent_lifecycle_state NOT NULL DEFAULT 'created',
		expanded_directory varchar(4096) NOT NULL DEFAULT '',
		logs_length integer NOT NULL DEFAULT 0,
		logs_overflowed boolean NOT NULL DEFAULT false,
		started_at timestamptz,
		ready_at timestamptz,
		subsystems workspace_agent_subsystem[] DEFAULT '{}',
		display_apps display_app[]
			DEFAULT '{vscode,vscode_insiders,web_terminal,ssh_helper,port_forwarding_helper}',
		api_version text NOT NULL DEFAULT '',
		display_order integer NOT NULL DEFAULT 0,
		parent_id uuid,
		api_key_scope agent_key_scope_enum NOT NULL DEFAULT 'all',
		deleted boolean NOT NULL DEFAULT false,
		CONSTRAINT workspace_agents_pkey PRIMARY KEY (id),
		CONSTRAINT max_logs_length CHECK (logs_length <= 1048576),
		CONSTRAINT subsystems_not_none CHECK (
			NOT 'none'::workspace_agent_subsystem OPERATOR(pg_catalog.=) ANY (subsystems)),
		CONSTRAINT workspace_agents_parent_id_fkey
			FOREIGN KEY (parent_id) REFERENCES workspace_agents (id) ON DELETE CASCADE,
		CONSTRAINT workspace_agents_resource_id_fkey
			FOREIGN KEY (resource_id) REFERENCES workspace_resources (id) ON DELETE CASCADE
	);
	CREATE INDEX workspace_agents_resource_id_idx ON workspace_agents (resource_id);
	CREATE INDEX workspace_agents_auth_token_idx ON workspace_agents (auth_token);

	-- rewritten all the time and worth nothing after a crash
	CREATE UNLOGGED TABLE workspace_agent_metadata (
		workspace_agent_id uuid NOT NULL,
		display_name varchar(127) NOT NULL,
		key varchar(127) NOT NULL,
		script varchar(65535) NOT NULL,
		value varchar(65535) NOT NULL DEFAULT '',
		error varchar(65535) NOT NULL DEFAULT '',
		timeout bigint NOT NULL,
		interval bigint NOT NULL,
		collected_at timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
		display_order integer NOT NULL DEFAULT 0,
		CONSTRAINT workspace_agent_metadata_pkey PRIMARY KEY (workspace_agent_id, key),
		CONSTRAINT workspace_agent_metadata_workspace_agent_id_fkey
			FOREIGN KEY (workspace_agent_id) REFERENCES workspace_agents (id) ON DELETE CASCADE
	);

	CREATE TABLE site_configs (
		key varchar(256) NOT NULL,
		value text NOT NULL,
		CONSTRAINT site_configs_key_key UNIQUE (key)
	);

	-- the owner of every prebuilt workspace; prebuild_system_user() returns this id
	INSERT INTO users (id, email, username, name, hashed_password, created_at, updated_at, status,
		login_type, is_system)
	VALUES ('c42fdf75-3097-471c-8c33-fb52454d81c0', 'prebuilds@system', 'prebuilds',
		'Prebuilds Owner', ''::bytea, now(), now(), 'active', 'none', true);
END
$function$;

COMMENT ON FUNCTION @extschema@.prebuild_create_control_plane() IS
'Create the tables of a control plane in the schema that prebuild.control_plane_schema names';
REVOKE ALL ON FUNCTION @extschema@.prebuild_create_control_plane() FROM PUBLIC;
