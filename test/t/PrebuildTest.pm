# What the tests of the running system share: a server with the extension and a control plane.
package PrebuildTest;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(basename dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);

our @EXPORT = qw($project new_server load_fixture new_control_plane coder_releases new_coder_control_plane pool_size
  try_query wait_until wait_for_server wait_for_log kill_process race_until
  answer start_session finish_session run_in_parallel);

# the project's files, of which script/test leaves a copy that the servers' user can read
our $project = $ENV{PREBUILD_PROJECT} // dirname(dirname(dirname(abs_path(__FILE__))));

# SQL that tests share
my $fixture = dirname(dirname(abs_path(__FILE__))) . '/fixture';
my $folder = PostgreSQL::Test::Utils::tempdir;
my $scripts = 0;

# A started server; further lines of configuration are the arguments after its name.
sub new_server
{
	my ($name, @configuration) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', join("\n", "timezone = 'UTC'", @configuration, ''));
	$node->start;
	return $node;
}

# Give a database that has the extension the functions of the schema "fixture". They are for the
# control plane in the schema public, which the given statement makes unless there is one.
sub load_fixture
{
	my ($node, $database, $control_plane) = @_;

	$node->safe_psql($database,
		join(";\n", slurp_file("$fixture/fixture.sql"), $control_plane // (), 'SELECT pin()'));
	return;
}

# A database with the extension, a control plane and the fixture's functions.
sub new_control_plane
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION prebuild_ext SCHEMA public');
	load_fixture($node, $database, q{SELECT control_plane('public')});
	return $database;
}

# The releases of Coder whose database is in the folder that PREBUILD_CODER_DATABASE names.
sub coder_releases
{
	return sort { version->parse($a) <=> version->parse($b) }
	  map { basename(dirname($_)) } glob "$ENV{PREBUILD_CODER_DATABASE}/v*/dump.sql";
}

# The same with the schema of a release of Coder as the control plane.
sub new_coder_control_plane
{
	my ($node, $database, $release) = @_;

	local $ENV{PREBUILD_CODER_SCHEMA} = "$ENV{PREBUILD_CODER_DATABASE}/$release/dump.sql";
	return new_control_plane($node, $database);
}

# How many workspaces the system user has.
sub pool_size
{
	my ($node, $database) = @_;

	return $node->safe_psql($database,
		'SELECT count(*) FROM workspaces WHERE owner_id = prebuild_system_user() AND NOT deleted');
}

# What one query answers, or undef where it fails, even for want of a connection. The query is an argument
# of psql: a psql that gets no connection reads no input, and writing to it would kill the test (EPIPE).
sub try_query
{
	my ($node, $database, $query) = @_;
	my ($output, $errors) = ('', '');
	my $succeeded = IPC::Run::run(
		[ 'psql', '-XAtq', '-d', $node->connstr($database), '-c', $query ],
		'<', '/dev/null', '>', \$output, '2>', \$errors);

	chomp $output;
	return $succeeded ? $output : undef;
}

# Wait until a query gives true. The server may be down at first.
sub wait_until
{
	my ($node, $database, $query) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if (try_query($node, $database, $query) // '') eq 't';
		sleep 0.1;
	}
	die "timed out waiting for: $query";
}

# Wait until a server that a killed process has taken down takes connections again.
sub wait_for_server
{
	my ($node, $database) = @_;

	wait_until($node, $database, 'SELECT true');
	return;
}

# Wait until a server's log has a text, from a position on.
sub wait_for_log
{
	my ($node, $pattern, $position) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if substr(slurp_file($node->logfile), $position // 0) =~ $pattern;
		sleep 0.1;
	}
	die "timed out waiting for the log to have: $pattern";
}

# Kill a process of a server, which takes all its processes down for that, and wait until it takes
# connections again. The process is there until the postmaster knows of its end: before that a connection
# may still come through, and be lost.
sub kill_process
{
	my ($node, $database, $pid) = @_;

	kill 'KILL', $pid;
	sleep 0.02 while kill 0, $pid;
	wait_for_server($node, $database);
	return;
}

# Run a race in rounds until it has been one, but at most so often: a slow machine, or an unfair one, needs
# several rounds for what a fast one does in one. Returns the number of rounds. What must have happened is
# tested after that, as what must not.
sub race_until
{
	my ($happened, $most, $round) = @_;

	foreach my $n (1 .. $most)
	{
		$round->();
		return $n if $n == $most || $happened->();
	}
	return 0;
}

# What a background psql answers to a query. Minor releases of the server's test library disagree on
# whether the last line's end belongs to it.
sub answer
{
	my ($psql, $query) = @_;
	my $answer = $psql->query($query);

	chomp $answer;
	return $answer;
}

# Start psql on a script; the handle has its output in {output} after finish_session().
sub start_session
{
	my ($node, $database, $script) = @_;
	my $file = "$folder/script." . $scripts++;

	append_to_file($file, $script);
	my $session = { output => '', file => "$file.output" };
	# by files: what goes through a pipe would not be sent before somebody waits, and a session whose output
	# fills one would stop, with the locks that others wait for
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr($database) ],
		'<', '/dev/null', '>', $session->{file}, '2>&1');
	return $session;
}

# Wait for a session's end; true where it succeeded.
sub finish_session
{
	my ($session) = @_;
	my $succeeded = $session->{run}->finish;

	$session->{output} = slurp_file($session->{file});
	chomp $session->{output};
	return $succeeded;
}

# Run scripts at the same time, each in a session of its own; their outputs in order.
sub run_in_parallel
{
	my ($node, $database, @scripts) = @_;
	my @sessions = map { start_session($node, $database, $_) } @scripts;

	foreach my $session (@sessions)
	{
		finish_session($session) or die "a session failed: $session->{output}";
	}
	return map { $_->{output} } @sessions;
}

1;
