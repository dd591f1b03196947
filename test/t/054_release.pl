# What script/release refuses, each by itself, and what it makes of a project without faults.
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
my $clone = "$folder/clone";
my $scratch = "$folder/scratch";

# nothing of the machine's configuration, and no editor
@ENV{qw(HOME GIT_CONFIG_NOSYSTEM PREBUILD_SCRATCH GIT_EDITOR)} = ($folder, 1, $scratch, 'false');
@ENV{qw(GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL)} =
  ('Ada', 'ada@example.com', 'Ada', 'ada@example.com');

# The output of a command in the clone, both streams, and whether it succeeded.
sub run_in_clone
{
	my ($out, $ok) = ('');

	$ok = IPC::Run::run(\@_, '<', '/dev/null', '>', \$out, '2>&1', init => sub { chdir $clone or die "chdir: $!" });
	return ($out, $ok);
}

sub git
{
	my ($out, $ok) = run_in_clone('git', @_);

	die "git @_: $out" unless $ok;
	chomp $out;
	return $out;
}

sub overwrite
{
	my ($file, $text) = @_;

	unlink $file;
	append_to_file($file, $text);
	return;
}

# Change a file of the clone by replacing a text that it has.
sub edit
{
	my ($file, $old, $new) = @_;
	my $text = slurp_file("$clone/$file");

	die "$file has no $old" unless $text =~ s/$old/$new/;
	overwrite("$clone/$file", $text);
	return;
}

# As if the whole of script/test had passed on the commit that is checked out.
sub tests_ran
{
	overwrite("$scratch/tested", git('rev-parse', 'HEAD') . "\n");
	return;
}

make_path($clone, $scratch);
system_or_bail('cp', '-R', map({ "$project/$_" } qw(META.json CHANGELOG.md LICENSE Makefile prebuild_ext.control
	debian docs packaging script sql src bench demo)), $clone);
make_path("$clone/test");
git('init', '--quiet', '--initial-branch=main');
my ($version) = slurp_file("$clone/prebuild_ext.control") =~ /^default_version *= *'(.*)'/m;
my $other = "9$version";
my @released = map { /^([0-9.]+) / ? $1 : () } split /\n/, slurp_file("$project/test/releases");

