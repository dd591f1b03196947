-- prebuild_overview: the pools at a glance, the worst first, in lines that fit into a terminal.
\set ECHO none
\i test/fixture/fixture.sql
SET check_function_bodies = on;

-- what is there and never changes while the test runs
CREATE FUNCTION fixture.ago(span interval) RETURNS timestamptz LANGUAGE sql AS $$ SELECT now() - span $$;
DO $$ BEGIN
	PERFORM control_plane('cp_overview');
	-- fine, with a schedule that is about to change
	PERFORM simple('go-service', 1, preset_name => 'Europe');
	PERFORM prebuild('Europe', 'eu-' || n, created => ago('90 minutes')) FROM generate_series(1, 2) n;
	UPDATE template_version_presets SET scheduling_timezone = 'UTC' WHERE name = 'Europe';
	PERFORM schedule('Europe', format('* %s * * *', extract(hour FROM now() AT TIME ZONE 'UTC')), 2);
	-- old
	PERFORM simple('jupyter', 1, preset_name => 'Small');
	PERFORM prebuild('Small', 'small-1', created => ago('9 days 1 hour'));
	-- some found none
	PERFORM simple('missed', 1);
	PERFORM prebuild('missed', 'missed-1', created => ago('2 hours'));
	PERFORM prebuild('missed', 'cold-' || n, created => ago('1 hour'), owner => usr('ada')) FROM generate_series(1, 2) n;
	PERFORM prebuild('missed', 'warm-' || n, created => ago('3 hours')) FROM generate_series(1, 8) n;
	UPDATE workspaces SET owner_id = usr('ada') WHERE name LIKE 'warm-%';
	PERFORM build('warm-' || n, 'start', preset_name => 'missed', created => ago('2 hours'), initiator => usr('ada')) FROM generate_series(1, 8) n;
	-- asked for yesterday: too long ago
	PERFORM prebuild('Small', 'old-1', created => ago('25 hours'), owner => usr('ada'));
	-- short, coming
	PERFORM simple('coming', 3);
	PERFORM prebuild('coming', 'coming-1', created => ago('2 hours'));
	PERFORM prebuild('coming', 'coming-' || n, status => 'running', created => ago('1 minute')) FROM generate_series(2, 3) n;
	-- short, not yet coming
	PERFORM simple('missing', 2);
	PERFORM prebuild('missing', 'missing-1', created => ago('2 hours'));
	-- none
	PERFORM simple('none', 2);
	-- sick
	PERFORM simple('sick', 2);
	PERFORM prebuild('sick', 'sick-' || n, created => ago('2 hours')) FROM generate_series(1, 2) n;
	UPDATE workspace_agents a SET lifecycle_state = 'start_error' FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
	WHERE a.resource_id = r.id AND b.id = latest('sick-1');
	-- does not get ready
	PERFORM simple('unready', 1);
	PERFORM prebuild('unready', 'unready-1', ready => false, created => ago('2 hours'));
	-- backing off, hard-limited, invalid, unsupported
	PERFORM simple('backoff', 2);
	PERFORM prebuild('backoff', 'backoff-' || n, status => 'failed', created => ago('3 minutes')) FROM generate_series(1, 2) n;
	PERFORM simple('a-template-with-a-long-name', 2, preset_name => 'a preset with a long name');
	PERFORM prebuild('a preset with a long name', 'long-' || n, status => 'failed', created => ago('3 hours')) FROM generate_series(1, 3) n;
	PERFORM simple('invalid', 1);
	PERFORM parameter('invalid-v1', 'must', required => true);
	PERFORM simple('unsupported', 1);
	INSERT INTO template_version_workspace_tags VALUES (v('unsupported-v1'), 'a', 'file("b")');
	-- of an old version, of an old version with nothing left, and one that wants none
	PERFORM simple('replaced', 1);
	PERFORM prebuild('replaced', 'replaced-1', created => ago('2 hours'));
	PERFORM version('replaced', 'replaced-v2');
	PERFORM simple('gone', 1);
	PERFORM version('gone', 'gone-v2');
	PERFORM simple('unwanted', 0);
END $$;
SET prebuild.unready_grace = '10min';
SET prebuild.backoff_interval = '1h';
\pset format aligned
\pset tuples_only off
\pset border 1
\pset null ''
-- times of day change with every run
\o | sed -E 's/\| [0-9]{2}:[0-9]{2} {5,}\|/| HH:MM               |/; s/ (\w{3} )?[0-9]{2}:[0-9]{2}( *\+)?$/ HH:MM/; s/ *$//'
SELECT * FROM prebuild_overview;
\o
\echo no line is longer than 120
\o | awk 'length > longest { longest = length } END { print (longest <= 120 ? "ok" : "NOT OK: " longest) }'
UPDATE template_version_presets SET desired_instances = 100 WHERE name = 'none';
-- the next change is tomorrow or later
UPDATE template_version_preset_prebuild_schedules SET cron_expression = format('* * * * %s', extract(dow FROM now() AT TIME ZONE 'UTC' + interval '2 days')) WHERE preset_id = p('Europe');
SELECT * FROM prebuild_overview;
\o
\echo a role without rights on the tables, and one with them
\pset format unaligned
\pset tuples_only on
CREATE ROLE overview_reader;
SELECT prebuild_grant('overview_reader') \g /dev/null
SET ROLE overview_reader;
SELECT * FROM prebuild_overview;
RESET ROLE;
GRANT USAGE ON SCHEMA cp_overview TO overview_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA cp_overview TO overview_reader;
SET ROLE overview_reader;
SELECT count(*) FROM prebuild_overview;
RESET ROLE;
DROP OWNED BY overview_reader;
DROP ROLE overview_reader;
