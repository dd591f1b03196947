# Every command of the documents, run in order on a server as Debian sets it up, and every output
# that they show.
#
# A fenced block of sql, sh, python, go or js is run; a block "output" after it is what it prints,
# where a line "..." stands for any lines. Comments before a block say more:
#
#	<!-- not run: REASON -->				the next block is not
#	<!-- run: database=D role=R -->			where blocks are run from here on, to the document's end; with at=TIME,
#											as if it were that time
#	<!-- printed by: QUERY -->				the next block is not run, it is what the query prints
#	<!-- until the output is as shown -->	the next block is tried again for a while
#	<!-- undone -->							the next block, of SQL, is run in a transaction that is rolled back
#	<!-- with NAME=QUERY -->				a psql variable for the next block
#
# The test simulates commands that would change the machine: it looks packages up, copies instead of
# cloning, runs make with --dry-run, and makes its own cluster. It runs Python if psycopg is installed,
# and Go and Node if they are.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep);

my $folder = PostgreSQL::Test::Utils::tempdir;
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $node = new_server('documents', "listen_addresses = 'localhost'");
my ($major) = $node->safe_psql('postgres', 'SHOW server_version') =~ /^(\d+)/;

# Debian's way in: by the name of the system's user, or by a password
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n"
	  . "host all all ::1/128 scram-sha-256\n");
$node->reload;

# what a reader's machine is called, and what it is here
my %here = (
	'/etc/postgresql/$PGMAJOR/main/conf.d' => $node->data_dir . '/conf.d',
	'/usr/local/src' => "$folder/src",
	'PGMAJOR=15 ' => "PGMAJOR=$major ",
	'localhost:5432' => 'localhost:' . $node->port,
	'localhost:9187' => "localhost:$port",
	'/tmp' => "$folder/work");
my $reader = join '|', map { quotemeta } keys %here;

mkdir "$folder/$_" foreach qw(bin src work);
my $data = $node->data_dir;
mkdir "$data/conf.d";
$node->append_conf('postgresql.conf', "include_dir = 'conf.d'");
my $log = $node->logfile;
my %played = (
	'apt-get' => q{for package; do case $package in -*|install|update) ;;
		*) dpkg-query -W "$package" || apt-cache show "$package" || exit 1 ;; esac; done > /dev/null},
	git => qq{test "\$1 \$2" = "clone the-address" && cp -R "$project" "\$3"},
	make => q{exec /usr/bin/make -n "$@" > /dev/null},
	pg_ctlcluster => qq{test "\$1 \$2 \$3" = "$major main restart" && pg_ctl -D $data -l $log -s -w restart});
foreach my $program (keys %played)
{
	append_to_file("$folder/bin/$program", "#!/bin/bash\n$played{$program}\n");
	chmod 0755, "$folder/bin/$program";
}
$ENV{PATH} = "$folder/bin:$ENV{PATH}";
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{REPOSITORY} = 'the-address';
@ENV{qw(HOME GOPATH)} = ($folder, "$folder/go");
$ENV{GOCACHE} //= "$folder/go-cache";
delete @ENV{qw(PGDATABASE PGUSER PGAPPNAME)};

# A fleet, its extension taken off.
new_control_plane($node, 'fleet');
$node->safe_psql('fleet', slurp_file("$FindBin::Bin/../fixture/documents.sql"));
$node->safe_psql('fleet', 'DROP EXTENSION prebuild_ext');

# What a document finds: a database of Coder's, as good as new, and, but for the README that makes
# it, the control plane with the README's first preset.
$node->safe_psql('postgres', 'CREATE ROLE coder LOGIN');

# A control plane with four months of demand, by a formula, as the tables have it; and passes that have read it.
sub make_past
{
	my ($database) = @_;

	new_control_plane($node, $database);
	$node->safe_psql($database, 'SET search_path = public, fixture;' . slurp_file("$FindBin::Bin/../fixture/asked.sql") . q{
		SELECT fixture.pin(), fixture.simple('busy', 14, 86400), fixture.preset('busy-v1', 'rare', 0, 0, 'Europe/Berlin'), fixture.simple('gone', 3);
		SELECT fixture.asked('busy', fixture.office_hours(120, 540, 547, 1) || fixture.office_hours(120, 560, 1000, 20)),
			fixture.asked('rare', fixture.office_hours(120, 480, 900, 210)),
			fixture.asked('gone', fixture.office_hours(120, 540, 900, 30, fixture.t0() - interval '20 days')),
			fixture.built('busy', 240, fixture.office_hours(120, 540, 540, 5))});
	$node->safe_psql($database, 'SELECT prebuild_reconcile(fixture.t0())') for 1 .. 4;
	return;
}

