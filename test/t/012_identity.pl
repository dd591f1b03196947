# Identities of agents on running servers. Changes of other sessions show at once if the library is
# preloaded and the triggers are attached, and within the time to live otherwise. Uncommitted changes
# never show.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('identity', "shared_preload_libraries = 'prebuild_ext'",
	'max_prepared_transactions = 5', 'max_wal_senders = 5', "prebuild.identity_cache_ttl = '1h'");
my $db = new_control_plane($node, 'fleet');

# Workspaces, owners, templates and agents go by number. The functions of every test of this file.
my $functions = q{
	CREATE FUNCTION id(kind text, n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
	$$ SELECT md5(kind || n)::uuid $$;
	CREATE FUNCTION says(n int) RETURNS text LANGUAGE sql AS
	$$ SELECT concat_ws(' ', workspace_name, owner_username, template_name, autostart_schedule)
		FROM prebuild_agent_identity(id('agent', n)) $$;
	SET session_replication_role = replica;
	INSERT INTO users (id, email, username, hashed_password, created_at, updated_at)
	SELECT id('user', n), n, 'u' || n, '', now(), now() FROM generate_series(1, 4) n;
	INSERT INTO templates (id, created_at, updated_at, organization_id, name, provisioner, active_version_id, created_by)
	SELECT id('template', n), now(), now(), id('organization', 1), 't' || n, 'terraform', id('version', n), id('user', 1)
	FROM generate_series(1, 4) n;
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
	SELECT id('workspace', n), now(), now(), id('user', n % 4 + 1), id('organization', 1), id('template', n % 4 + 1), 'w' || n
	FROM generate_series(1, 2000) n;
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number,
		transition, initiator_id, job_id)
	SELECT id('build', n), now(), now(), id('workspace', n), id('version', n), 1, 'start', id('user', 1), id('job', n)
	FROM generate_series(1, 2000) n;
	INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
	SELECT id('resource', n), now(), id('job', n), 'start', 'machine', 'main' FROM generate_series(1, 2000) n;
	INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id, auth_token, architecture, operating_system)
	SELECT id('agent', n), now(), now(), 'main', id('resource', n), id('token', n), 'amd64', 'linux'
	FROM generate_series(1, 2000) n;
	RESET session_replication_role;
};
$node->safe_psql($db, $functions);
$node->safe_psql($db, 'VACUUM ANALYZE');

my $reader = $node->background_psql($db);

sub says
{
	my ($n) = @_;
	return answer($reader, "SELECT says($n)");
}

# How the reader's look-up was answered: hits and misses since the last call.
my @counted = (0, 0);

sub answered
{
	my @now = split /\|/, answer($reader, 'SELECT hits, misses FROM prebuild_identity_stats');
	my $difference = join(',', $now[0] - $counted[0], $now[1] - $counted[1]);
	@counted = @now;
	return $difference;
}
sub sql { return $node->safe_psql($db, $_[0]); }

# From now on commits wait for a standby. The checkpointer tells the sessions so; the second checkpoint begins
# after it has looked at the settings.
sub commits_wait
{
	$node->append_conf('postgresql.conf', q{synchronous_standby_names = 'nobody'});
	$node->reload;
	sql('CHECKPOINT; CHECKPOINT');
	return;
}

# preloaded, not attached: the time to live

is(says(1), 'w1 u2 t2', 'an identity');
sql(q{UPDATE workspaces SET name = 'x1' WHERE name = 'w1'});
is(says(1), 'w1 u2 t2', 'not attached: another session\'s rename is not seen');
answer($reader, q{SET prebuild.identity_cache_ttl = '10ms'; SELECT pg_sleep(0.05)});
is(says(1), 'x1 u2 t2', 'beyond the time to live');
answer($reader, 'RESET prebuild.identity_cache_ttl');

# preloaded and attached: at once

