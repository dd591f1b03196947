# The walk of script/demo, on a server as the script makes it, and what it offers to try at its end.
use strict;
use warnings;
use File::Path qw(make_path);
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $demo = "$project/demo";
my $node = new_server('demo', slurp_file("$demo/server.conf"));
$node->safe_psql('postgres', 'CREATE ROLE controlplane LOGIN');
$node->safe_psql('postgres', q{CREATE DATABASE demo OWNER controlplane ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});

# Run a file of the demo as a role, as script/demo does; its output.
sub run_file
{
	my ($role, $file) = @_;
	my ($out, $err) = ('', '');
	my $done = IPC::Run::run(
		[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-U', $role, '-d', 'demo' ],
		'<', "$demo/$file", '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	utf8::decode($out);

	ok($done, "$file runs to its end");
	is($err, '', 'without a word of warning');
	return $out;
}
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;

is(run_file('postgres', '00_database.sql'), '', 'the set-up says nothing');
is(run_file('controlplane', $_), '', "nor does $_") foreach qw(10_fleet.sql 20_provisioner.sql 30_views.sql);
my $walk = run_file('controlplane', '40_walk.sql');

# what a person sees: psql's line for a notification is shortened by the script
my @lines = grep { !/^Asynchronous notification/ } split /\n/, $walk;
is_deeply([ grep { length > 100 } @lines ], [], 'it fits 100 columns');
my %step = $walk =~ /^(\d+)\. [^\n]*\n(.*?)(?=^\d+\. |\z)/gms;
is_deeply([ sort { $a <=> $b } keys %step ], [ 1 .. 10 ], 'it has ten steps');
foreach my $number (sort { $a <=> $b } keys %step)
{
	ok(!($step{$number} =~ /hard_limited \d/ && $step{$number} =~ /backoff \d/),
		"step $number does not call a preset both given up and backing off");
}
like($step{1}, qr/delete 2: 2 of 2 running are expired/, 'the first step shows the plan with reasons');
like($step{4}, qr/^ hard_limited \|?.*failure_hard_limit/m, 'the event of a preset that is given up is shown');
like($step{4}, qr/hard_limited 2: the newest 3 builds all/, 'and so does the plan');
is( $node->safe_psql('demo', q{SELECT string_agg(b.build_number || ' ' || b.transition || ' ' || u.username, ', ' ORDER BY 1)
		FROM workspaces w JOIN workspace_builds b ON b.workspace_id = w.id JOIN users u ON u.id = b.initiator_id
		WHERE w.name = 'grace-notebook'}),
	'1 start prebuilds, 2 start grace', 'a claim is followed by the build that makes it hers');
like($step{6}, qr/main .* grace-notebook .* grace .* jupyter/, 'the identity of its agent is looked up');
my ($payload) = $step{6} =~ /^Asynchronous notification "workspace_agent_metadata_batch" with payload "(\S{22})"/m;
ok($payload, 'the message about its report is heard');
my $agent = $node->safe_psql('demo', "SELECT prebuild_agent_ids_decode('$payload')");
like($step{6}, qr/$agent .* cpu .* 12 %/, 'and decoded');
like($step{9}, qr/serving .* controlplane .* [1-9]/, 'the worker serves as the owner, who is no superuser');
like($step{9}, qr/go-service v3 Europe/, 'it has followed the promotion by itself');
is($node->safe_psql('demo', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'prebuild%' AND tgrelid = 'workspaces'::regclass}) > 0,
	1, 'the control plane is attached');

# the README shows the end of it; how many there should be depends on the time of day
my $readme = slurp_file("$project/README.md");
utf8::decode($readme);
my ($shown) = $readme =~ /^```text\n(9\. .*?)^The demo goes on/ms;
my %printed = map { s/\d/0/gr =~ s/\s+$//r => 1 } split /\n/, $walk;
is(join("\n", grep { !$printed{ s/\d/0/gr =~ s/\s+$//r } } split /\n/, $shown), '', 'the README shows lines of it');

# three things to try, as they stand
my $folder = PostgreSQL::Test::Utils::tempdir;
make_path("$folder/script");
append_to_file("$folder/script/demo", qq{#!/bin/sh\nshift\nexec psql -X -v ON_ERROR_STOP=1 -U controlplane -d demo "\$\@"\n});
chmod 0755, "$folder/script/demo";
my $try = slurp_file("$demo/try.sh");
is(scalar(() = $try =~ /^script\/demo psql /mg), 3, 'there are three things to try');
my ($out, $err) = ('', '');
ok(IPC::Run::run([ 'bash', '-e', '-c', "cd $folder\n$try" ], '<', '/dev/null', '>', \$out, '2>', \$err,
		IPC::Run::timeout(180)), 'they work') or diag($err);
is($err, '', 'without a complaint');
like($out, qr/ada-notebook/, 'one claims');
like($out, qr/go-service v3 Europe.*UPDATE/s, 'one looks at tomorrow');
wait_until($node, 'demo', q{SELECT starting + actual = 5 FROM prebuild_state() WHERE preset_name = 'Small' AND active});
pass('one wants more, which the worker sees to');

$node->stop;
done_testing();