sub prepare
{
	my ($name) = @_;

	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS coder WITH (FORCE)');
	$node->safe_psql('postgres', 'CREATE DATABASE coder OWNER coder');
	$node->safe_psql('coder', q{CREATE EXTENSION prebuild_ext SCHEMA public;
		GRANT EXECUTE ON FUNCTION prebuild_create_control_plane, prebuild_system_user TO coder; SET ROLE coder;
		SELECT prebuild_create_control_plane()});
	load_fixture($node, 'coder');
	$node->safe_psql('coder', q{SELECT fixture.simple('go-service', 2, preset_name => 'Europe'), fixture.usr('ada');
		GRANT USAGE ON SCHEMA fixture TO coder; DROP EXTENSION prebuild_ext});
	return if $name eq 'README.md';
	make_past('sized') if $name eq 'docs/sizing.md';
	$node->safe_psql('controlplane', q{CREATE EXTENSION IF NOT EXISTS prebuild_ext;
		SELECT prebuild_grant('controlplane', owner => true)});
	# a version that can be staged
	$node->safe_psql('controlplane', q{
		INSERT INTO template_versions (id, template_id, organization_id, name, readme, job_id, created_by, created_at, updated_at)
		SELECT gen_random_uuid(), template_id, organization_id, 'v2', '', job_id, created_by, now(), now()
		FROM template_versions WHERE name = 'v1';
		INSERT INTO template_version_presets (id, template_version_id, name, desired_instances)
		SELECT gen_random_uuid(), id, 'small', 2 FROM template_versions WHERE name = 'v2'}) if $name eq 'docs/staging.md';
	return;
}

