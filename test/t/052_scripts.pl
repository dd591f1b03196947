# Which PostgreSQL the scripts take: the one that is named, else the newest that is installed, else
# the release's own.
use strict;
use warnings;
use File::Path qw(make_path);
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $apt = '';
make_path("$folder/bin");

# What a line of shell says, of the functions in script/common.sh; apt-cache says what $apt has.
sub says
{
	my ($line, %environment) = @_;
	my ($out, $err) = ('', '');

	unlink "$folder/bin/apt-cache";
	append_to_file("$folder/bin/apt-cache", "#!/bin/sh\ncat <<'END'\n${apt}END\n");
	chmod 0755, "$folder/bin/apt-cache";
	local @ENV{ 'PG_CONFIG', 'PATH', keys %environment } = ('', "$folder/bin:$ENV{PATH}", values %environment);
	IPC::Run::run([ 'bash', '-c', ". $project/script/common.sh; $line" ], '<', '/dev/null', '>', \$out, '2>', \$err);
	return $out . $err;
}

# An installed PostgreSQL, or parts of one.
sub install
{
	my ($major, @files) = @_;

	foreach my $file (map { "$folder/lib/$major/$_" } @files)
	{
		make_path($file =~ s{/[^/]*$}{}r);
		append_to_file($file, '');
		chmod 0755, $file;
	}
	return;
}
my @all = ('bin/postgres', 'bin/pg_config', 'lib/pgxs/src/makefiles/pgxs.mk');

is(says('echo $PGMAJOR $PGBIN', PGMAJOR => 16), "16 /usr/lib/postgresql/16/bin\n", 'PGMAJOR names it');
append_to_file("$folder/pg_config", <<'END');
#!/bin/sh
case $1 in
--version) echo 'PostgreSQL 17devel (own)' ;;
--pgxs) echo /own/lib/postgresql/pgxs/src/makefiles/pgxs.mk ;;
*) echo "/own/${1#--}" ;;
esac
END
chmod 0755, "$folder/pg_config";
is(says('echo $PGMAJOR $PGBIN $PGLIB $PGSHARE $PGXSDIR ${BUILD_PACKAGES[*]}', PGMAJOR => 16, PG_CONFIG => "$folder/pg_config"),
	"17 /own/bindir /own/pkglibdir /own/sharedir /own/lib/postgresql/pgxs gcc libc6-dev make uuid-dev\n",
	'PG_CONFIG names any other, for which nothing is installed');
is(says("newest_installed $folder/lib", PGMAJOR => 16), '', 'none may be installed');
install(15, @all);
install(17, @all);
install(18, @all[0, 1]);
install(19, @all);
install(13, @all);
is(says("newest_installed $folder/lib", PGMAJOR => 16), "17\n",
	'the newest of those that are supported and have all that a build takes');

is(says('release_postgresql', PGMAJOR => 16), '', 'apt may know of none');
$apt = "postgresql\n  Depends: postgresql-17\n  Suggests: postgresql-doc\n";
is(says('release_postgresql', PGMAJOR => 16), "17\n", 'what the release brings is what "postgresql" depends on');
$apt = "postgresql\n  Depends: postgresql-18\n |Depends: <postgresql-14>\n";
is(says('newest_installed() { :; }; PGMAJOR=; choose_postgresql; echo $PGMAJOR', PGMAJOR => 16), "18\n",
	'it is taken where none is installed');
is(says('PGMAJOR=; choose_postgresql; echo $PGMAJOR', PGMAJOR => 16),
	says('newest_installed /usr/lib/postgresql', PGMAJOR => 16), 'an installed one goes before it');
$apt = '';
like(says('newest_installed() { :; }; id() { echo 1; }; PGMAJOR=; choose_postgresql', PGMAJOR => 16), qr/set PGMAJOR/,
	'without either the scripts say what to set');

done_testing();