sql('SELECT prebuild_attach()');
is(says(1), 'x1 u2 t2', 'attached');
answered();
is(says(1), 'x1 u2 t2', 'known');
is(answered(), '1,0', 'from the cache');
foreach my $change (
	[ q{UPDATE workspaces SET name = 'w1' WHERE name = 'x1'}, 'w1 u2 t2', 'a renamed workspace' ],
	[ q{UPDATE workspaces SET autostart_schedule = 'noon' WHERE name = 'w1'}, 'w1 u2 t2 noon', 'another schedule' ],
	[ q{UPDATE users SET username = 'ada' WHERE username = 'u2'}, 'w1 ada t2 noon', 'a renamed owner' ],
	[ q{UPDATE workspaces SET owner_id = id('user', 1) WHERE name = 'w1'}, 'w1 u1 t2 noon', 'another owner' ],
	[ q{UPDATE templates SET name = 'go' WHERE name = 't2'}, 'w1 u1 go noon', 'a renamed template' ],
	[ q{SET session_replication_role = replica; UPDATE templates SET name = 'rust' WHERE name = 'go'}, 'w1 u1 rust noon',
		'by a session that replays a replication stream' ],
	[ q{UPDATE workspace_agents SET deleted = true WHERE id = id('agent', 1)}, '', 'a deleted agent' ],
	[ q{UPDATE workspace_agents SET deleted = false WHERE id = id('agent', 1)}, 'w1 u1 rust noon', 'and back' ],
	[ q{UPDATE workspaces SET deleted = true WHERE name = 'w1'}, '', 'a deleted workspace' ],
	[ q{UPDATE workspaces SET deleted = false WHERE name = 'w1'}, 'w1 u1 rust noon', 'and back' ],
	[ q{BEGIN; SAVEPOINT s; UPDATE users SET username = 'eve' WHERE username = 'u1'; ROLLBACK TO s; COMMIT},
		'w1 u1 rust noon', 'one that was undone' ],
	[ q{BEGIN; UPDATE users SET username = 'eve' WHERE username = 'u1'; ROLLBACK}, 'w1 u1 rust noon', 'one rolled back' ])
{
	says(1);
	sql($change->[0]);
	is(says(1), $change->[1], "$change->[2] shows at once");
}
says(1);
answered();
sql(q{UPDATE workspaces SET last_used_at = now(); UPDATE users SET last_seen_at = now();
	UPDATE workspace_agents SET last_connected_at = now(); UPDATE templates SET description = 'x'});
says(1);
is(answered(), '1,0', 'what does not matter drops nothing');

# a change that fails at its commit
sql(q{ALTER TABLE workspaces ADD CONSTRAINT fails UNIQUE (name) DEFERRABLE INITIALLY DEFERRED});
says(2);
my ($status, $out, $err) = $node->psql($db, q{UPDATE workspaces SET name = 'w1' WHERE name = 'w2'});
like($err, qr/duplicate key/, 'a rename fails at its commit');
is(says(2), 'w2 u3 t3', 'and shows nothing');
sql('ALTER TABLE workspaces DROP CONSTRAINT fails');

# The moment of a commit: it waits for a standby that is not there, written but not yet visible.
says(3);
is(says(3), 'w3 u4 t4', 'known before a commit');
commits_wait();
my $writer = start_session($node, $db, q{UPDATE workspaces SET name = 'x3' WHERE name = 'w3'});
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
answered();
is(says(3), 'w3 u4 t4', 'in flight: not yet visible');
is(says(3), 'w3 u4 t4', 'to anybody');
is(answered(), '0,2', 'and asked of the tables each time');
$node->append_conf('postgresql.conf', q{synchronous_standby_names = ''});
$node->reload;
ok(finish_session($writer), 'committed');
is(says(3), 'x3 u4 t4', 'and visible');
answered();
is(says(3), 'x3 u4 t4', 'kept');
is(answered(), '1,0', 'again');

# a session that is ended in that moment
commits_wait();
$writer = start_session($node, $db, q{UPDATE workspaces SET name = 'w3' WHERE name = 'x3'});
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
finish_session($writer);
$node->append_conf('postgresql.conf', q{synchronous_standby_names = ''});
$node->reload;
is(says(3), 'w3 u4 t4', 'a session that is ended while its commit waits');
answered();
says(3);
is(answered(), '1,0', 'leaves nothing in flight');

# two phases: the time to live is the bound
says(4);
sql(q{BEGIN; UPDATE workspaces SET name = 'x4' WHERE name = 'w4'; PREPARE TRANSACTION 'x4'});
is(says(4), 'w4 u1 t1', 'prepared');
sql(q{COMMIT PREPARED 'x4'});
answer($reader, q{SET prebuild.identity_cache_ttl = 1; SELECT pg_sleep(0.05)});
is(says(4), 'x4 u1 t1', 'committed: seen beyond the time to live');
answer($reader, 'RESET prebuild.identity_cache_ttl');

