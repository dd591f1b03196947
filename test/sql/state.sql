-- prebuild_state() and prebuild_plan(): columns, rows, order, and that looking changes nothing.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_state');
	PERFORM simple('a', 3, 3600);
	PERFORM prebuild('a', 'a-ready');
	PERFORM prebuild('a', 'a-expired', created => t0() - interval '2 hours');
	PERFORM prebuild('a', 'a-not-ready', ready => false);
	PERFORM prebuild('a', 'a-pending', status => 'pending');
	PERFORM prebuild('a', 'a-running', status => 'running');
	PERFORM prebuild('a', 'a-canceling', status => 'canceling');
	PERFORM prebuild('a', 'a-stopping');
	PERFORM build('a-stopping', 'stop', 'pending', 'a');
	PERFORM prebuild('a', 'a-deleting');
	PERFORM build('a-deleting', 'delete', 'running', 'a');
	PERFORM prebuild('a', 'a-deleting-too');
	PERFORM build('a-deleting-too', 'delete', 'pending', 'a');
	-- not the system user's, or of no preset
	PERFORM prebuild('a', 'a-anns-start', status => 'pending', initiator => usr('ann'));
	PERFORM prebuild('a', 'a-no-preset');
	PERFORM build('a-no-preset', 'stop', 'pending');
END $$;
SELECT is((s.preset_id, s.preset_name, s.template_id, s.template_name, s.organization_id, s.organization_name, s.template_version_id)::text,
	(p('a'), 'a'::text, t('a'), 'a'::text, organization('org'), 'org'::text, v('a-v1'))::text, 'who it is')
FROM prebuild_state(t0()) s;
\echo active|desired|actual|expired|eligible|extraneous|starting|stopping|deleting|stale|failed|until|limited|status|cron
SELECT active, desired, actual, expired, eligible, extraneous, starting, stopping, deleting, pending_stale, num_failed,
	backoff_until, hard_limited, prebuild_status, cron_expression FROM prebuild_state(t0());

-- the same fleet with another version promoted: nothing is desired or eligible, nothing counts as on its way
DO $$ BEGIN PERFORM version('a', 'a-v2'); PERFORM preset('a-v2', 'a2', 2); END $$;
SELECT preset_name, active, desired, actual, expired, eligible, extraneous, starting, stopping, deleting, pending_stale
FROM prebuild_state(t0()) ORDER BY preset_name;
SELECT is(plan('a'), 'cancel_pending 1; delete 3', 'stale and running ones of the older version');
SELECT is(plan('a2'), 'create 2', 'and two of the new one');
SELECT is(array_agg(action ORDER BY n), '{cancel_pending,delete}', 'canceled first')
FROM prebuild_plan(t0()) WITH ORDINALITY x (preset_id, template_id, action, count, workspace_ids, backoff_until, reason, template_name, preset_name, n)
WHERE preset_id = p('a');
SELECT ok(bool_and(a.template_id = t('a')), 'the plan names the template') FROM prebuild_plan(t0()) a;
SELECT ok(bool_and(cardinality(a.workspace_ids) = a.count), 'and the workspaces') FROM prebuild_plan(t0()) a
WHERE action IN ('cancel_pending', 'delete');
SELECT ok(bool_and(reason ~ '[a-z]' AND reason ~ '[0-9]'), 'and a reason with the numbers') FROM prebuild_plan(t0());
SELECT is(array_agg(row(template_name, preset_name)::text ORDER BY n), '{"(a,a)","(a,a)","(a,a2)"}', 'and says by name whose rows they are')
FROM prebuild_plan(t0()) WITH ORDINALITY x (preset_id, template_id, action, count, workspace_ids, backoff_until, reason,
	template_name, preset_name, n);

