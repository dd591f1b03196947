# No demand is missed and none counts twice: with transactions that commit late, in the middle of a round of
# passes, in a race, on a standby, and after a restore.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('demand', 'max_connections = 40');
my $db = new_control_plane($node, 'fleet');

# Few builds fit into a block, so that a round takes several passes. The reader and the definition answer in
# one snapshot.
$node->safe_psql($db, q{
	SELECT fixture.simple('one', NULL), fixture.usr('ada');
	SELECT count(fixture.prebuild('one', 'first-' || n)) FROM generate_series(1, 20) n;
	SELECT count(fixture.prebuild('one', 'cold-' || n, owner => fixture.usr('ada'))) FROM generate_series(1, 900) n;
	CREATE VIEW defined AS
		SELECT count(*) FILTER (WHERE warm) AS warm, count(*) FILTER (WHERE NOT warm) AS cold FROM (
			SELECT f.initiator_id = prebuild_system_user() AS warm FROM workspaces w
			JOIN workspace_builds f ON f.workspace_id = w.id AND f.build_number = 1
			JOIN template_version_presets p ON p.id = f.template_version_preset_id
			WHERE CASE WHEN f.initiator_id = prebuild_system_user() THEN w.owner_id <> prebuild_system_user()
				AND EXISTS (SELECT FROM workspace_builds o WHERE o.workspace_id = w.id AND o.initiator_id <> prebuild_system_user())
			ELSE f.transition = 'start' END) d;
	CREATE VIEW answered AS
		SELECT coalesce(sum(warm), 0) AS warm, coalesce(sum(cold), 0) AS cold FROM prebuild_demand('2000-01-01', '2100-01-01');
	CREATE VIEW logged AS
		SELECT count(*) FILTER (WHERE warm) AS warm, count(*) FILTER (WHERE NOT warm) AS cold FROM prebuild_demand_log;
	CREATE PROCEDURE got(name text) LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE workspaces w SET owner_id = fixture.usr('ada') WHERE w.name = got.name;
		PERFORM fixture.build(got.name, 'start', initiator => fixture.usr('ada'), created => '2025-01-01');
	END $$;
	-- rows that fill a block with a few
	ALTER TABLE workspace_builds ALTER provisioner_state SET STORAGE PLAIN;
	UPDATE workspace_builds SET provisioner_state = convert_to(repeat('x', 2500), 'UTF8');
	VACUUM FULL workspace_builds;
});
my $passes = q{SELECT prebuild_reconcile(fixture.t0())};
my $answered = 'SELECT warm, cold FROM answered';
my $logged = 'SELECT warm, cold FROM logged';
cmp_ok($node->safe_psql($db, q{SELECT pg_relation_size('workspace_builds') / 8192}), '>', 2 * 128, 'a round takes three passes');
is($node->safe_psql($db, $answered), '0|900', 'before any pass');

# one transaction is open all the time; its builds say that they are old
my $late = $node->background_psql($db);
$late->query_safe(q{BEGIN; SELECT fixture.prebuild('one', 'late', owner => fixture.usr('ada'), created => '2025-01-01'); CALL got('first-1')});
# the server takes the log for a small one
$node->safe_psql($db, q{INSERT INTO prebuild_demand_log VALUES ('small', gen_random_uuid(), gen_random_uuid(), 'one', now(), false)});
$node->safe_psql($db, q{ANALYZE prebuild_demand_log; DELETE FROM prebuild_demand_log});
my ($looks, $scans) = split /\n/, $node->safe_psql($db, qq{BEGIN; $passes \\g /dev/null
	SELECT sum(seq_scan + idx_scan) FROM pg_stat_xact_user_tables
	WHERE relname IN ('workspaces', 'template_version_presets', 'template_versions');
	SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'prebuild_demand_log'; COMMIT});
like($node->safe_psql($db, $logged), qr/^0\|[1-8]\d\d$/, 'a pass logs a part');
cmp_ok($looks, '<', 100, 'looks up no workspace of a person, and each preset once');
cmp_ok($scans, '<', 10, 'and does not read the log for each demand');
is($node->safe_psql($db, $answered), '0|900', 'the answer has all');
# in the middle of the round, in front of what it has read and behind
$node->safe_psql($db, q{CALL got('first-2')});
$node->safe_psql($db, q{SELECT fixture.prebuild('one', 'middle', owner => fixture.usr('ada'))});
is($node->safe_psql($db, $answered), '1|901', 'it has what came in the middle');
$node->safe_psql($db, $passes) for 1 .. 4;
is($node->safe_psql($db, q{SELECT done_from IS NOT NULL FROM prebuild_demand_marker}), 't', 'the round is at its end');
is($node->safe_psql($db, $answered), '1|901', 'the answer stays');
$node->safe_psql($db, "$passes; VACUUM FREEZE workspace_builds") for 1 .. 30;
is($node->safe_psql($db, $answered), '1|901', 'after more rounds, too');
is($node->safe_psql($db, $logged), '1|901', 'and all is logged');
$late->query_safe('COMMIT');
$late->quit;
is($node->safe_psql($db, $answered), '2|902', 'a late commit is in the answer at once');
is($node->safe_psql($db, $logged), '1|901', 'though not in the log');
$node->safe_psql($db, $passes) for 1 .. 30;
is($node->safe_psql($db, $logged), '2|902', 'until a round');
is($node->safe_psql($db, $answered), '2|902', 'which counts nothing twice');

