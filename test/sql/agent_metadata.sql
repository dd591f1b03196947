-- Agent metadata without a worker: the direct batch, the report that is written directly, the text
-- form of ids, and the fan-out trigger's coming and going.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN
	PERFORM control_plane('cp_metadata');
	PERFORM coder_only();
END $$;

-- A row that was there before.
CREATE FUNCTION stored(n int, key text, value text, collected timestamptz DEFAULT t0())
RETURNS void LANGUAGE sql AS $$
	INSERT INTO workspace_agent_metadata (workspace_agent_id, display_name, key, script, timeout,
		interval, value, collected_at)
	VALUES (a(n), 'Shown', key, 'echo', 1, 10, value, collected)
$$;

-- Upsert one or more rows, each "agent:key:value:seconds after t0"; the counts.
CREATE FUNCTION upsert(VARIADIC entries text[]) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s updated, %s inserted, %s skipped, %s notified', u.updated, u.inserted,
		u.skipped, u.notified)
	FROM (SELECT array_agg(a(split_part(e, ':', 1)::int) ORDER BY i) AS ids,
			array_agg(split_part(e, ':', 2) ORDER BY i) AS keys,
			array_agg(split_part(e, ':', 3) ORDER BY i) AS vals,
			array_agg(''::text ORDER BY i) AS errors,
			array_agg(t0() + split_part(e, ':', 4)::int * interval '1 second' ORDER BY i) AS times
		FROM unnest(entries) WITH ORDINALITY AS x (e, i)) x,
		prebuild_agent_metadata_upsert(ids, keys, vals, errors, times) u
$$;

-- What is stored: "agent:key:value", in order.
CREATE FUNCTION metadata() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s:%s', ('x' || right(workspace_agent_id::text, 8))::bit(32)::int,
		key, value), ' ' ORDER BY workspace_agent_id, key COLLATE "C")
	FROM workspace_agent_metadata
$$;

SELECT agents(1, 2 * (current_setting('block_size')::int / 22));

-- the direct batch

SELECT stored(1, 'cpu', 'old'), stored(1, 'mem', 'old'), stored(2, 'cpu', 'old');
SELECT is(upsert('1:cpu:new:1', '2:cpu:new:1'),
	'2 updated, 0 inserted, 0 skipped, 1 notified', 'existing keys are updated');
SELECT is(metadata(), '1:cpu:new 1:mem:old 2:cpu:new', 'and nothing else');
SELECT is((SELECT (display_name, script, timeout, "interval", error)::text
		FROM workspace_agent_metadata WHERE workspace_agent_id = a(1) AND key = 'cpu'),
	'(Shown,echo,1,10,"")', 'what the agent declared stays');
SELECT is(upsert('1:cpu:older:0'), '0 updated, 0 inserted, 1 skipped, 0 notified',
	'an older value does not overwrite, and nobody is told');
SELECT is(upsert('1:cpu:same:1'), '1 updated, 0 inserted, 0 skipped, 1 notified',
	'one of the same time does');
SELECT is(upsert('1:cpu:first:5', '1:cpu:newest:7', '1:cpu:middle:6'),
	'1 updated, 0 inserted, 2 skipped, 1 notified', 'of duplicates in a batch one is written');
SELECT is(metadata(), '1:cpu:newest 1:mem:old 2:cpu:new', 'the newest');
SELECT is(upsert('1:cpu:one:8', '1:cpu:two:8'), '1 updated, 0 inserted, 1 skipped, 1 notified',
	'duplicates of the same time');
SELECT is(metadata(), '1:cpu:two 1:mem:old 2:cpu:new', 'the later element wins');
SELECT is(upsert('9999:cpu:x:9', '1:mem:x:9'), '1 updated, 0 inserted, 1 skipped, 1 notified',
	'an unknown agent is skipped, and fails nobody');
SELECT is(upsert('9999:cpu:x:9'), '0 updated, 0 inserted, 1 skipped, 0 notified',
	'also alone');
SELECT is((SELECT u::text FROM prebuild_agent_metadata_upsert('{}', '{}', '{}', '{}', '{}') u),
	'(0,0,0,0)', 'an empty batch is fine');

-- infinite times are refused, because they would be newer than all later ones