# The blocks of a document, in order: language, lines, line number, and what the comments say.
sub blocks_of
{
	my ($name) = @_;
	my (@blocks, $block, %next, $fence);
	my %place = (database => 'controlplane');
	my $number = 0;

	foreach my $line (split /\n/, slurp_file("$project/$name"))
	{
		$number++;
		if ($block)
		{
			if ($line =~ /^\s*\Q$fence\E\s*$/)
			{
				$block = undef;
				next;
			}
			$line = substr $line, length $block->{indent} if $line =~ /^\Q$block->{indent}\E/;
			$block->{text} .= "$line\n";
		}
		elsif ($line =~ /^<!-- not run: (.*) -->$/) { $next{not_run} = $1; }
		elsif ($line =~ /^<!-- run: (.*) -->$/) { %place = map { split /=/, $_, 2 } split ' ', $1; }
		elsif ($line =~ /^<!-- printed by: (.*) -->$/) { $next{printed_by} = $1; }
		elsif ($line =~ /^<!-- until the output is as shown -->$/) { $next{retry} = 1; }
		elsif ($line =~ /^<!-- undone -->$/) { $next{undone} = 1; }
		elsif ($line =~ /^<!-- with (\w+)=(.*) -->$/) { $next{variables}{$1} = $2; }
		elsif ($line =~ /^<!--/) { fail("$name:$number: a comment that is not understood: $line"); }
		elsif ($line =~ /^(\s*)(```+)(\w*)\s*$/)
		{
			$fence = $2;
			$block = { where => "$name:$number", indent => $1, language => $3, text => '', %place, %next };
			%next = ();
			if ($3 eq 'output' && @blocks && $blocks[-1]{language} ne 'text' && !exists $blocks[-1]{output})
			{
				$blocks[-1]{output} = '';
				$block = { indent => $1, text => '' };
				$blocks[-1]{shown} = $block;
				next;
			}
			push @blocks, $block;
		}
	}
	return @blocks;
}

# What differs from run to run, and what psql says of a command without rows.
sub normalized
{
	my ($text) = @_;

	$text =~ s/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/an id/g;
	$text =~ s/\bprebuild-[a-z2-7]{15}\b/prebuild-name/g;
	$text =~ s/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+\d\d/a time/g;
	return join "\n", grep { !/^\s*$|^[A-Z][A-Z ]+(?: \d+)*$/ } map { s/\s+$//r } split /\n/, $text;
}

# True where the text is the one that is shown.
sub is_as_shown
{
	my ($text, $shown) = @_;
	my $pattern = join '', map { $_ eq '...' ? '(?:.*\n)*?' : quotemeta($_) . '\n' } split /\n/, normalized($shown);

	return (normalized($text) . "\n") =~ /\A$pattern\z/;
}

# Run a command; its standard output, and a word on what went wrong, if anything did.
sub run_program
{
	my ($command, %environment) = @_;
	local @ENV{ keys %environment } = values %environment;
	my ($out, $err) = ('', '');
	# the first program in Go compiles its driver, which a busy machine takes minutes for
	my $done = eval {
		IPC::Run::run($command, '<', '/dev/null', '>', \$out, '2>', \$err, IPC::Run::timeout(600));
	};
	my $wrong = !$done || $err =~ /WARNING|ERROR/ ? "$err$out" . ($@ // '') : undef;

	$wrong = 'failed without a word' if !$done && !$wrong;
	return ($out, $wrong, $err);
}

# Run blocks of SQL, all in one session; puts each one's output into it.
sub run_sql
{
	my @blocks = @_;
	my $file = "$folder/work/block.sql";
	my $script = '';
	my @variables;

	foreach my $block (@blocks)
	{
		while (my ($name, $query) = each %{ $block->{variables} // {} })
		{
			$script .= "SELECT ($query) AS $name \\gset\n";
		}
		my ($before, $after) = $block->{undone} ? ("BEGIN;\n", "ROLLBACK;\n") : ('', '');
		$script .= "\\echo >>> $block->{where}\n$before$block->{text}\n$after";
	}
	unlink $file;
	append_to_file($file, $script);
	my ($out, $wrong) = run_program(
		[ 'bash', '-c', "$blocks[0]{cd} exec psql -X -v ON_ERROR_STOP=1 -d $blocks[0]{database} -f $file" ],
		PGOPTIONS => $blocks[0]{role} ? "-c role=$blocks[0]{role}" : '');
	my %output = $out =~ /^>>> (\S+)\n(.*?)(?=^>>> |\z)/gms;
	foreach my $block (@blocks)
	{
		$block->{printed} = $output{ $block->{where} };
	}
	return $wrong;
}

# Whether a program runs at all here.
sub there_is
{
	my (@command) = @_;

	return (run_program(\@command))[1] ? 0 : 1;
}
my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my %missing = (
	python => there_is($python, '-c', 'import psycopg') ? undef : 'no psycopg on this machine',
	go => there_is('go', 'version') ? undef : 'no go on this machine',
	js => there_is('node', '--version') ? undef : 'no node on this machine');
my %runner = (python => [ $python, 'py' ], go => [ 'go', 'run', 'go' ], js => [ 'node', 'js' ]);

# Check what a block has printed.
sub check
{
	my ($block, $wrong) = @_;

	if (defined $wrong)
	{
		fail("$block->{where} ($block->{language}) runs");
		diag($wrong);
	}
	elsif ($block->{shown} && !is_as_shown($block->{printed}, $block->{shown}{text}))
	{
		fail("$block->{where} ($block->{language}) prints what the document shows");
		diag("printed:\n$block->{printed}\nshown:\n$block->{shown}{text}");
	}
	else
	{
		pass("$block->{where} ($block->{language}) runs" . ($block->{shown} ? ' and prints what is shown' : ''));
	}
	return;
}

# The text of a block, as if it were the time that its place says.
sub at_time
{
	my ($block, $text) = @_;
	my $at = $block->{at} // return $text;

	$text =~ s/\b(prebuild_\w+)\(\)/$1('$at')/g;
	$text =~ s/\bnow\(\)/'$at'::timestamptz/g;
	$text =~ s{^(script/sizing-report) -d controlplane}{$1 -d $block->{database} --to '$at'}mg;
	return $text;
}

# Run a document's blocks.
sub run_document
{
	my ($name) = @_;
	my $state = "$folder/work/state";
	my $cd = "cd $folder/src/prebuild_ext;";
	my @blocks = blocks_of($name);

	# each document begins in the clone, once there is one
	append_to_file($state, -d "$folder/src/prebuild_ext" ? "$cd\n" : "export PGMAJOR=$major\n");
	while (my $block = shift @blocks)
	{
		my $language = $block->{language};
		my ($wrong, $printed);

		if ($block->{not_run} || $missing{$language} // '')
		{
			note("not run: $block->{where}: " . ($block->{not_run} // $missing{$language}));
			next;
		}
		next if $language eq 'text';
		$block->{text} = at_time($block, $block->{text});
		if ($block->{printed_by})
		{
			$block->{shown} = { text => $block->{text} };
			($block->{printed}, $wrong) = run_program(
				[ 'psql', '-XAt', '-v', 'ON_ERROR_STOP=1', '-d', $block->{database}, '-c', at_time($block, $block->{printed_by}) ]);
			check($block, $wrong);
			next;
		}
		if ($block->{text} =~ /sizing-report/ && !there_is('/usr/bin/python3', '-c', 'import matplotlib'))
		{
			note("not run: $block->{where}: no matplotlib on this machine");
			next;
		}
		$_ = s/($reader)/$here{$1}/gr foreach $block->{text}, $block->{shown} ? $block->{shown}{text} : ();
		$block->{cd} = -d "$folder/src/prebuild_ext" ? $cd : "cd $folder;";
		if ($language eq 'sql')
		{
			my @group = ($block);
			push @group, shift @blocks
			  while !$block->{retry} && @blocks && $blocks[0]{language} eq 'sql' && !$blocks[0]{not_run}
			  && !$blocks[0]{retry} && $blocks[0]{database} eq $block->{database}
			  && ($blocks[0]{role} // '') eq ($block->{role} // '');
			for my $try (1 .. $block->{retry} ? 300 : 1)
			{
				sleep 0.3 if $try > 1;
				$wrong = run_sql(@group);
				last if !$block->{retry} || !defined $wrong && is_as_shown($block->{printed}, $block->{shown}{text});
			}
			my $reached = grep { defined $_->{printed} } @group;
			check($group[$_], $_ == $reached - 1 || $_ >= $reached ? $wrong : undef) foreach 0 .. $#group;
		}
		elsif ($language eq 'sh')
		{
			my $script = ". $state\n$block->{text}\nkill \$(jobs -p) 2> /dev/null || true\n"
			  . "{ export -p; echo \"cd '\$PWD'\"; } > $state\n";
			($block->{printed}, $wrong) = run_program([ 'bash', '-euo', 'pipefail', '-c', $script ]);
			check($block, $wrong);
		}
		elsif ($runner{$language})
		{
			my @command = @{ $runner{$language} };
			my $file = "$folder/work/program." . pop @command;
			unlink $file;
			append_to_file($file, $block->{text});
			($block->{printed}, $wrong) = run_program([ @command, $file ]);
			check($block, $wrong);
		}
		else
		{
			fail("$block->{where}: a block of \"$language\" is neither run nor marked as not run");
		}
	}
	return;
}

my @documents = ('README.md', map { s{^\Q$project\E/}{}r } sort glob("$project/docs/*.md $project/*/README.md"),
	'CONTRIBUTING.md');
cmp_ok(-s "$project/README.md", '<', 15000, 'README.md is under 15 kB');
# the commands are for a server of Debian's packages
if (there_is("$folder/bin/apt-get", 'install', "postgresql-$major"))
{
	foreach my $name (@documents)
	{
		prepare($name);
		run_document($name);
	}
}
else
{
	note("not run: the commands of the documents, as there is no package postgresql-$major, on this machine");
}

# links between the documents lead somewhere
my %anchors;
foreach my $name (@documents)
{
	my $text = slurp_file("$project/$name") =~ s/^```.*?^```//gmsr;
	$anchors{$name} = { map { lc($_) =~ s/[^\w\- ]//gr =~ s/ /-/gr => 1 } $text =~ /^#+ (.*)$/mg };
}
foreach my $name (@documents)
{
	my ($dir) = $name =~ m{^(.*/)?[^/]*$};
	my @broken;
	foreach my $link (slurp_file("$project/$name") =~ /\]\(([^)]+)\)/g)
	{
		next if $link =~ /^https?:/;
		my ($file, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $file eq '' ? $name : ($dir // '') . $file;
		1 while $target =~ s{(^|/)(?!\.\./)[^/]+/\.\./}{$1};
		push @broken, $link
		  if !-e "$project/$target" || defined $anchor && $anchors{$target} && !$anchors{$target}{$anchor};
	}
	is("@broken", '', "links of $name lead somewhere");
}

# the reference has every function, view and table, and no other
my $reference = slurp_file("$project/docs/reference.md");
my %described = map { $_ => 1 } map { /`(prebuild_\w+)/g } grep { /^\|/ } split /\n/, $reference;
my $objects = q{SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
	WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'prebuild_ext')
	UNION SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	WHERE c.relkind IN ('r', 'v') AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'prebuild_ext') ORDER BY 1};
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'prebuild_ext'");
unlink "$data/conf.d/prebuild.conf";
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE catalog');
$node->safe_psql('catalog', 'CREATE EXTENSION prebuild_ext');
my @objects = split /\n/, $node->safe_psql('catalog', $objects);
is_deeply([ grep { !$described{$_} } @objects ], [], 'the reference has every function, table and view');
my %is_object = map { $_ => 1 } @objects;
is_deeply([ grep { !$is_object{$_} && !/^prebuild_(?:ext|events)/ } sort keys %described ], [], 'and none that is not there');

$node->stop;
done_testing();
