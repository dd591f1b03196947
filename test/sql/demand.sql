-- Demand: what counts as warm and cold, from the tables alone and from the log that passes keep.
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN
	DELETE FROM prebuild_demand_log;
	DELETE FROM prebuild_lead_time_log;
	PERFORM control_plane('cp_demand');
	PERFORM simple('one', NULL);
	PERFORM simple('two', NULL, preset_name => 'other');
END $$;
-- The demands of a day around t0() in one line; n counts logged ones.
CREATE FUNCTION fixture.demand(bucket interval DEFAULT '1 hour', template uuid DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(format('%s/%s %s: %s+%s', template_name, preset_name, to_char(starts_at, 'DD HH24:MI'), warm, cold), ', ')
	FROM prebuild_demand(t0() - interval '12 hours', t0() + interval '12 hours', bucket, template) $$;
CREATE FUNCTION fixture.logged() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(format('%s %s', x.name, CASE WHEN d.warm THEN 'warm' ELSE 'cold' END), ', ' ORDER BY x.name)
	FROM prebuild_demand_log d JOIN workspaces x ON x.id = d.workspace_id WHERE d.control_plane = 'cp_demand' $$;
SELECT is(demand(), NULL, 'nobody asked for anything');

-- cold: a person's workspace whose first build is a start with a preset
DO $$ BEGIN
	PERFORM prebuild('one', 'cold', owner => usr('ada'));
	PERFORM prebuild('one', 'cold-failed', status => 'failed', owner => usr('ada'), created => t0() - interval '50 minutes');
	PERFORM prebuild('other', 'cold-other', owner => usr('ada'), created => t0());
	PERFORM prebuild('one', 'no-start', transition => 'stop', owner => usr('ada'));
	PERFORM prebuild('one', 'none', owner => usr('ada'));
	UPDATE workspace_builds SET template_version_preset_id = NULL WHERE workspace_id = w('none');
	PERFORM build('none', 'stop', initiator => usr('ada'));
	PERFORM build('none', 'start', preset_name => 'one', initiator => usr('ada'));
END $$;
SELECT is(demand(), 'one/one 02 11:00: 0+2, two/other 02 12:00: 0+1', 'cold ones, before any pass');
-- warm: a prebuild that somebody got
DO $$ BEGIN
	PERFORM prebuild('one', 'pool');
	PERFORM prebuild('one', 'by-admin');
	PERFORM build('by-admin', 'stop', initiator => usr('admin'), created => t0());
	PERFORM prebuild('one', 'owned');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'owned';
	PERFORM prebuild('one', 'got', created => t0() - interval '3 hours');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'got';
	PERFORM build('got', 'stop', created => t0() - interval '1 hour');
	PERFORM build('got', 'start', initiator => usr('ada'), created => t0() - interval '30 minutes');
	PERFORM build('got', 'stop', initiator => usr('ada'), created => t0() + interval '1 hour');
END $$;
SELECT is(demand(), 'one/one 02 11:00: 1+2, two/other 02 12:00: 0+1', 'a warm one at the first build that somebody else initiated');
DO $$ BEGIN UPDATE workspaces SET deleted = true WHERE name IN ('cold', 'got'); END $$;
SELECT is(demand(), 'one/one 02 11:00: 1+2, two/other 02 12:00: 0+1', 'deleted workspaces count');
SELECT is(logged(), NULL, 'nothing is logged yet');
SELECT is(demand('1 day'), 'one/one 02 00:00: 1+2, two/other 02 00:00: 0+1', 'in one bucket');
SELECT is(demand('20 minutes', t('one')), 'one/one 02 11:00: 0+2, one/one 02 11:20: 1+0', 'of one template, in twenty minutes');
SELECT is((SELECT count(*)::int FROM prebuild_demand(t0(), t0())), 0, 'an empty range has none');
SELECT is((SELECT count(*)::int FROM prebuild_demand(t0(), t0() + interval '1 us')), 1, 'the start belongs to the range');
SELECT is((SELECT sum(cold)::int FROM prebuild_demand(t0() - interval '1 hour', t0())), 2, 'its end does not');

-- passes log it, and the answer stays the same
SELECT is(pass(), '', 'a pass');
SELECT is(logged(), 'cold cold, cold-failed cold, cold-other cold, got warm', 'logs it');
SELECT is(demand(), 'one/one 02 11:00: 1+2, two/other 02 12:00: 0+1', 'and the answer stays');
SELECT is(pass(), '', 'the next pass');
SELECT is(demand(), 'one/one 02 11:00: 1+2, two/other 02 12:00: 0+1', 'counts nothing twice');
-- what comes later
DO $$ BEGIN
	PERFORM prebuild('one', 'late', owner => usr('ada'), created => t0() - interval '5 hours');
	UPDATE workspaces SET owner_id = usr('ada') WHERE name = 'pool';
	PERFORM build('pool', 'start', initiator => usr('ada'), created => t0() + interval '1 minute');
	PERFORM build('owned', 'start', initiator => usr('ada'), created => t0() + interval '2 minutes');
END $$;
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+3', 'later ones are in the tables');
SELECT is(logged(), 'cold cold, cold-failed cold, cold-other cold, got warm', 'not in the log');
SELECT is(pass(), '', 'until a pass');
SELECT is(logged(), 'cold cold, cold-failed cold, cold-other cold, got warm, late cold, owned warm, pool warm', 'logs them');
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+3', 'and the answer stays');
-- a rewritten table, and one that is another
DO $$ BEGIN PERFORM prebuild('one', 'rewritten', owner => usr('ada')); END $$;
VACUUM FULL cp_demand.workspace_builds;
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+4', 'a rewritten table');
SELECT is(pass(), '', 'with a pass');
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+4', 'says the same');
UPDATE prebuild_demand_marker SET builds = 0;
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+4', 'so does one that passes have not read');
DELETE FROM prebuild_demand_marker;
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+4', 'and a log without a marker, as in a restored database');
SELECT is(pass(), '', 'after another pass');
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 3+4', 'nothing counts twice');
-- a preset that is gone, with its name in the log
DO $$ BEGIN DELETE FROM template_version_presets WHERE name = 'other'; END $$;
SELECT is(demand('1 day', t('two')), 'two/other 02 00:00: 0+1', 'the log remembers presets that are gone');

-- claims say when they were
DO $$ BEGIN
	PERFORM prebuild('one', 'to-claim');
	PERFORM claim('one', 'ada', 'claimed', t0() + interval '3 hours');
	PERFORM build('claimed', 'start', initiator => usr('ada'), created => t0() + interval '5 hours');
END $$;
SELECT is((SELECT format('%s %s', preset_name, to_char(at, 'HH24:MI')) FROM prebuild_demand_log WHERE workspace_id = w('claimed')), 'one 15:00', 'a claim is logged at its time');
SELECT is(pass(), '', 'and a pass');
SELECT is((SELECT at - t0() FROM prebuild_demand_log WHERE workspace_id = w('claimed')), interval '3 hours', 'leaves it');
DO $$ BEGIN
	PERFORM prebuild('one', 'to-undo');
	BEGIN
		PERFORM claim('one', 'ada', 'undone');
		RAISE 'no';
	EXCEPTION WHEN raise_exception THEN NULL;
	END;
END $$;
SELECT is((SELECT count(*)::int FROM prebuild_demand_log WHERE workspace_id = w('to-undo')), 0, 'a claim that is rolled back was none');

-- retention
SET prebuild.demand_retention = '2h';
SELECT is(pass(), '', 'a pass that keeps two hours');
SELECT is((SELECT string_agg(x.name, ', ' ORDER BY x.name) FROM prebuild_demand_log d JOIN workspaces x ON x.id = d.workspace_id WHERE d.at < t0() - interval '2 hours'), NULL, 'deletes older ones');
DO $$ BEGIN UPDATE workspace_builds SET updated_at = t0() WHERE workspace_id = w('late'); END $$;
SELECT is(pass(), '', 'a touched row');
SELECT is((SELECT count(*)::int FROM prebuild_demand_log d WHERE workspace_id = w('late')), 0, 'does not bring them back');
SELECT is((SELECT sum(cold)::int FROM prebuild_demand(t0() - interval '12 hours', t0() - interval '3 hours')), NULL, 'for readers neither');
RESET prebuild.demand_retention;

-- bad input
SELECT raises(statement, state, message, NULL, label) FROM (VALUES
	($$SELECT prebuild_demand(NULL, now())$$, '22004', '"range_start" must not be null', 'no start'),
	($$SELECT prebuild_demand(now(), NULL)$$, '22004', '"range_end" must not be null', 'no end'),
	($$SELECT prebuild_demand('-infinity', now())$$, '22008', '"range_start" must be a finite time', 'an infinite start'),
	($$SELECT prebuild_demand(now(), 'infinity')$$, '22008', '"range_end" must be a finite time', 'an infinite end'),
	($$SELECT prebuild_demand(now(), now() - interval '1 s')$$, '22023', '"range_end" .* must not be before "range_start"', 'an end before the start'),
	($$SELECT prebuild_demand(now(), now(), '0')$$, '22023', '"bucket" must be longer than 0 and without months, not "@ 0"', 'an empty bucket'),
	($$SELECT prebuild_demand(now(), now(), '-1 h')$$, '22023', '"bucket" must be longer than 0', 'a negative bucket'),
	($$SELECT prebuild_demand(now(), now(), '1 month')$$, '22023', '"bucket" .* without months, not "@ 1 mon"', 'a bucket of a month'),
	($$SELECT prebuild_demand(now(), now(), '100000000 days 00:00:01')$$, '22023', '"bucket" must be at most 100000000 days, not "@ 100000000 days 1 sec"', 'too long a bucket'),
	($$SELECT prebuild_demand(now(), now(), '2147483647 days -2000000000:00:00')$$, '22023', '"bucket" must be at most', 'one whose days alone are too many'),
	($$SELECT prebuild_demand(now(), now(), NULL)$$, '22004', '"bucket" must not be null', 'no bucket'),
	($$SELECT prebuild_demand(now(), now(), '1 h', '00000000-0000-0000-0000-00000000abcd')$$, '42704', 'template 0.*abcd does not exist', 'an unknown template')
) c (statement, state, message, label);
-- infinite times count nowhere, and harm nothing
DO $$ BEGIN
	PERFORM prebuild('one', 'for-ever', owner => usr('ada'), created => 'infinity');
	PERFORM prebuild('one', 'never-built', created => '-infinity');
END $$;
SELECT is(pass(), '', 'infinite times');
SELECT is((SELECT count(*)::int FROM prebuild_demand_log WHERE NOT isfinite(at)), 0, 'are not logged');
DELETE FROM workspace_builds WHERE workspace_id IN (w('for-ever'), w('never-built'));

-- lead times: from the job to the agents, in three parts
SET intervalstyle = postgres;
DELETE FROM prebuild_demand_marker;
CREATE FUNCTION fixture.lead_time(template_name text, preset text, at timestamptz DEFAULT t0()) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT l::text FROM prebuild_lead_time(t(template_name), preset, at) l $$;
-- A prebuild that waited, built and started for so many seconds.
CREATE FUNCTION fixture.built(preset_name text, workspace_name text, waiting int, building int, starting int, created timestamptz DEFAULT t0() - interval '1 day')
RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM prebuild(preset_name, workspace_name, created => created);
	UPDATE provisioner_jobs j SET started_at = created + waiting * interval '1 s', completed_at = created + (waiting + building) * interval '1 s'
	FROM workspace_builds b WHERE b.job_id = j.id AND b.workspace_id = w(workspace_name);
	UPDATE workspace_agents a SET ready_at = created + (waiting + building + starting) * interval '1 s'
	FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id WHERE a.resource_id = r.id AND b.workspace_id = w(workspace_name);
END
$$;
DO $$ BEGIN
	PERFORM simple('lead', NULL);
	PERFORM preset('lead-v1', 'rare', NULL);
	PERFORM simple('young', NULL);
END $$;
SELECT is(lead_time('lead', 'lead'), '(default,0,,,,,,,,00:05:00,00:05:00)', 'without builds the default');
SET prebuild.default_lead_time = '90s';
SELECT is(lead_time('lead', 'lead'), '(default,0,,,,,,,,00:01:30,00:01:30)', 'which is a setting');
RESET prebuild.default_lead_time;
DO $$ BEGIN
	PERFORM built('lead', 'lead-' || n, n, 10 * n, 100 * n) FROM generate_series(1, 5) n;
	PERFORM built('lead', 'lead-old', 1000, 1000, 1000, t0() - interval '15 days');
	PERFORM built('lead', 'lead-next', 1000, 1000, 1000, t0() + interval '1 hour');
	PERFORM prebuild('lead', 'lead-failed', status => 'failed');
	PERFORM prebuild('lead', 'lead-canceled', status => 'canceled');
	PERFORM prebuild('lead', 'lead-pending', status => 'pending');
	PERFORM built('rare', 'rare-1', 500, 0, 0);
END $$;
\set lead '(preset,5,0.16666666666666666,00:00:03,00:00:04.6,00:00:30,00:00:46,00:05:00,00:07:40,00:05:33,00:08:30.6)'
SELECT is(lead_time('lead', 'lead'), :'lead', 'of a preset, before any pass');
SELECT is(lead_time('lead', 'rare'), '(template,6,0.14285714285714285,00:00:03.5,00:04:12.5,00:00:25,00:00:45,00:04:10,00:07:30,00:06:28.5,00:08:47.5)', 'of its template, where the preset has fewer than five');
SELECT is(lead_time('young', 'young'), '(default,0,,,,,,,,00:05:00,00:05:00)', 'of a template without any');
SELECT is(pass(), '', 'after a pass');
SELECT is((SELECT string_agg(format('%s %s', x.name, l.outcome), ', ' ORDER BY x.name) FROM prebuild_lead_time_log l JOIN workspaces x ON x.id = l.workspace_id WHERE x.name ~ '^lead-[a-z]'),
	'lead-canceled canceled, lead-failed failed, lead-next ready, lead-old ready, lead-pending ', 'which logs them');
SELECT is(lead_time('lead', 'lead'), :'lead', 'the answer stays');
SELECT is(pass(), '', 'and after another');
SELECT is(lead_time('lead', 'lead'), :'lead', 'nothing counts twice');
-- what becomes of those that are open
DO $$ BEGIN
	UPDATE provisioner_jobs j SET completed_at = t0(), started_at = t0(), error = 'no' FROM workspace_builds b WHERE b.job_id = j.id AND b.workspace_id = w('lead-pending');
	PERFORM prebuild('lead', 'lead-starting', ready => false);
	PERFORM prebuild('lead', 'lead-broken', ready => false);
	UPDATE workspace_agents a SET lifecycle_state = 'start_error' FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id WHERE a.resource_id = r.id AND b.workspace_id = w('lead-broken');
END $$;
SELECT is(split_part(lead_time('lead', 'lead'), ',', 3), '0.2857142857142857', 'a failure counts at once');
SELECT is(pass(), '', 'after a pass');
SELECT is((SELECT string_agg(format('%s %s', x.name, l.outcome), ', ' ORDER BY x.name) FROM prebuild_lead_time_log l JOIN workspaces x ON x.id = l.workspace_id WHERE x.name ~ '^lead-[bps]'),
	'lead-broken failed, lead-pending failed, lead-starting ', 'it is logged');
SELECT is(pass(t0() + interval '2 days'), '', 'two days later');
SELECT is((SELECT l.outcome FROM prebuild_lead_time_log l WHERE l.workspace_id = w('lead-starting')), 'failed', 'what is not ready failed');
-- metrics
SELECT is((SELECT string_agg(format('%s %s', m.labels ->> 'le', m.value), ', ' ORDER BY m.ordinality) FROM prebuild_metrics_read(t0(), 'times') WITH ORDINALITY m
	WHERE m.labels ->> 'preset_name' = 'lead'),
	'5 0, 10 0, 20 0, 30 0, 45 0, 60 0, 90 0, 120 1, 180 1, 240 2, 300 2, 450 4, 600 5, 900 5, 1200 5, 1800 5, 3600 7, +Inf 7,  7,  7665', 'the histogram');
DO $$ BEGIN UPDATE templates SET deleted = true WHERE name = 'lead'; END $$;
SELECT is((SELECT count(*)::int FROM prebuild_metrics_read(t0()) m WHERE m.labels ->> 'template_name' = 'lead'), 0, 'deleted templates have none');
SELECT raises(statement, state, message, NULL, label) FROM (VALUES
	($$SELECT prebuild_lead_time(NULL, 'one')$$, '22004', '"template_id" must not be null', 'no template'),
	($$SELECT prebuild_lead_time(t('one'), NULL)$$, '22004', '"preset_name" must not be null', 'no preset'),
	($$SELECT prebuild_lead_time(t('one'), 'one', 'infinity')$$, '22008', '"at" must be a finite time', 'an infinite time'),
	($$SELECT prebuild_lead_time(t('one'), 'lead')$$, '42704', 'no version of template .* has a preset "lead"', 'an unknown preset'),
	($$SELECT prebuild_lead_time('00000000-0000-0000-0000-00000000abcd', 'one')$$, '42704', 'template 0.*abcd does not exist', 'an unknown template')
) c (statement, state, message, label);

-- a table of builds that cannot be read by blocks
DO $$ BEGIN
	PERFORM drop_views();
	ALTER TABLE workspace_builds RENAME TO builds_below;
	CREATE VIEW workspace_builds AS SELECT * FROM builds_below;
END $$;
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 4+4', 'builds in a view');
-- attached, the pass warns of the view
SET client_min_messages = error;
SELECT is(pass(), '', 'with a pass');
SET client_min_messages = warning;
SELECT is(demand('1 day', t('one')), 'one/one 02 00:00: 4+4', 'too');
-- the histogram of a template that is gone goes with the last build of its preset in the log
CREATE FUNCTION fixture.histograms() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(preset_name, ', ' ORDER BY preset_name) FROM prebuild_lead_time_stats WHERE control_plane = 'cp_demand' $$;
SELECT is(histograms(), 'lead, rare', 'histograms');
-- so do the other sums of its presets, and all of a control plane that is gone
CREATE FUNCTION fixture.sums() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT string_agg(DISTINCT format('%s %s', control_plane, preset_name), ', ' ORDER BY format('%s %s', control_plane, preset_name))
	|| ': ' || count(*) FROM (SELECT control_plane, preset_name FROM prebuild_claim_time_stats
		UNION ALL SELECT control_plane, preset_name FROM prebuild_preset_count WHERE counter = 'x'
		UNION ALL SELECT control_plane, preset_name FROM prebuild_idle WHERE preset_name IN ('lead', 'rare')
		UNION ALL SELECT control_plane, preset_name FROM prebuild_lead_time_stats WHERE seconds = 7) s
	WHERE control_plane ~ '^cp_(demand|gone)' $$;
DO $$
DECLARE
	cp text;
BEGIN
	DELETE FROM prebuild_claim_time_stats;
	DELETE FROM prebuild_idle;
	FOREACH cp IN ARRAY '{cp_demand,cp_gone}'::text[] LOOP
		INSERT INTO prebuild_claim_time_stats SELECT cp, template_id, preset_name, 0, 0, '{}' FROM prebuild_lead_time_stats
			WHERE control_plane = 'cp_demand';
		INSERT INTO prebuild_preset_count SELECT cp, template_id, preset_name, 'x', 1 FROM prebuild_lead_time_stats
			WHERE control_plane = 'cp_demand';
		INSERT INTO prebuild_idle SELECT cp, template_id, preset_name, 7, t0() + interval '9 days', 0 FROM prebuild_lead_time_stats
			WHERE control_plane = 'cp_demand';
	END LOOP;
	INSERT INTO prebuild_lead_time_stats VALUES ('cp_gone', gen_random_uuid(), 'old', 0, 7, '{}');
END $$;
SELECT is(sums(), 'cp_demand lead, cp_demand rare, cp_gone lead, cp_gone old, cp_gone rare: 13', 'all sums');
SET prebuild.demand_retention = '3d';
SET client_min_messages = error;
SELECT is(pass(t0() + interval '3 days'), '', 'builds from before t0() go');
SET client_min_messages = warning;
SELECT is(histograms(), 'lead', 'and the histogram of the preset that has no other, as the template is gone');
SELECT is(sums(), 'cp_demand lead: 3', 'and its other sums, and those of the control plane that is gone');
RESET prebuild.demand_retention;
DROP SCHEMA cp_demand CASCADE;
