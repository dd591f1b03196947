# An upgraded extension equals a fresh one in every object and right. A later script does not change
# what libraries of other versions depend on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use ReleaseTest;
use Test::More;

my $node = new_server('upgrade');
my @versions = releases();
my $today = $node->safe_psql('postgres',
	q{SELECT default_version FROM pg_available_extensions WHERE name = 'prebuild_ext'});
is( $node->safe_psql('postgres', q{SELECT string_agg(version, ' ' ORDER BY string_to_array(version, '.')::int[])
	FROM pg_available_extension_versions WHERE name = 'prebuild_ext'}),
	join(' ', @versions, $today), 'there is a script for each release and for today');

# Create the extension in a database of its own.
sub create
{
	my ($database, $schema, $version) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE SCHEMA IF NOT EXISTS $schema;
		CREATE EXTENSION prebuild_ext SCHEMA $schema" . ($version ? " VERSION '$version'" : ''));
	return;
}

my $databases = 0;
my $first_fresh;
foreach my $schema ('public', '"A schema, quoted"')
{
	my $fresh = 'fresh' . $databases++;

	create($fresh, $schema);
	my @fresh = catalog($node, $fresh);
	cmp_ok(scalar @fresh, '>', 500, "a fresh one in $schema has some lines");
	$first_fresh //= [@fresh];
	is(catalog_differences('in public', $first_fresh, 'there', \@fresh), '', 'which do not depend on the schema');
	foreach my $version (@versions)
	{
		my $database = 'upgraded' . $databases++;

		create($database, $schema, $version);
		isnt(catalog_differences('fresh', \@fresh, $version, [ catalog($node, $database) ]),
			'', "$version differs from a fresh one") if $version eq $versions[0];
		$node->safe_psql($database, 'ALTER EXTENSION prebuild_ext UPDATE');
		is(catalog_differences('fresh', \@fresh, 'upgraded', [ catalog($node, $database) ]),
			'', "$version upgraded is the same as a fresh one in $schema");
		is( $node->safe_psql($database, q{SELECT extversion FROM pg_extension WHERE extname = 'prebuild_ext'}),
			$today, "and is $today");

		# dumped and restored it is the same, and its dump too
		my $folder = PostgreSQL::Test::Utils::tempdir;
		$node->command_ok([ 'pg_dump', '-f', "$folder/dump", $database ], 'it is dumped');
		$node->safe_psql('postgres', "CREATE DATABASE copy_$database TEMPLATE template0");
		$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', "$folder/dump", '-d', "copy_$database" ],
			'and restored');
		is(catalog_differences('fresh', \@fresh, 'restored', [ catalog($node, "copy_$database") ]),
			'', 'and is the same again');
		$node->command_ok([ 'pg_dump', '-f', "$folder/again", "copy_$database" ], 'it is dumped again');
		my ($first, $second) = map { s/^\\(un)?restrict .*$//mgr } slurp_file("$folder/dump"), slurp_file("$folder/again");
		is($second, $first, 'to the same text');
	}
}

# What a script calls by a C name has the arguments and the result that the libraries of all releases
# give it under that name. A row may get columns at its end; but the library of 0.1 builds most rows
# without checking their columns, and would read past its arrays. Such a function needs another name
# (see result_row.h).
my $functions = q{
	SELECT p.prosrc || ' ' || concat_ws(' ', oidvectortypes(p.proargtypes), p.prorettype::regtype, p.proretset),
		p.prosrc, p.prorettype::regtype, (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
			FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid WHERE t.oid = p.prorettype AND a.attnum > 0)
	FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'c'
	WHERE p.probin ~ 'prebuild_ext' ORDER BY 1};
my %today = map { my @f = split /\|/, $_; ($f[1] => \@f) } split /\n/, $node->safe_psql('fresh0', $functions);
foreach my $version (@versions)
{
	my $database = "old$databases";
	my (@changed, @grown, @lost);

	$databases++;
	create($database, 'public', $version);
	foreach my $line (split /\n/, $node->safe_psql($database, $functions))
	{
		my ($signature, $name, $type, $columns) = split /\|/, $line;
		my $now = $today{$name} or next;

		push @changed, "$signature is now $now->[0]" if $signature ne $now->[0];
		next unless $columns;
		push @lost, "$type has ($columns), now ($now->[3])" if index("$now->[3],", "$columns,") != 0;
		push @grown, "$type of $name" if $now->[3] ne $columns;
	}
	is(join("\n", @changed), '', "no function of $version has other arguments or another result by its old C name");
	is(join("\n", @lost), '', "no row of $version has lost columns");
	is(join("\n", @grown), '', "no function of $version has a row that has grown by its old C name") if $version eq '0.1';
}
my $log_columns = q{SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = 'prebuild_pool_log'::regclass AND attnum > 0};
my $member_columns = $log_columns =~ s/prebuild_pool_log/prebuild_pool_state/r;
my $first_old = $databases - @versions;
is($node->safe_psql('fresh0', $log_columns), $node->safe_psql("old$first_old", $log_columns),
	'nor has the log, which the triggers of 0.1 write by position');
my ($members_were, $members_are) = map { $node->safe_psql($_, $member_columns) } "old$first_old", 'fresh0';
is(substr($members_are, 0, length $members_were), $members_were, 'and members have new columns at their end only');

$node->stop;
done_testing();
