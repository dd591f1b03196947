# pg_cron drives the passes, from the same database and from another one.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('cron', q{
shared_preload_libraries = 'pg_cron'
cron.database_name = 'home'
cron.use_background_workers = on
});

# without pg_cron, anywhere
my $other = new_control_plane($node, 'elsewhere');
$node->safe_psql('postgres', 'CREATE DATABASE home');

# pg_cron is in another database: the error says what to run there
my ($status, $out, $err) = $node->psql($other, 'SELECT prebuild_schedule()');
isnt($status, 0, 'without pg_cron in the database scheduling is refused');
like($err, qr/pg_cron/, 'and the error says what is missing');
like($err, qr/home/, 'and where it has to be done');
my ($call) = $err =~ /(cron\.schedule_in_database\(.*\))/;
ok($call, 'its hint has the call to make') or diag($err);

# pg_cron as a client, which this server does not let in: it has no TCP port
my $shut = new_server('shut', q{
shared_preload_libraries = 'pg_cron'
cron.database_name = 'home'
cron.use_background_workers = off
});
new_control_plane($shut, 'home');
$shut->safe_psql('home', 'CREATE EXTENSION pg_cron');
($status, $out, $err) = $shut->psql('home', 'SELECT prebuild_schedule()');
is($status, 0, 'where pg_cron cannot connect, a job is registered all the same');
is($err, '', 'and without a run there is nothing to warn of');
my $job = $out;

$node->safe_psql('home', 'CREATE EXTENSION pg_cron');
$node->safe_psql('home', "SELECT $call");
is( $node->safe_psql('home', 'SELECT schedule, database, active FROM cron.job'),
	'* * * * *|elsewhere|t', 'the call of the hint works as it stands');
like($call, qr/, 'postgres'\)$/, 'and names the role that asked');
($status, $out, $err) = $node->psql($other, q{SELECT prebuild_schedule('*/5 * * * *')});
like($err, qr/cron\.schedule_in_database\(.*\*\/5 \* \* \* \*/,
	'the hint has the schedule that was asked for');

# the same database
my $home = new_control_plane($node, 'home_too');
$node->safe_psql('home', 'CREATE EXTENSION prebuild_ext SCHEMA public');
$node->safe_psql('home', 'SELECT prebuild_create_control_plane()');
load_fixture($node, 'home');
$node->safe_psql('home', q{SELECT prebuild_schedule('*/7 * * * *')});
is( $node->safe_psql('home', q{SELECT count(*) FROM cron.job WHERE database = 'home' AND schedule = '*/7 * * * *'}),
	1, 'prebuild_schedule() registers the pass');
$node->safe_psql('home', 'SELECT prebuild_schedule()');
is( $node->safe_psql('home', q{SELECT string_agg(schedule, ',') FROM cron.job WHERE database = 'home'}),
	'* * * * *', 'registering again replaces the schedule');
($status, $out, $err) = $node->psql('home', q{SELECT prebuild_schedule('every now and then')});
isnt($status, 0, 'a bad schedule is refused');
is( $node->safe_psql('home', q{SELECT string_agg(schedule, ',') FROM cron.job WHERE database = 'home'}),
	'* * * * *', 'and changes nothing');

# seconds
($status, $out, $err) = $node->psql('home', q{SELECT prebuild_schedule('10 seconds')});
if ($node->safe_psql('home', q{SELECT string_to_array(substring(extversion FROM '^\d+\.\d+'), '.')::int[] >= '{1,5}' FROM pg_extension
		WHERE extname = 'pg_cron'}) eq 't')
{
	is($err, '', 'seconds are taken by a pg_cron that knows them');
	$node->safe_psql('home', 'SELECT prebuild_schedule()');
}
else
{
	like($err, qr/ERROR:  pg_cron 1\.4\S* has no schedules in seconds: "10 seconds"\nHINT:  Upgrade pg_cron to 1\.5/,
		'an older pg_cron is named as the reason why seconds are refused');
}
($status, $out, $err) = $node->psql('home', q{SELECT prebuild_schedule('90 seconds')});
like($err, qr/ERROR:  invalid schedule: 90 seconds/, 'what no pg_cron takes is refused in its own words');
is( $node->safe_psql('home', q{SELECT string_agg(schedule, ',') FROM cron.job WHERE database = 'home'}),
	'* * * * *', 'the schedule stays');

# at the next full minute both databases get their prebuilds
$node->safe_psql('home', "SELECT fixture.simple('one', 3, preset_name => 'p')");
$node->safe_psql($other, "SELECT fixture.simple('one', 2, preset_name => 'p')");
wait_until($node, 'home', 'SELECT count(*) = 3 FROM prebuild_pool()');
is(pool_size($node, 'home'), 3, 'pg_cron runs the pass in its own database');
wait_until($node, $other, 'SELECT count(*) = 2 FROM prebuild_pool()');
is(pool_size($node, $other), 2, 'and in the other one');
wait_until($node, 'home', q{SELECT count(*) >= 2 FROM cron.job_run_details WHERE status = 'succeeded'});
is( $node->safe_psql('home', q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}),
	0, 'no run failed')
  or diag($node->safe_psql('home', 'SELECT return_message FROM cron.job_run_details'));

