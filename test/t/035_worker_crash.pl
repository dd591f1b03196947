# The workers' processes are killed, one lane after the other; the server crashes while they hand over;
# they start on a standby that is promoted: both serve again, and the stored pool is right.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_server(
	'crash',
	q{shared_preload_libraries = 'prebuild_ext'},
	'restart_after_crash = on',
	q{prebuild.databases = 'plane'},
	q{prebuild.worker_role = 'postgres'},
	q{prebuild.reconcile_interval = '1s'},
	q{prebuild.fold_interval = '1s'});
my $db = new_control_plane($node, 'plane');

# Wait until both workers of a server serve.
sub wait_for_workers
{
	my ($server) = @_;

	wait_until($server, $db, q{SELECT count(*) = 2 FROM prebuild_worker_status WHERE state = 'serving'});
	return;
}

$node->safe_psql($db, q{SELECT fixture.simple('one', 3, preset_name => 'p'); SELECT prebuild_attach()});
wait_for_workers($node);
wait_until($node, $db, 'SELECT count(*) = 3 FROM workspaces');

foreach my $lane ('metadata', 'passes')
{
	my $pid = $node->safe_psql($db, "SELECT pid FROM prebuild_worker_status WHERE lane = '$lane'");

	kill_process($node, $db, $pid);
	wait_for_workers($node);
	pass("lane $lane is killed: both workers serve again");
	wait_until($node, $db, q{SELECT passes > 0 AND folds > 0 FROM prebuild_worker_status WHERE lane = 'passes'});
	is($node->safe_psql($db, 'SELECT count(*) FROM prebuild_verify()'), '0', 'the kept pool is right');
	is($node->safe_psql($db, 'SELECT count(*) FROM workspaces'), '3', 'and nothing was made twice');
}

# a crash of the server while workers hand their lanes over to others
foreach my $delay (map { $_ * 0.002 } 0 .. 3)
{
	my $session = start_session($node, $db, 'SELECT pg_sleep(600)');

	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	my $pid = $node->safe_psql($db, q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	$node->safe_psql($db, 'SELECT pg_terminate_backend(pid) FROM prebuild_worker_status');
	sleep $delay;
	kill_process($node, $db, $pid);
	finish_session($session);
	wait_for_workers($node);
	wait_until($node, $db, q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type LIKE 'prebuild%worker'});
}
pass('a crash during a hand-over leaves each lane one process');

# a standby has the same settings
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql($db, q{SELECT count(*) FROM prebuild_worker_status WHERE detail LIKE '%in recovery%'}),
	'2', 'on a standby the status says that workers start after recovery');
like(($standby->psql($db, 'SELECT prebuild_agent_metadata_flush()'))[2], qr/during recovery/,
	'where a flush is refused');
$standby->promote;
wait_for_workers($standby);
wait_until($standby, $db, q{SELECT passes > 0 AND folds > 0 FROM prebuild_worker_status WHERE lane = 'passes'});
is($standby->safe_psql($db, 'SELECT count(*) FROM prebuild_verify()'), '0', 'promoted, its workers run passes and folds');
is($standby->safe_psql($db, 'SELECT count(*) FROM workspaces'), '3', 'which find nothing to do');

foreach my $server ($node, $standby)
{
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP:|XX000/, $server->name . ' logs no internal error');
	$server->stop;
}
done_testing();
