# The control plane's tables belong to their owner: a dump has them, and they outlive the extension.
# DROP EXTENSION drops the triggers that the extension has on them.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('dump');
my $db = new_control_plane($node, 'fleet');
$node->safe_psql($db, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, n) FROM generate_series(1, 3) n;
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	UPDATE template_version_presets SET desired_instances = desired_instances + 1;
	SELECT fixture.version('one', 'v2', active => false);
	SELECT fixture.preset('v2', 'staged', 2);
	SELECT prebuild_stage(fixture.v('v2'), share => 0.5, promote => true, valid_until => '2031-01-01Z');
	SELECT prebuild_set_policy(id, failed_keep => 2) FROM templates;
	SELECT prebuild_set_policy(id, 'p2', mode => 'auto', min_instances => 1, max_instances => 5, service_level => 0.9,
		unready_grace => '10min', disconnected_grace => '1h', failed_retention => '1 month', failed_keep => 0, delete_retries => 1,
		hard_limit_retry => '1 day', require_provisioner => false, max_unavailable => '25%', max_surge => '1') FROM templates;
	INSERT INTO prebuild_failure SELECT gen_random_uuid(), p.id, gen_random_uuid(), k, y.at, 'public'
	FROM template_version_presets p, (VALUES ('failed', '2025-06-02'), ('sick', '2025-06-03'), ('undeleted', '-infinity')) v (k, x),
		LATERAL (SELECT v.x::timestamptz) y (at) WHERE p.name = 'p1';
	SELECT prebuild_retry(id, '2025-06-01 00:00Z') FROM template_version_presets WHERE name = 'p1';
	SELECT prebuild_pause();
	SELECT prebuild_attach(true, true);
});
my $role = abs_path(dirname(abs_path(__FILE__)) . '/../monitoring/role.sql');
$node->command_ok([ 'psql', '-XAtq', '-f', $role, '-d', $node->connstr($db) ], 'with a role for monitoring')
  for 1 .. 2;
# the triggers of the extension, and those of them that DROP EXTENSION takes along
my $triggers = q{SELECT count(*), count(d.objid) FROM pg_trigger t LEFT JOIN pg_depend d
	ON d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'x'
	WHERE t.tgname ~ '^prebuild_'};
my $attached = $node->safe_psql($db, $triggers);
like($attached, qr/^(\d\d)\|\1$/, 'attached, all triggers belong to the extension');
my @answers = (
	'SELECT * FROM prebuild_pool()',
	'SELECT * FROM prebuild_running()',
	q{SELECT * FROM prebuild_state('2030-06-03 12:00+00')},
	q{SELECT * FROM prebuild_plan('2030-06-03 12:00+00')},
	q{SELECT * FROM prebuild_stage},
	q{SELECT * FROM prebuild_stage_status('2030-06-03 12:00+00')},
	'SELECT f::text FROM prebuild_failure f ORDER BY 1',
	'SELECT f::text FROM prebuild_forgiven f ORDER BY 1',
	'SELECT y::text FROM prebuild_policy y ORDER BY preset_name');
isnt($node->safe_psql($db, $_), '', "an answer: $_") foreach @answers;
like($node->safe_psql($db, $answers[-1]), qr/^\(public,[^,]+,p2,auto,1,5,0\.9,.*25%,1\)\n\(public,[^,]+,,advise,.*,2,.*\)$/, 'with policies');

my $folder = PostgreSQL::Test::Utils::tempdir;
foreach my $format (qw(plain custom))
{
	my $file = "$folder/$format.dump";
	my $copy = "copy_$format";
	$node->command_ok([ 'pg_dump', '-F', $format, '-f', $file, $db ], "pg_dump, $format");
	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	if ($format eq 'plain')
	{
		$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $copy ],
			'it is restored by psql');
	}
	else
	{
		$node->command_ok([ 'pg_restore', '--exit-on-error', '-j', '2', '-d', $copy, $file ],
			'it is restored by pg_restore in parallel');
	}
	is($node->safe_psql($copy, $_), $node->safe_psql($db, $_), "the same answer: $_")
	  foreach @answers;
	is($node->safe_psql($copy, $triggers), $attached, 'the same triggers');
	is( $node->safe_psql($copy, 'SELECT paused, created FROM prebuild_reconcile()'),
		't|0', 'the pause is restored');
	is( $node->safe_psql($copy,
			'SELECT prebuild_resume(); SELECT created, failed FROM prebuild_reconcile()'),
		"\n4|0", 'and passes go on in the copy');

	# a dump of the restored database is the same text
	if ($format eq 'plain')
	{
		$node->safe_psql('postgres', "CREATE DATABASE again TEMPLATE template0");
		$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', 'again' ],
			'restored again');
		$node->command_ok([ 'pg_dump', '-f', "$folder/again.dump", 'again' ], 'and dumped again');
		my ($first, $second) =
		  map { s/^\\(un)?restrict .*$//mgr } slurp_file($file), slurp_file("$folder/again.dump");
		is(join("\n", sort split /\n/, $second), join("\n", sort split /\n/, $first),
			'gives the same dump');
	}
}

# without the extension the tables are still there, and it can come back
my $count = q{SELECT count(*), sum((SELECT count(*) FROM workspace_builds)) FROM workspaces};
my $tables = q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
	WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname !~ '^prebuild_'};
my $scrape = q{SELECT count(*) > 0, prebuild_metrics_text() ~ 'desired' FROM prebuild_metrics_read(part => 'pool')};
my @scraper = (extra_params => [ '-U', 'prebuild_scraper' ]);
my $had = $node->safe_psql($db, "$count; $tables");
is($node->safe_psql($db, $scrape, @scraper), 't|t', 'the metrics are read');
$node->safe_psql($db, 'DROP EXTENSION prebuild_ext');
is($node->safe_psql($db, "$count; $tables"), $had, 'DROP EXTENSION leaves the control plane');
is( $node->safe_psql($db, q{SELECT count(*) FROM pg_proc WHERE proname ~ '^prebuild_'
	AND pronamespace <> 'prebuild_monitoring'::regnamespace}),
	0, 'and nothing of its own');
is($node->safe_psql($db, $triggers), '0|0', 'nor its triggers');
my ($status, $stdout, $stderr) = $node->psql($db, $scrape, @scraper);
like($stderr, qr/function public\.prebuild_metrics_read\(.*does not exist/, 'nothing is there to scrape');
$node->safe_psql($db, 'UPDATE workspaces SET name = name || 1; CREATE EXTENSION prebuild_ext SCHEMA public;
	SELECT prebuild_resume()');
is($node->safe_psql($db, 'SELECT created, failed FROM prebuild_reconcile()'),
	'3|0', 'a new CREATE EXTENSION works on it');
is($node->safe_psql($db, $scrape, @scraper), 't|t', 'and monitoring, too');
$node->safe_psql($db, 'SELECT prebuild_attach(); SELECT prebuild_detach()');
$node->safe_psql($db, 'DROP EXTENSION prebuild_ext; DROP SCHEMA prebuild_monitoring CASCADE');
pass('detached, the extension goes as well');

$node->stop;
done_testing();
