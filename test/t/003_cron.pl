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
$node->safe_psql('home', slurp_file($INC{'PrebuildTest.pm'} =~ s/PrebuildTest\.pm$/fixture.sql/r));
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

# at the next full minute both databases get their prebuilds
$node->safe_psql('home', "SELECT fixture.preset(fixture.template('one'), 'p', 3)");
$node->safe_psql($other, "SELECT fixture.preset(fixture.template('one'), 'p', 2)");
wait_until($node, 'home', 'SELECT count(*) = 3 FROM prebuild_pool()');
is(pool_size($node, 'home'), 3, 'pg_cron runs the pass in its own database');
wait_until($node, $other, 'SELECT count(*) = 2 FROM prebuild_pool()');
is(pool_size($node, $other), 2, 'and in the other one');
wait_until($node, 'home', q{SELECT count(*) >= 2 FROM cron.job_run_details WHERE status = 'succeeded'});
is( $node->safe_psql('home', q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}),
	0, 'no run failed')
  or diag($node->safe_psql('home', 'SELECT return_message FROM cron.job_run_details'));

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