SELECT raises(format('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1), a(1), a(1)], ''{cpu,mem,disk}'', ''{x,x,x}'',
		''{"","",""}'', ARRAY[t0(), %L, %L]::timestamptz[])', e, e), '22008',
	'"collected_at" must contain finite times only, not ' || e, NULL, 'collected at ' || e)
FROM unnest('{infinity,-infinity}'::text[]) e;
SELECT prebuild_agent_metadata_upsert(ARRAY[a(1), a(1)], '{cpu,mem}', '{x,x}', '{"",""}', ARRAY[t0() + interval '1 hour', 'infinity']);
SELECT is(metadata(), '1:cpu:two 1:mem:x 2:cpu:new', 'nothing of such a batch is written');
DELETE FROM workspace_agent_metadata WHERE key = 'mem';
SELECT stored(1, 'mem', 'old') \g /dev/null
UPDATE workspace_agent_metadata SET collected_at = 'infinity' WHERE workspace_agent_id = a(1);
SELECT is(upsert('1:mem:report:0'), '1 updated, 0 inserted, 0 skipped, 1 notified', 'a stored one, of plain SQL, is no newer');
SELECT is(upsert('1:cpu:report:0', '1:none:report:0'), '1 updated, 1 inserted, 0 skipped, 1 notified', 'also when others are inserted');
SELECT is(metadata(), '1:cpu:report 1:mem:report 1:none:report 2:cpu:new', 'the report wins');
SELECT is(upsert('1:cpu:older:-1'), '0 updated, 0 inserted, 1 skipped, 0 notified', 'and is not overwritten by an older one');
DELETE FROM workspace_agent_metadata WHERE key IN ('none', 'mem');
UPDATE workspace_agent_metadata SET value = 'two', collected_at = t0() + interval '9 seconds' WHERE workspace_agent_id = a(1);
SELECT stored(1, 'mem', 'x', t0() + interval '9 seconds') \g /dev/null

-- missing keys

SELECT is(upsert('1:cpu:x:10', '1:disk:x:10', '2:disk:x:10', '3:cpu:x:10', '1:mem:old:0'),
	'1 updated, 3 inserted, 1 skipped, 1 notified', 'keys without a row get one');
SELECT is(metadata(), '1:cpu:x 1:disk:x 1:mem:x 2:cpu:new 2:disk:x 3:cpu:x', 'all of them');
SELECT is((SELECT (display_name, script, timeout, "interval", display_order)::text
		FROM workspace_agent_metadata WHERE workspace_agent_id = a(2) AND key = 'disk'),
	'(disk,"",0,0,0)', 'named after the key, never collected by the agent');
SET prebuild.metadata_insert_missing = off;
SELECT is(upsert('1:cpu:y:11', '1:net:y:11', '4:cpu:y:11'),
	'1 updated, 0 inserted, 2 skipped, 1 notified', 'unless that is off');
SET prebuild.metadata_insert_missing = auto;
SELECT coder_only('provisioner_keys') \g /dev/null
SELECT is(upsert('1:net:z:12'), '0 updated, 1 inserted, 0 skipped, 1 notified',
	'one table of coderd does not make a Coder database');
SELECT coder_only('provisioner_keys', 'workspace_proxies') \g /dev/null
SELECT is(upsert('1:swap:z:12'), '0 updated, 0 inserted, 1 skipped, 0 notified',
	'auto is off in a Coder database');
SET prebuild.metadata_insert_missing = on;
SELECT is(upsert('1:swap:z:12'), '0 updated, 1 inserted, 0 skipped, 1 notified',
	'where it can be on');
RESET prebuild.metadata_insert_missing;
SELECT coder_only() \g /dev/null

-- rows that would make a batch fail for ever

DELETE FROM workspace_agent_metadata;
SELECT is(upsert(format('1:%s:x:1', repeat('k', 127)), format('1:%s:x:1', repeat('k', 128)),
	'1:cpu:x:1'), '0 updated, 2 inserted, 1 skipped, 1 notified', 'a key of 128 characters is skipped');
DELETE FROM workspace_agent_metadata;
SELECT is(upsert(format('1:%s:x:1', repeat('é', 127)), format('1:%s:x:1', repeat('é', 128))),
	'0 updated, 1 inserted, 1 skipped, 1 notified', 'characters, not bytes');
