# Bursts of claims: as many sessions as there are prebuilds, all at once, get one each, while other
# claims are undone, passes run, and rows are held for an instant all the time. So a claim that returns
# nothing is one that missed a prebuild, unless the machine is too slow: what should be held for an instant is
# held for as long as a claim looks. Such a round does not count and is played again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

# How many claims wait.
sub queued
{
	my ($server, $database) = @_;

	return $server->safe_psql($database, q{SELECT count(*) FROM pg_locks
		WHERE locktype = 'object' AND classid = 'template_version_presets'::regclass});
}

my $sessions = 40;
my $undone = 15;
my $rounds = 5;
my $most = 15;
my $looks = 0.1;
my $node = new_server('burst', 'max_connections = 100', 'fsync = off', q{shared_preload_libraries = 'pg_stat_statements'},
	'pg_stat_statements.track = all', 'pg_stat_statements.track_planning = on');
my $db = new_control_plane($node, 'plane');

$node->safe_psql($db, qq{
	SELECT fixture.simple('one', $sessions, preset_name => 'p'), fixture.usr('ada');
	CREATE TABLE given (round int, session int, workspace_id uuid, took interval);
	CREATE TABLE note (workspace_id uuid REFERENCES workspaces);
	CREATE TABLE stop ();
	-- keep a prebuild for a part of the time that a claim looks, and give it back
	CREATE PROCEDURE claim_and_undo(round int, session int) LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		COMMIT;
		PERFORM FROM template_version_presets p, users u,
			prebuild_claim(p.id, u.id, format('undone-r%s-s%s', round, session)) c WHERE u.username = 'ada';
		PERFORM pg_sleep(0.05);
		ROLLBACK;
	END \$\$;
	CREATE PROCEDURE passes() LANGUAGE plpgsql AS \$\$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			PERFORM prebuild_reconcile(clock_timestamp());
			COMMIT;
			PERFORM pg_sleep(0.05);
		END LOOP;
	END \$\$;
	CREATE PROCEDURE claim(round int, session int) LANGUAGE plpgsql AS \$\$
	DECLARE
		began timestamptz;
		got uuid;
	BEGIN
		-- until all may go
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		COMMIT;
		began := clock_timestamp();
		SELECT c.id INTO got FROM template_version_presets p, users u,
			prebuild_claim(p.id, u.id, format('r%s-s%s', round, session)) c WHERE u.username = 'ada';
		INSERT INTO given VALUES (round, session, got, clock_timestamp() - began);
	END \$\$;
	-- a foreign key to one of them, for an instant, at times undone: there is always one that is free
	CREATE PROCEDURE notes() LANGUAGE plpgsql AS \$\$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			INSERT INTO note SELECT id FROM workspaces WHERE owner_id = prebuild_system_user()
				ORDER BY random() LIMIT 1;
			IF random() < 0.5 THEN COMMIT; ELSE ROLLBACK; END IF;
			PERFORM pg_sleep(0.001);
		END LOOP;
	END \$\$});
my @others = map { start_session($node, $db, $_) } ('CALL notes()') x 3, 'CALL passes()';
my $gate = $node->background_psql($db);

