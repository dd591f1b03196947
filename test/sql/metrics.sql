-- prebuild_metrics and its text form.
\set ECHO none
\i test/fixture/fixture.sql

-- One series: NULL where there is none, an error where there are two.
CREATE FUNCTION fixture.metric(wanted text, template text DEFAULT NULL, at timestamptz DEFAULT t0())
RETURNS double precision LANGUAGE sql STABLE AS
$$
	SELECT (SELECT m.value FROM prebuild_metrics_read(at) m
		WHERE m.name = wanted AND m.labels ->> 'template_name' IS NOT DISTINCT FROM template)
$$;
-- The per-preset values of a template's only preset, in one line.
CREATE FUNCTION fixture.pool(template text) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT string_agg(replace(name, 'coderd_prebuilt_workspaces_', '') || ' ' || value, ', ' ORDER BY name)
	FROM prebuild_metrics_read(t0()) m WHERE labels ->> 'template_name' = template AND name ~ 'coderd|backing'
$$;

DO $$ BEGIN PERFORM control_plane('cp_metrics'); END $$;
SELECT is(string_agg(name || ' ' || type, ', ' ORDER BY name),
	'coderd_prebuilt_workspaces_metrics_last_updated gauge, coderd_prebuilt_workspaces_reconciliation_paused gauge',
	'an empty control plane') FROM prebuild_metrics_read(t0()) WHERE name !~ 'duration|metadata|pool_log|health';
SELECT is(metric('coderd_prebuilt_workspaces_metrics_last_updated'), extract(epoch FROM t0())::double precision,
	'the time is the one that was asked for');
SELECT is(metric('coderd_prebuilt_workspaces_reconciliation_paused'), 0::double precision, 'not paused');
DO $$ BEGIN PERFORM prebuild_pause(); END $$;
SELECT is(metric('coderd_prebuilt_workspaces_reconciliation_paused'), 1::double precision, 'paused');
DO $$ BEGIN PERFORM prebuild_resume(); END $$;
SELECT is(metric('coderd_prebuilt_workspaces_reconciliation_paused'), 0::double precision, 'resumed');
SELECT ok(abs(value - extract(epoch FROM clock_timestamp())) < 60, 'the view is of now')
FROM prebuild_metrics WHERE name = 'coderd_prebuilt_workspaces_metrics_last_updated';

-- what there is of a preset
DO $$ BEGIN
	PERFORM simple('wanted', 3);
	PERFORM simple('building', 1);
	PERFORM prebuild('building', 'bu-1', status => 'running');
	PERFORM simple('ready', 1);
	PERFORM prebuild('ready', 're-1');
	PERFORM simple('unready', 1);
	PERFORM prebuild('unready', 'un-1', ready => false);
	PERFORM simple('expiring', 1, 60);
	PERFORM prebuild('expiring', 'ex-1');
	PERFORM simple('failing', 1);
	PERFORM prebuild('failing', 'fa-1', status => 'failed', created => t0() - interval '10 seconds');
	PERFORM simple('failed', 1);
	PERFORM prebuild('failed', format('fd-%s', i), status => 'failed', created => t0() - interval '1 day')
	FROM generate_series(1, 3) i;
	PERFORM simple('invalid', 1);
	UPDATE template_version_presets SET prebuild_status = 'validation_failed' WHERE name = 'invalid';
	PERFORM simple('claimed', 1);
	PERFORM prebuild('claimed', 'cl-1');
	PERFORM build('cl-1', 'start', initiator => usr('ada'));
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'cl-1';
	PERFORM simple('made', 1);
	PERFORM prebuild('made', 'ma-1', owner => usr('ada'));
	PERFORM simple('stopped', 1);
	PERFORM prebuild('stopped', 'st-1');
	PERFORM build('st-1', 'stop', preset_name => 'stopped');
	PERFORM simple('gone', 1);
	PERFORM prebuild('gone', 'go-1');
	UPDATE templates SET deleted = true WHERE name = 'gone';
	PERFORM simple('old', 1);
	PERFORM prebuild('old', 'ol-1');
	PERFORM version('old', 'old-v2');
	PERFORM simple('none', 0);
	PERFORM template('plain');
	PERFORM version('plain', 'plain-v1');
	PERFORM preset('plain-v1', 'plain', NULL);
	PERFORM prebuild('plain', 'pl-1');