SELECT is(upsert(format('1:v:%s:1', repeat('v', 65535)), format('1:w:%s:1', repeat('v', 65536))),
	'0 updated, 1 inserted, 1 skipped, 1 notified', 'a value over the column''s length is skipped');
SELECT is((SELECT (u.inserted, u.skipped)::text FROM prebuild_agent_metadata_upsert(
		ARRAY[a(1), a(1)], '{e,f}', '{x,x}', ARRAY[repeat('e', 65535), repeat('e', 65536)],
		ARRAY[t0(), t0()]) u), '(1,1)', 'an error too');
ALTER TABLE workspace_agent_metadata ALTER COLUMN value TYPE varchar(3) USING left(value, 3);
SELECT is(upsert('1:v:123:2', '1:cpu:1234:2'), '1 updated, 0 inserted, 1 skipped, 1 notified',
	'the length is the column''s, as it is now');
ALTER TABLE workspace_agent_metadata ALTER COLUMN value TYPE text;
SELECT is(upsert('1:cpu:1234:2'), '0 updated, 1 inserted, 0 skipped, 1 notified',
	'which may have none');
ALTER TABLE workspace_agent_metadata ALTER COLUMN value TYPE varchar(65535);

-- numbers of messages: the longest payload that a server takes, and the ids in it, follow from the
-- size of its blocks and of its names

SELECT current_setting('block_size')::int - current_setting('max_identifier_length')::int - 130 AS longest \gset
SELECT :longest / 22 AS ids, 22 * (:longest / 22) AS chars \gset
SELECT ok(current_setting('block_size') <> '8192' OR (:longest, :ids, :chars) = (7999, 363, 7986),
	'363 ids are 7,986 of 7,999 bytes where blocks have 8 kB');
SELECT raises(format('SELECT pg_notify(''x'', repeat(''x'', %s))', :longest + 1), '22023', 'payload string too long',
	NULL, 'one byte more is too long for the server');
SELECT pg_notify('x', repeat('x', :longest)) \g /dev/null
DELETE FROM workspace_agent_metadata;
SELECT is((SELECT upsert(VARIADIC array_agg(format('%s:cpu:x:1', n))) FROM generate_series(1, :ids) n),
	format('0 updated, %s inserted, 0 skipped, 1 notified', :ids), 'so many agents go into one message');
SELECT is((SELECT upsert(VARIADIC array_agg(format('%s:cpu:x:2', n))) FROM generate_series(1, :ids + 1) n),
	format('%s updated, 1 inserted, 0 skipped, 2 notified', :ids), 'one more into two');
SELECT is((SELECT upsert(VARIADIC array_agg(format('%s:cpu:x:3', n))) FROM generate_series(1, 2 * :ids) n),
	format('%s updated, %s inserted, 0 skipped, 2 notified', :ids + 1, :ids - 1), 'twice as many too');
SET prebuild.metadata_notify = 'agent';
SELECT is((SELECT upsert(VARIADIC array_agg(format('%s:cpu:x:4', n))) FROM generate_series(1, 5) n),
	'5 updated, 0 inserted, 0 skipped, 5 notified', 'or each agent into its own');
SET prebuild.metadata_notify = 'both';
SELECT is((SELECT upsert(VARIADIC array_agg(format('%s:cpu:x:5', n))) FROM generate_series(1, 5) n),
	'5 updated, 0 inserted, 0 skipped, 6 notified', 'or both');
SELECT is((SELECT upsert(VARIADIC array_agg(format('1:%s:x:5', lpad(n::text, 120, '"'))))
		FROM generate_series(1, 40) n),
	format('0 updated, 40 inserted, 0 skipped, %s notified', 1 + ceil(40.0 / ((:longest - 60) / 243))),
	'keys that do not fit into one message take several');
DELETE FROM workspace_agent_metadata;
ALTER TABLE workspace_agent_metadata ALTER COLUMN key TYPE text;
SELECT is(upsert(format('1:%s:x:6', repeat('k', 128)), format('1:%s:x:6', repeat('k', 127))),
	'0 updated, 1 inserted, 1 skipped, 2 notified', 'a key of 128 characters is skipped, whatever the column takes');
DELETE FROM workspace_agent_metadata;
ALTER TABLE workspace_agent_metadata ALTER COLUMN key TYPE varchar(128);
RESET prebuild.metadata_notify;