($status, $out, $err) = $node->psql('home', 'SELECT prebuild_schedule()');
is($err, '', 'after a run that succeeded there is no warning');

# the run that could not start is told of, with what to do
wait_until($shut, 'home', q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'failed'});
($status, $out, $err) = $shut->psql('home', q{SELECT prebuild_schedule('*/2 * * * *')});
like($err, qr/WARNING:  the last run of pg_cron's job "prebuild_reconcile\@home" failed: connection failed\n/,
	'a run that could not connect is warned of');
like($err, qr/HINT:  pg_cron connects to host "localhost" as role "postgres".*cron\.use_background_workers = on.*\.pgpass/,
	'with the two ways to let it in');
is($out, $job, 'the job is registered as asked');

# Record a run by hand, as no server is full or broken on demand; what the next call says.
sub after_run
{
	my ($run_status, $message) = @_;

	$shut->safe_psql('home', "INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status,
			return_message, start_time, end_time)
		SELECT $job, max(runid) + 1, 'home', 'postgres', '', '$run_status', $message, now(), now()
		FROM cron.job_run_details");
	return ($shut->psql('home', 'SELECT prebuild_schedule()'))[2];
}
like(after_run('failed', q{'out of background worker slots'}), qr/slots\nHINT:  .*max_worker_processes/,
	'so is one without a worker');
like(after_run('failed', q{E'ERROR:  permission denied for table workspaces\n'}),
	qr/failed: ERROR:  permission denied for table workspaces\nHINT:  .*cron\.job_run_details/, 'and one that failed');
like(after_run('failed', 'NULL'), qr/failed: pg_cron does not say why/, 'also without a reason');
like(after_run('running', 'NULL'), qr/does not say why/, 'a run that is not over changes nothing');
is(after_run('succeeded', q{'1 row'}), '', 'one that succeeded ends the warnings');
$shut->safe_psql('home', q{CREATE ROLE app; GRANT USAGE ON SCHEMA cron TO app;
	GRANT EXECUTE ON FUNCTION prebuild_schedule TO app; REVOKE SELECT ON cron.job_run_details FROM PUBLIC});
is(($shut->psql('home', 'SET ROLE app; SELECT prebuild_schedule()'))[2], '',
	'who may not see the runs can register a job');
$shut->stop;

$node->safe_psql('home', 'SELECT prebuild_unschedule()');
is( $node->safe_psql('home', q{SELECT count(*) FROM cron.job WHERE database = 'home'}),
	0, 'prebuild_unschedule() takes the job away');
is( $node->safe_psql('home', q{SELECT count(*) FROM cron.job WHERE database = 'elsewhere'}),
	1, 'and leaves the others');
($status, $out, $err) = $node->psql($other, 'SELECT prebuild_unschedule()');
($call) = $err =~ /(SELECT cron\.unschedule\(.*;)/;
$node->safe_psql('home', $call);
is($node->safe_psql('home', 'SELECT count(*) FROM cron.job'),
	0, 'from another database the hint of prebuild_unschedule() has the call that takes the job away');

$node->stop;
done_testing();
