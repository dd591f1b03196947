# The documents agree with the settings and functions that exist.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

# preloaded, as some settings are defined there only
my $node = new_server('documents', "shared_preload_libraries = 'prebuild_ext'");
my $database = new_control_plane($node, 'plane');
my %documents = map { $_ => slurp_file("$project/$_") }
  map { s{^\Q$project\E/}{}r } glob("$project/*.md $project/docs/*.md $project/*/README.md");
my $reference = $documents{'docs/reference.md'};

sub sql { return $node->safe_psql($database, $_[0]); }

# settings: one table, each with its default, and who may change it
my ($settings) = $reference =~ /^## Settings\n\n(.*?)\n## /ms;
my ($table) = $settings =~ /\A((?:\|.*\n)+)/;
my %documented = map { /^\| `(prebuild\.\w+)` \| (?:`([^`]*)`)? ?\|/ ? ($1 => $2 // '') : () } split /\n/, $table;
my %there = map { split /\|/, $_, 2 } split /\n/, sql(q{
	SELECT name || '|' || current_setting(name) FROM pg_settings WHERE name ~ '^prebuild\.'});
is(join("\n", map { "$_ $documented{$_}" } sort keys %documented),
	join("\n", map { "$_ $there{$_}" } sort keys %there), 'the table has every setting with its default');
my $others = $settings =~ s/\A\Q$table\E//r;
my %contexts = (superuser => qr/Only a superuser may set ([^.]|\.(?=\w))*/, sighup => qr/[^.]*server's alone: .* take a reload/,
	postmaster => qr/take a reload, .* a restart/);
foreach my $context (sort keys %contexts)
{
	my ($sentence) = $others =~ /($contexts{$context})/;

	is(join(' ', sort(($sentence // '') =~ /`(prebuild\.\w+)`/g)),
		sql(qq{SELECT string_agg(name, ' ' ORDER BY name) FROM pg_settings WHERE name ~ '^prebuild[.]' AND context = '$context'}),
		"who may change settings: $context");
}
is(sql(q{SELECT string_agg(name, ' ') FROM pg_settings WHERE name ~ '^prebuild\.' AND context NOT IN ('user', 'superuser', 'sighup', 'postmaster')}),
	'', 'nobody else');

# functions, with their arguments and defaults
my ($functions) = $reference =~ /^## Functions\n\n(.*?)\n## /ms;
my @functions = split /\n/, sql(q{
	SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')', p.prorettype = 'trigger'::regtype FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'prebuild_ext' ORDER BY 1});
my (@missing, @wrong, %names);
foreach (@functions)
{
	my ($name, $arguments, $trigger) = /^(\w+)\((.*)\)\|([tf])$/;

	$names{$name} = 1;
	# those under views are called through these
	next if $trigger eq 't' || $name =~ /_stats_read$|_status_read$/;
	my ($said) = $functions =~ /`\Q$name\E\(([^)]*(?:\(\)[^)]*)?)\)`/;
	if (!defined $said)
	{
		push @missing, $name;
		next;
	}
	my $short = join ', ', map { /^(\w+) .*? DEFAULT (.*?)(?:::[\w ]+(?:\[\])?)?$/ ? "$1 = $2" : /^(\w+)/ ? $1 : $_ } split /, /, $arguments;
	my $types = $arguments =~ s/\w+ //r;
	my $array = join ', ', map { /^(\w+) .*\[\]$/ ? "$1\[\]" : /^(\w+)/ ? $1 : $_ } split /, /, $arguments;
	push @wrong, "$name($said), not $name($short)" unless grep { lc $said eq lc $_ } $short, $types, $array;
}
is(join(' ', @missing), '', 'the table has every function');
is(join("\n", @wrong), '', 'with its arguments and their defaults');

# the columns of their rows, where they are listed
my %columns = map { split /\|/, $_, 2 } split /\n/, sql(q{
	SELECT p.proname, string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_proc p
	JOIN pg_type t ON t.oid = p.prorettype JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
	WHERE p.proname ~ '^prebuild_' GROUP BY p.oid, p.proname});
my ($lists, @unlike) = (0);
foreach my $line (split /\n/, $functions)
{
	my %rows = map { $_ => 1 } grep { defined } map { $columns{$_} } $line =~ /`(\w+)\(/g;

	foreach my $list ($line =~ /`(\w+(?:, \w+)+)`/g)
	{
		$lists++;
		push @unlike, $list unless $rows{$list};
	}
}
is(join("\n", @unlike), '', 'columns are listed as they are');
cmp_ok($lists, '>', 8, 'where they are');

# all names of ours that a document has are there
my %known = (%names, map { $_ => 1 } split(/\n/, sql(q{
	SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	UNION ALL SELECT t.typname FROM pg_type t JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'})),
	# the extension, its channel, the job of pg_cron and the role that scrapes
	qw(prebuild_ext prebuild_events prebuild_scraper prebuild_monitoring));
# what Coder calls so in its tables and messages
my %of_coder = map { $_ => 1 } qw(prebuild_status prebuild_claimed prebuild_claimed_);
foreach my $document (sort keys %documents)
{
	my %unknown = map { $_ => 1 } grep { !$known{$_} && !$of_coder{$_} } grep { !/^prebuild_ext_/ }
	  map { s/_0_\d+$//r } $documents{$document} =~ /\b(prebuild_\w+)/g;

	is(join(' ', sort keys %unknown), '', "$document: every name is there");
	my %settings = map { $_ => 1 } grep { !exists $there{$_} && !/^prebuild\.(?:prom|conf)$/ } $documents{$document} =~ /\b(prebuild\.[a-z]\w+)\b(?!\.|-)(?! ?\()/g;
	delete @settings{grep { $names{s/^prebuild\.//r} } keys %settings};
	# builds with assertions have it alone
	delete $settings{'prebuild.inject_fault'};
	is(join(' ', sort keys %settings), '', "$document: every setting is there");
}

# those that everybody may call
my ($pure) = $reference =~ /No function is executable by everybody but the pure ones \(([^)]*)\)/;
is(join(' ', sort($pure =~ /`(\w+)`/g)), sql(q{
	SELECT string_agg(p.proname, ' ' ORDER BY p.proname) FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE has_function_privilege('public', p.oid, 'EXECUTE') AND p.proname ~ '^prebuild_'}), 'the pure functions');

# relative links lead somewhere
foreach my $document (sort keys %documents)
{
	my ($folder) = "$project/$document" =~ m{(.*)/};
	my @dead = grep { !-e "$folder/$_" } map { s/#.*//r } grep { !/^(?:https?:|#)/ } $documents{$document} =~ /\]\(([^)\s]+)\)/g;

	is(join(' ', @dead), '', "$document: its links lead to files");
}

$node->stop;
done_testing();