-- arguments

SELECT raises('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1)], ''{k}'', ''{v}'', ''{}'', ARRAY[t0()])',
	'2202E', '"agent_ids" and "metadata_errors" must be of the same length', NULL, 'arrays of different lengths');
SELECT raises('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1)], ''{{k}}'', ''{v}'', ''{e}'', ARRAY[t0()])',
	'2202E', '"keys" must be a one-dimensional array', NULL, 'several dimensions');
SELECT raises('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1)], ''{k}'', ''{NULL}'', ''{e}'', ARRAY[t0()])',
	'22004', '"metadata_values" must not contain nulls', NULL, 'a NULL element');
SELECT raises('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1)], ''{k}'', ''{v}'', ''{e}'', NULL)',
	'22004', '"collected_at" must not be null', NULL, 'a NULL array');
SELECT raises('SELECT prebuild_agent_metadata_upsert(NULL, ''{k}'', ''{v}'', ''{e}'', ARRAY[t0()])',
	'22004', '"agent_ids" must not be null', NULL, 'whichever');
BEGIN READ ONLY;
SELECT raises('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1)], ''{k}'', ''{v}'', ''{e}'', ARRAY[t0()])',
	'25006', NULL, NULL, 'a read-only transaction');
ROLLBACK;
BEGIN;
DROP TABLE workspace_agent_metadata;
SELECT raises('SELECT prebuild_agent_metadata_upsert(ARRAY[a(1)], ''{k}'', ''{v}'', ''{e}'', ARRAY[t0()])',
	'42P01', 'table "cp_metadata.workspace_agent_metadata" does not exist', 'prebuild.control_plane_schema', 'a missing table is named');
ROLLBACK;

-- the report, which is written directly here

DELETE FROM workspace_agent_metadata;
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report(a(1), '{cpu,mem}', ARRAY[E' 1 \n', '2']) r),
	'(2,0,0)', 'a report is written');
SELECT is(metadata(), '1:cpu:1 1:mem:2', 'trimmed');
SELECT ok((SELECT bool_and(collected_at BETWEEN now() - interval '1 minute' AND clock_timestamp())
	FROM workspace_agent_metadata), 'with the server''s clock');
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report(a(1), '{cpu,cpu}', '{first,last}', '{bad,worse}') r),
	'(2,0,0)', 'a key twice');
SELECT is((SELECT value || error FROM workspace_agent_metadata WHERE key = 'cpu'), 'lastworse',
	'the later one');
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report(a(9999), '{cpu}', '{x}') r),
	'(1,0,0)', 'an unknown agent fails nobody');
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report(a(1), '{}', '{}') r),
	'(0,0,0)', 'nor does an empty report');

DO $$ BEGIN PERFORM prebuild_agent_metadata_report(a(2), '{ok,long,bad,both}',
	ARRAY[repeat('v', 2048), repeat('v', 2049), 'v', repeat('v', 2049)],
	ARRAY[repeat('e', 2048), 'e', repeat('e', 2049), repeat('e', 2050)]); END $$;
SELECT key, length(value), CASE WHEN length(error) > 100 THEN length(error)::text ELSE error END
FROM workspace_agent_metadata WHERE workspace_agent_id = a(2) ORDER BY key COLLATE "C";

-- 6,144 bytes of keys: 48 of 127 bytes and one of 48
CREATE FUNCTION report_keys(last_length int) RETURNS text LANGUAGE sql AS $$
	SELECT r::text FROM prebuild_agent_metadata_report(a(3),
		(SELECT array_agg(lpad(n::text, 127, 'k') ORDER BY n) FROM generate_series(1, 48) n)
			|| repeat('z', last_length) || 'tail'::text,
		array_fill('v'::text, ARRAY[50])) r
$$;
SELECT is(report_keys(44), '(50,0,0)', '6,144 bytes of keys');
SELECT is(report_keys(48), '(49,0,1)', 'then the last key is over it');
\set VERBOSITY sqlstate
SELECT is(report_keys(49), '(48,0,2)', 'and from the first key over it on nothing is stored');
\set VERBOSITY default
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report(a(4),
		ARRAY['cpu', repeat('k', 128), 'mem'], '{1,2,3}') r), '(2,0,1)',
	'a key over 127 characters is rejected');