-- delete before create; expired ones before what is too many
DO $$ BEGIN
	PERFORM control_plane('cp_state');
	PERFORM simple('b', 1, 3600);
	PERFORM prebuild('b', 'b-1', created => t0() - interval '2 hours');
	PERFORM prebuild('b', 'b-2', created => t0() - interval '30 minutes');
	PERFORM prebuild('b', 'b-3', created => t0() - interval '20 minutes');
	PERFORM prebuild('b', 'b-4', created => t0() - interval '10 minutes', ready => false);
END $$;
SELECT is((SELECT string_agg(x.name, ' ' ORDER BY a.n, i) FROM prebuild_plan(t0())
		WITH ORDINALITY a (preset_id, template_id, action, count, workspace_ids, backoff_until, reason, template_name, preset_name, n),
		unnest(a.workspace_ids) WITH ORDINALITY u (id, i), workspaces x WHERE x.id = u.id AND action = 'delete'),
	'b-1 b-4 b-2', 'the expired one, then one that is not ready, then the oldest');
DO $$ BEGIN UPDATE template_version_presets SET desired_instances = 5; END $$;
SELECT is(array_agg(action ORDER BY n), '{delete,create}', 'deleted before others are created')
FROM prebuild_plan(t0()) WITH ORDINALITY x (preset_id, template_id, action, count, workspace_ids, backoff_until, reason, template_name, preset_name, n);
SELECT is(plan('b'), 'delete 1; create 2', 'what is missing without the expired one');
-- starting ones count as there
DO $$ BEGIN PERFORM prebuild('b', 'b-5', status => 'running'); END $$;
SELECT is(plan('b'), 'delete 1; create 1', 'less what is being built');
DO $$ BEGIN
	FOR i IN 6..9 LOOP
		PERFORM prebuild('b', format('b-%s', i), status => 'pending');
	END LOOP;
END $$;
SELECT is(plan('b'), 'delete 1', 'never fewer than none');

-- looking writes nothing, and a pass does what the plan says
CREATE TEMP TABLE planned AS SELECT action, count, workspace_ids FROM prebuild_plan(t0());
SELECT is((SELECT count(*) FROM workspace_builds WHERE transition = 'delete'), 0, 'nothing was deleted so far');
SELECT is(pass(), 'deleted 1', 'the pass');
SELECT is((SELECT array_agg(b.workspace_id) FROM workspace_builds b WHERE transition = 'delete'), workspace_ids, 'takes what was planned')
FROM planned;

-- the default is now
SELECT is((SELECT count(*) FROM prebuild_state()), 1, 'prebuild_state() without a time');
SELECT is((SELECT string_agg(action || ' ' || count, '; ') FROM prebuild_plan()), 'delete 3',
	'prebuild_plan() without a time: by now all are expired');

-- both are in the order of names: organization, template, preset, and the active version's first; ids
-- are in the opposite order here
DO $$
DECLARE
	id_of_last int := 9;
	preset record;
BEGIN
	PERFORM control_plane('cp_state');
	PERFORM simple('b', 1, org => 'first');
	PERFORM simple('c', 1, org => 'first');
	PERFORM preset('c-v1', 'B', 1);
	PERFORM version('c', 'c-v2');
	PERFORM preset('c-v2', 'c', 1);
	PERFORM simple('a', 1, org => 'second');
	FOR preset IN SELECT p.id FROM template_version_presets p JOIN template_versions v ON v.id = p.template_version_id
			JOIN templates t ON t.id = v.template_id JOIN organizations o ON o.id = t.organization_id
			ORDER BY o.name COLLATE "C", t.name COLLATE "C", p.name COLLATE "C", v.id = t.active_version_id DESC LOOP
		UPDATE template_version_presets SET id = format('00000000-0000-0000-0000-00000000000%s', id_of_last)::uuid
		WHERE id = preset.id;
		id_of_last := id_of_last - 1;
	END LOOP;
END $$;
SELECT organization_name, template_name, preset_name, active, preset_id FROM prebuild_state(t0());
SELECT template_name, preset_name, action, count, preset_id FROM prebuild_plan(t0());

DROP SCHEMA cp_state CASCADE;
