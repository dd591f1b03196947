# Passes at the same time: one does the work, the others leave at once, and nobody creates twice.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $seconds = $ENV{PREBUILD_RACE_SECONDS} // 60;
my $node = new_server('race', 'max_connections = 40');

# five passes, of which the first is not finished before the others were refused
my $five = new_control_plane($node, 'five');
$node->safe_psql($five, "SELECT fixture.simple('one', 7, preset_name => 'p')");
my $worker = $node->background_psql($five);
my $first = answer($worker,
	q{BEGIN; SELECT lock_acquired, created FROM prebuild_reconcile()});
is($first, 't|7', 'the first pass does the work');
# who waited for the first would wait for ever
my @outcomes = run_in_parallel($node, $five,
	(q{SET statement_timeout = '60s';
	SELECT lock_acquired, created, presets_total, deleted, canceled FROM prebuild_reconcile()}) x 4);
is_deeply(\@outcomes, [ ('f|0|0|0|0') x 4 ], 'four others do not wait for it, are refused and do nothing');
is(pool_size($node, $five), 0, 'nothing is seen before the commit');
$worker->query_safe('COMMIT');
$worker->quit;
is(pool_size($node, $five), 7, 'exactly what was wanted exists after it');

# five that really start together; each keeps its lock for a moment
$node->safe_psql($five, "SELECT fixture.simple('two', 5, preset_name => 'p')");
@outcomes = run_in_parallel($node, $five,
	(q{
	SELECT pg_sleep(extract(epoch FROM date_trunc('second', now()) + interval '2 s' - clock_timestamp())) \g /dev/null
	BEGIN;
	SELECT lock_acquired, created FROM prebuild_reconcile();
	SELECT pg_sleep(1) \g /dev/null
	COMMIT;
	}) x 5);
is(scalar(grep { $_ eq 't|5' } @outcomes), 1, 'of five at once one does the work')
  or diag(join(', ', @outcomes));
is(scalar(grep { /^f\|0$/ or $_ eq 't|0' } @outcomes), 4, 'and four do none');
is(pool_size($node, $five), 12, 'five more exist');

# coderd's reconciler takes the same lock
my $coderd = $node->background_psql($five);
$coderd->query_safe('BEGIN; SELECT pg_advisory_xact_lock(7)');
is($node->safe_psql($five, 'SELECT lock_acquired, presets_total FROM prebuild_reconcile()'),
	'f|0', 'a holder of advisory lock 7 keeps every pass out');
$coderd->query_safe('ROLLBACK');
$coderd->quit;
is($node->safe_psql($five, 'SELECT lock_acquired FROM prebuild_reconcile()'),
	't', 'until its transaction ends');

# A race of eight sessions while prebuilds are finished and claimed all the time. Whoever has created
# something looks, in a snapshot after the commit, whether there is too much.
my $race = new_control_plane($node, 'race');
$node->safe_psql($race, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, n) FROM generate_series(1, 6) n;
	SELECT fixture.usr('ada');
	CREATE TABLE too_many (preset uuid, amount bigint, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE passes (session int, worked bigint, refused bigint, created bigint);
	CREATE VIEW excess AS
		SELECT p.id, count(*)
		FROM workspace_builds b
		JOIN workspaces w ON w.id = b.workspace_id AND NOT w.deleted
			AND w.owner_id = prebuild_system_user()
		JOIN template_version_presets p ON p.id = b.template_version_preset_id
		GROUP BY p.id, p.desired_instances HAVING count(*) > p.desired_instances;
	CREATE PROCEDURE race(session int, seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		stop timestamptz := clock_timestamp() + make_interval(secs => seconds);
		pass prebuild_reconcile_row;
		worked bigint := 0; refused bigint := 0; created bigint := 0;
	BEGIN
		WHILE clock_timestamp() < stop LOOP
			SELECT * INTO pass FROM prebuild_reconcile(clock_timestamp());
			COMMIT;
			IF pass.lock_acquired THEN worked := worked + 1; ELSE refused := refused + 1; END IF;
			created := created + coalesce(pass.created, 0);
			IF pass.created > 0 THEN
				INSERT INTO too_many (preset, amount) SELECT * FROM excess;
			END IF;
		END LOOP;
		INSERT INTO passes VALUES (session, worked, refused, created);
	END $$;
	CREATE PROCEDURE life(seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		stop timestamptz := clock_timestamp() + make_interval(secs => seconds);
		n bigint := 0;
	BEGIN
		WHILE clock_timestamp() < stop LOOP
			PERFORM fixture.finish_jobs();
			COMMIT;
			-- claims, as an app server makes them
			UPDATE workspaces SET owner_id = (SELECT id FROM users WHERE username = 'ada'),
				name = gen_random_uuid()::text
			WHERE id IN (SELECT id FROM prebuild_running() WHERE ready LIMIT 3);
			COMMIT;
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
});
my ($worked, $refused, $created);
my $rounds = race_until(
	sub { return $worked > 100 && $refused > 10 && $created > 50; },
	4,
	sub {
		run_in_parallel($node, $race, (map { "CALL race($_, $seconds)" } 1 .. 8), "CALL life($seconds)");
		($worked, $refused, $created) =
		  split /\|/, $node->safe_psql($race, 'SELECT sum(worked), sum(refused), sum(created) FROM passes');
	});
is($node->safe_psql($race, 'SELECT count(*) FROM passes'), 8 * $rounds, "eight sessions raced for $seconds s");
note("$rounds rounds: "
	  . "$worked passes worked, $refused were refused, $created prebuilds were created");
cmp_ok($worked, '>', 100, 'passes did run');
cmp_ok($refused, '>', 10, 'and did meet each other');
cmp_ok($created, '>', 50, 'and did create');
is($node->safe_psql($race, 'SELECT count(*) FROM too_many'),
	0, 'never more than desired existed')
  or diag($node->safe_psql($race, 'SELECT * FROM too_many LIMIT 5'));
is( $node->safe_psql($race, 'SELECT count(*) FROM workspace_builds WHERE build_number = 1'),
	$created, 'what the passes say they created is what exists');
$node->safe_psql($race, 'SELECT fixture.finish_jobs(); SELECT prebuild_reconcile(); SELECT fixture.finish_jobs()');
is( $node->safe_psql(
		$race, 'SELECT desired, actual, eligible FROM prebuild_state() ORDER BY desired'),
	join("\n", map { "$_|$_|$_" } 1 .. 6),
	'a quiet pass settles on what is desired');

$node->stop;
done_testing();