my ($round, $good, $hasty) = (0, 0, 0);
while ($good < $rounds && ++$round <= $most)
{
	wait_until($node, $db, "SELECT fixture.finish_jobs() IS NOT NULL AND (SELECT eligible FROM prebuild_state()) = $sessions");
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my @claims = map { start_session($node, $db, $_) } ((map { "CALL claim_and_undo($round, $_)" } 1 .. $undone),
		(map { "CALL claim($round, $_)" } 1 .. $sessions));
	wait_until($node, $db, qq{SELECT count(*) = $sessions + $undone FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	finish_session($_) or die "a claim failed: $_->{output}" foreach @claims;
	my ($ended, $got, $different, $gave_up_early) = split /\|/, $node->safe_psql($db, qq{SELECT count(*), count(workspace_id),
		count(DISTINCT workspace_id), count(*) FILTER (WHERE workspace_id IS NULL AND took < '$looks s')
		FROM given WHERE round = $round});
	is("$ended $got", "$sessions $different", "round $round: nobody gets what another one has");
	$hasty += $gave_up_early;
	$good++ if $got == $sessions;
	note("round $round: $got of $sessions got one");
}
is($good, $rounds, "in $good of $round rounds each of $sessions sessions gets one");
is($hasty, 0, 'and nobody gives up before having looked');
$node->safe_psql($db, 'INSERT INTO stop DEFAULT VALUES');
finish_session($_) or die "it failed: $_->{output}" foreach @others;
is($node->safe_psql($db, q{SELECT count(*) FROM given g JOIN workspaces w ON w.id = g.workspace_id
	WHERE w.name = format('r%s-s%s', g.round, g.session)}), $node->safe_psql($db, 'SELECT count(workspace_id) FROM given'), 'under its name');
note($node->safe_psql($db, q{SELECT format('claims took %s at most, half of them at most %s', max(took),
	percentile_cont(0.5) WITHIN GROUP (ORDER BY took)) FROM given}));

# a claim that finds nothing says so at once, and one that is passed over soon
my $began = time;
is($node->safe_psql($db, q{SELECT count(*) FROM template_version_presets p, users u,
	prebuild_claim(p.id, u.id, 'none') WHERE u.username = 'ada'}), 0, 'an empty pool gives nothing');
$node->safe_psql($db, 'SELECT created FROM prebuild_reconcile(); SELECT fixture.finish_jobs()');
$gate->query_safe('BEGIN; SELECT FROM workspaces FOR KEY SHARE');
is($node->safe_psql($db, q{SELECT count(*) FROM template_version_presets p, users u,
	prebuild_claim(p.id, u.id, 'none') WHERE u.username = 'ada'}), 0, 'nor does one that is held for long');
cmp_ok(time - $began, '<', 30, 'in a short time');
$gate->query_safe('ROLLBACK');
is(queued($node, $db), 0, 'and it leaves the queue');

# while one holds all, claims wait in a queue, in which only the first one looks, and then gives up; those
# behind it get theirs when the holder does
# The holder keeps all until the first has given up. A machine that gives it no time then lets all give up.
$gate->query_safe(q{
	CREATE TABLE longest (queue bigint);
	CREATE PROCEDURE hold_until_one_gives_up() LANGUAGE plpgsql AS $$
	DECLARE
		longest bigint := 0;
	BEGIN
		PERFORM FROM workspaces FOR UPDATE;
		PERFORM pg_advisory_unlock(1);
		WHILE NOT EXISTS (SELECT FROM given WHERE workspace_id IS NULL) LOOP
			longest := greatest(longest, (SELECT count(*) FROM pg_locks l WHERE l.locktype = 'object' AND NOT granted
				AND l.classid = 'template_version_presets'::regclass));
			PERFORM pg_sleep(0.002);
		END LOOP;
		ROLLBACK;
		INSERT INTO longest VALUES (longest);
	END $$});
my ($waited, $got_one) = (0, 0);
$round = 100;
race_until(
	sub { return $waited > 1 && $got_one > 0; },
	8,
	sub {
		$round++;
		$node->safe_psql($db, q{TRUNCATE given; SELECT prebuild_reconcile(); SELECT fixture.finish_jobs()});
		$gate->query_safe('SELECT pg_advisory_lock(1)');
		my @waiting = map { start_session($node, $db, "CALL claim($round, $_)") } 1 .. 15;
		wait_until($node, $db, q{SELECT count(*) = 15 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
		$gate->query_safe('CALL hold_until_one_gives_up()');
		finish_session($_) or die "a claim failed: $_->{output}" foreach @waiting;
		is($node->safe_psql($db, 'SELECT count(*), count(workspace_id) = count(DISTINCT workspace_id) FROM given'), '15|t',
			'claims in a queue end, and none gets what another one has');
		$waited = $node->safe_psql($db, 'SELECT max(queue) FROM longest');
		$got_one = $node->safe_psql($db, 'SELECT count(workspace_id) FROM given');
	});
cmp_ok($waited, '>', 1, "claims waited in a queue ($waited)");
cmp_ok($got_one, '>', 0, "and those that still waited got one each ($got_one)");
is(queued($node, $db), 0, 'and leave it');

# a large pool, of which a session remembers the list: oldest first, never twice, none is left out
$node->safe_psql($db, 'UPDATE template_version_presets SET desired_instances = 700');
$node->safe_psql($db, 'SELECT created FROM prebuild_reconcile(); SELECT fixture.finish_jobs()');
my $all = $node->safe_psql($db, 'SELECT count(*) FROM prebuild_running() WHERE ready');
$node->safe_psql($db, q{
	CREATE TABLE taken (n serial, session int, id uuid, made timestamptz);
	CREATE PROCEDURE take(session int, most int) LANGUAGE plpgsql AS $$
	DECLARE
		got uuid;
	BEGIN
		FOR i IN 1 .. most LOOP
			SELECT c.id INTO got FROM template_version_presets p, users u,
				prebuild_claim(p.id, u.id, format('take-%s-%s', session, i)) c WHERE u.username = 'ada';
			EXIT WHEN got IS NULL;
			INSERT INTO taken (session, id, made)
				SELECT take.session, w.id, w.created_at FROM workspaces w WHERE w.id = got;
			COMMIT;
		END LOOP;
	END $$});
my $oldest = $node->safe_psql($db, q{SELECT string_agg(id::text, ' ' ORDER BY created_at, id)
	FROM (SELECT id, created_at FROM prebuild_running() ORDER BY created_at, id LIMIT 40) o});
$node->safe_psql($db, 'CALL take(0, 40)');
is($node->safe_psql($db, q{SELECT string_agg(id::text, ' ' ORDER BY n) FROM taken}), $oldest,
	'a session takes the oldest of a large pool, in their order');
run_in_parallel($node, $db, map { "CALL take($_, 1000)" } 1 .. 4);
is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT id) FROM taken'), "$all|$all",
	'sessions that remember it take all, each once');
$node->safe_psql($db, 'UPDATE template_version_presets SET desired_instances = 40');
$node->safe_psql($db, 'SELECT created FROM prebuild_reconcile(); SELECT fixture.finish_jobs()');

# and a claim leaves no lock on what has left the pool
$node->safe_psql($db, 'TRUNCATE given');
$gate->query_safe('BEGIN');
is(answer($gate, q{SELECT count(*) FROM template_version_presets p, users u,
	prebuild_claim(p.id, u.id, 'held') WHERE u.username = 'ada'}), 1, 'a claim that is open');
is($node->safe_psql($db, q{SELECT count(*) FROM (SELECT FROM workspaces FOR UPDATE SKIP LOCKED) free}),
	$node->safe_psql($db, 'SELECT count(*) - 1 FROM workspaces'), 'holds its own workspace only');
$gate->query_safe('ROLLBACK');

# A claim asks little of those that other claims have taken: marks lead it past them. A transaction has
# 16 marks at most, and an undone claim leaves none.
$node->safe_psql($db, q{
	CREATE SEQUENCE numbers;
	CREATE FUNCTION claims(n int) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(c.id) FROM generate_series(1, n) i, template_version_presets p, users u,
			prebuild_claim(p.id, u.id, format('claim-%s-%s', i, nextval('numbers'))) c WHERE u.username = 'ada';
	$$;
	CREATE FUNCTION buffers() RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		plan json;
	BEGIN
		EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT claims(1)' INTO plan;
		RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::int + (plan->0->'Plan'->>'Shared Read Blocks')::int;
	END $$;
	CREATE FUNCTION marks() RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'workspaces'::regclass;
	$$});
$node->safe_psql($db, 'VACUUM ANALYZE');
my $asks = q{BEGIN; SELECT claims(6); SELECT buffers(); ROLLBACK};
my $first_buffers = (split /\n/, $node->safe_psql($db, $asks))[1];
$gate->query_safe('BEGIN');
is(answer($gate, 'SELECT claims(14)'), 14, '14 are taken');
is($node->safe_psql($db, 'SELECT marks()'), 14, 'and marked');
my $buffers = (split /\n/, $node->safe_psql($db, $asks))[1];
cmp_ok($buffers, '<', $first_buffers + 60, "the next claim reads $buffers pages, and $first_buffers if none is taken");
is(answer($gate, 'SELECT claims(10)'), 10, '10 more are taken');
is($node->safe_psql($db, 'SELECT marks()'), 16, 'of which 2 are marked');
is($node->safe_psql($db, q{SELECT count(*) FROM template_version_presets p, users u, generate_series(1, 20) i,
	prebuild_claim(p.id, u.id, 'rest-' || i) c WHERE u.username = 'ada'}), 16, 'others get the rest');
$gate->query_safe('ROLLBACK');
is($node->safe_psql($db, 'SELECT marks()'), 0, 'undone, they leave no mark');
is($node->safe_psql($db, 'SELECT claims(30)'), 24, 'and can be taken');

# The second claim of a session plans nothing: a burst comes by as many connections as there are people.
$node->safe_psql($db, 'SELECT created FROM prebuild_reconcile(); SELECT fixture.finish_jobs()');
$node->safe_psql($db, 'CREATE EXTENSION pg_stat_statements');
is($node->safe_psql($db, q{SELECT claims(1); SELECT pg_stat_statements_reset() IS NOT NULL; SELECT claims(1);
	SELECT DISTINCT format('%s plans of %s', plans, query) FROM pg_stat_statements
	WHERE plans > 0 AND query !~ 'claims|pg_stat_statements|prebuild_claim|FROM ONLY'}), "1\nt\n1",
	'a second claim plans no statement again');
$gate->quit;

$node->stop;
done_testing();