END $$;
SELECT is(pool('wanted'), 'desired 3, eligible 0, running 0', 'nothing yet');
SELECT is(pool('building'), 'claimed_total 0, created_total 1, desired 1, eligible 0, failed_total 0, resource_replacements_total 0, running 0', 'one being built');
SELECT is(pool('ready'), 'claimed_total 0, created_total 1, desired 1, eligible 1, failed_total 0, resource_replacements_total 0, running 1', 'one that is ready');
SELECT is(pool('unready'), 'claimed_total 0, created_total 1, desired 1, eligible 0, failed_total 0, resource_replacements_total 0, running 1', 'one that is not ready');
SELECT is(pool('expiring'), 'claimed_total 0, created_total 1, desired 1, eligible 0, failed_total 0, resource_replacements_total 0, running 1', 'one that is expired');
SELECT is(pool('failing'), 'claimed_total 0, created_total 1, desired 1, eligible 0, failed_total 1, resource_replacements_total 0, running 0, prebuild_ext_preset_backing_off 1', 'one that failed lately');
SELECT is(pool('failed'), 'claimed_total 0, created_total 3, desired 1, eligible 0, failed_total 3, preset_hard_limited 1, resource_replacements_total 0, running 0', 'three that failed');
SELECT is(pool('invalid'), 'desired 1, eligible 0, preset_validation_failed 1, running 0', 'one that cannot be built');
SELECT is(pool('claimed'), 'claimed_total 1, created_total 1, desired 1, eligible 0, failed_total 0, resource_replacements_total 0, running 0', 'one that was claimed');
SELECT is(pool('made'), 'desired 1, eligible 0, running 0', 'one that a user made from the preset');
SELECT is(pool('stopped'), 'claimed_total 0, created_total 1, desired 1, eligible 0, failed_total 0, resource_replacements_total 0, running 0', 'one that is stopped');
SELECT is(pool('gone'), NULL, 'nothing of a deleted template');
SELECT is(pool('old'), 'claimed_total 0, created_total 1, failed_total 0, resource_replacements_total 0', 'of a version that is not active, what was');
SELECT is(pool('none'), 'desired 0, eligible 0, running 0', 'a preset that wants none');
SELECT is(pool('plain'), 'claimed_total 0, created_total 1, failed_total 0, resource_replacements_total 0', 'a preset without desired instances, what was');
SELECT is(array_agg(DISTINCT type)::text, '{gauge}', 'gauges')
FROM prebuild_metrics_read(t0()) WHERE name ~ 'desired|running|eligible|limited|validation|updated|paused|backing';
SELECT is(array_agg(DISTINCT type)::text, '{counter}', 'counters')
FROM prebuild_metrics_read(t0()) WHERE name ~ '_total$';
SELECT is((SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(labels) k),
	'organization_name, preset_name, template_name', 'labels')
FROM prebuild_metrics_read(t0()) WHERE name = 'coderd_prebuilt_workspaces_desired' LIMIT 1;

-- the same, a pass later
DO $$ BEGIN PERFORM pass(); END $$;
SELECT is(pool('wanted'), 'claimed_total 0, created_total 3, desired 3, eligible 0, failed_total 0, resource_replacements_total 0, running 0', 'three are made');
DO $$ BEGIN PERFORM finish_jobs(t0()); END $$;
SELECT is(pool('wanted'), 'claimed_total 0, created_total 3, desired 3, eligible 3, failed_total 0, resource_replacements_total 0, running 3', 'and ready');

-- templates of one name in two organizations; presets of one name in two versions
DO $$ BEGIN
	PERFORM control_plane('cp_metrics');
	PERFORM simple('twin', 1, org => 'left');
	PERFORM prebuild('twin', 'tw-l');
	UPDATE templates SET name = 'right' WHERE name = 'twin';
	UPDATE template_versions SET name = 'right-v1' WHERE name = 'twin-v1';
	UPDATE template_version_presets SET name = 'right' WHERE name = 'twin';
	PERFORM simple('twin', 2, org => 'right');
	PERFORM prebuild('twin', 'tw-r-1');
	PERFORM version('twin', 'twin-v2');
	UPDATE template_version_presets SET name = 'other' WHERE name = 'twin';
	PERFORM preset('twin-v2', 'twin', 4);
	PERFORM prebuild('twin', 'tw-r-2');
	UPDATE template_version_presets SET name = 'twin' WHERE name IN ('right', 'other');
	UPDATE templates SET name = 'twin' WHERE name = 'right';
END $$;
SELECT is(string_agg(labels ->> 'organization_name' || ' ' || value, ', ' ORDER BY labels ->> 'organization_name'),
	'left 1, right 4', 'desired') FROM prebuild_metrics_read(t0()) WHERE name = 'coderd_prebuilt_workspaces_desired';
SELECT is(string_agg(labels ->> 'organization_name' || ' ' || value, ', ' ORDER BY labels ->> 'organization_name'),
	'left 1, right 2', 'created') FROM prebuild_metrics_read(t0()) WHERE name = 'coderd_prebuilt_workspaces_created_total';