SELECT is((SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") FROM workspace_agent_metadata
	WHERE workspace_agent_id = a(4)), 'cpu mem', 'the others are stored');

SELECT raises('SELECT prebuild_agent_metadata_report(NULL, ''{k}'', ''{v}'')',
	'22004', '"agent_id" must not be null', NULL, 'no agent');
SELECT raises('SELECT prebuild_agent_metadata_report(a(1), NULL, ''{v}'')',
	'22004', '"keys" must not be null', NULL, 'no keys');
SELECT raises('SELECT prebuild_agent_metadata_report(a(1), ''{k}'', ''{v,w}'')',
	'2202E', '"keys" and "metadata_values" must be of the same length', NULL, 'more values than keys');
SELECT raises('SELECT prebuild_agent_metadata_report(a(1), ''{k}'', ''{v}'', ''{}'')',
	'2202E', '"keys" and "metadata_errors" must be of the same length', NULL, 'fewer errors');
BEGIN READ ONLY;
SELECT raises('SELECT prebuild_agent_metadata_report(a(1), ''{k}'', ''{v}'')',
	'25006', NULL, NULL, 'a report in a read-only transaction');
ROLLBACK;
SELECT is(prebuild_agent_metadata_flush(), 0, 'there is nothing to flush');
SELECT is((SELECT mode FROM prebuild_metadata_stats), 'direct', 'and the statistics say why');
SELECT is((SELECT count(*) FROM prebuild_worker_status), 0, 'no worker');
SELECT is((SELECT count(*) FROM prebuild_metadata_histograms()), 0, 'no histograms');

-- the text form of ids

SELECT is((SELECT string_agg(e, '|') FROM prebuild_agent_ids_encode('{}') e), NULL, 'no ids, no text');
SELECT is((SELECT string_agg(e, '|') FROM prebuild_agent_ids_encode(ARRAY[a(255)]) e),
	'AAAAAAAAAAAAAAAAAAAA/w', 'one id');
SELECT is((SELECT string_agg(length(e)::text, ' ') FROM prebuild_agent_ids_encode(
		(SELECT array_agg(a(n)) FROM generate_series(1, :ids) n)) e), :'chars', 'as many as fit');
SELECT is((SELECT string_agg(length(e)::text, ' ') FROM prebuild_agent_ids_encode(
		(SELECT array_agg(a(n)) FROM generate_series(1, :ids + 1) n)) e), :chars || ' 22', 'one more');
SELECT is((SELECT string_agg(length(e)::text, ' ') FROM prebuild_agent_ids_encode(
		(SELECT array_agg(a(n)) FROM generate_series(1, 2 * :ids - 1) n)) e), format('%s %s', :chars, :chars - 22), 'twice as many less one');
SELECT ok((SELECT array_agg(d ORDER BY n, i) = (SELECT array_agg(a(n) ORDER BY n) FROM generate_series(1, 600) n)
	FROM prebuild_agent_ids_encode((SELECT array_agg(a(n) ORDER BY n) FROM generate_series(1, 600) n))
		WITH ORDINALITY AS e (text, n), prebuild_agent_ids_decode(e.text) WITH ORDINALITY AS x (d, i)),
	'decoding gives back what was encoded');
SELECT ok((SELECT string_agg(e, '') = (SELECT string_agg(rtrim(encode(uuid_send(a(n)), 'base64'), '='), '' ORDER BY n)
		FROM generate_series(1, 400) n)
	FROM prebuild_agent_ids_encode((SELECT array_agg(a(n) ORDER BY n) FROM generate_series(1, 400) n)) e),
	'and it is what SQL makes of them');
SELECT is((SELECT count(*) FROM prebuild_agent_ids_decode('')), 0, 'no text, no ids');
SELECT raises('SELECT prebuild_agent_ids_decode(repeat(''A'', 45))', '22023',
	'invalid length of encoded agent ids: 45', NULL, 'a length that is no multiple of 22');
SELECT raises('SELECT prebuild_agent_ids_decode(repeat(''A'', 30) || ''=='' || repeat(''A'', 12))', '22023',
	'invalid character "=" at position 31', NULL, 'a bad character');
