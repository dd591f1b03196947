-- Faults of one preset or of one organization do not affect the others, wherever they occur, and never
-- make a pass create more than is wanted.
\set ECHO none
\i test/fixture/fixture.sql
SET client_min_messages = error;

-- a constraint that is checked at commit
DO $$ BEGIN PERFORM control_plane('cp_deferred'); PERFORM simple('good', 2); PERFORM simple('bad', 2); END $$;
CREATE FUNCTION cp_deferred.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.template_version_preset_id = fixture.p('bad') THEN
		RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation';
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON workspace_builds DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION cp_deferred.refuse();
SELECT r.created, r.failed FROM prebuild_reconcile(t0()) r;
SELECT is((SELECT count(*) FROM workspaces), 2, 'a deferred constraint stops its preset only');

-- an organization in which the system user cannot be given its place
DO $$ BEGIN
	PERFORM control_plane('cp_member');
	PERFORM simple('good', 2);
	PERFORM simple('bad', 2, 0, 'closed');
END $$;
CREATE FUNCTION cp_member.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.organization_id = (SELECT id FROM cp_member.organizations WHERE name = 'closed') THEN
		RAISE EXCEPTION 'this organization takes no groups';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON groups FOR EACH ROW EXECUTE FUNCTION cp_member.refuse();
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT is((SELECT count(*) FROM workspaces w JOIN organizations o ON o.id = w.organization_id
	WHERE o.name = 'org'), 2, 'an organization that refuses the group stops its presets only');

-- an error that reads differently every time is one fault
DO $$ BEGIN PERFORM control_plane('cp_varying'); PERFORM simple('bad', 2); END $$;
CREATE FUNCTION cp_varying.refuse() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN RAISE EXCEPTION ''quota exceeded for workspace %'', NEW.name; END';
CREATE TRIGGER refuse BEFORE INSERT ON workspaces FOR EACH ROW EXECUTE FUNCTION cp_varying.refuse();
SELECT count(prebuild_reconcile(t0() + make_interval(secs => n))) FROM generate_series(1, 5) n \g /dev/null
SELECT is((SELECT count(*) FROM prebuild_event WHERE kind = 'preset_failed'), 1,
	'a fault that lasts is one event, also when its message names the new workspace');

-- a trigger on the control plane's tables that runs a pass itself
DO $$ BEGIN PERFORM control_plane('cp_nested'); PERFORM simple('good', 2); END $$;
CREATE FUNCTION cp_nested.pass() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN PERFORM public.prebuild_reconcile(fixture.t0()); RETURN NULL; END';
CREATE TRIGGER pass AFTER INSERT ON workspaces FOR EACH STATEMENT EXECUTE FUNCTION cp_nested.pass();
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT ok((SELECT count(*) FROM workspaces) <= 2, 'a pass within a pass creates nothing twice');

-- row-level security that hides the pool from whoever runs the pass
DO $$ BEGIN PERFORM control_plane('cp_hidden'); PERFORM simple('good', 2); END $$;
CREATE ROLE half_blind;
SELECT prebuild_grant('half_blind') \g /dev/null
GRANT USAGE ON SCHEMA cp_hidden, fixture TO half_blind;
GRANT ALL ON ALL TABLES IN SCHEMA cp_hidden TO half_blind;
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
CREATE POLICY people ON workspaces FOR SELECT USING (owner_id <> prebuild_system_user());
CREATE POLICY add ON workspaces FOR INSERT WITH CHECK (true);
GRANT EXECUTE ON FUNCTION prebuild_system_user() TO half_blind;
SET ROLE half_blind;
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN PERFORM prebuild_reconcile(t0()); EXCEPTION WHEN OTHERS THEN NULL; END $$;
RESET ROLE;
SELECT ok((SELECT count(*) FROM workspaces) <= 2, 'a pool that cannot be seen is not filled for ever');
DROP OWNED BY half_blind;
DROP ROLE half_blind;

-- a mark of ours that outlived the status that it was for
DO $$ BEGIN
	PERFORM control_plane('cp_stale');
	PERFORM simple('x', 1);
	PERFORM parameter('x-v1', 'region', '', true);
	PERFORM prebuild_reconcile(t0());
END $$;
SELECT is(status('x'), 'validation_failed', 'the extension finds a preset invalid');
DO $$ BEGIN
	PERFORM preset_value('x', 'region', 'eu');
	UPDATE template_version_presets SET prebuild_status = 'healthy';
	PERFORM prebuild_reconcile(t0() + interval '1 second');
	UPDATE template_version_presets SET prebuild_status = 'validation_failed';
	PERFORM prebuild_reconcile(t0() + interval '2 seconds');
END $$;
SELECT is(status('x'), 'validation_failed', 'what coderd marked later is left alone');

-- the end of time
DO $$ BEGIN PERFORM control_plane('cp_end'); PERFORM simple('good', 3); END $$;
DO $$ BEGIN PERFORM prebuild_reconcile('294276-12-31 23:59:59.999999Z'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT is((SELECT count(*) FROM workspaces WHERE created_at::text NOT LIKE '29427_-12-31%'), 0,
	'no time is stored that the server cannot read');
