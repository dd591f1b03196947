# Too few background workers. A database without one reports that, and its sessions write reports
# directly from the start. A single worker runs both passes and flushes, and neither waits for the other.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('scarce', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'one, two, three'", "prebuild.worker_role = 'postgres'",
	"prebuild.metadata_flush_interval = '1h'", "prebuild.fold_interval = '1s'",
	'max_logical_replication_workers = 0', 'max_worker_processes = 2');

# A column of a lane's status.
sub status
{
	my ($database, $lane, $column) = @_;

	return $node->safe_psql($database, "SELECT $column FROM prebuild_worker_status WHERE lane = '$lane'");
}

foreach my $database ('one', 'two', 'three')
{
	new_metadata($node, $database);
	add_agents($node, $database, 1, 100);
}

# none

my $none = 'unable|max_worker_processes (2) leaves no background worker for this database|';
is(status('three', 'metadata', 'state, detail, pid'), $none, 'a database without a worker for metadata says so');
is(status('three', 'passes', 'state, detail, pid'), $none, 'and for passes');
like(slurp_file($node->logfile),
	qr/WARNING:  there is no background worker for database "three"\n.*HINT:  Increase max_worker_processes, which is 2\. prebuild.databases needs two/,
	'so does the log');
unlike(slurp_file($node->logfile), qr/no background worker for database "(one|two)"/, 'of no other');
is(stat_of($node, 'three', 'mode'), 'direct', 'reports are written directly');
is($node->safe_psql('three', q{SELECT report(1, 'cpu', 'direct'); SELECT value_of(1, 'cpu')}), "(1,0,0)\ndirect",
	'from the first one on');
is($node->safe_psql('three', 'SELECT prebuild_agent_metadata_flush()'), '0', 'a flush has nothing to wait for');
$node->safe_psql('three', q{SELECT prebuild_attach(); SELECT fixture.simple('t', 1, preset_name => 'p')});
pass('nor has who asks for a pass');
$node->restart;
$node->safe_psql('three', q{SELECT report(1, 'cpu', 'at the start')});
$node->restart;
is(value_of($node, 'three', 1, 'cpu'), 'at the start', 'what is reported as soon as the server is up is not lost');

# one for both

wait_until($node, 'one', q{SELECT state = 'serving' FROM prebuild_worker_status WHERE lane = 'metadata'});
is(status('one', 'passes', 'state, detail, pid'),
	'unable|max_worker_processes (2) leaves no background worker for passes; the metadata worker runs them, and sessions write reports directly meanwhile|',
	'a database with one worker says what that does');
like(slurp_file($node->logfile), qr/WARNING:  database "one" has one background worker for both agent metadata and passes/,
	'so does the log');
$node->safe_psql('one', q{
	SELECT report(1, 'cpu', 'buffered');
	SELECT fixture.simple('t', 2, preset_name => 'p');
	-- until the session below lets it go on
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		WHILE NOT pg_try_advisory_xact_lock_shared(99) LOOP PERFORM pg_sleep(0.02); END LOOP;
		RETURN NULL;
	END $$;
	CREATE TRIGGER slow AFTER INSERT ON workspaces FOR EACH STATEMENT EXECUTE FUNCTION slow();
	SELECT prebuild_attach()});
is(value_of($node, 'one', 1, 'cpu'), '', 'reports are buffered');
my $gate = $node->background_psql('one');
$gate->query_safe('SELECT pg_advisory_lock(99)');
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = '1h'");
$node->reload;
wait_until($node, 'one', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'prebuild: reconciling' AND state = 'active'
	AND wait_event = 'PgSleep'});
is(value_of($node, 'one', 1, 'cpu'), 'buffered', 'before a pass what waits is written');
is($node->safe_psql('one', q{SELECT report(2, 'cpu', 'meanwhile'); SELECT value_of(2, 'cpu');
	SELECT prebuild_agent_metadata_flush()}), "(1,0,0)\nmeanwhile\n0", 'during a pass nothing waits for it');
like(status('one', 'metadata', 'state, detail'), qr/^unable\|the worker runs a pass or a fold; max_worker_processes \(2\) leaves one/,
	'which the status says');
is(status('one', 'passes', 'passes'), '0', 'as long as the pass lasts');
$gate->query_safe('SELECT pg_advisory_unlock(99)');
$gate->quit;
wait_until($node, 'one', q{SELECT passes = 1 AND folds > 0 FROM prebuild_worker_status WHERE lane = 'passes'});
is(pool_size($node, 'one'), '2', 'the pass does what it has to');
wait_until($node, 'one', 'SELECT count(*) = 0 FROM prebuild_pool_log');
pass('folds come, too');
wait_until($node, 'one', q{SELECT state = 'serving' FROM prebuild_worker_status WHERE lane = 'metadata'});
$node->safe_psql('one', q{DROP TRIGGER slow ON workspaces; UPDATE template_version_presets SET desired_instances = 3});
wait_until($node, 'one', q{SELECT passes = 2 FROM prebuild_worker_status WHERE lane = 'passes'});
pass('and passes that are asked for');

# without room for a second registration the postmaster starts the process again, which it logs
$node->safe_psql('one', q{SELECT pg_terminate_backend(pid) FROM prebuild_worker_status WHERE lane = 'metadata'});
wait_until($node, 'one', q{SELECT state = 'serving' FROM prebuild_worker_status WHERE lane = 'metadata'});
like(slurp_file($node->logfile), qr/background worker "prebuild worker" \(PID \d+\) exited with exit code 1/,
	'a worker comes back without room for another one');

# enough

$node->append_conf('postgresql.conf', 'max_worker_processes = 6');
$node->restart;
foreach my $database ('one', 'two', 'three')
{
	worker_is($node, $database, 'serving');
	is($node->safe_psql($database, 'SELECT count(DISTINCT pid) FROM prebuild_worker_status'), '2', "$database: two workers serve");
}
is($node->safe_psql('three', q{SELECT report(3, 'cpu', 'x'); SELECT prebuild_agent_metadata_flush()}), "(1,0,0)\n1", 'and buffer');

$node->stop;
done_testing();