# rights that others take away
sql(q{CREATE ROLE app LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app; SELECT prebuild_grant('app')});
answer($reader, 'SET ROLE app');
is(says(5), 'w5 ada rust', 'a role that may read');
sql('REVOKE SELECT ON templates FROM app');
is(answer($reader, q{DO $$ BEGIN PERFORM says(5); RAISE EXCEPTION 'no error'; EXCEPTION WHEN insufficient_privilege THEN END $$;
	SELECT 'denied'}), 'denied', 'and may no more');
answer($reader, 'RESET ROLE');
answered();
says(5);
says(5);
is(answered(), '2,0', 'others still are answered from the cache');
sql('DROP TABLE IF EXISTS nothing; BEGIN; TRUNCATE workspace_agents CASCADE; ROLLBACK');
is(says(5), 'w5 ada rust', 'a TRUNCATE that is rolled back');
# in one long transaction of the reader's
answer($reader, 'BEGIN');
is(says(6), 'w6 u3 t3', 'in a transaction');
sql(q{UPDATE workspaces SET name = 'x6' WHERE name = 'w6'});
is(says(6), 'x6 u3 t3', 'what others commit is seen, as by the query');
answer($reader, 'COMMIT');

# Writers rename workspaces and then record the new number in another transaction. A reader that sees
# the record must not get an older name. The cache is small, so that sessions fill it all the time.
sql(q{
	CREATE TABLE said (n int PRIMARY KEY, version int NOT NULL);
	INSERT INTO said SELECT n, 0 FROM generate_series(1, 6) n;
	CREATE PROCEDURE write(first int, last int, seconds int) LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + make_interval(secs => seconds);
		v int := 0;
	BEGIN
		WHILE clock_timestamp() < until LOOP
			v := v + 1;
			FOR i IN first .. last LOOP
				UPDATE workspaces SET name = i || '-' || v WHERE id = id('workspace', i);
				IF v % 5 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
				CONTINUE WHEN v % 5 = 0;
				UPDATE said SET version = v WHERE n = i;
				COMMIT;
			END LOOP;
		END LOOP;
		RAISE NOTICE 'rounds %', v;
	END $$;
	CREATE FUNCTION version(n int) RETURNS int LANGUAGE sql AS
	$$ SELECT split_part(workspace_name, '-', 2)::int FROM prebuild_agent_identity(id('agent', n)) $$;
	CREATE PROCEDURE read(seconds int) LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + make_interval(secs => seconds);
		heard int;
		got int;
		wrong int := 0;
		reads int := 0;
	BEGIN
		WHILE clock_timestamp() < until LOOP
			FOR i IN 1 .. 6 LOOP
				SELECT version INTO heard FROM said WHERE n = i;
				got := version(i);
				reads := reads + 1;
				IF got < heard OR got % 5 = 0 AND got > 0 THEN wrong := wrong + 1; END IF;
				COMMIT;
			END LOOP;
		END LOOP;
		RAISE NOTICE 'reads % wrong %', reads, wrong;
	END $$;
});
my @before = split /\|/, sql('SELECT hits, misses, invalidations FROM prebuild_identity_stats');
my (@after, @outputs, @reads);
race_until(
	sub { return $after[0] - $before[0] > 500 && $after[2] - $before[2] > 500 && !grep { $_ < 1000 } @reads; },
	6,
	sub {
		sql('UPDATE said SET version = 0');
		sql(q{UPDATE workspaces SET name = n || '-0' FROM generate_series(1, 6) n WHERE id = id('workspace', n)});
		my @said = run_in_parallel($node, $db, 'CALL write(1, 3, 8)', 'CALL write(4, 6, 8)',
			'CALL read(8)', 'CALL read(8)', 'SET prebuild.identity_cache_size = 2; CALL read(8)');
		push @outputs, @said[ 2 .. 4 ];
		$reads[ $_ - 2 ] += ($said[$_] =~ /reads (\d+)/)[0] foreach 2 .. 4;
		@after = split /\|/, sql('SELECT hits, misses, invalidations FROM prebuild_identity_stats');
	});
