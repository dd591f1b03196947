# A subscriber of all tables of a control plane keeps its own stored pool and skips the rows of the
# publisher's stored pool.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $publisher = new_server('publisher', 'wal_level = logical');
my $db = new_control_plane($publisher, 'fleet');
$publisher->safe_psql($db, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, 4) FROM generate_series(1, 3) n;
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	SELECT prebuild_attach();
	SELECT prebuild_fold();
	CREATE PUBLICATION everything FOR ALL TABLES;
});

# the subscriber's schema is the publisher's, triggers and all
my $subscriber = new_server('subscriber');
my $dump = PostgreSQL::Test::Utils::tempdir . '/schema.dump';
$subscriber->safe_psql('postgres', "CREATE DATABASE $db");
$publisher->command_ok([ 'pg_dump', '--schema-only', '-f', $dump, $db ], 'the schema is dumped');
$subscriber->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $db ],
	'and restored');
my $connection = $publisher->connstr . " dbname=$db";
$subscriber->safe_psql($db,
	"CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION everything");
$subscriber->poll_query_until($db,
	"SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')");

my $wrong = 'SELECT count(*) FROM prebuild_verify()';
my $running = 'SELECT * FROM prebuild_running()';
is($subscriber->safe_psql($db, 'SELECT count(*) FROM prebuild_pool_marker, prebuild_pool_state'),
	0, 'nothing of the kept pool was copied');
is($subscriber->safe_psql($db, 'SELECT prebuild_rebuild()'), 12, 'the subscriber keeps its own');
foreach my $n (1 .. 5)
{
	$publisher->safe_psql($db, qq{
		UPDATE workspaces SET name = 'n$n-' || id WHERE owner_id = prebuild_system_user();
		SELECT prebuild_fold();
		UPDATE workspace_agents SET lifecycle_state = CASE lifecycle_state WHEN 'ready'
			THEN 'starting' ELSE 'ready' END::workspace_agent_lifecycle_state;
	});
	$publisher->wait_for_catchup('s');
	my ($result, $rows, $notice) = $subscriber->psql($db, $wrong);
	is("$rows$notice", '0', 'the stored pool is in use and right');
	is($subscriber->safe_psql($db, $running), $publisher->safe_psql($db, $running),
		'it is what the publisher has');
	$subscriber->safe_psql($db, 'SELECT prebuild_fold()') if $n % 2;
}
is($subscriber->safe_psql($db, 'SELECT prebuild_fold() > 0, (SELECT count(*) FROM prebuild_verify())'),
	'f|0', 'nothing is left to fold');
is($subscriber->safe_psql($db, 'SELECT count(*) FROM prebuild_pool_log'), 0, 'in its own log');

# the role of sessions alone makes no difference
$publisher->safe_psql($db, q{
	SET session_replication_role = replica;
	UPDATE workspaces SET name = 'last-' || id WHERE owner_id = prebuild_system_user();
	SELECT prebuild_fold();
});
is($publisher->safe_psql($db, "SELECT count(*) FROM prebuild_pool_state WHERE name LIKE 'last-%'"),
	12, 'a fold in a session that replays nothing counts');
$subscriber->stop;
$publisher->stop;
done_testing();
