# What the tests of upgrades share: earlier releases with their libraries, and servers whose library
# can be another one.
package ReleaseTest;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(releases release_library new_library server_tree node_of_tree install_library
  catalog catalog_differences);

my $here = dirname(abs_path(__FILE__));

# The versions of the releases, the oldest first.
sub releases
{
	my @versions = map { /^([0-9.]+) / ? $1 : () } split /\n/, slurp_file("$here/../releases");

	@versions or die 'no releases';
	return @versions;
}

# The library of a release, which script/test has built.
sub release_library
{
	my ($version) = @_;
	my $library = "$ENV{PREBUILD_RELEASES}/$version/prebuild_ext.so";

	-e $library or die "there is no library of release $version: $library";
	return $library;
}

# The library of the sources as they are.
sub new_library
{
	my $folder = `pg_config --pkglibdir`;

	chomp $folder;
	return "$folder/prebuild_ext.so";
}

# A node that runs the programs of a tree. The test library of PostgreSQL 14 has another constructor for it.
sub node_of_tree
{
	my ($name, $tree) = @_;
	my $constructor = PostgreSQL::Test::Cluster->can('get_new_node') ? 'get_new_node' : 'new';

	return PostgreSQL::Test::Cluster->$constructor($name, install_path => $tree);
}

# A copy of the server's programs and libraries, in which the library can be changed while its scripts
# are those of today. The result is for node_of_tree().
sub server_tree
{
	my $tree = PostgreSQL::Test::Utils::tempdir;
	my $bin = `pg_config --bindir`;

	chomp $bin;
	my ($place) = $bin =~ m{^\Q$ENV{PREBUILD_SERVER}\E(/.*)/bin$}
	  or die "the server is not in $ENV{PREBUILD_SERVER} but in $bin";
	system_or_bail('cp', '-R', "$ENV{PREBUILD_SERVER}/.", $tree);
	return "$tree$place";
}

# Install a library into such a tree, as make install does: a server that runs keeps the old file.
sub install_library
{
	my ($tree, $library) = @_;

	my $folder = `$tree/bin/pg_config --pkglibdir`;

	chomp $folder;
	unlink "$folder/prebuild_ext.so";
	system_or_bail('cp', $library, "$folder/prebuild_ext.so");
	return;
}

# All of the extension in a database, as lines.
sub catalog
{
	my ($node, $database) = @_;

	return split /\n/, $node->safe_psql($database, slurp_file("$here/catalog.sql"));
}

# What differs between two of these, as a text; empty when nothing does.
sub catalog_differences
{
	my ($left_name, $left, $right_name, $right) = @_;
	my %left = map { $_ => 1 } @$left;
	my %right = map { $_ => 1 } @$right;

	return join "\n", sort { substr($a, index($a, ':')) cmp substr($b, index($b, ':')) }
	  (map { "only $left_name: $_" } grep { !$right{$_} } @$left),
	  (map { "only $right_name: $_" } grep { !$left{$_} } @$right);
}

1;
