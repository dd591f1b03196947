-- A control plane in its default schema, beside the extension's own objects. Every write fills every
-- required column, through a whole life of prebuilds.
\set ECHO none
\i test/fixture/fixture.sql
SELECT is(current_setting('prebuild.control_plane_schema'), 'public', 'the default');
DO $$ BEGIN
	PERFORM control_plane('public');
	PERFORM notification_queue();
	PERFORM usr('admin');
	UPDATE users SET rbac_roles = '{template-admin}' WHERE username = 'admin';
	PERFORM prebuild_attach(metadata_fanout => true);
	-- to be created, deleted, canceled, given up
	PERFORM simple('create', 2);
	PERFORM parameter('create-v1', 'region', 'eu');
	PERFORM simple('delete', 1, org => 'second');
	PERFORM parameter('delete-v1', 'region', 'eu');
	PERFORM prebuild('delete', 'delete-1');
	INSERT INTO workspace_build_parameters VALUES (latest('delete-1'), 'region', 'eu');
	PERFORM version('delete', 'delete-v2');
	PERFORM simple('cancel', 1);
	PERFORM prebuild('cancel', 'cancel-1', status => 'pending');
	PERFORM version('cancel', 'cancel-v2');
	PERFORM simple('limit', 1);
	PERFORM prebuild('limit', 'failed-' || n, status => 'failed', created => t0() - interval '1 day')
	FROM generate_series(1, 3) n;
	-- to be claimed
	PERFORM simple('claim', 2);
	PERFORM prebuild('claim', 'claim-1');
	PERFORM prebuild('claim', 'claim-2', ready => false);
	PERFORM usr('ada');
END $$;

-- Columns that must be filled and have no default, as they are for everybody.
CREATE TABLE fixture.required AS
SELECT attrelid::regclass AS "table", attname::text AS "column" FROM pg_attribute
WHERE attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
	AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r')
	AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = attrelid
		AND deptype = 'e');
SELECT ok(count(*) > 100, 'columns must be filled') FROM fixture.required;

-- Drop NOT NULL and the defaults of all columns, so that a NULL shows a column that was not filled.
CREATE FUNCTION pg_temp.relax() RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	change text;
BEGIN
	FOR change IN
		SELECT format('ALTER TABLE %s %s', attrelid::regclass, string_agg(format(
			'ALTER COLUMN %1$I DROP DEFAULT, ALTER COLUMN %1$I DROP NOT NULL', attname), ', '))
		FROM pg_attribute a
		WHERE attrelid IN (SELECT "table" FROM fixture.required) AND attnum > 0 AND NOT attisdropped
			AND attgenerated = '' AND attidentity = ''
			AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
				AND a.attnum = ANY (i.indkey))
		GROUP BY attrelid
	LOOP
		EXECUTE change;
	END LOOP;
END
$$;
-- Of the tables that have rows of this transaction: those, or their required columns that are NULL.
CREATE FUNCTION pg_temp.written(required_only boolean) RETURNS SETOF text LANGUAGE plpgsql AS
$$
DECLARE
	place record;
	n bigint;
BEGIN
	FOR place IN
		SELECT "table", NULL AS "column" FROM fixture.required WHERE NOT required_only GROUP BY "table"
		UNION ALL SELECT "table", "column" FROM fixture.required WHERE required_only
		ORDER BY 1, 2
	LOOP
		EXECUTE format('SELECT count(*) FROM %s WHERE xmin::text::bigint >= $1 AND %s', place."table",
			CASE WHEN required_only THEN quote_ident(place."column") || ' IS NULL' ELSE 'true' END)
		INTO n USING txid_current();
		IF n > 0 THEN
			RETURN NEXT concat_ws('.', place."table", place."column");
		END IF;
	END LOOP;
END
$$;
BEGIN;
DO $$ BEGIN PERFORM pg_temp.relax(); END $$;
SET LOCAL prebuild.notify_hard_limit = on;
SET LOCAL prebuild.metadata_insert_missing = on;
SELECT is(pass(), 'created 2, deleted 1, canceled 1', 'a pass');
SELECT is(claim('claim', 'ada', 'mine'), 'claim-1', 'a claim');
SELECT is(u::text, '(0,1,0,1)', 'a report') FROM workspace_agents a, prebuild_agent_metadata_upsert(
	ARRAY[a.id], '{cpu}', '{7}', '{""}', ARRAY[t0()]) u
WHERE a.resource_id = (SELECT r.id FROM workspace_resources r JOIN workspace_builds b USING (job_id)
	WHERE b.id = latest('mine'));
DO $$ BEGIN PERFORM prebuild_pause(); END $$;
\echo tables with rows that were written
SELECT x FROM pg_temp.written(false) x ORDER BY x COLLATE "C";
\echo required columns that were left empty
SELECT x FROM pg_temp.written(true) x ORDER BY x COLLATE "C";
ROLLBACK;

-- the life of it
SET prebuild.notify_hard_limit = on;
SET prebuild.metadata_insert_missing = on;
SELECT is(plan('create') || ', ' || plan('delete') || ', ' || plan('cancel'),
	'create 2, delete 1, cancel_pending 1', 'what is to be done');
SELECT is(pass(n => 8), 'created 2, deleted 1, canceled 1', 'is done');
SELECT is(status('limit'), 'hard_limited', 'the limit is reached');
SELECT is((SELECT string_agg(m.method::text, ' ') FROM notification_messages m), 'inbox', 'and said');
SELECT is(finish_jobs(t0()), 3, 'all jobs are done');
SELECT is((SELECT count(*) FROM prebuild_running(p('create')) WHERE ready), 2, 'two run');
SELECT is(claim('create', 'ada', 'first') IS NOT NULL AND claim('create', 'ada', 'second') IS NOT NULL, true,
	'two are claimed');
SELECT is((SELECT string_agg(i.workspace_name || ' of ' || i.owner_username, ', ' ORDER BY i.workspace_name)
	FROM workspace_agents a, prebuild_agent_identity(a.id) i WHERE i.owner_username = 'ada'),
	'first of ada, second of ada', 'their agents are');
SELECT is((SELECT sum(r.queued)::int FROM workspace_agents a, prebuild_agent_identity(a.id) i,
	prebuild_agent_metadata_report(i.agent_id, '{cpu,mem}', '{1,2}') r WHERE i.owner_username = 'ada'), 4,
	'and report');
SELECT is((SELECT count(*) FROM workspace_agent_metadata WHERE key = 'cpu' AND value = '1'), 2, 'which is stored');
SELECT is(pass(n => 8), 'created 2', 'the pool is filled again');
SELECT is((SELECT sum(value) FROM prebuild_metrics WHERE name = 'coderd_prebuilt_workspaces_claimed_total'),
	2::double precision, 'and counted');
SELECT is((SELECT string_agg(constraint_name, ' ') FROM (
	SELECT conrelid::regclass || ' ' || conname AS constraint_name FROM pg_constraint
	WHERE connamespace = 'public'::regnamespace AND NOT convalidated) c), NULL, 'no constraint is waived');
DO $$ BEGIN PERFORM prebuild_detach(); END $$;
SELECT is((SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.proname LIKE 'prebuild\_%'
	AND t.tgrelid::regclass::text NOT LIKE 'prebuild\_%'), 0, 'detached');
