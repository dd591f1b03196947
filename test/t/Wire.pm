# A client of the server's protocol, for tests in which it matters when which message is sent: the
# drivers of app servers parse, bind and execute a statement in several messages.
package Wire;

use strict;
use warnings;
use Errno;
use IO::Socket::UNIX;

# Connect as postgres, who needs no password, by the socket of a server.
sub new
{
	my ($class, $node, $database) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port)
	  or die "cannot connect: $!";
	my $self = bless { socket => $socket }, $class;
	my $parameters = join("\0", user => 'postgres', database => $database, '', '');

	$self->_write(pack('N N', length($parameters) + 8, 196608) . $parameters);
	$self->read_until_ready;
	return $self;
}

sub _write
{
	my ($self, $bytes) = @_;

	while (length $bytes)
	{
		my $written = syswrite($self->{socket}, $bytes);

		# a child of the test that ends is a signal
		next if !defined $written && $!{EINTR};
		defined $written or die "cannot write: $!";
		substr($bytes, 0, $written, '');
	}
	return;
}

sub _read
{
	my ($self, $n) = @_;
	my $bytes = '';

	while (length $bytes < $n)
	{
		my $read = sysread($self->{socket}, $bytes, $n - length $bytes, length $bytes);

		next if !defined $read && $!{EINTR};
		$read or die 'the server is gone';
	}
	return $bytes;
}

# Send messages: pairs of type and body.
sub send_messages
{
	my ($self, @messages) = @_;
	my $bytes = '';

	while (my ($type, $body) = splice(@messages, 0, 2))
	{
		$bytes .= $type . pack('N', length($body) + 4) . $body;
	}
	$self->_write($bytes);
	return;
}

# Read until the server waits; the first columns of the rows that came. Dies of an error.
sub read_until_ready
{
	my ($self) = @_;
	my (@rows, $error);

	while (1)
	{
		my ($type, $length) = unpack('a N', $self->_read(5));
		my $body = $self->_read($length - 4);

		if ($type eq 'D')
		{
			my ($columns, $size) = unpack('n N', $body);
			push @rows, substr($body, 6, $size);
		}
		$error = join(' ', grep { /^M/ } split(/\0/, $body)) if $type eq 'E';
		last if $type eq 'Z';
	}
	die "error: $error" if defined $error;
	return @rows;
}

# Run a statement by the simple protocol.
sub query
{
	my ($self, $statement) = @_;

	$self->send_messages('Q', "$statement\0");
	return $self->read_until_ready;
}

# Parse a statement, in a round trip of its own. In REPEATABLE READ this fixes the snapshot.
sub parse
{
	my ($self, $statement) = @_;

	$self->send_messages('P', "\0$statement\0" . pack('n', 0), 'S', '');
	$self->read_until_ready;
	return;
}

# Bind and execute what was parsed last.
sub execute
{
	my ($self) = @_;

	$self->send_messages('B', "\0\0" . pack('n n n', 0, 0, 0), 'E', "\0" . pack('N', 0), 'S', '');
	return $self->read_until_ready;
}

1;
