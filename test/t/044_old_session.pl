# A server that does not preload the library: the files of a new release are installed and a database is
# upgraded while a session has the library of the earlier one. That session goes on, with data and
# triggers: right answers or errors that name the fault, and its writes never fail. New sessions have
# the new release.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use ReleaseTest;
use Test::More;

my $tree = server_tree();
my $node = node_of_tree('sessions', $tree);

$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nlog_line_prefix = '%b %e '");
$node->start;
foreach my $version (releases())
{
	my $database = 'plane_' . $version =~ s/\W/_/r;
	my $sql = sub { return $node->safe_psql($database, $_[0]) };

	install_library($tree, release_library($version));
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$sql->("CREATE EXTENSION prebuild_ext SCHEMA public VERSION '$version'; SELECT prebuild_create_control_plane()");
	load_fixture($node, $database);
	$sql->(slurp_file("$FindBin::Bin/mixed.sql"));
	$sql->('SELECT mixed.fleet(); SELECT prebuild_attach(true, true)');
	$sql->('SELECT prebuild_reconcile()');
	$sql->('SELECT fixture.finish_jobs()');
	$sql->('SELECT mixed.claim()');
	$sql->('SELECT prebuild_reconcile()');
	cmp_ok($sql->(q{SELECT mixed.ask('old')}), '>', 30, "$version: everything answers");

	my $old = $node->background_psql($database);
	answer($old, 'SELECT count(*) FROM prebuild_state()');
	install_library($tree, new_library());
	$sql->('ALTER EXTENSION prebuild_ext UPDATE');
	# mends the triggers of that version
	$sql->('SELECT prebuild_fold()');
	is($sql->(q{SELECT status FROM prebuild_health() WHERE name = 'versions'}), 'ok', "$version: a new session is upgraded");
	$sql->(q{SELECT mixed.ask('new')});
	is($sql->(q{SELECT mixed.wrong('old', 'new', false)}), '', 'and everything answers rightly');

	cmp_ok(answer($old, q{SELECT mixed.ask('old session')}), '>', 30, "$version: the old session goes on");
	is($sql->(q{SELECT mixed.wrong('new', 'old session', true)}), '', 'rightly or by an error that is named');
	is(answer($old, q{SELECT 'written' FROM mixed.write()}), 'written', 'and writes');
	like(answer($old, q{SELECT name, status FROM prebuild_health() WHERE status <> 'ok'}), qr/^versions\|fail$/,
		'prebuild_health() says what is wrong') if $version eq '0.1';
	is($sql->('SELECT * FROM prebuild_verify()'), '', 'what it wrote is in the kept pool');
	$old->quit;
}
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP| XX\d\d\d /, 'nothing crashed, no internal error');

done_testing();