# the history has a commit for each release
my $lines = '';
foreach my $release (@released)
{
	git('commit', '--quiet', '--allow-empty', '--message', $release);
	$lines .= "$release " . git('rev-parse', 'HEAD') . "\n";
}
overwrite("$clone/test/releases", $lines);
edit('CHANGELOG.md', qr/^(## \Q$version\E) \(.*\)$/m, "## $version (2026-12-01)");
edit('debian/changelog', qr/UNRELEASED|unstable/, 'unstable');
git('add', '--all');
git('commit', '--quiet', '--message', 'the release');
my $good = git('rev-parse', 'HEAD');

# Commit a change that spoils the release; it is refused for this reason, and for no other.
sub refuses
{
	my ($name, $reason, $spoil) = @_;

	$spoil->();
	git('add', '--all');
	git('commit', '--quiet', '--allow-empty', '--message', 'spoiled');
	tests_ran();
	refuses_now($name, $reason);
	git('reset', '--quiet', '--hard', $good);
	return;
}

# script/release --tag refuses for the one reason, and makes nothing.
sub refuses_now
{
	my ($name, $reason) = @_;
	my ($out, $ok) = run_in_clone("$clone/script/release", '--tag');

	ok(!$ok && $out =~ /\Ano release of [0-9.]+:\n  $reason[^\n]*\n\z/, $name) or diag($out);
	is(git('tag') . (-e "$scratch/release" ? 'archives' : ''), '', '... and makes nothing');
	return;
}

refuses('a changelog of another version', qr/CHANGELOG.md: says version \Q$other\E/,
	sub { edit('CHANGELOG.md', qr/^## \Q$version\E /m, "## $other ") });
refuses('a changelog that is in progress', qr/CHANGELOG.md: the entry of \Q$version\E has no date/,
	sub { edit('CHANGELOG.md', '2026-12-01', 'in progress') });
refuses('a release of the changelog that test/releases does not list', qr/test\/releases: lists/,
	sub { append_to_file("$clone/CHANGELOG.md", "\n## 0.0.9 (2020-01-01)\n") });
refuses('a META.json of another version', qr/META.json: says version 9.9.9/,
	sub { edit('META.json', qr/^   "version": "[0-9.]*"/m, '   "version": "9.9.9"') });
refuses('a META.json that provides another version', qr/META.json: says version 9.9.9/,
	sub { edit('META.json', qr/^         "version": "[0-9.]*"/m, '         "version": "9.9.9"') });
refuses('a META.json that is not valid', qr/\S*META.json: license: must be one of/,
	sub { edit('META.json', '"postgresql"', '"mine"') });
refuses('a package of another version', qr/debian\/changelog: says version \Q$other\E/,
	sub { edit('debian/changelog', qr/\(\Q$version\E-/, "($other-") });
refuses('a package that is UNRELEASED', qr/debian\/changelog: the entry of \Q$version\E is UNRELEASED/,
	sub { edit('debian/changelog', 'unstable', 'UNRELEASED') });
refuses('a debian/control that is not what control.in gives', qr/debian\/control: is not what debian\/control.in gives/,
	sub { edit('debian/control.in', 'uuid-dev', 'uuid-dev, cmake') });
refuses('an image of another version', qr/packaging\/Dockerfile: does not name version/,
	sub { edit('packaging/Dockerfile', ":\Q$version\E-", ":$other-") });
refuses('a cluster of another version', qr/packaging\/cluster.yaml: does not name version/,
	sub { edit('packaging/cluster.yaml', qr/version: "\Q$version\E"/, "version: \"$other\"") });
refuses("no upgrade from $_", qr/sql\/releases: has no upgrade from \Q$_\E to \Q$version\E/,
	sub { unlink glob("$clone/sql/releases/prebuild_ext--$_--*.sql") }) foreach $released[-1];
refuses("no install script of $_", qr/sql\/releases: has no install script of \Q$_\E/,
	sub { unlink "$clone/sql/releases/prebuild_ext--$_.sql" or die }) foreach @released;
refuses('a copy of its own install script', qr/sql\/releases: has the install script of \Q$version\E/,
	sub { append_to_file("$clone/sql/releases/prebuild_ext--$version.sql", '') });
refuses('a commit of a release that is not in the history', qr/test\/releases: 0{40}, which is \Q$released[-1]\E, is not/,
	sub { edit('test/releases', qr/[0-9a-f]{40}\n\z/, '0' x 40 . "\n") });

# a control file of another version disagrees with everything
edit('prebuild_ext.control', qr/'\Q$version\E'/, "'$other'");
git('commit', '--quiet', '--all', '--message', 'spoiled');
tests_ran();
my ($out, $ok) = run_in_clone("$clone/script/release");
foreach my $file (qw(CHANGELOG.md META.json debian/changelog packaging/Dockerfile packaging/cluster.yaml sql/releases))
{
	like($out, qr/^  \Q$file\E: /m, "another control file disagrees with $file");
}
ok(!$ok, '... which is refused');
git('reset', '--quiet', '--hard', $good);

# an upgrade may lead over another version
system_or_bail('cp', "$clone/sql/releases/prebuild_ext--$released[-1]--$version.sql", "$clone/sql/releases/prebuild_ext--0.1.5--$version.sql");
rename "$clone/sql/releases/prebuild_ext--$released[-1]--$version.sql", "$clone/sql/releases/prebuild_ext--$released[-1]--0.1.5.sql" or die;
($out, $ok) = run_in_clone("$clone/script/check-versions", '--release');
ok($ok, 'an upgrade over another version is one') or diag($out);
git('reset', '--quiet', '--hard', $good);
git('clean', '--quiet', '--force');

tests_ran();
append_to_file("$clone/src/more.c", '');
refuses_now('a file that git does not know', qr/not committed: src\/more.c/);
unlink "$clone/src/more.c";
edit('LICENSE', 'PostgreSQL', 'Other');
refuses_now('a change that is not committed', qr/not committed: LICENSE/);
git('reset', '--quiet', '--hard', $good);
unlink "$scratch/tested";
refuses_now('tests that nobody ran', qr/the tests were not run: script\/test passed last on no commit/);
overwrite("$scratch/tested", '0' x 40 . "\n");
refuses_now('tests that passed on another commit', qr/the tests were not run: script\/test passed last on 0{40}/);
tests_ran();
git('tag', "v$version");
($out, $ok) = run_in_clone("$clone/script/release", '--tag');
ok(!$ok && $out =~ /\A[^\n]*\n  the tag v\Q$version\E exists\n\z/, 'a tag that exists') or diag($out);
git('tag', '--delete', "v$version");
($out, $ok) = run_in_clone("$clone/script/release", '--now');
ok(!$ok && $out =~ /usage:/, 'an option that there is not');

# without faults
($out, $ok) = run_in_clone("$clone/script/release");
ok($ok && $out =~ /\A\Q$version\E can be released/ && $out =~ /tags \Q$good\E as v\Q$version\E/, 'the plan') or diag($out);
is(git('tag'), '', 'the plan makes nothing');
($out, $ok) = run_in_clone("$clone/script/release", '--tag');
ok($ok, 'the release') or diag($out);
is(git('rev-parse', "v$version^{commit}"), $good, 'the tag is of the commit');
like(git('for-each-ref', '--format=%(objecttype) %(contents)', "refs/tags/v$version"),
	qr/\Atag prebuild_ext \Q$version\E\n\nSigned-off-by: Ada <ada\@example.com>\n*\z/, 'it is signed off');
is(git('status', '--porcelain'), '', 'the clone is as it was');
my ($names, $listed) = run_in_clone('tar', '-tzf', "$scratch/release/prebuild_ext-$version.tar.gz");
is(join("\n", sort map { m{^prebuild_ext-\Q$version\E/(.*[^/])$} ? $1 : () } split /\n/, $names),
	join("\n", sort split /\n/, git('ls-files')), 'the tarball has all files of the commit, in one folder');
ok((grep { /^prebuild_ext-[0-9]+\.[0-9]+\.[0-9]+\.zip$/ } slurp_dir("$scratch/release")) == 1, 'PGXN gets a zip');

done_testing();
