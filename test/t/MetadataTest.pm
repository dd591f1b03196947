# What the tests of agent metadata share: agents, reports, the worker's state, a LISTEN client.
package MetadataTest;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run;
use MIME::Base64 qw(decode_base64);
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(new_metadata add_agents agent worker_is stat_of wait_for_stat value_of
  start_listener ask received decoded stop_listener);

# Functions that the tests call; agents go by number, as fixture.a() has it.
my $functions = <<'SQL';
CREATE FUNCTION a(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT fixture.a(n) $$;
CREATE FUNCTION report(n bigint, k text, v text) RETURNS text LANGUAGE sql AS
$$ SELECT r::text FROM prebuild_agent_metadata_report(a(n), ARRAY[k], ARRAY[v]) r $$;
CREATE FUNCTION value_of(n bigint, k text) RETURNS text LANGUAGE sql AS
$$ SELECT value FROM workspace_agent_metadata WHERE workspace_agent_id = a(n) AND key = k $$;
SQL

# A database with the extension, a control plane and these functions.
sub new_metadata
{
	my ($node, $database) = @_;

	new_control_plane($node, $database);
	$node->safe_psql($database, $functions);
	return $database;
}

# Agents without the resource that they would belong to, which nothing here asks for.
sub add_agents
{
	my ($node, $database, $first, $last) = @_;

	$node->safe_psql($database, "SELECT fixture.agents($first, $last)");
	return;
}

# The id of agent number n.
sub agent
{
	return sprintf('00000000-0000-0000-0000-%012x', $_[0]);
}

# Wait until both workers are in this state.
sub worker_is
{
	my ($node, $database, $state) = @_;

	wait_until($node, $database, "SELECT bool_and(state = '$state') FROM prebuild_worker_status");
	return;
}

# A column of the statistics.
sub stat_of
{
	my ($node, $database, $column) = @_;

	return $node->safe_psql($database, "SELECT $column FROM prebuild_metadata_stats");
}

# Wait until a condition on the statistics holds.
sub wait_for_stat
{
	my ($node, $database, $condition) = @_;

	wait_until($node, $database, "SELECT $condition FROM prebuild_metadata_stats");
	return;
}

# What is stored for agent number n under a key.
sub value_of
{
	my ($node, $database, $n, $key) = @_;

	return $node->safe_psql($database, "SELECT value_of($n, '$key')");
}

# A session that listens.
sub start_listener
{
	my ($node, $database, @channels) = @_;
	my $listener = { in => '', out => '', ticks => 0, messages => [] };

	$listener->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database) ],
		'<', \$listener->{in}, '>', \$listener->{out}, '2>&1');
	ask($listener, "LISTEN \"$_\"") foreach @channels;
	return $listener;
}

# Run a statement in the listening session; returns what it printed. Messages are put aside.
sub ask
{
	my ($listener, $statement) = @_;
	my $end = 'end of ' . ++$listener->{ticks};
	my $timeout = time + 180;

	$listener->{in} .= "$statement;\n\\echo $end\n";
	until ($listener->{out} =~ /^\Q$end\E$/m)
	{
		die "no answer from the listener: $listener->{out}" if time > $timeout;
		$listener->{run}->pump_nb;
		sleep 0.01;
	}
	my $output = $listener->{out};
	$listener->{out} = '';
	$output =~ s/^\Q$end\E\n//m;
	while ($output =~
		s/^Asynchronous notification "([^"]*)"(?: with payload "(.*)")? received from .*\n//m)
	{
		push @{ $listener->{messages} }, { channel => $1, payload => $2 };
	}
	return $output;
}

# Wait until so many messages have come; returns and forgets all that have.
sub received
{
	my ($listener, $wanted) = @_;
	my $timeout = time + 120;

	do
	{
		ask($listener, 'SELECT');
		sleep 0.02;
	} until (@{ $listener->{messages} } >= $wanted || time > $timeout);
	my @messages = @{ $listener->{messages} };
	$listener->{messages} = [];
	return @messages;
}

# The agents that messages name.
sub decoded
{
	return map {
		map {
			my $hex = unpack 'H32', decode_base64("$_==");
			$hex =~ s/^(.{8})(.{4})(.{4})(.{4})(.{12})$/$1-$2-$3-$4-$5/;
			$hex
		} ($_->{payload} =~ /(.{22})/g)
	} @_;
}

sub stop_listener
{
	my ($listener) = @_;

	$listener->{in} .= "\\q\n";
	$listener->{run}->finish;
	return;
}

1;