# a race of writers that roll back now and then, of passes, rewrites and readers
my @writers = map {
	my $writer = $_;
	join '', map {
		my $end = $_ % 5 == 0 ? 'ROLLBACK' : 'COMMIT';
		my $sleep = 0.02 * ($_ % 7);

		my $prebuild = $_ % 3 ? '' : ", owner => fixture.usr('ada')";
		my $claim = $_ % 3 == 1 ? "CALL got('race-$writer-$_');" : '';
		"BEGIN; SELECT fixture.prebuild('one', 'race-$writer-$_'$prebuild) \\g /dev/null\n$claim SELECT pg_sleep($sleep) \\g /dev/null\n$end;\n"
		  . ($_ % 3 == 2 && $end eq 'COMMIT' ? "BEGIN; CALL got('race-$writer-$_'); SELECT pg_sleep($sleep) \\g /dev/null\nCOMMIT;\n" : '');
	} 1 .. 60;
} 1 .. 4;
my $reader = q{SELECT bool_and(r.same) FROM (SELECT (d.warm, d.cold) = (a.warm, a.cold) AS same FROM defined d, answered a) r \gset ok_
\if :ok_bool_and
\else
SELECT 'differs', d.*, a.* FROM defined d, answered a;
\endif
} x 150;
# where the rewrite takes longer than a pass waits, the pass says so
my @outputs = run_in_parallel($node, $db, @writers, "SET client_min_messages = error;\n" . "$passes \\g /dev/null\n" x 200, $reader, $reader,
	q{SELECT pg_sleep(2) \g /dev/null
	VACUUM FULL workspace_builds;
});
is(join('', @outputs), '', 'every reader in a race gets what the definition says');
my $definition = $node->safe_psql($db, 'SELECT * FROM defined');
$node->safe_psql($db, $passes) for 1 .. 60;
is($node->safe_psql($db, $logged), $definition, 'and the log has it all in the end');
is($node->safe_psql($db, $answered), $definition, 'as the answer has');

# a claim does not wait for whoever holds the log; a pass finds its demand by the build
$node->safe_psql($db, q{SELECT fixture.simple('held', 1); SELECT prebuild_reconcile(fixture.t0()); SELECT fixture.finish_jobs();
	SELECT fixture.usr('eve')});
foreach my $statement ('LOCK TABLE prebuild_demand_log', 'LOCK TABLE prebuild_demand_log IN SHARE MODE')
{
	my $holder = $node->background_psql($db);
	$holder->query_safe("BEGIN; $statement");
	is($node->safe_psql($db, q{BEGIN; SET LOCAL lock_timeout = '5s';
		SELECT count(*) FROM prebuild_claim(fixture.p('held'), fixture.usr('eve'), 'held-2'); ROLLBACK}), 1, "a claim during $statement");
	is($node->safe_psql($db, q{SELECT count(*) FROM prebuild_claim(fixture.p('held'), fixture.usr('eve'), 'held-1')}), 1, 'for good')
	  if $statement !~ /SHARE/;
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	next if $statement =~ /SHARE/;
	is($node->safe_psql($db, q{SELECT count(*) FROM prebuild_demand_log l WHERE l.template_id = fixture.t('held')}), 0, 'is not in the log');
	$node->safe_psql($db, q{SELECT fixture.build('held-1', 'start', initiator => fixture.usr('eve'))});
	$node->safe_psql($db, $passes) for 1 .. 40;
	is($node->safe_psql($db, q{SELECT count(*), bool_and(l.warm) FROM prebuild_demand_log l WHERE l.template_id = fixture.t('held')}),
		'1|t', 'until a pass has found it');
	$node->safe_psql($db, q{SELECT prebuild_reconcile(fixture.t0()); SELECT fixture.finish_jobs()});
}

$definition = $node->safe_psql($db, $answered);

# a standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql($db, q{SELECT fixture.prebuild('one', 'for-standby', owner => fixture.usr('ada'))});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql($db, $answered), $node->safe_psql($db, $answered), 'a standby says the same');
isnt($standby->safe_psql($db, $answered), $definition, 'with what is not in the log');
is($standby->safe_psql($db, q{SELECT source FROM prebuild_lead_time(fixture.t('one'), 'one')}), 'default', 'and tells lead times');
$standby->stop;

# a dump has the log; a restored database reads all builds again and counts none twice
my $folder = PostgreSQL::Test::Utils::tempdir;
$definition = $node->safe_psql($db, $answered);
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", $db ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'copy', "$folder/dump" ], 'is restored');
my $rows = 'SELECT count(*) FROM prebuild_demand_log';
is($node->safe_psql('copy', $rows), $node->safe_psql($db, $rows), 'with the log');
is($node->safe_psql('copy', 'SELECT count(*) FROM prebuild_demand_marker'), 0, 'without the marker');
is($node->safe_psql('copy', $answered), $definition, 'the answer is the same');
$node->safe_psql('copy', $passes) for 1 .. 3;
is($node->safe_psql('copy', $answered), $definition, 'in the middle of a round');
$node->safe_psql('copy', $passes) for 1 .. 8;
is($node->safe_psql('copy', $answered), $definition, 'and after it');
is($node->safe_psql('copy', $logged), $definition, 'as in the log');

$node->stop;
done_testing();
