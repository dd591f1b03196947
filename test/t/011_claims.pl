# Claims on a running server: as many sessions as there may be never get the same prebuild, and
# nothing is lost or made twice while passes delete and create around them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $seconds = $ENV{PREBUILD_RACE_SECONDS} // 15;
my $sessions = 16;
my $node = new_server('claims', 'max_connections = 40', 'fsync = off');

# What a claim leaves behind, and a session that claims until there is nothing left.
my $tools = q{
	CREATE TABLE given (workspace_id uuid, session int, name text);
	CREATE TABLE sums (session int, claims bigint, nothing bigint);
	CREATE PROCEDURE claim_all(session int) LANGUAGE plpgsql AS $$
	DECLARE
		ada uuid := (SELECT id FROM users WHERE username = 'ada');
		preset uuid := (SELECT id FROM template_version_presets WHERE name = 'p');
		got uuid;
		n int := 0;
		tries int := 0;
		failures int := 0;
	BEGIN
		-- until all may go
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		-- not more than a few times its share, so that no session has it all
		WHILE tries < 5 AND n < 25 LOOP
			COMMIT;
			BEGIN
				got := NULL;
				SELECT c.id INTO got
				FROM prebuild_claim(preset, ada, format('s%s-%s', session, n)) c;
				IF got IS NULL THEN
					tries := tries + 1;
				ELSE
					INSERT INTO given VALUES (got, session, format('s%s-%s', session, n));
					n := n + 1;
					tries := 0;
					PERFORM pg_sleep(0.005);
				END IF;
			EXCEPTION WHEN serialization_failure THEN
				failures := failures + 1;
			END;
		END LOOP;
		COMMIT;
		INSERT INTO sums VALUES (session, n, failures);
	END $$;
};
my $given_right = q{
	SELECT count(*) FROM given g JOIN workspaces w ON w.id = g.workspace_id
	WHERE w.name = g.name AND w.owner_id = (SELECT id FROM users WHERE username = 'ada')
};

# 200 prebuilds and 16 sessions, at each isolation level
foreach my $level ('READ COMMITTED', 'REPEATABLE READ')
{
	(my $database = lc $level) =~ tr/ /_/;
	my $db = new_control_plane($node, $database);

	$node->safe_psql($db, $tools);
	$node->safe_psql($db, q{
		SELECT fixture.simple('one', 200, preset_name => 'p'), fixture.usr('ada');
		SELECT prebuild_reconcile();
		SELECT fixture.finish_jobs();
	});
	is($node->safe_psql($db, 'SELECT eligible FROM prebuild_state()'), 200, "$level: 200 are ready");
	# all at once, and each keeps what it got for a moment
	my $gate = $node->background_psql($db);
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my @claiming = map { start_session($node, $db, "SET default_transaction_isolation = '$level'; CALL claim_all($_);") }
	  1 .. $sessions;
	wait_until($node, $db, qq{SELECT count(*) = $sessions FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())});
	$gate->quit;
	finish_session($_) or die "a session failed: $_->{output}" foreach @claiming;
	is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT workspace_id) FROM given'), '200|200',
		"$level: $sessions sessions get 200 different ones");
	is($node->safe_psql($db, $given_right), 200, "$level: each is theirs, under their name");
	note($node->safe_psql($db,
		"SELECT string_agg(format('%s/%s', claims, nothing), ' ') FROM sums") . ' claims/failures');
	cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM sums WHERE claims > 0'), '>=', 8,
		"$level: most sessions had a share");
	is(pool_size($node, $db), 0, "$level: the pool is empty");
	is($node->safe_psql($db, q{SELECT count(*) FROM template_version_presets p,
		prebuild_claim(p.id, (SELECT id FROM users WHERE username = 'ada'), 'none')}), 0,
		"$level: and then there is nothing");
	is($node->safe_psql($db, 'SELECT created, deleted FROM prebuild_reconcile()'), '200|0',
		"$level: the next pass refills");
}