like($_, qr/reads \d+ wrong 0$/m, 'nobody gets less than was said, nor what was rolled back') foreach @outputs;
note(join(' ', @reads), ' reads; ', join(' ', map { $after[$_] - $before[$_] } 0 .. 2), ' hits, misses, invalidations');
is(scalar(grep { $_ >= 1000 } @reads), 3, 'each reader looked often');
cmp_ok($after[0] - $before[0], '>', 500, 'the cache was used meanwhile');
cmp_ok($after[2] - $before[2], '>', 500, 'and entries were dropped');
is(sql('SELECT scope FROM prebuild_identity_stats'), 'database', 'counted for the database');
is($node->safe_psql('postgres', q{CREATE EXTENSION prebuild_ext; SELECT hits FROM prebuild_identity_stats}),
	'0', 'not for another');

# a standby asks its tables, and the primary's triggers are not needed there
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('identity_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $away = $standby->background_psql($db);
is(answer($away, 'SELECT says(7)'), says(7), 'a standby says the same');
sql(q{UPDATE workspaces SET name = 'x7' WHERE id = id('workspace', 7)});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(answer($away, 'SELECT says(7)'), 'x7 u4 t4', 'and what is replayed shows at once');
is(answer($away, 'SELECT hits FROM prebuild_identity_stats'), '0', 'never from a cache');
$standby->promote;
wait_until($standby, $db, 'SELECT NOT pg_is_in_recovery()');
is(answer($away, 'SELECT says(7) || says(7)'), 'x7 u4 t4x7 u4 t4', 'promoted');
is(answer($away, 'SELECT hits FROM prebuild_identity_stats'), '1', 'it has a cache');
$standby->safe_psql($db, q{UPDATE workspaces SET name = 'y7' WHERE id = id('workspace', 7)});
is(answer($away, 'SELECT says(7)'), 'y7 u4 t4', 'that hears of changes');
$away->quit;
$standby->stop;

# a crash: the counters begin anew, with nothing in flight
$reader->quit;
$node->stop('immediate');
$node->start;
$reader = $node->background_psql($db);
says(8);
sql(q{UPDATE workspaces SET name = 'x8' WHERE id = id('workspace', 8)});
is(says(8), 'x8 u1 t1', 'after a crash changes are heard of');
is(answer($reader, 'SELECT says(8)'), 'x8 u1 t1', 'and');
is(sql('SELECT hits FROM prebuild_identity_stats'), '1', 'the cache is used');

# a million calls, with hits, misses, evictions, errors
my $pid = answer($reader, 'SELECT pg_backend_pid()');
my $calls = q{
	SET prebuild.identity_cache_size = 1500;
	DO $$
	DECLARE r record;
	BEGIN
		FOR i IN 1 .. %d LOOP
			SELECT * INTO r FROM prebuild_agent_identity(id('agent', 1 + CASE i %% 10 WHEN 0 THEN i / 10 %% 2100 ELSE i %% 1000 END));
		END LOOP;
	END $$;
};
my $contexts = q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts};
answer($reader, sprintf($calls, 50000));
my $contexts_before = answer($reader, $contexts);
answer($reader, sprintf($calls, 1000000));
my $contexts_after = answer($reader, $contexts);
note("memory contexts: $contexts_before bytes after 50,000 calls, $contexts_after after 1,000,000 more");
cmp_ok($contexts_after, '<=', $contexts_before * 1.02 + 65536, 'a million calls take no more memory than some');
cmp_ok(answer($reader, q{SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'prebuild agent identities'
	ORDER BY total_bytes DESC LIMIT 1}), '<', 2_000_000, 'the cache is small');
$reader->quit;

# not preloaded, attached: one's own changes at once, others' within the time to live
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
$reader = $node->background_psql($db);
says(9);
answer($reader, q{UPDATE workspaces SET name = 'x9' WHERE id = id('workspace', 9)});
is(says(9), 'x9 ada rust', 'not preloaded: one sees at once what one changed');
sql(q{UPDATE workspaces SET name = 'y9' WHERE id = id('workspace', 9)});
is(says(9), 'x9 ada rust', 'and what others did');
answer($reader, q{SET prebuild.identity_cache_ttl = 1; SELECT pg_sleep(0.05)});
is(says(9), 'y9 ada rust', 'within the time to live');
is(answer($reader, 'SELECT scope FROM prebuild_identity_stats'), 'session', 'counted for the session');
$reader->quit;

$node->stop;
done_testing();
