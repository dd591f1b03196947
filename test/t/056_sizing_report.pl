# script/sizing-report draws what SQL says, and names what is wrong.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('sizing_report');
my $db = new_control_plane($node, 'fleet');
my $folder = PostgreSQL::Test::Utils::tempdir;

# a hundred days of demand for a preset whose names want to be quoted and escaped
my $name = q(it's $x$ <b> & "é");
$node->safe_psql($db, slurp_file("$FindBin::Bin/../fixture/past.sql") . q{
	SET prebuild.control_plane_schema = 'public';
	SELECT fixture.simple('office', 3, 43200);
	UPDATE template_version_presets SET scheduling_timezone = 'Europe/Berlin', name = $n$it's $x$ <b> & "é"$n$;
	SELECT fixture.past($n$it's $x$ <b> & "é"$n$, '2025-06-02 22:00Z', 100, 3, 'Europe/Berlin');
	SELECT fixture.simple('idle', 1);
	SELECT fixture.template('office', 'second');
});

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGUSER} = 'postgres';
$ENV{PYTHONIOENCODING} = 'utf-8';

# Run the script; returns its status, output and errors.
sub report
{
	my ($out, $err);
	IPC::Run::run([ "$project/script/sizing-report", @_ ], '<', '/dev/null', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

my $office = $node->safe_psql($db, q{SELECT t.id FROM templates t JOIN template_versions v ON v.template_id = t.id WHERE t.name = 'office'});
my @range = ('--to', '2025-06-02 22:00Z');
my @wanted = ('-d', $db, '-t', $office, '-p', $name, @range);

# bad input
foreach my $case (
	[ 'the command line is incomplete', [ '-t', 'office' ], qr/the following arguments are required: -p/ ],
	[ 'another kind of file', [ @wanted, '-o', "$folder/x.gif" ], qr/must end in \.svg, \.png or \.pdf: .*x\.gif/ ],
	[ 'no database', [ '-d', 'nowhere', '-t', 'x', '-p', 'x' ], qr/sizing-report: psql: error: .*database "nowhere" does not exist/ ],
	[ 'no extension', [ '-d', 'template1', '-t', 'x', '-p', 'x' ], qr/prebuild_ext is not installed in database "template1"/ ],
	[ 'an unknown template', [ '-d', $db, '-t', 'x', '-p', 'x' ], qr/no template "x" \(there are: "idle", "office", "office"\)/ ],
	[ 'a template of two organizations', [ '-d', $db, '-t', 'office', '-p', 'x' ], qr/several templates .* "office": give --template the id \(.*organization "second"/ ],
	[ 'an unknown preset', [ '-d', $db, '-t', 'idle', '-p', 'x' ], qr/template "idle" has no preset "x" \(there are: "idle"\)/ ],
	[ 'no demand', [ '-d', $db, '-t', 'idle', '-p', 'idle', @range, '-o', "$folder/x.svg" ], qr/nobody asked for preset "idle" of template "idle"/ ],
	[ 'no time', [ '-d', $db, '-t', 'idle', '-p', 'idle', '--to', 'soon' ], qr/invalid input syntax .*"soon"/ ],
	[ 'an end before the start', [ @wanted, '--from', '2025-06-03' ], qr/"range_end" .* must be after "range_start"/ ])
{
	my ($label, $arguments, $message) = @$case;
	my ($status, $out, $err) = report(@$arguments);
	isnt($status, 0, "$label: fails");
	like($err, $message, "$label: says so");
	unlike($err, qr/Traceback/, "$label: in words");
}

# what SQL says
my $answer = decode_json($node->safe_psql($db, qq{
	SET prebuild.control_plane_schema = 'public';
	SELECT json_build_object('recommended', a.recommended, 'policies', (SELECT json_object_agg(b.policy, json_build_object(
		'rate', to_char(100 * b.hit_rate, 'FM990.0'), 'missed', b.demand - b.warm, 'waited', to_char(extract(epoch FROM b.idle) / 3600, 'FM9,999,990')))
		FROM prebuild_backtest('$office', a.preset_name, '2025-03-04 22:00Z', '2025-06-02 22:00Z') b))
	FROM prebuild_recommend('2025-06-02 22:00Z') a WHERE a.template_name = 'office'}));

if (system('/usr/bin/python3 -c "import matplotlib" 2> /dev/null') != 0)
{
	my ($status, $out, $err) = report(@wanted, '-o', "$folder/x.svg");
	like($err, qr/install Debian's package python3-matplotlib/, 'without matplotlib it says what is missing');
	note('not run: the picture, as there is no matplotlib on this machine');
	$node->stop;
	done_testing();
	exit;
}

my ($status, $svg, $err) = report(@wanted, '-o', '-');
is($status, 0, 'a picture') or diag($err);
is($err, '', 'without warnings');
my ($texts, $parse_error);
ok(IPC::Run::run([ '/usr/bin/python3', '-c', 'import sys, xml.etree.ElementTree as x
for t in x.parse(sys.stdin.buffer).iter("{http://www.w3.org/2000/svg}text"): print(t.text)' ],
	'<', \$svg, '>', \$texts, '2>', \$parse_error), 'it is well-formed') or diag($parse_error);
is_deeply([ grep { !/^#/ } $svg =~ /href="([^"]*)"/g ], [], 'it refers to nothing outside');
unlike($svg, qr/<script|<image|\@import|url\((?!#)/, 'and has no script and no other file');
cmp_ok(length $svg, '<', 150_000, 'it is small');
like($texts, qr/^\Qoffice \/ $name: configure $answer->{recommended} instead of 3\E$/m, 'title with the advice');
foreach my $policy ('configured', 'hindsight')
{
	my $figures = $answer->{policies}{$policy};
	like($texts, qr/^\Q$figures->{rate} %\E$/m, "$policy: hit rate $figures->{rate}");
	like($texts, qr/^$figures->{missed}$/m, "$policy: missed $figures->{missed}");
	like($texts, qr/^\Q$figures->{waited} h\E$/m, "$policy: idle hours $figures->{waited}");
}
like($texts, qr/^\Q$_\E$/m, "it has \"$_\"") foreach ('Demand by day', 'Usual week: configured', 'Usual week: recommended',
	'The last 14 days: demands an hour', 'Prebuilds', 'Would have found none', 'Times are of Europe/Berlin.');

# shorter and other ranges, another kind of file, a preset with too little demand
is((report(@wanted, '--from', '2025-05-31', '-o', "$folder/days.svg"))[0], 0, 'three days');
like(slurp_file("$folder/days.svg"), qr/shorter than the 14 days/, 'say that there is no advice');
is((report(@wanted, '-o', "$folder/x.png"))[0], 0, 'PNG');
like(slurp_file("$folder/x.png"), qr/^\x89PNG/, 'is one');
like((report(@wanted, '-o', "$folder/none/x.svg"))[2], qr/cannot write .*x\.svg: No such file or directory/, 'a folder that is not there');

# the example in the documents
my $example = slurp_file("$project/docs/sizing-example.svg");
cmp_ok(length $example, '<', 150_000, 'the example is small');
like($example, qr/Usual week: recommended/, 'and such a picture');
$node->stop;
done_testing();