-- not even an organization that has the name of a deleted one makes two series of one
DO $$ BEGIN
	-- which Coder refuses as long as the organization has workspaces
	SET LOCAL session_replication_role = replica;
	UPDATE organizations SET deleted = true WHERE name = 'left';
	UPDATE organizations SET name = 'right' WHERE name = 'left';
END $$;
SELECT is(count(*), 0::bigint, 'no series twice')
FROM (SELECT 1 FROM prebuild_metrics_read(t0()) GROUP BY name, labels HAVING count(*) > 1) twice;
SELECT is(max(value), 5::double precision, 'but their sum')
FROM prebuild_metrics_read(t0()) WHERE name = 'coderd_prebuilt_workspaces_desired';

-- passes
DO $$ BEGIN PERFORM control_plane('cp_metrics'); END $$;
CREATE TEMPORARY TABLE before AS
SELECT name, labels, value FROM prebuild_metrics_read(part => 'loop') WHERE name ~ 'duration';
CREATE FUNCTION fixture.passes() RETURNS double precision LANGUAGE sql STABLE AS
$$
	SELECT (SELECT value FROM prebuild_metrics_read(part => 'loop')
			WHERE name = 'coderd_prebuilds_reconciliation_duration_seconds_count')
		- coalesce((SELECT value FROM before WHERE name ~ '_count$'), 0)
$$;
DO $$ BEGIN PERFORM pass(n => 2); END $$;
SELECT is(passes(), 2::double precision, 'passes are counted, also those with nothing to do');
DO $$ BEGIN
	PERFORM prebuild_pause();
	PERFORM pass();
	PERFORM prebuild_resume();
	BEGIN
		PERFORM pass();
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
	END;
END $$;
SELECT is(passes(), 2::double precision, 'not a paused one, nor one that was rolled back');
SELECT is(string_agg(labels ->> 'le', ' ' ORDER BY (replace(labels ->> 'le', '+Inf', 'Infinity'))::double precision),
	'0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60 +Inf', 'buckets')
FROM prebuild_metrics_read(part => 'loop') WHERE name ~ '_bucket$';
SELECT ok(bool_and(value >= previous), 'buckets contain the smaller ones')
FROM (SELECT value, lag(value, 1, 0::double precision) OVER (
		ORDER BY (replace(labels ->> 'le', '+Inf', 'Infinity'))::double precision) AS previous
	FROM prebuild_metrics_read(part => 'loop') WHERE name ~ '_bucket$') b;
SELECT ok((SELECT value FROM prebuild_metrics_read(part => 'loop') WHERE name ~ '_bucket$' AND labels ->> 'le' = '+Inf')
	= (SELECT value FROM prebuild_metrics_read(part => 'loop') WHERE name ~ '_count$'), 'the last one has all');
SELECT ok((SELECT value FROM prebuild_metrics_read(part => 'loop') WHERE name ~ '_sum$')
	> coalesce((SELECT value FROM before WHERE name ~ '_sum$'), 0), 'the sum grows');
DO $$ BEGIN PERFORM prebuild_pause(); END $$;

-- parts
DO $$ BEGIN
	PERFORM simple('a', 1);
	PERFORM prebuild('a', 'a-1');
END $$;
SELECT is((SELECT count(*) FROM prebuild_metrics_read(t0())),
	(SELECT count(*) FROM unnest('{pool,history,demand,times,loop,metadata,health}'::text[]) part, prebuild_metrics_read(t0(), part)),
	'the parts are the whole');
SELECT is(array_agg(DISTINCT name ORDER BY name)::text,
	'{coderd_prebuilt_workspaces_desired,coderd_prebuilt_workspaces_eligible,coderd_prebuilt_workspaces_running,'
	'prebuild_ext_preset_no_provisioner,prebuild_ext_preset_serving,prebuild_ext_preset_sick,prebuild_ext_preset_waiting}', 'pool')
FROM prebuild_metrics_read(t0(), 'pool');
SELECT is(string_agg(concat_ws(' ', replace(name, 'coderd_agentapi_metadata_', ''), labels ->> 'reason', value), ', '),
	'batches_total capacity 0, batches_total manual 0, batches_total scheduled 0, batches_total shutdown 0, '
	'flushed_total 0, dropped_keys_total 0, publish_errors_total 0', 'metadata, on a server that does not buffer it')
FROM prebuild_metrics_read(part => 'metadata');
SELECT raises('SELECT prebuild_metrics_read(t0(), ''pol'')', '22023', 'unrecognized part of the metrics: "pol"', 'pool, history', 'another part');
SELECT raises('SELECT prebuild_metrics_read(NULL)', '22004', '"at"', NULL, 'no time');
SELECT raises('SELECT prebuild_metrics_text(''infinity'')', '22008', '"at"', NULL, 'an infinite time');
SELECT raises('SELECT prebuild_metrics_text(''294276-12-31 23:00 UTC'')', '22008', '"at" is too late', NULL, 'a time of no pass');

