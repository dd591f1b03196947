# The programs of examples/clients: psql, Python, Go and Node do the same on the README's first preset, and say
# the same. Each claim comes with its build, in one transaction: both or neither.
#
# The drivers of Go and Node are fetched as a reader fetches them. Where that is not possible, Debian's are
# taken, which script/test has unpacked into the folder PREBUILD_DRIVERS: they may be older, and Go's is
# pgx 4 on Debian 12. PREBUILD_CLIENTS=fetched or =packages tries only the one, and fails without it.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('clients');
my $db = 'controlplane';
my $folder = PostgreSQL::Test::Utils::tempdir . '/clients';
my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';

# whatever the encoding of the cluster is: in SQL_ASCII, text is bytes to psycopg
$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
$node->safe_psql($db, 'CREATE EXTENSION prebuild_ext; SELECT prebuild_create_control_plane()');
$node->safe_psql($db, slurp_file("$project/examples/first_preset.sql"));
system_or_bail('cp', '-R', "$project/examples/clients", $folder);
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = $db;
$ENV{HOME} = PostgreSQL::Test::Utils::tempdir;
# what was fetched and compiled once serves the next run
my $kept = $ENV{GOCACHE} // "$ENV{HOME}/cache";
$ENV{GOCACHE} = $kept;
$ENV{GOPATH} = "$kept/path";
$ENV{GOFLAGS} = '-modcacherw';
$ENV{npm_config_cache} = "$kept/npm";
chomp($ENV{PGUSER} = `id -un`);

# Run a command in the folder of the examples: whether it succeeded, and what it printed and complained of.
sub run
{
	my (@command) = @_;
	my ($out, $err) = ('', '');
	my $done = eval { IPC::Run::run(\@command, '<', '/dev/null', '>', \$out, '2>', \$err, 'init', sub { chdir $folder or die },
		IPC::Run::timeout(600)) };

	return ($done, $out, $err . ($@ // ''));
}

# Prepare a program in one of several ways, each a name and a command. Where none succeeds, say so.
my $wanted = $ENV{PREBUILD_CLIENTS};
sub prepare
{
	my ($language, @ways) = @_;
	my ($done, $error);

	while (my ($way, $command) = splice @ways, 0, 2)
	{
		next if $wanted && $way =~ /fetched|packages/ && $way ne $wanted;
		($done, undef, $error) = run(@$command);
		note("$language: $way") if $done;
		last if $done;
		note("$language: not $way: $error");
	}
	note("not run: $language, whose driver is not on this machine") unless $done;
	ok($done, "$language has its driver") if $wanted;
	return $done;
}

# Two prebuilds that are ready.
sub fill
{
	$node->safe_psql($db, 'SELECT prebuild_reconcile()');
	$node->safe_psql($db, slurp_file("$project/examples/finish_builds.sql"));
	return;
}

my %program = (
	psql => [ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-q', '-f', 'claim.sql', '-v' ],
	python => [ $python, 'claim.py' ],
	go => ["$folder/claim"],
	node => [ 'node', 'claim.mjs' ]);
my @languages = ('psql');
my $drivers = $ENV{PREBUILD_DRIVERS} // '/usr';
# where Debian's Node looks for modules, and others do not
$ENV{NODE_PATH} = "$drivers/share/nodejs";
my $in_packages = qq{
	set -e
	[ -d $drivers/share/gocode/src/github.com/jackc/pgx/v5 ] || sed -i s,pgx/v5,pgx/v4, claim.go
	GO111MODULE=off GOPATH=$drivers/share/gocode exec go build -o claim claim.go};
push @languages, 'python' if prepare('python', installed => [ $python, '-c', 'import psycopg' ]);
push @languages, 'go' if prepare('go',
	fetched => [ 'sh', '-c', 'timeout 60 go mod download && exec go build -o claim .' ],
	packages => [ 'sh', '-c', $in_packages ]);
push @languages, 'node' if prepare('node',
	fetched => [ qw(timeout 120 npm install --silent --no-audit --no-fund) ],
	packages => [ 'sh', '-c', "rm -rf node_modules && mkdir node_modules && ln -s $drivers/share/nodejs/pg node_modules/ && exec node -e 'require(\"pg\")'" ]);
foreach my $language (@languages)
{
	my @command = @{ $program{$language} };
	my $name = $language eq 'psql' ? 'name=of-psql' : "of-$language";
	my $agent = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

	fill();
	my ($done, $out, $err) = run(@command, $name);
	# psql tells of the notification in its own words
	$out =~ s/^Asynchronous notification "workspace_agent_metadata_batch" with payload "[\w+\/]{22}" received .*\n//gm;
	ok($done, "$language: it runs") or diag($err);
	like($out, qr/\Aa pass created 0\nclaimed of-$language\nthe plan: create 1\nheard of agent $agent\n\z/, "$language: and says what it did");
	is($node->safe_psql($db, qq{SELECT b.build_number, b.transition, j.job_status, j.input ->> 'prebuilt_workspace_stage', u.username
		FROM workspaces w JOIN workspace_builds b ON b.workspace_id = w.id JOIN provisioner_jobs j ON j.id = b.job_id
		JOIN users u ON u.id = w.owner_id AND u.id = j.initiator_id WHERE w.name = 'of-$language' AND b.build_number > 1}),
		'2|start|pending|2|ada', "$language: the claim has its build");

	# a name that she has: neither claim nor build
	fill();
	($done, $out, $err) = run(@command, $name);
	ok(!$done, "$language: a second one of that name fails");
	like($err, qr/duplicate key|unique/i, "$language: by its name");
	is($node->safe_psql($db, 'SELECT eligible FROM prebuild_state()'), 2, "$language: and the prebuilds stay");
}
is($node->safe_psql($db, q{SELECT count(*) FROM workspaces w WHERE owner_id <> prebuild_system_user()
	AND NOT EXISTS (SELECT FROM workspace_builds b WHERE b.workspace_id = w.id AND b.initiator_id = w.owner_id)}), 0, 'no claim without its build');

done_testing();