# Sessions that claim, passes whose presets want now more and now less, and a provisioner.
my $db = new_control_plane($node, 'race');
$node->safe_psql($db, $tools);
$node->safe_psql($db, q{
	SELECT fixture.simple('one', 30, preset_name => 'p'), fixture.usr('ada');
	CREATE TABLE stop (at timestamptz, nap float8);
	CREATE TABLE done (created bigint, deleted bigint);
	-- names that no two claims have
	CREATE SEQUENCE claim;
	CREATE PROCEDURE claims(session int) LANGUAGE plpgsql AS $$
	DECLARE
		ada uuid := (SELECT id FROM users WHERE username = 'ada');
		preset uuid := (SELECT id FROM template_version_presets WHERE name = 'p');
		got uuid;
		new_name text;
		n int := 0;
		nothing int := 0;
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			new_name := format('s%s-%s', session, nextval('claim'));
			SELECT c.id INTO got
			FROM prebuild_claim(preset, ada, new_name, at => clock_timestamp()) c;
			IF got IS NULL THEN
				nothing := nothing + 1;
				COMMIT;
			ELSIF n % 7 = 6 THEN
				ROLLBACK;
			ELSE
				INSERT INTO given VALUES (got, session, new_name);
				COMMIT;
			END IF;
			n := n + 1;
			got := NULL;
			PERFORM pg_sleep(random() * (SELECT nap FROM stop));
		END LOOP;
		INSERT INTO sums VALUES (session, n, nothing);
	END $$;
	CREATE PROCEDURE passes() LANGUAGE plpgsql AS $$
	DECLARE
		pass prebuild_reconcile_row;
		i int := 0;
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			i := i + 1;
			UPDATE template_version_presets
			SET desired_instances = CASE WHEN i % 3 = 0 THEN 5 ELSE 30 END;
			COMMIT;
			SELECT * INTO pass FROM prebuild_reconcile(clock_timestamp());
			INSERT INTO done VALUES (pass.created, pass.deleted);
			COMMIT;
		END LOOP;
	END $$;
	CREATE PROCEDURE provisioner() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			PERFORM fixture.finish_jobs();
			COMMIT;
			PERFORM pg_sleep(0.02);
		END LOOP;
	END $$;
});
my ($created, $deleted, $given);
# claims slow down from round to round, so that passes on a busy machine find more than their presets want
my $nap = 0;
my $rounds = race_until(
	sub { return $given > 100 && $deleted > 100; },
	20,
	sub {
		$nap += 0.02;
		$node->safe_psql($db, "TRUNCATE stop; INSERT INTO stop VALUES (clock_timestamp() + $seconds * interval '1 s', $nap)");
		run_in_parallel($node, $db, (map { "CALL claims($_)" } 1 .. $sessions), 'CALL passes()',
			'CALL provisioner()');
		($created, $deleted) = split /\|/, $node->safe_psql($db, 'SELECT sum(created), sum(deleted) FROM done');
		$given = $node->safe_psql($db, 'SELECT count(*) FROM given');
	});
note("in $rounds times $seconds s $created were created, $deleted deleted, $given given away; claims that got "
	  . 'nothing: ' . $node->safe_psql($db, 'SELECT sum(nothing) FROM sums'));
cmp_ok($given, '>', 100, 'prebuilds were given away');
cmp_ok($deleted, '>', 100, 'while passes deleted');
is($node->safe_psql($db, 'SELECT count(DISTINCT workspace_id) FROM given'),
	$given, 'none of them twice');
is($node->safe_psql($db, $given_right), $given, 'each is its claimant\'s');
is( $node->safe_psql(
		$db,
		q{SELECT count(*) FROM given g JOIN workspace_builds b USING (workspace_id)
		WHERE b.transition = 'delete'}),
	0, 'none of them is being deleted');
is($node->safe_psql($db, 'SELECT count(*) FROM workspaces'),
	$created, 'what was created exists');
is( $node->safe_psql($db, q{SELECT count(*) FROM workspace_builds WHERE transition = 'delete'}),
	$deleted, 'what was deleted was deleted once');
$node->safe_psql($db, q{
	UPDATE template_version_presets SET desired_instances = 30;
	SELECT fixture.finish_jobs();
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
});
is( $node->safe_psql($db, 'SELECT desired, actual, eligible FROM prebuild_state()'),
	'30|30|30', 'and a quiet pass refills what was claimed');
is( $node->safe_psql(
		$db, q{SELECT count(*) FROM workspaces WHERE owner_id = prebuild_system_user() AND deleted})
	  + $node->safe_psql($db, 'SELECT count(*) FROM given') + 30,
	$node->safe_psql($db, 'SELECT count(*) FROM workspaces'),
	'every workspace is somebody\'s, deleted or in the pool');

# one that a standby is asked for
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('claims_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my ($status, $output, $errors) = $standby->psql($db, q{SELECT p.id FROM template_version_presets p,
	prebuild_claim(p.id, (SELECT id FROM users WHERE username = 'ada'), 'none')});
like($errors, qr/cannot execute prebuild_claim\(\) in a read-only transaction/,
	'a standby gives nothing away, with the usual error');
is($standby->safe_psql($db, q{SELECT prebuild_find_preset(template_version_id, '{}', '{}') = id
	FROM template_version_presets}), 't', 'but finds presets');
$standby->stop;

# a backend does not grow with its claims
my $session = $node->background_psql($db);
$node->safe_psql($db, q{
	CREATE PROCEDURE again(n int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM c.name FROM template_version_presets p,
				prebuild_claim(p.id, (SELECT id FROM users WHERE username = 'ada'), 'again') c;
			PERFORM prebuild_find_preset(template_version_id, '{a}', '{b}')
			FROM template_version_presets;
			ROLLBACK;
		END LOOP;
	END $$
});
my $contexts = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';
$session->query_safe('CALL again(20)');
my $before = $session->query_safe($contexts);
$session->query_safe('CALL again(3000)');
my $after = $session->query_safe($contexts);
note("$before bytes after 20 claims, $after after 3,000 more");
cmp_ok($after, '<=', $before * 1.05 + 16384, 'memory after 3,000 claims is as after 20');
$session->quit;

$node->stop;
done_testing();