-- a faulty schedule is what passes warn of, not every scrape
SET client_min_messages = notice;
SET log_min_messages = notice;
DO $$ BEGIN PERFORM schedule('a', 'nonsense', 7); END $$;
SELECT is(metric('coderd_prebuilt_workspaces_desired', 'a'), 1::double precision, 'no warning');
SELECT current_setting('client_min_messages'), current_setting('log_min_messages');
SET client_min_messages = warning;

-- the text form
DO $$ BEGIN
	PERFORM control_plane('cp_metrics');
	PERFORM prebuild_pause();
	PERFORM simple('plain', 2);
	PERFORM simple(E'quote " back \\ slash\nline é', 1);
	DELETE FROM pg_temp.before;
END $$;
SELECT is(string_agg(line, E'\n' ORDER BY n), E'# HELP coderd_prebuilt_workspaces_desired Prebuilt workspaces that a preset should have\n'
'# TYPE coderd_prebuilt_workspaces_desired gauge\n'
'coderd_prebuilt_workspaces_desired{organization_name="org",preset_name="plain",template_name="plain"} 2\n'
'coderd_prebuilt_workspaces_desired{organization_name="org",preset_name="quote \\" back \\\\ slash\\nline é",template_name="quote \\" back \\\\ slash\\nline é"} 1',
	'help, type, series')
FROM regexp_split_to_table(prebuild_metrics_text(t0()), E'\n') WITH ORDINALITY l (line, n) WHERE line ~ 'desired';
SELECT is(string_agg(line, E'\n' ORDER BY n), E'# HELP coderd_prebuilt_workspaces_reconciliation_paused 1 while reconciliation is paused, otherwise 0\n'
'# TYPE coderd_prebuilt_workspaces_reconciliation_paused gauge\ncoderd_prebuilt_workspaces_reconciliation_paused 1', 'no labels')
FROM regexp_split_to_table(prebuild_metrics_text(t0()), E'\n') WITH ORDINALITY l (line, n) WHERE line ~ 'paused' AND line !~ 'health';
SELECT is(string_agg(split_part(line, ' ', 3), ' '), 'coderd_prebuilds_reconciliation_duration_seconds', 'one help for a histogram')
FROM regexp_split_to_table(prebuild_metrics_text(t0()), E'\n') line WHERE line ~ '^# HELP.*duration';
SELECT ok(right(prebuild_metrics_text(t0()), 1) = E'\n', 'the last line is ended');
SET extra_float_digits = -10;
SELECT ok(prebuild_metrics_text(t0()) ~ '_last_updated 1748865600\n', 'digits do not depend on the session');
RESET extra_float_digits;

-- who may read
CREATE ROLE prebuild_scraper;
GRANT USAGE ON SCHEMA cp_metrics, fixture TO prebuild_scraper;
SET ROLE prebuild_scraper;
SELECT raises('SELECT * FROM prebuild_metrics', '42501', 'prebuild_metrics', NULL, 'nobody by default');
RESET ROLE;
SELECT prebuild_grant('prebuild_scraper');
SET ROLE prebuild_scraper;
SELECT raises('SELECT count(*) FROM prebuild_metrics', '42501', 'site_configs|workspace|template|provisioner', NULL, 'not without rights on the control plane');
RESET ROLE;
GRANT SELECT ON ALL TABLES IN SCHEMA cp_metrics TO prebuild_scraper;
SET ROLE prebuild_scraper;
SELECT ok(count(*) > 5, 'with them') FROM prebuild_metrics;
SELECT ok(prebuild_metrics_text() ~ 'coderd_prebuilt_workspaces_desired', 'the text too');
SELECT raises('SELECT * FROM prebuild_pass_stats', '42501', 'pass_stats', NULL, 'but no table of the extension');
RESET ROLE;
ALTER TABLE template_version_presets ENABLE ROW LEVEL SECURITY;
SET ROLE prebuild_scraper;
SELECT raises('SELECT count(*) FROM prebuild_metrics_read(part => ''pool'')', '42501', 'row-level security policy', NULL, 'nor what a policy shows of the pool');
SELECT ok(count(*) > 0, 'other parts need no preset') FROM prebuild_metrics_read(part => 'loop');
SELECT current_setting('row_security');
RESET ROLE;
ALTER TABLE template_version_presets DISABLE ROW LEVEL SECURITY;

DROP SCHEMA cp_metrics CASCADE;
DROP OWNED BY prebuild_scraper;
DROP ROLE prebuild_scraper;