SELECT raises('SELECT prebuild_agent_ids_decode(repeat(''A'', 18) || ''€'' || ''A'')', '22023',
	'invalid character "€" at position 19', NULL, 'of several bytes');
SELECT raises('SELECT prebuild_agent_ids_encode(ARRAY[NULL::uuid])', '22004',
	'"agent_ids" must not contain nulls', NULL, 'a NULL id');
SELECT is(prebuild_agent_ids_notify(ARRAY[a(1), a(2), a(1)]), 1, 'ids are published');
SELECT is((SELECT prebuild_agent_ids_notify(array_agg(a(n % :ids))) FROM generate_series(1, 1000) n), 1,
	'once each');
SELECT is(prebuild_agent_ids_notify('{}'), 0, 'none, no message');

-- attaching

CREATE FUNCTION attached() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s', c.relname, t.tgname), ', ' ORDER BY t.tgname)
	FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'cp_metadata'::regnamespace AND tgname LIKE 'prebuild\_metadata%'
$$;
DO $$ BEGIN PERFORM prebuild_detach(); END $$;
SELECT is(attached(), NULL, 'nothing is attached at first');
SELECT prebuild_attach();
SELECT is(attached(), 'workspace_agent_metadata prebuild_metadata_fanout_delete, '
	'workspace_agent_metadata prebuild_metadata_fanout_insert, '
	'workspace_agent_metadata prebuild_metadata_fanout_update', 'then the fan-out');
BEGIN;
SELECT prebuild_attach();
SELECT is((SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'
	AND relation = 'workspace_agent_metadata'::regclass), 0, 'again: no lock');
COMMIT;
SELECT is(upsert('1:cpu:t:99', '5:new:t:99'), '0 updated, 1 inserted, 1 skipped, 1 notified',
	'the functions work as before');
ALTER TABLE workspace_agent_metadata DISABLE TRIGGER prebuild_metadata_fanout_update;
SELECT prebuild_attach();
SELECT is((SELECT string_agg(tgenabled::text, '') FROM pg_trigger WHERE tgname LIKE 'prebuild\_metadata%'),
	'OOO', 'a disabled trigger is put back');
SELECT prebuild_attach(metadata_fanout => false);
SELECT is(attached(), NULL, 'or off');
CREATE TABLE IF NOT EXISTS template_version_terraform_values (template_version_id uuid, provisionerd_version text);
SELECT coder_only('provisioner_keys', 'workspace_proxies') \g /dev/null
SELECT prebuild_attach();
SELECT is(attached(), NULL, 'a Coder database publishes its own');
SELECT prebuild_attach(true);
SELECT ok(attached() IS NOT NULL, 'unless it is told to');
SET prebuild.metadata_notify = 'agent';
ALTER TABLE workspace_agent_metadata ALTER COLUMN key TYPE text;
\set VERBOSITY sqlstate
SELECT stored(6, repeat('k', :longest), 'x'), stored(6, 'short', 'x') \g /dev/null
\set VERBOSITY default
SELECT is((SELECT count(*) FROM workspace_agent_metadata WHERE workspace_agent_id = a(6)), 2,
	'a key that fits into no message is written by plain SQL, with a warning');
RESET prebuild.metadata_notify;
SELECT coder_only() \g /dev/null
SELECT prebuild_detach();
SELECT prebuild_detach();
SELECT is(attached(), NULL, 'and detached, twice');

CREATE ROLE prebuild_test_stranger;
GRANT USAGE ON SCHEMA cp_metadata, fixture TO prebuild_test_stranger;
GRANT EXECUTE ON FUNCTION prebuild_attach, prebuild_detach TO prebuild_test_stranger;
GRANT SELECT, UPDATE ON workspace_agent_metadata TO prebuild_test_stranger;
SET ROLE prebuild_test_stranger;
SELECT raises('SELECT prebuild_attach()', '42501', 'must be owner of table', NULL,
	'only the owner attaches');
SELECT raises('SELECT prebuild_agent_metadata_report(a(1), ''{k}'', ''{v}'')', '42501', 'permission denied', NULL,
	'reports need EXECUTE');
RESET ROLE;
DROP OWNED BY prebuild_test_stranger;
DROP ROLE prebuild_test_stranger;
SET client_min_messages = error;
DROP SCHEMA cp_metadata CASCADE;
