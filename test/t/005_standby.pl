# A hot standby answers everything that only reads, refuses the rest, and takes over when promoted.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $primary = new_server('primary');
my $db = new_control_plane($primary, 'fleet');
$primary->safe_psql($db, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, n) FROM generate_series(1, 3) n;
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	UPDATE template_version_presets SET desired_instances = desired_instances + 1;
	SELECT fixture.version('one', 'v2', active => false), fixture.preset('v2', 'next', 0);
	SELECT fixture.preset('v2', 'staged', 1);
	SELECT prebuild_stage(fixture.v('v2'));
});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

my $at = q{'2030-06-03 12:00+00'};
my @reads = (
	'SELECT * FROM prebuild_running()',
	'SELECT * FROM prebuild_pool()',
	"SELECT * FROM prebuild_state($at)",
	"SELECT * FROM prebuild_plan($at)",
	"SELECT * FROM prebuild_stage_status($at)",
	"SELECT p.name, prebuild_desired_instances(p.id, $at) FROM template_version_presets p ORDER BY 1",
	"SELECT f.* FROM template_version_presets p, prebuild_forecast(p.id, $at, '2030-06-04') f ORDER BY p.name, 1",
	"SELECT prebuild_cron_matches('* 9-18 * * 1-5', 'Europe/Berlin', $at)",
	"SELECT prebuild_schedules_check('{* 9-18 * * 1-5,* 10 * * *}')",
	'SELECT prebuild_system_user()');
foreach my $query (@reads)
{
	my $expected = $primary->safe_psql($db, $query);
	isnt($expected, '', "rows: $query");
	is($standby->safe_psql($db, $query), $expected, "the standby says the same: $query");
}

foreach my $write ('prebuild_reconcile()', 'prebuild_pause()', 'prebuild_resume()', q{prebuild_stage(fixture.v('v2'))},
	q{prebuild_unstage(fixture.v('v2'))}, q{prebuild_promote(fixture.v('v2'), true)})
{
	my ($status, $out, $err) = $standby->psql($db, "SELECT $write");
	like($err, qr/read-only transaction|during recovery/, "$write fails with the usual error");
}
is($standby->safe_psql($db, 'SELECT count(*) FROM prebuild_running()'),
	6, 'and the session after it is fine');

$primary->stop;
$standby->promote;
is($standby->safe_psql($db, 'SELECT created, failed FROM prebuild_reconcile()'),
	'4|0', 'after the promotion the pass does what was missing');
$standby->safe_psql($db, 'SELECT fixture.finish_jobs()');
is($standby->safe_psql($db, 'SELECT sum(eligible), sum(desired) FROM prebuild_state()'),
	'10|10', 'and the pool is right');

$standby->stop;
done_testing();
