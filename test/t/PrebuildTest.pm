# What the tests of the running system share: a server with the extension and a control plane.
package PrebuildTest;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(new_server new_control_plane pool_size wait_until run_in_parallel);

my $fixture = dirname(abs_path(__FILE__)) . '/fixture.sql';

# A started server; further lines of configuration are the arguments after its name.
sub new_server
{
	my ($name, @configuration) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', join("\n", "timezone = 'UTC'", @configuration, ''));
	$node->start;
	return $node;
}

# A database with the extension, a control plane and the fixture's functions.
sub new_control_plane
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION prebuild_ext SCHEMA public');
	$node->safe_psql($database, 'SELECT prebuild_create_control_plane()');
	$node->safe_psql($database, slurp_file($fixture));
	return $database;
}

# How many workspaces the system user has.
sub pool_size
{
	my ($node, $database) = @_;

	return $node->safe_psql($database,
		'SELECT count(*) FROM workspaces WHERE owner_id = prebuild_system_user() AND NOT deleted');
}

# Wait until a query gives true.
sub wait_until
{
	my ($node, $database, $query) = @_;

	$node->poll_query_until($database, $query) or die "timed out waiting for: $query";
	return;
}

# Run psql scripts at the same time, each in a session of its own; their outputs in order.
sub run_in_parallel
{
	my ($node, $database, @scripts) = @_;
	my (@runs, @outputs);

	foreach my $i (0 .. $#scripts)
	{
		my ($script, $output) = ($scripts[$i], '');
		$outputs[$i] = \$output;
		push @runs,
		  IPC::Run::start(
			[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database) ],
			'<', \$script, '>', \$output, '2>&1');
	}
	foreach my $run (@runs)
	{
		$run->finish or diag_failure(@outputs);
	}
	return map { my $text = $$_; chomp $text; $text } @outputs;
}

# Say what the sessions printed before giving up.
sub diag_failure
{
	my (@outputs) = @_;

	die "a session failed:\n" . join("\n", map { $$_ } @outputs);
}

1;
