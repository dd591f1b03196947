# The control plane belongs to its owner: it is dumped, restored, and outlives the extension.
use strict;
use warnings;
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
	SELECT prebuild_pause();
});
my @answers = (
	'SELECT * FROM prebuild_pool()',
	'SELECT * FROM prebuild_running()',
	q{SELECT * FROM prebuild_state('2030-06-03 12:00+00')},
	q{SELECT * FROM prebuild_plan('2030-06-03 12:00+00')});

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
	is( $node->safe_psql($copy, 'SELECT paused, created FROM prebuild_reconcile()'),
		't|0', 'the pause is restored');
	is( $node->safe_psql($copy,
			'SELECT prebuild_resume(); SELECT created, failed FROM prebuild_reconcile()'),
		"\n3|0", 'and passes go on in the copy');

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
my $had = $node->safe_psql($db, "$count; $tables");
$node->safe_psql($db, 'DROP EXTENSION prebuild_ext');
is($node->safe_psql($db, "$count; $tables"), $had, 'DROP EXTENSION leaves the control plane');
is( $node->safe_psql($db, q{SELECT count(*) FROM pg_proc WHERE proname ~ '^prebuild_'}),
	0, 'and nothing of its own');
$node->safe_psql($db, 'CREATE EXTENSION prebuild_ext SCHEMA public; SELECT prebuild_resume()');
is($node->safe_psql($db, 'SELECT created, failed FROM prebuild_reconcile()'),
	'3|0', 'a new CREATE EXTENSION works on it');

$node->stop;
done_testing();
